//! The saved state of the APIC: HvCallGetVpState and HvCallSetVpState, type LAPIC (root sheet A.3.5).

use super::addressing::Logical;
use super::icr::Icr;
use super::local::{SVR_BITS, VERSION};
use super::lvt::{Lvt, LvtEntry};
use super::vectors::VectorSet;
use super::{LocalApic, Register};
use crate::time::RefTime;

const WORDS: usize = 44;

/// `hv_local_interrupt_controller_state` as its 44 little-endian words: id 0, version 1, LDR 2, DFR 3, SVR 4, ISR 5,
/// TMR 13, IRR 21, ESR 29, ICR high 30 and low 31, LVT timer 32, thermal 33, perfmon 34, LINT0 35, LINT1 36, error 37,
/// CMCI 38, errors not yet in the ESR 39, initial count 40, current count 41, divide 42, remote read 43.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LapicState([u32; WORDS]);

impl LapicState {
    /// Bytes of the format.
    pub const SIZE: usize = 4 * WORDS;

    /// From the bytes of the format.
    pub fn from_bytes(bytes: &[u8; Self::SIZE]) -> Self {
        let (words, _) = bytes.as_chunks();
        Self(core::array::from_fn(|i| u32::from_le_bytes(words[i])))
    }

    /// The bytes of the format.
    pub fn to_bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (words, _) = bytes.as_chunks_mut();
        for (to, from) in words.iter_mut().zip(self.0) {
            *to = from.to_le_bytes();
        }
        bytes
    }

    fn vectors(&self, first: usize) -> VectorSet {
        VectorSet::from_registers(&core::array::from_fn(|i| self.0[first + i]))
    }
}

const LDR: usize = 2;
const DFR: usize = 3;
const SVR: usize = 4;
const ISR: usize = 5;
const TMR: usize = 13;
const IRR: usize = 21;
const ESR: usize = 29;
const ICR_HIGH: usize = 30;
const ICR_LOW: usize = 31;
const LVT: usize = 32;
const ERRORS: usize = 39;
const INITIAL: usize = 40;
const CURRENT: usize = 41;
const DIVIDE: usize = 42;
/// Errors that the ESR knows.
const ERROR_BITS: u32 = 0xFF;

impl LocalApic {
    /// Saves the registers. Task priority, APIC base and pending NMI are registers of the VP, not of this format.
    pub fn save(&self, now: RefTime) -> LapicState {
        let mut words = [0; WORDS];
        words[0] = self.shown_id();
        words[1] = VERSION;
        words[LDR] = self.shown_logical_id();
        words[DFR] = self.logical.format();
        words[SVR] = self.svr;
        for (first, set) in [(ISR, &self.isr), (TMR, &self.tmr), (IRR, &self.irr)] {
            words[first..first + 8].copy_from_slice(&set.registers());
        }
        words[ESR] = self.esr;
        words[ICR_HIGH] = (self.icr.value() >> 32) as u32;
        words[ICR_LOW] = self.icr.value() as u32;
        for entry in LvtEntry::ALL {
            words[LVT + entry as usize] = self.lvt.value(entry);
        }
        words[ERRORS] = self.errors;
        words[INITIAL] = self.timer.initial();
        words[CURRENT] = self.read_register(Register::CurrentCount, || now);
        words[DIVIDE] = self.timer.divide();
        LapicState(words)
    }

    /// Loads the registers. Those that are read-only for software (id, version, in x2APIC mode LDR) keep their values, and
    /// bits that no guest could have set are dropped: any input leaves an APIC that a guest could have made. The base comes
    /// first: it says what some of them mean, and a disabled APIC has no state to load.
    pub fn restore(&mut self, state: &LapicState, now: RefTime) {
        if !self.base.is_enabled() {
            return;
        }
        let words = &state.0;
        if self.is_in_page() {
            self.logical = Logical::RESET
                .with_register(words[LDR])
                .with_format(words[DFR]);
        }
        self.svr = words[SVR] & SVR_BITS;
        self.isr = state.vectors(ISR);
        self.tmr = state.vectors(TMR);
        self.irr = state.vectors(IRR);
        self.esr = words[ESR] & ERROR_BITS;
        self.errors = words[ERRORS] & ERROR_BITS;
        self.icr = Icr::restored(u64::from(words[ICR_HIGH]) << 32 | u64::from(words[ICR_LOW]));
        self.lvt = Lvt::RESET;
        for entry in LvtEntry::ALL {
            self.lvt.restore(entry, words[LVT + entry as usize]);
        }
        self.mask_while_disabled();
        self.timer
            .restore(words[INITIAL], words[CURRENT], words[DIVIDE], now);
        self.update_ppr();
    }
}
