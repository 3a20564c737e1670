//! Who is at the host's end of a channel, as its rings see it.

use utilities::frame::MAX_PAYLOAD;
use utilities::{Clocks, Packet, Service};

/// The host's end of an open channel, at one moment.
pub trait Peer {
    /// Bytes of the longest payload that has a meaning. One that is longer is given as one byte more than that, or a few.
    fn longest(&self) -> usize;

    /// A packet came. What a peer dies of, it says itself.
    fn received(&mut self, payload: &[u8], transaction: u64);

    /// Bytes of the payload that [`Self::take_packet`] would make; `None` if there is nothing to send.
    fn packet_len(&self) -> Option<usize>;

    /// The next packet, which has to be sent: there is room for it.
    fn take_packet(&mut self) -> Option<Packet>;
}

/// An integration service.
pub struct Utility<'a> {
    /// The service.
    pub service: &'a mut dyn Service,
    /// Reference time.
    pub now: u64,
    /// Reads both clocks.
    pub clocks: &'a mut dyn FnMut() -> Clocks,
}

impl Peer for Utility<'_> {
    fn longest(&self) -> usize {
        MAX_PAYLOAD
    }

    fn received(&mut self, payload: &[u8], transaction: u64) {
        // A service that dies of it says so in an event.
        let _ = self.service.received(payload, transaction, self.now);
    }

    fn packet_len(&self) -> Option<usize> {
        self.service.packet_len()
    }

    fn take_packet(&mut self) -> Option<Packet> {
        self.service.take_packet(self.now, self.clocks)
    }
}
