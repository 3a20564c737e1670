//! The calls that work on a buffer's pages: create, delete, map, unmap.
//!
//! They handle some pages and are then executed again. What is half done has a state of its own, which such a call goes
//! on from, and which only the opposite call ends. So a call that is never executed again (the root's processor went
//! elsewhere) leaves a buffer that can still be completed or taken back.

use arrayvec::ArrayVec;
use tlfs::{HvInputCreateEventLogBuffer, HvInputEventLogBuffer, HvProximityDomainInfo, HvStatus};

use super::buffer::{Buffer, MorePages, State};
use super::{Progress, group_of};
use crate::hv::Hypervisor;
use crate::mem::addr::Spfn;
use crate::mem::format::Rights;
use crate::mem::frames::{PartitionSlot, SharedAccess};

/// Pages that one execution of CreateEventLogBuffer handles: one takes 650 instructions, most of them to zero it.
const CREATE_STEP: usize = 64;
/// Pages that one execution of DeleteEventLogBuffer handles: one takes 120 instructions.
const DELETE_STEP: usize = 256;
/// Most pages that one execution of MapEventLogBuffer or UnmapEventLogBuffer handles.
const MAP_STEP: usize = 64;
/// Most runs of neighbouring pages among them: one may take 11,000 instructions, to find out which of the root's tables
/// are empty then.
const MAP_RUNS: usize = 4;

type Step = ArrayVec<Spfn, MAP_STEP>;

/// HvCallCreateEventLogBuffer.
///
/// # Errors
/// INVALID_PARAMETER, OPERATION_DENIED; INSUFFICIENT_MEMORY, with nothing done, until the root's pool has all pages that
/// the buffer needs: one more than it has, if it has more than one.
pub fn create_buffer(
    hv: &Hypervisor,
    input: &HvInputCreateEventLogBuffer,
) -> Result<Progress, HvStatus> {
    let _call = hv.event_log.calls.lock();
    let mut groups = hv.event_log.groups();
    let group = group_of(&mut groups, input.event_log_type)?;
    if !is_here(&input.proximity_info) {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let pages = group.geometry.pages;
    let buffer = group.buffer(input.buffer_index.0);
    let buffer = buffer.ok_or(HvStatus::INVALID_PARAMETER)?;
    let begins = match buffer.state {
        State::Absent => true,
        State::Creating => false,
        _ => return Err(HvStatus::INVALID_PARAMETER),
    };
    let done = fill(hv, buffer, pages, begins);
    match done {
        Ok(_) => group.buffers += u16::from(begins),
        Err(_) => group.buffers -= u16::from(!begins),
    }
    done
}

/// Whether a wish for memory in a proximity domain can be met: there is one, 0.
const fn is_here(proximity: &HvProximityDomainInfo) -> bool {
    const PREFERRED: u32 = 1;
    const VALID: u32 = 1 << 31;
    let flags = proximity.flags;
    flags & !(PREFERRED | VALID) == 0 && (flags & VALID == 0 || proximity.domain_id == 0)
}

/// Gives a buffer its next pages. If there are not enough, it has none and is absent.
fn fill(
    hv: &Hypervisor,
    buffer: &mut Buffer,
    pages: u16,
    begins: bool,
) -> Result<Progress, HvStatus> {
    if begins {
        let list = u64::from(pages > 1);
        hv.require(PartitionSlot::ROOT, u64::from(pages) + list)?;
        if list != 0 {
            buffer.more = Some(hv.place(PartitionSlot::ROOT, MorePages::new())?);
        }
        buffer.state = State::Creating;
    }
    for _ in 0..CREATE_STEP {
        if buffer.pages() == pages {
            break;
        }
        let added = hv.allocate(PartitionSlot::ROOT).and_then(|frame| {
            buffer.push(frame).map_err(|frame| {
                hv.release(PartitionSlot::ROOT, frame);
                HvStatus::INSUFFICIENT_MEMORY
            })
        });
        if let Err(status) = added {
            let _ = empty(hv, buffer, usize::MAX);
            return Err(status);
        }
    }
    if buffer.pages() == pages {
        buffer.state = State::Standby;
        return Ok(Progress::Done);
    }
    Ok(Progress::Again)
}

/// Takes at most `limit` pages from a buffer; without pages it is absent.
fn empty(hv: &Hypervisor, buffer: &mut Buffer, limit: usize) -> Progress {
    for _ in 0..limit {
        let Some(frame) = buffer.pop() else {
            *buffer = Buffer::default();
            return Progress::Done;
        };
        hv.release(PartitionSlot::ROOT, frame);
    }
    Progress::Again
}

/// HvCallDeleteEventLogBuffer. Also ends a creation that was left half done.
///
/// # Errors
/// INVALID_PARAMETER, OPERATION_DENIED.
pub fn delete_buffer(hv: &Hypervisor, input: &HvInputEventLogBuffer) -> Result<Progress, HvStatus> {
    let _call = hv.event_log.calls.lock();
    let mut groups = hv.event_log.groups();
    let group = group_of(&mut groups, input.event_log_type)?;
    let buffer = group.buffer(input.buffer_index.0);
    let buffer = buffer.ok_or(HvStatus::INVALID_PARAMETER)?;
    match buffer.state {
        State::Absent => return Err(HvStatus::INVALID_PARAMETER),
        State::Standby | State::Creating | State::Deleting => {}
        _ => return Err(HvStatus::OPERATION_DENIED),
    }
    buffer.state = State::Deleting;
    let progress = empty(hv, buffer, DELETE_STEP);
    if progress == Progress::Done {
        group.buffers -= 1;
    }
    Ok(progress)
}

/// HvCallMapEventLogBuffer. When it is done, `output` gets the number of every page of the buffer, in the root's space.
///
/// The rest of the input that newer callers give, a partition id, is not looked at: there is one log, and older callers
/// leave it out.
///
/// # Errors
/// INVALID_PARAMETER, OPERATION_DENIED. INSUFFICIENT_MEMORY, which the size of the reserve for the root's tables excludes,
/// leaves some pages mapped: the call can be repeated, or UnmapEventLogBuffer made.
pub fn map_buffer(
    hv: &Hypervisor,
    input: &HvInputEventLogBuffer,
    mut output: impl FnMut(usize, u64),
) -> Result<Progress, HvStatus> {
    let _call = hv.event_log.calls.lock();
    let (log, index) = (input.event_log_type, input.buffer_index.0);
    let (before, step) = {
        let mut groups = hv.event_log.groups();
        let buffer = group_of(&mut groups, log)?.buffer(index);
        let buffer = buffer.ok_or(HvStatus::INVALID_PARAMETER)?;
        let mapped = match buffer.state {
            State::Standby => 0,
            State::Mapping { mapped } => mapped,
            State::Absent => return Err(HvStatus::INVALID_PARAMETER),
            _ => return Err(HvStatus::OPERATION_DENIED),
        };
        (mapped, step(buffer, mapped..buffer.pages()))
    };
    // Nobody but a call changes a buffer that is not mapped, so it is as it was when the groups are locked again.
    share(hv, &step)?;
    let mapped = before + step.len() as u16;
    let mut groups = hv.event_log.groups();
    let group = group_of(&mut groups, log)?;
    let buffer = group.buffer(index);
    let buffer = buffer.ok_or(HvStatus::INVALID_PARAMETER)?;
    if mapped < buffer.pages() {
        buffer.state = State::Mapping { mapped };
        return Ok(Progress::Again);
    }
    for number in 0..usize::from(mapped) {
        if let Some(Spfn(page)) = buffer.page(number) {
            output(number, page);
        }
    }
    group.make_free(&hv.phys, index as u16);
    Ok(Progress::Done)
}

/// HvCallUnmapEventLogBuffer. Input as for [`map_buffer`].
///
/// # Errors
/// INVALID_PARAMETER, OPERATION_DENIED (no group), ACCESS_DENIED (neither free nor ready). INSUFFICIENT_MEMORY as for
/// [`map_buffer`]: the call can be repeated.
pub fn unmap_buffer(hv: &Hypervisor, input: &HvInputEventLogBuffer) -> Result<Progress, HvStatus> {
    let _call = hv.event_log.calls.lock();
    let (log, index) = (input.event_log_type, input.buffer_index.0);
    let (rest, step) = {
        let mut groups = hv.event_log.groups();
        let group = group_of(&mut groups, log)?;
        let mapped = group.take_out(index)?;
        let buffer = group.buffer(index).ok_or(HvStatus::INVALID_PARAMETER)?;
        let step = step(buffer, (0..mapped).rev());
        (mapped - step.len() as u16, step)
    };
    unshare(hv, &step)?;
    let mut groups = hv.event_log.groups();
    let buffer = group_of(&mut groups, log)?.buffer(index);
    let buffer = buffer.ok_or(HvStatus::INVALID_PARAMETER)?;
    if rest > 0 {
        buffer.state = State::Unmapping { mapped: rest };
        return Ok(Progress::Again);
    }
    buffer.state = State::Standby;
    Ok(Progress::Done)
}

/// The first of some pages of a buffer: as many as one execution of a call handles.
fn step(buffer: &Buffer, numbers: impl Iterator<Item = u16>) -> Step {
    let pages = numbers.filter_map(|number| buffer.page(number.into()));
    let mut step = Step::new();
    let mut runs = 0;
    for page in pages.take(MAP_STEP) {
        runs += usize::from(!step.last().is_some_and(|last| neighbours(last, &page)));
        if runs > MAP_RUNS {
            break;
        }
        step.push(page);
    }
    step
}

/// Lets the root read pages: all or none. The groups must not be locked, because the root's partition will be.
fn share(hv: &Hypervisor, pages: &[Spfn]) -> Result<(), HvStatus> {
    {
        let mut frames = hv.frames.lock();
        for &page in pages {
            let shared = frames.share(PartitionSlot::ROOT, page, SharedAccess::ReadOnly);
            assert_eq!(shared, Ok(()), "a buffer's pages are in use and private");
        }
    }
    let given = runs(pages)
        .try_for_each(|(first, count)| hv.set_root_rights(first, count, Some(Rights::READ)));
    if given.is_err() {
        let undone = unshare(hv, pages);
        assert_eq!(undone, Ok(()), "what was given can be taken away");
    }
    given
}

/// Takes pages away from the root; if not from all of them, they stay shared. The groups must not be locked.
fn unshare(hv: &Hypervisor, pages: &[Spfn]) -> Result<(), HvStatus> {
    runs(pages).try_for_each(|(first, count)| hv.set_root_rights(first, count, None))?;
    hv.shoot_down(PartitionSlot::ROOT);
    let mut frames = hv.frames.lock();
    for &page in pages {
        let done = frames.unshare(PartitionSlot::ROOT, page);
        assert_eq!(done, Ok(()), "shared when it was mapped");
    }
    Ok(())
}

fn neighbours(one: &Spfn, other: &Spfn) -> bool {
    one.0.abs_diff(other.0) == 1
}

/// Neighbouring pages, upwards or downwards (a pool gives the last page that it got first), as first page and count: one
/// change of the root's table each.
fn runs(pages: &[Spfn]) -> impl Iterator<Item = (Spfn, u64)> {
    let runs = pages.chunk_by(neighbours);
    runs.filter_map(|run| Some((*run.iter().min()?, run.len() as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run() {
        let pages = [4, 5, 6, 9, 18, 17, 16, 3].map(Spfn);
        let found: Vec<(u64, u64)> = runs(&pages).map(|(first, n)| (first.0, n)).collect();
        assert_eq!(found, [(4, 3), (9, 1), (16, 3), (3, 1)]);
        assert_eq!(runs(&[]).count(), 0);
    }
}
