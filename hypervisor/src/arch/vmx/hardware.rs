//! The instructions of VMX.

use crate::arch::state::Gprs;

use super::fields::host;

/// What INVEPT and INVVPID take as their operand.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
struct Descriptor([u64; 2]);

/// Enters VMX operation with the VMXON region at physical address `region`. False if the processor refuses.
///
/// # Safety
/// Ring 0, CR4.VMXE on, VMXON allowed by IA32_FEATURE_CONTROL, CR0 and CR4 as VMX operation wants them; the region is a
/// page of RAM that begins with the revision identifier and that nothing else uses.
pub(super) unsafe fn vmxon(region: u64) -> bool {
    let failed: u8;
    // SAFETY: the caller vouches for all of it.
    unsafe {
        core::arch::asm!("vmxon [{}]", "setbe {}", in(reg) &region, lateout(reg_byte) failed, options(nostack))
    };
    failed == 0
}

/// Makes a VMCS inactive, its data in memory, its launch state clear. False if the processor refuses.
///
/// # Safety
/// Ring 0 in VMX operation; `vmcs` is a page for a VMCS that no other processor has active.
pub(super) unsafe fn vmclear(vmcs: u64) -> bool {
    let failed: u8;
    // SAFETY: the caller vouches for all of it.
    unsafe {
        core::arch::asm!("vmclear [{}]", "setbe {}", in(reg) &vmcs, lateout(reg_byte) failed, options(nostack))
    };
    failed == 0
}

/// Makes a VMCS active and current. False if the processor refuses.
///
/// # Safety
/// As [`vmclear`], and it begins with the revision identifier.
pub(super) unsafe fn vmptrld(vmcs: u64) -> bool {
    let failed: u8;
    // SAFETY: the caller vouches for all of it.
    unsafe {
        core::arch::asm!("vmptrld [{}]", "setbe {}", in(reg) &vmcs, lateout(reg_byte) failed, options(nostack))
    };
    failed == 0
}

/// Address of the current VMCS; all ones if there is none.
///
/// # Safety
/// Ring 0 in VMX operation.
pub(super) unsafe fn vmptrst() -> u64 {
    let mut current = 0_u64;
    // SAFETY: the caller vouches for VMX operation; the operand is ours.
    unsafe { core::arch::asm!("vmptrst [{}]", in(reg) &raw mut current, options(nostack)) };
    current
}

/// A field of the current VMCS; 0 for one that the processor does not have.
///
/// # Safety
/// Ring 0 in VMX operation, with a current VMCS.
#[inline(always)]
pub(super) unsafe fn vmread(field: u32) -> u64 {
    let value: u64;
    // SAFETY: the caller vouches for VMX operation. VMREAD of a field that does not exist leaves the register alone.
    unsafe {
        core::arch::asm!(
            "vmread {value}, {field}", field = in(reg) u64::from(field), value = inout(reg) 0_u64 => value,
            options(nostack, nomem)
        );
    }
    value
}

/// Writes a field of the current VMCS. Nothing happens for one that the processor does not have.
///
/// # Safety
/// Ring 0 in VMX operation, with a current VMCS; the next entry with it must be sound with the value.
#[inline(always)]
pub(super) unsafe fn vmwrite(field: u32, value: u64) {
    // SAFETY: the caller vouches for it.
    unsafe {
        core::arch::asm!(
            "vmwrite {field}, {value}", field = in(reg) u64::from(field), value = in(reg) value, options(nostack, nomem)
        );
    }
}

/// INVEPT of type `kind` (1 single context, 2 all).
///
/// # Safety
/// Ring 0 in VMX operation, and the processor has the type.
pub(super) unsafe fn invept(kind: u64, ept_pointer: u64) {
    let descriptor = Descriptor([ept_pointer, 0]);
    // SAFETY: the caller vouches for it; translations that go are found again.
    unsafe {
        core::arch::asm!("invept {}, [{}]", in(reg) kind, in(reg) &descriptor, options(nostack))
    };
}

/// INVVPID of type `kind` (1 single context, 2 all).
///
/// # Safety
/// As [`invept`]; `vpid` is not 0 for type 1.
pub(super) unsafe fn invvpid(kind: u64, vpid: u64) {
    let descriptor = Descriptor([vpid, 0]);
    // SAFETY: as in `invept`.
    unsafe {
        core::arch::asm!("invvpid {}, [{}]", in(reg) kind, in(reg) &descriptor, options(nostack))
    };
}

/// Calls the host's NMI handler, as the processor does.
pub(super) fn call_nmi_handler() {
    // SAFETY: the gate is there like that of any vector, with a stack of its own; the handler only leaves a mark.
    unsafe { core::arch::asm!("int 2") };
}

core::arch::global_asm!(
    // fn partita_vmx_enter(rdi: *mut Gprs, rsi: 0 to launch, else resume) -> rax: 0 after an exit, 1 VMfailInvalid,
    // 2 VMfailValid
    //
    // Interrupts are off throughout; an exit leaves RFLAGS clear. An NMI between the exit and the return finds a stack of
    // its own, as anywhere.
    ".pushsection .text.partita_vmx_enter,\"ax\",@progbits",
    ".globl partita_vmx_enter",
    ".globl partita_vmx_exit",
    ".type partita_vmx_enter, @function",
    ".p2align 6",
    "partita_vmx_enter:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rdi",
    "mov eax, {host_rsp}",
    "vmwrite rax, rsp",
    "test esi, esi",
    // MOV leaves the flags alone.
    "mov rax, [rdi]",
    "mov rcx, [rdi + 8]",
    "mov rdx, [rdi + 16]",
    "mov rbx, [rdi + 24]",
    "mov rbp, [rdi + 40]",
    "mov rsi, [rdi + 48]",
    "mov r8, [rdi + 64]",
    "mov r9, [rdi + 72]",
    "mov r10, [rdi + 80]",
    "mov r11, [rdi + 88]",
    "mov r12, [rdi + 96]",
    "mov r13, [rdi + 104]",
    "mov r14, [rdi + 112]",
    "mov r15, [rdi + 120]",
    "mov rdi, [rdi + 56]",
    "jnz 2f",
    "vmlaunch",
    "jmp 3f",
    "2:",
    "vmresume",
    "3:",
    // Neither went into the guest: CF says that there is no current VMCS, else ZF that the VMCS tells the error.
    "mov eax, 2",
    "mov ecx, 1",
    "cmovc eax, ecx",
    "add rsp, 8",
    "jmp 4f",
    ".p2align 4",
    "partita_vmx_exit:",
    // RSP is the host's again, all others the guest's.
    "push rdi",
    "mov rdi, [rsp + 8]",
    "mov [rdi], rax",
    "mov [rdi + 8], rcx",
    "mov [rdi + 16], rdx",
    "mov [rdi + 24], rbx",
    "mov [rdi + 40], rbp",
    "mov [rdi + 48], rsi",
    "mov [rdi + 64], r8",
    "mov [rdi + 72], r9",
    "mov [rdi + 80], r10",
    "mov [rdi + 88], r11",
    "mov [rdi + 96], r12",
    "mov [rdi + 104], r13",
    "mov [rdi + 112], r14",
    "mov [rdi + 120], r15",
    "pop rax",
    "mov [rdi + 56], rax",
    "add rsp, 8",
    "xor eax, eax",
    "4:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".size partita_vmx_enter, . - partita_vmx_enter",
    ".popsection",
    host_rsp = const host::RSP,
);

unsafe extern "sysv64" {
    /// Runs the guest of the current VMCS until its next exit, with interrupts off before and after.
    ///
    /// # Safety
    /// * ring 0 in VMX operation, interrupts off, the guest's VMCS current and complete but for HOST_RSP, with
    ///   [`vmx_exit`] as HOST_RIP; `resume` says whether it has been launched since VMCLEAR;
    /// * `gprs` points to the guest's registers, writable; RSP of the guest lies in the VMCS;
    /// * EPT and bitmaps of the VMCS leave the hypervisor's memory and devices alone.
    #[link_name = "partita_vmx_enter"]
    pub(super) fn vmx_enter(gprs: *mut Gprs, resume: u64) -> u64;

    /// Where exits arrive: not to be called.
    #[link_name = "partita_vmx_exit"]
    pub(super) fn vmx_exit();
}
