//! Exits while 1, 8 and 64 VMs exist, each with a VP. The others sleep in HLT.

use guests::metal::bench::{self, Meter};
use guests::metal::cell::Pages;
use guests::root::trips::{Kind, MOST, Traveller};
use guests::root::{Root, Vp};
use guests::{check, say};
use spin::Mutex;
use tlfs::{HvCallCode, HvRegisterName, HvStatus};

/// How many there are, in turn, and the figures.
const ROWS: [(usize, [&str; 2]); 3] = [
    (1, ["cpuid_exit_with_1_vm", "null_hypercall_with_1_vm"]),
    (8, ["cpuid_exit_with_8_vms", "null_hypercall_with_8_vms"]),
    (64, ["cpuid_exit_with_64_vms", "null_hypercall_with_64_vms"]),
];
const OTHERS: usize = 63;

/// An idle VM.
type Other = Option<(Traveller, Vp)>;
/// Too many for the stack.
static IDLE: Mutex<[Other; OTHERS]> = Mutex::new([const { None }; OTHERS]);

static OUTPUT: Pages<4096> = Pages::new();

/// Prints what the exits cost with each number of VMs, and by how much more with the most than with one.
pub fn rows(root: &mut Root) {
    let meter = Meter::new();
    let first = Traveller::new(root, Kind::Cpuid);
    first.vp(root, 0).resume(root);
    root.messages.sleep(1000);
    let found = ROWS.map(|(count, keys)| {
        let others = &mut IDLE.lock()[..count - 1];
        for place in others.iter_mut().filter(|place| place.is_none()) {
            let other = Traveller::new(root, Kind::Never);
            let vp = other.vp(root, 0);
            vp.resume(root);
            *place = Some((other, vp));
        }
        // All have run, and halt.
        root.messages.sleep(1_000_000);
        for (_, vp) in others.iter().flatten() {
            let rip = vp.get(root, HvRegisterName::RIP);
            check!(rip == 0x1002, "an idle VP is at {rip:#x}");
        }
        first.make(root, MOST as u64);
        first.make(root, MOST as u64);
        let (cpuid, call) = (first.took(), meter.measure(null_hypercall));
        for (key, cost) in keys.into_iter().zip([cpuid, call]) {
            bench::report(key, cost);
        }
        [cpuid.median, call.median]
    });
    let [least, .., most] = found;
    let growth = least
        .iter()
        .zip(most)
        .map(|(one, many)| many.saturating_sub(*one));
    say!(
        "bench exit_growth_with_64_vms {} instructions",
        growth.max().unwrap_or(0)
    );
    for place in IDLE.lock().iter_mut() {
        if let Some((other, _)) = place.take() {
            other.child.end(root);
        }
    }
    first.child.end(root);
}

#[inline(always)]
fn null_hypercall() {
    let (code, done) = (HvCallCode::GET_PARTITION_ID, HvStatus::SUCCESS);
    bench::hypercall(code, 0, &OUTPUT, done);
}
