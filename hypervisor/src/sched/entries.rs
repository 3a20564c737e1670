//! The VPs of a processor and the list of those that want to run: arrays linked by index.

use super::SLICE;
use super::shares::{Account, Packed, Standing};
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
    /// No place: of a VP that its processor has not seen yet.
    pub const NONE: Self = Self(NONE);
}

/// The processor has as many VPs as it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It does not want to run.
    Blocked,
    /// It waits for its turn.
    Ready,
    /// It wants to run, and has used up its cap in this period.
    Throttled,
    /// It is its turn, even if the root runs meanwhile.
    Chosen,
}

const TWO_SLICES: RefTime = RefTime::from_units(2 * SLICE.units());

/// Virtual time: what VPs have run, divided by their weight. It goes round, so two of them are compared by their
/// difference, which is small for all that want to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VirtualTime(u64);

impl VirtualTime {
    pub(super) const ZERO: Self = Self(0);
    /// Of weight 1 in a unit of time: enough for small differences, and 162 days until they are taken for large ones.
    const SCALE: u32 = 16;

    /// More than a VP can be ahead: two slices of the lightest one.
    const FAR: u64 = Self::of(TWO_SLICES, 1);

    /// What a time counts for a VP of this weight. Nobody runs for longer than a year without an end.
    #[inline]
    pub(super) const fn of(time: RefTime, weight: u16) -> u64 {
        match (time.units() << Self::SCALE).checked_div(weight as u64) {
            Some(time) => time,
            None => 0,
        }
    }

    #[inline]
    pub(super) const fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i64) < 0
    }

    /// The later of the two.
    pub(super) const fn max(self, other: Self) -> Self {
        if self.is_before(other) { other } else { self }
    }

    const fn moved(self, by: u64) -> Self {
        Self(self.0.wrapping_add(by))
    }

    /// The last moment before this one.
    const fn just_before(self) -> Self {
        Self(self.0.wrapping_sub(1))
    }
}

/// A VP.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<V> {
    pub(super) vp: V,
    pub(super) state: State,
    pub(super) account: Account,
    /// What is left of its slice.
    pub(super) left: RefTime,
    /// Who has least of it is next.
    pub(super) time: VirtualTime,
    /// It was ahead by its reserve when it was chosen.
    pub(super) ahead: bool,
    next: u16,
    previous: u16,
}

impl<V> Entry<V> {
    const fn new(vp: V, account: Account, floor: VirtualTime) -> Self {
        let time = floor.moved(account.lag);
        Self {
            vp,
            state: State::Blocked,
            account,
            left: SLICE,
            time,
            ahead: false,
            next: NONE,
            previous: NONE,
        }
    }

    /// It ran from one time to the other.
    #[inline(never)]
    pub(super) fn charge(&mut self, from: RefTime, to: RefTime, floor: VirtualTime) {
        let ran = to.saturating_sub(from);
        let shares = self.account.shares.packed();
        self.reweigh(shares, floor);
        self.account.run_time = self.account.run_time.saturating_add(ran);
        self.left = self.left.saturating_sub(ran);
        self.time = self.time.moved(VirtualTime::of(ran, shares.weight()));
        if shares.has_limits() {
            self.account.charge_limited(from, to, shares);
            self.bound(floor);
        }
    }

    /// What a VP has had by its reserve puts it no more than two slices behind the others: it would have to wait for
    /// them when the reserve is taken away.
    #[cold]
    fn bound(&mut self, floor: VirtualTime) {
        let last = floor.moved(VirtualTime::of(TWO_SLICES, self.account.weight));
        if last.is_before(self.time) {
            self.time = last;
        }
    }

    /// A new weight counts for what the VP has had too much, too.
    #[inline]
    fn reweigh(&mut self, shares: Packed, floor: VirtualTime) {
        if shares.weight() != self.account.weight {
            self.take_weight(shares.weight().max(1), floor);
        }
    }

    #[cold]
    fn take_weight(&mut self, weight: u16, floor: VirtualTime) {
        if floor.is_before(self.time) {
            let lag = u128::from(self.time.0.wrapping_sub(floor.0));
            let lag = lag * u128::from(self.account.weight) / u128::from(weight);
            self.time = floor.moved(lag as u64);
        }
        self.account.weight = weight;
    }

    /// Where it stands, by what its partition has now.
    #[inline]
    pub(super) fn standing(&mut self, period: u64, floor: VirtualTime) -> Standing {
        let shares = self.account.shares.packed();
        self.reweigh(shares, floor);
        self.account.standing(period, shares)
    }

    /// What goes with it to another processor.
    pub(super) const fn leave(&self, floor: VirtualTime) -> Account {
        let mut account = self.account;
        account.lag = if floor.is_before(self.time) {
            self.time.0.wrapping_sub(floor.0)
        } else {
            0
        };
        account
    }

    /// It wants to run after it did not: ahead of all that have had as much, but with nothing saved up, and nothing to make
    /// up for that it did not use.
    pub(super) fn join(&mut self, floor: VirtualTime) {
        if !floor.is_before(self.time) {
            self.time = floor.just_before();
        } else if self.time.0.wrapping_sub(floor.0) > VirtualTime::FAR {
            // It slept until virtual time came round.
            self.bound(floor);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Place<V> {
    Used(Entry<V>),
    Free { next: u16 },
}

/// Up to `N` VPs; those that are ready are in a list, in the order in which they became so.
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

    pub(super) fn add(
        &mut self,
        vp: V,
        account: Account,
        floor: VirtualTime,
    ) -> Result<u16, QueueFull> {
        let index = self.free;
        let place = self.places.get_mut(usize::from(index)).ok_or(QueueFull)?;
        let Place::Free { next } = *place else {
            return Err(QueueFull);
        };
        self.free = next;
        *place = Place::Used(Entry::new(vp, account, floor));
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

    /// The ready ones, oldest first.
    pub(super) fn ready(&self) -> impl Iterator<Item = &Entry<V>> {
        let mut next = self.first;
        core::iter::from_fn(move || {
            let entry = self.get(next)?;
            next = entry.next;
            Some(entry)
        })
    }

    /// The first ready entry, or the one after `index`.
    pub(super) fn next_ready(&mut self, index: Option<u16>) -> Option<(u16, &mut Entry<V>)> {
        let next = match index {
            None => self.first,
            Some(index) => self.get(index)?.next,
        };
        Some((next, self.get_mut(next)?))
    }

    /// Takes the ready one out of the list for its turn, if there is one only and it has no limits.
    #[inline]
    pub(super) fn choose_only(&mut self) -> Option<(u16, &mut Entry<V>)> {
        let index = self.first;
        if index != self.last {
            return None;
        }
        let Some(Place::Used(entry)) = self.places.get_mut(usize::from(index)) else {
            return None;
        };
        if entry.account.shares.packed().has_limits() {
            return None;
        }
        (self.first, self.last) = (NONE, NONE);
        entry.state = State::Chosen;
        Some((index, entry))
    }

    /// Makes an entry that is not ready so, behind all others.
    pub(super) fn push_last(&mut self, index: u16) {
        let last = self.last;
        if let Some(entry) = self.get_mut(index) {
            entry.state = State::Ready;
            entry.previous = last;
            entry.next = NONE;
            self.last = index;
            match self.get_mut(last) {
                Some(entry) => entry.next = index,
                None => self.first = index,
            }
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

    /// Takes a ready entry out of the list, and gives it its new state.
    pub(super) fn unlink(&mut self, index: u16, state: State) {
        if let Some(entry) = self.get_mut(index) {
            let was = core::mem::replace(&mut entry.state, state);
            if was == State::Ready {
                let (previous, next) = (entry.previous, entry.next);
                self.join(previous, next);
            }
        }
    }

    /// Makes those that were throttled ready.
    #[cold]
    pub(super) fn release_throttled(&mut self, floor: VirtualTime) {
        for index in 0..N as u16 {
            if let Some(entry) = self.get_mut(index)
                && entry.state == State::Throttled
            {
                entry.join(floor);
                self.push_last(index);
            }
        }
    }
}
