//! The APIC's registers as registers of the VP: HvCallGetVpRegisters and HvCallSetVpRegisters (root sheet D.3). Unlike a
//! guest's accesses they work in every mode and have no side effects: nothing is sent, nothing is ended.

use super::icr::Icr;
use super::local::SVR_BITS;
use super::timer::DIVIDE_BITS;
use super::vectors::VectorSet;
use super::{LocalApic, Register};
use crate::time::RefTime;

/// A register has no such value, or cannot be set. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidValue;

/// Errors that the ESR knows.
const ERROR_BITS: u32 = 0xFF;

impl LocalApic {
    /// A register's value; write-only ones read as zero.
    pub fn register_value(&self, register: Register, now: RefTime) -> u64 {
        match register {
            Register::InterruptCommand => self.icr.value(),
            other => self.read_register(other, || now).into(),
        }
    }

    /// Sets a register. Those that are read-only for software take the value that they have. The timer's deadline may
    /// have changed.
    ///
    /// # Errors
    /// [`InvalidValue`], also for a disabled APIC, which has no state.
    pub fn set_register(
        &mut self,
        register: Register,
        value: u64,
        now: RefTime,
    ) -> Result<(), InvalidValue> {
        if !self.base.is_enabled() {
            return Err(InvalidValue);
        }
        if register == Register::InterruptCommand {
            self.icr = Icr::new(value).ok_or(InvalidValue)?;
            return Ok(());
        }
        let old = self.read_register(register, || now);
        let value = u32::try_from(value).map_err(|_| InvalidValue)?;
        match register {
            Register::TaskPriority => {
                self.set_tpr(u8::try_from(value).map_err(|_| InvalidValue)?);
            }
            Register::LogicalDestination if self.is_in_page() => {
                let new = self.logical.with_register(value);
                if new.register() != value {
                    return Err(InvalidValue);
                }
                self.logical = new;
            }
            Register::SpuriousVector if value & !SVR_BITS == 0 => {
                self.svr = value;
                self.mask_while_disabled();
            }
            Register::InService(index) => {
                set_word(&mut self.isr, index, value)?;
                self.update_ppr();
            }
            Register::TriggerMode(index) => set_word(&mut self.tmr, index, value)?,
            Register::InterruptRequest(index) => set_word(&mut self.irr, index, value)?,
            Register::ErrorStatus if value & !ERROR_BITS == 0 => self.esr = value,
            Register::Lvt(entry) if value & entry.reserved() == 0 => {
                self.lvt.restore(entry, value);
                self.mask_while_disabled();
            }
            Register::InitialCount => self.timer.start(value, now),
            Register::CurrentCount => {
                let (initial, divide) = (self.timer.initial(), self.timer.divide());
                self.timer.restore(initial, value, divide, now);
            }
            Register::DivideConfiguration if value & !DIVIDE_BITS == 0 => {
                self.timer.set_divide(value, now, self.lvt.is_periodic());
            }
            _ if value == old => {}
            _ => return Err(InvalidValue),
        }
        Ok(())
    }
}

/// Sets 32 vectors of a set. Vectors below 16 do not exist.
fn set_word(set: &mut VectorSet, index: u8, value: u32) -> Result<(), InvalidValue> {
    let mut words = set.registers();
    *words.get_mut(usize::from(index)).ok_or(InvalidValue)? = value;
    let new = VectorSet::from_registers(&words);
    if new.registers() != words {
        return Err(InvalidValue);
    }
    *set = new;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Destination;
    use super::*;
    use proptest::prelude::*;

    const NOW: RefTime = RefTime::from_millis(5);

    fn registers() -> impl Iterator<Item = Register> {
        (0..0x40).filter_map(Register::from_index)
    }

    #[test]
    fn setting_the_command_register_sends_nothing() {
        let mut apic = LocalApic::new(0, true);
        let nmi_to_self = 0x4_0400;
        apic.set_register(Register::InterruptCommand, nmi_to_self, NOW)
            .unwrap();
        assert!(!apic.nmi_pending());
        assert_eq!(
            apic.register_value(Register::InterruptCommand, NOW),
            nmi_to_self
        );
        assert!(apic.matches(Destination::Physical(0), false));
    }

    #[test]
    fn requested_and_served_vectors_decide_as_if_they_had_arrived() {
        let mut apic = LocalApic::new(0, true);
        apic.set_register(Register::SpuriousVector, 0x1FF, NOW)
            .unwrap();
        apic.set_register(Register::InterruptRequest(2), 1, NOW)
            .unwrap();
        assert_eq!(apic.next_interrupt(), Some(64));
        apic.set_register(Register::InService(3), 1, NOW).unwrap();
        assert_eq!(apic.next_interrupt(), None);
        assert_eq!(
            apic.set_register(Register::InterruptRequest(0), 1, NOW),
            Err(InvalidValue)
        );
    }

    #[test]
    fn identity_is_not_set_from_outside() {
        let mut apic = LocalApic::new(3, false);
        for register in [
            Register::Id,
            Register::Version,
            Register::LogicalDestination,
        ] {
            let own = apic.register_value(register, NOW);
            assert_eq!(apic.set_register(register, own, NOW), Ok(()));
            assert_eq!(apic.set_register(register, own + 1, NOW), Err(InvalidValue));
        }
    }

    proptest! {
        #[test]
        fn a_register_that_takes_a_value_has_it_and_the_next_refusal_changes_nothing(
            values in proptest::collection::vec((0u32..0x40, any::<u64>(), any::<bool>()), 1..40),
        ) {
            let mut apic = LocalApic::new(1, false);
            apic.set_register(Register::SpuriousVector, 0x1FF, NOW).unwrap();
            for (index, value, small) in values {
                let Some(register) = Register::from_index(index) else { continue };
                let value = if small { value & 0xFF } else { value };
                let all: Vec<_> = registers().map(|r| apic.register_value(r, NOW)).collect();
                match apic.set_register(register, value, NOW) {
                    Err(InvalidValue) => {
                        let now: Vec<_> = registers().map(|r| apic.register_value(r, NOW)).collect();
                        prop_assert_eq!(all, now);
                    }
                    // The count in the timer is what is left of the initial one; LVT entries keep their read-only bits.
                    Ok(()) if matches!(register, Register::CurrentCount | Register::Lvt(_)) => {}
                    Ok(()) if register == Register::InterruptCommand => {}
                    Ok(()) => prop_assert_eq!(apic.register_value(register, NOW), value),
                }
            }
        }
    }
}
