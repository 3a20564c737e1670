//! The calls that end at once: groups, sources, and the life of a mapped buffer. The caller is the root, which whoever
//! decodes the call has made sure of.

use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use tlfs::{
    HV_EVENTLOG_MAX_BUFFER_PAGES, HV_EVENTLOG_MAX_BUFFERS, HvEventLogEntryTimeBasis,
    HvEventLogMode, HvEventLogSystemSources, HvEventLogType, HvInputEventLogBuffer,
    HvInputFinalizeEventLogBufferGroup, HvInputInitializeEventLogBufferGroup,
    HvInputSetEventLogGroupSources, HvStatus,
};

use super::group::{Geometry, Group};
use super::{Event, group_of, place_of};
use crate::hv::Hypervisor;
use crate::mem::addr::PAGE_SIZE;
use crate::mem::frames::PartitionSlot;

/// Bit of the sources of LOCAL_DIAGNOSTICS that gives all others another meaning on newer hypervisors.
const EXTENDED: u64 = 1;

/// HvCallInitializeEventLogBufferGroup. The time of day is not used: no header has a place for it.
///
/// # Errors
/// INVALID_PARAMETER, OBJECT_IN_USE, INSUFFICIENT_MEMORY; nothing has happened then.
pub fn initialize_group(
    hv: &Hypervisor,
    input: &HvInputInitializeEventLogBufferGroup,
) -> Result<(), HvStatus> {
    let _call = hv.event_log.calls.lock();
    let geometry = geometry(input)?;
    let mut groups = hv.event_log.groups();
    let place = place_of(&mut groups, geometry.log)?;
    if place.is_some() {
        return Err(HvStatus::OBJECT_IN_USE);
    }
    hv.require(PartitionSlot::ROOT, geometry.descriptions() as u64)?;
    let mut descriptions = ArrayVec::new();
    for _ in 0..geometry.descriptions() {
        let page = core::array::from_fn(|_| Default::default());
        match hv.place(PartitionSlot::ROOT, page) {
            Ok(page) => descriptions.push(page),
            // Somebody else was faster with the pages that were there.
            Err(status) => {
                give_back(hv, Group::new(geometry, descriptions));
                return Err(status);
            }
        }
    }
    *place = Some(Group::new(geometry, descriptions));
    Ok(())
}

fn geometry(input: &HvInputInitializeEventLogBufferGroup) -> Result<Geometry, HvStatus> {
    let invalid = HvStatus::INVALID_PARAMETER;
    let log = HvEventLogType(input.init.event_log_type().into());
    if log.0 as usize >= super::TYPES {
        return Err(invalid);
    }
    let (maximum, threshold) = (input.maximum_buffer_count, input.threshold);
    if !(1..=HV_EVENTLOG_MAX_BUFFERS).contains(&maximum) || !(1..=maximum).contains(&threshold) {
        return Err(invalid);
    }
    let basis = input.time_basis;
    if !matches!(
        basis,
        HvEventLogEntryTimeBasis::REFERENCE | HvEventLogEntryTimeBasis::TSC
    ) {
        return Err(invalid);
    }
    let circular = match input.init.mode() {
        HvEventLogMode::REGULAR => false,
        HvEventLogMode::CIRCULAR => true,
        _ => return Err(invalid),
    };
    Ok(Geometry {
        log,
        maximum: maximum as u16,
        pages: pages(input.buffer_size_in_bytes).ok_or(invalid)?,
        threshold: threshold as u16,
        basis,
        circular,
    })
}

/// Pages of a buffer: a size in bytes, or, from older callers, in pages.
const fn pages(size: u32) -> Option<u16> {
    const MAX: u32 = HV_EVENTLOG_MAX_BUFFER_PAGES as u32;
    let pages = if size <= MAX {
        size
    } else if size.is_multiple_of(PAGE_SIZE as u32) {
        size / PAGE_SIZE as u32
    } else {
        0
    };
    match pages {
        1..=MAX => Some(pages as u16),
        _ => None,
    }
}

/// HvCallFinalizeEventLogBufferGroup.
///
/// # Errors
/// INVALID_PARAMETER, OPERATION_DENIED.
pub fn finalize_group(
    hv: &Hypervisor,
    input: &HvInputFinalizeEventLogBufferGroup,
) -> Result<(), HvStatus> {
    let _call = hv.event_log.calls.lock();
    let log = input.event_log_type;
    let mut groups = hv.event_log.groups();
    let place = place_of(&mut groups, log)?;
    if !matches!(place, Some(group) if group.buffers == 0) || hv.event_log.sources(log) != 0 {
        return Err(HvStatus::OPERATION_DENIED);
    }
    if let Some(group) = place.take() {
        give_back(hv, group);
    }
    Ok(())
}

fn give_back(hv: &Hypervisor, group: Group) {
    for frame in group.into_frames() {
        hv.release(PartitionSlot::ROOT, frame);
    }
}

/// HvCallSetEventLogGroupSources. Sources that nobody here records may be enabled. Enabling TEST records a test event.
///
/// # Errors
/// INVALID_PARAMETER, also for what only newer hypervisors know: groups of events, and the other meaning of the sources;
/// OPERATION_DENIED.
pub fn set_sources(
    hv: &Hypervisor,
    input: &HvInputSetEventLogGroupSources,
) -> Result<(), HvStatus> {
    let _call = hv.event_log.calls.lock();
    let log = input.event_log_type;
    let mut groups = hv.event_log.groups();
    group_of(&mut groups, log)?;
    let sources = input.enable_flags;
    if input.group_count != 0
        || (log == HvEventLogType::LOCAL_DIAGNOSTICS && sources & EXTENDED != 0)
    {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let Some(enabled) = hv.event_log.sources.get(log.0 as usize) else {
        return Err(HvStatus::INVALID_PARAMETER);
    };
    let before = enabled.swap(sources, Ordering::Relaxed);
    drop(groups);
    if log == HvEventLogType::GLOBAL_SYSTEM_EVENTS
        && sources & !before & HvEventLogSystemSources::TEST.0 != 0
    {
        hv.event_log.record(hv, None, Event::AdminTest);
    }
    Ok(())
}

/// HvCallReleaseEventLogBuffer.
///
/// # Errors
/// INVALID_PARAMETER, OPERATION_DENIED.
pub fn release_buffer(hv: &Hypervisor, input: &HvInputEventLogBuffer) -> Result<(), HvStatus> {
    let _call = hv.event_log.calls.lock();
    let mut groups = hv.event_log.groups();
    group_of(&mut groups, input.event_log_type)?.release(&hv.phys, input.buffer_index.0)
}

/// HvCallFlushEventLogBuffer. The message follows: [`pending`](super::EventLog::pending).
///
/// # Errors
/// INVALID_PARAMETER, OPERATION_DENIED.
pub fn flush_buffer(hv: &Hypervisor, input: &HvInputEventLogBuffer) -> Result<(), HvStatus> {
    let _call = hv.event_log.calls.lock();
    let mut groups = hv.event_log.groups();
    let group = group_of(&mut groups, input.event_log_type)?;
    group.flush(&hv.phys, input.buffer_index.0)?;
    if group.has_message() {
        hv.event_log.set_waiting();
    }
    Ok(())
}
