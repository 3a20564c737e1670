mod simulation;

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const CAPACITY: usize = 8;
type Queue = RunQueue<u32, CAPACITY>;
const ROOT_VP: u32 = 1000;

fn at(millis: u64) -> RefTime {
    RefTime::from_millis(millis)
}

/// Shares of a partition of its own, that live for ever.
fn shares(shares: Shares) -> &'static SharesCell {
    let cell = Box::leak(Box::new(SharesCell::new()));
    cell.set(shares);
    cell
}

/// Of a new VP in a new partition.
fn account() -> Account {
    Account::new(shares(Shares::NEW))
}

/// A queue with `count` children, all ready.
fn with_children(count: u32) -> (Queue, Vec<Slot>) {
    let mut queue = Queue::new(ROOT_VP);
    let slots: Vec<_> = (0..count)
        .map(|vp| queue.add(vp, account()).unwrap())
        .collect();
    for &slot in &slots {
        queue.wake(slot);
    }
    (queue, slots)
}

fn picked(queue: &mut Queue, now: RefTime) -> Option<u32> {
    queue.pick(now).map(|turn| turn.vp)
}

#[test]
fn nobody_runs_unless_woken() {
    let mut queue = Queue::new(ROOT_VP);
    let slot = queue.add(1, account()).unwrap();
    assert_eq!(queue.pick(at(0)), None);
    assert!(queue.wake(slot), "the processor is idle");
    assert!(!queue.wake(slot), "it is ready already");
    assert_eq!(picked(&mut queue, at(0)), Some(1));
}

#[test]
fn children_take_turns_of_a_slice() {
    let (mut queue, _) = with_children(3);
    for round in 0..6u64 {
        let turn = queue.pick(at(10 * round)).unwrap();
        assert_eq!(turn.vp, (round % 3) as u32);
        assert_eq!(turn.slice_end, at(10 * round + 10));
    }
}

#[test]
fn a_pick_within_a_slice_goes_on_with_the_same_one() {
    let (mut queue, _) = with_children(2);
    queue.pick(at(0));
    assert!(!queue.should_preempt(at(7)));
    let turn = queue.pick(at(7)).unwrap();
    assert_eq!((turn.vp, turn.slice_end), (0, at(10)));
    assert!(queue.should_preempt(at(10)));
}

#[test]
fn the_root_comes_first_and_its_victim_goes_on_afterwards() {
    let (mut queue, _) = with_children(2);
    queue.pick(at(0));
    assert!(queue.wake(Slot::ROOT));
    assert!(queue.should_preempt(at(4)));
    let turn = queue.pick(at(4)).unwrap();
    assert_eq!((turn.vp, turn.slice_end), (ROOT_VP, RefTime::MAX));
    assert!(!queue.should_preempt(at(500)));
    assert_eq!(picked(&mut queue, at(500)), Some(ROOT_VP));
    queue.block(Slot::ROOT, at(600));
    let turn = queue.pick(at(600)).unwrap();
    assert_eq!((turn.vp, turn.slice_end), (0, at(606)));
}

#[test]
fn a_victim_whose_slice_is_over_waits_for_its_next_turn() {
    let (mut queue, _) = with_children(2);
    queue.pick(at(0));
    queue.wake(Slot::ROOT);
    queue.pick(at(10));
    queue.block(Slot::ROOT, at(11));
    assert_eq!(picked(&mut queue, at(11)), Some(1));
}

#[test]
fn a_yield_goes_behind_the_others() {
    let (mut queue, _) = with_children(3);
    queue.pick(at(0));
    queue.yield_turn(at(1));
    for (now, vp) in [(1, 1), (11, 2), (21, 0)] {
        assert_eq!(picked(&mut queue, at(now)), Some(vp));
    }
    queue.wake(Slot::ROOT);
    queue.pick(at(22));
    queue.yield_turn(at(23));
    assert_eq!(picked(&mut queue, at(23)), Some(ROOT_VP));
}

#[test]
fn a_lone_child_runs_on() {
    let (mut queue, slots) = with_children(1);
    queue.pick(at(0));
    assert!(!queue.should_preempt(at(50)));
    let turn = queue.pick(at(50)).unwrap();
    assert_eq!((turn.vp, turn.slice_end), (0, at(60)));
    queue.block(slots[0], at(55));
    assert_eq!(queue.pick(at(55)), None);
    assert_eq!(queue.run_time(slots[0], at(99)), Some(at(55)));
}

#[test]
fn one_more_than_fit_is_refused() {
    let (mut queue, slots) = with_children(CAPACITY as u32);
    assert_eq!(queue.add(99, account()), Err(QueueFull));
    assert!(queue.remove(slots[3], at(0)).is_some());
    assert!(queue.add(99, account()).is_ok());
}

#[test]
fn what_is_removed_is_gone_whatever_it_did() {
    let (mut queue, slots) = with_children(3);
    queue.pick(at(0));
    assert_eq!(queue.load(), 3);
    assert_eq!(
        removed(&mut queue, slots[0], 3),
        Some((0, at(3))),
        "running"
    );
    assert_eq!(removed(&mut queue, slots[1], 3), Some((1, at(0))), "ready");
    assert_eq!(removed(&mut queue, slots[1], 3), None);
    assert_eq!(queue.load(), 1);
    assert!(!queue.wake(slots[1]), "a stale slot does nothing");
    queue.block(slots[1], at(3));
    assert_eq!(picked(&mut queue, at(3)), Some(2));
    assert_eq!(removed(&mut queue, Slot::ROOT, 3), None);
}

fn removed(queue: &mut Queue, slot: Slot, millis: u64) -> Option<(u32, RefTime)> {
    let (vp, account) = queue.remove(slot, at(millis))?;
    Some((vp, account.run_time))
}

#[test]
fn run_time_moves_with_the_vp() {
    let (mut queue, slots) = with_children(1);
    queue.pick(at(0));
    let (vp, account) = queue.remove(slots[0], at(4)).unwrap();
    let mut other = Queue::new(ROOT_VP);
    let slot = other.add(vp, account).unwrap();
    other.wake(slot);
    other.pick(at(100));
    assert_eq!(other.run_time(slot, at(101)), Some(at(5)));
}

#[test]
fn a_clock_that_steps_back_charges_nothing_twice() {
    let (mut queue, slots) = with_children(1);
    queue.pick(at(10));
    queue.pick(at(5));
    queue.pick(at(12));
    assert_eq!(queue.run_time(slots[0], at(12)), Some(at(2)));
}

#[test]
fn a_vp_that_wakes_goes_ahead_after_the_shortest_turn() {
    let (mut queue, slots) = with_children(4);
    queue.pick(at(0));
    queue.block(slots[0], at(2));
    for now in [2, 12, 22, 32] {
        queue.pick(at(now));
    }
    // The second turn of 1; the others wait.
    assert!(queue.wake(slots[0]), "a turn of 1 has had 4 of its 10 ms");
    let turn = queue.pick(at(36)).unwrap();
    assert_eq!(turn.vp, 0, "SHORTEST has passed");
    queue.block(slots[0], at(37));
    // Again at once: it has had more than the others now.
    queue.wake(slots[0]);
    assert_ne!(picked(&mut queue, at(37)), Some(0));
}

#[test]
fn who_wakes_early_in_a_turn_waits_for_the_shortest_turn_to_pass() {
    let (mut queue, slots) = with_children(2);
    queue.pick(at(0));
    queue.pick(at(10));
    queue.block(slots[0], at(10));
    queue.pick(at(20));
    assert!(queue.wake(slots[0]));
    let turn = queue.pick(at(20)).unwrap();
    assert_eq!((turn.vp, turn.slice_end), (1, at(21)));
    assert_eq!(picked(&mut queue, at(21)), Some(0));
}

#[test]
fn an_interrupt_does_not_end_the_wait_of_a_vp_that_has_used_up_its_cap() {
    let mut queue = Queue::new(ROOT_VP);
    let quarter = shares(Shares {
        cap: WHOLE / 4,
        ..Shares::NEW
    });
    let slot = queue.add(1, Account::new(quarter)).unwrap();
    assert_eq!(queue.next_release(), RefTime::MAX);
    queue.wake(slot);
    for (now, end) in [(0, 10), (10, 20), (20, 25)] {
        assert_eq!(queue.pick(at(now)).unwrap().slice_end, at(end));
    }
    assert_eq!(queue.pick(at(25)), None);
    assert_eq!(queue.next_release(), at(100));
    assert!(!queue.wake(slot), "it wants to run already");
    assert_eq!(queue.pick(at(60)), None);
    queue.block(slot, at(70));
    queue.wake(slot);
    assert_eq!(queue.pick(at(70)), None, "nor by blocking");
    // The cap may go meanwhile; it counts from the next period on.
    assert_eq!(queue.pick(at(100)).unwrap().slice_end, at(110));
    quarter.set(Shares {
        cap: 0,
        ..Shares::NEW
    });
    assert_eq!(queue.pick(at(101)), None);
    quarter.set(Shares::NEW);
    assert_eq!(picked(&mut queue, at(200)), Some(1));
}

#[test]
fn a_reserve_goes_before_weight_until_it_is_used() {
    let (mut queue, _) = with_children(1);
    let reserve = shares(Shares {
        weight: 1,
        reserve: WHOLE / 8,
        ..Shares::NEW
    });
    let slot = queue.add(7, Account::new(reserve)).unwrap();
    queue.pick(at(0));
    queue.wake(slot);
    assert_eq!(picked(&mut queue, at(5)), Some(7), "at once");
    let turn = queue.pick(at(15)).unwrap();
    assert_eq!((turn.vp, turn.slice_end.units()), (7, 175_000));
    assert_eq!(picked(&mut queue, turn.slice_end), Some(0), "by weight");
    for now in [25, 35, 45, 55, 65, 75, 85, 95] {
        assert_eq!(picked(&mut queue, at(now)), Some(0));
    }
    assert_eq!(picked(&mut queue, at(105)), Some(7), "in the next period");
}

#[derive(Clone, Debug)]
enum Step {
    Wake(usize),
    Block(usize),
    WakeRoot,
    BlockRoot,
    Yield,
    Remove(usize),
    Add,
    /// Run until this many microseconds have passed or the turn is over.
    Run(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let child = 0..CAPACITY;
    let step = prop_oneof![
        4 => child.clone().prop_map(Step::Wake),
        2 => child.clone().prop_map(Step::Block),
        1 => Just(Step::WakeRoot),
        2 => Just(Step::BlockRoot),
        1 => Just(Step::Yield),
        1 => child.prop_map(Step::Remove),
        2 => Just(Step::Add),
        10 => (1u64..20_000).prop_map(Step::Run),
    ];
    prop::collection::vec(step, 1..300)
}

/// What the queue should know, and how long each ready child has waited while other children ran.
#[derive(Default)]
struct Model {
    /// Slot, whether it wants to run, run time, waited.
    children: BTreeMap<u32, (Slot, bool, u64, u64)>,
    root_ready: bool,
    root_time: u64,
    next_vp: u32,
}

impl Model {
    fn nth(&self, n: usize) -> Option<(u32, Slot)> {
        let (&vp, &(slot, ..)) = self.children.iter().nth(n)?;
        Some((vp, slot))
    }

    fn runnable(&self) -> usize {
        self.children.values().filter(|child| child.1).count()
    }

    fn charge(&mut self, vp: u32, time: u64) {
        if vp == ROOT_VP {
            self.root_time += time;
            return;
        }
        for (&other, child) in &mut self.children {
            if other == vp {
                child.2 += time;
                child.3 = 0;
            } else if child.1 {
                child.3 += time;
            }
        }
    }
}

fn change(queue: &mut Queue, model: &mut Model, step: &Step, now: RefTime) {
    match *step {
        Step::Wake(n) => {
            if let Some((vp, slot)) = model.nth(n) {
                queue.wake(slot);
                model.children.get_mut(&vp).unwrap().1 = true;
            }
        }
        Step::Block(n) => {
            if let Some((vp, slot)) = model.nth(n) {
                queue.block(slot, now);
                let child = model.children.get_mut(&vp).unwrap();
                (child.1, child.3) = (false, 0);
            }
        }
        Step::WakeRoot => {
            queue.wake(Slot::ROOT);
            model.root_ready = true;
        }
        Step::BlockRoot => {
            queue.block(Slot::ROOT, now);
            model.root_ready = false;
        }
        Step::Yield => queue.yield_turn(now),
        Step::Remove(n) => {
            if let Some((vp, slot)) = model.nth(n) {
                let (_, _, run_time, _) = model.children.remove(&vp).unwrap();
                let (removed, account) = queue.remove(slot, now).unwrap();
                let expected = (vp, RefTime::from_units(run_time));
                assert_eq!((removed, account.run_time), expected);
            }
        }
        Step::Add => {
            let vp = model.next_vp;
            let added = queue.add(vp, account());
            assert_eq!(added.is_ok(), model.children.len() < CAPACITY);
            if let Ok(slot) = added {
                model.next_vp += 1;
                model.children.insert(vp, (slot, false, 0, 0));
            }
        }
        Step::Run(_) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn the_right_one_runs_and_nobody_starves(steps in steps()) {
        let mut queue = Queue::new(ROOT_VP);
        let mut model = Model::default();
        let mut now = RefTime::ZERO;
        for step in steps {
            change(&mut queue, &mut model, &step, now);
            let Step::Run(micros) = step else { continue };
            let Some(turn) = queue.pick(now) else {
                prop_assert!(!model.root_ready && model.runnable() == 0, "idle though somebody wants to run");
                continue;
            };
            prop_assert!(!queue.should_preempt(now));
            prop_assert_eq!(turn.vp == ROOT_VP, model.root_ready);
            prop_assert!(turn.vp == ROOT_VP || model.children[&turn.vp].1, "it is blocked");
            prop_assert!(turn.slice_end > now);
            prop_assert_eq!(queue.load(), model.runnable());
            let end = now.saturating_add(RefTime::from_micros(micros)).min(turn.slice_end);
            model.charge(turn.vp, end.saturating_sub(now).units());
            now = end;
            for &(slot, wants, run_time, waited) in model.children.values() {
                prop_assert_eq!(queue.run_time(slot, now), Some(RefTime::from_units(run_time)));
                let bound = 2 * SLICE.units() * CAPACITY as u64;
                prop_assert!(!wants || waited <= bound, "waited for {waited}");
            }
            prop_assert_eq!(queue.run_time(Slot::ROOT, now), Some(RefTime::from_units(model.root_time)));
        }
    }

    #[test]
    fn those_who_always_want_to_run_get_the_same(
        count in 1u32..8,
        pauses in prop::collection::vec((1u64..15_000, any::<bool>()), 100..400),
    ) {
        let (mut queue, slots) = with_children(count);
        let mut now = RefTime::ZERO;
        for (micros, root) in pauses {
            if root {
                queue.wake(Slot::ROOT);
                queue.pick(now);
                now = now.saturating_add(RefTime::from_micros(micros));
                queue.block(Slot::ROOT, now);
            }
            let turn = queue.pick(now).unwrap();
            now = now.saturating_add(RefTime::from_micros(micros)).min(turn.slice_end);
        }
        let times: Vec<_> = slots.iter().map(|&slot| queue.run_time(slot, now).unwrap()).collect();
        let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        prop_assert!(most.saturating_sub(*least) <= SLICE);
    }
}
