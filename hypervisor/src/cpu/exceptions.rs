//! Entry points of all vectors. An exception in the hypervisor is the end; an NMI and an interrupt only leave a mark in
//! the per-processor block.

use core::fmt;

use super::local::{ARRIVED_OFFSET, NMI_OFFSET};

/// Bytes from one entry point to the next.
const STUB_BYTES: u64 = 16;

/// Registers at an exception in the hypervisor.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ExceptionFrame {
    /// R15 down to R8.
    pub r15_to_r8: [u64; 8],
    /// RDI.
    pub rdi: u64,
    /// RSI.
    pub rsi: u64,
    /// RBP.
    pub rbp: u64,
    /// RBX.
    pub rbx: u64,
    /// RDX.
    pub rdx: u64,
    /// RCX.
    pub rcx: u64,
    /// RAX.
    pub rax: u64,
    /// Vector.
    pub vector: u64,
    /// Error code, 0 for vectors that have none.
    pub error_code: u64,
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

impl ExceptionFrame {
    /// The exception's name.
    pub const fn name(&self) -> &'static str {
        match self.vector {
            0 => "divide error",
            1 => "debug exception",
            3 => "breakpoint",
            4 => "overflow",
            5 => "bound range",
            6 => "invalid opcode",
            7 => "no floating point",
            8 => "double fault",
            10 => "invalid TSS",
            11 => "segment not present",
            12 => "stack fault",
            13 => "general protection fault",
            14 => "page fault",
            16 => "x87 error",
            17 => "alignment check",
            18 => "machine check",
            19 => "SIMD error",
            21 => "control protection",
            _ => "unknown exception",
        }
    }
}

impl fmt::Display for ExceptionFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cr2: u64;
        let cr3: u64;
        // SAFETY: reads two control registers, in ring 0, where every exception of the hypervisor is.
        unsafe {
            core::arch::asm!("mov {}, cr2", "mov {}, cr3", out(reg) cr2, out(reg) cr3, options(nomem, nostack))
        };
        writeln!(
            f,
            "vector {} error {:#x} cr2 {cr2:#018x} cr3 {cr3:#x}",
            self.vector, self.error_code
        )?;
        writeln!(
            f,
            "rip {:#018x} cs {:#x} rflags {:#x}",
            self.rip, self.cs, self.rflags
        )?;
        writeln!(
            f,
            "rsp {:#018x} rbp {:#018x} rax {:#018x} rbx {:#018x}",
            self.rsp, self.rbp, self.rax, self.rbx
        )?;
        writeln!(
            f,
            "rcx {:#018x} rdx {:#018x} rsi {:#018x} rdi {:#018x}",
            self.rcx, self.rdx, self.rsi, self.rdi
        )?;
        for (i, value) in self.r15_to_r8.iter().rev().enumerate() {
            write!(
                f,
                "r{:<2} {value:#018x}{}",
                i + 8,
                if i % 4 == 3 { '\n' } else { ' ' }
            )?;
        }
        Ok(())
    }
}

/// Address of the code that `vector` enters by.
pub(super) fn entry_point(vector: usize) -> u64 {
    &raw const partita_vector_stubs as u64 + vector as u64 * STUB_BYTES
}

unsafe extern "C" {
    /// 256 entry points, [`STUB_BYTES`] apart.
    static partita_vector_stubs: u8;
}

core::arch::global_asm!(
    ".pushsection .text.partita_vector_stubs,\"ax\",@progbits",
    ".globl partita_vector_stubs",
    ".p2align 4",
    "partita_vector_stubs:",
    ".set vector, 0",
    ".rept 256",
    "  .p2align 4",
    "  .if vector == 2",
    "    mov byte ptr gs:[{nmi}], 1",
    "    iretq",
    "  .elseif vector >= 32",
    "    .byte 0x68",
    "    .long vector",
    "    jmp 3f",
    "  .elseif (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)",
    "    .byte 0x68",
    "    .long vector",
    "    jmp 2f",
    "  .else",
    "    push 0",
    "    .byte 0x68",
    "    .long vector",
    "    jmp 2f",
    "  .endif",
    "  .set vector, vector + 1",
    ".endr",
    // Exceptions: all registers onto the stack in the order of ExceptionFrame.
    "2:",
    "push rax",
    "push rcx",
    "push rdx",
    "push rbx",
    "push rbp",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov rdi, rsp",
    "and rsp, -16",
    "cld",
    "call {exception}",
    "ud2",
    // Interrupts: the vector's bit of the block's bit string.
    "3:",
    "push rax",
    "mov rax, [rsp + 8]",
    "bts qword ptr gs:[{arrived}], rax",
    "pop rax",
    "add rsp, 8",
    "iretq",
    ".popsection",
    nmi = const NMI_OFFSET,
    arrived = const ARRIVED_OFFSET,
    exception = sym exception_entry,
);

/// Where the stubs of exceptions lead.
extern "sysv64" fn exception_entry(frame: *mut ExceptionFrame) -> ! {
    // The error code and the vector come from different places in the stub, vector on top.
    // SAFETY: the stub built the frame on the stack, and this function never returns.
    let frame = unsafe { &*frame };
    crate::log::panic::report_exception(frame)
}
