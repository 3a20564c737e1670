//! The instructions of SVM.

/// Saves the host's hidden state to the page at physical address `page`.
///
/// # Safety
/// Ring 0, SVM enabled, and `page` must be a page of RAM that nothing else uses.
pub unsafe fn vmsave(page: u64) {
    // SAFETY: the caller vouches for SVM and the page.
    unsafe { core::arch::asm!("vmsave rax", in("rax") page, options(nostack, preserves_flags)) };
}

core::arch::global_asm!(
    // fn partita_svm_enter(rdi: *mut Gprs, rsi: VMCB physical address, rdx: host state physical address)
    //
    // GIF is off from CLGI to STGI but for the guest's own time, so nothing interrupts the half-switched state. IF is on
    // across VMRUN: with V_INTR_MASKING it is the host's IF that lets a physical interrupt end the run.
    ".pushsection .text.partita_svm_enter,\"ax\",@progbits",
    ".globl partita_svm_enter",
    ".type partita_svm_enter, @function",
    ".p2align 6",
    "partita_svm_enter:",
    "push rbp",
    "mov rbp, rsp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rdx",
    "push rdi",
    "mov rax, rsi",
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
    "clgi",
    "sti",
    "vmload rax",
    "vmrun rax",
    "vmsave rax",
    // RSP and RAX are the host's again, all others the guest's.
    "mov rax, [rsp]",
    "mov [rax + 8], rcx",
    "mov [rax + 16], rdx",
    "mov [rax + 24], rbx",
    "mov [rax + 40], rbp",
    "mov [rax + 48], rsi",
    "mov [rax + 56], rdi",
    "mov [rax + 64], r8",
    "mov [rax + 72], r9",
    "mov [rax + 80], r10",
    "mov [rax + 88], r11",
    "mov [rax + 96], r12",
    "mov [rax + 104], r13",
    "mov [rax + 112], r14",
    "mov [rax + 120], r15",
    "mov rax, [rsp + 8]",
    "vmload rax",
    "cli",
    "stgi",
    "add rsp, 16",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    ".size partita_svm_enter, . - partita_svm_enter",
    ".popsection",
);

unsafe extern "sysv64" {
    /// Runs the guest of the VMCB at physical address `vmcb` until its next #VMEXIT, with interrupts off before and after.
    ///
    /// # Safety
    /// * ring 0, SVM enabled, the host save area set, interrupts off;
    /// * `gprs` points to the guest's registers, writable; RAX and RSP of the guest lie in the VMCB;
    /// * `vmcb` is a VMCB whose nested tables and permission maps leave the hypervisor's memory and devices alone;
    /// * `host` is the page that `vmsave` wrote on this processor.
    #[link_name = "partita_svm_enter"]
    pub fn svm_enter(gprs: *mut crate::arch::state::Gprs, vmcb: u64, host: u64);
}
