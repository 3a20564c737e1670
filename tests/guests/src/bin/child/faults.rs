//! Ends its VM, or makes it fit for nothing but an end, in the way that the command line names.
#![no_std]
#![no_main]

use guests::metal::cpu::{outb, rdmsr, wrmsr};
use guests::metal::window::{self, bits};
use guests::metal::{Boot, exit, trap};
use guests::{child, println};

child!(main);

/// Ways to end, by their words on the command line.
const WAYS: [(&str, fn()); 12] = [
    ("triple", triple_fault),
    ("stack", stack_overflow),
    ("exception-loop", exception_loop),
    ("unmapped-code", unmapped_code),
    ("far-code", far_code),
    ("halt", halt),
    ("spin", spin),
    ("switch-off", switch_off),
    ("reset-register", reset_register),
    ("reset-keyboard", reset_keyboard),
    ("reset-msr", reset_msr),
    ("task-switch", task_switch),
];

fn main(boot: &Boot) {
    let way = WAYS.into_iter().find(|(word, _)| boot.has(word));
    let (word, end) = way.expect("the command line names a way to end");
    println!("ok started, now {word}");
    end();
    println!("payload: still here after {word}");
    exit::failure();
}

/// An exception without a table of gates.
fn triple_fault() {
    trap::load_empty_idt();
    // SAFETY: nothing runs any more.
    unsafe { core::arch::asm!("ud2") };
}

/// Exceptions on a stack that is not there, double fault's included.
fn stack_overflow() {
    // The table's page goes away with the stack: neither #PF nor #DF can be delivered.
    let page = window::map(0, 0x8_0000, bits::PRESENT | bits::WRITE);
    trap::load_empty_idt();
    // SAFETY: nothing runs any more.
    unsafe { core::arch::asm!("mov rsp, {}", "2:", "push rax", "jmp 2b", in(reg) page + 64) };
}

/// #UD whose handler is #UD: never ends, and never leaves the guest by itself.
fn exception_loop() {
    fn again(frame: &mut trap::Frame) {
        // The same instruction again.
        let _ = frame.rip;
    }
    trap::set_handler(trap::vector::UNDEFINED, Some(again as trap::Handler));
    // SAFETY: nothing runs any more.
    unsafe { core::arch::asm!("ud2") };
}

/// A jump to where there is no memory.
fn unmapped_code() {
    // SAFETY: nothing runs any more.
    unsafe { core::arch::asm!("jmp {}", in(reg) 0x8000_0000u64) };
}

/// A jump to the far end of what a processor with 40 address bits can address.
fn far_code() {
    let page = window::map(1, 0xFF_FFFF_F000, bits::PRESENT);
    // SAFETY: nothing runs any more.
    unsafe { core::arch::asm!("jmp {}", in(reg) page) };
}

/// No interrupt will ever end this halt.
fn halt() {
    exit::halt();
}

fn spin() {
    // SAFETY: nothing runs any more.
    unsafe { core::arch::asm!("cli", "2:", "jmp 2b") };
}

/// ACPI sleep control register: SLP_TYP 5 and SLP_EN.
fn switch_off() {
    outb(0x600, 5 << 2 | 1 << 5);
}

/// ACPI reset register.
fn reset_register() {
    outb(0x602, 1);
}

/// The keyboard controller's reset line.
fn reset_keyboard() {
    outb(0x64, 0xFE);
}

/// The reset MSR, if the partition has it; else #GP, which is an end too.
fn reset_msr() {
    if rdmsr(tlfs::HV_X64_MSR_RESET).is_ok() {
        let _ = wrmsr(tlfs::HV_X64_MSR_RESET, 1);
    } else {
        triple_fault();
    }
}

// A hardware task switch exists in 32-bit mode only: back there, a task register, and a far jump to another task, which
// ends the machine.
core::arch::global_asm!(
    ".section .text.task_switch, \"ax\"",
    ".code64",
    "task_switch_start:",
    "cli",
    "lgdt task_gdt_pointer",
    "pushq $0x08",
    "pushq $task_compatible",
    "lretq",
    ".code32",
    "task_compatible:",
    "movl $0x10, %eax",
    "movl %eax, %ds",
    "movl %eax, %ss",
    "movl $task_stack_top, %esp",
    "movl %cr0, %eax",
    "andl $0x7FFFFFFF, %eax",
    "movl %eax, %cr0",
    "movl $0xC0000080, %ecx",
    "rdmsr",
    "andl $0xFFFFFEFF, %eax",
    "wrmsr",
    // Descriptors take their bases in pieces.
    "movl $task_first, %eax",
    "movw %ax, task_gdt + 0x18 + 2",
    "shrl $16, %eax",
    "movb %al, task_gdt + 0x18 + 4",
    "movl $task_second, %eax",
    "movw %ax, task_gdt + 0x20 + 2",
    "shrl $16, %eax",
    "movb %al, task_gdt + 0x20 + 4",
    "movl $0x18, %eax",
    "ltr %ax",
    "ljmp $0x20, $0",
    "hlt",
    "task_entered:",
    // Success, by the value that the other task brings in EAX.
    "movw $0xF4, %dx",
    "outl %eax, %dx",
    "2: hlt",
    "jmp 2b",
    ".code64",
    ".section .data.task_switch, \"aw\"",
    ".balign 16",
    "task_gdt:",
    ".quad 0",
    ".quad 0x00CF9B000000FFFF",
    ".quad 0x00CF93000000FFFF",
    ".quad 0x0000890000000067",
    ".quad 0x0000890000000067",
    "task_gdt_pointer:",
    ".word task_gdt_pointer - task_gdt - 1",
    ".quad task_gdt",
    ".balign 16",
    "task_first: .skip 104",
    ".balign 16",
    // TSS: ESP0 and so on, CR3 @28, EIP @32, EFLAGS @36, EAX @40, ESP @56, segments @72 to @92.
    "task_second:",
    ".skip 28",
    ".long 0, task_entered, 2, 0x10, 0, 0, 0, task_stack_top, 0, 0, 0",
    ".long 0x10, 0x08, 0x10, 0x10, 0x10, 0x10, 0",
    ".word 0, 104",
    ".skip 64",
    ".skip 1024",
    "task_stack_top:",
    ".text",
    options(att_syntax)
);

unsafe extern "C" {
    fn task_switch_start();
}

fn task_switch() {
    // SAFETY: nothing of the payload runs any more.
    unsafe { task_switch_start() };
}
