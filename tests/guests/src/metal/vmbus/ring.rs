//! A ring of a channel, from the guest's end.

use core::sync::atomic::{Ordering, fence};

use super::RING_PAGES;
use crate::metal::memory;

/// Where the producer's and the consumer's index are in the header.
const WRITE_INDEX: u64 = 0;
const READ_INDEX: u64 = 4;
/// Bytes of the header page.
const DATA: u64 = 4096;
/// Bytes of data.
pub const SIZE: u32 = (RING_PAGES as u32 - 1) * 4096;
/// Bytes of a packet's descriptor and of its trailer.
const DESCRIPTOR: u32 = 16;
const TRAILER: u32 = 8;
/// First words of a descriptor: in-band data, behind 16 bytes.
const IN_BAND: u32 = 6 | 2 << 16;

/// A ring. Whoever holds it is at one of its ends, and may do at it what he should not.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    gpa: u64,
}

impl Ring {
    pub(super) const fn new(gpa: u64) -> Self {
        Self { gpa }
    }

    /// The index where the producer goes on.
    pub fn write_index(&self) -> u32 {
        memory::read(self.gpa + WRITE_INDEX)
    }

    /// The index where the consumer goes on.
    pub fn read_index(&self) -> u32 {
        memory::read(self.gpa + READ_INDEX)
    }

    /// Sets the producer's index.
    pub fn set_write_index(&self, index: u32) {
        fence(Ordering::SeqCst);
        memory::write(self.gpa + WRITE_INDEX, index);
        fence(Ordering::SeqCst);
    }

    /// Sets the consumer's index.
    pub fn set_read_index(&self, index: u32) {
        fence(Ordering::SeqCst);
        memory::write(self.gpa + READ_INDEX, index);
        fence(Ordering::SeqCst);
    }

    /// Bytes that can be written: never the whole ring, which would look empty.
    fn room(&self) -> u32 {
        let (write, read) = (self.write_index(), self.read_index());
        (read + SIZE - write - 1) % SIZE
    }

    /// Writes an in-band packet if there is room; its length in the descriptor is as the payload's, rounded up. Whether there was.
    pub fn send(&self, payload: &[u8]) -> bool {
        let padded = (payload.len() as u32).next_multiple_of(8);
        let write = self.write_index();
        let whole = DESCRIPTOR + padded + TRAILER;
        if whole > self.room() {
            return false;
        }
        self.put(write, &IN_BAND.to_le_bytes());
        self.put(write + 4, &((DESCRIPTOR + padded) / 8).to_le_bytes());
        self.put(write + 8, &[0; 8]);
        self.put(write + DESCRIPTOR, payload);
        let end = write + DESCRIPTOR + padded;
        self.put(end, &[0; 4]);
        self.put(end + 4, &write.to_le_bytes());
        self.set_write_index((write + whole) % SIZE);
        true
    }

    /// Whether there is no packet to take.
    pub fn is_empty(&self) -> bool {
        self.write_index() == self.read_index()
    }

    /// Takes a packet's payload, as much of it as there is place for, if there is one.
    pub fn take<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let (write, read) = (self.write_index(), self.read_index());
        if write == read {
            return None;
        }
        fence(Ordering::SeqCst);
        let mut descriptor = [0; DESCRIPTOR as usize];
        self.get(read, &mut descriptor);
        assert_eq!(descriptor[..4], IN_BAND.to_le_bytes(), "a packet in-band");
        let length = u32::from(u16::from_le_bytes([descriptor[4], descriptor[5]])) * 8;
        let payload = buffer.get_mut(..(length - DESCRIPTOR) as usize)?;
        self.get(read + DESCRIPTOR, payload);
        self.set_read_index((read + length + TRAILER) % SIZE);
        Some(payload)
    }

    /// Writes bytes anywhere, and around the end.
    pub fn put(&self, at: u32, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            memory::write(self.gpa + DATA + u64::from(at % SIZE), *byte);
        }
    }

    fn get(&self, at: u32, bytes: &mut [u8]) {
        for (at, byte) in (at..).zip(bytes) {
            *byte = memory::read(self.gpa + DATA + u64::from(at % SIZE));
        }
    }
}
