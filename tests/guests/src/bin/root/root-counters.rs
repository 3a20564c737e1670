//! What counters say of interrupts for VPs that do not run, and that parts and wholes agree.
#![no_std]
#![no_main]

use guests::metal::{Boot, time};
use guests::root::busy::{Busy, VECTOR, Worker};
use guests::root::child::RAM_PAGES;
use guests::root::{Root, memory, report, stats};
use guests::{check, ok, root};
use tlfs::stats::{hypervisor, logical_processor as lp, partition, vp as counter};
use tlfs::{
    HvCallCode, HvInputGetLogicalProcessorRunTime, HvOutputGetLogicalProcessorRunTime,
    HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType, HvStatus, HvVpIndex,
};

root!(main);

const AREA: HvStatsAreaType = HvStatsAreaType::SELF;
const MILLISECOND: u64 = 1_000;
/// How many vectors each VP is sent.
const SENT: [u64; 2] = [4, 2];

/// What of a VP's counters has to do with interrupts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Interrupts {
    /// Taken by its APIC.
    taken: u64,
    /// Of these, while it did not run.
    pending: u64,
    /// Given to it.
    delivered: u64,
    /// Exits because it could take one at last.
    windows: u64,
}

impl Interrupts {
    fn of(worker: &Worker) -> Self {
        Self {
            taken: worker.counter(counter::SYNTHETIC_INTERRUPTS),
            pending: worker.counter(counter::POSTED_INTERRUPT_NOTIFICATIONS),
            delivered: worker.counter(counter::VIRTUAL_INTERRUPTS),
            windows: worker.counter(counter::PENDING_INTERRUPTS_COUNT),
        }
    }
}

fn main(boot: &Boot) {
    let mut root = Root::start(boot);
    let all_vps = of_hypervisor(&mut root);
    let busy = Busy::spinning(&mut root);
    let other = busy.worker(&mut root, 0);
    let child = Busy::waiting(&mut root);
    let workers = [0, 1].map(|index| child.worker(&mut root, index));
    // Their APICs are on then.
    workers.iter().for_each(|worker| worker.vp.resume(&root));
    root.messages.sleep(100 * MILLISECOND);
    for worker in &workers {
        check!(worker.ran() > 0, "VP {:?} has not run", worker.vp.index);
        check!(!worker.vp.stop(&root), "an intercept");
    }
    sent_while_nobody_runs(&mut root, &child, &workers, &other);
    delivered_when_one_runs(&mut root, &child, &workers);
    waking(&mut root, &child, &workers);

    // Parts and wholes.
    let now = of_hypervisor(&mut root);
    report::same(now, all_vps + 3, "VPs of the hypervisor");
    let of_child = HvStatsObjectIdentity::partition(child.child.id, AREA);
    let page = stats::map(
        &mut root,
        &stats::object(HvStatsObjectType::PARTITION, of_child),
    );
    let vps = memory::read(page + 8 * u64::from(partition::VIRTUAL_PROCESSORS));
    report::same(vps, workers.len() as u64, "VPs of a partition");
    let pages = memory::read(page + 8 * u64::from(partition::GPA_PAGES));
    report::same(pages, RAM_PAGES as u64, "pages of a partition");
    run_times(&mut root, &[&workers[0], &workers[1], &other]);
    child.child.end(&mut root);
    busy.child.end(&mut root);
    report::done()
}

/// VPs, as the hypervisor's page has them.
fn of_hypervisor(root: &mut Root) -> u64 {
    let input = stats::of_hypervisor();
    let page = stats::map(root, &input);
    let vps = memory::read(page + 8 * u64::from(hypervisor::VIRTUAL_PROCESSORS));
    stats::unmap(root, &input);
    vps
}

fn sent_while_nobody_runs(root: &mut Root, child: &Busy, workers: &[Worker; 2], other: &Worker) {
    report::same(
        workers.each_ref().map(Interrupts::of),
        Default::default(),
        "at first",
    );
    other.vp.resume(root);
    root.messages.sleep(5 * MILLISECOND);
    for (index, count) in (0..).zip(SENT) {
        for vector in 0..count {
            child.child.interrupt(root, index, VECTOR + vector as u8);
        }
    }
    // One that waits already is not another one.
    child.child.interrupt(root, 0, VECTOR);
    root.messages.sleep(30 * MILLISECOND);
    check!(other.ran() > 0, "the other VM does not run");
    let found = workers.each_ref().map(Interrupts::of);
    let wanted = SENT.map(|sent| Interrupts {
        taken: sent,
        pending: sent,
        ..Interrupts::default()
    });
    report::same(found, wanted, "sent while nobody runs");
    report::same(
        child.came().1,
        0,
        "interrupts that came to VPs that do not run",
    );
    ok!("interrupts for VPs that do not run are pending: {SENT:?}");
}

fn delivered_when_one_runs(root: &mut Root, child: &Busy, workers: &[Worker; 2]) {
    workers.iter().for_each(|worker| worker.vp.resume(root));
    root.messages.sleep(100 * MILLISECOND);
    // They run with interrupts off.
    let found = workers
        .each_ref()
        .map(|worker| Interrupts::of(worker).delivered);
    report::same(found, [0; 2], "interrupts that come though they are off");
    child.open();
    root.messages.sleep(100 * MILLISECOND);
    for (worker, sent) in workers.iter().zip(SENT) {
        let found = Interrupts::of(worker);
        report::same((found.taken, found.pending), (sent, sent), "counted twice");
        report::same(found.delivered, sent, "delivered when it runs");
        check!(
            (1..=sent).contains(&found.windows),
            "{} exits because one could be taken",
            found.windows
        );
    }
    report::same(child.came().1, SENT.iter().sum(), "interrupts that came");
    ok!("they are delivered when the VPs run, all of them");
}

/// VPs in HLT, while the other VM's runs.
fn waking(root: &mut Root, child: &Busy, workers: &[Worker; 2]) {
    const ROUNDS: u64 = 5;
    let before = workers.each_ref().map(Interrupts::of);
    let came = child.came().1;
    for round in 1..=ROUNDS {
        child.child.interrupt(root, 1, VECTOR);
        root.messages.sleep(25 * MILLISECOND);
        let found = Interrupts::of(&workers[1]);
        let wanted = before[1].delivered + round;
        report::same(found.delivered, wanted, "delivered to a VP that slept");
        report::same(
            found.pending - before[1].pending,
            round,
            "pending before it woke",
        );
    }
    report::same(Interrupts::of(&workers[0]), before[0], "of the other VP");
    report::same(child.came().1, came + ROUNDS, "interrupts that came");
    ok!("a VP that sleeps wakes for each of {ROUNDS}");
}

/// What the processor ran is what its VPs ran, and what the hypervisor did for none.
fn run_times(root: &mut Root, workers: &[&Worker]) {
    let own = HvStatsObjectIdentity::vp(root.id, HvVpIndex(0), AREA);
    let own = stats::map(root, &stats::object(HvStatsObjectType::VP, own));
    let of_processor = HvStatsObjectIdentity::logical_processor(0, AREA);
    let input = stats::object(HvStatsObjectType::LOGICAL_PROCESSOR, of_processor);
    // Mapping brings it up to date, and the caller's.
    let page = stats::map(root, &input);
    let read = |index: u32| memory::read(page + 8 * u64::from(index));
    let (ran, itself) = (read(lp::TOTAL_RUN_TIME), read(lp::HYPERVISOR_RUN_TIME));
    let of_root = memory::read(own + 8 * u64::from(counter::TOTAL_RUN_TIME));
    let of_children: u64 = workers.iter().map(|worker| worker.ran()).sum();
    report::same(itself + of_root + of_children, ran, "run times, added up");
    check!(ran <= read(lp::GLOBAL_TIME), "more run time than time");
    check!(
        itself > 0 && itself < ran / 2,
        "the hypervisor ran {itself} of {ran} for itself"
    );

    let ask = |lp_index| -> Result<HvOutputGetLogicalProcessorRunTime, HvStatus> {
        let input = HvInputGetLogicalProcessorRunTime { lp_index };
        root.calls
            .ask(HvCallCode::GET_LOGICAL_PROCESSOR_RUN_TIME, &input)
    };
    let first = report::value(ask(0), "GetLogicalProcessorRunTime");
    check!(first.local_run_time >= ran, "it was {ran} before");
    root.messages.sleep(20 * MILLISECOND);
    let start = time::reference();
    let second = report::value(ask(0), "GetLogicalProcessorRunTime");
    let elapsed = second.global_time - first.global_time;
    let ran = second.local_run_time - first.local_run_time;
    check!(elapsed >= 20 * MILLISECOND * 10, "20 ms are {elapsed}");
    // Somebody spins.
    report::same(ran, elapsed, "a processor that is busy");
    check!(
        second.hypervisor_time >= first.hypervisor_time,
        "time goes back"
    );
    check!(time::reference() >= start, "time goes back");
    report::same(
        ask(1).err(),
        Some(HvStatus::INVALID_LP_INDEX),
        "a processor that is none",
    );
    ok!("run times of the processor and its VPs agree");
}
