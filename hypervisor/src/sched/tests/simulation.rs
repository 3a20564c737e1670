//! The queue on virtual time: guests that run and sleep, a root that interrupts them, a timer.

use super::*;

/// What a VP does, over and over: wants to run for so long, then sleeps for so long (both in microseconds).
#[derive(Clone, Debug)]
struct Habit {
    shares: Shares,
    /// Nothing: it always wants to run.
    bursts: Vec<(u64, u64)>,
}

impl Habit {
    fn spins(shares: Shares) -> Self {
        Self {
            shares,
            bursts: Vec::new(),
        }
    }

    fn weighs(weight: u16) -> Self {
        Self::spins(Shares {
            weight,
            ..Shares::NEW
        })
    }
}

struct Guest {
    slot: Slot,
    habit: Habit,
    next_burst: usize,
    /// Of its burst.
    left: u64,
    /// When it wakes, if it sleeps.
    wakes: Option<u64>,
    /// Of what others ran, since it began to wait.
    waited: u64,
    longest_wait: u64,
    /// From its wake-ups to its turns.
    slowest_start: u64,
    has_started: bool,
    /// In each period.
    ran: Vec<u64>,
}

/// Times in units of 100 ns.
struct Simulation {
    queue: RunQueue<usize, 16>,
    guests: Vec<Guest>,
    now: u64,
    root_ran: u64,
    idle: u64,
}

const ROOT_NAME: usize = 99;
const MILLI: u64 = 10_000;
const SECOND: u64 = 1000 * MILLI;

impl Simulation {
    fn new(habits: &[Habit]) -> Self {
        let mut queue = RunQueue::new(ROOT_NAME);
        let guests = habits.iter().cloned().enumerate().map(|(index, habit)| {
            let account = Account::new(shares(habit.shares));
            let slot = queue.add(index, account).unwrap();
            queue.wake(slot);
            Guest {
                slot,
                left: habit.bursts.first().map_or(u64::MAX, |burst| burst.0 * 10),
                habit,
                next_burst: 0,
                wakes: None,
                waited: 0,
                longest_wait: 0,
                slowest_start: 0,
                has_started: true,
                ran: Vec::new(),
            }
        });
        Self {
            guests: guests.collect(),
            queue,
            now: 0,
            root_ran: 0,
            idle: 0,
        }
    }

    /// Runs for so long; the root interrupts, cyclically, after so much and for so long (microseconds).
    fn run(&mut self, length: u64, root: &[(u64, u64)]) {
        let end = self.now + length;
        let mut roots = root.iter().cycle();
        let mut root_at = roots.next().map(|&(after, long)| (after * 10, long * 10));
        while self.now < end {
            let turn = self.queue.pick(RefTime::from_units(self.now));
            let mut until = match &turn {
                Some(turn) => turn.slice_end.units(),
                None => self.queue.next_release().units(),
            };
            until = until.min(end);
            if let Some((at, long)) = root_at {
                if at <= self.now {
                    self.run_root(long);
                    let &(after, next) = roots.next().unwrap();
                    root_at = Some((self.now + after * 10, next * 10));
                    continue;
                }
                until = until.min(at);
            }
            self.run_until(turn.map(|turn| turn.vp), until);
        }
    }

    fn run_root(&mut self, long: u64) {
        assert!(self.queue.wake(Slot::ROOT));
        let turn = self.queue.pick(RefTime::from_units(self.now)).unwrap();
        assert_eq!(turn.vp, ROOT_NAME, "the root goes first");
        for _ in 0..2 {
            self.now += long / 2;
            self.root_ran += long / 2;
            self.wake_sleepers();
            assert!(!self.queue.should_preempt(RefTime::from_units(self.now)));
        }
        self.queue.block(Slot::ROOT, RefTime::from_units(self.now));
    }

    /// The one whose turn it is runs until then, or until it sleeps, or until somebody wakes who asks for a pick.
    fn run_until(&mut self, vp: Option<usize>, until: u64) {
        loop {
            let sleepers = self.guests.iter().filter_map(|guest| guest.wakes);
            let mut stop = sleepers.min().unwrap_or(u64::MAX).min(until);
            if let Some(vp) = vp {
                stop = stop.min(self.now.saturating_add(self.guests[vp].left));
            }
            let ran = stop - self.now;
            self.now = stop;
            match vp {
                Some(vp) => self.charge(vp, ran),
                None => self.idle += ran,
            }
            let asked = self.wake_sleepers();
            let slept = vp.is_some_and(|vp| self.sleep(vp));
            let now = RefTime::from_units(self.now);
            if asked || slept || self.now >= until || self.queue.should_preempt(now) {
                return;
            }
        }
    }

    fn charge(&mut self, vp: usize, ran: u64) {
        let period = (self.now / PERIOD.units()) as usize;
        let since = self.now % PERIOD.units();
        for (index, guest) in self.guests.iter_mut().enumerate() {
            guest.ran.resize(guest.ran.len().max(period + 1), 0);
            if index == vp {
                // A turn is shorter than a period.
                let before = ran.saturating_sub(since);
                guest.ran[period.saturating_sub(1)] += before;
                guest.ran[period] += ran - before;
                guest.left -= ran.min(guest.left);
                guest.longest_wait = guest.longest_wait.max(guest.waited);
                if !core::mem::replace(&mut guest.has_started, true) {
                    guest.slowest_start = guest.slowest_start.max(guest.waited);
                }
                guest.waited = 0;
            } else if guest.wakes.is_none() {
                guest.waited += ran;
            }
        }
    }

    fn wake_sleepers(&mut self) -> bool {
        let mut asked = false;
        for guest in &mut self.guests {
            if guest.wakes.is_some_and(|at| at <= self.now) {
                guest.wakes = None;
                guest.waited = 0;
                guest.has_started = false;
                guest.left = guest.habit.bursts[guest.next_burst].0 * 10;
                asked |= self.queue.wake(guest.slot);
            }
        }
        asked
    }

    fn sleep(&mut self, vp: usize) -> bool {
        let guest = &mut self.guests[vp];
        if guest.left != 0 {
            return false;
        }
        let long = guest.habit.bursts[guest.next_burst].1 * 10;
        guest.next_burst = (guest.next_burst + 1) % guest.habit.bursts.len();
        guest.wakes = Some(self.now + long.max(1));
        self.queue.block(guest.slot, RefTime::from_units(self.now));
        true
    }

    fn total(&self, vp: usize) -> u64 {
        self.guests[vp].ran.iter().sum()
    }

    /// A part of a whole, in thousandths.
    fn part(&self, vp: usize, whole: u64) -> u64 {
        self.total(vp) * 1000 / whole.max(1)
    }

    fn check_sums(&self) {
        let now = RefTime::from_units(self.now);
        let mut sum = self.root_ran;
        let root = self.queue.run_time(Slot::ROOT, now);
        assert_eq!(root, Some(RefTime::from_units(self.root_ran)));
        for (vp, guest) in self.guests.iter().enumerate() {
            let found = self.queue.run_time(guest.slot, now);
            assert_eq!(found, Some(RefTime::from_units(self.total(vp))));
            sum += self.total(vp);
        }
        assert_eq!(sum + self.idle, self.now, "of VPs and idle");
        assert_eq!(self.queue.busy(now), RefTime::from_units(sum));
    }
}

fn bursts() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((1u64..30_000, 1u64..60_000), 1..20)
}

fn weights() -> impl Strategy<Value = u16> {
    prop_oneof![Just(100), 1..=200u16, 1..=Shares::MAX_WEIGHT]
}

/// The root's visits: after how long, and for how long.
fn visits() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((200u64..30_000, 2u64..3_000), 0..10)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever others do that sleep and wake, those that always want to run share by their weights.
    #[test]
    fn shares_are_as_the_weights(
        weights in prop::collection::vec(weights(), 2..6),
        sleepers in prop::collection::vec((weights(), bursts()), 0..4),
        root in visits(),
    ) {
        let spinning = weights.len();
        let mut habits: Vec<_> = weights.iter().map(|&weight| Habit::weighs(weight)).collect();
        habits.extend(sleepers.into_iter().map(|(weight, bursts)| Habit {
            bursts,
            ..Habit::weighs(weight)
        }));
        let mut simulation = Simulation::new(&habits);
        simulation.run(60 * SECOND, &root);
        simulation.check_sums();
        let whole: u64 = (0..spinning).map(|vp| simulation.total(vp)).sum();
        let weight: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        for (vp, &own) in weights.iter().enumerate() {
            let (found, wanted) = (simulation.part(vp, whole), u64::from(own) * 1000 / weight);
            prop_assert!(found.abs_diff(wanted) <= 20, "{vp}: {found} and not {wanted} of {weights:?}");
        }
    }

    /// Who sleeps saves up nothing: it never gets more than one that always wants to run would.
    #[test]
    fn sleeping_and_waking_gains_nothing(
        own in weights(),
        bursts in bursts(),
        others in prop::collection::vec(weights(), 1..5),
    ) {
        let mut habits: Vec<_> = others.iter().map(|&weight| Habit::weighs(weight)).collect();
        habits.push(Habit { bursts, ..Habit::weighs(own) });
        let mut simulation = Simulation::new(&habits);
        simulation.run(60 * SECOND, &[]);
        let vp = others.len();
        let weight: u64 = others.iter().map(|&weight| u64::from(weight)).sum();
        let (found, fair) = (
            simulation.part(vp, simulation.now),
            u64::from(own) * 1000 / (weight + u64::from(own)),
        );
        prop_assert!(found <= fair + 20, "{found} and not at most {fair}");
    }

    #[test]
    fn nobody_waits_for_more_than_two_slices_of_each_other_one_of_its_weight(
        others in 1usize..6,
        sleepers in prop::collection::vec(bursts(), 0..4),
        root in visits(),
    ) {
        let mut habits = vec![Habit::weighs(100); others];
        habits.extend(sleepers.into_iter().map(|bursts| Habit { bursts, ..Habit::weighs(100) }));
        let mut simulation = Simulation::new(&habits);
        simulation.run(20 * SECOND, &root);
        let bound = 2 * SLICE.units() * (habits.len() as u64 - 1);
        for guest in &simulation.guests {
            prop_assert!(guest.longest_wait.max(guest.waited) <= bound, "{}", guest.longest_wait);
        }
    }

    /// And who has not had more than its share begins to run within one.
    #[test]
    fn a_vp_that_wakes_runs_within_a_slice(
        others in 1usize..6,
        bursts in prop::collection::vec((1u64..2_000, 100_000u64..300_000), 1..20),
        root in visits(),
    ) {
        let mut habits = vec![Habit::weighs(100); others];
        habits.push(Habit { bursts, ..Habit::weighs(100) });
        let mut simulation = Simulation::new(&habits);
        simulation.run(20 * SECOND, &root);
        let slowest = simulation.guests[others].slowest_start;
        prop_assert!(slowest <= SLICE.units(), "{slowest}");
        // It takes effect long before, unless a turn has just begun.
        prop_assert!(slowest <= SHORTEST.units() || others > 1, "{slowest}");
    }

    #[test]
    fn caps_hold_and_are_reached(
        cap in 1u32..=95,
        others in 0usize..2,
        root in visits(),
    ) {
        let capped = Shares { cap: WHOLE * cap / 100, ..Shares::NEW };
        let mut habits = vec![Habit::weighs(100); others];
        habits.push(Habit::spins(capped));
        let mut simulation = Simulation::new(&habits);
        simulation.run(20 * SECOND, &root);
        simulation.check_sums();
        let found = simulation.part(others, simulation.now);
        prop_assert!(found <= u64::from(cap) * 10 + 1, "{found} of {cap} %");
        for &ran in &simulation.guests[others].ran {
            prop_assert!(ran <= PERIOD.units() * u64::from(cap) / 100 + MILLI / 100, "{ran}");
        }
        let given = (simulation.now - simulation.root_ran) * 1000 / simulation.now;
        let fair = given / (others as u64 + 1);
        let wanted = fair.min(u64::from(cap) * 10);
        prop_assert!(found + 30 >= wanted, "{found}, not {wanted}");
    }

    #[test]
    fn reserves_hold_in_each_period(
        reserves in prop::collection::vec(1u32..=33, 1..4),
        others in prop::collection::vec(weights(), 1..4),
    ) {
        let mut habits: Vec<_> = others.iter().map(|&weight| Habit::weighs(weight)).collect();
        habits.extend(reserves.iter().map(|&reserve| Habit::spins(Shares {
            weight: 1,
            reserve: WHOLE * reserve / 100,
            ..Shares::NEW
        })));
        let mut simulation = Simulation::new(&habits);
        simulation.run(20 * SECOND, &[]);
        for (guest, reserve) in simulation.guests[others.len()..].iter().zip(&reserves) {
            // The first begins in a turn of another one, and the last is not over.
            for &ran in &guest.ran[1..guest.ran.len() - 1] {
                prop_assert!(ran / MILLI + 1 >= u64::from(*reserve), "{ran} of {reserve} ms");
            }
        }
    }
}

#[test]
fn reserves_that_leave_less_than_a_slice_hold_as_well() {
    let reserves = [33, 30, 29];
    for capped in [false, true] {
        let mut habits = vec![Habit::weighs(100)];
        habits.extend(reserves.map(|reserve| {
            let reserve = WHOLE * reserve / 100;
            Habit::spins(Shares {
                weight: 1,
                cap: if capped { reserve } else { WHOLE },
                reserve,
            })
        }));
        let mut simulation = Simulation::new(&habits);
        simulation.run(20 * SECOND, &[]);
        for (guest, reserve) in simulation.guests[1..].iter().zip(reserves) {
            for &ran in &guest.ran[1..guest.ran.len() - 1] {
                assert!(
                    ran / MILLI + 1 >= u64::from(reserve),
                    "{ran} of {reserve} ms, capped: {capped}"
                );
            }
        }
    }
}

#[test]
fn the_lightest_beside_the_heaviest_waits_for_ten_thousand_and_one_slices_at_most() {
    let habits = [Habit::weighs(1), Habit::weighs(Shares::MAX_WEIGHT)];
    let mut simulation = Simulation::new(&habits);
    simulation.run(250 * SECOND, &[]);
    let longest = simulation.guests[0].longest_wait;
    assert!(longest > 90 * SECOND, "it does not wait at all: {longest}");
    assert!(longest <= 10_001 * SLICE.units(), "{longest}");
    assert!(simulation.total(0) >= 2 * SLICE.units());
    simulation.check_sums();
}

#[test]
fn a_vp_that_loses_its_reserve_or_gains_weight_does_not_wait_for_what_it_had() {
    let habits = [
        Habit::weighs(100),
        Habit::spins(Shares {
            weight: 1,
            cap: WHOLE,
            reserve: WHOLE / 2,
        }),
    ];
    let mut simulation = Simulation::new(&habits);
    simulation.run(10 * SECOND, &[]);
    assert!(simulation.part(1, simulation.now) >= 500);
    let before = simulation.total(1);
    let (_, account) = simulation
        .queue
        .remove(
            simulation.guests[1].slot,
            RefTime::from_units(simulation.now),
        )
        .unwrap();
    account.shares.set(Shares::NEW);
    let slot = simulation.queue.add(1, account).unwrap();
    simulation.guests[1].slot = slot;
    simulation.queue.wake(slot);
    simulation.run(SECOND, &[]);
    let ran = simulation.total(1) - before;
    assert!(ran * 100 / SECOND >= 46, "{ran}");
}
