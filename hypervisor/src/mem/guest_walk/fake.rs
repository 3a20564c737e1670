//! A guest's memory for the tests.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Memory of zeros, except where written; some pages are missing or restricted.
#[derive(Default)]
pub struct FakeGuest {
    words: RefCell<BTreeMap<u64, u64>>,
    pub unmapped: BTreeSet<u64>,
    pub read_only: BTreeSet<u64>,
    pub intercepted: BTreeSet<u64>,
    /// So many compare-exchanges find that the guest was faster.
    pub races: Cell<usize>,
}

impl FakeGuest {
    pub fn word(&self, at: u64) -> u64 {
        self.words.borrow().get(&at).copied().unwrap_or(0)
    }

    pub fn set(&self, at: u64, value: u64) {
        assert_eq!(at % 8, 0);
        self.words.borrow_mut().insert(at, value);
    }

    pub fn set_u32(&self, at: u64, value: u32) {
        let shift = at % 8 * 8;
        let word = self.word(at & !7) & !(0xFFFF_FFFF << shift);
        self.set(at & !7, word | u64::from(value) << shift);
    }

    pub fn get_u32(&self, at: u64) -> u32 {
        (self.word(at & !7) >> (at % 8 * 8)) as u32
    }
}

impl GuestMemory for FakeGuest {
    fn read_u64(&self, at: Gpa) -> Result<u64, GpaFault> {
        assert_eq!(at.0 % 8, 0);
        self.check(at, TranslateFlags::READ)?;
        Ok(self.word(at.0))
    }

    fn compare_exchange_u64(&self, at: Gpa, old: u64, new: u64) -> Result<u64, GpaFault> {
        self.check(at, TranslateFlags::WRITE)?;
        if let Some(left) = self.races.get().checked_sub(1) {
            self.races.set(left);
            return Ok(!old);
        }
        let found = self.word(at.0);
        if found == old {
            self.set(at.0, new);
        }
        Ok(found)
    }

    fn check(&self, at: Gpa, access: TranslateFlags) -> Result<(), GpaFault> {
        let page = at.page().0;
        match () {
            () if self.unmapped.contains(&page) => Err(GpaFault::Unmapped),
            () if self.intercepted.contains(&page) => Err(GpaFault::Intercept),
            () if access.contains(TranslateFlags::WRITE) && self.read_only.contains(&page) => {
                Err(GpaFault::NoWriteAccess)
            }
            () => Ok(()),
        }
    }
}

/// A processor without paging, in ring 0.
pub const REAL: PagingState = PagingState {
    cr0: 1 << 16,
    cr3: 0,
    cr4: 0,
    efer: 0,
    alignment_check: false,
    cpl: 0,
    pkru: 0,
    physical_bits: 40,
    gib_pages: true,
};

/// 32-bit paging with CR3 = 0x1000.
pub const BITS32: PagingState = PagingState {
    cr0: REAL.cr0 | 1 << 31,
    cr3: 0x1000,
    cr4: 1 << 4,
    ..REAL
};

/// PAE paging with CR3 = 0x1020 and no-execute.
pub const PAE: PagingState = PagingState {
    cr3: 0x1020,
    cr4: 1 << 5,
    efer: 1 << 11,
    ..BITS32
};

/// 4-level paging with CR3 = 0x1000.
pub const LONG: PagingState = PagingState {
    cr3: 0x1000,
    efer: 1 << 11 | 1 << 10 | 1 << 8,
    ..PAE
};

/// 5-level paging.
pub const LONG5: PagingState = PagingState {
    cr4: LONG.cr4 | 1 << 12,
    ..LONG
};
