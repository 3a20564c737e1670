//! What each processor has of its own: its block, to which GS points, and its stacks.

use alloc::alloc::Layout;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;

use root_kernel::frames::Slot;
use root_kernel::sched::Processor;

/// What each processor has of its own; GS points to it while the kernel runs. The first fields are known to the
/// assembly in `trap`.
#[repr(C)]
pub struct PerCpu {
    /// Its own address.
    pub(super) this: u64,
    /// Top of the kernel stack of the process that runs.
    kernel_stack: u64,
    /// Place for the process's RSP during entry.
    user_stack: u64,
    /// Saved RSP of the processor's own task while a process runs.
    pub own_task: u64,
    /// The processor's number.
    index: u32,
    /// 1 while it has the kernel's lock.
    holder: u32,
    /// Slot of the process in its hands, 0 (the kernel's) for none.
    slot: u32,
    padding: u32,
    /// Address of its SIM page, 0 without.
    messages: u64,
    pub(super) tss: Tss,
    pub(super) gdt: [u64; 7],
}

#[repr(C, packed(4))]
pub(super) struct Tss {
    reserved0: u32,
    stacks: [u64; 3],
    reserved1: u64,
    pub(super) interrupt_stacks: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    pub(super) io_map: u16,
}

#[repr(C, align(16))]
pub(super) struct Stack<const N: usize>(UnsafeCell<[u8; N]>);

impl<const N: usize> Stack<N> {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; N]))
    }

    pub(super) fn top(&self) -> u64 {
        (self.0.get() as u64).wrapping_add(N as u64)
    }
}

/// Where a processor begins, and where its task is.
const TASK_STACK: usize = 0x1_0000;

/// Everything that a processor needs to run kernel code.
#[repr(C)]
pub struct Parts {
    pub(super) block: UnsafeCell<PerCpu>,
    task: Stack<TASK_STACK>,
    pub(super) fault: Stack<0x4000>,
    pub(super) nmi: Stack<0x2000>,
}

/// Where the stack in [`Parts`] begins.
pub(super) const STACK_END: usize = offset_of!(Parts, task) + TASK_STACK;

// SAFETY: only the processor itself uses its block and its stacks, and references to the block are never held across a
// call.
unsafe impl Sync for Parts {}

impl Parts {
    /// What the processor of that number needs; it stays for ever. `None` without memory.
    pub fn make(processor: Processor) -> Option<&'static Self> {
        // SAFETY: the layout is not of size 0.
        let place = unsafe { alloc::alloc::alloc_zeroed(Layout::new::<Self>()) }.cast::<Self>();
        // SAFETY: if not null, memory for this type that is nobody else's and never given back; all of it may be zeros.
        let parts: &'static Self = unsafe { place.as_ref() }?;
        // SAFETY: the processor does not run yet.
        unsafe { (*parts.block.get()).index = processor.index() as u32 };
        Some(parts)
    }

    /// Where its stack begins.
    pub fn stack(&self) -> u64 {
        self.task.top()
    }
}

/// Of the processor on which the kernel begins.
pub(super) static FIRST: Parts = Parts {
    block: UnsafeCell::new(PerCpu {
        this: 0,
        kernel_stack: 0,
        user_stack: 0,
        own_task: 0,
        index: 0,
        holder: 0,
        slot: 0,
        padding: 0,
        messages: 0,
        tss: Tss {
            reserved0: 0,
            stacks: [0; 3],
            reserved1: 0,
            interrupt_stacks: [0; 7],
            reserved2: 0,
            reserved3: 0,
            io_map: 0,
        },
        gdt: [0; 7],
    }),
    task: Stack::new(),
    fault: Stack::new(),
    nmi: Stack::new(),
};

/// The block of the processor that runs this. The pointer is valid for ever; do not keep references to it, nor the pointer
/// over a switch of stacks, which may come back on another processor.
pub fn own() -> *mut PerCpu {
    let block: *mut PerCpu;
    // SAFETY: in the kernel GS points to the block, whose first field is its address.
    unsafe { asm!("mov {}, gs:[0]", out(reg) block, options(nostack, preserves_flags)) };
    block
}

/// The processor that runs this.
#[inline]
pub fn processor() -> Processor {
    let index: u32;
    // SAFETY: in the kernel GS points to the processor's block.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) index, const offset_of!(PerCpu, index),
            options(nostack, preserves_flags));
    }
    Processor::new(index as usize).unwrap_or(Processor::FIRST)
}

/// The process in this processor's hands.
#[inline]
pub fn current() -> Option<Slot> {
    let slot: u32;
    // SAFETY: as in `processor`.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) slot, const offset_of!(PerCpu, slot),
            options(nostack, preserves_flags));
    }
    Slot::new(slot as usize).filter(|slot| *slot != Slot::KERNEL)
}

/// Notes the process in this processor's hands.
pub fn set_current(slot: Option<Slot>) {
    // SAFETY: the processor's own block; the field is only used here and above.
    unsafe { (*own()).slot = slot.unwrap_or(Slot::KERNEL).index() as u32 };
}

/// Address of this processor's SIM page, 0 if it has none.
#[inline]
pub fn messages() -> u64 {
    // SAFETY: the processor's own block; the field is only used here and below.
    unsafe { (*own()).messages }
}

/// Notes where this processor's SIM page is.
pub fn set_messages(page: u64) {
    // SAFETY: as above.
    unsafe { (*own()).messages = page };
}

/// Notes whether this processor has the kernel's lock.
#[inline]
pub fn set_holder(holder: bool) {
    // SAFETY: in the kernel GS points to the processor's block; the field is only used here and below.
    unsafe {
        asm!("mov dword ptr gs:[{}], {:e}", const offset_of!(PerCpu, holder), in(reg) u32::from(holder),
            options(nostack, preserves_flags));
    }
}

/// Whether this processor has the kernel's lock.
#[inline]
pub fn is_holder() -> bool {
    let holder: u32;
    // SAFETY: as in `set_holder`.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) holder, const offset_of!(PerCpu, holder),
            options(nostack, preserves_flags));
    }
    holder != 0
}

/// Sets the stack on which the kernel is entered from ring 3.
pub fn set_kernel_stack(top: u64) {
    let block = own();
    // SAFETY: this processor's own block; both fields are read only by entries from ring 3, and we are in ring 0.
    unsafe {
        (*block).kernel_stack = top;
        (*block).tss.stacks[0] = top;
    }
}
