//! What the owner of the VM may want to know.

use alloc::collections::VecDeque;

use crate::order::Add;
use crate::wire::{Capabilities, Malformed, MessageType, Version};

/// Events that wait for the caller at most. A call makes at most eight; who drains after 32 calls never sees one dropped.
pub const MAX_EVENTS: usize = 32 * 8;

/// How an order ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it is done.
    Done,
    /// The guest did less than asked.
    Short,
    /// The guest did not answer.
    TimedOut,
    /// The ring had no room for the request.
    NotSent,
    /// The guest has closed the channel.
    Closed,
    /// Free memory was used up.
    NoMemory,
    /// There is no place in the address space for the new memory.
    NoAddress,
    /// The VM was reset or ended.
    Dropped,
}

/// An order that is over, with its sizes in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// Memory was to be removed.
    Removed {
        /// Asked for.
        asked: u64,
        /// Given up by the guest.
        given: u64,
        /// Free now. Less than `given` while pages are pinned, or if they had been lost.
        freed: u64,
        /// How it ended.
        end: End,
    },
    /// Memory was to be added.
    Added {
        /// What was to be done.
        asked: Add,
        /// Given back from the balloon.
        unballooned: u64,
        /// New memory that the guest has.
        hot_added: u64,
        /// How it ended.
        end: End,
    },
}

impl Finished {
    /// How it ended.
    pub const fn end(&self) -> End {
        match self {
            Self::Removed { end, .. } | Self::Added { end, .. } => *end,
        }
    }
}

/// Why there is no hot-add any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HotAddOff {
    /// Until the VM is reset: the guest refused for good, or took a part only.
    Refused,
    /// Until the VM is reset: the channel closed, or no answer came, while memory was offered. It stays the guest's.
    Unanswered,
    /// For [`BACK_OFF`](crate::BACK_OFF): the guest failed for the moment.
    Failed,
    /// For [`OFFLINE_HOLD`](crate::OFFLINE_HOLD), and longer the next time: the guest has not put to use what it got (trap 9).
    NotOnline,
}

/// Why a message was not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Dropped {
    /// It cannot be decoded.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Nobody asked for it, or it is not its time.
    #[error("{0:?} at the wrong time")]
    Unasked(MessageType),
    /// The guest asks for more than it reads answers.
    #[error("{0:?}, and answers that the guest does not read")]
    Flood(MessageType),
    /// A status report that cannot be: the number of committed pages.
    #[error("a report of {0} committed pages")]
    Absurd(u64),
}

/// Something in a message that should not be there; the rest of the message counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Ranges of a BALLOON_RESPONSE that are empty, reach beyond RAM, or cover more than there can be.
    Ranges(u64),
    /// Pages that are no RAM.
    NotRam(u64),
    /// Pages that had been returned before.
    Repeated(u64),
    /// Pages that are overlays or in rings; they stay the guest's.
    Pinned(u64),
    /// More pages than asked for; they are taken all the same.
    TooMany(u64),
    /// More hot-added pages than offered.
    HotAddCount(u32),
    /// The guest refuses new memory, and uses it already: it stays the guest's.
    HotAddUsed(u64),
    /// Fewer pages committed than ballooned.
    CommittedBelowBalloon(u64),
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The guest's driver has said what it can do.
    Connected {
        /// The version agreed on.
        version: Version,
        /// What the guest can do.
        capabilities: Capabilities,
    },
    /// A version was asked for that is not spoken.
    VersionRefused(Version),
    /// The driver is another one than before, and does not know of this many ballooned pages: they are lost to the
    /// guest, unless it touches them or is reset.
    BalloonLost(u64),
    /// The quiet time is over and there is a report: orders are taken.
    Live {
        /// The guest is not in long mode, and gets at most 4 GiB.
        is_32_bit: bool,
    },
    /// No reports: the VM is left as it is.
    Frozen,
    /// There are reports again.
    Thawed,
    /// An order is over.
    Finished(Finished),
    /// A request to return pages was not answered: there will be none before the guest opens the channel again.
    BalloonOff,
    /// Pages that came after that; they have been taken.
    Late(u64),
    /// There is no hot-add for a while, or any more.
    HotAddOff(HotAddOff),
    /// A message was not looked at.
    Dropped(Dropped),
    /// A message was strange.
    Odd(Oddity),
    /// The guest used this many ballooned pages, which it has again now.
    Touched(u64),
    /// The guest used a ballooned page, and there is no memory for it: its processor has to wait.
    TouchWaits,
    /// A reset waits for this many pages of free memory.
    ResetWaits(u64),
    /// This many pages could not be taken from the VM; they stay assigned to it.
    TakeFailed(u64),
}

impl Event {
    /// Whether it changes what can be done with the VM from now on. What else happens, a guest can make happen with each message.
    pub const fn is_change(&self) -> bool {
        matches!(
            self,
            Self::Frozen
                | Self::Thawed
                | Self::BalloonOff
                | Self::HotAddOff(_)
                | Self::BalloonLost(_)
        )
    }
}

/// Events that wait for the caller, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: VecDeque<Event>,
    dropped: u64,
}

impl Events {
    /// Adds an event. In front of a caller who drains nothing the oldest one goes.
    pub(crate) fn push(&mut self, event: Event) {
        if self.queue.len() >= MAX_EVENTS {
            self.queue.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.queue.push_back(event);
    }

    /// Adds what is odd, if it is.
    pub(crate) fn odd(&mut self, count: u64, oddity: fn(u64) -> Oddity) {
        if count != 0 {
            self.push(Event::Odd(oddity(count)));
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        self.queue.pop_front()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }
}
