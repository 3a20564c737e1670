//! Interrupts that the parent asserts: the end of a level interrupt, waking from HLT, ExtINT.

use guests::root::{Root, report};
use guests::{check, child_code, ok};
use tlfs::{
    HvCallCode, HvInterruptControl, HvInterruptType, HvMessageType, HvRegisterName, HvStatus,
    HvX64ApicEoiMessage,
};

use crate::guest::{CODE, Guest};

child_code!(
    interrupt_code,
    "32",
    "mov ecx, 0x1b",    // 0
    "rdmsr",            // 5
    "or eax, 0xc00",    // 7
    "wrmsr",            // 12
    "mov ecx, 0x80f",   // 14
    "mov eax, 0x1ff",   // 19
    "xor edx, edx",     // 24
    "wrmsr",            // 26
    "sti",              // 28
    "2: mov eax, 0x11", // 29
    "out 0x80, eax",    // 34
    "hlt",              // 36
    "jmp 2b",           // 37
    "nop",              // 39
    // Handler of vector 0x61.
    "mov eax, 0x61",  // 40
    "out 0x80, eax",  // 45
    "mov ecx, 0x80b", // 47
    "xor eax, eax",   // 52
    "xor edx, edx",   // 54
    "wrmsr",          // 56
    "mov eax, 0x62",  // 58
    "out 0x80, eax",  // 63
    "iretd",          // 65
    "nop",
    "nop",
    "nop",
    "nop",
    "nop",
    "nop",
    // Handler of the NMI and of ExtINT.
    "mov eax, 0x70", // 72
    "out 0x80, eax",
    "iretd",
);

const VECTOR: u8 = 0x61;
const EXTERNAL: u8 = 0x33;
const HANDLER: u64 = CODE + 40;
const WRMSR_END: u64 = CODE + 58;
const OTHER_HANDLER: u64 = CODE + 72;

fn assert(
    guest: &Guest,
    root: &Root,
    kind: HvInterruptType,
    vector: u8,
    is_level: bool,
) -> HvStatus {
    let control = HvInterruptControl::new()
        .with_interrupt_type(kind)
        .with_level_triggered(is_level);
    guest.child.try_assert(root, control, 0, vector)
}

#[track_caller]
fn must_assert(guest: &Guest, root: &Root, kind: HvInterruptType, vector: u8, is_level: bool) {
    let status = assert(guest, root, kind, vector, is_level);
    report::status(status, HvStatus::SUCCESS, "AssertVirtualInterrupt");
}

/// A child that waits in HLT with interrupts on.
fn waiting(root: &mut Root) -> Guest {
    let guest = Guest::flat(root, interrupt_code());
    guest.gate(VECTOR.into(), HANDLER);
    guest.gate(EXTERNAL.into(), OTHER_HANDLER);
    guest.gate(2, OTHER_HANDLER);
    report::same(guest.hear(root), 0x11, "before HLT");
    guest.vp.resume(root);
    sleeps(&guest, root);
    guest
}

/// No intercept of HLT: the local APIC is emulated, so HLT is the hypervisor's (trap 31). On a busy host the time of an
/// emulator passes without the child: it gets some naps to arrive at its HLT.
fn sleeps(guest: &Guest, root: &mut Root) {
    const NAPS: usize = 50;
    let halted = (0..NAPS).any(|_| {
        check!(
            guest.is_silent(root),
            "the HLT of a child with a local APIC is reported"
        );
        guest.get(root, HvRegisterName::INTERNAL_ACTIVITY_STATE) & 2 != 0
    });
    check!(halted, "halt does not show in InternalActivityState");
}

/// Without `resume`: the VP is awake by itself.
#[track_caller]
fn told(guest: &Guest, root: &mut Root, wanted: u64) {
    let message = guest.vp.wait(root);
    let message: tlfs::HvX64IoPortInterceptMessage =
        guests::root::vp::payload(&message, HvMessageType::X64_IO_PORT_INTERCEPT);
    report::same(message.rax, wanted, "what the child says");
    guest.vp.skip(2);
}

/// A level interrupt: its end is an intercept behind the instruction that ended it. An edge interrupt's is none.
pub fn level(root: &mut Root) {
    let guest = waiting(root);
    must_assert(&guest, root, HvInterruptType::FIXED, VECTOR, true);
    told(&guest, root, 0x61);
    let end: HvX64ApicEoiMessage = guest.run_to(root, HvMessageType::X64_APIC_EOI);
    report::same(
        (end.vp_index, end.interrupt_vector),
        (guest.vp.index, VECTOR.into()),
        "APIC_EOI",
    );
    report::same(guest.vp.rip(), WRMSR_END, "RIP behind the EOI");
    report::same(guest.hear(root), 0x62, "after the EOI");
    report::same(guest.hear(root), 0x11, "before HLT");
    guest.vp.resume(root);
    sleeps(&guest, root);
    must_assert(&guest, root, HvInterruptType::FIXED, VECTOR, false);
    told(&guest, root, 0x61);
    report::same(guest.hear(root), 0x62, "after the EOI of an edge interrupt");
    guest.end(root);
    ok!("the end of a level interrupt is reported, that of an edge interrupt is not");
}

/// HLT ends by an interrupt, by lowest priority delivery, and by an NMI; interrupts to a suspended VP are not lost.
pub fn halt(root: &mut Root) {
    let guest = waiting(root);
    for kind in [HvInterruptType::FIXED, HvInterruptType::LOWEST_PRIORITY] {
        must_assert(&guest, root, kind, VECTOR, false);
        told(&guest, root, 0x61);
        report::same(guest.hear(root), 0x62, "after the EOI");
        report::same(guest.hear(root), 0x11, "before HLT");
        guest.vp.resume(root);
        sleeps(&guest, root);
    }
    must_assert(&guest, root, HvInterruptType::NMI, 0, false);
    told(&guest, root, 0x70);
    report::same(guest.hear(root), 0x11, "before HLT");
    // The VP waits for an answer now: the interrupt comes when it runs again.
    must_assert(&guest, root, HvInterruptType::FIXED, VECTOR, false);
    check!(guest.is_silent(root), "a suspended VP takes an interrupt");
    report::same(guest.hear(root), 0x61, "an interrupt to a suspended VP");
    report::same(guest.hear(root), 0x62, "after the EOI");
    for (kind, vector) in [
        (HvInterruptType(77), VECTOR),
        (HvInterruptType::FIXED, 3),
        (HvInterruptType::REMOTE_READ, VECTOR),
    ] {
        let status = assert(&guest, root, kind, vector, false);
        report::status(status, HvStatus::INVALID_PARAMETER, "a bad interrupt");
    }
    guest.end(root);
    ok!("HLT ends by interrupts and by an NMI; a suspended VP keeps an interrupt");
}

/// ExtINT goes past the local APIC, and can be taken back before it is acknowledged.
pub fn external(root: &mut Root) {
    let guest = waiting(root);
    // It comes through LINT0, which is closed after reset.
    guest.vp.stop(root);
    let open = [(HvRegisterName::APIC_LVT_LINT0, 0x700)];
    guest.vp.set64(root, &open);
    guest.vp.resume(root);
    sleeps(&guest, root);
    must_assert(&guest, root, HvInterruptType::EXT_INT, EXTERNAL, false);
    told(&guest, root, 0x70);
    report::same(guest.hear(root), 0x11, "before HLT");
    let clear = |guest: &Guest, root: &Root| {
        let code = HvCallCode::CLEAR_VIRTUAL_INTERRUPT;
        guest.child.order(root, code, true)
    };
    // The VP is suspended, so this one stays pending and can be taken back.
    must_assert(&guest, root, HvInterruptType::EXT_INT, EXTERNAL, false);
    report::status(
        clear(&guest, root),
        HvStatus::NOT_ACKNOWLEDGED,
        "ClearVirtualInterrupt",
    );
    guest.vp.resume(root);
    check!(
        guest.is_silent(root),
        "an interrupt that was taken back comes"
    );
    guest.end(root);
    ok!("ExtINT is delivered, and can be taken back before");
}
