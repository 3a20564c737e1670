//! Processes: the table, who runs, what wakes whom, how they end.
//!
//! There is one kernel stack for each process and one for the root task, which is the hub: a process that blocks or is
//! preempted switches to the root task, and that runs the next one or halts.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use root_abi::{Error, Event, ExitReason, NO_VP, event};
use root_kernel::addr::{PAGE_SIZE, Pfn};
use root_kernel::frames::{Class, Owner, SLOTS, Slot};
use root_kernel::hv::{GuestMemory, Hv, MAX_VPS, Partition, Teardown};
use root_kernel::paging::{Attributes, Rights};
use root_kernel::ring::ByteRing;
use root_kernel::sched::{NEVER, RunQueue, SLICE};
use tlfs::{HvMessageType, HvPartitionId};
use x86_64::registers::control::Cr2;

use super::cell::Global;
use super::hypervisor::Metal;
use super::memory::FRAMES;
use super::space::{EventPlace, Space, SpaceError};
use super::trap::{self, TrapFrame};
use super::{cpu, layout, memory, time};

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the queue, or running.
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
    pub next_memory: u64,
    /// Its partition.
    pub partition: Option<Partition>,
    /// Memory of its guest.
    pub guest: GuestMemory,
    /// Block of the prepared resume call of each VP.
    resume_blocks: [Option<Pfn>; MAX_VPS],
    /// VPs that have been resumed and not stopped since, one bit each.
    running: u64,
    /// VPs whose intercept the process has not heard of yet.
    pending: u64,
    /// Typed input for it.
    pub input: ByteRing<4096>,
    input_news: bool,
    stop: bool,
    misbehave: Option<u32>,
    state: State,
    deadline: u64,
    saved_stack: u64,
    has_run: bool,
    event_place: Option<EventPlace>,
    end: Option<End>,
}

/// The table and what changes with it.
pub struct Table {
    processes: [Option<Box<Process>>; SLOTS],
    /// Partition of each slot, 0 for none: what an intercept is looked up by.
    partitions: [u64; SLOTS],
    /// Slots that lost something when their process was taken down; never used again.
    quarantined: u64,
    queue: RunQueue,
    current: Option<Slot>,
    root_task_wanted: bool,
    root_task_deadline: u64,
    preempt: bool,
    unknown_messages: u64,
    last_unknown: HvMessageType,
}

/// All processes.
pub static TABLE: Global<Table> = Global::new(Table {
    processes: [const { None }; SLOTS],
    partitions: [0; SLOTS],
    quarantined: 0,
    queue: RunQueue::EMPTY,
    current: None,
    root_task_wanted: true,
    root_task_deadline: NEVER,
    preempt: false,
    unknown_messages: 0,
    last_unknown: HvMessageType::NONE,
});

impl Table {
    /// The process that runs now. Panics outside of one: a bug.
    pub fn current(&mut self) -> &mut Process {
        match self
            .current
            .and_then(|slot| self.processes.get_mut(slot.index()))
        {
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

    /// Records the partition of the process that runs, for its intercepts.
    pub fn set_partition(&mut self, id: HvPartitionId) {
        if let Some(place) = self
            .current
            .and_then(|slot| self.partitions.get_mut(slot.index()))
        {
            *place = id.0;
        }
    }

    fn wake(&mut self, slot: Slot) {
        if let Some(process) = self.get(slot)
            && process.state == State::Waiting
        {
            process.state = State::Ready;
            self.queue.push(slot);
        }
    }

    /// Changes a process and wakes it to hear of it.
    fn signal(&mut self, slot: Slot, change: impl FnOnce(&mut Process)) {
        if let Some(process) = self.get(slot) {
            change(process);
            self.wake(slot);
        }
    }
}

impl Process {
    /// What `wait` has to report, the most urgent first.
    fn next_event(&mut self, now: u64, deadline: u64) -> Option<Event> {
        let (kind, vp) = if self.stop {
            self.stop = false;
            (event::STOP, 0)
        } else if let Some(what) = self.misbehave.take() {
            (event::DEBUG, what)
        } else if self.pending != 0 {
            let vp = self.pending.trailing_zeros();
            self.pending &= self.pending.wrapping_sub(1);
            (event::INTERCEPT, vp)
        } else if self.input_news {
            self.input_news = false;
            (event::CONSOLE, 0)
        } else if now >= deadline {
            (event::TIMEOUT, 0)
        } else {
            return None;
        };
        Some(Event { kind, vp, now })
    }

    /// The block of the call that lets a VP run on.
    ///
    /// # Errors
    /// [`Error::State`] if there is no such VP, or an intercept of it has not been reported yet.
    fn resume(&mut self, vp: u64) -> Result<Pfn, Error> {
        let block = usize::try_from(vp)
            .ok()
            .and_then(|vp| self.resume_blocks.get(vp).copied().flatten());
        let block = block.ok_or(Error::State)?;
        // `vp` is below 64, or there would be no block.
        let bit = 1u64 << (vp % 64);
        if self.pending & bit != 0 {
            return Err(Error::State);
        }
        self.running |= bit;
        Ok(block)
    }

    /// Remembers the prepared call of a new VP.
    pub fn set_resume_block(&mut self, vp: u32, block: Pfn) {
        if let Some(place) = self.resume_blocks.get_mut(vp as usize) {
            *place = Some(block);
        }
    }

    /// A VP was stopped; `suspended` says that it is suspended by an intercept. Returns whether an intercept is still
    /// to be reported.
    pub fn stopped(&mut self, vp: u32, suspended: bool) -> bool {
        let bit = 1u64 << (vp % 64);
        let to_come = self.pending & bit != 0 || (self.running & bit != 0 && suspended);
        if !to_come {
            self.running &= !bit;
        }
        to_come
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
        running: 0,
        pending: 0,
        input: ByteRing::new(),
        input_news: false,
        stop: false,
        misbehave: None,
        state: State::Ready,
        deadline: NEVER,
        saved_stack: first_stack(top, new),
        has_run: false,
        event_place: None,
        end: None,
    });
    TABLE.with(|table| {
        if let Some(place) = table.processes.get_mut(slot.index()) {
            *place = Some(process);
            table.queue.push(slot);
        }
    });
    Ok(())
}

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

fn map_kernel_stack(slot: Slot) -> Result<u64, SpaceError> {
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
    Ok(bottom + layout::STACK_PAGES * PAGE_SIZE)
}

fn unmap_kernel_stack(slot: Slot) {
    let bottom = kernel_stack(slot);
    for page in 0..layout::STACK_PAGES {
        let address = bottom + page * PAGE_SIZE;
        if let Some(frame) = memory::with_kernel_tables(|tables| tables.unmap(address)) {
            cpu::invalidate(address);
            release(frame, Owner::new(slot, Class::Kernel));
        }
    }
}

fn release(frame: Pfn, owner: Owner) {
    if let Err(error) = FRAMES.with(|frames| frames.release(frame, 0, owner)) {
        panic!("process: {error}");
    }
}

/// Lays out the kernel stack of a process that has not run yet: it returns from a trap that never was.
fn first_stack(top: u64, new: &New<'_>) -> u64 {
    const INTERRUPTS: u64 = 1 << 9;
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
        rflags: INTERRUPTS | 2,
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
            .write(trap::trap_return as *const () as u64);
    }
    saved
}

/// Runs the next process until it blocks, ends or is preempted. `false` if none can run. Only the root task calls this.
pub fn run_next() -> bool {
    let next = TABLE.with(|table| {
        let slot = table.queue.pop()?;
        table.current = Some(slot);
        table.preempt = false;
        let others = !table.queue.is_empty();
        let process = table.get(slot)?;
        process.space.enter();
        Some((slot, process.saved_stack, others))
    });
    let Some((slot, stack, others)) = next else {
        TABLE.with(|table| table.current = None);
        return false;
    };
    if others {
        time::wake_at(time::now().saturating_add(SLICE));
    }
    cpu::set_kernel_stack(kernel_stack(slot) + layout::STACK_PAGES * PAGE_SIZE);
    // SAFETY: the process is not running, so its stack was saved by a switch or prepared by `first_stack`, and is
    // continued once. The block is this processor's.
    unsafe { trap::switch_stacks(&raw mut (*cpu::block()).root_task, stack) };
    TABLE.with(|table| table.current = None);
    true
}

/// Leaves the process that runs for the root task; returns when it is run again. Nothing may be taken.
fn yield_to_root_task() {
    let save: *mut u64 = TABLE.with(|table| &raw mut table.current().saved_stack);
    // SAFETY: the process is boxed and stays at least until it has ended, and nobody else touches the field while it
    // runs. The root task was saved by `run_next` and is continued once.
    unsafe { trap::switch_stacks(save, (*cpu::block()).root_task) };
}

/// Before the process that runs goes on in ring 3, after an interrupt or a system call: lets somebody else run first if
/// it is time for that.
pub fn before_return() {
    let (leave, slice) = TABLE.with(|table| {
        let leave = table.root_task_wanted || table.preempt;
        table.preempt = false;
        if leave && let Some(slot) = table.current {
            table.queue.push(slot);
        }
        (leave, !table.queue.is_empty())
    });
    if leave {
        yield_to_root_task();
    } else if slice {
        time::wake_at(time::now().saturating_add(SLICE));
    }
}

/// The timer rang: wakes whose deadline has passed, ends the slice of who runs.
pub fn timer() {
    let now = time::now();
    let next = TABLE.with(|table| {
        let mut next = NEVER;
        for slot in (1..SLOTS).filter_map(Slot::new) {
            let Some(process) = table
                .get(slot)
                .filter(|process| process.state == State::Waiting)
            else {
                continue;
            };
            if process.deadline <= now {
                table.wake(slot);
            } else {
                next = next.min(process.deadline);
            }
        }
        if table.root_task_deadline <= now {
            table.root_task_deadline = NEVER;
            table.root_task_wanted = true;
        }
        table.preempt = !table.queue.is_empty();
        next.min(table.root_task_deadline)
    });
    time::wake_at(next);
}

/// The root task has something to do.
pub fn want_root_task() {
    TABLE.with(|table| table.root_task_wanted = true);
}

/// The root task asks whether it has something to do; the question answers itself with no from then on.
pub fn root_task_wanted() -> bool {
    TABLE.with(|table| core::mem::take(&mut table.root_task_wanted))
}

/// Whether the root task has something to do, without taking note.
pub fn root_task_pending() -> bool {
    TABLE.with(|table| table.root_task_wanted)
}

/// The root task wants to run at that time.
pub fn root_task_at(time: u64) {
    TABLE.with(|table| table.root_task_deadline = time);
    time::wake_at(time);
}

/// A VP of a partition waits for its process. On the path of every intercept.
pub fn intercept(partition: HvPartitionId, vp: u32) {
    TABLE.with(|table| {
        let slot = table
            .partitions
            .iter()
            .position(|id| *id == partition.0)
            .and_then(Slot::new);
        match slot.filter(|_| partition.0 != 0 && vp < MAX_VPS as u32) {
            Some(slot) => table.signal(slot, |process| {
                process.pending |= 1 << vp;
                process.running &= !(1 << vp);
            }),
            // The last messages of a partition that is gone.
            None => table.unknown_messages = table.unknown_messages.saturating_add(1),
        }
    });
}

/// A message that nobody expects.
pub fn note_unknown_message(kind: HvMessageType) {
    TABLE.with(|table| {
        table.unknown_messages = table.unknown_messages.saturating_add(1);
        table.last_unknown = kind;
        table.root_task_wanted = true;
    });
}

/// A kind of message that nobody expected since the last question.
pub fn take_unknown_message() -> Option<HvMessageType> {
    let kind = TABLE.with(|table| core::mem::take(&mut table.last_unknown));
    (kind != HvMessageType::NONE).then_some(kind)
}

/// Where the process that runs wants its event, which is usually where it was the last time; `None` for a place that
/// takes more than one piece, or is none.
pub fn event_place(address: u64) -> Option<EventPlace> {
    TABLE.with(|table| {
        let process = table.current();
        let known = process.event_place.filter(|place| place.is_at(address));
        let place = known.or_else(|| process.space.event_place(address))?;
        process.event_place = Some(place);
        Some(place)
    })
}

/// The system call `wait`.
///
/// # Errors
/// [`Error::State`] or [`Error::Hypercall`] if the VP cannot be resumed; then nothing was waited for.
pub fn wait(deadline: u64, resume: u64) -> Result<Event, Error> {
    if resume != NO_VP {
        let block = TABLE.with(|table| table.current().resume(resume))?;
        super::partition::resume(block, resume)?;
        if TABLE.with(|table| !core::mem::replace(&mut table.current().has_run, true)) {
            super::root_task::worker_running();
        }
    }
    loop {
        let now = time::now();
        let found = TABLE.with(|table| {
            let process = table.current();
            let found = process.next_event(now, deadline);
            if found.is_none() {
                process.deadline = deadline;
                process.state = State::Waiting;
            }
            found
        });
        if let Some(event) = found {
            return Ok(event);
        }
        time::wake_at(deadline);
        yield_to_root_task();
    }
}

/// Ends the process that runs.
pub fn end_current(end: End) -> ! {
    TABLE.with(|table| {
        let process = table.current();
        process.state = State::Ended;
        process.end = Some(end);
        table.root_task_wanted = true;
    });
    yield_to_root_task();
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

/// Asks the process of a VM to stop.
pub fn ask_to_stop(vm: u16) {
    TABLE.with(|table| {
        if let Some(slot) = table.of_vm(vm) {
            table.signal(slot, |process| process.stop = true);
        }
    });
}

/// Makes the process of a VM misbehave.
pub fn ask_to_misbehave(vm: u16, what: u32) {
    TABLE.with(|table| {
        if let Some(slot) = table.of_vm(vm) {
            table.signal(slot, |process| process.misbehave = Some(what));
        }
    });
}

/// Gives typed bytes to the process of a VM; what does not fit is lost.
pub fn type_in(vm: u16, bytes: &[u8]) {
    TABLE.with(|table| {
        if let Some(slot) = table.of_vm(vm) {
            table.signal(slot, |process| {
                process.input_news = bytes.iter().fold(process.input_news, |news, byte| {
                    process.input.push(*byte) || news
                });
            });
        }
    });
}

/// Ends the process of a VM. Only the root task calls this, so the process does not run.
pub fn kill(vm: u16) {
    TABLE.with(|table| {
        if let Some(slot) = table.of_vm(vm) {
            table.queue.remove(slot);
            if let Some(process) = table
                .get(slot)
                .filter(|process| process.state != State::Ended)
            {
                process.state = State::Ended;
                process.end = Some(End::Killed);
                table.root_task_wanted = true;
            }
        }
    });
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

/// Takes down one process that has ended, with everything that was its. Only the root task calls this.
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
        process.space.dismantle();
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
