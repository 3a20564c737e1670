//! Where code of a VP was found last, for processors that do not tell the length of an intercepted instruction.
//!
//! Walking the guest's tables costs some two thousand instructions, since each of their entries has to be found through
//! the second level. Most exits come from a few places in a kernel that stays where it is. So the last walk is kept with
//! the entries that it read: it is the same walk as long as these entries are the same, no second-level translation
//! has been taken away since (the domain's generation), and the registers that decide about it are the same. That is
//! checked at each use; nothing is assumed about what the guest does with its tables or its TLB.

use core::cell::RefCell;

use super::memory::PartitionMemory;
use super::translate::paging_state;
use super::{Partition, Vp};
use crate::arch::state::CodeAddress;
use crate::hv::Hypervisor;
use crate::mem::addr::{Gpa, Gva, PAGE_SIZE, Spa};
use crate::mem::format::Rights;
use crate::mem::guest_walk::{self, GpaFault, GuestMemory, TranslateFlags};
use crate::mem::phys::{PhysMap, PhysWord};

/// Levels of a walk.
const LEVELS: usize = 4;
/// Accessed and dirty: the processor sets them, and they decide nothing.
const MARKS: u64 = 1 << 5 | 1 << 6;

/// What a walk depends on besides the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Key {
    page: u64,
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    generation: u64,
    cpl: u8,
}

/// Entries while they are read, the first `count` of them; `None` where there is none.
#[derive(Clone, Copy, Debug)]
struct Steps {
    entries: [Option<(PhysWord, u64)>; LEVELS],
    count: usize,
}

impl Steps {
    const NONE: Self = Self {
        entries: [None; LEVELS],
        count: 0,
    };

    /// The walk, if it had no more levels than fit.
    fn walk(&self) -> Option<Walk> {
        let last = self.entries.get(self.count.checked_sub(1)?)?.as_ref()?;
        Some(Walk(self.entries.map(|entry| entry.unwrap_or(*last))))
    }
}

/// Entries that a walk read: all levels, the last one repeated where there are fewer, so that looking has no branches.
#[derive(Clone, Copy, Debug)]
struct Walk([(PhysWord, u64); LEVELS]);

impl Walk {
    /// Every entry is what it was.
    #[inline(always)]
    fn holds(&self) -> bool {
        self.0
            .iter()
            .all(|(word, value)| word.read() & !MARKS == *value)
    }
}

/// A walk to a page of code.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: Key,
    walk: Walk,
    /// The page of the code.
    page: Spa,
}

/// Places that are kept.
const PLACES: usize = 8;

/// The last walks to a VP's code.
#[derive(Clone, Debug)]
pub struct CodeCache([Option<Place>; PLACES]);

/// Reads as the partition, and remembers what.
struct Recorder<'a> {
    memory: PartitionMemory<'a>,
    walk: RefCell<Steps>,
}

impl GuestMemory for Recorder<'_> {
    fn read_u64(&self, at: Gpa) -> Result<u64, GpaFault> {
        let value = self.memory.read_u64(at)?;
        let spa = self.memory.partition.resolve(at, Rights::READ)?;
        let mut walk = self.walk.borrow_mut();
        let count = walk.count;
        let word = self.memory.hypervisor.phys.word(spa);
        walk.count = match (walk.entries.get_mut(count), word) {
            (Some(entry), Ok(word)) => {
                *entry = Some((word, value & !MARKS));
                count + 1
            }
            // A walk with more levels than fit is not kept.
            _ => LEVELS + 1,
        };
        Ok(value)
    }

    fn compare_exchange_u64(&self, at: Gpa, old: u64, new: u64) -> Result<u64, GpaFault> {
        self.memory.compare_exchange_u64(at, old, new)
    }

    fn check(&self, at: Gpa, access: TranslateFlags) -> Result<(), GpaFault> {
        self.memory.check(at, access)
    }
}

#[inline(always)]
const fn key(at: &CodeAddress, generation: u64) -> Key {
    Key {
        page: at.rip & !(PAGE_SIZE - 1),
        cr0: at.cr0,
        cr3: at.cr3,
        cr4: at.cr4,
        efer: at.efer,
        generation,
        cpl: at.cpl,
    }
}

/// Where a page of an address space is kept: one place, so that looking is a comparison.
#[inline(always)]
const fn place_of(at: &CodeAddress) -> usize {
    ((at.rip >> 12) ^ (at.cr3 >> 12)) as usize % PLACES
}

impl CodeCache {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self([None; PLACES])
    }

    /// The eight bytes at the VP's RIP, if a walk led there and is still right. `None` near the end of a page too.
    #[inline(always)]
    pub fn first_bytes(vp: &Vp, phys: PhysMap, generation: u64) -> Option<u64> {
        phys.read_u64_unaligned(Self::place(vp, 8, generation)?)
            .ok()
    }

    /// The sixteen bytes at the VP's RIP, as [`first_bytes`](Self::first_bytes).
    pub fn bytes(vp: &Vp, phys: PhysMap, generation: u64) -> Option<[u8; 16]> {
        let mut bytes = [0; 16];
        let from = Self::place(vp, bytes.len() as u64, generation)?;
        phys.copy_from(from, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Where the VP's next `count` bytes of code are.
    #[inline(always)]
    fn place(vp: &Vp, count: u64, generation: u64) -> Option<Spa> {
        let at = vp.hw.code_address();
        let place = vp.code.0[place_of(&at)].as_ref()?;
        let offset = at.rip & (PAGE_SIZE - 1);
        let known = offset <= PAGE_SIZE - count
            && at.long
            && place.key == key(&at, generation)
            && place.walk.holds();
        known.then_some(Spa(place.page.0 + offset))
    }

    /// Walks to the code of a VP in 64-bit mode, for this time and the next.
    pub fn note(hypervisor: &Hypervisor, partition: &Partition, vp: &mut Vp, generation: u64) {
        let address = vp.hw.code_address();
        if !address.long {
            return;
        }
        let at = place_of(&address);
        vp.code.0[at] = None;
        let recorder = Recorder {
            memory: PartitionMemory {
                hypervisor,
                partition,
            },
            walk: RefCell::new(Steps::NONE),
        };
        let state = paging_state(hypervisor, partition, vp);
        let key = key(&address, generation);
        let found =
            guest_walk::translate(&recorder, &state, Gva(key.page), TranslateFlags::EXECUTE);
        let Ok(found) = found else { return };
        let Ok(page) = partition.resolve(found.gpa, Rights::RX) else {
            return;
        };
        let walk = recorder.walk.into_inner().walk();
        vp.code.0[at] = walk.map(|walk| Place { key, walk, page });
    }
}

impl Default for CodeCache {
    fn default() -> Self {
        Self::new()
    }
}
