//! A switch between two VPs that both always want to run: at the end of a slice, by the timer.

use guests::metal::bench;
use guests::root::child::VMM_FLAGS;
use guests::root::work::Counts;
use guests::root::{Child, Root, Vp};
use guests::statistics::Summary;
use guests::{check, child_code, say};

const CODE: u64 = 0x1000;
/// How many times a VP did not run for a while.
const GAPS: u64 = 0x3000;
/// For each, when it ran last before and first after it: 32 bits of the TSC each.
const LIST: u64 = 0x1_0000;
const MOST: u64 = 1024;
/// How long they run: 110 slices; so the lower halves of the TSC tell the order.
const MICROS: u64 = 1_100_000;
/// Fewer switches than this are no measurement.
const LEAST: usize = 90;
/// Instructions from one look of a VP at the TSC to its next: on average so many of both are its own, and the other one's.
const LOOP: u64 = 9;

child_code!(
    /// Looks at the TSC all the time, and notes when it did not for a while. EDI: the list.
    switches_looking,
    "32",
    // Nothing comes; but Bochs lets no interrupt end a guest's run that has them off.
    "sti",
    "mov edi, 0x10000",
    "rdtsc",
    "mov esi, eax",
    "2: jmp 3f",
    "3: rdtsc",
    "mov ecx, eax",
    "sub ecx, esi",
    "cmp ecx, 300",
    "jae 4f",
    "mov esi, eax",
    "nop",
    "jmp 2b",
    "4: mov dword ptr [edi], esi",
    "mov dword ptr [edi + 4], eax",
    "add edi, 8",
    "and edi, 0x11fff",
    "inc dword ptr [0x3000]",
    "mov esi, eax",
    "jmp 2b",
);

/// A stretch for which a VP ran, by the TSC from some moment on.
#[derive(Clone, Copy, Default)]
struct Run {
    first: u32,
    last: u32,
    vp: usize,
}

/// `vp_switch`: between VPs of two partitions.
pub fn rows(root: &mut Root) {
    const KEY: &str = "vp_switch";
    let vms: [(Child, Vp); 2] = core::array::from_fn(|_| {
        let child = Child::with_ram(root, VMM_FLAGS);
        let vp = Vp::create(root, &child, 0);
        child.load(CODE, switches_looking());
        vp.enter_flat(root, CODE);
        (child, vp)
    });
    vms.iter().for_each(|(_, vp)| vp.resume(root));
    let counts = Counts::during(root, |root| root.messages.sleep_through(MICROS));
    vms.iter().for_each(|(_, vp)| {
        vp.stop(root);
    });
    let cost = cost(&vms);
    bench::report(KEY, cost);
    // The root's own are among them.
    say!("counts {KEY}{}", counts.per(counts.switches()));
    vms.into_iter().for_each(|(child, _)| child.end(root));
}

fn cost(vms: &[(Child, Vp); 2]) -> Summary {
    let mut runs = [Run::default(); 2 * MOST as usize];
    let mut count = 0;
    for (vp, (child, _)) in vms.iter().enumerate() {
        let gaps = child.peek(GAPS) & 0xFFFF_FFFF;
        check!(gaps < MOST, "a VP was interrupted {gaps} times");
        let gap = |index: u64| {
            let both = child.peek(LIST + 8 * index);
            (both as u32, (both >> 32) as u32)
        };
        for index in 1..gaps {
            let ((_, first), (last, _)) = (gap(index - 1), gap(index));
            runs[count] = Run { first, last, vp };
            count += 1;
        }
    }
    let runs = &mut runs[..count];
    let Some(base) = runs.first().map(|run| run.first.wrapping_sub(1 << 30)) else {
        guests::fail!("nobody was interrupted");
    };
    runs.sort_unstable_by_key(|run| run.first.wrapping_sub(base));
    let mut samples = [0; 2 * MOST as usize];
    let mut switches = 0;
    for pair in runs.windows(2) {
        if pair[0].vp != pair[1].vp {
            samples[switches] = pair[1].first.wrapping_sub(pair[0].last).into();
            switches += 1;
        }
    }
    check!(
        switches >= LEAST,
        "only {switches} switches between {count} runs"
    );
    match Summary::of(&mut samples[..switches]) {
        Some(summary) => summary.less(LOOP),
        None => guests::fail!("no switches"),
    }
}
