//! From the worker to the guest: messages into slots, event flags into pages, and what to do when the guest is not ready.

use tlfs::{
    HvCallCode, HvDeliverabilityNotificationsRegister, HvInputPostMessageDirect,
    HvInputSignalEventDirect, HvMessage, HvOutputSignalEventDirect, HvPartitionId, HvRegisterAssoc,
    HvRegisterName, HvStatus, HvVpIndex,
};
use zerocopy::IntoBytes;

use crate::setup::{get_register, set_registers};
use crate::system::{CallError, System};

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

/// Posts a message to a SINT of a VP.
///
/// # Errors
/// The system failed.
pub fn post<S: System>(
    system: &mut S,
    vp: HvVpIndex,
    sint: u8,
    message: &HvMessage,
) -> Result<Posted, CallError> {
    let sint = u32::from(sint);
    let mut input = HvInputPostMessageDirect::new(HvPartitionId(0), vp, sint, message);
    let code = HvCallCode::POST_MESSAGE_DIRECT;
    match system.hypercall(code, 0, input.as_mut_bytes(), &mut []) {
        Ok(()) => Ok(Posted::Done),
        Err(CallError::Hypercall {
            status: HvStatus::OBJECT_IN_USE,
            ..
        }) => ask_for_slot(system, vp.0, sint),
        Err(CallError::Hypercall { .. }) => Ok(Posted::Refused),
        Err(error) => Err(error),
    }
}

/// Has the VP stopped when its slot is free, which may be now. Somebody else may wait for another slot of the same VP: one that is
/// told between the two calls is asked for again, and told again, which does no harm.
fn ask_for_slot<S: System>(system: &mut S, vp: u32, sint: u32) -> Result<Posted, CallError> {
    const NOTIFICATIONS: HvRegisterName = HvRegisterName::DELIVERABILITY_NOTIFICATIONS;
    let sints = 1_u16.checked_shl(sint).unwrap_or(0);
    let asked = get_register(system, vp, NOTIFICATIONS).and_then(|value| {
        let others = HvDeliverabilityNotificationsRegister::from_bits(value.low).sints();
        let wanted = HvDeliverabilityNotificationsRegister::new().with_sints(others | sints);
        set_registers(system, vp, &[HvRegisterAssoc::new(NOTIFICATIONS, wanted)])
    });
    match asked {
        Ok(()) => Ok(Posted::Full),
        Err(CallError::Hypercall { .. }) => Ok(Posted::Refused),
        Err(error) => Err(error),
    }
}

/// Sets an event flag of a SINT of a VP. Whether the guest could take it.
///
/// # Errors
/// The system failed.
pub fn signal<S: System>(
    system: &mut S,
    vp: HvVpIndex,
    sint: u8,
    flag: u16,
) -> Result<bool, CallError> {
    let mut input = HvInputSignalEventDirect {
        target_vp: vp,
        target_sint: sint,
        flag_number: flag,
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
