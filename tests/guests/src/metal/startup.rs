//! The step of another processor from real mode to a function of the payload in 64-bit mode.
//!
//! What the other modules keep in a `Global` stays the first processor's: the others use what does not fault, and none of the
//! counts in `trap`.

use core::arch::global_asm;

use super::{apic, memory};
use crate::read_cr;

/// Where the code of a processor that starts is, in low memory. Its page stays, for it holds the GDT that the processor uses.
pub const START: u64 = 0x8000;
/// What such a processor finds behind the code: CR3, its stack, its number, where to go.
const PARAMETERS: u64 = START + 0xF00;

/// Puts the code where it starts. Whoever starts comes to `arrive` with its number, interrupts off and without an interrupt
/// table. [`START`] has to be mapped one to one, by tables that lie below 4 GiB.
pub fn install(arrive: extern "C" fn(u64) -> !) {
    let at = |symbol: unsafe extern "C" fn()| symbol as *const () as usize;
    let (start, end) = (at(another_start), at(another_end));
    for (to, from) in (START..).zip(start..end) {
        // SAFETY: the assembler put these bytes between the two symbols.
        memory::write(to, unsafe { (from as *const u8).read() });
    }
    memory::write(PARAMETERS + 24, arrive as *const () as u64);
}

/// Starts the processor with the APIC id `number` on the stack that ends at the address `stack`. It has to have arrived
/// before the next one is started. Payloads take its APIC id for its VP index as well: they are for machines whose ids have
/// no gaps.
pub fn start(number: u64, stack: u64) {
    prepare(number, stack);
    stop(number);
    apic::command(number, apic::STARTUP | START >> 12);
}

/// Puts down what a processor needs that somebody starts by INIT and a startup IPI to [`START`].
pub fn prepare(number: u64, stack: u64) {
    memory::write(PARAMETERS, read_cr!(3));
    memory::write(PARAMETERS + 8, stack);
    memory::write(PARAMETERS + 16, number);
}

/// Stops a processor by INIT.
pub fn stop(number: u64) {
    apic::command(number, apic::INIT);
}

unsafe extern "C" {
    fn another_start();
    fn another_end();
}

global_asm!(
    ".pushsection .rodata.another,\"a\",@progbits",
    ".globl another_start, another_end",
    ".code16",
    "another_start:",
    "cli",
    "movw %cs, %ax",
    "movw %ax, %ds",
    "lgdtl (another_table - another_start)",
    "movl $0x620, %eax",
    "movl %eax, %cr4",
    "movl ({parameters}), %eax",
    "movl %eax, %cr3",
    "movl $0xC0000080, %ecx",
    "rdmsr",
    "orl $0x900, %eax",
    "wrmsr",
    "movl $0x80010033, %eax",
    "movl %eax, %cr0",
    "ljmpl $8, $({start} + another_long - another_start)",
    ".code64",
    "another_long:",
    "movw $0x10, %ax",
    "movw %ax, %ds",
    "movw %ax, %es",
    "movw %ax, %ss",
    "movl ${start} + {parameters}, %esi",
    "movq 8(%rsi), %rsp",
    "movq 16(%rsi), %rdi",
    "xorl %ebp, %ebp",
    "callq *24(%rsi)",
    "ud2",
    ".balign 8",
    "another_descriptors:",
    ".quad 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF",
    "another_table:",
    ".word 23",
    ".long {start} + another_descriptors - another_start",
    "another_end:",
    ".popsection",
    start = const START,
    parameters = const PARAMETERS - START,
    options(att_syntax)
);
