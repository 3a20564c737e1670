//! How long a VP has run: its register, its counter, and the root's own.

use guests::metal::cpu::rdmsr;
use guests::root::{Root, memory, report, stats};
use guests::{check, child_code, fail, ok};
use tlfs::stats::vp as counter;
use tlfs::{
    HV_X64_MSR_TIME_REF_COUNT, HV_X64_MSR_VP_RUNTIME, HvRegisterName, HvStatsAreaType,
    HvStatsObjectIdentity, HvStatsObjectType,
};

use crate::guest::Guest;

child_code!(
    /// With interrupts off nothing physical would end this in Bochs.
    spinning,
    "32",
    "sti",
    "2: jmp 2b",
);

const MILLISECOND: u64 = 10_000;

fn msr(number: u32) -> u64 {
    rdmsr(number).unwrap_or_else(|fault| fail!("MSR {number:#x}: {fault:x?}"))
}

/// Time counts while the VP runs, and only then.
pub fn counts(root: &mut Root) {
    let guest = Guest::flat(root, spinning());
    let area = HvStatsAreaType::SELF;
    let identity = HvStatsObjectIdentity::vp(guest.child.id, guest.vp.index, area);
    let page = stats::map(root, &stats::object(HvStatsObjectType::VP, identity));
    let shown = || memory::read(page + 8 * u64::from(counter::TOTAL_RUN_TIME));
    let of_child = |root: &Root| guest.get(root, HvRegisterName::VP_RUNTIME);
    report::same((of_child(root), shown()), (0, 0), "a VP that never ran");

    let (start, own) = (msr(HV_X64_MSR_TIME_REF_COUNT), msr(HV_X64_MSR_VP_RUNTIME));
    guest.vp.resume(root);
    root.messages.sleep(20_000);
    guest.vp.stop(root);
    let ran = of_child(root);
    let own = msr(HV_X64_MSR_VP_RUNTIME) - own;
    let elapsed = msr(HV_X64_MSR_TIME_REF_COUNT) - start;
    check!(
        ran >= MILLISECOND,
        "a VP that had 20 ms ran {ran} x 100 ns only"
    );
    check!(
        ran + own <= elapsed,
        "two VPs of one processor ran {ran} and {own} of {elapsed} x 100 ns"
    );
    report::same(shown(), ran, "VpTotalRunTime");

    root.messages.sleep(5_000);
    report::same(
        (of_child(root), shown()),
        (ran, ran),
        "a VP that was stopped meanwhile",
    );
    guest.end(root);
    ok!("run time: register and counter, while the VP runs only");
}
