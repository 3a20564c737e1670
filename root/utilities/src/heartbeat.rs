//! Heartbeat: is the guest's kernel alive (sheet 10.3)?
//!
//! A beat every 2 s, one at a time. A guest that hangs leaves one unanswered, so its ring does not fill; after 30 s
//! another one is sent, because a guest whose own ring was full has lost its answer for good (Linux does not repeat
//! one).
//!
//! An answer that does not carry the beat's sequence + 1, or has an error status, is no sign of life: it is counted
//! ([`BeatCounters::wrong`]) and changes nothing else.

use alloc::vec::Vec;

use tlfs::{wire_enum, wire_struct};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes, Unaligned};

use crate::frame::{MAX_PAYLOAD_DEFAULT, MessageType, Status, Version};
use crate::integration::{Integration, Protocol, Sink, Spec};
use crate::service::{Clocks, DeadReason, Event, ServiceId, guid};
use crate::{SECOND, Time};

/// From beat to beat, as Hyper-V does it (sheet 10.3).
pub const PERIOD: Time = 2 * SECOND;

/// Without an answer for this long, contact is lost: five beats, so that one slow reboot of a driver or a busy
/// processor raises no alarm.
pub const LOST_AFTER: Time = 10 * SECOND;

/// After this long an unanswered beat is given up and another one sent.
pub const PATIENCE: Time = 30 * SECOND;

static SPEC: Spec = Spec {
    id: ServiceId {
        name: "heartbeat",
        interface: guid(
            0x5716_4f39,
            0x9115,
            0x4e78,
            [0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d],
        ),
        instance: None,
    },
    message_type: MessageType::HEARTBEAT,
    versions: &[Version::new(1, 0), Version::new(3, 0)],
    patience: Some(PATIENCE),
};

wire_enum! {
    /// How the guest says it is (OpenVMM's `hyperv_ic_protocol`). Linux leaves what the host sent.
    pub struct ApplicationState(u32);
    /// It does not say.
    UNKNOWN = 0, "UNKNOWN";
    /// Well.
    HEALTHY = 1, "HEALTHY";
    /// It had a critical error.
    CRITICAL = 2, "CRITICAL";
    /// It no longer runs.
    STOPPED = 3, "STOPPED";
}

wire_struct! {
    /// A beat, as long as Windows' (sheet 10.3).
    #[derive(Unaligned)]
    pub struct Beat [40] {
        /// The guest answers with this + 1.
        sequence @ 0: U64,
        /// [`ApplicationState`], filled in by the guest.
        application @ 8: U32,
        /// Zero.
        reserved @ 12: [u8; 28],
    }
}

const _: () = assert!(crate::frame::HEADER_LEN + size_of::<Beat>() <= MAX_PAYLOAD_DEFAULT);

/// What the manager shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HeartbeatState {
    /// No heartbeat since the channel was opened, or it is not open.
    #[default]
    NoContact,
    /// The last [`LOST_AFTER`] had an answer.
    Ok,
    /// There was none since this time.
    Lost {
        /// Time of the last answer.
        since: Time,
    },
}

/// What the heartbeat has counted since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BeatCounters {
    /// Right answers.
    pub right: u64,
    /// Answers with a wrong sequence or an error status.
    pub wrong: u64,
    /// How often contact was lost.
    pub losses: u64,
}

/// The heartbeat service.
pub type Heartbeat = Integration<Beats>;

impl Heartbeat {
    /// Is there contact?
    pub fn contact(&self) -> HeartbeatState {
        self.protocol.state
    }

    /// How the guest said it is, in its last right answer.
    pub fn application(&self) -> ApplicationState {
        self.protocol.application
    }

    /// What was counted.
    pub fn beats(&self) -> BeatCounters {
        self.protocol.counters
    }
}

/// Heartbeat's side of [`Integration`].
#[derive(Debug, Default)]
pub struct Beats {
    state: HeartbeatState,
    application: ApplicationState,
    counters: BeatCounters,
    /// Sequence of the last beat sent.
    sequence: u64,
    /// When the last right answer came.
    last_contact: Time,
    /// When the next beat is due; `None` if it is.
    next: Option<Time>,
}

impl Beats {
    fn change(&mut self, state: HeartbeatState, events: &mut Sink<'_>) {
        if self.state != state {
            self.state = state;
            events.push(Event::Heartbeat(state));
        }
    }

    /// When contact counts as lost, if there is any.
    fn lost_at(&self) -> Option<Time> {
        match self.state {
            HeartbeatState::Ok => self.last_contact.checked_add(LOST_AFTER),
            _ => None,
        }
    }
}

impl Protocol for Beats {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn negotiated(&mut self, _message: Version, _now: Time) {
        self.next = None;
    }

    fn ended(&mut self, events: &mut Sink<'_>) {
        self.application = ApplicationState::UNKNOWN;
        self.change(HeartbeatState::NoContact, events);
    }

    fn tick(&mut self, now: Time, events: &mut Sink<'_>) {
        if self.lost_at().is_some_and(|at| at <= now) {
            self.counters.losses = self.counters.losses.saturating_add(1);
            self.change(
                HeartbeatState::Lost {
                    since: self.last_contact,
                },
                events,
            );
        }
        if self.next.is_some_and(|next| next <= now) {
            self.next = None;
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.next.into_iter().chain(self.lost_at()).min()
    }

    fn request_len(&self) -> Option<usize> {
        self.next.is_none().then_some(size_of::<Beat>())
    }

    fn request(&mut self, now: Time, _clocks: &mut dyn FnMut() -> Clocks) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        self.next = now.checked_add(PERIOD);
        Beat {
            sequence: self.sequence.into(),
            ..Beat::default()
        }
        .as_bytes()
        .to_vec()
    }

    fn answered(
        &mut self,
        status: Status,
        body: &[u8],
        now: Time,
        events: &mut Sink<'_>,
    ) -> Result<(), DeadReason> {
        let (sequence, rest) = U64::read_from_prefix(body).map_err(|_| DeadReason::ShortBody {
            expected: size_of::<U64>(),
            got: body.len(),
        })?;
        if status == Status::OK && sequence.get() == self.sequence.wrapping_add(1) {
            self.counters.right = self.counters.right.saturating_add(1);
            // Only the sequence is required.
            let application = U32::read_from_prefix(rest).map_or(0, |(state, _)| state.get());
            self.application = ApplicationState(application);
            self.last_contact = now;
            self.change(HeartbeatState::Ok, events);
        } else {
            self.counters.wrong = self.counters.wrong.saturating_add(1);
        }
        Ok(())
    }

    fn unanswered(&mut self, _now: Time, _events: &mut Sink<'_>) {
        self.next = None;
    }
}
