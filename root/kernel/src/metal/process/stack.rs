//! Kernel stacks of processes.

use root_kernel::addr::{PAGE_SIZE, Pfn};
use root_kernel::frames::{Class, Owner, SLOTS, Slot};
use root_kernel::paging::{Attributes, Rights};
use x86_64::registers::rflags::RFlags;

use super::{New, release};
use crate::metal::memory::{self, FRAMES};
use crate::metal::space::SpaceError;
use crate::metal::trap::{self, TrapFrame};
use crate::metal::{cpu, layout};

/// Makes the page tables of all kernel stacks, so that starting a process costs nothing that stays.
///
/// # Errors
/// [`SpaceError::NoMemory`].
pub fn init() -> Result<(), SpaceError> {
    memory::with_kernel_tables(|tables| {
        for slot in (1..SLOTS).filter_map(Slot::new) {
            for page in 0..layout::STACK_PAGES {
                let address = kernel_stack(slot) + page * PAGE_SIZE;
                tables.map(address, Pfn(0), Attributes::kernel(Rights::Read))?;
                tables.unmap(address);
            }
        }
        Ok(())
    })
}

/// Address of the first page of a slot's kernel stack; the page below it is never mapped.
fn kernel_stack(slot: Slot) -> u64 {
    layout::STACKS + slot.index() as u64 * layout::STACK_STRIDE + PAGE_SIZE
}

/// Where a slot's kernel stack ends.
pub(super) fn kernel_stack_top(slot: Slot) -> u64 {
    kernel_stack(slot) + layout::STACK_PAGES * PAGE_SIZE
}

/// Maps the kernel stack of a slot; returns its top.
pub(super) fn map_kernel_stack(slot: Slot) -> Result<u64, SpaceError> {
    let owner = Owner::new(slot, Class::Kernel);
    let bottom = kernel_stack(slot);
    for page in 0..layout::STACK_PAGES {
        let frame = FRAMES.with(|frames| frames.allocate(0, owner));
        let mapped = frame.ok_or(SpaceError::NoMemory).and_then(|frame| {
            let attributes = Attributes::kernel(Rights::ReadWrite);
            let address = bottom + page * PAGE_SIZE;
            let mapped =
                memory::with_kernel_tables(|tables| tables.map(address, frame, attributes));
            mapped.map_err(|error| {
                release(frame, owner);
                error.into()
            })
        });
        if let Err(error) = mapped {
            unmap_kernel_stack(slot);
            return Err(error);
        }
    }
    Ok(kernel_stack_top(slot))
}

/// Gives the frames of a kernel stack back; it must not be in use. Only the root task's processor makes, fills and takes
/// away stacks, and only it forgets the translations here: another one uses a stack after it has loaded the tables of the
/// stack's process, which it has not in use before (see [`crate::metal::space::leave`]), so its old translations are gone.
pub(super) fn unmap_kernel_stack(slot: Slot) {
    let bottom = kernel_stack(slot);
    for page in 0..layout::STACK_PAGES {
        let address = bottom + page * PAGE_SIZE;
        if let Some(frame) = memory::with_kernel_tables(|tables| tables.unmap(address)) {
            cpu::invalidate(address);
            release(frame, Owner::new(slot, Class::Kernel));
        }
    }
}

/// Lays out the kernel stack of a process that has not run yet: it returns from a trap that never was.
pub(super) fn first_stack(top: u64, new: &New<'_>) -> u64 {
    const RDI: usize = 9;
    let mut registers = [0; 15];
    if let Some(rdi) = registers.get_mut(RDI) {
        *rdi = new.argument;
    }
    let frame = TrapFrame {
        registers,
        vector: 0,
        error: 0,
        rip: new.entry,
        cs: cpu::USER_CODE.into(),
        rflags: RFlags::INTERRUPT_FLAG.bits() | 2,
        rsp: new.stack,
        ss: cpu::USER_DATA.into(),
    };
    let frame_at = top - size_of::<TrapFrame>() as u64;
    // Six callee-saved registers and the return address, as `switch_stacks` leaves them.
    let saved = frame_at - 7 * 8;
    // SAFETY: the stack was just mapped, is nobody else's, and is larger than this.
    unsafe {
        (frame_at as *mut TrapFrame).write(frame);
        for index in 0..6 {
            (saved as *mut u64).wrapping_add(index).write(0);
        }
        (saved as *mut u64)
            .wrapping_add(6)
            .write(trap::process_begin as *const () as u64);
    }
    saved
}
