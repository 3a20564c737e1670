//! Process images: what of an ELF file is loaded where.
//!
//! Only what the kernel can honour is accepted: a static x86-64 executable at fixed addresses, segments that share no
//! page and are never writable and executable at once.

use alloc::vec::Vec;
use core::ops::Range;

use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD, PT_TLS};
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;
use thiserror::Error;

use crate::addr::{PAGE_SIZE, USER_START};
use crate::paging::Rights;

/// Images end below this address.
pub const IMAGE_END: u64 = 0x4000_0000;

/// One segment: whole pages of memory, part of which is filled from the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Address of the first page.
    pub start: u64,
    /// Number of pages.
    pub pages: u64,
    /// What the process may do there.
    pub rights: Rights,
    /// Offset of the file's bytes in the segment's memory.
    pub at: usize,
    /// The bytes, as a range of the file.
    pub file: Range<usize>,
}

/// A file that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// First instruction.
    pub entry: u64,
    /// Segments, in the file's order.
    pub segments: Vec<Segment>,
}

/// Why a file cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// Not ELF, or damaged.
    #[error("not a readable ELF file")]
    Unreadable,
    /// Not for this machine, or not a fixed-address executable.
    #[error("not a static x86-64 executable at fixed addresses")]
    Kind,
    /// An interpreter, dynamic linking or thread-local storage is asked for.
    #[error(
        "segment {0} needs a loader that this kernel is not (interpreter, dynamic linking or TLS)"
    )]
    Needs(usize),
    /// A segment lies outside the file or outside 64 KiB to 1 GiB.
    #[error("segment {0} is out of range")]
    Range(usize),
    /// A segment shares a page with an earlier one.
    #[error("segment {0} shares a page with another one")]
    Overlap(usize),
    /// A segment is writable and executable.
    #[error("segment {0} is writable and executable")]
    WriteExecute(usize),
    /// The entry point is in no executable segment.
    #[error("the entry point is not in executable memory")]
    Entry,
}

impl Image {
    /// Checks a file completely.
    ///
    /// # Errors
    /// [`ImageError`] naming the first thing that is wrong.
    pub fn parse(file: &[u8]) -> Result<Self, ImageError> {
        let elf =
            ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::Unreadable)?;
        let header = &elf.ehdr;
        if header.class != Class::ELF64 || header.e_type != ET_EXEC || header.e_machine != EM_X86_64
        {
            return Err(ImageError::Kind);
        }
        let mut segments: Vec<Segment> = Vec::new();
        for (index, header) in elf
            .segments()
            .ok_or(ImageError::Unreadable)?
            .iter()
            .enumerate()
        {
            match header.p_type {
                PT_LOAD if header.p_memsz != 0 => {
                    let segment = segment(index, &header, file.len())?;
                    if segments.iter().any(|other| segment.overlaps(other)) {
                        return Err(ImageError::Overlap(index));
                    }
                    segments.push(segment);
                }
                PT_INTERP | PT_DYNAMIC | PT_TLS => return Err(ImageError::Needs(index)),
                _ => {}
            }
        }
        let entry = header.e_entry;
        let mut code = segments
            .iter()
            .filter(|segment| segment.rights == Rights::ReadExecute);
        if !code.any(|segment| segment.start <= entry && entry < segment.end()) {
            return Err(ImageError::Entry);
        }
        Ok(Self { entry, segments })
    }
}

impl Segment {
    /// First address after the segment's pages.
    pub fn end(&self) -> u64 {
        self.start
            .saturating_add(self.pages.saturating_mul(PAGE_SIZE))
    }

    fn overlaps(&self, other: &Segment) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

fn segment(index: usize, header: &ProgramHeader, file_len: usize) -> Result<Segment, ImageError> {
    let range = ImageError::Range(index);
    let rights = match (header.p_flags & PF_W != 0, header.p_flags & PF_X != 0) {
        (true, true) => return Err(ImageError::WriteExecute(index)),
        (true, false) => Rights::ReadWrite,
        (false, true) => Rights::ReadExecute,
        (false, false) => Rights::Read,
    };
    let end = header.p_vaddr.checked_add(header.p_memsz).ok_or(range)?;
    if header.p_vaddr < USER_START || end > IMAGE_END || header.p_filesz > header.p_memsz {
        return Err(range);
    }
    let file_start = usize::try_from(header.p_offset).map_err(|_| range)?;
    let file_size = usize::try_from(header.p_filesz).map_err(|_| range)?;
    let file_end = file_start
        .checked_add(file_size)
        .filter(|end| *end <= file_len)
        .ok_or(range)?;
    let start = header.p_vaddr & !(PAGE_SIZE - 1);
    Ok(Segment {
        start,
        pages: (end - start).div_ceil(PAGE_SIZE),
        rights,
        at: (header.p_vaddr - start) as usize,
        file: file_start..file_end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A program header: type, flags, offset, address, file size, memory size.
    type Header = (u32, u32, u64, u64, u64, u64);

    const CODE: Header = (PT_LOAD, 5, 0x1000, 0x40_0000, 0x800, 0x800);
    const DATA: Header = (PT_LOAD, 6, 0x1800, 0x40_1800, 0x100, 0x2000);

    fn file(kind: u16, entry: u64, headers: &[Header]) -> Vec<u8> {
        let mut file = vec![0x7F, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend(kind.to_le_bytes());
        file.extend(62u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        file.extend(entry.to_le_bytes());
        file.extend(64u64.to_le_bytes());
        file.extend([0; 12]);
        file.extend([64, 0, 56, 0, headers.len() as u8, 0, 0, 0, 0, 0, 0, 0]);
        for (kind, flags, offset, address, file_size, size) in headers {
            file.extend(kind.to_le_bytes());
            file.extend(flags.to_le_bytes());
            for word in [offset, address, address, file_size, size, &0x1000] {
                file.extend(word.to_le_bytes());
            }
        }
        file.resize(0x2000, 0xCC);
        file
    }

    #[test]
    fn code_and_data_get_their_pages_and_rights() {
        let image = Image::parse(&file(ET_EXEC, 0x40_0010, &[CODE, DATA])).unwrap();
        assert_eq!(image.entry, 0x40_0010);
        let data = image.segments[1].clone();
        assert_eq!((data.start, data.pages, data.at), (0x40_1000, 3, 0x800));
        assert_eq!(
            (data.rights, data.file),
            (Rights::ReadWrite, 0x1800..0x1900)
        );
        assert_eq!(image.segments[0].rights, Rights::ReadExecute);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_with_its_reason() {
        let parse = |headers: &[Header]| Image::parse(&file(ET_EXEC, 0x40_0010, headers));
        let with = |change: &dyn Fn(&mut Header)| {
            let mut data = DATA;
            change(&mut data);
            parse(&[CODE, data])
        };
        assert_eq!(with(&|h| h.1 = 7), Err(ImageError::WriteExecute(1)));
        assert_eq!(with(&|h| h.2 = 0x1F80), Err(ImageError::Range(1)));
        assert_eq!(with(&|h| h.2 = u64::MAX), Err(ImageError::Range(1)));
        assert_eq!(with(&|h| h.3 = u64::MAX - 4), Err(ImageError::Range(1)));
        assert_eq!(with(&|h| h.3 = 0x1000), Err(ImageError::Range(1)));
        assert_eq!(with(&|h| h.4 = 0x2001), Err(ImageError::Range(1)));
        assert_eq!(with(&|h| h.5 = IMAGE_END), Err(ImageError::Range(1)));
        assert_eq!(with(&|h| h.3 = 0x40_0800), Err(ImageError::Overlap(1)));
        assert_eq!(with(&|h| h.0 = PT_INTERP), Err(ImageError::Needs(1)));
        assert_eq!(with(&|h| h.0 = PT_TLS), Err(ImageError::Needs(1)));
        assert_eq!(
            Image::parse(&file(3, 0x40_0010, &[CODE])),
            Err(ImageError::Kind)
        );
        assert_eq!(
            Image::parse(&file(ET_EXEC, 0x40_1800, &[CODE, DATA])),
            Err(ImageError::Entry)
        );
        assert_eq!(Image::parse(b"\x7FELF"), Err(ImageError::Unreadable));
    }

    proptest! {
        #[test]
        fn an_accepted_image_stays_within_file_and_address_range(
            raw in proptest::collection::vec((0u32..8, any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>()), 0..4),
            small in any::<bool>(),
        ) {
            let headers: Vec<Header> = raw.iter().map(|h| if small {
                (PT_LOAD, h.1, h.2 % 0x2000, 0x40_0000 + h.3 % 0x8000, h.4 % 0x1000, h.5 % 0x4000)
            } else { *h }).chain([(PT_LOAD, 5, 0, 0x30_0000, 16, 16)]).collect();
            let file = file(ET_EXEC, 0x30_0000, &headers);
            if let Ok(image) = Image::parse(&file) {
                for (index, segment) in image.segments.iter().enumerate() {
                    prop_assert!(segment.start >= USER_START && segment.end() <= IMAGE_END);
                    prop_assert!(segment.file.end <= file.len());
                    prop_assert!(segment.at + segment.file.len() <= (segment.pages * PAGE_SIZE) as usize);
                    prop_assert!(image.segments[..index].iter().all(|other| !other.overlaps(segment)));
                }
            }
        }
    }
}
