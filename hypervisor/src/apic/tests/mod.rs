//! The APIC as a whole: against a reference model, against hostile input, and what guests rely on.

mod behaviour;
mod hostile;
mod model;
mod xapic;

use super::*;
use crate::time::RefTime;

const NOW: RefTime = RefTime::ZERO;

const SVR: u32 = 0x80F;
const ESR: u32 = 0x828;
const ICR: u32 = 0x830;
const LVT_TIMER: u32 = 0x832;
const LVT_LINT0: u32 = 0x835;
const LVT_LINT1: u32 = 0x836;
const LVT_ERROR: u32 = 0x837;
const INITIAL_COUNT: u32 = 0x838;
const CURRENT_COUNT: u32 = 0x839;
const DIVIDE: u32 = 0x83E;
const SELF_IPI: u32 = 0x83F;
const EOI: u32 = 0x80B;

impl LocalApic {
    /// Enables it, as its guest does.
    ///
    /// # Panics
    /// When it refuses.
    pub fn switch_on(&mut self) {
        set(self, SVR, 0x1FF);
    }
}

/// An APIC that its guest has enabled.
fn enabled() -> LocalApic {
    let mut apic = LocalApic::new(0, true);
    apic.switch_on();
    apic
}

fn write(apic: &mut LocalApic, msr: u32, value: u64) -> Effect {
    apic.write(msr, value, NOW).unwrap()
}

/// A write whose effect is of no interest.
fn set(apic: &mut LocalApic, msr: u32, value: u64) {
    let _ = write(apic, msr, value);
}

fn fixed(vector: u8) -> Delivery {
    Delivery::Fixed {
        vector,
        trigger: Trigger::Edge,
    }
}

fn level(vector: u8) -> Delivery {
    Delivery::Fixed {
        vector,
        trigger: Trigger::Level,
    }
}
