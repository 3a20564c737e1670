//! The server of one guest: its connection, offers and channels (sections 4, 5 and 8).
//!
//! Three things go in: channel messages of the guest ([`Server::receive`]), its signals ([`Server::event`]), and what
//! the host's devices decide (offers, results of opening, acknowledgements). Two things come out, each a queue:
//!
//! * [`Effect`]s, which the caller takes and carries out at once ([`Server::take_effect`]);
//! * messages to the guest, which are posted one at a time and stay until the hypervisor has taken them
//!   ([`Server::message`], [`Server::posted`]).
//!
//! # Memory that the guest gets back
//!
//! The guest uses pages again as soon as it has GPADL_TORNDOWN or UNLOAD_RESPONSE (trap 16). So closing a channel and
//! releasing a GPADL are effects that the caller acknowledges ([`Server::closed`], [`Server::gpadl_released`]) once nothing
//! touches the memory any more, and the answer waits for that. Every [`Effect::OpenChannel`], [`Effect::CloseChannel`] and
//! [`Effect::ReleaseGpadl`] is answered exactly once.
//!
//! # Back-pressure
//!
//! A guest that asks and does not take its answers fills the queue of messages. An answer has its place there from the
//! moment the request is taken, so the queue never holds more than [`MAX_MESSAGES`]; when all places are promised,
//! [`Server::receive`] answers [`Received::Busy`] and has done nothing. The caller fails the guest's HvCallPostMessage
//! with HV_STATUS_INSUFFICIENT_BUFFERS, which makes Linux post again later. It should not leave the call unanswered: the
//! VP that waits in it may be the one that has to take the messages. Offers and rescinds need no place: they are
//! remembered with the channel until there is room. INITIATE_CONTACT and UNLOAD make all earlier messages void, so they
//! need none. Only a caller that leaves more than [`MAX_WAITING_EFFECTS`] effects in their queue gets Busy for everything.

mod channel;
mod connection;
mod dropped;
mod effect;
mod gpadls;
mod host;
mod offer;
mod outbox;
mod receive;

#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, VecDeque};

use tlfs::HvVpIndex;

use crate::gpadl::{GpadlTable, MAX_GPADL_MEMORY, MAX_GPADLS, MAX_GPADLS_PER_CHANNEL};
use crate::protocol::{GpadlHandle, MAX_MESSAGE_SIZE, NO_INTERRUPT_VP, RELID_LIMIT, Relid};
use channel::Channel;
use connection::Connection;
use gpadls::Teardown;
use outbox::Outbox;

pub use dropped::{DropCounters, DropReason};
pub use effect::{ChannelOpen, Effect, EventFlag};
pub use host::HostError;
pub use offer::{Offer, OfferError};
pub use outbox::{MAX_MESSAGES, OutgoingMessage};

/// Effects that may wait before [`Server::receive`] answers [`Received::Busy`]: only for a caller that does not take them.
pub const MAX_WAITING_EFFECTS: usize = 256;
/// Most effects that ever wait: one message (UNLOAD) can close all channels, release all GPADLs and end all sub-channels.
pub const MAX_EFFECTS: usize = MAX_WAITING_EFFECTS + 2 * RELID_LIMIT as usize + MAX_GPADLS + 2;

/// Most bytes of heap that a server with so many channels takes, whatever its guest does: the channels, GPADLs, those on
/// their way out, messages, effects. An entry of a B-tree or of a queue counts three times: a node can be half empty, and
/// a queue doubles while the old one is still there; and each of these begins with room for some entries.
pub const fn max_memory(channels: usize) -> usize {
    let of_channels = channels.saturating_mul(MAX_GPADLS_PER_CHANNEL);
    let gpadls = if of_channels < MAX_GPADLS {
        of_channels
    } else {
        MAX_GPADLS
    };
    let effects = MAX_WAITING_EFFECTS + 2 * channels + gpadls + 2;
    MAX_GPADL_MEMORY
        + 3 * (channels + FIRST_ENTRIES) * (size_of::<Relid>() + size_of::<Channel>())
        + 3 * (gpadls + FIRST_ENTRIES) * (2 * size_of::<GpadlHandle>() + size_of::<Teardown>())
        + MAX_MESSAGES * (3 * size_of::<OutgoingMessage>() + MAX_MESSAGE_SIZE)
        + 3 * effects * size_of::<Effect>()
}

/// Entries for which the first node of a B-tree has room.
const FIRST_ENTRIES: usize = 11;

/// What became of a message of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a guest whose message was not taken has to be told"]
pub enum Received {
    /// It was taken.
    Taken,
    /// It was ignored, and counted. The guest's call succeeds all the same.
    Dropped(DropReason),
    /// There is no place for its answer: the guest has to post it again.
    Busy,
}

/// The server of one guest.
#[derive(Debug)]
pub struct Server {
    vp_count: u32,
    connection: Connection,
    channels: BTreeMap<Relid, Channel>,
    gpadls: GpadlTable,
    teardowns: BTreeMap<GpadlHandle, Teardown>,
    outbox: Outbox,
    effects: VecDeque<Effect>,
    drops: DropCounters,
    /// Where the search for a free relid starts, so that relids rest before they are used again.
    next_relid: u32,
}

impl Server {
    /// The server of a guest with VPs 0 to `vp_count` - 1.
    pub fn new(vp_count: u32) -> Self {
        Self {
            vp_count,
            connection: Connection::Disconnected,
            channels: BTreeMap::new(),
            gpadls: GpadlTable::default(),
            teardowns: BTreeMap::new(),
            outbox: Outbox::default(),
            effects: VecDeque::new(),
            drops: DropCounters::default(),
            next_relid: 1,
        }
    }

    /// The next effect. The caller takes all of them after each call that can have some.
    pub fn take_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// The next message to post.
    pub fn message(&mut self) -> Option<&OutgoingMessage> {
        self.announce();
        self.outbox.front()
    }

    /// The hypervisor has taken the message with this sequence number. Nothing happens if it is not the next one any
    /// more, because the guest has disconnected meanwhile.
    pub fn posted(&mut self, sequence: u64) {
        self.outbox.posted(sequence);
    }

    /// How often which messages of the guest were ignored.
    pub fn drops(&self) -> &DropCounters {
        &self.drops
    }

    /// A VP of the guest, or none at all.
    fn is_channel_target(&self, vp: HvVpIndex) -> bool {
        vp == NO_INTERRUPT_VP || vp.0 < self.vp_count
    }
}
