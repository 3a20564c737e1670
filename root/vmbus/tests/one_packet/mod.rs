//! A ring that has one packet: for tests and for the fuzz target of bulk data.

use std::cell::RefCell;

use vmbus::protocol::PacketType;
use vmbus::ring::{DATA, Gone, READ_INDEX, RingMemory, WRITE_INDEX};

/// Pages of data: a packet with the longest list fits.
const PAGES: usize = 20;
/// Its transaction id.
const TRANSACTION: u64 = 7;

/// The guest's side of the ring, header and data.
pub struct OnePacket(RefCell<Vec<u8>>);

impl OnePacket {
    /// A packet of this type, whose header behind the descriptor is these units of 8 bytes, less `cut` of them as the descriptor
    /// says.
    pub fn new(packet_type: PacketType, units: &[u64], cut: u8) -> Self {
        let end = 2 + units.len() as u64;
        let offset = end.saturating_sub(cut.into());
        let descriptor = u64::from(packet_type.0) | offset << 16 | (end + 1) << 32;
        let packet = [descriptor, TRANSACTION].into_iter();
        let packet = packet.chain(units.iter().copied()).chain([0, 0]);
        let mut ring = vec![0; DATA as usize];
        ring.extend(packet.flat_map(u64::to_le_bytes));
        let written = ring.len() as u32 - DATA;
        ring.resize((1 + PAGES) * DATA as usize, 0);
        ring[WRITE_INDEX as usize..][..4].copy_from_slice(&written.to_le_bytes());
        Self(RefCell::new(ring))
    }
}

impl RingMemory for OnePacket {
    fn size(&self) -> u32 {
        self.0.borrow().len() as u32
    }

    fn read(&self, at: u32, into: &mut [u8]) -> Result<(), Gone> {
        into.copy_from_slice(&self.0.borrow()[at as usize..][..into.len()]);
        Ok(())
    }

    fn write(&self, _: u32, _: &[u8]) -> Result<(), Gone> {
        panic!("a consumer writes no data");
    }

    fn load_acquire(&self, at: u32) -> Result<u32, Gone> {
        let ring = self.0.borrow();
        let word = ring[at as usize..].first_chunk().expect("a word");
        Ok(u32::from_le_bytes(*word))
    }

    fn store_release(&self, at: u32, value: u32) -> Result<(), Gone> {
        assert_eq!(at, READ_INDEX, "a consumer writes one word");
        self.0.borrow_mut()[at as usize..][..4].copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn fence(&self) {}
}
