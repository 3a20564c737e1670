//! The layout in the file: `docs/architecture.md`, "The boot archive".

use core::mem::{offset_of, size_of};

use sha2::{Digest as _, Sha256};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First eight bytes of an archive.
pub const MAGIC: [u8; 8] = *b"PARTITA\0";
/// The one format version there is.
pub const VERSION: u32 = 1;
/// Most members an archive may have.
pub const MAX_MEMBERS: usize = 256;
/// Longest member name in bytes.
pub const MAX_NAME: usize = 64;
/// Members and the loader start at multiples of this, in bytes from the archive's start: a page, so that they can be mapped.
pub const ALIGNMENT: u64 = 4096;

/// Bytes of a SHA-256 digest.
pub(crate) const DIGEST: usize = 32;

/// The fixed part of the header.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawHeader {
    pub magic: [u8; 8],
    pub version: U32,
    pub member_count: U32,
    pub total_length: U64,
    pub loader_offset: U64,
    pub loader_length: U64,
    pub header_length: U32,
    pub reserved0: U32,
    pub header_digest: [u8; DIGEST],
    pub reserved1: [u8; 16],
}

/// One member's entry.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct RawMember {
    pub name: [u8; MAX_NAME],
    pub offset: U64,
    pub length: U64,
    pub digest: [u8; DIGEST],
    pub reserved: [u8; 16],
}

/// Bytes of the fixed header.
pub(crate) const HEADER: usize = size_of::<RawHeader>();
/// Bytes of a member's entry.
pub(crate) const ENTRY: usize = size_of::<RawMember>();

const _: () = {
    assert!(HEADER == 96 && ENTRY == 128);
    assert!(
        offset_of!(RawHeader, header_length) == 40 && offset_of!(RawHeader, header_digest) == 48
    );
    assert!(offset_of!(RawMember, offset) == 64 && offset_of!(RawMember, digest) == 80);
};

/// Header length for a number of members (at most [`MAX_MEMBERS`], so it cannot overflow).
pub(crate) const fn header_length(members: usize) -> usize {
    HEADER + ENTRY * members
}

/// SHA-256 of `bytes`.
pub(crate) fn digest(bytes: &[u8]) -> [u8; DIGEST] {
    Sha256::digest(bytes).into()
}

/// SHA-256 of a header, its digest field taken as zeros.
pub(crate) fn header_digest(header: &RawHeader, entries: &[u8]) -> [u8; DIGEST] {
    let blank = RawHeader {
        header_digest: [0; DIGEST],
        ..*header
    };
    let mut hash = Sha256::new();
    hash.update(blank.as_bytes());
    hash.update(entries);
    hash.finalize().into()
}
