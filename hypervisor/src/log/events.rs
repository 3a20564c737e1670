//! The event log: what happened last, typed, with the time. Kept in a ring in memory and printed by a panic.

use core::fmt;

use spin::mutex::SpinMutex;

/// Events kept.
pub const CAPACITY: usize = 256;
/// Events a panic prints.
pub const PRINTED: usize = 64;

/// Something worth remembering. Partitions and VPs are named by their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The hypervisor came up with so many processors.
    Started {
        /// Their number.
        processors: u32,
    },
    /// A partition was created.
    PartitionCreated {
        /// Its id.
        partition: u64,
    },
    /// A partition was deleted.
    PartitionDeleted {
        /// Its id.
        partition: u64,
    },
    /// A VP was created.
    VpCreated {
        /// Partition id.
        partition: u64,
        /// VP index.
        vp: u32,
    },
    /// A VP cannot go on.
    VpFailed {
        /// Partition id.
        partition: u64,
        /// VP index.
        vp: u32,
        /// RIP at that time.
        rip: u64,
        /// Why.
        reason: &'static str,
    },
    /// An exit that was not expected.
    UnknownExit {
        /// Partition id.
        partition: u64,
        /// VP index.
        vp: u32,
        /// The processor's code.
        code: u64,
        /// The processor's qualification.
        info: u64,
    },
    /// A hypercall failed.
    HypercallFailed {
        /// Caller's partition id.
        partition: u64,
        /// Call code.
        code: u16,
        /// HV_STATUS.
        status: u16,
    },
    /// An NMI of the machine.
    MachineNmi,
    /// A physical interrupt that nobody wanted.
    StrayInterrupt {
        /// Its vector.
        vector: u8,
    },
    /// Anything else: a fixed text and two numbers.
    Note {
        /// What.
        text: &'static str,
        /// First number.
        a: u64,
        /// Second number.
        b: u64,
    },
}

/// An event and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Reference time in 100 ns units, or whatever clock the recorder had.
    pub time: u64,
    /// What happened.
    pub event: Event,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:6}.{:07} {:x?}",
            self.time / 10_000_000,
            self.time % 10_000_000,
            self.event
        )
    }
}

/// A ring of the last [`CAPACITY`] events.
#[derive(Debug)]
pub struct Ring {
    entries: [Option<Entry>; CAPACITY],
    next: usize,
    total: u64,
}

impl Ring {
    /// An empty ring.
    pub const fn new() -> Self {
        Self {
            entries: [None; CAPACITY],
            next: 0,
            total: 0,
        }
    }

    /// Adds an entry; the oldest goes when the ring is full.
    pub fn push(&mut self, entry: Entry) {
        if let Some(slot) = self.entries.get_mut(self.next) {
            *slot = Some(entry);
        }
        self.next = (self.next + 1) % CAPACITY;
        self.total = self.total.wrapping_add(1);
    }

    /// Events ever added.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The last `count` entries, oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &Entry> {
        let count = count.min(CAPACITY);
        let start = self.next + CAPACITY - count;
        (0..count).filter_map(move |i| self.entries.get((start + i) % CAPACITY)?.as_ref())
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

static RING: SpinMutex<Ring> = SpinMutex::new(Ring::new());

/// Records an event at reference time `time` (100 ns units).
pub fn record(time: u64, event: Event) {
    RING.lock().push(Entry { time, event });
}

/// Calls `f` with the ring.
pub fn with<T>(f: impl FnOnce(&Ring) -> T) -> T {
    f(&RING.lock())
}

/// Breaks the ring's lock.
///
/// # Safety
/// Nothing else may run on this machine any more but the caller.
pub(super) unsafe fn force_unlock() {
    // SAFETY: the caller is alone.
    unsafe { RING.force_unlock() };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(n: u64) -> Entry {
        Entry {
            time: n,
            event: Event::Note {
                text: "n",
                a: n,
                b: 0,
            },
        }
    }

    #[test]
    fn the_ring_keeps_the_last_events_in_order() {
        let mut ring = Ring::new();
        assert_eq!(ring.last(PRINTED).count(), 0);
        for n in 0..CAPACITY as u64 + 10 {
            ring.push(note(n));
        }
        let times: Vec<u64> = ring.last(PRINTED).map(|e| e.time).collect();
        let expected: Vec<u64> = (CAPACITY as u64 + 10 - 64..CAPACITY as u64 + 10).collect();
        assert_eq!(times, expected);
        assert_eq!(ring.last(usize::MAX).count(), CAPACITY);
        assert_eq!(ring.total(), CAPACITY as u64 + 10);
    }

    #[test]
    fn a_ring_that_is_not_full_gives_what_it_has() {
        let mut ring = Ring::new();
        ring.push(note(1));
        ring.push(note(2));
        assert_eq!(
            ring.last(PRINTED).map(|e| e.time).collect::<Vec<_>>(),
            [1, 2]
        );
    }
}
