//! What the payload was started with.

use boot_archive::start_info::{MemoryMapEntry, PhysicalMemory as _, StartInfo, module};

use super::memory::{self, StartMemory};

/// What EAX holds after a start by multiboot 1.
const MULTIBOOT_MAGIC: u64 = 0x2BAD_B002;
/// Multiboot information: flags, and what they say.
const COMMAND_LINE: u32 = 1 << 2;
const MODULES: u32 = 1 << 3;

static MEMORY: StartMemory = StartMemory;

/// The boot information.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// The command line, empty if there is none.
    pub cmdline: &'static str,
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Pvh(StartInfo<'static, StartMemory>),
    Multiboot { module: Option<&'static [u8]> },
}

impl Boot {
    pub(super) fn of_child(info: u64, magic: u64) -> Self {
        if magic == MULTIBOOT_MAGIC {
            return Self::multiboot(info);
        }
        Self::pvh(info)
    }

    pub(super) fn of_root(info: u64) -> Self {
        memory::use_direct_map();
        let boot = Self::pvh(info);
        if let Some(image) = boot.start_info().modules().nth(module::ROOT_IMAGE) {
            memory::set_image(image.paddr);
        }
        boot
    }

    fn pvh(info: u64) -> Self {
        let start = StartInfo::read(&MEMORY, info).unwrap_or_else(|error| panic!("{error}"));
        Self {
            cmdline: start.text(start.header().cmdline_paddr).unwrap_or_default(),
            source: Source::Pvh(start),
        }
    }

    fn multiboot(info: u64) -> Self {
        let word = |offset| memory::read::<u32>(info + offset);
        let flags = word(0);
        let cmdline = if flags & COMMAND_LINE != 0 {
            text(word(16))
        } else {
            ""
        };
        let module = (flags & MODULES != 0 && word(20) != 0).then(|| {
            let list = u64::from(word(24));
            let (start, end) = (memory::read::<u32>(list), memory::read::<u32>(list + 4));
            MEMORY
                .bytes(u64::from(start), (end - start) as usize)
                .unwrap_or_default()
        });
        Self {
            cmdline,
            source: Source::Multiboot { module },
        }
    }

    /// Whether the command line has this word.
    pub fn has(&self, word: &str) -> bool {
        self.cmdline.split_whitespace().any(|other| other == word)
    }

    /// The value of `name=VALUE` on the command line.
    pub fn value(&self, name: &str) -> Option<&'static str> {
        self.cmdline
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The value of `name=NUMBER` on the command line.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// Whether the start was by multiboot.
    pub fn is_multiboot(&self) -> bool {
        matches!(self.source, Source::Multiboot { .. })
    }

    /// The start info of a start by PVH; a root always has it.
    pub fn start_info(&self) -> StartInfo<'static, StartMemory> {
        match self.source {
            Source::Pvh(start) => start,
            Source::Multiboot { .. } => panic!("multiboot has no start info"),
        }
    }

    /// Content of a module, by its place in the list.
    pub fn module(&self, index: usize) -> Option<&'static [u8]> {
        match self.source {
            Source::Pvh(start) => {
                let entry = start.modules().nth(index)?;
                MEMORY.bytes(entry.paddr, entry.size as usize)
            }
            Source::Multiboot { module } => module.filter(|_| index == 0),
        }
    }

    /// The memory map of a start by PVH.
    pub fn memory_map(&self) -> impl Iterator<Item = MemoryMapEntry> {
        self.start_info().memory_map()
    }
}

/// The NUL-terminated text at an address; what is no text is empty.
fn text(address: u32) -> &'static str {
    let bytes = (0..4096usize)
        .take_while(|length| memory::read::<u8>(u64::from(address) + *length as u64) != 0)
        .count();
    MEMORY
        .bytes(u64::from(address), bytes)
        .and_then(|bytes| core::str::from_utf8(bytes).ok())
        .unwrap_or_default()
}
