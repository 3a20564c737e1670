//! One channel: a service, and the rings to it while the guest has them open.

use alloc::vec;

use tlfs::HV_PAGE_SIZE;
use vmbus::gpadl::Rings;
use vmbus::protocol::{DESCRIPTOR_SIZE, GpadlHandle, PACKET_UNIT, PacketType, Relid, TRAILER_SIZE};
use vmbus::ring::{IncomingRing, OutgoingRing, RingError, Signal, WriteError};

use super::memory::RunMemory;
use super::peer::Peer;
use crate::system::SharedRam;

/// Packets that are taken at once, so that a guest which never stops sending has to wait for everything else.
const BATCH: usize = 32;
/// Longest packet, with its descriptor, that Linux' drivers of the utilities take: four pages (sheet 7.7). The services
/// themselves keep within what each of them takes.
const MAX_PACKET: u32 = 4 * HV_PAGE_SIZE as u32;

/// The rings of an open channel.
struct Open<R> {
    gpadl: GpadlHandle,
    incoming: IncomingRing<RunMemory<R>>,
    outgoing: OutgoingRing<RunMemory<R>>,
}

/// One channel.
pub struct Link<R> {
    /// The channel.
    pub relid: Relid,
    open: Option<Open<R>>,
    /// The guest is owed an event flag.
    pub owes_flag: bool,
    /// There are packets that were not taken.
    pub has_more: bool,
}

impl<R: SharedRam> Link<R> {
    /// A channel that is closed.
    pub fn new(relid: Relid) -> Self {
        Self {
            relid,
            open: None,
            owes_flag: false,
            has_more: false,
        }
    }

    /// The guest has opened the channel, with rings in that memory.
    ///
    /// # Errors
    /// If these are no rings.
    pub fn open(
        &mut self,
        ram: &R,
        gpadl: GpadlHandle,
        rings: &Rings<'_>,
    ) -> Result<(), RingError> {
        let incoming = IncomingRing::new(RunMemory::new(ram, &rings.incoming)?)?;
        let outgoing = OutgoingRing::new(RunMemory::new(ram, &rings.outgoing)?, MAX_PACKET)?;
        self.open = Some(Open {
            gpadl,
            incoming,
            outgoing,
        });
        Ok(())
    }

    /// Nothing of the rings is touched any more.
    pub fn close(&mut self) {
        self.open = None;
        (self.owes_flag, self.has_more) = (false, false);
    }

    /// Whether there are rings.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The memory that the rings are in.
    pub fn gpadl(&self) -> Option<GpadlHandle> {
        self.open.as_ref().map(|open| open.gpadl)
    }

    /// Whether the rings are in that memory.
    pub fn uses(&self, gpadl: GpadlHandle) -> bool {
        self.gpadl() == Some(gpadl)
    }

    /// Takes packets, and sends what the peer wants to send.
    ///
    /// # Errors
    /// The guest broke a rule, and the rings are not to be used any more.
    pub fn serve(&mut self, peer: &mut dyn Peer) -> Result<(), RingError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let mut signals = Signals::default();
        self.has_more = open.take(peer, &mut signals)?;
        open.send(peer, &mut signals)?;
        self.owes_flag |= signals.needed;
        Ok(())
    }

    /// Takes what the guest has sent before it closed the channel, in at most so many batches; answers nothing.
    pub fn drain(&mut self, peer: &mut dyn Peer, batches: usize) {
        let Some(open) = &mut self.open else { return };
        for _ in 0..batches {
            // What is behind a packet that cannot be read is nothing.
            if !open.take(peer, &mut Signals::default()).unwrap_or(false) {
                return;
            }
        }
    }
}

/// Whether any of a few calls wants the guest to be signalled.
#[derive(Default)]
struct Signals {
    needed: bool,
}

impl Signals {
    fn add(&mut self, signal: Signal) {
        self.needed |= signal == Signal::Needed;
    }
}

impl<R: SharedRam> Open<R> {
    /// Takes a batch of packets. Whether there are more.
    fn take(&mut self, peer: &mut dyn Peer, signals: &mut Signals) -> Result<bool, RingError> {
        for _ in 0..BATCH {
            let Some(mut packet) = self.incoming.read_packet()? else {
                break;
            };
            // These answer in-band (trap 35); nothing else has a meaning here.
            if packet.packet_type() != PacketType::DATA_IN_BAND {
                continue;
            }
            // One unit more than the longest, which the peer then sees to be too long.
            let longest = peer.longest() + PACKET_UNIT as usize;
            let mut payload = vec![0; longest.min(packet.payload_len() as usize)];
            packet.read_payload(&mut payload)?;
            peer.received(&payload, packet.transaction_id());
        }
        let finish = self.incoming.finish()?;
        signals.add(finish.signal);
        Ok(finish.more)
    }

    /// Sends what there is and fits. When something does not fit, the guest signals as soon as there is room.
    fn send(&mut self, peer: &mut dyn Peer, signals: &mut Signals) -> Result<(), RingError> {
        while let Some(len) = peer.packet_len() {
            let room = self.outgoing.request_room(room_for(len))?;
            signals.add(room.signal);
            if !room.room {
                return Ok(());
            }
            let Some(packet) = peer.take_packet() else {
                break;
            };
            match self
                .outgoing
                .write_in_band(packet.transaction, false, &[&packet.payload])
            {
                Err(WriteError::Ring(error)) => return Err(error),
                // There is room, and what a peer sends is short enough: it would only wait for an answer in vain.
                Ok(()) | Err(WriteError::Full { .. } | WriteError::TooLong(_)) => {}
            }
        }
        signals.add(self.outgoing.publish()?);
        Ok(())
    }
}

/// Bytes that a packet with that payload takes in a ring.
fn room_for(payload: usize) -> u32 {
    let payload = payload.min(MAX_PACKET as usize) as u32;
    DESCRIPTOR_SIZE + payload.next_multiple_of(PACKET_UNIT) + TRAILER_SIZE
}
