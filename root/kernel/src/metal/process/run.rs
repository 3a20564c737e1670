//! Who runs, and for how long: switches, time slices, `wait`, the root task's turn.

use root_abi::{Error, Event, NO_VP};
use root_kernel::frames::{SLOTS, Slot};
use root_kernel::sched::{NEVER, SLICE};

use super::stack::kernel_stack_top;
use super::{Resume, State, TABLE};
use crate::metal::space::EventPlace;
use crate::metal::{cpu, partition, root_task, time, trap};

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
    cpu::set_kernel_stack(kernel_stack_top(slot));
    // SAFETY: the process is not running, so its stack was saved by a switch or prepared by `first_stack`, and is
    // continued once. The block is this processor's.
    unsafe { trap::switch_stacks(&raw mut (*cpu::block()).root_task, stack) };
    TABLE.with(|table| table.current = None);
    true
}

/// Leaves the process that runs for the root task; returns when it is run again. Nothing may be taken.
pub(super) fn yield_to_root_task() {
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

/// Before the system call `wait`: where the process that runs wants its event, which is usually where it was the last
/// time, and how its VP is resumed. No place if it takes more than one piece, or is none; the VP is left alone then.
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
                let Some(place) = process.space.event_place(address) else {
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
    loop {
        let (news, others) = TABLE.with(|table| {
            let others = table.root_task_wanted || !table.queue.is_empty();
            let process = table.current();
            let news = process.inbox.next(0, NEVER);
            if news.is_none() && others {
                process.state = State::Waiting;
                process.deadline = deadline;
            }
            (news, others)
        });
        if let Some(event) = news {
            let now = time::now();
            return Ok(Event { now, ..event });
        }
        if deadline != NEVER
            && let Some(event) = timeout(deadline)
        {
            return Ok(event);
        }
        if others {
            yield_to_root_task();
        } else {
            // The root task would do no more than this, after two switches.
            cpu::wait_for_interrupt();
        }
    }
}

/// The event of a deadline that has passed; else the timer will ring.
#[cold]
fn timeout(deadline: u64) -> Option<Event> {
    let now = time::now();
    let event = TABLE.with(|table| {
        let process = table.current();
        let event = process.inbox.next(now, deadline)?;
        process.state = State::Ready;
        Some(event)
    });
    if event.is_none() {
        time::wake_at(deadline);
    }
    event
}
