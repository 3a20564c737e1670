use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const CAPACITY: usize = 8;
type Queue = RunQueue<u32, CAPACITY>;
const ROOT_VP: u32 = 1000;

fn at(millis: u64) -> RefTime {
    RefTime::from_millis(millis)
}

/// A queue with `count` children, all ready.
fn with_children(count: u32) -> (Queue, Vec<Slot>) {
    let mut queue = Queue::new(ROOT_VP);
    let slots: Vec<_> = (0..count)
        .map(|vp| queue.add(vp, RefTime::ZERO).unwrap())
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
    let slot = queue.add(1, RefTime::ZERO).unwrap();
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
    assert_eq!(queue.add(99, RefTime::ZERO), Err(QueueFull));
    assert!(queue.remove(slots[3], at(0)).is_some());
    assert!(queue.add(99, RefTime::ZERO).is_ok());
}

#[test]
fn what_is_removed_is_gone_whatever_it_did() {
    let (mut queue, slots) = with_children(3);
    queue.pick(at(0));
    assert_eq!(queue.remove(slots[0], at(3)), Some((0, at(3))), "running");
    assert_eq!(queue.remove(slots[1], at(3)), Some((1, at(0))), "ready");
    assert_eq!(queue.remove(slots[1], at(3)), None);
    assert!(!queue.wake(slots[1]), "a stale slot does nothing");
    queue.block(slots[1], at(3));
    assert_eq!(picked(&mut queue, at(3)), Some(2));
    assert_eq!(queue.remove(Slot::ROOT, at(3)), None);
}

#[test]
fn run_time_moves_with_the_vp() {
    let (mut queue, slots) = with_children(1);
    queue.pick(at(0));
    let (vp, run_time) = queue.remove(slots[0], at(4)).unwrap();
    let mut other = Queue::new(ROOT_VP);
    let slot = other.add(vp, run_time).unwrap();
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
                let expected = (vp, RefTime::from_units(run_time));
                assert_eq!(queue.remove(slot, now), Some(expected));
            }
        }
        Step::Add => {
            let vp = model.next_vp;
            let added = queue.add(vp, RefTime::ZERO);
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
            let end = now.saturating_add(RefTime::from_micros(micros)).min(turn.slice_end);
            model.charge(turn.vp, end.saturating_sub(now).units());
            now = end;
            for &(slot, wants, run_time, waited) in model.children.values() {
                prop_assert_eq!(queue.run_time(slot, now), Some(RefTime::from_units(run_time)));
                // Those who yield or block give way, so the others can only be faster than this.
                let bound = SLICE.units() * CAPACITY as u64;
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
