//! Exceptions, before their delivery.

use guests::root::vp::{gp, payload};
use guests::root::{Root, report};
use guests::{child_code, ok};
use tlfs::HvInterceptAccessType as Access;
use tlfs::{
    HvInterceptAccessMask, HvInterceptParameters, HvInterceptType, HvMessageType, HvRegisterName,
    HvStatus, HvX64ExceptionInterceptMessage, HvX64PendingInterruptionRegister,
    HvX64PendingInterruptionType,
};

use crate::guest::{CODE, Guest};

child_code!(
    fault_code,
    "32",
    "mov eax, 0xA0",          // 0
    "mov ecx, 0xC0",          // 5
    "mov ebx, 0xB0",          // 10
    "ud2",                    // 15
    "out 0x80, eax",          // 17
    "int3",                   // 19
    "out 0x80, eax",          // 20
    "mov ebx, 0x58",          // 22
    "mov fs, ebx",            // 27
    "out 0x80, eax",          // 29
    "mov eax, 0x1F",          // 31
    "out 0x80, eax",          // 36
    "add dword ptr [esp], 2", // 38
    "iretd",
);

/// Offset of the handler in `fault_code`.
const HANDLER: u64 = 31;

fn intercept(guest: &Guest, root: &Root, vector: u16, on: bool) {
    let mask = if on {
        HvInterceptAccessMask::EXECUTE
    } else {
        HvInterceptAccessMask(0)
    };
    let parameter = HvInterceptParameters::exception(vector);
    guest.intercept(root, HvInterceptType::EXCEPTION, mask, parameter);
}

fn run(guest: &Guest, root: &mut Root, vector: u16) -> HvX64ExceptionInterceptMessage {
    let message: HvX64ExceptionInterceptMessage =
        guest.run_to(root, HvMessageType::X64_EXCEPTION_INTERCEPT);
    report::same(message.exception_vector, vector, "vector");
    let page = guest.vp.page();
    report::same(message.gp_registers, page.gp_registers, "general registers");
    report::same(message.ds_segment, page.segment[3], "DS");
    report::same(message.ss_segment, page.segment[2], "SS");
    let bytes = &message.instruction_bytes;
    guest.check_bytes(message.header.rip, message.instruction_byte_count, bytes);
    message
}

/// A fault without an error code, a software exception, a fault with an error code.
pub fn fields(root: &mut Root) {
    let guest = Guest::flat(root, fault_code());
    for vector in [3, 6, 13] {
        intercept(&guest, root, vector, true);
    }
    let undefined = run(&guest, root, 6);
    report::same(undefined.header.rip, CODE + 15, "RIP of UD2");
    report::same(
        undefined.header.intercept_access_type,
        Access::EXECUTE,
        "access",
    );
    let info = undefined.exception_info;
    report::same(
        (info.error_code_valid(), info.software_exception()),
        (false, false),
        "#UD",
    );
    report::same(undefined.gp_registers[gp::RCX], 0xC0, "RCX");
    guest.vp.put(gp::RAX, 0xFACE);
    guest.vp.skip(2);
    report::same(guest.hear(root), 0xFACE, "RAX after #UD");

    breakpoint(&guest, root);

    let protection = run(&guest, root, 13);
    report::same(protection.header.rip, CODE + 27, "RIP of MOV FS");
    let valid = protection.exception_info.error_code_valid();
    report::same((valid, protection.error_code), (true, 0x58), "error code");
    guest.vp.skip(2);
    guest.hear(root);
    for vector in [2, 18, 32, 0xFFFF] {
        let parameter = HvInterceptParameters::exception(vector);
        let execute = HvInterceptAccessMask::EXECUTE;
        let kind = HvInterceptType::EXCEPTION;
        let status = guest.child.try_intercept(root, kind, execute, parameter);
        if vector != 2 && vector != 18 {
            report::status(status, HvStatus::INVALID_PARAMETER, "no exception");
        }
    }
    guest.end(root);
    ok!("exceptions: vector, error code, software, registers");
}

/// #BP. QEMU's processor does not know that INT3 can be intercepted as an exception, and delivers it.
fn breakpoint(guest: &Guest, root: &mut Root) {
    guest.gate(3, CODE + HANDLER);
    let message = guest.vp.run(root);
    if message.header.message_type == HvMessageType::X64_IO_PORT_INTERCEPT {
        guests::say!("   this processor does not intercept INT3");
        guest.vp.skip(2);
        return;
    }
    let breakpoint: HvX64ExceptionInterceptMessage =
        payload(&message, HvMessageType::X64_EXCEPTION_INTERCEPT);
    report::same(breakpoint.exception_vector, 3, "vector");
    report::same(breakpoint.header.rip, CODE + 19, "RIP of INT3");
    report::same(breakpoint.header.instruction_length(), 1, "length of INT3");
    let software = breakpoint.exception_info.software_exception();
    report::same(software, true, "software exception");
    guest.vp.skip(1);
    guest.hear(root);
}

/// An intercepted exception is given to the child after all, and one that is not intercepted reaches it by itself.
pub fn delivered_again(root: &mut Root) {
    let guest = Guest::flat(root, fault_code());
    guest.gate(6, CODE + HANDLER);
    intercept(&guest, root, 6, true);
    run(&guest, root, 6);
    let pending = HvX64PendingInterruptionRegister::new()
        .with_interruption_pending(true)
        .with_interruption_type(HvX64PendingInterruptionType::EXCEPTION.0)
        .with_interruption_vector(6);
    let list = [(HvRegisterName::PENDING_INTERRUPTION, pending.into())];
    guest.vp.set(root, &list);
    report::same(guest.hear(root), 0x1F, "the child's handler");
    report::same(guest.hear(root), 0x1F, "EAX after the handler");
    let left = guest.get(root, HvRegisterName::PENDING_INTERRUPTION);
    report::same(left & 1, 0, "PendingInterruption after its delivery");
    intercept(&guest, root, 6, false);
    guest.vp.jump(CODE + 15);
    guest.vp.put(gp::RAX, 0);
    report::same(
        guest.hear(root),
        0x1F,
        "the child's handler without an intercept",
    );
    guest.end(root);
    ok!("an intercepted exception is delivered after all; a removed intercept is gone");
}

child_code!(
    paging_code,
    "64",
    "mov rbx, 0x23456",         // 0
    "mov qword ptr [rbx], rax", // 7
    "mov rbx, 0x7fffff123456",  // 10
    "mov al, byte ptr [rbx]",
    "out 0x80, eax",
);

/// #PF: error code and address.
pub fn page_fault(root: &mut Root) {
    let guest = Guest::long(root, paging_code(), crate::translate::PML4);
    crate::translate::build(&guest);
    // Page 0x23 is not present.
    crate::translate::set_page(&guest, 0x23, 0);
    intercept(&guest, root, 14, true);
    let write = run(&guest, root, 14);
    report::same(write.exception_parameter, 0x23456, "address of a #PF");
    report::same(
        (write.exception_info.error_code_valid(), write.error_code),
        (true, 2),
        "error code of a write to a page that is not present",
    );
    report::same(write.header.rip, CODE + 7, "RIP");
    let long = write.header.execution_state.efer_lma();
    report::same(long, true, "EFER.LMA in the execution state");
    guest.vp.skip(3);
    let read = run(&guest, root, 14);
    report::same(
        read.exception_parameter,
        0x7FFF_FF12_3456,
        "address of a #PF",
    );
    report::same(read.error_code, 0, "error code of a read");
    guest.vp.skip(2);
    guest.hear(root);
    guest.end(root);
    ok!("#PF: error code and address");
}
