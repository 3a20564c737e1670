//! The full reader: everything is checked when the archive is opened, contents when asked.

use core::ops::Range;

use zerocopy::FromBytes;

use crate::error::{ArchiveError, Damaged, NameFault};
use crate::format::{self, ALIGNMENT, DIGEST, HEADER, RawHeader, RawMember};
use crate::header::{HeaderView, page_range};

/// An archive whose header and member table have been checked completely.
///
/// Holding one proves: the header's digest matches; names are unique, printable UTF-8; every member lies within the
/// archive on a page of its own, not in the header, the loader or another member. It does not prove that contents are
/// undamaged: that is [`verify`](Self::verify).
#[derive(Clone, Copy, Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    entries: &'a [RawMember],
}

/// One member of an [`Archive`].
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    name: &'a str,
    offset: u64,
    content: &'a [u8],
    digest: &'a [u8; DIGEST],
}

impl core::fmt::Debug for RawMember {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{:?} {:#x}+{:#x}",
            name(&self.name),
            self.offset.get(),
            self.length.get()
        )
    }
}

impl<'a> Archive<'a> {
    /// Checks the header and all member entries. `bytes` may be longer than the archive.
    ///
    /// # Errors
    /// [`ArchiveError`] naming the first thing that is wrong.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let view = HeaderView::parse(bytes)?;
        let header = RawHeader::read(bytes)?;
        // `parse` has made sure that the total length and the header length fit.
        let bytes = bytes
            .get(..view.total_length() as usize)
            .unwrap_or_default();
        let table = bytes
            .get(HEADER..header.header_length.get() as usize)
            .unwrap_or_default();
        if format::header_digest(&header, table) != header.header_digest {
            return Err(ArchiveError::HeaderDamaged);
        }
        if header.reserved0.get() != 0 || header.reserved1 != [0; 16] {
            return Err(ArchiveError::Reserved);
        }
        let entries = <[RawMember]>::ref_from_bytes(table).map_err(|_| ArchiveError::Lengths {
            header: header.header_length.get(),
            total: view.total_length(),
        })?;
        let archive = Self { bytes, entries };
        let loader = view.loader_offset()
            ..view
                .loader_offset()
                .saturating_add(view.loader().len() as u64);
        archive.check_members(header.header_length.get(), &loader)?;
        Ok(archive)
    }

    fn check_members(&self, header_length: u32, loader: &Range<u64>) -> Result<(), ArchiveError> {
        for (index, entry) in self.entries.iter().enumerate() {
            let text = name(&entry.name).map_err(|fault| ArchiveError::Name { index, fault })?;
            let span = entry.span(self.bytes.len() as u64);
            let span = span
                .filter(|span| span.start >= u64::from(header_length))
                .ok_or(ArchiveError::Range {
                    index,
                    offset: entry.offset.get(),
                    length: entry.length.get(),
                })?;
            if entry.reserved != [0; 16] {
                return Err(ArchiveError::Reserved);
            }
            // At most 256 members: comparing all pairs needs no memory.
            for earlier in self.entries.iter().take(index) {
                if name(&earlier.name) == Ok(text) {
                    return Err(ArchiveError::Name {
                        index,
                        fault: NameFault::Duplicate,
                    });
                }
                let other = earlier.span(self.bytes.len() as u64);
                if other.is_some_and(|other| overlap(&span, &other)) {
                    return Err(ArchiveError::Overlap { index });
                }
            }
            if overlap(&span, loader) {
                return Err(ArchiveError::Overlap { index });
            }
        }
        Ok(())
    }

    /// All members, in the archive's order.
    pub fn members(&self) -> impl ExactSizeIterator<Item = Member<'a>> + use<'a> {
        let bytes = self.bytes;
        self.entries.iter().map(move |entry| entry.member(bytes))
    }

    /// The member of that name.
    pub fn member(&self, name: &str) -> Option<Member<'a>> {
        self.members().find(|member| member.name == name)
    }

    /// Length of the archive in bytes, a multiple of 4096.
    pub fn total_length(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Compares every member's content with its digest, in the archive's order.
    ///
    /// # Errors
    /// The first damaged member.
    pub fn verify(&self) -> Result<(), Damaged<'a>> {
        self.members().try_for_each(|member| member.verify())
    }
}

impl<'a> Member<'a> {
    /// The name: unique in its archive, 1 to 64 bytes, no control characters.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Offset from the archive's start, a multiple of 4096.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The content. The bytes from its end to the next page boundary belong to nobody else.
    pub fn content(&self) -> &'a [u8] {
        self.content
    }

    /// Compares the content with its digest.
    ///
    /// # Errors
    /// [`Damaged`] with this member's name.
    pub fn verify(&self) -> Result<(), Damaged<'a>> {
        if format::digest(self.content) == *self.digest {
            Ok(())
        } else {
            Err(Damaged { name: self.name })
        }
    }
}

impl RawMember {
    /// The member's pages as offsets, if they are aligned and within `total`. An empty member has an empty span.
    fn span(&self, total: u64) -> Option<Range<u64>> {
        let (offset, length) = (self.offset.get(), self.length.get());
        page_range(offset, length, total)?;
        Some(
            offset
                ..offset
                    .checked_add(length)?
                    .checked_next_multiple_of(ALIGNMENT)?,
        )
    }

    /// The entry as the value handed out. [`Archive::open`] has checked name and range, so the defaults are never taken.
    fn member<'a>(&'a self, bytes: &'a [u8]) -> Member<'a> {
        let range = page_range(self.offset.get(), self.length.get(), bytes.len() as u64)
            .unwrap_or_default();
        Member {
            name: name(&self.name).unwrap_or_default(),
            offset: self.offset.get(),
            content: bytes.get(range).unwrap_or_default(),
            digest: &self.digest,
        }
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// Decodes a padded name field.
pub(crate) fn name(field: &[u8; format::MAX_NAME]) -> Result<&str, NameFault> {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    let (text, padding) = field.split_at(end);
    if padding.iter().any(|byte| *byte != 0) {
        return Err(NameFault::Padding);
    }
    let text = core::str::from_utf8(text).map_err(|_| NameFault::Text)?;
    check_name(text)?;
    Ok(text)
}

/// The rules for a name that are not the field's: not empty, no control characters, not too long.
pub(crate) fn check_name(text: &str) -> Result<(), NameFault> {
    if text.is_empty() {
        return Err(NameFault::Empty);
    }
    if text.len() > format::MAX_NAME {
        return Err(NameFault::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(NameFault::Text);
    }
    Ok(())
}
