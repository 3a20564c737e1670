//! The run queue.

use super::entries::{Entries, QueueFull, Slot, State, VirtualTime};
use super::shares::{Standing, end_of, period_of};
use super::{Account, SHORTEST, SLICE};
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
/// Of the children that want to run, those that have had less than their reserve in this period go first, and of these,
/// as of the others, the one that has least virtual time. A child that has used up its cap waits for the next period, and
/// none keeps its turn into that before those who have new reserves then. Slices count the time that a VP runs, so one that
/// the root interrupts goes on with the rest of its slice.
///
/// A child that wants to run waits, for each other child of its own weight, at most two slices, and for one that is `n`
/// times as heavy, `n + 1`: the root's time and reserves come on top. Picking takes time in proportion to the number of
/// children that are ready, and once in a period, to `N`; all else takes constant time.
#[derive(Debug)]
pub struct RunQueue<V, const N: usize> {
    root: Root<V>,
    children: Entries<V, N>,
    running: Option<Slot>,
    /// The child whose turn it is, also while the root runs.
    chosen: Option<u16>,
    /// The child whose turn ended last, until somebody asks.
    passed: Option<u16>,
    /// Up to when the running VP's time is accounted.
    since: RefTime,
    /// For how long anybody has run.
    busy: RefTime,
    /// The least virtual time of those that want to run, when it was last looked for. It never goes back.
    floor: VirtualTime,
    /// How many are throttled, until when.
    throttled: u16,
    released_at: RefTime,
    /// How many children are ready or chosen.
    wanting: u16,
}

#[derive(Clone, Copy, Debug)]
struct Root<V> {
    vp: V,
    wants: bool,
    run_time: RefTime,
}

/// What a look at the ready children found.
#[derive(Clone, Copy)]
struct Best {
    index: u16,
    standing: Standing,
    time: VirtualTime,
    /// Any of the ready ones has a reserve.
    reserved: bool,
}

impl<V: Copy, const N: usize> RunQueue<V, N> {
    /// A queue with the processor's root VP, which is blocked.
    ///
    /// Some 20 KiB: inline and from a constant, so that it is made where it stays rather than copied over the stack.
    #[inline(always)]
    pub const fn new(root: V) -> Self {
        Self {
            root: Root {
                vp: root,
                wants: false,
                run_time: RefTime::ZERO,
            },
            children: const { Entries::new() },
            running: None,
            chosen: None,
            passed: None,
            since: RefTime::ZERO,
            busy: RefTime::ZERO,
            floor: VirtualTime::ZERO,
            throttled: 0,
            released_at: RefTime::MAX,
            wanting: 0,
        }
    }

    /// Brings a child's VP here, blocked, with what it has run elsewhere.
    ///
    /// # Errors
    /// [`QueueFull`].
    pub fn add(&mut self, vp: V, account: Account) -> Result<Slot, QueueFull> {
        self.children.add(vp, account, self.floor).map(Slot)
    }

    /// Takes a child's VP away, whatever its state, and returns it with what it has run. The root stays.
    pub fn remove(&mut self, slot: Slot, now: RefTime) -> Option<(V, Account)> {
        if slot == Slot::ROOT {
            return None;
        }
        self.block(slot, now);
        let entry = self.children.release(slot.0)?;
        Some((entry.vp, entry.leave(self.floor)))
    }

    /// The child whose turn ended last, if it still waits for the next one; told once.
    #[inline]
    pub fn take_passed(&mut self) -> Option<(V, Slot)> {
        let index = self.passed.take()?;
        let entry = self.children.get(index)?;
        (entry.state == State::Ready).then_some((entry.vp, Slot(index)))
    }

    /// How many children want to run, the one whose turn it is included, and those that have used up their cap not.
    pub const fn load(&self) -> usize {
        self.wanting as usize
    }

    /// The VP wants to run. `true` if somebody else than now may have to run, at once or soon: then pick again. Nothing
    /// happens to one that is not blocked.
    pub fn wake(&mut self, slot: Slot) -> bool {
        if slot == Slot::ROOT {
            return !core::mem::replace(&mut self.root.wants, true);
        }
        let floor = self.floor;
        let Some(entry) = self.children.get_mut(slot.0) else {
            return false;
        };
        if entry.state != State::Blocked {
            return false;
        }
        entry.join(floor);
        let time = entry.time;
        self.children.push_last(slot.0);
        self.wanting += 1;
        match self.running {
            None => true,
            Some(Slot::ROOT) => {
                self.shorten(time);
                false
            }
            Some(_) => self.shorten(time),
        }
    }

    /// Somebody woke with this virtual time. If the child whose turn it is has had as much, its turn ends soon.
    fn shorten(&mut self, time: VirtualTime) -> bool {
        let chosen = self.chosen.and_then(|index| self.children.get_mut(index));
        let Some(entry) = chosen.filter(|entry| !entry.ahead && !entry.time.is_before(time)) else {
            return false;
        };
        let had = SLICE.saturating_sub(entry.left);
        entry.left = entry.left.min(SHORTEST.saturating_sub(had));
        true
    }

    /// The VP no longer wants to run. It gets a fresh slice when it does again.
    pub fn block(&mut self, slot: Slot, now: RefTime) {
        self.account(now);
        if self.running == Some(slot) {
            self.running = None;
        }
        if slot == Slot::ROOT {
            self.root.wants = false;
            return;
        }
        let Some(entry) = self.children.get_mut(slot.0) else {
            return;
        };
        entry.left = SLICE;
        if entry.state == State::Chosen {
            entry.state = State::Blocked;
            self.chosen = None;
            self.wanting -= 1;
        } else {
            self.drop_out(slot.0);
        }
    }

    /// A child that does not run no longer wants to.
    #[inline(never)]
    fn drop_out(&mut self, index: u16) {
        match self.children.get(index).map(|entry| entry.state) {
            Some(State::Throttled) => self.throttled -= 1,
            Some(State::Ready) => self.wanting -= 1,
            _ => {}
        }
        self.children.unlink(index, State::Blocked);
    }

    /// The running child lets the next one go first, even if that has had more, and forfeits its slice. The root has nobody
    /// to let go first.
    pub fn yield_turn(&mut self, now: RefTime) {
        self.account(now);
        if let Some(Slot(index)) = self.running
            && index != Slot::ROOT.0
        {
            self.running = None;
            let times = self.children.ready().map(|entry| entry.time);
            let next = times.reduce(|a, b| if b.is_before(a) { b } else { a });
            if let (Some(entry), Some(next)) = (self.children.get_mut(index), next) {
                entry.time = entry.time.max(next);
            }
            self.send_back(index);
        }
    }

    /// The turn of the chosen child is over.
    fn send_back(&mut self, index: u16) {
        self.chosen = None;
        self.passed = Some(index);
        if let Some(entry) = self.children.get_mut(index) {
            entry.left = SLICE;
        }
        self.children.push_last(index);
    }

    /// Whether a turn is over, or the root wants to run. Who has only used up a cap or a reserve learns it by the end of its
    /// slice.
    pub fn should_preempt(&self, now: RefTime) -> bool {
        match self.running {
            Some(Slot::ROOT) => false,
            Some(Slot(index)) => {
                let ran = now.saturating_sub(self.since);
                let expired = self.children.get(index).is_none_or(|e| e.left <= ran);
                self.root.wants || (expired && self.children.is_any_ready())
            }
            None => self.root.wants || self.children.is_any_ready(),
        }
    }

    /// Whose turn it is; `None` if nobody may run before [`next_release`](Self::next_release). Called at the end of a slice,
    /// after a wake-up that asks for it, when the running VP blocks, and at any other time: a turn that is not over goes on.
    pub fn pick(&mut self, now: RefTime) -> Option<Turn<V>> {
        self.account(now);
        if self.root.wants {
            self.running = Some(Slot::ROOT);
            return Some(Turn {
                vp: self.root.vp,
                slot: Slot::ROOT,
                slice_end: RefTime::MAX,
            });
        }
        if now >= self.released_at {
            self.release();
        }
        self.running = None;
        if self.chosen.is_none()
            && let Some((index, entry)) = self.children.choose_only()
        {
            entry.ahead = false;
            self.floor = self.floor.max(entry.time);
            self.chosen = Some(index);
            self.running = Some(Slot(index));
            return Some(Turn {
                vp: entry.vp,
                slot: Slot(index),
                slice_end: now.saturating_add(entry.left).min(self.released_at),
            });
        }
        self.pick_among(now)
    }

    /// The general case of [`pick`](Self::pick).
    #[inline(never)]
    fn pick_among(&mut self, now: RefTime) -> Option<Turn<V>> {
        let period = period_of(now);
        let standing = self.keep_chosen(period);
        let best = self.survey(period);
        let until = if best.is_some_and(|best| best.reserved) {
            end_of(period)
        } else {
            self.released_at
        };
        match (standing, best) {
            (Some(standing), best) if standing.ahead || best.is_none_or(|b| !b.standing.ahead) => {
                self.choose(self.chosen?, standing, now, until)
            }
            (_, Some(best)) => {
                if let Some(index) = self.chosen {
                    self.send_back(index);
                }
                self.choose(best.index, best.standing, now, until)
            }
            (_, None) => None,
        }
    }

    /// It is this one's turn, or still is: no longer than to `until`, when others may have new reserves, unless it has one.
    fn choose(
        &mut self,
        index: u16,
        standing: Standing,
        now: RefTime,
        until: RefTime,
    ) -> Option<Turn<V>> {
        self.children.unlink(index, State::Chosen);
        let entry = self.children.get_mut(index)?;
        entry.ahead = standing.ahead;
        let until = if standing.ahead { RefTime::MAX } else { until };
        let slice_end = now.saturating_add(entry.left.min(standing.left));
        let turn = Turn {
            vp: entry.vp,
            slot: Slot(index),
            slice_end: slice_end.min(until),
        };
        self.chosen = Some(index);
        self.running = Some(Slot(index));
        Some(turn)
    }

    /// When to pick again though nobody wants to run: [`RefTime::MAX`] unless somebody has used up a cap.
    pub const fn next_release(&self) -> RefTime {
        self.released_at
    }

    /// A period is over: those who had used up their caps may have their turn again.
    #[cold]
    fn release(&mut self) {
        self.children.release_throttled(self.floor);
        self.wanting += self.throttled;
        self.throttled = 0;
        self.released_at = RefTime::MAX;
    }

    /// Where the chosen child stands, if its turn is not over, as it is with the reserve that gave it the turn. Otherwise it
    /// goes back to the others.
    fn keep_chosen(&mut self, period: u64) -> Option<Standing> {
        let index = self.chosen?;
        let entry = self.children.get_mut(index)?;
        let standing = entry.standing(period, self.floor);
        let was_ahead = entry.ahead && !standing.ahead;
        if was_ahead || entry.left == RefTime::ZERO || standing.left == RefTime::ZERO {
            self.send_back(index);
            return None;
        }
        Some(standing)
    }

    /// The ready child that is next. Those that have used up their caps drop out on the way.
    fn survey(&mut self, period: u64) -> Option<Best> {
        let mut best: Option<Best> = None;
        let chosen = self.chosen.and_then(|index| self.children.get(index));
        let mut least = chosen.map(|entry| entry.time);
        let (mut last, floor) = (None, self.floor);
        let mut reserved = false;
        while let Some((index, entry)) = self.children.next_ready(last) {
            let (standing, time) = (entry.standing(period, floor), entry.time);
            if standing.left == RefTime::ZERO {
                self.throttle(index, period);
                continue;
            }
            last = Some(index);
            reserved |= standing.reserved;
            if least.is_none_or(|least| time.is_before(least)) {
                least = Some(time);
            }
            let better = best.is_none_or(|best| match (standing.ahead, best.standing.ahead) {
                (true, false) => true,
                (false, true) => false,
                _ => time.is_before(best.time),
            });
            if better {
                best = Some(Best {
                    index,
                    standing,
                    time,
                    reserved: false,
                });
            }
        }
        if let Some(least) = least {
            self.floor = self.floor.max(least);
        }
        best.map(|best| Best { reserved, ..best })
    }

    /// A ready child has used up its cap until the period ends.
    fn throttle(&mut self, index: u16, period: u64) {
        self.children.unlink(index, State::Throttled);
        self.wanting -= 1;
        self.throttled += 1;
        self.released_at = end_of(period);
    }

    /// Charges the running VP with the time since it was last done.
    #[inline(always)]
    fn account(&mut self, now: RefTime) {
        let since = self.since;
        if now <= since {
            return;
        }
        self.since = now;
        let Some(slot) = self.running else {
            return;
        };
        let ran = now.saturating_sub(since);
        self.busy = self.busy.saturating_add(ran);
        if slot == Slot::ROOT {
            self.root.run_time = self.root.run_time.saturating_add(ran);
        } else if let Some(entry) = self.children.get_mut(slot.0) {
            entry.charge(since, now, self.floor);
        }
    }

    /// How long the VP has run up to `now`; `None` if there is none.
    pub fn run_time(&self, slot: Slot, now: RefTime) -> Option<RefTime> {
        let accounted = match slot {
            Slot::ROOT => self.root.run_time,
            Slot(index) => self.children.get(index)?.account.run_time,
        };
        Some(accounted.saturating_add(self.unaccounted(self.running == Some(slot), now)))
    }

    /// For how long VPs have run here up to `now`, all together.
    pub fn busy(&self, now: RefTime) -> RefTime {
        let unaccounted = self.unaccounted(self.running.is_some(), now);
        self.busy.saturating_add(unaccounted)
    }

    fn unaccounted(&self, runs: bool, now: RefTime) -> RefTime {
        if runs {
            now.saturating_sub(self.since)
        } else {
            RefTime::ZERO
        }
    }

    /// The VP that is running.
    pub const fn running(&self) -> Option<Slot> {
        self.running
    }
}
