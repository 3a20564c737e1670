//! The rest of a VP's state: triple faults, states that the processor refuses, control registers, the local APIC.

use guests::root::memory::{self, PAGE};
use guests::root::vp::payload;
use guests::root::{Root, report};
use guests::{check, child_code, ok};
use tlfs::HvInterceptAccessType as Access;
use tlfs::{
    HvCallCode, HvGetSetVpStateType, HvHypercallInput, HvInputVpState,
    HvLocalInterruptControllerState, HvMessageType, HvRegisterName, HvStatus, HvVpStateData,
    HvX64InvalidVpRegisterMessage, HvX64RegisterInterceptMessage,
    HvX64UnrecoverableExceptionMessage,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::guest::{CODE, GDT, Guest, IDT};
use crate::processor::asked;

child_code!(
    fatal_code,
    "32",
    "nop",
    "ud2",
    "mov eax, 0x44",
    "out 0x80, eax",
);

/// A fault that cannot be delivered, nor the fault of its delivery.
pub fn triple_fault(root: &mut Root) {
    let guest = Guest::flat(root, fatal_code());
    guest.vp.set_tables(root, (GDT, 0x17), (IDT, 0));
    let message: HvX64UnrecoverableExceptionMessage =
        guest.run_to(root, HvMessageType::UNRECOVERABLE_EXCEPTION);
    report::same(message.header.vp_index, guest.vp.index, "VP");
    report::same(message.header.rip, CODE + 1, "RIP of a triple fault");
    report::same(message.header.cs_segment.selector, 8, "CS");
    // The parent may make something of it, as a reset would. An event whose delivery failed may still be pending.
    guest
        .vp
        .set64(root, &[(HvRegisterName::PENDING_INTERRUPTION, 0)]);
    guest.vp.enter_flat(root, CODE + 3);
    guest.vp.set_tables(root, (GDT, 0x17), (IDT, 0x7FF));
    report::same(
        guest.hear(root),
        0x44,
        "a VP that goes on after a triple fault",
    );
    guest.end(root);
    ok!("a triple fault is reported, and the VP can be used again");
}

/// Long mode without PAE: no processor runs that. It is refused when it is written, or found at the next run.
pub fn refused_by_hardware(root: &mut Root) {
    let guest = Guest::flat(root, fatal_code());
    let bad = [
        (HvRegisterName::EFER, 0x500u64),
        (HvRegisterName::CR4, 0),
        (HvRegisterName::CR0, 0x8000_0011),
    ]
    .map(|(name, value)| (name, value.into()));
    let (status, done) = guest.vp.try_set(root, &bad);
    match status {
        HvStatus::SUCCESS => {
            let message: HvX64InvalidVpRegisterMessage =
                guest.run_to(root, HvMessageType::INVALID_VP_REGISTER_VALUE);
            report::same(message.vp_index, guest.vp.index, "VP");
            ok!("a state that the processor refuses is found at the next run");
        }
        status => {
            report::status(status, HvStatus::INVALID_REGISTER_VALUE, "a bad state");
            check!(done < 3, "the refused register is counted");
            ok!("a state that the processor refuses is refused when it is written");
        }
    }
    guest.vp.enter_flat(root, CODE + 3);
    report::same(guest.hear(root), 0x44, "a VP that goes on");
    // Values that no VP can have are refused at once.
    for (name, value) in [
        (HvRegisterName::CR4, 1u64 << 63),
        (HvRegisterName::EFER, 1 << 62),
        (HvRegisterName::CR0, 1 << 32),
    ] {
        let before = guest.get(root, name);
        let (status, done) = guest.vp.try_set(root, &[(name, value.into())]);
        report::same(
            (status, done),
            (HvStatus::INVALID_REGISTER_VALUE, 0),
            "a value that the register cannot have",
        );
        report::same(guest.get(root, name), before, "a refused register");
    }
    guest.end(root);
    ok!("reserved bits of control registers are refused");
}

child_code!(
    control_code,
    "32",
    "3: mov edi, cr0",  // 0
    "or edi, 0x10000",  // 3
    "mov cr0, edi",     // 9
    "mov eax, cr0",     // 12
    "out 0x80, eax",    // 15
    "xor eax, 0x40000", // 17
    "mov cr0, eax",     // 22
    "mov eax, cr0",     // 25
    "out 0x80, eax",    // 28
    "mov ebx, cr4",     // 30
    "xor ebx, 4",       // 33
    "mov cr4, ebx",     // 36
    "mov eax, cr4",     // 39
    "out 0x80, eax",    // 42
    "jmp 3b",           // 44
    "nop",              // 46
    "mov eax, cr4",     // 47
    "or eax, 0x40000",  // 50
    "mov cr4, eax",     // 55
    "xor ecx, ecx",     // 58
    "xor edx, edx",     // 60
    "mov eax, 3",       // 62
    "xsetbv",           // 67
    "mov eax, 0x33",    // 70
    "out 0x80, eax",
    "xor ecx, ecx",
    "xgetbv",
    "out 0x80, eax",
);

const WP: u64 = 1 << 16;
const AM: u64 = 1 << 18;
const TSD: u64 = 1 << 2;
const PCE: u64 = 1 << 8;
const CONTROL_CR0: u64 = 1;
const CONTROL_CR4: u64 = 2;
const CONTROL_XCR0: u64 = 4;

fn written(guest: &Guest, root: &mut Root, name: HvRegisterName, offset: u64) -> u64 {
    let message: HvX64RegisterInterceptMessage =
        guest.run_to(root, HvMessageType::X64_REGISTER_INTERCEPT);
    guest.check_header(&message.header, offset, 3, Access::WRITE);
    report::same(message.register_name, name, "register");
    message.source_value.low
}

/// Registers 0xE0000 to 0xE0003: changes of chosen bits of CR0, CR4 and XCR0 are reported before they happen.
pub fn control_registers(root: &mut Root) {
    let guest = Guest::flat(root, control_code());
    let list = [
        (HvRegisterName::CR_INTERCEPT_CR0_MASK, WP),
        (HvRegisterName::CR_INTERCEPT_CR4_MASK, TSD | PCE),
        (HvRegisterName::CR_INTERCEPT_IA32_MISC_ENABLE_MASK, 1),
        (
            HvRegisterName::CR_INTERCEPT_CONTROL,
            CONTROL_CR0 | CONTROL_CR4,
        ),
    ];
    guest.vp.set64(root, &list);
    for (name, value) in list {
        report::same(
            guest.get(root, name),
            value,
            "a register of control intercepts",
        );
    }
    let old = guest.get(root, HvRegisterName::CR0);
    let new = written(&guest, root, HvRegisterName::CR0, 9);
    report::same(new, old | WP, "the new CR0");
    report::same(guest.vp.page().cr0, old, "CR0 before it changes");
    // The parent ignores the write.
    guest.vp.skip(3);
    report::same(
        u64::from(guest.hear(root)),
        old,
        "CR0 whose change was ignored",
    );
    // AM is not in the mask.
    report::same(
        u64::from(guest.hear(root)),
        old ^ AM,
        "CR0 after a change of AM",
    );
    let new = written(&guest, root, HvRegisterName::CR4, 36);
    report::same(new, TSD, "the new CR4");
    // The parent makes the change.
    guest.vp.set64(root, &[(HvRegisterName::CR4, new)]);
    guest.vp.skip(3);
    report::same(
        u64::from(guest.hear(root)),
        TSD,
        "CR4 that the parent changed",
    );
    guest
        .vp
        .set64(root, &[(HvRegisterName::CR_INTERCEPT_CONTROL, 0)]);
    let now = u64::from(guest.hear(root));
    report::same(now & WP, WP, "CR0.WP without intercepts");
    guest.hear(root);
    report::same(guest.hear(root), 0, "CR4 without intercepts");
    ok!("control registers: chosen bits of CR0 and CR4");
    extended(&guest, root);
    guest.end(root);
}

fn extended(guest: &Guest, root: &mut Root) {
    const XSAVE: u32 = 1 << 26;
    if asked(guest, root, 1, 0, true)[2] & XSAVE == 0 {
        guests::say!("   the child has no XSAVE");
        return;
    }
    let control = [(HvRegisterName::CR_INTERCEPT_CONTROL, CONTROL_XCR0)];
    guest.vp.set64(root, &control);
    guest.vp.jump(CODE + 47);
    let message = guest.vp.run(root);
    if message.header.message_type == HvMessageType::X64_IO_PORT_INTERCEPT {
        guests::say!("   this processor does not intercept XSETBV");
        guest.vp.skip(2);
        report::same(guest.hear(root), 3, "XCR0 that the child changed");
        return;
    }
    let message: HvX64RegisterInterceptMessage =
        payload(&message, HvMessageType::X64_REGISTER_INTERCEPT);
    report::same(message.register_name, HvRegisterName::XFEM, "register");
    report::same(message.source_value.low, 3, "the new XCR0");
    report::same(
        guest.get(root, HvRegisterName::XFEM),
        1,
        "XCR0 before it changes",
    );
    guest.vp.skip(3);
    report::same(guest.hear(root), 0x33, "after XSETBV");
    report::same(guest.hear(root), 1, "XCR0 whose change was ignored");
    ok!("control registers: XCR0");
}

fn apic_call(guest: &Guest, root: &Root, code: HvCallCode, page: u64) -> HvStatus {
    let header = HvInputVpState {
        partition_id: guest.vp.partition,
        vp_index: guest.vp.index,
        state_data: HvVpStateData {
            state_type: HvGetSetVpStateType::LOCAL_INTERRUPT_CONTROLLER_STATE,
            ..HvVpStateData::default()
        },
        ..HvInputVpState::default()
    };
    let control = HvHypercallInput::simple(code).with_variable_header_size(1);
    let list = page / PAGE;
    let parts = [header.as_bytes(), list.as_bytes()];
    root.calls.call(control, &parts, &mut []).call_status()
}

/// The local APIC as a whole, through a page of the root's; registers read the same.
pub fn local_apic(root: &mut Root) {
    let guest = Guest::flat(root, fatal_code());
    let page = root.memory.zeroed();
    let mut state = HvLocalInterruptControllerState::new_zeroed();
    let status = apic_call(&guest, root, HvCallCode::GET_VP_STATE, page);
    report::status(status, HvStatus::SUCCESS, "GetVpState");
    memory::copy_from(page, state.as_mut_bytes());
    check!(
        state.apic_version & 0xFF >= 0x10,
        "APIC version {:#x}",
        state.apic_version
    );
    report::same(state.apic_spurious, 0xFF, "spurious vector after reset");
    report::same(state.apic_lvt_lint0 & 1 << 16, 1 << 16, "LINT0 after reset");
    state.apic_spurious = 0x1E1;
    state.apic_irr[2] = 1 << 1;
    memory::copy_to(page, state.as_bytes());
    let status = apic_call(&guest, root, HvCallCode::SET_VP_STATE, page);
    report::status(status, HvStatus::SUCCESS, "SetVpState");
    let mut again = HvLocalInterruptControllerState::new_zeroed();
    memory::fill(page, 0, PAGE);
    let status = apic_call(&guest, root, HvCallCode::GET_VP_STATE, page);
    report::status(status, HvStatus::SUCCESS, "GetVpState");
    memory::copy_from(page, again.as_mut_bytes());
    report::same(again, state, "the local APIC after SetVpState");
    report::same(
        guest.get(root, HvRegisterName::APIC_SPURIOUS),
        0x1E1,
        "the spurious vector as a register",
    );
    report::same(
        guest.get(root, HvRegisterName::APIC_IRR2),
        2,
        "IRR as a register",
    );
    let huge = apic_call(&guest, root, HvCallCode::GET_VP_STATE, 1 << 51);
    check!(
        !huge.is_success(),
        "GetVpState writes to a page that is not there"
    );
    root.memory.give_back(page);
    guest.end(root);
    ok!("the local APIC goes out and in through a page");
}
