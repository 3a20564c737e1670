//! The x2APIC MSRs, 0x800 to 0x8FF, and the APIC base MSR.

use super::icr::{Delivery, Icr, Trigger};
use super::local::{SVR_BITS, SVR_ENABLE, VERSION, error};
use super::lvt::LvtEntry;
use super::timer::DIVIDE_BITS;
use super::{Effect, FIRST_VECTOR, GeneralProtection, LocalApic, Register};
use crate::time::RefTime;

const APIC_BASE: u32 = 0x1B;
const FIRST: u32 = 0x800;
const LAST: u32 = 0x8FF;

/// Whether the MSR is the local APIC's: IA32_APIC_BASE or one of the x2APIC range.
pub const fn is_x2apic_msr(msr: u32) -> bool {
    msr == APIC_BASE || (msr >= FIRST && msr <= LAST)
}

impl LocalApic {
    /// The register behind an MSR; #GP outside x2APIC mode and where there is none.
    #[inline(always)]
    fn register(&self, msr: u32) -> Result<Register, GeneralProtection> {
        if !self.base.is_x2apic() {
            return Err(GeneralProtection);
        }
        msr.checked_sub(FIRST)
            .and_then(Register::from_index)
            .ok_or(GeneralProtection)
    }

    /// RDMSR of an MSR for which [`is_x2apic_msr`] holds. `now` is asked by what depends on the time.
    #[inline(always)]
    pub fn read(&self, msr: u32, now: impl FnOnce() -> RefTime) -> Result<u64, GeneralProtection> {
        if msr == APIC_BASE {
            return Ok(self.base.value());
        }
        match self.register(msr)? {
            Register::InterruptCommand => Ok(self.icr.value()),
            Register::Eoi | Register::SelfIpi => Err(GeneralProtection),
            register => Ok(u64::from(self.read_register(register, now))),
        }
    }

    /// A 32-bit register. Of the interrupt command the low half; write-only ones read as zero.
    #[inline(always)]
    pub(super) fn read_register(&self, register: Register, now: impl FnOnce() -> RefTime) -> u32 {
        let word = |set: &super::vectors::VectorSet, index: u8| set.registers()[index as usize & 7];
        match register {
            Register::Id => self.shown_id(),
            Register::Version => VERSION,
            Register::TaskPriority => u32::from(self.tpr),
            Register::ProcessorPriority => u32::from(self.ppr),
            Register::LogicalDestination => self.shown_logical_id(),
            Register::DestinationFormat => self.logical.format(),
            Register::InterruptDestination => u32::from(self.icr.xapic_destination()) << 24,
            Register::SpuriousVector => self.svr,
            Register::InService(index) => word(&self.isr, index),
            Register::TriggerMode(index) => word(&self.tmr, index),
            Register::InterruptRequest(index) => word(&self.irr, index),
            Register::ErrorStatus => self.esr,
            Register::InterruptCommand => self.icr.value() as u32,
            Register::Lvt(entry) => self.lvt.value(entry),
            Register::InitialCount => self.timer.initial(),
            Register::CurrentCount => self.timer.current(now(), self.lvt.is_periodic()),
            Register::DivideConfiguration => self.timer.divide(),
            Register::Eoi | Register::SelfIpi => 0,
        }
    }

    /// WRMSR of an MSR for which [`is_x2apic_msr`] holds. #GP for reserved bits, read-only and absent registers, without
    /// any change.
    pub fn write(
        &mut self,
        msr: u32,
        value: u64,
        now: RefTime,
    ) -> Result<Effect, GeneralProtection> {
        if msr == APIC_BASE {
            return self.write_base(value);
        }
        let register = self.register(msr)?;
        if register == Register::InterruptCommand {
            self.icr = Icr::new(value).ok_or(GeneralProtection)?;
            return Ok(self.send(self.icr));
        }
        let value = u32::try_from(value).map_err(|_| GeneralProtection)?;
        let reserved = reserved_bits(register).ok_or(GeneralProtection)?;
        if value & reserved != 0 {
            return Err(GeneralProtection);
        }
        Ok(self.write_register(register, value, now))
    }

    /// Writes a 32-bit register that is writable, dropping bits that do not exist.
    pub(super) fn write_register(
        &mut self,
        register: Register,
        value: u32,
        now: RefTime,
    ) -> Effect {
        match register {
            Register::TaskPriority => self.set_tpr(value as u8),
            Register::Eoi => return self.end_of_interrupt(),
            Register::SpuriousVector => return self.write_spurious_vector(value, now),
            Register::ErrorStatus => self.esr = core::mem::take(&mut self.errors),
            Register::Lvt(entry) => return self.write_lvt(entry, value, now),
            Register::InitialCount => {
                self.timer.start(value, now);
                return Effect::TimerChanged;
            }
            Register::DivideConfiguration => {
                self.tick(now);
                self.timer.set_divide(value, now, self.lvt.is_periodic());
                return Effect::TimerChanged;
            }
            Register::SelfIpi => self.send_self(value as u8),
            _ => {}
        }
        Effect::None
    }

    fn send_self(&mut self, vector: u8) {
        if vector < FIRST_VECTOR {
            self.note_error(error::SEND_ILLEGAL_VECTOR);
            return;
        }
        self.accept(Delivery::Fixed {
            vector,
            trigger: Trigger::Edge,
        });
    }

    fn write_spurious_vector(&mut self, value: u32, now: RefTime) -> Effect {
        // What expired before this write was delivered under the old setting.
        self.tick(now);
        self.svr = value & SVR_BITS;
        self.mask_while_disabled();
        Effect::TimerChanged
    }

    /// A software-disabled APIC holds all LVT entries masked.
    pub(super) fn mask_while_disabled(&mut self) {
        if self.svr & SVR_ENABLE == 0 {
            for entry in LvtEntry::ALL {
                self.lvt.mask(entry);
            }
        }
    }

    fn write_lvt(&mut self, entry: LvtEntry, value: u32, now: RefTime) -> Effect {
        if entry == LvtEntry::Timer {
            self.tick(now);
        }
        self.lvt.write(entry, value);
        self.mask_while_disabled();
        if entry == LvtEntry::Timer {
            Effect::TimerChanged
        } else {
            Effect::None
        }
    }
}

/// Bits of a writable 32-bit register that must be zero in x2APIC mode; `None` if the register is read-only.
const fn reserved_bits(register: Register) -> Option<u32> {
    Some(match register {
        Register::TaskPriority | Register::SelfIpi => !0xFF,
        Register::Eoi | Register::ErrorStatus => !0,
        Register::SpuriousVector => !SVR_BITS,
        Register::Lvt(entry) => entry.reserved(),
        Register::InitialCount => 0,
        Register::DivideConfiguration => !DIVIDE_BITS,
        _ => return None,
    })
}
