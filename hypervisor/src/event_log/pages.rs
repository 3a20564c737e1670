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

/// Pages that one execution of CreateEventLogBuffer or DeleteEventLogBuffer handles: one takes some 600 instructions,
/// most of them to zero it.
pub(super) const POOL_STEP: usize = 64;
/// Pages that one execution of MapEventLogBuffer or UnmapEventLogBuffer handles: one may need two tables of the root's.
pub(super) const MAP_STEP: usize = 24;

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
    for _ in 0..POOL_STEP {
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
    let progress = empty(hv, buffer, POOL_STEP);
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
        (mapped, step(buffer, mapped))
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
        let rest = mapped.saturating_sub(MAP_STEP as u16);
        let mut step = step(buffer, rest);
        step.truncate(usize::from(mapped - rest));
        (rest, step)
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

/// The next pages of a buffer after the first `done`.
fn step(buffer: &Buffer, done: u16) -> Step {
    let pages = usize::from(done)..usize::from(buffer.pages());
    let pages = pages.filter_map(|number| buffer.page(number));
    pages.take(MAP_STEP).collect()
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

/// Neighbouring pages, first and count: one change of the root's table each.
fn runs(pages: &[Spfn]) -> impl Iterator<Item = (Spfn, u64)> {
    pages
        .chunk_by(|before, page| before.checked_add(1) == Some(*page))
        .filter_map(|run| Some((*run.first()?, run.len() as u64)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_run() {
        let pages = [4, 5, 6, 9, 8, 7, 8].map(Spfn);
        let found: Vec<(u64, u64)> = runs(&pages).map(|(first, n)| (first.0, n)).collect();
        assert_eq!(found, [(4, 3), (9, 1), (8, 1), (7, 2)]);
        assert_eq!(runs(&[]).count(), 0);
    }
}
