//! The root's other VPs in 64-bit mode: each runs a function of the payload, with hypercalls and messages of its own.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Mutex;

use super::memory::{LARGE_PAGE, PAGE};
use super::{Root, forget_translations};
use crate::metal::cell::Pages;
use crate::metal::memory::{self, virtual_address};
use crate::metal::{apic, time, trap};
use crate::read_cr;

/// Where the code of a VP that starts is, in the root's low memory; its page stays, for it holds their GDT.
const START: u64 = 0x8000;
/// What such a VP finds behind the code: CR3, its stack, its number.
const PARAMETERS: u64 = START + 0xF00;

/// ICR: INIT, startup IPI and fixed interrupt, asserted.
const INIT: u64 = 5 << 8 | 1 << 14;
const STARTUP: u64 = 6 << 8 | 1 << 14;
const SECOND: u64 = 1_000_000;

/// What a VP does: it gets its number, and the root as it sees it.
pub type Work = fn(u64, &mut Root);

/// What the VP that starts is to do.
static SEED: Mutex<Option<(Work, Root)>> = Mutex::new(None);
static ARRIVED: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU64 = AtomicU64::new(0);

static DIRECTORY_POINTERS: Pages<4096> = Pages::new();
static DIRECTORY: Pages<4096> = Pages::new();
static TABLE: Pages<4096> = Pages::new();

/// Starts the root's VPs 1 to `count` - 1, one after the other, on `work`; what they find wrong ends the machine.
pub fn start(root: &mut Root, count: u64, work: Work) {
    prepare();
    for number in 1..count {
        let pages = root.memory.large(1);
        memory::write(PARAMETERS, read_cr!(3));
        memory::write(PARAMETERS + 8, virtual_address(pages + LARGE_PAGE));
        memory::write(PARAMETERS + 16, number);
        *SEED.lock() = Some((work, root.on_another_vp(pages)));
        let before = ARRIVED.load(Ordering::SeqCst);
        for command in [INIT, STARTUP | START >> 12] {
            apic::write(apic::register::ICR, number << 32 | command);
        }
        let arrived = time::wait(5 * SECOND, || ARRIVED.load(Ordering::SeqCst) > before);
        check!(arrived, "VP {number} of the root does not start");
    }
}

/// How many of the VPs have come to the end of their work.
pub fn done() -> u64 {
    DONE.load(Ordering::SeqCst)
}

/// Code and identity mapping for the step from real mode to the payload's page tables.
fn prepare() {
    let table = |page: &Pages<4096>| page.gpa() | 3;
    memory::write(TABLE.gpa() + START / PAGE * 8, START | 3);
    memory::write(DIRECTORY.gpa(), table(&TABLE));
    memory::write(DIRECTORY_POINTERS.gpa(), table(&DIRECTORY));
    let top = read_cr!(3) & 0x000F_FFFF_FFFF_F000;
    check!(top >> 32 == 0, "the page tables lie above 4 GiB");
    check!(
        memory::read::<u64>(top) & 1 == 0,
        "the lowest addresses are in use"
    );
    memory::write(top, table(&DIRECTORY_POINTERS));
    let at = |symbol: unsafe extern "C" fn()| symbol as *const () as usize;
    let (start, end) = (at(another_start), at(another_end));
    for (to, from) in (START..).zip(start..end) {
        // SAFETY: the assembler put these bytes between the two symbols.
        memory::write(to, unsafe { (from as *const u8).read() });
    }
    forget_translations();
}

/// Where a VP comes from the assembly below, on its own stack, interrupts off.
extern "C" fn arrive(number: u64) -> ! {
    trap::load_idt();
    let Some((work, mut root)) = SEED.lock().take() else {
        fail!("VP {number} of the root has started by itself")
    };
    root.messages.switch_on();
    ARRIVED.fetch_add(1, Ordering::SeqCst);
    work(number, &mut root);
    DONE.fetch_add(1, Ordering::SeqCst);
    loop {
        root.messages.nap(SECOND);
    }
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
    "movabsq ${arrive}, %rax",
    "callq *%rax",
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
    arrive = sym arrive,
    options(att_syntax)
);
