//! What the root's own round trips cost, in instructions: the hypercall with the least to do, CPUID, an APIC register; and
//! what the processor does for these and for those of a child.
#![no_std]
#![no_main]

use guests::metal::Boot;
use guests::metal::bench::{self, Meter};
use guests::metal::cell::Pages;
use guests::root::child::VMM_FLAGS;
use guests::root::{Child, Root, Vp, report, work};
use guests::{child_code, println, root};
use tlfs::{HvCallCode, HvMessageType, HvStatus, HvX64IoPortInterceptMessage};

root!(main);

static OUTPUT: Pages<4096> = Pages::new();

/// Where a child's code lies.
const CODE: u64 = 0x1000;
/// ESI in the register page: how many round trips a child is to make.
const RSI: usize = 6;

child_code!(
    cpuid_loop,
    "32",
    "2: out 0x80, al",
    "test esi, esi",
    "jz 2b",
    "3: mov eax, 1",
    "cpuid",
    "dec esi",
    "jnz 3b",
    "jmp 2b",
);

child_code!(
    apic_id_loop,
    "32",
    "2: out 0x80, al",
    "test esi, esi",
    "jz 2b",
    "mov ecx, 0x802",
    "3: rdmsr",
    "dec esi",
    "jnz 3b",
    "jmp 2b",
);

fn main(start: &Boot) {
    let mut root = Root::start(start);
    let meter = Meter::new();
    meter.row("null_hypercall", null_hypercall);
    assert_ne!(guests::metal::memory::read::<u64>(OUTPUT.gpa()), 0);
    meter.row("root_cpuid_exit", bench::cpuid);
    meter.row("root_msr_exit", bench::apic_id);

    work::row(&mut root, "null_hypercall", |_, trips| {
        (0..trips).for_each(|_| null_hypercall());
    });
    work::row(&mut root, "root_cpuid_exit", |_, trips| {
        (0..trips).for_each(|_| bench::cpuid());
    });
    work::row(&mut root, "root_msr_exit", |_, trips| {
        (0..trips).for_each(|_| bench::apic_id());
    });
    child_row(&mut root, "cpuid_exit", cpuid_loop());
    child_row(&mut root, "msr_exit", apic_id_loop());
    println!("ok root-bench-calls");
    report::done()
}

#[inline(always)]
fn null_hypercall() {
    let (code, done) = (HvCallCode::GET_PARTITION_ID, HvStatus::SUCCESS);
    bench::hypercall(code, 0, &OUTPUT, done);
}

/// Counts for a child that makes ESI round trips each time that it is resumed.
fn child_row(root: &mut Root, key: &str, code: &[u8]) {
    let child = Child::with_ram(root, VMM_FLAGS);
    let vp = Vp::create(root, &child, 0);
    child.load(CODE, code);
    vp.enter_flat(root, CODE);
    let stop = |root: &mut Root| {
        let kind = HvMessageType::X64_IO_PORT_INTERCEPT;
        let message: HvX64IoPortInterceptMessage = vp.run_to(root, kind);
        vp.skip(message.header.instruction_length());
    };
    stop(root);
    work::row(root, key, |root, trips| {
        vp.put(RSI, trips);
        stop(root);
    });
    child.end(root);
}
