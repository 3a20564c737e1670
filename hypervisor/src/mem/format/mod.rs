//! Page-table formats: what the bits of an entry mean. The walker ([`super::table`]) knows none of them.

mod ept;
mod host;
mod npt;
mod pat;
mod second_level;
mod x86;

pub use ept::{Ept, EptFeatures};
pub use host::Host;
pub use npt::Npt;
pub use pat::Pat;
pub use second_level::SecondLevel;

use bitflags::bitflags;

use super::addr::{PageNumber, Spfn};

bitflags! {
    /// What a translation allows. None at all is a page that is mapped, but faults at every access.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Rights: u8 {
        /// Data reads.
        const READ = 1;
        /// Data writes.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
        /// Access in ring 3; only for [`Host`].
        const USER = 8;
    }
}

impl Rights {
    /// Read and write.
    pub const RW: Self = Self::READ.union(Self::WRITE);
    /// Read and execute.
    pub const RX: Self = Self::READ.union(Self::EXECUTE);
    /// Read, write and execute.
    pub const RWX: Self = Self::RW.union(Self::EXECUTE);
}

/// Memory types, with the numbers of the PAT and of EPT, which are those of the TLFS too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MemoryType {
    /// UC.
    Uncacheable = 0,
    /// WC.
    WriteCombining = 1,
    /// WT.
    WriteThrough = 4,
    /// WP.
    WriteProtected = 5,
    /// WB: RAM.
    WriteBack = 6,
    /// UC-: uncacheable, unless an MTRR says write-combining.
    UncacheableMinus = 7,
}

/// Sizes of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LeafSize {
    /// 4 KiB.
    Size4K = 1,
    /// 2 MiB.
    Size2M = 2,
    /// 1 GiB.
    Size1G = 3,
}

impl LeafSize {
    /// 4 KiB pages of a leaf.
    pub const fn pages(self) -> u64 {
        level_pages(self as u8)
    }

    /// The size of leaves at a level, 1 to 3.
    pub const fn of_level(level: u8) -> Option<Self> {
        match level {
            1 => Some(Self::Size4K),
            2 => Some(Self::Size2M),
            3 => Some(Self::Size1G),
            _ => None,
        }
    }
}

/// 4 KiB pages that an entry of a level covers; level 1 holds 4 KiB leaves.
pub const fn level_pages(level: u8) -> u64 {
    1 << (9 * (level - 1))
}

/// A translation that ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Leaf {
    /// First frame, aligned as the leaf's size demands. None only without rights: nothing backs the page.
    pub frame: Option<Spfn>,
    /// What it allows.
    pub rights: Rights,
    /// Memory type.
    pub memory_type: MemoryType,
    /// The processor has used the translation.
    pub accessed: bool,
    /// The processor has written through it.
    pub dirty: bool,
}

impl Leaf {
    /// Write-back memory that starts at `frame`.
    pub const fn new(frame: Spfn, rights: Rights) -> Self {
        Self {
            frame: Some(frame),
            rights,
            memory_type: MemoryType::WriteBack,
            accessed: false,
            dirty: false,
        }
    }

    /// Mapped, without access and without a frame (map flag NO_ACCESS).
    pub const NO_ACCESS: Self = Self {
        frame: None,
        rights: Rights::empty(),
        memory_type: MemoryType::WriteBack,
        accessed: false,
        dirty: false,
    };

    /// The same with another memory type.
    pub const fn with_memory_type(self, memory_type: MemoryType) -> Self {
        Self {
            memory_type,
            ..self
        }
    }

    /// The same, `pages` further on.
    pub const fn advanced(self, pages: u64) -> Self {
        let frame = match self.frame {
            Some(Spfn(first)) => Some(Spfn(first.wrapping_add(pages))),
            None => None,
        };
        Self { frame, ..self }
    }

    /// The same, without what the processor notes in it.
    pub const fn untouched(self) -> Self {
        Self {
            accessed: false,
            dirty: false,
            ..self
        }
    }
}

/// What an entry of a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing is mapped here.
    Empty,
    /// The next table.
    Table(Spfn),
    /// The end of the walk.
    Leaf(Leaf),
}

/// A format of 4-level tables with 512 entries of 8 bytes. An entry of zero must mean [`Entry::Empty`].
pub trait Format: Copy {
    /// What the tables translate from.
    type Page: PageNumber;

    /// The meaning of an entry at `level`: 1 (4 KiB leaves) to 4 (the root).
    fn decode(self, raw: u64, level: u8) -> Entry;

    /// An entry that leads to a table.
    fn table(self, table: Spfn) -> u64;

    /// A leaf at `level`, 1 to 3. None when the format cannot say it: rights or memory type that it does not have, a
    /// frame beyond the physical address width or not aligned, rights without a frame.
    fn leaf(self, leaf: Leaf, level: u8) -> Option<u64>;

    /// Whether all pages from `first` to `last` can be translated.
    fn covers(self, first: u64, last: u64) -> bool;

    /// Largest leaf that the processor has.
    fn max_leaf(self) -> LeafSize;
}
