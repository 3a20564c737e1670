//! The virtual local APIC of a VP.
//!
//! A complete xAPIC and x2APIC in software; it needs none in the machine. The registers ([`Register`]) are kept apart from
//! the way they are reached: [`LocalApic::read`] and [`LocalApic::write`] are the x2APIC MSRs, [`LocalApic::read_page`] and
//! [`LocalApic::write_page`] the xAPIC page. What a write causes outside the VP comes back as an [`Effect`]; the caller
//! routes IPIs, because only it knows the other VPs.
//!
//! Life of an interrupt: a source calls [`LocalApic::accept`], the entry path asks [`LocalApic::next_interrupt`] (a
//! handful of instructions), injects, and says [`LocalApic::begin`]; the guest's EOI arrives as a register write.
//!
//! Sources: Intel SDM volume 3, chapter "APIC"; AMD APM volume 2, chapter 16; guest sheet 8 and 9.

mod addressing;
mod base;
mod icr;
mod inbox;
mod local;
mod lvt;
mod msr;
mod outside;
mod page;
mod register;
mod request;
mod signals;
mod state;
mod synthetic;
mod timer;
mod vectors;

#[cfg(test)]
mod tests;

pub use addressing::{Addressing, SharedAddressing};
pub use base::{ApicBase, PAGE};
pub use icr::{Delivery, Destination, InterruptMessage, Trigger};
pub use inbox::Inbox;
pub use local::LocalApic;
pub use lvt::LvtEntry;
pub use msr::is_x2apic_msr;
pub use outside::InvalidValue;
pub use register::Register;
pub use request::InvalidRequest;
pub use signals::Cleared;
pub use state::LapicState;
pub use timer::TIMER_FREQUENCY;

/// The guest gets #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneralProtection;

/// What the caller has to do after a register write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// Route this message to the VPs whose APIC [matches](LocalApic::matches) its destination.
    Ipi(InterruptMessage),
    /// The guest ended this interrupt. If `level`, its source may assert it again: the root's interrupt gets its
    /// physical EOI, a child's worker an APIC EOI message. SynIC queues of SINTs with this vector are looked at.
    EndOfInterrupt {
        /// The vector, 16 or more.
        vector: u8,
        /// It was accepted as a level-triggered interrupt.
        level: bool,
    },
    /// [`LocalApic::next_deadline`] may have changed.
    TimerChanged,
    /// [`LocalApic::addressing`] may have changed, and [`LocalApic::next_deadline`].
    Readdressed,
}

/// Vectors below this one are illegal for interrupts.
pub const FIRST_VECTOR: u8 = 16;

/// The candidate that a lowest-priority message goes to: the one with the smallest
/// [arbitration priority](LocalApic::arbitration_priority), the first of equals. `None` without candidates.
pub fn lowest_priority<Id>(candidates: impl IntoIterator<Item = (Id, u8)>) -> Option<Id> {
    candidates
        .into_iter()
        .min_by_key(|&(_, priority)| priority)
        .map(|(id, _)| id)
}
