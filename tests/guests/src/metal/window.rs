//! A window of 512 small pages that a payload maps as it likes, and code that runs there.

use super::cell::Pages;
use super::memory;
use super::trap::{Fault, probed};
use crate::read_cr;

/// First address of the window: the second entry of the top table, which no start uses.
pub const WINDOW: u64 = 0x80_0000_0000;
/// Bytes of a page.
pub const PAGE: u64 = 4096;
const SLOTS: u64 = 512;

/// Bits of a page table entry.
pub mod bits {
    /// Present.
    pub const PRESENT: u64 = 1;
    /// Writable.
    pub const WRITE: u64 = 2;
    /// For ring 3 too.
    pub const USER: u64 = 4;
    /// Not executable.
    pub const NO_EXECUTE: u64 = 1 << 63;
}

static DIRECTORY_POINTERS: Pages<4096> = Pages::new();
static DIRECTORY: Pages<4096> = Pages::new();
static TABLE: Pages<4096> = Pages::new();

/// Maps the page `slot` (below 512) of the window to a guest physical page, with these [`bits`]; 0 unmaps it. Returns
/// the page's address.
pub fn map(slot: u64, gpa: u64, bits: u64) -> u64 {
    let table = |page: &Pages<4096>| page.gpa() | bits::PRESENT | bits::WRITE | bits::USER;
    let top = read_cr!(3) & 0x000F_FFFF_FFFF_F000;
    memory::write(DIRECTORY_POINTERS.gpa(), table(&DIRECTORY));
    memory::write(DIRECTORY.gpa(), table(&TABLE));
    memory::write(top + (WINDOW >> 39) * 8, table(&DIRECTORY_POINTERS));
    let slot = slot % SLOTS;
    let entry = if bits == 0 { 0 } else { gpa | bits };
    memory::write(TABLE.gpa() + slot * 8, entry);
    let address = WINDOW + slot * PAGE;
    // SAFETY: invalidating a translation has no other effect.
    unsafe { core::arch::asm!("invlpg [{}]", in(reg) address, options(nostack)) };
    address
}

/// General registers before and after a piece of code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Registers {
    /// RAX.
    pub rax: u64,
    /// RBX.
    pub rbx: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// R8.
    pub r8: u64,
    /// R9.
    pub r9: u64,
}

/// Calls the code at `address` with these registers, and brings them back. It must return, preserve RBP and R12 to R15, and
/// leave the stack as it was; an exception ends it.
///
/// # Errors
/// The exception; the registers are then what they were at that moment.
pub fn call(address: u64, registers: &mut Registers) -> Result<(), Fault> {
    // SAFETY: what the code does is the payload's business. RSP comes back from R12 and the registers' place from R13,
    // whether the code returned or faulted; RBX is exchanged, for it cannot be an operand.
    unsafe {
        core::arch::asm!(
            "lea rax, [rip + 77f]",
            "mov [rip + {slot}], rax",
            "mov r14, rbx",
            "mov r12, rsp",
            "and rsp, -16",
            "mov rax, [r13]",
            "mov rbx, [r13 + 8]",
            "mov rcx, [r13 + 16]",
            "mov rdx, [r13 + 24]",
            "mov rsi, [r13 + 32]",
            "mov rdi, [r13 + 40]",
            "mov r8, [r13 + 48]",
            "mov r9, [r13 + 56]",
            "call r15",
            "77:",
            "mov rsp, r12",
            "mov [r13], rax",
            "mov [r13 + 8], rbx",
            "mov [r13 + 16], rcx",
            "mov [r13 + 24], rdx",
            "mov [r13 + 32], rsi",
            "mov [r13 + 40], rdi",
            "mov [r13 + 48], r8",
            "mov [r13 + 56], r9",
            "mov rbx, r14",
            "mov qword ptr [rip + {slot}], 0",
            "cld",
            slot = sym super::trap::RECOVERY,
            in("r15") address,
            in("r13") core::ptr::from_mut(registers),
            out("r12") _,
            out("r14") _,
            out("rax") _,
            out("rcx") _,
            out("rdx") _,
            out("rsi") _,
            out("rdi") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    probed()
}

/// Two pages of code side by side in the window, but not in guest physical memory.
#[derive(Debug, Default)]
pub struct CodePages;

static FIRST: Pages<4096> = Pages::new();
static SECOND: Pages<4096> = Pages::new();
const CODE_SLOT: u64 = 16;

impl CodePages {
    /// Maps them: the page with the higher physical address comes first, so that what follows it in physical memory is not
    /// the second one.
    pub fn new() -> Self {
        let bits = bits::PRESENT | bits::WRITE | bits::USER;
        let (low, high) = Self::frames();
        map(CODE_SLOT, high, bits);
        map(CODE_SLOT + 1, low, bits);
        Self
    }

    fn frames() -> (u64, u64) {
        let (first, second) = (FIRST.gpa(), SECOND.gpa());
        (first.min(second), first.max(second))
    }

    /// Puts code there so that `before` of its bytes are on the first page; returns its address.
    pub fn place(&self, code: &[u8], before: usize) -> u64 {
        let address = WINDOW + (CODE_SLOT + 1) * PAGE - before as u64;
        for (target, byte) in (address..).zip(code) {
            // SAFETY: within the two pages, which are mapped writable and hold nothing else.
            unsafe { (target as *mut u8).write_volatile(*byte) };
        }
        address
    }

    /// Takes the second page away, or brings it back.
    pub fn show_second(&self, shown: bool) {
        let bits = bits::PRESENT | bits::WRITE | bits::USER;
        let (low, _) = Self::frames();
        map(CODE_SLOT + 1, low, if shown { bits } else { 0 });
    }
}
