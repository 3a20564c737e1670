//! From the worker to the guest: messages into slots, event flags into pages, and what to do when the guest is not ready.

use tlfs::{
    HvCallCode, HvDeliverabilityNotificationsRegister, HvInputPostMessageDirect,
    HvInputSignalEventDirect, HvMessage, HvMessageType, HvOutputSignalEventDirect, HvPartitionId,
    HvRegisterAssoc, HvRegisterName, HvStatus,
};
use vmbus::server::{EventFlag, OutgoingMessage};
use zerocopy::IntoBytes;

use crate::setup::set_registers;
use crate::system::{CallError, System};

/// Type of the messages of VMBus.
pub const CHANNEL_MESSAGE: HvMessageType = HvMessageType(1);

/// First pause before something is tried again, 100 ns: short against what a guest notices.
const FIRST_PAUSE: u64 = 10 * MILLISECOND;
/// Each pause is twice as long as the one before, up to this: what a guest that never gets ready costs is one try a second.
pub const LONGEST_PAUSE: u64 = 1000 * MILLISECOND;
/// 100 ns units.
const MILLISECOND: u64 = 10_000;

/// When to try again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    until: Option<u64>,
    length: u64,
}

impl Pause {
    /// When it is over, if there is one.
    pub fn until(&self) -> Option<u64> {
        self.until
    }

    /// Whether nothing is to be tried at `now`.
    pub fn lasts(&self, now: u64) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// A try was in vain.
    pub fn begin(&mut self, now: u64) {
        self.length = self
            .length
            .saturating_mul(2)
            .clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.until = Some(now.saturating_add(self.length));
    }

    /// A try in vain, but somebody will say when the next one is not: until then only the longest pause counts.
    pub fn begin_longest(&mut self, now: u64) {
        self.until = Some(now.saturating_add(LONGEST_PAUSE));
    }

    /// Something has happened that makes a try worthwhile. The next pause is not shorter for it.
    pub fn interrupt(&mut self) {
        self.until = None;
    }

    /// A try was successful.
    pub fn end(&mut self) {
        *self = Self::default();
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// It is in its slot.
    Done,
    /// The slot is full; the hypervisor says when it is free.
    Full,
    /// The guest cannot take messages now: its SynIC is off.
    Refused,
}

/// Posts a message.
///
/// # Errors
/// The system failed.
pub fn post<S: System>(system: &mut S, message: &OutgoingMessage) -> Result<Posted, CallError> {
    let sint = u32::from(message.sint);
    // The server's messages have at most 240 bytes.
    let Some(content) = HvMessage::new(CHANNEL_MESSAGE, 0, message.payload.as_slice()) else {
        return Ok(Posted::Done);
    };
    let mut input = HvInputPostMessageDirect::new(HvPartitionId(0), message.vp, sint, &content);
    let code = HvCallCode::POST_MESSAGE_DIRECT;
    match system.hypercall(code, 0, input.as_mut_bytes(), &mut []) {
        Ok(()) => Ok(Posted::Done),
        Err(CallError::Hypercall {
            status: HvStatus::OBJECT_IN_USE,
            ..
        }) => ask_for_slot(system, message.vp.0, sint),
        Err(CallError::Hypercall { .. }) => Ok(Posted::Refused),
        Err(error) => Err(error),
    }
}

/// Has the VP stopped when its slot is free, which may be now.
fn ask_for_slot<S: System>(system: &mut S, vp: u32, sint: u32) -> Result<Posted, CallError> {
    let sints = 1_u16.checked_shl(sint).unwrap_or(0);
    let wanted = HvDeliverabilityNotificationsRegister::new().with_sints(sints);
    let register = HvRegisterAssoc::new(HvRegisterName::DELIVERABILITY_NOTIFICATIONS, wanted);
    match set_registers(system, vp, &[register]) {
        Ok(()) => Ok(Posted::Full),
        Err(CallError::Hypercall { .. }) => Ok(Posted::Refused),
        Err(error) => Err(error),
    }
}

/// Sets an event flag. Whether the guest could take it.
///
/// # Errors
/// The system failed.
pub fn signal<S: System>(system: &mut S, flag: EventFlag) -> Result<bool, CallError> {
    let mut input = HvInputSignalEventDirect {
        target_vp: flag.vp,
        target_sint: flag.sint,
        flag_number: flag.flag,
        ..Default::default()
    };
    let mut output = HvOutputSignalEventDirect::default();
    let code = HvCallCode::SIGNAL_EVENT_DIRECT;
    match system.hypercall(code, 0, input.as_mut_bytes(), output.as_mut_bytes()) {
        Ok(()) => Ok(true),
        Err(CallError::Hypercall { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
