//! Messages that wait to be posted.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use tlfs::HvVpIndex;

use crate::protocol::ChannelMessage;

/// Most messages that wait or are promised. Linux has a request or two for each channel in flight.
pub const MAX_MESSAGES: usize = 64;

/// A message to post with HvCallPostMessageDirect, of type 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingMessage {
    /// Number for [`super::Server::posted`].
    pub sequence: u64,
    /// VP: the one that INITIATE_CONTACT named, whoever posted the request (trap 4).
    pub vp: HvVpIndex,
    /// SINT.
    pub sint: u8,
    /// The channel message, at most 240 bytes.
    pub payload: Vec<u8>,
}

/// Where the guest takes its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) vp: HvVpIndex,
    pub(super) sint: u8,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: VecDeque<OutgoingMessage>,
    promised: usize,
    sequence: u64,
}

impl Outbox {
    /// Whether there is a place that is not promised.
    pub(super) fn has_room(&self) -> bool {
        self.messages.len() + self.promised < MAX_MESSAGES
    }

    /// Keeps a place for an answer that comes later.
    pub(super) fn promise(&mut self) {
        self.promised += 1;
    }

    /// Gives back a place: its answer comes now, or never.
    pub(super) fn redeem(&mut self) {
        self.promised = self.promised.saturating_sub(1);
    }

    /// Appends a message.
    pub(super) fn push(&mut self, target: Target, message: &impl ChannelMessage) {
        self.messages.push_back(OutgoingMessage {
            sequence: self.sequence,
            vp: target.vp,
            sint: target.sint,
            payload: message.as_bytes().to_vec(),
        });
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Forgets all messages and promises: nobody is there to read them.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.promised = 0;
    }

    pub(super) fn front(&self) -> Option<&OutgoingMessage> {
        self.messages.front()
    }

    pub(super) fn posted(&mut self, sequence: u64) {
        if self.front().is_some_and(|front| front.sequence == sequence) {
            self.messages.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> (usize, usize) {
        (self.messages.len(), self.promised)
    }
}
