//! Messages and signals that are ignored.

/// Why something of the guest was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// Shorter than its type needs.
    TooShort,
    /// A type that nobody knows or that only the host sends.
    UnknownType,
    /// Posted to a connection that is not this guest's message connection.
    WrongConnection,
    /// Needs a connection, and there is none or it is being ended.
    NotConnected,
    /// Names a VP that does not exist.
    UnknownVp,
    /// Names a channel that does not exist.
    UnknownChannel,
    /// The channel was rescinded, and only its end is of interest.
    Rescinded,
    /// Not expected in the channel's state.
    ChannelState,
    /// A body that belongs to no GPADL.
    UnexpectedBody,
    /// Not part of the version that was agreed on.
    Version,
    /// A signal to a connection or flag that is no open channel's.
    UnknownEvent,
}

/// Number of reasons.
const REASONS: usize = DropReason::UnknownEvent as usize + 1;

/// How often each reason occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DropCounters([u64; REASONS]);

impl DropCounters {
    /// How often this one did.
    pub fn count(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// How often any did.
    pub fn total(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    pub(super) fn add(&mut self, reason: DropReason) {
        if let Some(count) = self.0.get_mut(reason as usize) {
            *count = count.saturating_add(1);
        }
    }
}
