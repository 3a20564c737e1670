//! Shutdown: the guest is asked to power off, restart or hibernate (sheet 10.4).
//!
//! One request at a time, and none is ever given up: Linux reads one packet for each interrupt, so a second one would
//! lie unread in the ring (traps 33, 34). A guest that does not answer has to be stopped by other means.

use alloc::vec::Vec;

use tlfs::wire_struct;
use zerocopy::little_endian::U32;
use zerocopy::{IntoBytes, Unaligned};

use crate::frame::{MAX_PAYLOAD_DEFAULT, MessageType, Status, Version};
use crate::integration::{Integration, Protocol, Sink, Spec};
use crate::service::{Clocks, DeadReason, Event, ServiceId, guid};
use crate::{SECOND, Time};

/// Linux answers from its interrupt handler, before it begins to shut down. Who takes longer than this is reported.
pub const ANSWER_WITHIN: Time = 10 * SECOND;

/// Reason code: planned (`SHTDN_REASON_FLAG_PLANNED` of the Windows SDK, as OpenVMM sends it).
const REASON_PLANNED: u32 = 0x8000_0000;

/// Flag: whoever is in the way is not asked. Linux shuts down the same with and without.
const FORCE: u32 = 1;

static SPEC: Spec = Spec {
    id: ServiceId {
        name: "shutdown",
        interface: guid(
            0x0e0b_6031,
            0x5213,
            0x4934,
            [0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed, 0x39, 0xdb],
        ),
        instance: Some(guid(
            0xb665_0ff7,
            0x33bc,
            0x4840,
            [0x80, 0x48, 0xe0, 0x67, 0x67, 0x86, 0xf3, 0x93],
        )),
    },
    message_type: MessageType::SHUTDOWN,
    versions: &[
        Version::new(1, 0),
        Version::new(3, 0),
        Version::new(3, 1),
        Version::new(3, 2),
    ],
    patience: None,
};

wire_struct! {
    /// A request.
    #[derive(Unaligned)]
    pub struct ShutdownMessage [2060] {
        /// Reason code.
        reason @ 0: U32,
        /// Seconds that the guest may take.
        timeout @ 4: U32,
        /// What to do: bit 0 force, 1 restart, 2 hibernate.
        flags @ 8: U32,
        /// UTF-16 text; may be empty, must be there (trap 34).
        text @ 12: [u8; 2048],
    }
}

const _: () = assert!(crate::frame::HEADER_LEN + size_of::<ShutdownMessage>() == 2088);
const _: () =
    assert!(crate::frame::HEADER_LEN + size_of::<ShutdownMessage>() <= MAX_PAYLOAD_DEFAULT);

/// What the guest is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownKind {
    /// To power off.
    PowerOff,
    /// To restart. Message version 3.1 has brought it (Linux: "hv_utils: Support host-initiated restart request").
    Reboot,
    /// To hibernate. Message version 3.2 has brought it (Linux: "hv_utils: Support host-initiated hibernation
    /// request").
    Hibernate,
}

impl ShutdownKind {
    /// The first message version that has it.
    pub const fn since(self) -> Version {
        match self {
            Self::PowerOff => Version::new(1, 0),
            Self::Reboot => Version::new(3, 1),
            Self::Hibernate => Version::new(3, 2),
        }
    }

    const fn flags(self) -> u32 {
        match self {
            Self::PowerOff => 0,
            Self::Reboot => 2,
            Self::Hibernate => 4,
        }
    }
}

/// A request to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownRequest {
    /// What the guest is asked for.
    pub kind: ShutdownKind,
    /// Without asking whoever is in the way.
    pub force: bool,
    /// Seconds that the guest is told it may take. Nothing here depends on it.
    pub timeout_seconds: u32,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShutdownRefused {
    /// The guest has not opened the channel, no version is agreed on yet, or the service is dead.
    #[error("the guest's shutdown service is not there")]
    NotReady,
    /// The last request has no answer yet.
    #[error("the guest has not answered the last request")]
    Outstanding,
    /// The guest's version does not have it.
    #[error("the guest speaks shutdown {agreed}, and this takes {needed}")]
    Version {
        /// What was agreed on.
        agreed: Version,
        /// What has it.
        needed: Version,
    },
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownEvent {
    /// The guest has answered. With [`Status::OK`] it begins to do it now; whether it succeeds shows in the VM's end.
    Answered {
        /// The request.
        request: ShutdownRequest,
        /// The answer.
        status: Status,
    },
    /// No answer for [`ANSWER_WITHIN`]. The request stays outstanding, and may still be answered.
    NoAnswer(ShutdownRequest),
    /// The channel closed, or the service died, before there was an answer.
    Abandoned(ShutdownRequest),
}

/// The shutdown service.
pub type Shutdown = Integration<Requests>;

impl Shutdown {
    /// Asks the guest to shut down.
    ///
    /// # Errors
    ///
    /// See [`ShutdownRefused`]; nothing has changed then.
    pub fn request(&mut self, request: ShutdownRequest, now: Time) -> Result<(), ShutdownRefused> {
        let agreed = self.versions().ok_or(ShutdownRefused::NotReady)?.message;
        if self.protocol.current.is_some() {
            return Err(ShutdownRefused::Outstanding);
        }
        let needed = request.kind.since();
        if agreed < needed {
            return Err(ShutdownRefused::Version { agreed, needed });
        }
        self.protocol.current = Some(Current {
            request,
            since: now,
            sent: false,
            late: false,
        });
        Ok(())
    }
}

/// A request and how far it is.
#[derive(Clone, Copy, Debug)]
struct Current {
    request: ShutdownRequest,
    since: Time,
    sent: bool,
    late: bool,
}

impl Current {
    /// When its answer is late, if it has not been said already.
    fn late_at(&self) -> Option<Time> {
        if self.late {
            None
        } else {
            self.since.checked_add(ANSWER_WITHIN)
        }
    }
}

/// Shutdown's side of [`Integration`].
#[derive(Debug, Default)]
pub struct Requests {
    current: Option<Current>,
}

impl Protocol for Requests {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn negotiated(&mut self, _message: Version, _now: Time) {}

    fn ended(&mut self, events: &mut Sink<'_>) {
        if let Some(current) = self.current.take() {
            events.push(Event::Shutdown(ShutdownEvent::Abandoned(current.request)));
        }
    }

    fn tick(&mut self, now: Time, events: &mut Sink<'_>) {
        if let Some(current) = &mut self.current
            && current.late_at().is_some_and(|at| at <= now)
        {
            current.late = true;
            events.push(Event::Shutdown(ShutdownEvent::NoAnswer(current.request)));
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.current.as_ref()?.late_at()
    }

    fn request_len(&self) -> Option<usize> {
        let due = self.current.as_ref().is_some_and(|current| !current.sent);
        due.then_some(size_of::<ShutdownMessage>())
    }

    fn request(&mut self, _now: Time, _clocks: &mut dyn FnMut() -> Clocks) -> Vec<u8> {
        let Some(current) = &mut self.current else {
            return Vec::new();
        };
        current.sent = true;
        let force = if current.request.force { FORCE } else { 0 };
        let message = ShutdownMessage {
            reason: REASON_PLANNED.into(),
            timeout: current.request.timeout_seconds.into(),
            flags: (current.request.kind.flags() | force).into(),
            ..ShutdownMessage::default()
        };
        message.as_bytes().to_vec()
    }

    fn answered(
        &mut self,
        status: Status,
        _body: &[u8],
        _now: Time,
        events: &mut Sink<'_>,
    ) -> Result<(), DeadReason> {
        if let Some(Current { request, .. }) = self.current.take() {
            events.push(Event::Shutdown(ShutdownEvent::Answered { request, status }));
        }
        Ok(())
    }

    fn unanswered(&mut self, _now: Time, _events: &mut Sink<'_>) {}
}
