//! The root image: an ELF64 executable, checked completely before anything of it is placed.

use core::ops::Range;

use arrayvec::ArrayVec;
use elf::ElfBytes;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::segment::ProgramHeader;
use thiserror::Error;

use crate::paging::{Cache, Mapping, Rights};
use crate::{LOADER_IMAGE, PAGE, ROOT_IMAGE};

/// Largest root image in memory, bytes: page tables for this much are set aside.
pub const MAX_IMAGE: u64 = 64 << 20;
/// Most loadable segments.
pub const MAX_SEGMENTS: usize = 16;

/// Why the root image cannot be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ImageError {
    /// Not an ELF file, or a damaged one.
    #[error("the root image is not a readable ELF file")]
    Format,
    /// ELF, but not for this machine.
    #[error(
        "the root image is not a 64-bit x86 executable with fixed addresses; link it so (no PIE, no shared object)"
    )]
    Kind,
    /// No segments, or too many.
    #[error("the root image has {0} loadable segments; there must be 1 to 16")]
    Segments(usize),
    /// A segment lies outside of the addresses for root images.
    #[error(
        "a segment of the root image is at {0:#x}; it must be linked between 0xffffffff80000000 and 0xffffffffc0000000"
    )]
    Address(u64),
    /// A segment's file part is outside of the file, or longer than the segment.
    #[error("the segment of the root image at {0:#x} has contradicting sizes")]
    Sizes(u64),
    /// A segment is writable and executable.
    #[error(
        "the segment of the root image at {0:#x} is writable and executable; separate code from data"
    )]
    WriteExecute(u64),
    /// Two segments share a page.
    #[error(
        "the segment of the root image at {0:#x} shares a page with another; align segments to 4096 bytes"
    )]
    Overlap(u64),
    /// Longer than 64 MiB from the first segment to the last.
    #[error("the root image spans {0} bytes; at most 64 MiB are possible")]
    TooLarge(u64),
    /// The entry is not in an executable segment.
    #[error("the root image's entry {0:#x} is not in an executable segment")]
    Entry(u64),
}

/// One segment to place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Virtual address of the first byte.
    pub virt: u64,
    /// Bytes in memory; those after the content are zero.
    pub bytes: u64,
    /// Bytes from the file.
    pub content: &'a [u8],
    /// What may be done with it.
    pub rights: Rights,
}

/// A root image that can be loaded.
///
/// Holding one proves: all segments lie within [`ROOT_IMAGE`] .. [`LOADER_IMAGE`], none shares a page with another, none
/// is writable and executable, contents are not longer than segments, the entry is executable.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    segments: ArrayVec<Segment<'a>, MAX_SEGMENTS>,
    pages: Range<u64>,
    entry: u64,
}

impl<'a> Image<'a> {
    /// Checks an ELF file.
    ///
    /// # Errors
    /// [`ImageError`] for the first thing that is wrong.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(|_| ImageError::Format)?;
        let header = &elf.ehdr;
        if header.class != Class::ELF64
            || header.e_machine != abi::EM_X86_64
            || header.e_type != abi::ET_EXEC
        {
            return Err(ImageError::Kind);
        }
        let table = elf.segments().ok_or(ImageError::Segments(0))?;
        let loadable = || {
            table
                .iter()
                .filter(|header| header.p_type == abi::PT_LOAD && header.p_memsz != 0)
        };
        let mut segments = ArrayVec::new();
        for header in loadable() {
            let segment = Segment::parse(file, &header)?;
            segments
                .try_push(segment)
                .map_err(|_| ImageError::Segments(loadable().count()))?;
        }
        let image = Self {
            pages: span(&segments)?,
            segments,
            entry: header.e_entry,
        };
        image.check()?;
        Ok(image)
    }

    fn check(&self) -> Result<(), ImageError> {
        for (index, segment) in self.segments.iter().enumerate() {
            let pages = segment.pages();
            let shares = |other: &Segment<'_>| {
                pages.start < other.pages().end && other.pages().start < pages.end
            };
            if self.segments.iter().take(index).any(shares) {
                return Err(ImageError::Overlap(segment.virt));
            }
        }
        let holds_entry = |segment: &Segment<'_>| {
            segment.rights == Rights::READ_EXECUTE
                && (segment.virt..segment.virt + segment.bytes).contains(&self.entry)
        };
        if !self.segments.iter().any(holds_entry) {
            return Err(ImageError::Entry(self.entry));
        }
        Ok(())
    }

    /// Virtual address of the entry.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// Bytes from the first page to the last one: what has to be allocated, in one piece.
    pub fn bytes(&self) -> u64 {
        self.pages.end - self.pages.start
    }

    /// Where each content goes, as an offset from the image's first page. Everything else is zero.
    pub fn contents(&self) -> impl Iterator<Item = (u64, &'a [u8])> + '_ {
        self.segments
            .iter()
            .map(|segment| (segment.virt - self.pages.start, segment.content))
    }

    /// How the segments are mapped when the image is at guest physical address `gpa`. Pages between segments are not.
    pub fn mappings(&self, gpa: u64) -> impl Iterator<Item = Mapping> + '_ {
        self.segments.iter().map(move |segment| {
            let pages = segment.pages();
            Mapping {
                virt: pages.start,
                gpa: gpa + (pages.start - self.pages.start),
                bytes: pages.end - pages.start,
                rights: segment.rights,
                cache: Cache::WriteBack,
            }
        })
    }
}

impl<'a> Segment<'a> {
    fn parse(file: &'a [u8], header: &ProgramHeader) -> Result<Self, ImageError> {
        let virt = header.p_vaddr;
        let end = virt
            .checked_add(header.p_memsz)
            .ok_or(ImageError::Address(virt))?;
        if virt < ROOT_IMAGE || end > LOADER_IMAGE {
            return Err(ImageError::Address(virt));
        }
        let rights = rights(header.p_flags).ok_or(ImageError::WriteExecute(virt))?;
        let content = content(file, header).ok_or(ImageError::Sizes(virt))?;
        Ok(Self {
            virt,
            bytes: header.p_memsz,
            content,
            rights,
        })
    }

    /// The pages it touches.
    fn pages(&self) -> Range<u64> {
        // Below LOADER_IMAGE, so rounding up cannot overflow.
        self.virt & !(PAGE - 1)..(self.virt + self.bytes).next_multiple_of(PAGE)
    }
}

fn content<'a>(file: &'a [u8], header: &ProgramHeader) -> Option<&'a [u8]> {
    if header.p_filesz > header.p_memsz {
        return None;
    }
    let start = usize::try_from(header.p_offset).ok()?;
    let bytes = usize::try_from(header.p_filesz).ok()?;
    file.get(start..)?.get(..bytes)
}

fn rights(flags: u32) -> Option<Rights> {
    match (flags & abi::PF_W != 0, flags & abi::PF_X != 0) {
        (true, true) => None,
        (true, false) => Some(Rights::READ_WRITE),
        (false, true) => Some(Rights::READ_EXECUTE),
        (false, false) => Some(Rights::READ),
    }
}

/// All pages from the first segment's to the last one's.
fn span(segments: &[Segment<'_>]) -> Result<Range<u64>, ImageError> {
    let start = segments.iter().map(|segment| segment.pages().start).min();
    let end = segments.iter().map(|segment| segment.pages().end).max();
    let (start, end) = start.zip(end).ok_or(ImageError::Segments(0))?;
    if end - start > MAX_IMAGE {
        return Err(ImageError::TooLarge(end - start));
    }
    Ok(start..end)
}
