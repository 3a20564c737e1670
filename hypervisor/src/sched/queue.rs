//! The run queue.

use super::SLICE;
use super::entries::{Entries, Entry, QueueFull, Slot, State};
use crate::time::RefTime;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn<V> {
    /// The VP.
    pub vp: V,
    /// Its place.
    pub slot: Slot,
    /// When to [pick](RunQueue::pick) again at the latest; [`RefTime::MAX`] for the root, which nobody may interrupt.
    pub slice_end: RefTime,
}

/// The VPs of one processor: the root's and up to `N` of children.
///
/// A VP is blocked, ready or running; at most one is running, the one that [`pick`](Self::pick) returned last. Slices
/// count the time that a VP runs, so one that the root interrupts goes on with the rest of its slice, ahead of the
/// others. A child that is ready waits for at most a slice of each other child (and for the root).
#[derive(Debug)]
pub struct RunQueue<V, const N: usize> {
    root: Entry<V>,
    children: Entries<V, N>,
    running: Option<Slot>,
    /// Up to when the running VP's time is accounted.
    since: RefTime,
}

impl<V: Copy, const N: usize> RunQueue<V, N> {
    /// A queue with the processor's root VP, which is blocked.
    pub const fn new(root: V) -> Self {
        Self {
            root: Entry::new(root, RefTime::ZERO),
            children: Entries::new(),
            running: None,
            since: RefTime::ZERO,
        }
    }

    /// Brings a child's VP here, blocked, with the time that it has run elsewhere.
    pub fn add(&mut self, vp: V, run_time: RefTime) -> Result<Slot, QueueFull> {
        self.children.add(vp, run_time).map(Slot)
    }

    /// Takes a child's VP away, whatever its state, and returns it with the time that it has run. The root stays.
    pub fn remove(&mut self, slot: Slot, now: RefTime) -> Option<(V, RefTime)> {
        if slot == Slot::ROOT {
            return None;
        }
        self.block(slot, now);
        let entry = self.children.release(slot.0)?;
        Some((entry.vp, entry.run_time))
    }

    /// The VP wants to run. `true` if it should run now, ahead of whatever the processor does: then pick again. Nothing
    /// happens to one that is not blocked.
    pub fn wake(&mut self, slot: Slot) -> bool {
        let idle = self.running.is_none();
        match self.entry(slot) {
            Some(entry) if entry.state == State::Blocked => {}
            _ => return false,
        }
        if slot == Slot::ROOT {
            self.root.state = State::Ready;
            return true;
        }
        self.children.push_last(slot.0);
        idle
    }

    /// The VP no longer wants to run. It gets a fresh slice when it does again.
    pub fn block(&mut self, slot: Slot, now: RefTime) {
        self.account(now);
        if self.running == Some(slot) {
            self.running = None;
        }
        self.children.unlink(slot.0);
        if let Some(entry) = self.entry_mut(slot) {
            entry.state = State::Blocked;
            entry.left = SLICE;
        }
    }

    /// The running child lets the others go first and forfeits its slice. The root has no others to let go first.
    pub fn yield_turn(&mut self, now: RefTime) {
        self.account(now);
        if let Some(slot) = self.running
            && slot != Slot::ROOT
        {
            self.running = None;
            self.send_back(slot);
        }
    }

    fn send_back(&mut self, slot: Slot) {
        if let Some(entry) = self.entry_mut(slot) {
            entry.left = SLICE;
        }
        self.children.push_last(slot.0);
    }

    /// Whether [`pick`](Self::pick) would choose another VP than the running one.
    pub fn should_preempt(&self, now: RefTime) -> bool {
        match self.running {
            Some(Slot::ROOT) => false,
            Some(slot) => {
                let ran = now.saturating_sub(self.since);
                let expired = self.entry(slot).is_none_or(|entry| entry.left <= ran);
                self.root.state == State::Ready || (expired && self.children.is_any_ready())
            }
            None => self.root.state == State::Ready || self.children.is_any_ready(),
        }
    }

    /// Whose turn it is; `None` if nobody wants to run. Called at the end of a slice, after a wake-up that asks for it,
    /// when the running VP blocks, and at any other time: a turn that is not over goes on.
    pub fn pick(&mut self, now: RefTime) -> Option<Turn<V>> {
        self.account(now);
        if self.root.state != State::Blocked {
            self.interrupt_child();
            return Some(self.run_root());
        }
        if let Some(turn) = self.go_on(now) {
            return Some(turn);
        }
        let (index, entry) = self.children.pop_first()?;
        self.running = Some(Slot(index));
        Some(Turn {
            vp: entry.vp,
            slot: Slot(index),
            slice_end: now.saturating_add(entry.left),
        })
    }

    /// The running child goes on if something is left of its slice, else to the end of the list.
    fn go_on(&mut self, now: RefTime) -> Option<Turn<V>> {
        let slot = self.running?;
        let entry = self.entry(slot)?;
        if entry.left == RefTime::ZERO {
            self.running = None;
            self.send_back(slot);
            return None;
        }
        Some(Turn {
            vp: entry.vp,
            slot,
            slice_end: now.saturating_add(entry.left),
        })
    }

    /// The root comes: a running child goes back to the head of the list, or to the end if its slice is over.
    fn interrupt_child(&mut self) {
        match self.running {
            None | Some(Slot::ROOT) => {}
            Some(slot) => {
                self.running = None;
                if self.entry(slot).is_some_and(|e| e.left == RefTime::ZERO) {
                    self.send_back(slot);
                } else {
                    self.children.push_first(slot.0);
                }
            }
        }
    }

    fn run_root(&mut self) -> Turn<V> {
        self.root.state = State::Running;
        self.running = Some(Slot::ROOT);
        Turn {
            vp: self.root.vp,
            slot: Slot::ROOT,
            slice_end: RefTime::MAX,
        }
    }

    /// Charges the running VP with the time since it was last done.
    fn account(&mut self, now: RefTime) {
        let ran = now.saturating_sub(self.since);
        self.since = self.since.max(now);
        if let Some(slot) = self.running
            && let Some(entry) = self.entry_mut(slot)
        {
            entry.run_time = entry.run_time.saturating_add(ran);
            entry.left = entry.left.saturating_sub(ran);
        }
    }

    /// How long the VP has run up to `now`; `None` if there is none.
    pub fn run_time(&self, slot: Slot, now: RefTime) -> Option<RefTime> {
        let accounted = self.entry(slot)?.run_time;
        if self.running == Some(slot) {
            return Some(accounted.saturating_add(now.saturating_sub(self.since)));
        }
        Some(accounted)
    }

    /// The VP that is running.
    pub const fn running(&self) -> Option<Slot> {
        self.running
    }

    fn entry(&self, slot: Slot) -> Option<&Entry<V>> {
        match slot {
            Slot::ROOT => Some(&self.root),
            Slot(index) => self.children.get(index),
        }
    }

    fn entry_mut(&mut self, slot: Slot) -> Option<&mut Entry<V>> {
        match slot {
            Slot::ROOT => Some(&mut self.root),
            Slot(index) => self.children.get_mut(index),
        }
    }
}
