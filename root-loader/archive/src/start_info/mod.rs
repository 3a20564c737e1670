//! The PVH start structures: how the hypervisor tells the root loader, and the loader the root kernel, what the machine
//! is and what was loaded (`struct hvm_start_info` of Xen's `xen/include/public/arch-x86/hvm/start_info.h`).
//!
//! Reading copies every structure once and checks the copy; writing ([`compose`]) lays a complete set out in a buffer.

mod compose;

use core::mem::size_of;
use core::ops::Range;

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

pub use compose::{Module, compose};

/// `XEN_HVM_START_MAGIC_VALUE`.
pub const MAGIC: u32 = 0x336e_c578;
/// The version with a memory map.
pub const VERSION: u32 = 1;
/// Most modules [`StartInfo::read`] accepts.
pub const MAX_MODULES: u32 = 64;
/// Most memory map entries [`StartInfo::read`] accepts.
pub const MAX_MEMORY_MAP: u32 = 512;
/// Longest text (without its NUL) that [`StartInfo::text`] accepts.
pub const MAX_TEXT: usize = 1023;

/// Kinds of a [`MemoryMapEntry`], the E820 types.
pub mod kind {
    /// Usable RAM.
    pub const RAM: u32 = 1;
    /// Reserved: firmware, devices.
    pub const RESERVED: u32 = 2;
    /// ACPI tables, RAM once they have been read.
    pub const ACPI: u32 = 3;
    /// ACPI non-volatile storage, to be left alone.
    pub const NVS: u32 = 4;
    /// RAM with errors.
    pub const UNUSABLE: u32 = 5;
}

/// Places of the modules that the root loader hands to the root kernel.
pub mod module {
    /// The boot archive.
    pub const ARCHIVE: usize = 0;
    /// The frames of the loaded root image.
    pub const ROOT_IMAGE: usize = 1;
    /// The loader's page tables, stack and start info.
    pub const LOADER: usize = 2;
}

/// `struct hvm_start_info`, version 1. Addresses are guest physical, 0 = absent.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HvmStartInfo {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// `SIF_*`, 0 here.
    pub flags: u32,
    /// Number of [`ModuleEntry`].
    pub nr_modules: u32,
    /// Address of the module list.
    pub modlist_paddr: u64,
    /// Address of the command line, NUL-terminated.
    pub cmdline_paddr: u64,
    /// Address of the ACPI RSDP.
    pub rsdp_paddr: u64,
    /// Address of the memory map.
    pub memmap_paddr: u64,
    /// Number of [`MemoryMapEntry`].
    pub memmap_entries: u32,
    /// Zero.
    pub reserved: u32,
}

/// `struct hvm_modlist_entry`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ModuleEntry {
    /// Address of the module.
    pub paddr: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Address of its text, NUL-terminated, or 0.
    pub cmdline_paddr: u64,
    /// Zero.
    pub reserved: u64,
}

/// `struct hvm_memmap_table_entry`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MemoryMapEntry {
    /// First address.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// One of [`kind`].
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<HvmStartInfo>() == 56);
    assert!(size_of::<ModuleEntry>() == 32);
    assert!(size_of::<MemoryMapEntry>() == 24);
};

impl MemoryMapEntry {
    /// First address after the range; saturates for a range that would wrap.
    pub fn end(&self) -> u64 {
        self.addr.saturating_add(self.size)
    }
}

/// Guest physical memory as its reader sees it.
pub trait PhysicalMemory {
    /// The `len` bytes at `gpa`, or `None` if they cannot be read as a whole.
    fn bytes(&self, gpa: u64, len: usize) -> Option<&[u8]>;
}

/// Why a start info cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StartInfoError {
    /// Something it points to is not in readable memory.
    #[error("start info: {what} at {gpa:#x} cannot be read; the starter gave a wrong address")]
    Unreadable {
        /// Which structure.
        what: &'static str,
        /// Its address.
        gpa: u64,
    },
    /// Wrong magic.
    #[error(
        "start info: magic is {0:#x}, not 0x336ec578; this must be started by the PVH boot protocol"
    )]
    Magic(u32),
    /// A version without a memory map.
    #[error("start info: version {0} has no memory map, version 1 is needed")]
    Version(u32),
    /// Too many modules or memory map entries.
    #[error("start info: {count} entries of {what} are more than the {most} possible")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// Its count.
        count: u32,
        /// What is possible.
        most: u32,
    },
    /// The buffer for [`compose`] is too small.
    #[error("start info: {0} bytes are too few for it")]
    NoSpace(usize),
}

/// A start info that was read and checked: its lists are readable and of sane length.
#[derive(Clone, Copy, Debug)]
pub struct StartInfo<'m, M> {
    memory: &'m M,
    gpa: u64,
    header: HvmStartInfo,
    modules: &'m [u8],
    memory_map: &'m [u8],
}

impl<'m, M: PhysicalMemory> StartInfo<'m, M> {
    /// Reads the structure at `gpa` and finds its lists.
    ///
    /// # Errors
    /// [`StartInfoError`] saying which part is unusable.
    pub fn read(memory: &'m M, gpa: u64) -> Result<Self, StartInfoError> {
        let what = "the structure";
        let unreadable = StartInfoError::Unreadable { what, gpa };
        let bytes = memory
            .bytes(gpa, size_of::<HvmStartInfo>())
            .ok_or(unreadable)?;
        let header = HvmStartInfo::read_from_bytes(bytes).map_err(|_| unreadable)?;
        if header.magic != MAGIC {
            return Err(StartInfoError::Magic(header.magic));
        }
        if header.version < VERSION {
            return Err(StartInfoError::Version(header.version));
        }
        let modules = list(
            memory,
            "the module list",
            header.modlist_paddr,
            header.nr_modules,
            MAX_MODULES,
            size_of::<ModuleEntry>(),
        )?;
        let map = (header.memmap_paddr, header.memmap_entries);
        let memory_map = list(
            memory,
            "the memory map",
            map.0,
            map.1,
            MAX_MEMORY_MAP,
            size_of::<MemoryMapEntry>(),
        )?;
        Ok(Self {
            memory,
            gpa,
            header,
            modules,
            memory_map,
        })
    }

    /// The copy of the structure itself.
    pub fn header(&self) -> &HvmStartInfo {
        &self.header
    }

    /// The memory that the structure, its lists and its command line take. Texts of modules are not counted.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + use<'m, M> {
        let header = &self.header;
        // A text is kept up to the longest there may be.
        let cmdline = if header.cmdline_paddr == 0 {
            0
        } else {
            MAX_TEXT + 1
        };
        let parts = [
            (header.modlist_paddr, self.modules.len()),
            (header.memmap_paddr, self.memory_map.len()),
            (header.cmdline_paddr, cmdline),
            (self.gpa, size_of::<HvmStartInfo>()),
        ];
        parts
            .into_iter()
            .map(|(gpa, bytes)| gpa..gpa.saturating_add(bytes as u64))
            .filter(|range| !range.is_empty())
    }

    /// The modules, in order.
    pub fn modules(&self) -> impl Iterator<Item = ModuleEntry> + Clone + use<'m, M> {
        self.modules
            .chunks_exact(size_of::<ModuleEntry>())
            .filter_map(|bytes| ModuleEntry::read_from_bytes(bytes).ok())
    }

    /// The memory map, in the order given; ranges may be unsorted.
    pub fn memory_map(&self) -> impl Iterator<Item = MemoryMapEntry> + Clone + use<'m, M> {
        let size = size_of::<MemoryMapEntry>();
        self.memory_map
            .chunks_exact(size)
            .filter_map(|bytes| MemoryMapEntry::read_from_bytes(bytes).ok())
    }

    /// The NUL-terminated text at `gpa` (a command line); `None` if absent, unreadable, too long or not UTF-8.
    pub fn text(&self, gpa: u64) -> Option<&'m str> {
        if gpa == 0 {
            return None;
        }
        // A text may end right before unreadable memory, so its end is looked for byte by byte.
        for length in 0..=MAX_TEXT {
            if self.memory.bytes(gpa.checked_add(length as u64)?, 1)? == [0] {
                return core::str::from_utf8(self.memory.bytes(gpa, length)?).ok();
            }
        }
        None
    }
}

fn list<'m, M: PhysicalMemory>(
    memory: &'m M,
    what: &'static str,
    gpa: u64,
    count: u32,
    most: u32,
    size: usize,
) -> Result<&'m [u8], StartInfoError> {
    if count > most {
        return Err(StartInfoError::TooMany { what, count, most });
    }
    if count == 0 {
        return Ok(&[]);
    }
    memory
        .bytes(gpa, count as usize * size)
        .ok_or(StartInfoError::Unreadable { what, gpa })
}
