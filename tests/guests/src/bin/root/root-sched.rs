//! Who runs when more want to than can: shares by weight and by cap, how long others wait, and how soon one runs that wakes.
#![no_std]
#![no_main]

use guests::metal::cpu::tsc;
use guests::metal::{Boot, time};
use guests::root::busy::{Busy, VECTOR, Worker};
use guests::root::{Root, memory, report, stats};
use guests::{check, ok, root};
use tlfs::HvPartitionPropertyCode as Property;
use tlfs::stats::vp as counter;
use tlfs::{HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType, HvVpIndex};

root!(main);

const WHOLE: u64 = 1 << 16;
/// For how long shares are measured, in microseconds.
const LONG: u64 = 5_000_000;
const SLICE_MICROS: u64 = 10_000;
/// What the root and the hypervisor may add to a wait: the root looks around each 5 ms.
const EXTRA_MICROS: u64 = 1_500;

/// Children that spin, one VP each.
struct Spinners<const N: usize> {
    children: [Busy; N],
    workers: [Worker; N],
    own_counters: u64,
}

/// What a measurement found.
struct Found<const N: usize> {
    /// Of each, in thousandths of what the root left.
    shares: [u64; N],
    /// The longest gap of each, in microseconds.
    gaps: [u64; N],
    /// In thousandths, too.
    idle: u64,
}

impl<const N: usize> Spinners<N> {
    fn new(root: &mut Root, own_counters: u64) -> Self {
        let children = core::array::from_fn(|_| Busy::spinning(root));
        let workers = core::array::from_fn(|index| {
            let children: &[Busy; N] = &children;
            children[index].worker(root, 0)
        });
        workers.iter().for_each(|worker| worker.vp.resume(root));
        Self {
            children,
            workers,
            own_counters,
        }
    }

    /// What each had so far, and the root, and the clock, in 100 ns.
    fn look(&self) -> ([u64; N], u64, u64) {
        let own = memory::read(self.own_counters + 8 * u64::from(counter::TOTAL_RUN_TIME));
        let ran = self.workers.each_ref().map(Worker::ran);
        (ran, own, time::reference())
    }

    fn measure(&self, root: &Root, micros: u64) -> Found<N> {
        // The turn that is under way comes to its end before.
        root.messages.sleep(2 * SLICE_MICROS);
        self.children.iter().for_each(|child| {
            child.longest_gap();
        });
        let (ran, own, start) = self.look();
        root.messages.sleep(micros);
        let (ran_after, own_after, end) = self.look();
        let left = (end - start) - (own_after - own);
        let ran: [u64; N] = core::array::from_fn(|index| ran_after[index] - ran[index]);
        let sum: u64 = ran.iter().sum();
        check!(sum <= left, "VPs ran {sum} of {left}");
        let tsc_hz = time::tsc_hz();
        Found {
            shares: ran.map(|ran| ran * 1000 / left),
            gaps: self
                .children
                .each_ref()
                .map(|child| child.longest_gap() * 1_000_000 / tsc_hz),
            idle: (left - sum) * 1000 / left,
        }
    }
}

#[track_caller]
fn within(found: u64, from: u64, to: u64, what: &str) {
    let at = core::panic::Location::caller();
    check!(
        (from..=to).contains(&found),
        "{what}: {found}, not {from} to {to} (line {})",
        at.line()
    );
}

fn main(boot: &Boot) {
    let mut root = Root::start(boot);
    let own = HvStatsObjectIdentity::vp(root.id, HvVpIndex(0), HvStatsAreaType::SELF);
    let own = stats::map(&mut root, &stats::object(HvStatsObjectType::VP, own));
    two(&mut root, own);
    four(&mut root, own);
    report::done()
}

/// Two that always want to run: equal, one to three, one capped, one reserved.
fn two(root: &mut Root, own: u64) {
    let pair = Spinners::<2>::new(root, own);
    let equal = pair.measure(root, LONG);
    let [a, b] = equal.shares;
    within(a, 450, 550, "the first of two equal ones");
    within(b, 450, 550, "the second of two equal ones");
    for gap in equal.gaps {
        let most = 2 * SLICE_MICROS + EXTRA_MICROS;
        within(gap, SLICE_MICROS / 2, most, "longest wait, one competitor");
    }
    ok!(
        "equal weights: {a} and {b} thousandths, longest waits {:?} us",
        equal.gaps
    );

    pair.children[1].set(root, Property::CPU_WEIGHT, 300);
    let [a, b] = pair.measure(root, LONG).shares;
    within(a, 200, 300, "a weight of 100 beside 300");
    within(b, 700, 800, "a weight of 300 beside 100");
    ok!("weights 1 to 3: {a} and {b} thousandths");

    pair.children[1].set(root, Property::CPU_WEIGHT, 100);
    pair.children[1].set(root, Property::CPU_CAP, WHOLE / 4);
    let [a, b] = pair.measure(root, LONG).shares;
    within(b, 220, 280, "a cap of a quarter");
    within(a, 720, 780, "beside a cap of a quarter");
    ok!("a cap of a quarter: {a} and {b} thousandths");

    // Both capped: the processor idles, and it is the timer that lets them run again.
    pair.children[0].set(root, Property::CPU_CAP, WHOLE / 10);
    let found = pair.measure(root, LONG / 5);
    let [a, b] = found.shares;
    within(a, 70, 130, "a cap of a tenth");
    within(b, 220, 280, "a cap of a quarter");
    within(found.idle, 590, 710, "nobody");
    ok!("both capped: {a} and {b} thousandths, {} idle", found.idle);

    pair.children[0].set(root, Property::CPU_CAP, WHOLE);
    pair.children[1].set(root, Property::CPU_CAP, WHOLE);
    pair.children[0].set(root, Property::CPU_WEIGHT, 10_000);
    pair.children[1].set(root, Property::CPU_WEIGHT, 1);
    pair.children[1].set(root, Property::CPU_RESERVE, WHOLE * 3 / 10);
    // What they had by the shares before counts for some periods; and the first and the last period are not whole.
    root.messages.sleep(LONG / 10);
    let [a, b] = pair.measure(root, LONG).shares;
    within(b, 280, 330, "the lightest, with a reserve of three tenths");
    ok!("a reserve of three tenths beside the heaviest: {a} and {b} thousandths");
    pair.children
        .into_iter()
        .for_each(|child| child.child.end(root));
}

/// Three that always want to run, and one that sleeps until an interrupt comes.
fn four(root: &mut Root, own: u64) {
    const ROUNDS: u64 = 20;
    let others = Spinners::<3>::new(root, own);
    let sleeper = Busy::waiting(root);
    let worker = sleeper.worker(root, 0);
    sleeper.open();
    worker.vp.resume(root);
    // A new VP waits for its turn.
    root.messages.sleep(4 * SLICE_MICROS);
    let tsc_hz = time::tsc_hz();
    let (mut slowest, mut sum) = (0, 0);
    for round in 0..ROUNDS {
        // At another moment of the others' turns each time.
        root.messages.sleep(30_000 + round * 1_370 % SLICE_MICROS);
        let before = tsc();
        sleeper.child.interrupt(root, 0, VECTOR);
        root.messages.sleep(4 * SLICE_MICROS);
        let (at, count) = sleeper.came();
        report::same(count, round + 1, "interrupts that came");
        let micros = (at - before) * 1_000_000 / tsc_hz;
        slowest = slowest.max(micros);
        sum += micros;
    }
    within(slowest, 0, SLICE_MICROS, "from an interrupt to its handler");
    ok!(
        "a VP that wakes runs after {} us, at most {slowest}",
        sum / ROUNDS
    );
    let found = others.measure(root, LONG / 5);
    for (share, gap) in found.shares.into_iter().zip(found.gaps) {
        within(share, 320, 346, "one of three");
        let most = 2 * 2 * SLICE_MICROS + EXTRA_MICROS;
        within(gap, SLICE_MICROS, most, "longest wait, two competitors");
    }
    ok!(
        "three equal ones: {:?} thousandths, longest waits {:?} us",
        found.shares,
        found.gaps
    );
    sleeper.child.end(root);
    others
        .children
        .into_iter()
        .for_each(|child| child.child.end(root));
}
