//! MSRs: single ones, and all that the hypervisor does not virtualize.

use guests::root::{Root, report};
use guests::{child_code, ok};
use tlfs::HvInterceptAccessType as Access;
use tlfs::{
    HvInterceptAccessMask, HvInterceptParameters, HvInterceptType, HvMessageType,
    HvPartitionPropertyCode, HvUnimplementedMsrAction, HvX64ExceptionInterceptMessage,
    HvX64MsrInterceptMessage,
};

use crate::guest::{Guest, NONE, RW};

child_code!(
    msr_code,
    "32",
    "mov ecx, 0x1234", // 0
    "3: rdmsr",        // 5
    "out 0x80, eax",   // 7
    "mov eax, edx",    // 9
    "out 0x80, eax",   // 11
    "mov eax, 0x11",   // 13
    "mov edx, 0x22",   // 18
    "wrmsr",           // 23
    "out 0x80, eax",   // 25
    "jmp 3b",          // 27
);

/// Exceptions are executed, in the interface's words.
const EXECUTE: HvInterceptAccessMask = HvInterceptAccessMask::EXECUTE;
const MSR: u32 = 0x1234;
const VALUE: u64 = 0xAABB_CCDD_1122_3344;
const GENERAL_PROTECTION: HvInterceptParameters = HvInterceptParameters::exception(13);

fn read(guest: &Guest, root: &mut Root) {
    let message: HvX64MsrInterceptMessage = guest.run_to(root, HvMessageType::X64_MSR_INTERCEPT);
    guest.check_header(&message.header, 5, 2, Access::READ);
    report::same(message.msr_number, MSR, "MSR");
    guest.answer(VALUE);
    guest.vp.skip(2);
    report::same(guest.hear(root), VALUE as u32, "EAX after RDMSR");
    report::same(guest.hear(root), (VALUE >> 32) as u32, "EDX after RDMSR");
}

fn write(guest: &Guest, root: &mut Root) {
    let message: HvX64MsrInterceptMessage = guest.run_to(root, HvMessageType::X64_MSR_INTERCEPT);
    guest.check_header(&message.header, 23, 2, Access::WRITE);
    report::same(message.msr_number, MSR, "MSR");
    report::same((message.rax, message.rdx), (0x11, 0x22), "RAX and RDX");
    guest.vp.skip(2);
    report::same(guest.hear(root), 0x11, "EAX after WRMSR");
}

fn fault(guest: &Guest, root: &mut Root, offset: u64) {
    let message: HvX64ExceptionInterceptMessage =
        guest.run_to(root, HvMessageType::X64_EXCEPTION_INTERCEPT);
    report::same(message.exception_vector, 13, "vector");
    report::same(message.error_code, 0, "error code");
    report::same(
        message.header.rip,
        crate::guest::CODE + offset,
        "RIP of the MSR access",
    );
    guest.vp.skip(2);
}

/// Type 0xC: one MSR, reads and writes apart.
pub fn named(root: &mut Root) {
    let guest = Guest::flat(root, msr_code());
    let kind = HvInterceptType::X64_MSR_INDEX;
    let msr = HvInterceptParameters::msr_index(MSR);
    guest.intercept(root, kind, RW, msr);
    read(&guest, root);
    write(&guest, root);
    // Only reads: the write is a #GP, which is intercepted to be seen.
    guest.intercept(
        root,
        HvInterceptType::EXCEPTION,
        EXECUTE,
        GENERAL_PROTECTION,
    );
    guest.intercept(root, kind, HvInterceptAccessMask::READ, msr);
    read(&guest, root);
    fault(&guest, root, 23);
    guest.hear(root);
    guest.intercept(root, kind, NONE, msr);
    fault(&guest, root, 5);
    guest.end(root);
    ok!("one MSR: read, written, answered, removed");
}

/// Type 0x1: every MSR that is not virtualized; and the property that ignores them.
pub fn all(root: &mut Root) {
    let guest = Guest::flat(root, msr_code());
    let any = HvInterceptParameters(0);
    guest.intercept(root, HvInterceptType::X64_MSR, RW, any);
    read(&guest, root);
    write(&guest, root);
    guest.intercept(root, HvInterceptType::X64_MSR, NONE, any);
    guest.intercept(
        root,
        HvInterceptType::EXCEPTION,
        EXECUTE,
        GENERAL_PROTECTION,
    );
    fault(&guest, root, 5);
    guest.hear(root);
    guest.hear(root);
    fault(&guest, root, 23);
    guest.hear(root);
    let ignore = HvUnimplementedMsrAction::IGNORE_WRITE_READ_ZERO.0;
    let property = HvPartitionPropertyCode::UNIMPLEMENTED_MSR_ACTION;
    guest.child.set_property(root, property, u64::from(ignore));
    report::same(
        (guest.hear(root), guest.hear(root)),
        (0, 0),
        "an MSR that is ignored",
    );
    report::same(guest.hear(root), 0x11, "EAX after an ignored WRMSR");
    guest.end(root);
    ok!("all MSRs that are not virtualized: intercepted, faulting, ignored");
}
