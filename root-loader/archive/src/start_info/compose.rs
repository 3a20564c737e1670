//! Writing a start info.

use core::mem::size_of;

use zerocopy::IntoBytes;

use super::{
    HvmStartInfo, MAGIC, MAX_MEMORY_MAP, MAX_MODULES, MemoryMapEntry, ModuleEntry, StartInfoError,
    VERSION,
};

/// A module for [`compose`].
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// Its address.
    pub gpa: u64,
    /// Its size in bytes.
    pub size: u64,
    /// A short text that says what it is; no NULs.
    pub text: &'a str,
}

/// Lays a complete start info out in `buffer`, which will be (or is) at `gpa`: the structure, the module list, the
/// memory map, then the texts. Returns the number of bytes used.
///
/// # Errors
/// [`StartInfoError::NoSpace`] if the buffer is too small, [`StartInfoError::TooMany`] if a list is longer than readers accept.
pub fn compose(
    buffer: &mut [u8],
    gpa: u64,
    rsdp: u64,
    cmdline: &str,
    modules: &[Module<'_>],
    memory_map: impl IntoIterator<Item = MemoryMapEntry>,
) -> Result<usize, StartInfoError> {
    let count = modules.len().min(u32::MAX as usize) as u32;
    if count > MAX_MODULES {
        return Err(StartInfoError::TooMany {
            what: "the module list",
            count,
            most: MAX_MODULES,
        });
    }
    let mut out = Output {
        used: size_of::<HvmStartInfo>(),
        gpa,
        buffer,
    };
    let modlist_paddr = out.reserve(modules.len() * size_of::<ModuleEntry>())?;
    let (memmap_paddr, memmap_entries) = out.memory_map(memory_map)?;
    for (index, module) in modules.iter().enumerate() {
        let cmdline_paddr = out.text(module.text)?;
        let entry = ModuleEntry {
            paddr: module.gpa,
            size: module.size,
            cmdline_paddr,
            reserved: 0,
        };
        out.place(
            size_of::<HvmStartInfo>() + index * size_of::<ModuleEntry>(),
            entry.as_bytes(),
        )?;
    }
    let cmdline_paddr = out.text(cmdline)?;
    let header = HvmStartInfo {
        magic: MAGIC,
        version: VERSION,
        flags: 0,
        nr_modules: count,
        modlist_paddr,
        cmdline_paddr,
        rsdp_paddr: rsdp,
        memmap_paddr,
        memmap_entries,
        reserved: 0,
    };
    out.place(0, header.as_bytes())?;
    Ok(out.used)
}

/// The buffer being filled: everything before `used` is taken.
struct Output<'b> {
    buffer: &'b mut [u8],
    gpa: u64,
    used: usize,
}

impl Output<'_> {
    fn place(&mut self, at: usize, bytes: &[u8]) -> Result<(), StartInfoError> {
        let length = self.buffer.len();
        let space = self
            .buffer
            .get_mut(at..)
            .and_then(|rest| rest.get_mut(..bytes.len()));
        space
            .ok_or(StartInfoError::NoSpace(length))?
            .copy_from_slice(bytes);
        Ok(())
    }

    /// Takes `size` bytes and returns their address.
    fn reserve(&mut self, size: usize) -> Result<u64, StartInfoError> {
        let no_space = StartInfoError::NoSpace(self.buffer.len());
        let gpa = self.gpa.checked_add(self.used as u64).ok_or(no_space)?;
        self.used = self
            .used
            .checked_add(size)
            .filter(|used| *used <= self.buffer.len())
            .ok_or(no_space)?;
        Ok(gpa)
    }

    fn memory_map(
        &mut self,
        entries: impl IntoIterator<Item = MemoryMapEntry>,
    ) -> Result<(u64, u32), StartInfoError> {
        let gpa = self.reserve(0)?;
        let mut count = 0u32;
        for entry in entries {
            count = count.saturating_add(1);
            if count > MAX_MEMORY_MAP {
                return Err(StartInfoError::TooMany {
                    what: "the memory map",
                    count,
                    most: MAX_MEMORY_MAP,
                });
            }
            let at = self.used;
            self.reserve(size_of::<MemoryMapEntry>())?;
            self.place(at, entry.as_bytes())?;
        }
        Ok((gpa, count))
    }

    /// Stores a text with its NUL; an empty one is "absent", address 0.
    fn text(&mut self, text: &str) -> Result<u64, StartInfoError> {
        if text.is_empty() {
            return Ok(0);
        }
        let at = self.used;
        let gpa = self.reserve(text.len() + 1)?;
        self.place(at, text.as_bytes())?;
        self.place(at + text.len(), &[0])?;
        Ok(gpa)
    }
}
