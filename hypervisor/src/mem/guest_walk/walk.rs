//! The walk.

use super::check::{Request, Rights};
use super::entry::{ACCESSED, DIRTY, Mode, PRESENT, pat_index};
use super::{GpaFault, GuestMemory, PagingState, TranslateFlags, Translation, WalkError};
use crate::mem::addr::{Gpa, Gva, PAGE_SIZE};

/// Most levels that there are.
const MAX_LEVELS: usize = 5;
/// How often a walk starts again because the guest changed an entry meanwhile. Then the page counts as not present: a
/// spurious fault, which a guest that changes its tables must expect anyway.
const ATTEMPTS: usize = 8;

/// Translates an address for an access. Without paging, and outside long mode, the upper half of `gva` is ignored.
///
/// # Errors
///
/// [`WalkError`]
pub fn translate<M: GuestMemory>(
    memory: &M,
    state: &PagingState,
    gva: Gva,
    flags: TranslateFlags,
) -> Result<Translation, WalkError> {
    let Some(mode) = Mode::of(state) else {
        let gpa = Gpa(gva.0 & u64::from(u32::MAX));
        return finish(
            memory,
            Translation {
                gpa,
                page_bytes: PAGE_SIZE,
                pat_index: None,
            },
            flags,
        );
    };
    let gva = if mode.is_long() {
        gva.0
    } else {
        gva.0 & u64::from(u32::MAX)
    };
    if !mode.is_canonical(gva) {
        return Err(WalkError::NotCanonical);
    }
    let request = Request { state, mode, flags };
    for _ in 0..ATTEMPTS {
        let mut path = Path::default();
        let translation = walk(memory, &request, gva, &mut path)?;
        if path.note(memory, flags)? {
            return finish(memory, translation, flags);
        }
    }
    Err(WalkError::NotPresent {
        error_code: request.not_present(),
    })
}

fn finish<M: GuestMemory>(
    memory: &M,
    found: Translation,
    access: TranslateFlags,
) -> Result<Translation, WalkError> {
    match memory.check(found.gpa, access) {
        Ok(()) => Ok(found),
        Err(fault) => Err(WalkError::Gpa {
            gpa: found.gpa,
            fault,
        }),
    }
}

fn walk<M: GuestMemory>(
    memory: &M,
    request: &Request<'_>,
    gva: u64,
    path: &mut Path,
) -> Result<Translation, WalkError> {
    let Request { state, mode, .. } = *request;
    let (mut table, mut level, mut rights) = (mode.root(state.cr3), mode.levels(), Rights::ALL);
    loop {
        let visited = Visited::read(memory, mode, mode.slot(table, level, gva))?;
        let entry = visited.entry;
        if entry & PRESENT == 0 {
            return Err(WalkError::NotPresent {
                error_code: request.not_present(),
            });
        }
        let leaf = mode.is_leaf(state, level, entry);
        if entry & mode.reserved(state, level, leaf) != 0 {
            return Err(WalkError::InvalidPageTableFlags {
                error_code: request.reserved(),
            });
        }
        if !mode.is_bare(level) {
            rights = rights.and(mode, entry);
            path.push(visited, leaf);
        }
        let address = mode.address(level, entry, leaf);
        if leaf {
            if let Some(error_code) = request.violation(rights) {
                return Err(WalkError::PrivilegeViolation { error_code });
            }
            let page_bytes = 1 << mode.shift(level);
            let gpa = Gpa(address | gva & (page_bytes - 1));
            return Ok(Translation {
                gpa,
                page_bytes,
                pat_index: Some(pat_index(level, entry)),
            });
        }
        (table, level) = (address, level - 1);
    }
}

/// An entry as it was read.
#[derive(Clone, Copy, Default)]
struct Visited {
    /// Address and contents of the 8-aligned word that holds the entry.
    at: u64,
    word: u64,
    /// Where the entry begins in the word: 0 or 32.
    shift: u32,
    entry: u64,
}

impl Visited {
    fn read<M: GuestMemory>(memory: &M, mode: Mode, slot: Gpa) -> Result<Self, WalkError> {
        let at = slot.0 & !7;
        let word = memory
            .read_u64(Gpa(at))
            .map_err(|fault| table_fault(at, fault))?;
        let shift = (slot.0 & 7) as u32 * 8;
        let entry = match mode.entry_bytes() {
            4 => word >> shift & u64::from(u32::MAX),
            _ => word,
        };
        Ok(Self {
            at,
            word,
            shift,
            entry,
        })
    }
}

const fn table_fault(at: u64, fault: GpaFault) -> WalkError {
    WalkError::Gpa {
        gpa: Gpa(at),
        fault,
    }
}

/// The entries of a walk that have an accessed bit, from the root to the leaf.
#[derive(Default)]
struct Path {
    visited: [Visited; MAX_LEVELS],
    length: usize,
    has_leaf: bool,
}

impl Path {
    fn push(&mut self, visited: Visited, leaf: bool) {
        if let Some(place) = self.visited.get_mut(self.length) {
            *place = visited;
            self.length += 1;
        }
        self.has_leaf = leaf;
    }

    /// Sets accessed and dirty bits if that is asked for. False when an entry is not what was read.
    fn note<M: GuestMemory>(&self, memory: &M, flags: TranslateFlags) -> Result<bool, WalkError> {
        if !flags.contains(TranslateFlags::SET_PAGE_TABLE_BITS) {
            return Ok(true);
        }
        let write = flags.contains(TranslateFlags::WRITE);
        for (index, visited) in self.visited.iter().take(self.length).enumerate() {
            let leaf = self.has_leaf && index + 1 == self.length;
            let noted = ACCESSED | if leaf && write { DIRTY } else { 0 };
            if visited.entry & noted == noted {
                continue;
            }
            let new = visited.word | noted << visited.shift;
            let found = memory
                .compare_exchange_u64(Gpa(visited.at), visited.word, new)
                .map_err(|fault| table_fault(visited.at, fault))?;
            if found != visited.word {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
