//! Who runs, and for how long: switches, time slices, `wait`, the root task's turn.

use root_abi::{Error, Event, NO_VP};
use root_kernel::frames::{SLOTS, Slot};
use root_kernel::sched::{NEVER, Processor, SLICE};

use super::end::{End, end_current};
use super::stack::kernel_stack_top;
use super::{Hands, Resume, State, TABLE, Table};
use crate::metal::space::{self, EventPlace};
use crate::metal::{block, cpu, partition, root_task, time, trap};

/// Runs the next process until it blocks, ends, is preempted, or goes to another processor. `false` if none can run. Only
/// the processor's own task calls this.
pub fn run_next() -> bool {
    let me = block::processor();
    let next = TABLE.with(|table| {
        let slot = table.next_for(me)?;
        let others = !table.queue.is_empty();
        if others {
            table.send_for_help(me);
        }
        let turns = table.hands(me).turns.saturating_add(1);
        *table.hands(me) = Hands {
            turns,
            ..Hands::EMPTY
        };
        block::set_current(Some(slot));
        let process = table.get(slot)?;
        (process.on, process.home) = (Some(me), me);
        process.space.enter();
        Some((slot, process.saved_stack, others))
    });
    let Some((slot, stack, others)) = next else {
        return false;
    };
    if others {
        time::wake_at(time::now().saturating_add(SLICE));
    }
    block::set_kernel_stack(kernel_stack_top(slot));
    // SAFETY: the process is in no processor's hands but now in this one's, so its stack was saved by a switch or prepared
    // by `first_stack`, and is continued once. The block is this processor's.
    unsafe { trap::switch_stacks(&raw mut (*block::own()).own_task, stack) };
    TABLE.with(|table| {
        block::set_current(None);
        if let Some(process) = table.get(slot) {
            process.on = None;
        }
    });
    true
}

impl Table {
    /// Takes the next process for a processor from the queue: one that belongs there if possible.
    fn next_for(&mut self, me: Processor) -> Option<Slot> {
        let processes = &self.processes;
        let home = |slot: Slot| Some(processes.get(slot.index())?.as_deref()?.home);
        self.queue.pop(|slot| home(slot) == Some(me))
    }

    /// Whoever has nothing to do may take what is left in the queue.
    fn send_for_help(&mut self, me: Processor) {
        if let Some(processor) = self.idle.choose(me, me, false) {
            self.rouse(processor);
        }
    }
}

/// Leaves the process that runs for the processor's own task; returns when it is run again, maybe on another processor.
/// Nothing may be taken.
pub(super) fn yield_to_own_task() {
    let save: *mut u64 = TABLE.with(|table| &raw mut table.current().saved_stack);
    // SAFETY: the process is boxed and stays at least until it has ended, and nobody else touches the field while it is in
    // this processor's hands, which it is until the switch is done: the kernel's lock is kept. The processor's own task was
    // saved by `run_next` and is continued once.
    unsafe { trap::switch_stacks(save, (*block::own()).own_task) };
}

/// Before the process that runs goes on in ring 3, after an interrupt or a system call: lets somebody else run first if
/// it is time for that.
pub fn before_return() {
    let me = block::processor();
    let (asked, others) = TABLE.with(|table| {
        let asked = table.hands(me).asked;
        let wanted = table.root_task_wanted && me == Processor::FIRST;
        (asked || wanted, !table.queue.is_empty())
    });
    if asked {
        leave_before_return(me);
    } else if others {
        time::wake_at(time::now().saturating_add(SLICE));
    }
}

/// Leaves the process that runs, for others or for good.
#[cold]
fn leave_before_return(me: Processor) {
    let end = TABLE.with(|table| {
        let end = table.hands(me).end;
        if !end && let Some(slot) = block::current() {
            table.queue.push(slot);
        }
        end
    });
    if end {
        end_current(End::Killed);
    }
    yield_to_own_task();
}

/// This processor's timer rang: wakes whose deadline has passed, ends the slice of who runs.
pub fn timer() {
    let me = block::processor();
    let now = time::now();
    let next = TABLE.with(|table| {
        let mut next = NEVER;
        for slot in (1..SLOTS).filter_map(Slot::new) {
            let waits = |process: &&mut super::Process| {
                process.state == State::Waiting && process.waits_at == me
            };
            let Some(process) = table.get(slot).filter(waits) else {
                continue;
            };
            if process.deadline <= now {
                table.signal(slot, |_| {});
            } else {
                next = next.min(process.deadline);
            }
        }
        if me == Processor::FIRST {
            if table.root_task_deadline <= now {
                table.root_task_deadline = NEVER;
                table.root_task_wanted = true;
            }
            next = next.min(table.root_task_deadline);
        }
        let preempt = !table.queue.is_empty();
        let hands = table.hands(me);
        hands.preempt = preempt;
        hands.asked = preempt || hands.end;
        next
    });
    time::wake_at(next);
}

/// Halts this processor's own task until there is something to do. Nothing may be taken.
pub fn halt() {
    let me = block::processor();
    // No tables of a process stay in use, so that they may be taken apart at any time.
    space::leave();
    TABLE.with(|table| table.idle.halt(me, true));
    cpu::wait_for_interrupt();
    TABLE.with(|table| table.idle.wake(me));
}

/// How often a processor has taken a process in hand.
pub fn turns(processor: Processor) -> u64 {
    TABLE.with(|table| table.hands(processor).turns)
}

/// The root task has something to do.
pub fn want_root_task() {
    TABLE.with(|table| table.want_root_task());
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

/// Before the system call `wait`: where the process that runs wants its event, which is usually where it was the last
/// time, and how its VP is resumed. No place if it takes more than one piece, is none, or is in memory of the guest, which may
/// go; the VP is left alone then.
///
/// # Errors
/// [`Error::State`] if the VP cannot be resumed.
pub fn begin_wait(
    address: u64,
    resume: u64,
) -> Result<(Option<EventPlace>, Option<Resume>), Error> {
    TABLE.with(|table| {
        let process = table.current();
        let place = match process.event_place {
            Some(place) if place.is_at(address) => place,
            _ => {
                let lasting = !process.guest.has_address(address);
                let place = lasting.then(|| process.space.event_place(address));
                let Some(place) = place.flatten() else {
                    return Ok((None, None));
                };
                process.event_place = Some(place);
                place
            }
        };
        let resume = (resume != NO_VP).then(|| process.resume(resume));
        Ok((Some(place), resume.transpose()?))
    })
}

/// How the process that runs resumes its VP, if it does.
///
/// # Errors
/// [`Error::State`] if the VP cannot be resumed.
pub fn begin_resume(resume: u64) -> Result<Option<Resume>, Error> {
    let resume = (resume != NO_VP).then(|| TABLE.with(|table| table.current().resume(resume)));
    resume.transpose()
}

/// The system call `wait`.
///
/// # Errors
/// [`Error::Hypercall`] if the VP cannot be resumed; then nothing was waited for.
pub fn wait(deadline: u64, resume: Option<Resume>) -> Result<Event, Error> {
    if let Some(resume) = resume {
        partition::resume(&resume)?;
        if resume.first {
            TABLE.with(|table| table.current().has_run = true);
            root_task::worker_running();
        }
    }
    let mut halted = false;
    loop {
        let me = block::processor();
        let (news, leave) = TABLE.with(|table| {
            if halted {
                table.idle.wake(me);
            }
            table.look_for_news(me, deadline)
        });
        if let Some(event) = news {
            let now = time::now();
            return Ok(Event { now, ..event });
        }
        if deadline != NEVER
            && let Some(event) = timeout(me, deadline)
        {
            return Ok(event);
        }
        if leave {
            leave_in_wait();
        } else {
            // The processor's own task would do no more than this, after two switches.
            cpu::wait_for_interrupt();
            halted = true;
        }
    }
}

impl Table {
    /// What the process that runs has to hear of. If that is nothing, it either leaves the processor (for the root task, for
    /// others, because it belongs elsewhere, or for good), or is about to halt on it.
    fn look_for_news(&mut self, me: Processor, deadline: u64) -> (Option<Event>, bool) {
        let others = !self.queue.is_empty()
            || self.hands(me).end
            || (self.root_task_wanted && me == Processor::FIRST);
        let process = self.current();
        if let Some(event) = process.inbox.next(0, NEVER) {
            return (Some(event), false);
        }
        let leave = others || process.home != me;
        if leave {
            process.state = State::Waiting;
            process.deadline = deadline;
            process.waits_at = me;
        } else {
            self.idle.halt(me, false);
        }
        (None, leave)
    }
}

fn leave_in_wait() {
    let me = block::processor();
    if TABLE.with(|table| table.hands(me).end) {
        end_current(End::Killed);
    }
    yield_to_own_task();
}

/// The event of a deadline that has passed; else the timer will ring.
#[cold]
fn timeout(me: Processor, deadline: u64) -> Option<Event> {
    let now = time::now();
    let event = TABLE.with(|table| {
        let process = table.current();
        let event = process.inbox.next(now, deadline)?;
        process.state = State::Ready;
        table.idle.wake(me);
        Some(event)
    });
    if event.is_none() {
        time::wake_at(deadline);
    }
    event
}
