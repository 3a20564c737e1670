//! Which process runs next, and when the timer must ring. No time of its own: callers say what time it is.

use crate::frames::{SLOTS, Slot};

/// Reference time of a whole time slice, 100 ns.
pub const SLICE: u64 = 100_000;
/// "Never", as a time.
pub const NEVER: u64 = u64::MAX;

/// Most processors that the kernel runs on.
pub const PROCESSORS: usize = 16;
/// How often the first of the queue may see others preferred.
const PATIENCE: u8 = 8;

/// One of the processors (VPs of the root) that the kernel runs on, by the kernel's own number: 0 is the one it began on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Processor(u8);

impl Processor {
    /// The one the kernel began on: it has the root task and the serial line.
    pub const FIRST: Self = Self(0);

    /// The processor of that number.
    pub const fn new(index: usize) -> Option<Self> {
        if index < PROCESSORS {
            Some(Self(index as u8))
        } else {
            None
        }
    }

    /// Its number, below [`PROCESSORS`].
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    fn bit(self) -> u16 {
        1 << self.0
    }
}

/// The processes that can run, in order. A process is in it at most once, so it cannot overflow, and needs no heap.
#[derive(Clone, Debug)]
pub struct RunQueue {
    ring: [Slot; SLOTS],
    first: usize,
    len: usize,
    queued: u64,
    /// How often the first one has seen others preferred.
    passed_over: u8,
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
        passed_over: 0,
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

    /// Takes the first that `prefer` likes, or the first of all if there is none, or if it has been passed over too
    /// often.
    pub fn pop(&mut self, prefer: impl Fn(Slot) -> bool) -> Option<Slot> {
        let liked = (0..self.len).find(|at| self.at(*at).is_some_and(&prefer));
        match liked {
            Some(at) if at > 0 && self.passed_over < PATIENCE => {
                self.passed_over += 1;
                let slot = self.at(at)?;
                self.remove(slot);
                Some(slot)
            }
            _ => self.pop_first(),
        }
    }

    fn pop_first(&mut self) -> Option<Slot> {
        if self.len == 0 {
            return None;
        }
        let slot = self.at(0)?;
        self.first = (self.first + 1) % SLOTS;
        self.len -= 1;
        self.queued &= !bit(slot);
        self.passed_over = 0;
        Some(slot)
    }

    fn at(&self, index: usize) -> Option<Slot> {
        self.ring.get((self.first + index) % SLOTS).copied()
    }

    /// Takes a process out, wherever it is.
    pub fn remove(&mut self, slot: Slot) {
        let Some(at) = (0..self.len).find(|at| self.at(*at) == Some(slot)) else {
            return;
        };
        if at == 0 {
            self.pop_first();
            return;
        }
        for place in at..self.len - 1 {
            if let Some(next) = self.at(place + 1)
                && let Some(place) = self.ring.get_mut((self.first + place) % SLOTS)
            {
                *place = next;
            }
        }
        self.len -= 1;
        self.queued &= !bit(slot);
    }

    /// Whether nobody waits for a processor.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

fn bit(slot: Slot) -> u64 {
    1 << (slot.index() % SLOTS)
}

/// Which processors halt because they have nothing to do, and who of them is to take work.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idle {
    /// They halt.
    halted: u16,
    /// Of these, the ones in whose hands there is no process that waits.
    free: u16,
}

impl Idle {
    /// All processors have something to do.
    pub const NONE: Self = Self { halted: 0, free: 0 };

    /// A processor is about to halt; with the process that it has run last in its hands, or `free` of any.
    pub fn halt(&mut self, processor: Processor, free: bool) {
        self.halted |= processor.bit();
        if free {
            self.free |= processor.bit();
        }
    }

    /// A processor does not halt any more, or is sent for: nobody else has to.
    pub fn wake(&mut self, processor: Processor) {
        self.halted &= !processor.bit();
        self.free &= !processor.bit();
    }

    /// Whether a processor halts, and nobody has sent for it.
    pub fn halts(&self, processor: Processor) -> bool {
        self.halted & processor.bit() != 0
    }

    /// Who is to be sent for when a process that prefers `home` can run: `home` if it halts, else anybody who does,
    /// those without a process first. Nobody if `me`, who asks, will take it at once (`at_hand`), or nobody halts.
    pub fn choose(&self, home: Processor, me: Processor, at_hand: bool) -> Option<Processor> {
        let others = Self {
            halted: self.halted & !me.bit(),
            free: self.free & !me.bit(),
        };
        if others.halts(home) {
            Some(home)
        } else if at_hand {
            None
        } else {
            others.any()
        }
    }

    fn any(&self) -> Option<Processor> {
        let from = if self.free != 0 {
            self.free
        } else {
            self.halted
        };
        (from != 0).then(|| Processor(from.trailing_zeros() as u8))
    }
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

    fn processor(index: usize) -> Processor {
        Processor::new(index).unwrap()
    }

    fn slots(range: std::ops::Range<usize>) -> impl Iterator<Item = Slot> {
        range.map(|index| Slot::new(index).unwrap())
    }

    #[test]
    fn a_process_is_preferred_where_it_belongs_but_nobody_waits_for_ever() {
        let mut queue = RunQueue::default();
        slots(1..4).for_each(|slot| queue.push(slot));
        let third = Slot::new(3).unwrap();
        let mut before_the_first = 0;
        while queue.pop(|slot| slot == third) == Some(third) {
            queue.push(third);
            before_the_first += 1;
        }
        assert_eq!(before_the_first, PATIENCE);
        // The next one has its own patience.
        assert_eq!(queue.pop(|slot| slot == third), Some(third));
        assert_eq!(queue.pop(|slot| slot == third), Slot::new(2));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_processor_that_halts_is_sent_for_once() {
        let mut idle = Idle::default();
        let [home, other, me] = [2, 5, 0].map(processor);
        assert_eq!(idle.choose(home, me, false), None);
        idle.halt(home, false);
        idle.halt(other, true);
        assert_eq!(idle.choose(home, me, false), Some(home));
        assert_eq!(idle.choose(home, me, true), Some(home), "it belongs there");
        assert_eq!(idle.choose(me, me, true), None, "I take it");
        assert_eq!(idle.choose(me, me, false), Some(other), "it has no process");
        idle.wake(home);
        assert_eq!(idle.choose(home, me, false), Some(other));
        assert_eq!(idle.choose(home, me, true), None);
        idle.wake(other);
        assert_eq!(idle.choose(home, me, false), None);
    }

    #[test]
    fn who_asks_is_never_sent_for() {
        let mut idle = Idle::default();
        let me = processor(15);
        idle.halt(me, true);
        assert!(idle.halts(me));
        assert_eq!(idle.choose(me, me, false), None);
        assert_eq!(Processor::new(PROCESSORS), None);
    }

    proptest! {
        #[test]
        fn whatever_is_preferred_all_processes_come_out_once(
            pushed in proptest::collection::vec(0usize..SLOTS, 0..100), liked: u64
        ) {
            let mut queue = RunQueue::default();
            let mut model = Vec::new();
            for slot in pushed.into_iter().filter_map(Slot::new) {
                queue.push(slot);
                if !model.contains(&slot) {
                    model.push(slot);
                }
            }
            let mut out: Vec<_> = std::iter::from_fn(|| queue.pop(|slot| liked & bit(slot) != 0)).collect();
            out.sort();
            model.sort();
            prop_assert_eq!(out, model);
        }

        #[test]
        fn nobody_is_passed_over_more_than_a_bounded_number_of_times(liked: u64, others in 1usize..10) {
            let mut queue = RunQueue::default();
            slots(0..others + 1).for_each(|slot| queue.push(slot));
            let last = Slot::new(others).unwrap();
            let mut turns = 0;
            loop {
                let slot = queue.pop(|slot| slot != last && liked & bit(slot) != 0).unwrap();
                if slot == last {
                    break;
                }
                queue.push(slot);
                turns += 1;
            }
            prop_assert!(turns <= (others + 1) * (usize::from(PATIENCE) + 1));
        }

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
                    1 => prop_assert_eq!(queue.pop(|_| false), model.pop_front()),
                    _ => {
                        queue.remove(slot);
                        model.retain(|other| *other != slot);
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
            prop_assert_eq!(std::iter::from_fn(|| queue.pop(|_| true)).collect::<Vec<_>>(), Vec::from(model));
        }
    }
}
