//! The hypervisor's own ELF image: which pages hold what.

use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_GNU_RELRO, PT_LOAD};
use elf::endian::LittleEndian;

use crate::mem::addr::PAGE_SIZE;
use crate::mem::format::Rights;

/// Segments that fit: read-only data, code, data read-only after relocation, data.
const MAX_SEGMENTS: usize = 8;

/// Pages of the image with the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First byte, relative to the image's base, a multiple of 4096.
    pub start: u64,
    /// Byte after the last one, a multiple of 4096.
    pub end: u64,
    /// What may be done there.
    pub rights: Rights,
}

/// Why the image cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// Not an ELF file, or cut off.
    NotElf,
    /// A page would be writable and executable.
    WritableCode,
    /// More segments than expected.
    TooManySegments,
}

/// The segments of an image.
#[derive(Clone, Copy, Debug)]
pub struct Segments {
    list: [Segment; MAX_SEGMENTS],
    len: usize,
}

impl Segments {
    /// The segments of the ELF file in `file`.
    ///
    /// # Errors
    /// [`ImageError`]
    pub fn parse(file: &[u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::NotElf)?;
        let headers = elf.segments().ok_or(ImageError::NotElf)?;
        const NONE: Segment = Segment {
            start: 0,
            end: 0,
            rights: Rights::READ,
        };
        let mut segments = Self {
            list: [NONE; MAX_SEGMENTS],
            len: 0,
        };
        for header in headers
            .iter()
            .filter(|h| h.p_type == PT_LOAD && h.p_memsz != 0)
        {
            let rights = match (header.p_flags & PF_W != 0, header.p_flags & PF_X != 0) {
                (true, true) => return Err(ImageError::WritableCode),
                (true, false) => Rights::RW,
                (false, true) => Rights::RX,
                (false, false) => Rights::READ,
            };
            let end = header
                .p_vaddr
                .checked_add(header.p_memsz)
                .ok_or(ImageError::NotElf)?;
            segments.push(header.p_vaddr, end, rights)?;
        }
        // Relocated by the loader before we run, and never written again.
        for header in headers.iter().filter(|h| h.p_type == PT_GNU_RELRO) {
            let end = header.p_vaddr.saturating_add(header.p_memsz);
            segments.protect(header.p_vaddr, end)?;
        }
        Ok(segments)
    }

    /// By rising address, as the linker laid them out.
    pub fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.list.iter().take(self.len)
    }

    /// First byte of the image and the byte after its last, relative to its base.
    pub fn span(&self) -> (u64, u64) {
        let start = self.iter().map(|s| s.start).min().unwrap_or(0);
        (start, self.iter().map(|s| s.end).max().unwrap_or(0))
    }

    /// Whole pages within `start..end` that are writable become read-only. They are at a segment's start.
    fn protect(&mut self, start: u64, end: u64) -> Result<(), ImageError> {
        let end = end & !(PAGE_SIZE - 1);
        let Some(found) = self.list.iter_mut().take(self.len).find(|s| {
            s.rights == Rights::RW
                && s.start == start & !(PAGE_SIZE - 1)
                && end > s.start
                && end <= s.end
        }) else {
            return Ok(());
        };
        let rest = Segment {
            start: end,
            ..*found
        };
        *found = Segment {
            end,
            rights: Rights::READ,
            ..*found
        };
        self.push(rest.start, rest.end, rest.rights)
    }

    fn push(&mut self, start: u64, end: u64, rights: Rights) -> Result<(), ImageError> {
        let segment = Segment {
            start: start & !(PAGE_SIZE - 1),
            end: end.checked_add(PAGE_SIZE - 1).ok_or(ImageError::NotElf)? & !(PAGE_SIZE - 1),
            rights,
        };
        if segment.start < segment.end {
            *self
                .list
                .get_mut(self.len)
                .ok_or(ImageError::TooManySegments)? = segment;
            self.len += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF64 header and program headers (type, flags, address, size).
    fn elf(headers: &[(u32, u32, u64, u64)]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x00");
        file[16] = 3;
        file[18] = 62;
        file[20] = 1;
        file[32] = 64;
        file[52] = 64;
        file[54] = 56;
        file[56] = headers.len() as u8;
        file[58] = 64;
        for &(kind, flags, address, size) in headers {
            file.extend(kind.to_le_bytes());
            file.extend(flags.to_le_bytes());
            for value in [0, address, address, size, size, 4096] {
                file.extend(value.to_le_bytes());
            }
        }
        file
    }

    #[test]
    fn segments_cover_whole_pages_with_their_rights() {
        let file = elf(&[
            (PT_LOAD, 4, 0, 0x1800),
            (PT_LOAD, 5, 0x2900, 0x100),
            (PT_LOAD, 6, 0x3A00, 0x2600),
            (PT_GNU_RELRO, 4, 0x3A00, 0x1600),
        ]);
        let segments = Segments::parse(&file).unwrap();
        let listed: Vec<_> = segments
            .iter()
            .map(|s| (s.start, s.end, s.rights))
            .collect();
        let expected = [
            (0, 0x2000, Rights::READ),
            (0x2000, 0x3000, Rights::RX),
            (0x3000, 0x5000, Rights::READ),
            (0x5000, 0x6000, Rights::RW),
        ];
        assert_eq!(listed, expected);
        assert_eq!(segments.span(), (0, 0x6000));
    }

    #[test]
    fn writable_code_and_other_files_are_refused() {
        assert_eq!(
            Segments::parse(&elf(&[(PT_LOAD, 7, 0, 1)])).unwrap_err(),
            ImageError::WritableCode
        );
        assert_eq!(
            Segments::parse(b"not an image").unwrap_err(),
            ImageError::NotElf
        );
        assert_eq!(
            Segments::parse(&elf(&[(PT_LOAD, 4, u64::MAX, 2)])).unwrap_err(),
            ImageError::NotElf
        );
        let many: Vec<_> = (0..9).map(|i| (PT_LOAD, 4, i * 0x1000, 1)).collect();
        assert_eq!(
            Segments::parse(&elf(&many)).unwrap_err(),
            ImageError::TooManySegments
        );
    }
}
