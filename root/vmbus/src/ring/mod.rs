//! The rings of an open channel (section 7).
//!
//! A channel has two rings in guest memory. [`IncomingRing`] is the first half of the GPADL, guest to host;
//! [`OutgoingRing`] is the second, host to guest (trap 11). Each has a header page with two indices, of which each side
//! writes one, and a mask and a wish for room that belong to this ring alone (traps 21 and 30).
//!
//! Neither blocks. A call that moves an index says whether the guest has to be signalled: the caller sets the event flag
//! when, and only when, it says [`Signal::Needed`]. A guest that breaks a rule, or a page that goes away, is a
//! [`RingError`]: from then on the ring only repeats it, and the channel is to be closed.

mod error;
mod gpa_list;
mod incoming;
mod index;
mod layout;
mod memory;
mod outgoing;

#[cfg(test)]
mod tests;

pub use error::*;
pub use gpa_list::*;
pub use incoming::*;
pub use layout::*;
pub use memory::*;
pub use outgoing::*;

/// Whether the other side sleeps and has to be signalled now. A skipped signal is never made up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a lost signal is never repaired"]
pub enum Signal {
    /// Set the event flag of the channel.
    Needed,
    /// It looks by itself, or does not want to be told.
    NotNeeded,
}

impl Signal {
    /// [`Signal::Needed`] if `needed`.
    #[inline]
    pub(crate) fn when(needed: bool) -> Self {
        if needed {
            Self::Needed
        } else {
            Self::NotNeeded
        }
    }
}
