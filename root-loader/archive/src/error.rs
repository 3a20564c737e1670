//! What can be wrong with an archive, in words for whoever has to repair it.

use thiserror::Error;

/// Why a boot archive cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ArchiveError {
    /// Fewer bytes than a header, or than the header promises.
    #[error(
        "the boot archive is cut off: {have} bytes of {need}; write the image again, completely"
    )]
    Truncated {
        /// Bytes there are.
        have: u64,
        /// Bytes there should be.
        need: u64,
    },
    /// Not an archive.
    #[error(
        "this is not a boot archive: it does not start with \"PARTITA\"; give the loader an archive made by xtask"
    )]
    Magic,
    /// A version this code does not know.
    #[error(
        "the boot archive has format version {0}, known is 1; build image and loader from the same sources"
    )]
    Version(u32),
    /// More members than allowed.
    #[error("the boot archive names {0} members, at most 256 are possible; rebuild it")]
    MemberCount(u32),
    /// Header length does not fit the member count, or a length is no multiple of 4096.
    #[error(
        "the boot archive's lengths contradict each other (header {header}, total {total}); rebuild it"
    )]
    Lengths {
        /// Header length field.
        header: u32,
        /// Total length field.
        total: u64,
    },
    /// A field that must be zero is not.
    #[error(
        "a reserved field of the boot archive's header is not zero; rebuild it with this version's xtask"
    )]
    Reserved,
    /// The header's digest does not match.
    #[error("the boot archive's header is damaged (SHA-256 differs); write the image again")]
    HeaderDamaged,
    /// The loader is empty, unaligned, outside of the archive or inside its header.
    #[error(
        "the boot archive's loader range {offset:#x}+{length:#x} is not valid; rebuild the archive"
    )]
    Loader {
        /// Offset field.
        offset: u64,
        /// Length field.
        length: u64,
    },
    /// A member's name is not allowed.
    #[error(
        "member {index} of the boot archive has a bad name: {fault}; rename it and rebuild the archive"
    )]
    Name {
        /// Place in the member table.
        index: usize,
        /// What is wrong.
        fault: NameFault,
    },
    /// A member is unaligned or outside of the archive.
    #[error(
        "member {index} of the boot archive has the invalid range {offset:#x}+{length:#x}; rebuild the archive"
    )]
    Range {
        /// Place in the member table.
        index: usize,
        /// Offset field.
        offset: u64,
        /// Length field.
        length: u64,
    },
    /// Two members, or a member and the loader, share bytes.
    #[error(
        "member {index} of the boot archive overlaps the loader or another member; rebuild the archive"
    )]
    Overlap {
        /// Place in the member table.
        index: usize,
    },
}

/// What is wrong with a member's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameFault {
    /// No name.
    #[error("it is empty")]
    Empty,
    /// More than 64 bytes.
    #[error("it is longer than 64 bytes")]
    TooLong,
    /// Not UTF-8, or with control characters, which a console would obey.
    #[error("it is not printable UTF-8")]
    Text,
    /// Something follows the first NUL.
    #[error("it has bytes after its end")]
    Padding,
    /// Another member has it.
    #[error("another member has the same one")]
    Duplicate,
}

/// A member whose content is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("boot archive: member \"{name}\" is damaged (SHA-256 differs); write the image again")]
pub struct Damaged<'a> {
    /// Name of the member.
    pub name: &'a str,
}
