//! Which process runs next, and when the timer must ring. No time of its own: callers say what time it is.

use crate::frames::{SLOTS, Slot};

/// Reference time of a whole time slice, 100 ns.
pub const SLICE: u64 = 100_000;
/// "Never", as a time.
pub const NEVER: u64 = u64::MAX;

/// The processes that can run, in order. A process is in it at most once, so it cannot overflow, and needs no heap.
#[derive(Clone, Debug)]
pub struct RunQueue {
    ring: [Slot; SLOTS],
    first: usize,
    len: usize,
    queued: u64,
}

impl Default for RunQueue {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl RunQueue {
    /// Nobody.
    pub const EMPTY: Self = Self {
        ring: [Slot::KERNEL; SLOTS],
        first: 0,
        len: 0,
        queued: 0,
    };

    /// Puts a process at the end; nothing happens if it is in the queue already.
    pub fn push(&mut self, slot: Slot) {
        if self.queued & bit(slot) != 0 {
            return;
        }
        if let Some(place) = self.ring.get_mut((self.first + self.len) % SLOTS) {
            *place = slot;
            self.len += 1;
            self.queued |= bit(slot);
        }
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Slot> {
        if self.len == 0 {
            return None;
        }
        let slot = self.ring.get(self.first).copied()?;
        self.first = (self.first + 1) % SLOTS;
        self.len -= 1;
        self.queued &= !bit(slot);
        Some(slot)
    }

    /// Takes a process out, wherever it is.
    pub fn remove(&mut self, slot: Slot) {
        for _ in 0..self.len {
            match self.pop() {
                Some(other) if other != slot => self.push(other),
                _ => {}
            }
        }
    }

    /// Whether nobody waits for the processor.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn bit(slot: Slot) -> u64 {
    1 << (slot.index() % SLOTS)
}

/// The one-shot timer. It is set to an earlier time when somebody needs it and never to a later one: an early ring is
/// cheap, but programming the timer costs an exit to the hypervisor.
#[derive(Clone, Copy, Debug)]
pub struct Alarm {
    set_to: u64,
}

impl Default for Alarm {
    fn default() -> Self {
        Self::NONE
    }
}

impl Alarm {
    /// Not set.
    pub const NONE: Self = Self { set_to: NEVER };

    /// Somebody wants to be woken at `time`. Returns whether the timer must be programmed to it now.
    #[must_use]
    pub fn want(&mut self, time: u64) -> bool {
        let earlier = time < self.set_to;
        if earlier {
            self.set_to = time;
        }
        earlier
    }

    /// The timer rang.
    pub fn rang(&mut self) {
        self.set_to = NEVER;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn the_timer_is_programmed_only_for_an_earlier_time() {
        let mut alarm = Alarm::default();
        assert!(!alarm.want(NEVER));
        assert!(alarm.want(100));
        assert!(!alarm.want(100));
        assert!(!alarm.want(200));
        assert!(alarm.want(50));
        alarm.rang();
        assert!(alarm.want(200));
    }

    proptest! {
        #[test]
        fn the_queue_is_first_in_first_out_without_doubles(steps in proptest::collection::vec((0u8..3, 0usize..SLOTS), 0..300)) {
            let (mut queue, mut model) = (RunQueue::default(), VecDeque::new());
            for (step, index) in steps {
                let slot = Slot::new(index).unwrap();
                match step {
                    0 => {
                        queue.push(slot);
                        if !model.contains(&slot) {
                            model.push_back(slot);
                        }
                    }
                    1 => prop_assert_eq!(queue.pop(), model.pop_front()),
                    _ => {
                        queue.remove(slot);
                        model.retain(|other| *other != slot);
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
            prop_assert_eq!(std::iter::from_fn(|| queue.pop()).collect::<Vec<_>>(), Vec::from(model));
        }
    }
}
