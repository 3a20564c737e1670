//! How processes end, and how everything that was theirs comes back.

use alloc::format;
use alloc::string::String;

use root_abi::ExitReason;
use root_kernel::frames::{Class, Owner, Slot};
use root_kernel::hv::{Hv, Partition, Teardown};
use x86_64::registers::control::Cr2;

use super::run::yield_to_own_task;
use super::stack::unmap_kernel_stack;
use super::{Process, State, TABLE, release};
use crate::metal::cpu;
use crate::metal::hypervisor::Metal;
use crate::metal::memory::FRAMES;
use crate::metal::trap::{self, TrapFrame};

/// How a process came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited by itself.
    Exited(ExitReason, String),
    /// The kernel ended it.
    Crashed(String),
    /// The manager ended it.
    Killed,
}

/// Ends the process that runs.
pub fn end_current(end: End) -> ! {
    TABLE.with(|table| {
        let process = table.current();
        process.state = State::Ended;
        process.end = Some(end);
        table.want_root_task();
    });
    yield_to_own_task();
    unreachable!("a process that has ended was run");
}

/// An exception in a process: it ends.
pub fn fault(frame: &TrapFrame) -> ! {
    let name = trap::exception_name(frame.vector);
    let text = if frame.vector == 14 {
        let access = match frame.error & 0x12 {
            0x10 => "execution",
            0x02 => "write",
            _ => "read",
        };
        format!(
            "page fault: {access} at {:#x} by the instruction at {:#x}",
            Cr2::read_raw(),
            frame.rip
        )
    } else {
        format!("{name} (error {:#x}) at {:#x}", frame.error, frame.rip)
    };
    end_current(End::Crashed(text));
}

/// A process that is gone.
#[derive(Debug)]
pub struct Gone {
    /// Its VM.
    pub vm: u16,
    /// Its name.
    pub name: String,
    /// Why.
    pub end: End,
    /// What went wrong while it was taken down.
    pub trouble: Option<String>,
}

/// Takes down one process that has ended, with everything that was its. Only the root task calls this. What has ended is
/// in no processor's hands: whoever ends a process that runs does so there, and leaves it before giving the lock back.
/// Others get in meanwhile, so nothing may be taken.
pub fn reap() -> Option<Gone> {
    let (slot, mut process) = TABLE.with(|table| {
        let ended = |(_, process): &(Slot, &Process)| process.state == State::Ended;
        let slot = table.iter().find(ended).map(|(slot, _)| slot)?;
        table.queue.remove(slot);
        if let Some(partition) = table.partitions.get_mut(slot.index()) {
            *partition = 0;
        }
        Some((slot, table.processes.get_mut(slot.index())?.take()?))
    })?;
    let teardown = process.partition.take().map(destroy);
    let mut trouble = teardown
        .and_then(|teardown| teardown.error)
        .map(|error| format!("its partition: {error}"));
    for block in process.resume_blocks.into_iter().flatten() {
        release(block, Owner::new(slot, Class::Kernel));
    }
    unmap_kernel_stack(slot);
    // Memory that the hypervisor may still give to a guest must not be used for anything else.
    if teardown.is_none_or(|teardown| teardown.gone) {
        // Nobody finds the process any more, and its slot is given to another only by the root task, which is here.
        process.space.dismantle(cpu::pause);
    }
    let lost = FRAMES.with(|frames| frames.ledger().slot(slot));
    if lost != 0 {
        TABLE.with(|table| table.quarantined |= 1 << slot.index());
        trouble = Some(format!(
            "{lost} pages are lost; {}",
            trouble.unwrap_or_default()
        ));
    }
    let end = process.end.take().unwrap_or(End::Killed);
    Some(Gone {
        vm: process.vm,
        name: process.name,
        end,
        trouble,
    })
}

fn destroy(mut partition: Partition) -> Teardown {
    FRAMES.with(|frames| {
        partition.destroy(&mut Hv {
            calls: &mut Metal,
            frames,
        })
    })
}
