//! What the device of the Hyper-V guest tests ([`board::device::testdev`]) does to its guest: SINTs raised, messages and events
//! sent back.
//!
//! A message that finds its slot full waits, one for each SINT of each VP, until the hypervisor says that the slot is free; the
//! guest that posts a second one meanwhile is told to come again. What cannot be delivered because the guest's SynIC is off is
//! refused, or lost if it has waited.

use alloc::collections::BTreeMap;

use board::device::ioapic::{Delivery, InterruptRequest};
use board::device::testdev::SintTarget;
use board::exit::PostedMessage;
use tlfs::{HvMessage, HvRegisterName, HvStatus, HvSynicScontrol, HvSynicSint, HvVpIndex};

use crate::post::{self, Posted};
use crate::run::assert_interrupt;
use crate::setup::get_registers;
use crate::system::{CallError, System};

/// Messages that wait for their slots.
#[derive(Debug, Default)]
pub struct Echoes {
    waiting: BTreeMap<SintTarget, HvMessage>,
}

impl Echoes {
    /// Sends a message of the guest's back to it.
    ///
    /// # Errors
    /// The status that the guest gets.
    pub fn message<S: System>(
        &mut self,
        system: &mut S,
        to: SintTarget,
        message: &PostedMessage<'_>,
    ) -> Result<(), HvStatus> {
        // Nobody is overtaken.
        self.retry(system, to);
        if self.waiting.contains_key(&to) {
            return Err(HvStatus::INSUFFICIENT_BUFFERS);
        }
        let message = HvMessage::new(message.kind, 0, message.payload);
        let message = message.ok_or(HvStatus::INVALID_PARAMETER)?;
        match post(system, to, &message) {
            Posted::Done => Ok(()),
            Posted::Full => {
                self.waiting.insert(to, message);
                Ok(())
            }
            Posted::Refused => Err(HvStatus::INVALID_SYNIC_STATE),
        }
    }

    /// Slots of a VP are free: bit n for SINTn.
    pub fn slots_free<S: System>(&mut self, system: &mut S, vp: u32, sints: u16) {
        for sint in (0..16).filter(|sint| sints >> sint & 1 != 0) {
            self.retry(system, SintTarget { vp, sint });
        }
    }

    fn retry<S: System>(&mut self, system: &mut S, to: SintTarget) {
        let Some(message) = self.waiting.get(&to) else {
            return;
        };
        if post(system, to, message) != Posted::Full {
            self.waiting.remove(&to);
        }
    }
}

/// A system that fails here fails again where the worker waits, and ends it there.
fn post<S: System>(system: &mut S, to: SintTarget, message: &HvMessage) -> Posted {
    post::post(system, HvVpIndex(to.vp), to.sint, message).unwrap_or(Posted::Refused)
}

/// Sends an event of the guest's back to it.
///
/// # Errors
/// The status that the guest gets.
pub fn event<S: System>(system: &mut S, to: SintTarget, flag: u16) -> Result<(), HvStatus> {
    match post::signal(system, HvVpIndex(to.vp), to.sint, flag) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(HvStatus::INVALID_SYNIC_STATE),
    }
}

/// Raises a SINT: with the vector that the guest has given it, unless it is masked, polled, or the SynIC is off.
///
/// No call of the TLFS raises a SINT by itself; a message or an event flag would, and leave something in the guest's pages. So the
/// register is read, and the interrupt asserted. Whether it ends itself is the hypervisor's to know, which goes by the vector.
///
/// # Errors
/// The system failed.
pub fn raise<S: System>(system: &mut S, to: SintTarget) -> Result<(), CallError> {
    let sint = HvRegisterName(HvRegisterName::SINT0.0 + u32::from(to.sint));
    let names = [HvRegisterName::SCONTROL, sint];
    let [control, sint] = match get_registers(system, to.vp, names) {
        Ok(values) => values,
        // A VP that cannot be looked at gets no interrupt.
        Err(CallError::Hypercall { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let sint = HvSynicSint::from_bits(sint.low);
    let is_on = HvSynicScontrol::from_bits(control.low).enabled();
    if !is_on || sint.masked() || sint.polling() {
        return Ok(());
    }
    let request = InterruptRequest {
        vector: sint.vector(),
        // A VP's index is its APIC id, which fits: there are 16 at most.
        destination: to.vp as u8,
        logical: false,
        level: false,
        delivery: Delivery::Fixed,
    };
    assert_interrupt(system, &request)
}
