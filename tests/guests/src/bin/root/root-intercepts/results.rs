//! Results registered in advance: answers without an intercept.

use guests::root::vp::gp;
use guests::root::{Root, report};
use guests::{child_code, ok};
use tlfs::{
    HvCallCode, HvInputRegisterInterceptResult, HvInterceptAccessMask, HvInterceptParameters,
    HvInterceptType, HvMaskedValue, HvMessageType, HvRegisterX64CpuidResultParameters,
    HvRegisterX64MsrResultParameters, HvStatus, HvUnimplementedMsrAction, HvVpIndex,
    HvX64CpuidInterceptMessage, HvX64ExceptionInterceptMessage,
};
use zerocopy::{Immutable, IntoBytes};

use crate::guest::Guest;
use crate::processor::asked;

child_code!(
    subleaf_code,
    "32",
    "3: mov eax, 0x4000",
    "mov ecx, ebp",
    "cpuid",
    "out 0x80, eax",
    "mov eax, ebx",
    "out 0x80, eax",
    "jmp 3b",
);

fn order<T: IntoBytes + Immutable>(
    guest: &Guest,
    root: &Root,
    code: HvCallCode,
    kind: HvInterceptType,
    parameters: &T,
) -> HvStatus {
    let (partition, any) = (guest.vp.partition, HvVpIndex::ANY);
    let input = HvInputRegisterInterceptResult::new(partition, any, kind, parameters);
    root.calls.order(code, &input.unwrap_or_default())
}

const REGISTER: HvCallCode = HvCallCode::REGISTER_INTERCEPT_RESULT;
const UNREGISTER: HvCallCode = HvCallCode::UNREGISTER_INTERCEPT_RESULT;
const CPUID: HvInterceptType = HvInterceptType::X64_CPUID;

fn result(subleaf: Option<u32>, over: bool, eax: u32) -> HvRegisterX64CpuidResultParameters {
    HvRegisterX64CpuidResultParameters {
        eax: 0x4000,
        ecx: subleaf.unwrap_or(0),
        subleaf_specific: u8::from(subleaf.is_some()),
        always_override: u8::from(over),
        result_eax: HvMaskedValue {
            value: eax,
            mask: 0x0000_FFFF,
        },
        result_ebx: HvMaskedValue {
            value: 0x5A5A_5A5A,
            mask: u32::MAX,
        },
        ..HvRegisterX64CpuidResultParameters::default()
    }
}

fn hear_two(guest: &Guest, root: &mut Root, subleaf: u64) -> [u32; 2] {
    guest.vp.put(5, subleaf);
    [(); 2].map(|()| guest.hear(root))
}

/// CPUID: for a leaf, for a subleaf, under a mask, over an intercept.
pub fn cpuid(root: &mut Root) {
    let guest = Guest::flat(root, subleaf_code());
    let success = |status, what| report::status(status, HvStatus::SUCCESS, what);
    let [eax, ebx, ..] = asked(&guest, root, 0x4000, 0, false);
    report::same(hear_two(&guest, root, 0), [eax, ebx], "CPUID before");
    let everywhere = result(None, false, 0xFFFF_1234);
    success(
        order(&guest, root, REGISTER, CPUID, &everywhere),
        "register",
    );
    let wanted = [eax & 0xFFFF_0000 | 0x1234, 0x5A5A_5A5A];
    report::same(hear_two(&guest, root, 0), wanted, "registered CPUID");
    report::same(
        hear_two(&guest, root, 9),
        wanted,
        "registered CPUID, other subleaf",
    );
    let [a, b, ..] = asked(&guest, root, 0x4000, 9, true);
    report::same([a, b], wanted, "GetVpCpuidValues with registered results");
    let special = result(Some(9), true, 0x9999);
    success(order(&guest, root, REGISTER, CPUID, &special), "register");
    let nine = hear_two(&guest, root, 9);
    report::same(nine[0] & 0xFFFF, 0x9999, "CPUID of a registered subleaf");
    report::same(
        hear_two(&guest, root, 8),
        wanted,
        "CPUID of another subleaf",
    );
    // An intercept comes before a result, unless that always overrides.
    let leaf = HvInterceptParameters::cpuid(0x4000);
    guest.intercept(root, CPUID, HvInterceptAccessMask::EXECUTE, leaf);
    report::same(hear_two(&guest, root, 9), nine, "a result that overrides");
    guest.vp.put(5, 8);
    let message: HvX64CpuidInterceptMessage =
        guest.run_to(root, HvMessageType::X64_CPUID_INTERCEPT);
    report::same((message.rax, message.rcx), (0x4000, 8), "leaf and subleaf");
    guest.vp.put(gp::RAX, 0x10);
    guest.vp.put(gp::RBX, 0x20);
    guest.vp.skip(2);
    report::same(
        [guest.hear(root), guest.hear(root)],
        [0x10, 0x20],
        "the parent's answer",
    );
    let none = HvInterceptAccessMask(0);
    guest.intercept(root, CPUID, none, leaf);
    for registered in [special, everywhere] {
        success(
            order(&guest, root, UNREGISTER, CPUID, &registered),
            "unregister",
        );
    }
    report::same(hear_two(&guest, root, 9), [eax, ebx], "CPUID after");
    let bad = order(&guest, root, REGISTER, HvInterceptType::EXCEPTION, &special);
    report::status(bad, HvStatus::INVALID_PARAMETER, "a result of an exception");
    guest.end(root);
    ok!("registered CPUID results: leaf, subleaf, mask, override, removal");
}

child_code!(
    registered_msr_code,
    "32",
    "3: mov ecx, 0x4321",
    "mov eax, 0x55",
    "rdmsr",
    "out 0x80, eax",
    "mov eax, 0x66",
    "wrmsr",
    "out 0x80, eax",
    "jmp 3b",
);

/// MSRs: ignored, and faulting.
pub fn msr(root: &mut Root) {
    let guest = Guest::flat(root, registered_msr_code());
    let kind = HvInterceptType::X64_MSR;
    let rule = |action| HvRegisterX64MsrResultParameters {
        msr_index: 0x4321,
        access_type: HvInterceptAccessMask(3),
        action,
    };
    let ignore = rule(HvUnimplementedMsrAction::IGNORE_WRITE_READ_ZERO);
    let status = order(&guest, root, REGISTER, kind, &ignore);
    report::status(status, HvStatus::SUCCESS, "register");
    report::same(
        [guest.hear(root), guest.hear(root)],
        [0, 0x66],
        "an ignored MSR",
    );
    let fault = rule(HvUnimplementedMsrAction::FAULT);
    let status = order(&guest, root, REGISTER, kind, &fault);
    report::status(status, HvStatus::SUCCESS, "register");
    let execute = HvInterceptAccessMask::EXECUTE;
    let protection = HvInterceptParameters::exception(13);
    guest.intercept(root, HvInterceptType::EXCEPTION, execute, protection);
    let message: HvX64ExceptionInterceptMessage =
        guest.run_to(root, HvMessageType::X64_EXCEPTION_INTERCEPT);
    report::same(message.exception_vector, 13, "vector");
    let status = order(&guest, root, UNREGISTER, kind, &fault);
    report::status(status, HvStatus::SUCCESS, "unregister");
    let message: HvX64ExceptionInterceptMessage =
        guest.run_to(root, HvMessageType::X64_EXCEPTION_INTERCEPT);
    report::same(message.exception_vector, 13, "vector");
    let bad = rule(HvUnimplementedMsrAction(7));
    let status = order(&guest, root, REGISTER, kind, &bad);
    report::status(status, HvStatus::INVALID_PARAMETER, "an unknown action");
    guest.end(root);
    ok!("registered MSR results: ignored, faulting, removed");
}
