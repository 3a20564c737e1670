//! The event log that the root reads: hypercalls 0x60 to 0x68 and message 0x80000040 (`docs/event-log.md`).
//!
//! A type of events has a group of buffers. The root pays for them, sees their pages read-only at their own addresses,
//! and decides what is recorded. The hypervisor fills one buffer after the other and tells the root which are full. The
//! record for a panic is another one: [`crate::log::events`].
//!
//! Nothing here grows with what the root asks for: buffers and their descriptions are pages of the root's pool, a
//! hypercall works on a few dozen pages and is then executed again ([`Progress::Again`]), and an entry that finds no room is
//! counted instead of kept.

mod buffer;
mod calls;
mod entries;
mod group;
mod index_set;
mod lane;
mod pages;
#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use spin::{Mutex, MutexGuard};
use tlfs::{
    HvEventLogMessagePayload, HvEventLogSystemSources, HvEventLogType, HvStatus, HvTraceGroups,
};

pub use calls::{finalize_group, flush_buffer, initialize_group, release_buffer, set_sources};
pub use entries::Event;
use group::{Group, Stamp};
pub use pages::{create_buffer, delete_buffer, map_buffer, unmap_buffer};

use crate::hv::Hypervisor;
use crate::partition::VpRef;

/// Number of event log types.
const TYPES: usize = HvEventLogType::NAMED.len();

/// The processor that this runs on. There is one as yet.
const PROCESSOR: usize = 0;
const _: () = assert!(PROCESSOR < group::LANES);

/// How far a call got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// It is complete.
    Done,
    /// The caller has to execute it again, with the same input.
    Again,
}

/// The event log.
///
/// Order of locks: the calls', the partitions', the groups', the frames. Nobody calls into the log with the frames
/// locked.
#[derive(Debug)]
pub struct EventLog {
    /// Held for the time of a call, so that each finds what it left.
    calls: Mutex<()>,
    /// Groups by type, none before they are initialized.
    groups: Mutex<[Option<Group>; TYPES]>,
    /// Enabled sources by type; changed under the lock of the groups.
    sources: [AtomicU64; TYPES],
    /// [`PENDING`] and [`NEWS`]; changed under the lock of the groups.
    waiting: AtomicU8,
}

/// Some group has buffers to report.
const PENDING: u8 = 1;
/// Nobody has tried to report them yet.
const NEWS: u8 = 2;

impl EventLog {
    /// No groups.
    pub const fn new() -> Self {
        Self {
            calls: Mutex::new(()),
            groups: Mutex::new([const { None }; TYPES]),
            sources: [const { AtomicU64::new(0) }; TYPES],
            waiting: AtomicU8::new(0),
        }
    }

    /// Whether one of these traces is enabled: one load.
    #[inline]
    pub fn traces(&self, groups: HvTraceGroups) -> bool {
        self.sources(HvEventLogType::LOCAL_DIAGNOSTICS) & groups.0 != 0
    }

    #[inline]
    fn sources(&self, log: HvEventLogType) -> u64 {
        let sources = self.sources.get(log.0 as usize);
        sources.map_or(0, |sources| sources.load(Ordering::Relaxed))
    }

    /// Records what happened to a VP, or to none, in the logs that want it. As long as none does, this is one or two
    /// loads. Takes no other lock.
    #[inline]
    pub fn record(&self, hv: &Hypervisor, vp: Option<VpRef>, event: Event) {
        let system = event.system_sources();
        if self.traces(event.traces()) {
            self.append(hv, HvEventLogType::LOCAL_DIAGNOSTICS, vp, event);
        }
        if system != HvEventLogSystemSources::empty()
            && self.sources(HvEventLogType::GLOBAL_SYSTEM_EVENTS) & system.0 != 0
        {
            self.append(hv, HvEventLogType::GLOBAL_SYSTEM_EVENTS, vp, event);
        }
    }

    #[cold]
    fn append(&self, hv: &Hypervisor, log: HvEventLogType, vp: Option<VpRef>, event: Event) {
        let mut groups = self.groups.lock();
        // Enabled sources mean that there is a group; both may have gone a moment ago.
        let (Ok(group), Some(entry)) = (group_of(&mut groups, log), event.entry(log)) else {
            return;
        };
        let tsc = crate::cpu::tsc();
        let reference = hv.time_at(tsc).units();
        let stamp = Stamp { reference, tsc };
        let entry = entry.sealed(entries::context(vp), group.time(stamp));
        group.append(&hv.phys, PROCESSOR, stamp, entry.bytes());
        if group.has_message() {
            self.set_waiting();
        }
    }

    /// Whether a message for the root waits: one load.
    #[inline]
    pub fn pending(&self) -> bool {
        self.waiting.load(Ordering::Acquire) & PENDING != 0
    }

    /// Whether a message waits that [`post_message`](Self::post_message) has not been tried for: one load. When that
    /// finds the slot full, there is nothing to do until the root has emptied it.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.waiting.load(Ordering::Acquire) & NEWS != 0
    }

    /// Has `post` put a message (EVENT_LOG_BUFFER_COMPLETE, to SINT0 of the root's VP) into its slot, if one waits; it
    /// gets told whether another one waits behind it. If `post` could, which it says, the buffers are the root's from
    /// then on; else the message goes on waiting. Returns what `post` did. It must not use the log.
    pub fn post_message(
        &self,
        hv: &Hypervisor,
        post: impl FnOnce(HvEventLogMessagePayload, bool) -> bool,
    ) -> bool {
        let mut groups = self.groups.lock();
        let messages: usize = groups.iter().flatten().map(Group::messages).sum();
        let mut waiting = groups.iter_mut().flatten();
        let posted = waiting
            .find(|group| group.has_message())
            .is_some_and(|group| {
                let event_log_type = group.geometry.log;
                group.report(&hv.phys, |buffer_index| {
                    let payload = HvEventLogMessagePayload {
                        event_log_type,
                        buffer_index,
                    };
                    post(payload, messages > 1)
                })
            });
        let pending = messages > usize::from(posted);
        let waiting = if pending { PENDING } else { 0 };
        self.waiting.store(waiting, Ordering::Release);
        posted
    }

    /// Takes the next message for the root, if one waits: the caller delivers it.
    pub fn take_message(&self, hv: &Hypervisor) -> Option<HvEventLogMessagePayload> {
        let mut taken = None;
        self.post_message(hv, |message, _| {
            taken = Some(message);
            true
        });
        taken
    }

    /// A message waits.
    fn set_waiting(&self) {
        if !self.pending() {
            self.waiting.store(PENDING | NEWS, Ordering::Release);
        }
    }

    fn groups(&self) -> MutexGuard<'_, [Option<Group>; TYPES]> {
        self.groups.lock()
    }
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new()
    }
}

/// The place of a type's group.
///
/// # Errors
/// INVALID_PARAMETER if there is no such type.
fn place_of(
    groups: &mut [Option<Group>; TYPES],
    log: HvEventLogType,
) -> Result<&mut Option<Group>, HvStatus> {
    let place = groups.get_mut(log.0 as usize);
    place.ok_or(HvStatus::INVALID_PARAMETER)
}

/// The group of a type.
///
/// # Errors
/// INVALID_PARAMETER if there is no such type, OPERATION_DENIED if it is not initialized.
fn group_of(
    groups: &mut [Option<Group>; TYPES],
    log: HvEventLogType,
) -> Result<&mut Group, HvStatus> {
    place_of(groups, log)?
        .as_mut()
        .ok_or(HvStatus::OPERATION_DENIED)
}
