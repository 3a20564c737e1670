//! CPUID: one leaf, and all.

use guests::metal::cpu::cpuid;
use guests::root::vp::gp;
use guests::root::{Root, report};
use guests::{child_code, ok};
use tlfs::HvInterceptAccessType as Access;
use tlfs::{
    HvCallCode, HvCpuidLeafInfo, HvCpuidResult, HvGetVpCpuidValuesFlags, HvInputGetVpCpuidValues,
    HvInterceptAccessMask, HvInterceptParameters, HvInterceptType, HvMessageType, HvStatus,
    HvX64CpuidInterceptMessage,
};
use zerocopy::IntoBytes;

use crate::guest::{Guest, NONE};

const EXECUTE: HvInterceptAccessMask = HvInterceptAccessMask::EXECUTE;

child_code!(
    leaf_code,
    "32",
    "3: mov eax, 0x100", // 0
    "mov ecx, 7",        // 5
    "cpuid",             // 10
    "out 0x80, eax",     // 12
    "mov eax, ebx",
    "out 0x80, eax",
    "mov eax, ecx",
    "out 0x80, eax",
    "mov eax, edx",
    "out 0x80, eax",
    "xor eax, eax", // 26
    "cpuid",        // 28
    "out 0x80, eax",
    "jmp 3b",
);

fn hear_four(guest: &Guest, root: &mut Root) -> [u32; 4] {
    [(); 4].map(|()| guest.hear(root))
}

/// What GetVpCpuidValues says of a leaf: EAX, EBX, ECX, EDX.
pub fn asked(guest: &Guest, root: &Root, eax: u32, ecx: u32, applied: bool) -> [u32; 4] {
    let mut flags = HvGetVpCpuidValuesFlags::USE_VP_XFEM_XSS;
    flags.set(HvGetVpCpuidValuesFlags::APPLY_REGISTERED_VALUES, applied);
    let header = HvInputGetVpCpuidValues {
        partition_id: guest.vp.partition,
        vp_index: guest.vp.index,
        flags,
        reserved: 0,
    };
    let leaf = HvCpuidLeafInfo {
        eax,
        ecx,
        ..HvCpuidLeafInfo::default()
    };
    let mut result = HvCpuidResult::default();
    let parts = [header.as_bytes(), leaf.as_bytes()];
    let code = HvCallCode::GET_VP_CPUID_VALUES;
    let done = root.calls.rep(code, (0, 1), &parts, result.as_mut_bytes());
    report::same(done, (HvStatus::SUCCESS, 1), "GetVpCpuidValues");
    [result.eax, result.ebx, result.ecx, result.edx]
}

/// Type 0x2, as in the crates' tests: leaf 0x100.
pub fn named_leaf(root: &mut Root) {
    let guest = Guest::flat(root, leaf_code());
    let kind = HvInterceptType::X64_CPUID;
    let leaf = HvInterceptParameters::cpuid(0x100);
    guest.intercept(root, kind, EXECUTE, leaf);
    let message: HvX64CpuidInterceptMessage =
        guest.run_to(root, HvMessageType::X64_CPUID_INTERCEPT);
    guest.check_header(&message.header, 10, 2, Access::EXECUTE);
    report::same((message.rax, message.rcx), (0x100, 7), "leaf and subleaf");
    let default = asked(&guest, root, 0x100, 7, false).map(u64::from);
    let told = [
        message.default_result_rax,
        message.default_result_rbx,
        message.default_result_rcx,
        message.default_result_rdx,
    ];
    report::same(told, default, "default results");
    for (register, value) in [(gp::RAX, 1), (gp::RBX, 2), (gp::RCX, 3), (gp::RDX, 4)] {
        guest.vp.put(register, value);
    }
    guest.vp.skip(2);
    report::same(
        hear_four(&guest, root),
        [1, 2, 3, 4],
        "CPUID as the parent says",
    );
    let max = guest.hear(root);
    report::same(max, asked(&guest, root, 0, 0, false)[0], "CPUID of leaf 0");
    guest.intercept(root, kind, NONE, leaf);
    let default = asked(&guest, root, 0x100, 7, false);
    report::same(
        hear_four(&guest, root),
        default,
        "CPUID without an intercept",
    );
    guest.end(root);
    ok!("one CPUID leaf: intercepted, answered, removed");
}

/// Type 0x6: every leaf.
pub fn every_leaf(root: &mut Root) {
    let guest = Guest::flat(root, leaf_code());
    let (kind, none) = (HvInterceptType::X64_GLOBAL_CPUID, HvInterceptParameters(0));
    guest.intercept(root, kind, EXECUTE, none);
    let message: HvX64CpuidInterceptMessage =
        guest.run_to(root, HvMessageType::X64_CPUID_INTERCEPT);
    guest.check_header(&message.header, 10, 2, Access::EXECUTE);
    guest.vp.put(gp::RAX, 0x77);
    guest.vp.skip(2);
    report::same(hear_four(&guest, root)[0], 0x77, "EAX as the parent says");
    let message: HvX64CpuidInterceptMessage =
        guest.run_to(root, HvMessageType::X64_CPUID_INTERCEPT);
    guest.check_header(&message.header, 28, 2, Access::EXECUTE);
    report::same(message.rax, 0, "leaf");
    let vendor = cpuid(0, 0);
    let default = [
        message.default_result_rbx,
        message.default_result_rdx,
        message.default_result_rcx,
    ];
    let machine = [vendor.ebx, vendor.edx, vendor.ecx].map(u64::from);
    report::same(default, machine, "vendor in the default results");
    guest.intercept(root, kind, NONE, none);
    guest.vp.put(gp::RAX, 0x55);
    guest.vp.skip(2);
    report::same(guest.hear(root), 0x55, "EAX as the parent says");
    let default = asked(&guest, root, 0x100, 7, false);
    report::same(
        hear_four(&guest, root),
        default,
        "CPUID without an intercept",
    );
    guest.end(root);
    ok!("every CPUID leaf: intercepted, answered, removed");
}
