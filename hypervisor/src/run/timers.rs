//! Deadlines of the VPs at home on one processor: at most one each, the earliest first.
//!
//! An indexed binary heap: setting, moving and removing a deadline are O(log n), so a guest that reprograms its timer
//! without end costs no memory and a bounded number of instructions.

/// Deadlines keyed by a dense number below `N`.
pub struct TimerHeap<const N: usize> {
    /// Heap of (deadline, key); `len` entries are in use.
    heap: [(u64, u16); N],
    len: usize,
    /// Place of each key in `heap`, or [`ABSENT`].
    place: [u16; N],
}

const ABSENT: u16 = u16::MAX;

impl<const N: usize> TimerHeap<N> {
    /// An empty heap. `N` must be below 65,535.
    pub const fn new() -> Self {
        const { assert!(N < ABSENT as usize) };
        Self {
            heap: [(0, 0); N],
            len: 0,
            place: [ABSENT; N],
        }
    }

    /// The earliest deadline and its key.
    pub fn first(&self) -> Option<(u64, usize)> {
        self.heap[..self.len]
            .first()
            .map(|&(deadline, key)| (deadline, usize::from(key)))
    }

    /// Sets the deadline of `key`, or removes it. A key of `N` or more is ignored: there is no such timer.
    pub fn set(&mut self, key: usize, deadline: Option<u64>) {
        let Some(&place) = self.place.get(key) else {
            return;
        };
        match (deadline, place) {
            (None, ABSENT) => {}
            (None, place) => self.remove(usize::from(place)),
            (Some(deadline), ABSENT) => {
                let at = self.len;
                self.len += 1;
                self.put(at, (deadline, key as u16));
                self.up(at);
            }
            (Some(deadline), place) => {
                let at = usize::from(place);
                self.heap[at].0 = deadline;
                let at = self.up(at);
                self.down(at);
            }
        }
    }

    fn remove(&mut self, at: usize) {
        self.place[usize::from(self.heap[at].1)] = ABSENT;
        self.len -= 1;
        if at != self.len {
            let last = self.heap[self.len];
            self.put(at, last);
            let at = self.up(at);
            self.down(at);
        }
    }

    fn put(&mut self, at: usize, entry: (u64, u16)) {
        self.heap[at] = entry;
        self.place[usize::from(entry.1)] = at as u16;
    }

    fn up(&mut self, mut at: usize) -> usize {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent].0 <= self.heap[at].0 {
                break;
            }
            self.swap(parent, at);
            at = parent;
        }
        at
    }

    fn down(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            if left >= self.len {
                return;
            }
            let right = left + 1;
            let child = if right < self.len && self.heap[right].0 < self.heap[left].0 {
                right
            } else {
                left
            };
            if self.heap[at].0 <= self.heap[child].0 {
                return;
            }
            self.swap(at, child);
            at = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        let (one, two) = (self.heap[a], self.heap[b]);
        self.put(a, two);
        self.put(b, one);
    }
}

impl<const N: usize> Default for TimerHeap<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn first_is_always_the_earliest_of_what_was_set(
            steps in proptest::collection::vec((0usize..20, proptest::option::of(0u64..50)), 0..200),
        ) {
            let mut heap = TimerHeap::<16>::new();
            let mut model = BTreeMap::new();
            for (key, deadline) in steps {
                heap.set(key, deadline);
                if key < 16 {
                    match deadline {
                        Some(deadline) => { model.insert(key, deadline); }
                        None => { model.remove(&key); }
                    }
                }
                let earliest = model.values().min().copied();
                prop_assert_eq!(heap.first().map(|(deadline, _)| deadline), earliest);
                if let Some((deadline, key)) = heap.first() {
                    prop_assert_eq!(model[&key], deadline);
                }
            }
        }
    }
}
