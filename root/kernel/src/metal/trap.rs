//! Entry into the kernel: exceptions, interrupts, system calls; and the switch between kernel stacks.

use core::arch::global_asm;
use core::fmt::Write;

use x86_64::registers::rflags::RFlags;

use super::{cpu, interrupts, lock, process, syscall};

const INTERRUPT_FLAG: u64 = RFlags::INTERRUPT_FLAG.bits();

/// The interrupted state, as the entry code leaves it on the stack.
#[repr(C)]
#[derive(Debug)]
pub struct TrapFrame {
    /// R15, R14, R13, R12, R11, R10, R9, R8, RBP, RDI, RSI, RDX, RCX, RBX, RAX.
    pub registers: [u64; 15],
    /// Vector.
    pub vector: u64,
    /// Error code, 0 where the exception has none.
    pub error: u64,
    /// RIP.
    pub rip: u64,
    /// CS.
    pub cs: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// RSP.
    pub rsp: u64,
    /// SS.
    pub ss: u64,
}

impl TrapFrame {
    /// Whether a process was interrupted.
    pub fn is_from_user(&self) -> bool {
        self.cs & 3 != 0
    }
}

// Every vector has a stub of 16 bytes that makes the stack look alike.
global_asm!(
    ".macro trap_stub vector",
    ".balign 16",
    ".if (\\vector == 8) || (\\vector >= 10 && \\vector <= 14) || (\\vector == 17) || (\\vector == 21) || (\\vector == 29) || (\\vector == 30)",
    ".else",
    "push 0",
    ".endif",
    "push \\vector",
    "jmp trap_common",
    ".endm",
    ".altmacro",
    ".balign 16",
    "trap_stubs:",
    ".set vector_number, 0",
    ".rept 256",
    "trap_stub %vector_number",
    ".set vector_number, vector_number + 1",
    ".endr",
    ".noaltmacro",
    "trap_common:",
    "test byte ptr [rsp + 24], 3",
    "jz 2f",
    "swapgs",
    "2:",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "cld",
    "mov rdi, rsp",
    "call {handler}",
    "trap_return:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop r11",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rbp",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rbx",
    "pop rax",
    "test byte ptr [rsp + 24], 3",
    "jz 2f",
    "swapgs",
    "2:",
    "add rsp, 16",
    "iretq",
    handler = sym handle,
);

// System call: number in RAX, arguments in RDI, RSI, RDX, R10, R8. The callee preserves RBX, RBP, R12-R15; the other
// registers come back as zeros. RCX and R11 hold RIP and RFLAGS of the process; its RIP is canonical because no process
// can map the last page of the lower half.
global_asm!(
    "syscall_entry:",
    "swapgs",
    "mov gs:[16], rsp",
    "mov rsp, gs:[8]",
    "push qword ptr gs:[16]",
    "push rcx",
    "push r11",
    "sub rsp, 8",
    "mov rcx, r10",
    "mov r9, rax",
    "cld",
    "call {handler}",
    "add rsp, 8",
    "pop r11",
    "pop rcx",
    "pop rsp",
    "xor edi, edi",
    "xor esi, esi",
    "xor edx, edx",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "xor r10d, r10d",
    "swapgs",
    "sysretq",
    handler = sym syscall::handle,
);

// switch_stacks(save: *mut u64, load: u64): pushes what a callee preserves, changes stacks, pops it.
global_asm!(
    "switch_stacks:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdi], rsp",
    "mov rsp, rsi",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
);

// Where a new process begins, on a kernel stack with its first registers: the processor leaves the kernel.
global_asm!("process_begin:", "call {give}", "jmp trap_return", give = sym lock::give);

unsafe extern "C" {
    /// Where `syscall` goes.
    pub fn syscall_entry();
    static trap_stubs: u8;
    /// Gives the kernel's lock back, pops a [`TrapFrame`] and returns to what it describes.
    pub fn process_begin();
    /// Saves the callee-saved registers and RSP to `*save`, and continues where `load` was saved.
    ///
    /// # Safety
    /// `load` must have been saved by this function, or prepared like it, and not been continued since.
    pub fn switch_stacks(save: *mut u64, load: u64);
}

/// Address of the stub of a vector.
pub fn stub(vector: usize) -> u64 {
    let first = &raw const trap_stubs as u64;
    first.wrapping_add(vector as u64 * 16)
}

/// Names of the exceptions.
pub fn exception_name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "NMI",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "FPU use",
        8 => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection fault",
        14 => "page fault",
        16 => "x87 error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD exception",
        32.. => "interrupt with interrupts off",
        _ => "exception",
    }
}

extern "C" fn handle(frame: &mut TrapFrame) {
    if frame.vector >= 32 && !frame.is_from_user() {
        if frame.rflags & INTERRUPT_FLAG == 0 {
            kernel_fault(frame);
        }
        // Kernel code has opened a window, with the lock or without. It is left taken: see `cpu::wait_for_interrupt`.
        lock::ensure();
        interrupts::handle(frame.vector as u8);
    } else if frame.vector == 2 {
        nmi(frame);
    } else if frame.is_from_user() && !matches!(frame.vector, 8 | 18) {
        lock::take();
        if frame.vector < 32 {
            process::fault(frame);
        }
        interrupts::handle(frame.vector as u8);
        process::before_return();
        lock::give();
    } else {
        kernel_fault(frame);
    }
}

/// It may have come anywhere, so nothing but the UART itself may be used.
fn nmi(frame: &TrapFrame) {
    if lock::is_over() {
        cpu::halt();
    }
    let _ = writeln!(super::console::Emergency, "root: NMI at {:#x}", frame.rip);
}

fn kernel_fault(frame: &TrapFrame) -> ! {
    let name = exception_name(frame.vector);
    panic!(
        "{name} (error {:#x}) at {:#x}, address {:#x}, stack {:#x}",
        frame.error,
        frame.rip,
        x86_64::registers::control::Cr2::read_raw(),
        frame.rsp
    );
}
