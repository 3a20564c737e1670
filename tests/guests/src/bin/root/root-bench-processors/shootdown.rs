//! Taking a page away from a child while VPs of it run on 0, 1 and 3 other processors.
//!
//! One clock counts for all processors, so what the caller executes has to be told from what the others do meanwhile. They
//! take turns: PAUSE ends one, and so do the caller's waiting, and the end of a loop of each of the others. Processor 1, whose
//! turn comes behind the caller's, notes the time; so do the child's VPs, on the processors behind it, at the end of
//! theirs. What lies between is theirs.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guests::metal::bench;
use guests::root::child::VMM_FLAGS;
use guests::root::removal::Removal;
use guests::root::{Child, Root, Vp, memory, report, stats};
use guests::statistics::Summary;
use guests::{check, child_code, say};
use spin::Mutex;
use tlfs::stats::{logical_processor as lp, vp as counter};
use tlfs::{
    HvCallCode, HvInputGetLogicalProcessorRunTime, HvOutputGetLogicalProcessorRunTime,
    HvRegisterName, HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType, HvVpIndex,
};

/// All processors: the caller's, the monitor's, and those of the child's VPs.
pub const PROCESSORS: u64 = 5;
/// The monitor's.
pub const MONITOR: u64 = 1;
const FIRST: usize = 2;
/// On how many processors VPs of the child run, and the figures.
const ROWS: [(usize, &str); 3] = [
    (0, "shootdown_0_processors"),
    (1, "shootdown_1_processor"),
    (3, "shootdown_3_processors"),
];
const TARGETS: usize = 3;
const SAMPLES: usize = 200;

const CODE: u64 = 0x1000;
/// What each VP notes: the TSC, 32 bits; how many times.
const NOTES: u64 = 0x3000;
const NOTE_BYTES: u64 = 0x40;

child_code!(
    /// EBX: what it notes.
    shootdown_spinning,
    "32",
    // Nothing comes; but Bochs lets no interrupt end a guest's run that has them off.
    "sti",
    "2: rdtsc",
    "mov dword ptr [ebx], eax",
    "inc dword ptr [ebx + 4]",
    "pause",
    "jmp 2b",
);

/// The child, and its VPs by the VPs of the root that made them.
struct Guest {
    child: Child,
    vps: [Option<Vp>; PROCESSORS as usize],
}

static GUEST: Mutex<Option<Guest>> = Mutex::new(None);
/// Whether the monitor is at work, when it looked last, and how many times it did.
static ON: AtomicBool = AtomicBool::new(false);
static SEEN: AtomicU64 = AtomicU64::new(0);
static TURNS: AtomicU64 = AtomicU64::new(0);

/// Makes the child.
pub fn prepare(root: &mut Root) {
    let child = Child::with_ram(root, VMM_FLAGS);
    child.load(CODE, shootdown_spinning());
    let vps = [None; PROCESSORS as usize];
    *GUEST.lock() = Some(Guest { child, vps });
    make_vp(root, 0);
}

/// Makes a VP of the child, on the VP of the root of that number.
pub fn make_vp(root: &mut Root, number: u64) {
    let mut guest = GUEST.lock();
    let Some(Guest { child, vps }) = &mut *guest else {
        return;
    };
    let vp = Vp::create(root, child, number as u32);
    vp.enter_flat(root, CODE);
    vp.set64(
        root,
        &[
            (HvRegisterName::RBX, NOTES + NOTE_BYTES * number),
            // No VP waits for a startup IPI.
            (HvRegisterName::INTERNAL_ACTIVITY_STATE, 0),
        ],
    );
    vps[number as usize] = Some(vp);
}

/// What the monitor's processor does.
pub fn monitor(root: &mut Root) {
    loop {
        while ON.load(Ordering::SeqCst) {
            SEEN.store(bench::tsc(), Ordering::Relaxed);
            TURNS.fetch_add(1, Ordering::Relaxed);
            core::hint::spin_loop();
        }
        root.messages.nap(1_000_000);
    }
}

/// Prints the figures.
pub fn rows(root: &mut Root) {
    let Some(Guest { mut child, vps }) = GUEST.lock().take() else {
        guests::fail!("there is no child");
    };
    let page = Removal::new(root, &mut child);
    let homes = homes(root, &vps);
    ON.store(true, Ordering::SeqCst);
    root.messages.sleep(1_100_000);
    check!(TURNS.load(Ordering::Relaxed) > 0, "the monitor sleeps");
    let targets: [Target; TARGETS] = core::array::from_fn(|index| {
        let processor = FIRST + index;
        let index = homes.iter().position(|home| *home == processor);
        match index.and_then(|index| Some((index, vps[index]?))) {
            Some((index, vp)) => Target::new(root, &child, processor, index, vp),
            None => guests::fail!("no VP lives on processor {processor}: {homes:?}"),
        }
    });
    let mut running = 0;
    for (count, key) in ROWS {
        let more = &targets[running..count];
        more.iter().for_each(|target| target.vp.resume(root));
        running = count;
        row(root, &child, &page, key, &targets[..count]);
    }
    ON.store(false, Ordering::SeqCst);
    child.end(root);
}

/// On which processor each VP runs: it does so alone, for a while.
fn homes(root: &Root, vps: &[Option<Vp>; PROCESSORS as usize]) -> [usize; PROCESSORS as usize] {
    const MICROS: u64 = 3_000;
    vps.map(|vp| {
        let Some(vp) = vp else {
            guests::fail!("a VP was not made");
        };
        let before = run_times(root);
        vp.resume(root);
        root.messages.sleep(MICROS);
        vp.stop(root);
        let after = run_times(root);
        let ran = |index: &usize| after[*index] - before[*index];
        let home = (0..PROCESSORS as usize).max_by_key(ran).unwrap_or(0);
        check!(ran(&home) > MICROS * 5, "a VP ran for {} only", ran(&home));
        home
    })
}

/// For how long each processor ran, in 100 ns.
fn run_times(root: &Root) -> [u64; PROCESSORS as usize] {
    core::array::from_fn(|index| {
        let input = HvInputGetLogicalProcessorRunTime {
            lp_index: index as u32,
        };
        let code = HvCallCode::GET_LOGICAL_PROCESSOR_RUN_TIME;
        let answer: Result<HvOutputGetLogicalProcessorRunTime, _> = root.calls.ask(code, &input);
        report::value(answer, "GetLogicalProcessorRunTime").local_run_time
    })
}

/// A VP of the child that runs, in its turn.
struct Target {
    vp: Vp,
    /// What it notes, its counters, and those of its processor: physical addresses.
    notes: u64,
    counters: u64,
    processor: u64,
}

impl Target {
    fn new(root: &mut Root, child: &Child, processor: usize, index: usize, vp: Vp) -> Self {
        use HvStatsObjectType as Kind;
        let area = HvStatsAreaType::SELF;
        let own = HvStatsObjectIdentity::vp(child.id, HvVpIndex(index as u32), area);
        let its = HvStatsObjectIdentity::logical_processor(processor as u32, area);
        Self {
            vp,
            notes: child.ram(NOTES + NOTE_BYTES * index as u64),
            counters: stats::map(root, &stats::object(Kind::VP, own)),
            processor: stats::map(root, &stats::object(Kind::LOGICAL_PROCESSOR, its)),
        }
    }

    /// When it looked at the TSC last.
    fn seen(&self) -> u32 {
        memory::read(self.notes) as u32
    }

    /// Exits so far, and interrupts of other processors that came.
    fn counts(&self) -> [u64; 2] {
        let of = |index: &u32| memory::read(self.counters + 8 * u64::from(*index));
        let exits = counter::TOTAL_INTERCEPTS_COUNTS.iter().map(of).sum();
        let ipis = u64::from(lp::INTER_PROCESSOR_INTERRUPTS);
        [exits, memory::read(self.processor + 8 * ipis)]
    }
}

/// What one removal takes.
#[derive(Clone, Copy)]
struct Sample {
    /// Instructions of the caller's processor.
    caller: u64,
    /// Instructions of the others, from the end of the caller's turn to the end of theirs.
    others: u64,
    /// Exits of the child's VPs, and interrupts between processors.
    counts: [u64; 2],
}

fn row(root: &mut Root, child: &Child, page: &Removal, key: &str, targets: &[Target]) {
    let (mut caller, mut others) = ([0; SAMPLES], [0; SAMPLES]);
    let mut counts = [0; 2];
    // They come to run; and the first time fills caches and pools.
    root.messages.sleep(10_000);
    for _ in 0..10 {
        remove(root, child, page, targets);
    }
    for index in 0..SAMPLES {
        let sample = remove(root, child, page, targets);
        (caller[index], others[index]) = (sample.caller, sample.others);
        counts = core::array::from_fn(|index| counts[index] + sample.counts[index]);
    }
    let (Some(caller), Some(others)) = (Summary::of(&mut caller), Summary::of(&mut others)) else {
        guests::fail!("no samples");
    };
    let [exits, ipis] = counts.map(|count| count * 1000 / SAMPLES as u64);
    bench::report(key, caller);
    say!(
        "counts {key} others={} exits={}.{:03} ipi={}.{:03}",
        others.median,
        exits / 1000,
        exits % 1000,
        ipis / 1000,
        ipis % 1000
    );
}

/// Maps a page, and takes it away. Repeats that if somebody else interfered.
fn remove(root: &mut Root, child: &Child, page: &Removal, targets: &[Target]) -> Sample {
    const PATIENCE: u32 = 5;
    for _ in 0..PATIENCE {
        page.give(root, child);
        if let Some(sample) = try_remove(root, page, targets) {
            return sample;
        }
    }
    guests::fail!("the processors do not take turns as they should")
}

fn try_remove(root: &Root, page: &Removal, targets: &[Target]) -> Option<Sample> {
    // All others take some turns.
    for _ in 0..20 {
        core::hint::spin_loop();
    }
    let look = || {
        let add = |sum: [u64; 2], more: [u64; 2]| [sum[0] + more[0], sum[1] + more[1]];
        let counts = targets.iter().map(Target::counts).fold([0; 2], add);
        (counts, TURNS.load(Ordering::Relaxed))
    };
    let (counts, turns) = look();
    let (start, end) = page.take(root);
    let (counts_after, turns_after) = look();
    // The caller waits if somebody uses the page's translation, and nobody needs more than a turn to leave.
    if turns_after - turns != u64::from(!targets.is_empty()) {
        return None;
    }
    let from = SEEN.load(Ordering::Relaxed) as u32;
    let since = |target: &Target| u64::from(target.seen().wrapping_sub(from));
    let others = targets.iter().map(since).max().unwrap_or(0);
    let sample = Sample {
        caller: (end - start).checked_sub(others)?,
        others,
        counts: [0, 1].map(|index| counts_after[index] - counts[index]),
    };
    Some(sample)
}
