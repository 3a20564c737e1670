//! The processor: descriptor tables, system call entry, control registers.

use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use core::mem::size_of;

use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lgdt, lidt, load_tss};
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::Msr;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;
use x86_64::{PrivilegeLevel, VirtAddr};

use super::block::{self, FIRST, Parts, PerCpu, Tss};
use super::{lock, trap};

/// Selectors, in the order that `syscall` and `sysret` need.
pub const KERNEL_CODE: u16 = 0x08;
const KERNEL_DATA: u16 = 0x10;
/// Ring 3 data and stack.
pub const USER_DATA: u16 = 0x18 | 3;
/// Ring 3 code.
pub const USER_CODE: u16 = 0x20 | 3;
const TSS: u16 = 0x28;

const IA32_STAR: u32 = 0xC000_0081;
const IA32_LSTAR: u32 = 0xC000_0082;
const IA32_FMASK: u32 = 0xC000_0084;
const IA32_FS_BASE: u32 = 0xC000_0100;
const IA32_GS_BASE: u32 = 0xC000_0101;
const IA32_KERNEL_GS_BASE: u32 = 0xC000_0102;

/// Interrupt, trap, direction, nested task, alignment check: clear in the kernel.
const SYSCALL_FLAGS_CLEARED: u64 = 0x4_4700;

#[repr(C, align(16))]
struct Idt(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written once before interrupts are possible and before there is a second processor.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new([[0; 2]; 256]));

const FAULT_IST: u64 = 1;
const NMI_IST: u64 = 2;

// The first instructions of the kernel. RDI = GPA of the start info; the stack is nobody's yet.
global_asm!(
    ".section .text.entry, \"ax\"",
    ".global _start",
    "_start:",
    "cli",
    "cld",
    "lea rsp, [rip + {parts} + {stack_end}]",
    "xor ebp, ebp",
    "call {start}",
    "ud2",
    ".text",
    parts = sym FIRST,
    stack_end = const block::STACK_END,
    start = sym super::start,
);

/// Sets up the processor on which the kernel begins. To be called first thing.
pub fn init() {
    // SAFETY: nothing reads the table yet.
    fill_idt(unsafe { &mut *IDT.0.get() });
    init_processor(&FIRST);
    // From the start: see `lock`.
    block::set_holder(true);
}

/// Sets up descriptor tables, system calls and control registers of this processor, whose `parts` are. To be called
/// once, first thing.
pub fn init_processor(parts: &'static Parts) {
    let block = parts.block.get();
    // SAFETY: the processor's own block, to which nobody else has a reference. The tables hold valid descriptors and
    // stay where they are for ever.
    unsafe {
        (*block).this = block as u64;
        (*block).tss.io_map = size_of::<Tss>() as u16;
        (*block).tss.interrupt_stacks[FAULT_IST as usize - 1] = parts.fault.top();
        (*block).tss.interrupt_stacks[NMI_IST as usize - 1] = parts.nmi.top();
        let tss = &raw const (*block).tss as u64;
        (*block).gdt = gdt(tss);
        load_table(lgdt_pointer(block));
        CS::set_reg(selector(KERNEL_CODE));
        SS::set_reg(selector(KERNEL_DATA));
        DS::set_reg(selector(0));
        ES::set_reg(selector(0));
        load_tss(selector(TSS));
        let limit = (size_of::<Idt>() - 1) as u16;
        lidt(&DescriptorTablePointer {
            limit,
            base: VirtAddr::new(IDT.0.get() as u64),
        });
        write_msr(IA32_FS_BASE, 0);
        write_msr(IA32_GS_BASE, block as u64);
        write_msr(IA32_KERNEL_GS_BASE, 0);
    }
    init_control();
    init_syscall();
}

fn init_control() {
    // SAFETY: the kernel's image and tables obey write protection and no-execute already; it uses no FPU, so neither
    // do processes (a use is an exception that ends them), and nothing of the kernel is marked for ring 3.
    unsafe {
        Efer::update(|efer| {
            efer.insert(EferFlags::NO_EXECUTE_ENABLE | EferFlags::SYSTEM_CALL_EXTENSIONS)
        });
        Cr0::update(|cr0| {
            cr0.remove(Cr0Flags::EMULATE_COPROCESSOR);
            cr0.insert(
                Cr0Flags::WRITE_PROTECT | Cr0Flags::TASK_SWITCHED | Cr0Flags::MONITOR_COPROCESSOR,
            );
            cr0.insert(Cr0Flags::NUMERIC_ERROR);
        });
        let leaf = core::arch::x86_64::__cpuid_count(7, 0);
        let features = leaf.ebx;
        Cr4::update(|cr4| {
            cr4.remove(Cr4Flags::OSFXSR | Cr4Flags::OSXSAVE | Cr4Flags::FSGSBASE);
            if features & (1 << 7) != 0 {
                cr4.insert(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION);
            }
            if leaf.ecx & (1 << 2) != 0 {
                cr4.insert(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION);
            }
            if features & (1 << 20) != 0 {
                cr4.insert(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION);
            }
        });
    }
}

fn init_syscall() {
    // `syscall` takes CS and SS from bits 47:32; `sysret` takes SS from bits 63:48 plus 8, CS plus 16.
    let star = u64::from(KERNEL_DATA | 3) << 48 | u64::from(KERNEL_CODE) << 32;
    // SAFETY: the selectors are the ones of the GDT above, the entry point follows the calling convention of `syscall`.
    unsafe {
        write_msr(IA32_STAR, star);
        write_msr(IA32_LSTAR, trap::syscall_entry as *const () as u64);
        write_msr(IA32_FMASK, SYSCALL_FLAGS_CLEARED);
    }
}

/// Descriptors: null, kernel code and data, user data and code, TSS (two entries).
fn gdt(tss: u64) -> [u64; 7] {
    let limit = (size_of::<Tss>() - 1) as u64;
    let low = limit | (tss & 0xFF_FFFF) << 16 | 0x89 << 40 | (tss >> 24 & 0xFF) << 56;
    [
        0,
        0x00AF_9B00_0000_FFFF,
        0x00CF_9300_0000_FFFF,
        0x00CF_F300_0000_FFFF,
        0x00AF_FB00_0000_FFFF,
        low,
        tss >> 32,
    ]
}

fn lgdt_pointer(block: *mut PerCpu) -> DescriptorTablePointer {
    // SAFETY: the block is a static; only the field's address is taken.
    let base = unsafe { &raw const (*block).gdt } as u64;
    DescriptorTablePointer {
        limit: (size_of::<[u64; 7]>() - 1) as u16,
        base: VirtAddr::new(base),
    }
}

/// # Safety
/// The pointer must name a GDT that stays.
unsafe fn load_table(pointer: DescriptorTablePointer) {
    // SAFETY: the caller's.
    unsafe { lgdt(&pointer) };
}

fn selector(value: u16) -> SegmentSelector {
    SegmentSelector::new(value >> 3, PrivilegeLevel::from_u16(value & 3))
}

fn fill_idt(idt: &mut [[u64; 2]; 256]) {
    for (vector, gate) in idt.iter_mut().enumerate() {
        let handler = trap::stub(vector);
        let ist = match vector {
            2 => NMI_IST,
            8 | 18 => FAULT_IST,
            _ => 0,
        };
        let low = handler & 0xFFFF
            | u64::from(KERNEL_CODE) << 16
            | ist << 32
            | 0x8E << 40
            | (handler >> 16 & 0xFFFF) << 48;
        *gate = [low, handler >> 32];
    }
}

/// Reads an MSR.
///
/// # Safety
/// The MSR must exist.
pub unsafe fn read_msr(msr: u32) -> u64 {
    // SAFETY: the caller's.
    unsafe { Msr::new(msr).read() }
}

/// Writes an MSR.
///
/// # Safety
/// The MSR must exist and the value must not take away what the kernel relies on.
pub unsafe fn write_msr(msr: u32, value: u64) {
    // SAFETY: the caller's.
    unsafe { Msr::new(msr).write(value) }
}

/// Makes the processor use other page tables.
///
/// # Safety
/// They must map the kernel's half as the present ones do.
pub unsafe fn load_page_tables(root: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("mov cr3, {}", in(reg) root, options(nostack)) };
}

/// Forgets the translation of an address.
pub fn invalidate(address: u64) {
    // SAFETY: invalidating a translation has no other effect.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack)) };
}

/// The time stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: reading the counter has no effects; CR4.TSD does not matter in ring 0.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Lets waiting interrupts in, and comes back with interrupts off. The kernel's lock is kept, so nobody else gets in.
/// Nothing that handlers use may be taken ([`super::cell::Global`]).
pub fn interrupt_window() {
    // SAFETY: handlers preserve all registers; the caller holds nothing that they use. `sti` takes effect after the
    // instruction that follows it.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
}

/// Lets waiting interrupts in, and other processors into the kernel. Nothing may be taken, and anything may be different
/// afterwards but what is the calling process's own.
pub fn pause() {
    lock::give();
    interrupt_window();
    lock::ensure();
}

/// Halts without the kernel's lock until an interrupt has been handled; comes back with interrupts off. Nothing may be
/// taken. A handler takes the lock and leaves it taken, since what follows needs it as well.
pub fn wait_for_interrupt() {
    lock::give();
    // SAFETY: as in `interrupt_window`; no interrupt can slip in between `sti` and `hlt`.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
    lock::ensure();
}

/// Stops this processor for good.
pub fn halt() -> ! {
    loop {
        // SAFETY: nothing runs any more.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
