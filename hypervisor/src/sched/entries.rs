//! The VPs of a processor and the list of those that want to run: arrays linked by index.

use super::SLICE;
use crate::time::RefTime;

/// The end of a list.
const NONE: u16 = u16::MAX;
/// The root VP, which is in no list.
const ROOT: u16 = u16::MAX - 1;

/// A VP's place in the queue of its processor, valid until it is removed; another VP may get it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub(super) u16);

impl Slot {
    /// The root VP's place.
    pub const ROOT: Self = Self(ROOT);
}

/// The processor has as many VPs as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Blocked,
    Ready,
    Running,
}

/// A VP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<V> {
    pub(super) vp: V,
    pub(super) state: State,
    pub(super) run_time: RefTime,
    /// What is left of its slice.
    pub(super) left: RefTime,
    next: u16,
    previous: u16,
}

impl<V> Entry<V> {
    pub(super) const fn new(vp: V, run_time: RefTime) -> Self {
        Self {
            vp,
            state: State::Blocked,
            run_time,
            left: SLICE,
            next: NONE,
            previous: NONE,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Place<V> {
    Used(Entry<V>),
    Free { next: u16 },
}

/// Up to `N` VPs; those that are ready are in a list, oldest first.
///
/// Indexes that are not in use are answered with `None`: a stale [`Slot`] does nothing.
#[derive(Debug)]
pub(super) struct Entries<V, const N: usize> {
    places: [Place<V>; N],
    free: u16,
    first: u16,
    last: u16,
}

impl<V: Copy, const N: usize> Entries<V, N> {
    const SMALL_ENOUGH: () = assert!(N < ROOT as usize);

    pub(super) const fn new() -> Self {
        let () = Self::SMALL_ENOUGH;
        let mut places = [Place::Free { next: NONE }; N];
        let mut index = 1;
        while index < N {
            places[index - 1] = Place::Free { next: index as u16 };
            index += 1;
        }
        Self {
            places,
            free: if N == 0 { NONE } else { 0 },
            first: NONE,
            last: NONE,
        }
    }

    pub(super) fn add(&mut self, vp: V, run_time: RefTime) -> Result<u16, QueueFull> {
        let index = self.free;
        let place = self.places.get_mut(usize::from(index)).ok_or(QueueFull)?;
        let Place::Free { next } = *place else {
            return Err(QueueFull);
        };
        self.free = next;
        *place = Place::Used(Entry::new(vp, run_time));
        Ok(index)
    }

    /// Takes the entry out; the caller has unlinked it.
    pub(super) fn release(&mut self, index: u16) -> Option<Entry<V>> {
        let entry = *self.get(index)?;
        *self.places.get_mut(usize::from(index))? = Place::Free { next: self.free };
        self.free = index;
        Some(entry)
    }

    pub(super) fn get(&self, index: u16) -> Option<&Entry<V>> {
        match self.places.get(usize::from(index)) {
            Some(Place::Used(entry)) => Some(entry),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, index: u16) -> Option<&mut Entry<V>> {
        match self.places.get_mut(usize::from(index)) {
            Some(Place::Used(entry)) => Some(entry),
            _ => None,
        }
    }

    pub(super) const fn is_any_ready(&self) -> bool {
        self.first != NONE
    }

    /// Makes an entry that is not ready so, behind all others.
    pub(super) fn push_last(&mut self, index: u16) {
        if let Some(entry) = self.get_mut(index) {
            entry.state = State::Ready;
            self.join(self.last, index);
            self.join(index, NONE);
        }
    }

    /// Makes an entry that is not ready so, ahead of all others.
    pub(super) fn push_first(&mut self, index: u16) {
        if let Some(entry) = self.get_mut(index) {
            entry.state = State::Ready;
            self.join(index, self.first);
            self.join(NONE, index);
        }
    }

    /// Makes `before` and `after` neighbours, where [`NONE`] is the end of the list.
    fn join(&mut self, before: u16, after: u16) {
        match self.get_mut(before) {
            Some(entry) => entry.next = after,
            None => self.first = after,
        }
        match self.get_mut(after) {
            Some(entry) => entry.previous = before,
            None => self.last = before,
        }
    }

    /// Takes a ready entry out of the list; the caller gives it its new state.
    pub(super) fn unlink(&mut self, index: u16) {
        if let Some(entry) = self.get(index)
            && entry.state == State::Ready
        {
            self.join(entry.previous, entry.next);
        }
    }

    /// Takes the first ready entry out of the list and lets it run.
    pub(super) fn pop_first(&mut self) -> Option<(u16, &mut Entry<V>)> {
        let index = self.first;
        self.unlink(index);
        let entry = self.get_mut(index)?;
        entry.state = State::Running;
        Some((index, entry))
    }
}
