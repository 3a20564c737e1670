//! What a service looks like from outside.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::Time;
use crate::frame::{FrameError, HEADER_LEN, MessageType, Status};
use crate::heartbeat::HeartbeatState;
use crate::kvp::{Enumerate, KEY_FIELD, KvpEvent, VALUE_FIELD};
use crate::negotiate::Versions;
use crate::shutdown::ShutdownEvent;

/// Events that wait for the caller at most. A call makes at most three; who drains after each call, as asked for,
/// never sees one dropped.
pub const MAX_EVENTS: usize = 32;

/// Most bytes of heap that a service takes, whatever its guest sends: events that wait, of which a pair's texts are the
/// largest, and two requests with the packet that one of them becomes. The queue doubles while the old one is still there. Each
/// of the at most 3 bytes that a UTF-16 unit becomes counts twice, because a string grows by doubling, too.
pub const MAX_MEMORY: usize = 3 * MAX_EVENTS * size_of::<Event>()
    + (MAX_EVENTS + 1) * 2 * 3 * (KEY_FIELD + VALUE_FIELD) / 2
    + 3 * (HEADER_LEN + size_of::<Enumerate>());

/// Who a service is on VMBus (sheet 9). GUIDs are in memory order: the first three groups are little-endian (trap
/// 54).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceId {
    /// Name for people.
    pub name: &'static str,
    /// Type GUID of the offer.
    pub interface: [u8; 16],
    /// Instance GUID, where Windows has a fixed one. `None`: the caller chooses one for each VM.
    pub instance: Option<[u8; 16]>,
}

/// The GUID `first-second-third-rest` in memory order.
pub(crate) const fn guid(first: u32, second: u16, third: u16, rest: [u8; 8]) -> [u8; 16] {
    let [a, b, c, d] = first.to_le_bytes();
    let [e, f] = second.to_le_bytes();
    let [g, h] = third.to_le_bytes();
    let [i, j, k, l, m, n, o, p] = rest;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// A packet for the guest: in-band data (type 6) without a request for a completion (sheet 10.1, trap 35).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The ring's transaction id, which the guest echoes. Never 0; not used twice by one service.
    pub transaction: u64,
    /// The payload; the ring pads it to a multiple of 8.
    pub payload: Vec<u8>,
}

/// Both clocks at one moment. The caller reads them one right after the other: their difference is what the guest's
/// clock is set by (trap 37).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Clocks {
    /// Wall clock: 100 ns since 1601-01-01 00:00 UTC.
    pub wall: u64,
    /// The VM's own reference counter (`HV_X64_MSR_TIME_REF_COUNT`, which begins with 0 when the partition is made),
    /// in 100 ns. Another clock than [`Time`] of the calls.
    pub reference: u64,
}

/// Why a service is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeadReason {
    /// A packet cannot be decoded.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The guest's answer to the offer of versions has an error status.
    #[error("the guest failed to choose a version: {0:?}")]
    NegotiationFailed(Status),
    /// The guest knows none of the versions that were offered.
    #[error("the guest knows no version that is offered")]
    NoCommonVersion,
    /// The guest chose no version, or several.
    #[error("the guest chose {frameworks} framework versions and {messages} message versions")]
    VersionCounts {
        /// Framework versions.
        frameworks: u16,
        /// Message versions.
        messages: u16,
    },
    /// The guest chose a version that was not offered.
    #[error("the guest chose version {0}, which was not offered")]
    VersionNotOffered(Versions),
    /// The ring's transaction id is that of the question, the frame's is not.
    #[error("an answer with the frame's transaction id {got} to {expected}")]
    Transaction {
        /// The question's id.
        expected: u8,
        /// The answer's.
        got: u8,
    },
    /// The answer is about something else than the question.
    #[error("an answer of type {got:?} to a question of type {expected:?}")]
    MessageType {
        /// The question's type.
        expected: MessageType,
        /// The answer's.
        got: MessageType,
    },
    /// The answer's body lacks fields.
    #[error("a body of {got} bytes, where {expected} are needed")]
    ShortBody {
        /// Bytes needed.
        expected: usize,
        /// Bytes that are there.
        got: usize,
    },
    /// A string or value is longer than the field it lies in.
    #[error("{size} bytes in a field of {limit}")]
    FieldSize {
        /// What the guest says.
        size: u32,
        /// What fits.
        limit: usize,
    },
}

/// Something that the owner of the VM may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The service works from now on.
    Negotiated(Versions),
    /// The service has ended, until the guest opens the channel again.
    Dead(DeadReason),
    /// The heartbeat's state changed.
    Heartbeat(HeartbeatState),
    /// How a request to shut down went.
    Shutdown(ShutdownEvent),
    /// Key/value pairs.
    Kvp(KvpEvent),
}

/// Events that wait for the caller, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    dropped: u64,
}

impl Events {
    /// Adds an event. In front of a caller who drains nothing the oldest one goes.
    pub(crate) fn push(&mut self, event: Event) {
        if self.queue.len() >= MAX_EVENTS {
            self.queue.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.queue.push_back(event);
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

/// A service as whoever owns its channel sees it.
pub trait Service {
    /// Who it is on VMBus.
    fn id(&self) -> ServiceId;

    /// The guest has opened the channel. Whatever was before is forgotten; negotiation begins.
    fn opened(&mut self, now: Time);

    /// The guest has closed the channel, or it has gone.
    fn closed(&mut self, now: Time);

    /// A packet from the guest: its payload, already copied out of the ring, and the ring's transaction id.
    ///
    /// # Errors
    ///
    /// The service is dead as of this packet; there is an [`Event::Dead`] with the same reason.
    fn received(&mut self, payload: &[u8], transaction: u64, now: Time) -> Result<(), DeadReason>;

    /// Time has passed. May be called at any time and as often as one likes.
    fn tick(&mut self, now: Time);

    /// When `tick` must be called at the latest. After `tick(now)` it is later than `now`.
    fn next_deadline(&self) -> Option<Time>;

    /// Length of the payload that `take_packet` would make, `None` if there is nothing to send.
    fn packet_len(&self) -> Option<usize>;

    /// The next packet. It is made now, so that a time sample is as old as its packet; it must be put into the ring.
    /// `clocks` is called at most once, by time synchronisation only.
    fn take_packet(&mut self, now: Time, clocks: &mut dyn FnMut() -> Clocks) -> Option<Packet>;

    /// The oldest event that has not been taken.
    fn take_event(&mut self) -> Option<Event>;
}
