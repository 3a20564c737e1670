//! The synthetic interrupt controller of a VP: registers, message slots, and the queue of intercept notices.
//!
//! A slot of the message page holds one message; the guest empties it and, if more are waiting, says so with EOM. The
//! rules that keep the last message from being lost are in [`post`]. Everything here is decided on values: the pages are
//! reached through [`MessageSlots`], interrupts come back as a [`Signal`], and the caller resolves GPAs and raises
//! vectors.
//!
//! Sources: TLFS, "Virtual Interrupt Control" and "Inter-Partition Communication"; guest sheet 4.9 and 7; root sheet
//! B.3, C.2 and F.3.

mod flags;
mod notice;
mod page;
mod registers;
mod slot;
mod timer;
mod vp;

#[cfg(test)]
mod tests;

pub use flags::EventFlagsPage;
pub use notice::{Link, Notice, NoticeLinks, NoticeQueue};
pub use page::MessagePage;
pub use registers::{Synic, SynicEffect, is_synic_msr};
pub use slot::{Message, MessageSlots, NotPosted, free_slots, post};
pub use timer::{DirectInterrupt, SyntheticTimers, TimerMessage};
pub use vp::{SintVectors, VpSynic};

use tlfs::HV_SYNIC_SINT_COUNT;

/// The number of a SINT, 0 to 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sint(u8);

impl Sint {
    /// Intercepts, scheduler messages and notices of the other SINTs, in the root.
    pub const INTERCEPTS: Self = Self(tlfs::HV_SYNIC_INTERCEPTION_SINT_INDEX);

    /// `None` if there is no such SINT.
    pub const fn new(number: u32) -> Option<Self> {
        if number < HV_SYNIC_SINT_COUNT as u32 {
            Some(Self(number as u8))
        } else {
            None
        }
    }

    /// The number, smaller than 16.
    pub const fn index(self) -> usize {
        self.0 as usize & (HV_SYNIC_SINT_COUNT - 1)
    }

    /// The bit of this SINT in a mask of all.
    pub const fn bit(self) -> u16 {
        1 << self.index()
    }

    /// All SINTs.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..HV_SYNIC_SINT_COUNT as u8).map(Self)
    }
}

/// How the VP learns that something is there for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Signal {
    /// Not at all: it polls.
    None,
    /// An edge interrupt at its local APIC.
    Interrupt {
        /// Vector, 16 or more.
        vector: u8,
    },
    /// A notice through SINT0: see [`NoticeQueue::push_sint`].
    Notice(Sint),
}
