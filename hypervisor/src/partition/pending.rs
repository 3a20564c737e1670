//! The event of the next entry, as the TLFS's registers show it.
//!
//! There is one place for such an event, so PendingInterruption is the register that shows it, whoever put it there.
//! PendingEvent0 is a second way to put an exception there; it reads as empty.

use tlfs::{
    HV_X64_PENDING_EVENT_EXCEPTION, HvStatus, HvX64PendingExceptionEvent,
    HvX64PendingInterruptionRegister, HvX64PendingInterruptionType as Kind,
};

use super::Vp;
use super::validate::dr6_dr7_ok;
use crate::arch::VpHw;
use crate::arch::exit::Event;
use crate::arch::state::vector;

/// Exceptions that push an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC, #SX.
const WITH_ERROR_CODE: u32 = 1 << 8
    | 1 << 10
    | 1 << 11
    | 1 << 12
    | 1 << 13
    | 1 << 14
    | 1 << 17
    | 1 << 21
    | 1 << 29
    | 1 << 30;

/// PendingInterruption of a VP whose next entry has this event.
pub fn pending_interruption(pending: Option<Event>) -> HvX64PendingInterruptionRegister {
    let register = HvX64PendingInterruptionRegister::new();
    let Some(event) = pending else {
        return register;
    };
    let (kind, vector, error_code, length) = match event {
        Event::Interrupt(vector) => (Kind::INTERRUPT, vector, None, 0),
        Event::Nmi => (Kind::NMI, vector::NMI, None, 0),
        Event::Exception { vector, error_code } => (Kind::EXCEPTION, vector, error_code, 0),
        Event::Software { vector, length } => (Kind::SOFTWARE_INTERRUPT, vector, None, length),
    };
    register
        .with_interruption_pending(true)
        .with_interruption_type(kind.0)
        .with_interruption_vector(u16::from(vector))
        .with_deliver_error_code(error_code.is_some())
        .with_error_code(error_code.unwrap_or(0))
        .with_instruction_length(length & 0xF)
}

/// The event that a value of PendingInterruption means.
///
/// # Errors
/// INVALID_REGISTER_VALUE for what no processor delivers, for ICEBP (type 5), and for a nested guest's event.
pub fn event_of(register: HvX64PendingInterruptionRegister) -> Result<Option<Event>, HvStatus> {
    if !register.interruption_pending() {
        return Ok(None);
    }
    let invalid = HvStatus::INVALID_REGISTER_VALUE;
    if register.nested_event() || register.reserved() != 0 {
        return Err(invalid);
    }
    let vector = u8::try_from(register.interruption_vector()).map_err(|_| invalid)?;
    let error_code = register
        .deliver_error_code()
        .then_some(register.error_code());
    let length = register.instruction_length();
    let software = Event::Software { vector, length };
    let (event, no_code) = match Kind(register.interruption_type()) {
        Kind::INTERRUPT => (Event::Interrupt(vector), true),
        Kind::NMI if vector == vector::NMI => (Event::Nmi, true),
        Kind::EXCEPTION => (exception(vector, error_code)?, false),
        Kind::SOFTWARE_INTERRUPT if length != 0 => (software, true),
        // INT3 and INTO differ from INT 3 and INT 4 in virtual-8086 mode only.
        Kind::SOFTWARE_EXCEPTION if length != 0 && matches!(vector, 3 | 4) => (software, true),
        _ => return Err(invalid),
    };
    if no_code && error_code.is_some() {
        return Err(invalid);
    }
    Ok(Some(event))
}

fn exception(vector: u8, error_code: Option<u32>) -> Result<Event, HvStatus> {
    let has_code = vector < 32 && WITH_ERROR_CODE >> vector & 1 != 0;
    if vector >= 32 || vector == vector::NMI || (error_code.is_some() && !has_code) {
        return Err(HvStatus::INVALID_REGISTER_VALUE);
    }
    Ok(Event::Exception { vector, error_code })
}

/// Sets RIP. A software interrupt that waits for delivery is one of the instruction there.
pub fn set_rip(hw: &mut VpHw, rip: u64) {
    let pending = hw.pending_event();
    hw.set_rip(rip);
    if matches!(pending, Some(Event::Software { .. })) {
        hw.set_pending_event(pending);
    }
}

/// Puts the exception of a PendingEvent0 register in the place of the next entry's event, with CR2 for #PF and DR6 for #DB.
/// An empty one changes nothing: it does not take back what PendingInterruption says.
///
/// # Errors
/// INVALID_REGISTER_VALUE for another type of event, and for an exception that does not exist.
pub fn set_pending_exception(
    vp: &mut Vp,
    register: HvX64PendingExceptionEvent,
) -> Result<(), HvStatus> {
    if !register.event_pending() {
        return Ok(());
    }
    let invalid = HvStatus::INVALID_REGISTER_VALUE;
    let reserved = register.reserved_4() != 0 || register.reserved_9() != 0;
    if reserved || register.event_type() != HV_X64_PENDING_EVENT_EXCEPTION {
        return Err(invalid);
    }
    let number = u8::try_from(register.vector()).map_err(|_| invalid)?;
    let error_code = register
        .deliver_error_code()
        .then_some(register.error_code());
    let event = exception(number, error_code)?;
    let parameter = register.exception_parameter();
    match number {
        vector::PF => vp.hw.set_cr2(parameter),
        vector::DB if dr6_dr7_ok(parameter) => vp.hw.set_dr6(parameter),
        vector::DB => return Err(invalid),
        _ => {}
    }
    vp.hw.set_pending_event(Some(event));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::testing::Vendor;
    use crate::hv::testing::Machine;
    use proptest::prelude::*;

    fn with_vp<R>(vendor: Vendor, work: impl FnOnce(&mut Vp) -> R) -> R {
        let mut machine = Machine::of(vendor);
        let (id, _) = machine.child_with_vp();
        machine.with_vp(id, 0, |_, vp| work(vp))
    }

    fn register(kind: Kind, vector: u16) -> HvX64PendingInterruptionRegister {
        HvX64PendingInterruptionRegister::new()
            .with_interruption_pending(true)
            .with_interruption_type(kind.0)
            .with_interruption_vector(vector)
    }

    #[test]
    fn events_that_no_processor_delivers_are_refused() {
        for bad in [
            register(Kind::INTERRUPT, 256),
            register(Kind::INTERRUPT, 32).with_deliver_error_code(true),
            register(Kind::NMI, 3),
            register(Kind::EXCEPTION, 2),
            register(Kind::EXCEPTION, 32),
            register(Kind::EXCEPTION, 6).with_deliver_error_code(true),
            register(Kind::SOFTWARE_INTERRUPT, 0x80),
            register(Kind::SOFTWARE_EXCEPTION, 5).with_instruction_length(1),
            register(Kind::PRIVILEGED_SOFTWARE_EXCEPTION, 1).with_instruction_length(1),
            register(Kind(1), 32),
            register(Kind::EXCEPTION, 13).with_nested_event(true),
            register(Kind::EXCEPTION, 13).with_reserved(1),
        ] {
            assert_eq!(
                event_of(bad),
                Err(HvStatus::INVALID_REGISTER_VALUE),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_software_interrupt_keeps_its_length_wherever_rip_goes() {
        for vendor in Vendor::each() {
            with_vp(vendor, |vp| {
                let event = Event::Software {
                    vector: 0x80,
                    length: 2,
                };
                vp.hw.set_pending_event(Some(event));
                set_rip(&mut vp.hw, 0x4000);
                assert_eq!(vp.hw.pending_event(), Some(event));
                assert_eq!(vp.hw.rip(), 0x4000);
            });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_taken_is_shown(vendor in Vendor::any(), bits: u64, small: bool) {
            // Small values are legal more often.
            let bits = if small { bits & 0x1F_01FF | 1 } else { bits };
            let register = HvX64PendingInterruptionRegister::from_bits(bits);
            if let Ok(event) = event_of(register) {
                let shown = with_vp(vendor, |vp| {
                    vp.hw.set_pending_event(event);
                    pending_interruption(vp.hw.pending_event())
                });
                prop_assert_eq!(event_of(shown), Ok(event));
            }
        }
    }
}
