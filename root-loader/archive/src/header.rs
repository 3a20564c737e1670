//! The small check: what the hypervisor needs to start the loader, and no more.

use zerocopy::FromBytes;

use crate::error::ArchiveError;
use crate::format::{self, ALIGNMENT, HEADER, RawHeader};

/// The header's promises to the hypervisor: how long the archive is and where the flat loader image is.
///
/// Members and digests are not looked at: that is the loader's job, in the root partition, out of the trusted core.
#[derive(Clone, Copy, Debug)]
pub struct HeaderView<'a> {
    total_length: u64,
    loader_offset: u64,
    loader: &'a [u8],
}

impl<'a> HeaderView<'a> {
    /// Checks magic, version, lengths and the loader's range in constant time.
    ///
    /// `bytes` is the whole archive; more may follow it.
    ///
    /// # Errors
    /// [`ArchiveError`] naming the first thing that is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let header = RawHeader::read(bytes)?;
        let total_length = header.total_length.get();
        let (offset, length) = (header.loader_offset.get(), header.loader_length.get());
        let bad_loader = ArchiveError::Loader { offset, length };
        let sound = length != 0
            && length.is_multiple_of(ALIGNMENT)
            && offset >= u64::from(header.header_length.get());
        let range = page_range(offset, length, total_length)
            .filter(|_| sound)
            .ok_or(bad_loader)?;
        let loader = bytes.get(range).ok_or(bad_loader)?;
        Ok(Self {
            total_length,
            loader_offset: offset,
            loader,
        })
    }

    /// Length of the archive in bytes, a multiple of 4096, not more than the bytes given.
    pub fn total_length(&self) -> u64 {
        self.total_length
    }

    /// Offset of the loader image from the archive's start, a multiple of 4096.
    pub fn loader_offset(&self) -> u64 {
        self.loader_offset
    }

    /// The flat loader image, its zeroed data included: not empty, a multiple of 4096 bytes.
    pub fn loader(&self) -> &'a [u8] {
        self.loader
    }
}

impl RawHeader {
    /// Copies the header out of `bytes` and checks what both readers rely on: magic, version, member count and lengths.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let have = bytes.len() as u64;
        let (header, _) = Self::read_from_prefix(bytes).map_err(|_| ArchiveError::Truncated {
            have,
            need: HEADER as u64,
        })?;
        if header.magic != format::MAGIC {
            return Err(ArchiveError::Magic);
        }
        if header.version.get() != format::VERSION {
            return Err(ArchiveError::Version(header.version.get()));
        }
        header.check_lengths(have)?;
        Ok(header)
    }

    fn check_lengths(&self, have: u64) -> Result<(), ArchiveError> {
        let count = self.member_count.get() as usize;
        if count > format::MAX_MEMBERS {
            return Err(ArchiveError::MemberCount(self.member_count.get()));
        }
        let (header, total) = (self.header_length.get(), self.total_length.get());
        let expected = format::header_length(count);
        if header as usize != expected
            || !total.is_multiple_of(ALIGNMENT)
            || total < expected as u64
        {
            return Err(ArchiveError::Lengths { header, total });
        }
        if total > have {
            return Err(ArchiveError::Truncated { have, need: total });
        }
        Ok(())
    }
}

/// `offset .. offset + length` as indexes, if it starts on a page and lies within `total` bytes.
pub(crate) fn page_range(offset: u64, length: u64, total: u64) -> Option<core::ops::Range<usize>> {
    let end = offset.checked_add(length).filter(|end| *end <= total)?;
    if !offset.is_multiple_of(ALIGNMENT) {
        return None;
    }
    Some(usize::try_from(offset).ok()?..usize::try_from(end).ok()?)
}
