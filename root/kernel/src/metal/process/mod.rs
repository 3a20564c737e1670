//! Processes: the table, who runs, what wakes whom, how they end.
//!
//! There is one kernel stack for each process and one for the own task of each processor, which is its hub: a process
//! that blocks or is preempted switches to that, and it runs the next one or halts. A process that blocks while nobody
//! else has anything to do halts by itself. The first processor's own task is the root task.
//!
//! A process runs on any processor, and keeps to the one where it ran last or where the last message for it came in
//! (its home): there its VPs run, so that resuming them takes no other processor.

mod end;
mod run;
mod signal;
mod stack;

pub use end::{End, Gone, end_current, fault, reap};
pub use run::{
    before_return, begin_resume, begin_wait, halt, root_task_at, root_task_pending,
    root_task_wanted, run_next, timer, turns, wait, want_root_task,
};
pub use signal::{
    ask_to_misbehave, ask_to_shut_down, ask_to_stop, intercept, kill, note_unknown_message,
    order_memory, take_unknown_message, type_in,
};
pub use stack::init;

use alloc::boxed::Box;
use alloc::string::String;

use root_abi::{Error, MemoryOrder};
use root_kernel::addr::{PAGE_SIZE, Pfn, UserRange};
use root_kernel::frames::{Owner, SLOTS, Slot};
use root_kernel::guest_memory::GuestMemory;
use root_kernel::hv::{MAX_VPS, Partition};
use root_kernel::inbox::Inbox;
use root_kernel::ring::ByteRing;
use root_kernel::sched::{Idle, NEVER, PROCESSORS, Processor, RunQueue};
use tlfs::{HvMessageType, HvPartitionId};

use super::cell::Global;
use super::memory::FRAMES;
use super::space::{EventPlace, Space, SpaceError};
use super::{apic, block, layout};
use stack::{first_stack, map_kernel_stack};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the queue, or in a processor's hands.
    Ready,
    /// In `wait`.
    Waiting,
    /// Only to be taken down.
    Ended,
}

/// A process.
pub struct Process {
    /// Its name, of its VM.
    pub name: String,
    /// The manager's number of its VM.
    pub vm: u16,
    /// Its memory.
    pub space: Space,
    /// Where its next memory goes.
    next_memory: u64,
    /// Its partition.
    pub partition: Option<Partition>,
    /// Memory of its guest.
    pub guest: GuestMemory,
    /// Block of the prepared resume call of each VP.
    resume_blocks: [Option<Pfn>; MAX_VPS],
    /// VPs that may be suspended explicitly, which resuming has to end as well: one bit each.
    explicit: u64,
    /// What it has to hear of.
    inbox: Inbox,
    /// The manager's latest order about the guest's memory, until the process has taken it.
    pub memory_order: Option<MemoryOrder>,
    /// Typed input for it.
    pub input: ByteRing<4096>,
    state: State,
    deadline: u64,
    saved_stack: u64,
    /// The processor in whose hands it is: it runs there, or halts there in `wait`.
    on: Option<Processor>,
    /// The one where it waits, and whose timer knows its deadline.
    waits_at: Processor,
    /// The one where it should run next.
    home: Processor,
    has_run: bool,
    event_place: Option<EventPlace>,
    end: Option<End>,
}

/// How a VP is let run on.
#[derive(Clone, Copy, Debug)]
pub struct Resume {
    /// Block of the prepared call.
    pub block: Pfn,
    /// Which one.
    pub vp: u32,
    /// It may be suspended explicitly.
    pub explicit: bool,
    /// No VP of the process has run yet.
    pub first: bool,
}

/// The table and what changes with it.
pub struct Table {
    processes: [Option<Box<Process>>; SLOTS],
    /// Partition of each slot, 0 for none: what an intercept is looked up by.
    partitions: [u64; SLOTS],
    /// Slots that lost something when their process was taken down; never used again.
    quarantined: u64,
    queue: RunQueue,
    idle: Idle,
    hands: [Hands; PROCESSORS],
    root_task_wanted: bool,
    root_task_deadline: u64,
    unknown_messages: u64,
    last_unknown: HvMessageType,
}

/// What a processor is asked with regard to the process in its hands.
#[derive(Clone, Copy)]
struct Hands {
    /// Something of the following.
    asked: bool,
    /// Its slice is over.
    preempt: bool,
    /// The manager wants it to end.
    end: bool,
    /// How often the processor has taken a process in hand.
    turns: u64,
}

impl Hands {
    const EMPTY: Self = Self {
        asked: false,
        preempt: false,
        end: false,
        turns: 0,
    };
}

/// All processes.
pub static TABLE: Global<Table> = Global::new(Table {
    processes: [const { None }; SLOTS],
    partitions: [0; SLOTS],
    quarantined: 0,
    queue: RunQueue::EMPTY,
    idle: Idle::NONE,
    hands: [Hands::EMPTY; PROCESSORS],
    root_task_wanted: true,
    root_task_deadline: NEVER,
    unknown_messages: 0,
    last_unknown: HvMessageType::NONE,
});

impl Table {
    /// What a processor is asked. Its number is below the length.
    fn hands(&mut self, processor: Processor) -> &mut Hands {
        match self.hands.get_mut(processor.index()) {
            Some(hands) => hands,
            None => panic!("no such processor"),
        }
    }

    /// The process that runs now on this processor. Panics outside of one: a bug.
    pub fn current(&mut self) -> &mut Process {
        match block::current().and_then(|slot| self.processes.get_mut(slot.index())) {
            Some(Some(process)) => process,
            _ => panic!("no process runs"),
        }
    }

    /// A process by slot.
    pub fn get(&mut self, slot: Slot) -> Option<&mut Process> {
        self.processes.get_mut(slot.index())?.as_deref_mut()
    }

    /// All processes.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &Process)> {
        let slots = (0..SLOTS).filter_map(Slot::new);
        slots
            .zip(&self.processes)
            .filter_map(|(slot, process)| Some((slot, process.as_deref()?)))
    }

    /// The process of a VM.
    pub fn of_vm(&self, vm: u16) -> Option<Slot> {
        self.iter()
            .find(|(_, process)| process.vm == vm)
            .map(|(slot, _)| slot)
    }

    /// The partition of a VM, if it has one.
    pub fn partition_of(&self, vm: u16) -> Option<&Partition> {
        let slot = self.of_vm(vm)?;
        self.processes
            .get(slot.index())?
            .as_ref()?
            .partition
            .as_ref()
    }

    /// Records the partition of the process that runs, for its intercepts.
    pub fn set_partition(&mut self, id: HvPartitionId) {
        if let Some(place) = block::current().and_then(|slot| self.partitions.get_mut(slot.index()))
        {
            *place = id.0;
        }
    }

    /// Changes a process and has it hear of that: one that waits can run, one that halts in the hands of another processor
    /// is woken.
    fn signal(&mut self, slot: Slot, change: impl FnOnce(&mut Process)) {
        let Some(process) = self.get(slot) else {
            return;
        };
        change(process);
        if process.state == State::Waiting {
            process.state = State::Ready;
            let home = process.home;
            self.queue.push(slot);
            self.send_for(home);
        } else if let Some(on) = process.on
            && on != block::processor()
        {
            self.rouse(on);
        }
    }

    /// There is a new process in the queue that prefers a processor.
    fn send_for(&mut self, home: Processor) {
        let me = block::processor();
        // Here it is taken as soon as this is over, unless another process goes on.
        let at_hand = self.idle.halts(me) || block::current().is_none();
        if let Some(processor) = self.idle.choose(home, me, at_hand) {
            self.rouse(processor);
        }
    }

    /// Wakes another processor if it halts.
    fn rouse(&mut self, processor: Processor) {
        if self.idle.halts(processor) {
            self.idle.wake(processor);
            apic::wake(processor);
        }
    }

    /// The root task has something to do.
    fn want_root_task(&mut self) {
        let known = core::mem::replace(&mut self.root_task_wanted, true);
        if !known && block::processor() != Processor::FIRST {
            self.idle.wake(Processor::FIRST);
            apic::wake(Processor::FIRST);
        }
    }
}

impl Process {
    /// Addresses for new memory of `len` bytes, whole pages. They are not given again, so that what a failure leaves behind is
    /// in nobody's way; one page behind them stays free as a guard.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there cannot be such a range, [`Error::NoMemory`] if there are no addresses left.
    pub fn new_addresses(&mut self, len: u64, alignment: u64) -> Result<UserRange, Error> {
        let start = self.next_memory.checked_next_multiple_of(alignment);
        let range = UserRange::pages(start.ok_or(Error::NoMemory)?, len).ok_or(Error::Invalid)?;
        if range.end() > layout::VP_PAGES {
            return Err(Error::NoMemory);
        }
        self.next_memory = range.end().saturating_add(PAGE_SIZE);
        Ok(range)
    }

    /// How a VP is let run on, when it may.
    ///
    /// # Errors
    /// [`Error::State`] if there is no such VP, or an intercept of it has not been reported yet.
    fn resume(&mut self, vp: u64) -> Result<Resume, Error> {
        let vp = u32::try_from(vp).map_err(|_| Error::State)?;
        let block = self.resume_blocks.get(vp as usize).copied().flatten();
        let block = block.ok_or(Error::State)?;
        self.inbox.resume(vp)?;
        let explicit = self.explicit & 1 << vp != 0;
        self.explicit &= !(1 << vp);
        Ok(Resume {
            block,
            vp,
            explicit,
            first: !self.has_run,
        })
    }

    /// Remembers the prepared call of a new VP, which is suspended explicitly.
    pub fn set_resume_block(&mut self, vp: u32, block: Pfn) {
        if let Some(place) = self.resume_blocks.get_mut(vp as usize) {
            *place = Some(block);
            self.explicit |= 1 << vp;
        }
    }

    /// The process has set registers of its VPs, and may have suspended them explicitly.
    pub fn registers_set(&mut self) {
        self.explicit = u64::MAX;
    }

    /// A VP was stopped, see [`Inbox::stopped`].
    pub fn stopped(&mut self, vp: u32, suspended: bool) -> bool {
        if let Some(bit) = 1_u64.checked_shl(vp) {
            self.explicit |= bit;
        }
        self.inbox.stopped(vp, suspended)
    }
}

/// Everything that a process is made of.
pub struct New<'a> {
    /// Its name.
    pub name: &'a str,
    /// The manager's number of its VM.
    pub vm: u16,
    /// First instruction.
    pub entry: u64,
    /// First RSP.
    pub stack: u64,
    /// Its first argument.
    pub argument: u64,
    /// Its memory.
    pub space: Space,
}

/// A slot that no process has.
pub fn free_slot() -> Option<Slot> {
    TABLE.with(|table| {
        let free = |slot: &Slot| {
            let used = table
                .processes
                .get(slot.index())
                .is_none_or(Option::is_some);
            !used && table.quarantined & (1 << slot.index()) == 0
        };
        (1..SLOTS).filter_map(Slot::new).find(free)
    })
}

/// Adds a process to those that run.
///
/// # Errors
/// [`SpaceError`] if there is no memory for its kernel stack; the address space stays the caller's.
pub fn start(new: &New<'_>) -> Result<(), SpaceError> {
    let slot = new.space.slot();
    let top = map_kernel_stack(slot)?;
    let process = Box::new(Process {
        name: new.name.into(),
        vm: new.vm,
        space: new.space,
        next_memory: layout::MEMORY,
        partition: None,
        guest: GuestMemory::default(),
        resume_blocks: [None; MAX_VPS],
        explicit: 0,
        inbox: Inbox::default(),
        memory_order: None,
        input: ByteRing::new(),
        state: State::Ready,
        deadline: NEVER,
        saved_stack: first_stack(top, new),
        on: None,
        waits_at: Processor::FIRST,
        home: Processor::FIRST,
        has_run: false,
        event_place: None,
        end: None,
    });
    TABLE.with(|table| {
        if let Some(place) = table.processes.get_mut(slot.index()) {
            *place = Some(process);
            table.queue.push(slot);
            table.send_for(Processor::FIRST);
        }
    });
    Ok(())
}

/// Gives a frame of a process back.
fn release(frame: Pfn, owner: Owner) {
    if let Err(error) = FRAMES.with(|frames| frames.release(frame, 0, owner)) {
        panic!("process: {error}");
    }
}
