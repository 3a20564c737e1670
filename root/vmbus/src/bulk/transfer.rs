//! Access to the bytes of a buffer.

use super::{GuestBuffer, OutsideBuffer, Piece};
use crate::gpa::GpaRun;

/// Memory that the guest does not have, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not RAM of the guest")]
pub struct NotRam;

/// The guest's memory, by guest physical address.
///
/// Each access asks the guest's memory map as it is at that moment, and is done as a whole or not at all. An
/// implementation must stay sound for any address and length.
pub trait GuestMemory {
    /// Copies from the guest.
    ///
    /// # Errors
    /// [`NotRam`] if any of it is not RAM: a hole, a device, a page that was taken from the guest.
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotRam>;

    /// Copies to the guest.
    ///
    /// # Errors
    /// As [`GuestMemory::read`].
    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), NotRam>;
}

/// Why bytes of a transfer were not moved. The service says so to the guest in its protocol's terms; nothing else of the
/// channel suffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// More than there is. Nothing was moved.
    #[error(transparent)]
    Outside(#[from] OutsideBuffer),
    /// A piece of it is not RAM. What lies before the piece was moved, as by a device that meets such a page.
    #[error("not RAM of the guest at {gpa:#x}, after {done} bytes")]
    NotRam {
        /// Where the piece starts.
        gpa: u64,
        /// Bytes of this access that were moved.
        done: u64,
    },
}

/// A guest's buffer in its memory, for a service to read and write. Nothing is kept between accesses, so two reads of the
/// same bytes may differ.
#[derive(Debug)]
pub struct Transfer<'a, M: ?Sized> {
    memory: &'a M,
    buffer: GuestBuffer<'a>,
}

impl<M: ?Sized> Clone for Transfer<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M: ?Sized> Copy for Transfer<'_, M> {}

impl<'a, M: GuestMemory + ?Sized> Transfer<'a, M> {
    /// The bytes of `buffer` in `memory`.
    pub fn new(memory: &'a M, buffer: GuestBuffer<'a>) -> Self {
        Self { memory, buffer }
    }

    /// The bytes meant, with their addresses and lengths.
    #[inline]
    pub fn buffer(&self) -> GuestBuffer<'a> {
        self.buffer
    }

    /// `len` bytes from `offset` on.
    ///
    /// # Errors
    /// As [`GuestBuffer::part`].
    pub fn part(&self, offset: u64, len: u64) -> Result<Self, OutsideBuffer> {
        let buffer = self.buffer.part(offset, len)?;
        Ok(Self { buffer, ..*self })
    }

    /// Copies the guest's bytes from `offset` on, as many as fit into `into`.
    ///
    /// # Errors
    /// If there are not so many bytes, or some are not RAM; `into` may be filled in part then.
    pub fn read(&self, offset: u64, into: &mut [u8]) -> Result<(), BulkError> {
        self.read_vectored(offset, &mut [into])
    }

    /// Copies `from` over the guest's bytes from `offset` on.
    ///
    /// # Errors
    /// If there are not so many bytes, or some are not RAM; some may be written then.
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<(), BulkError> {
        self.write_vectored(offset, &[from])
    }

    /// [`Self::read`] into several places, one after the other.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_vectored(&self, offset: u64, into: &mut [&mut [u8]]) -> Result<(), BulkError> {
        let lengths = into.iter().map(|slice| slice.len());
        self.buffer.part(offset, total(lengths))?;
        let mut at = offset;
        for slice in into {
            let mut left = &mut **slice;
            for Piece { run, .. } in self.buffer.part(at, left.len() as u64)?.pieces() {
                let here = left.split_off_mut(..run.len as usize).unwrap_or_default();
                let read = self.memory.read(run.gpa, here);
                read.map_err(|NotRam| not_ram(run, at - offset))?;
                at += run.len;
            }
        }
        Ok(())
    }

    /// [`Self::write`] from several places, one after the other.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_vectored(&self, offset: u64, from: &[&[u8]]) -> Result<(), BulkError> {
        let lengths = from.iter().map(|slice| slice.len());
        self.buffer.part(offset, total(lengths))?;
        let mut at = offset;
        for slice in from {
            let mut left = *slice;
            for Piece { run, .. } in self.buffer.part(at, left.len() as u64)?.pieces() {
                let here = left.split_off(..run.len as usize).unwrap_or_default();
                let written = self.memory.write(run.gpa, here);
                written.map_err(|NotRam| not_ram(run, at - offset))?;
                at += run.len;
            }
        }
        Ok(())
    }
}

fn not_ram(run: GpaRun, done: u64) -> BulkError {
    BulkError::NotRam { gpa: run.gpa, done }
}

/// Sum of lengths. One that does not fit is more than any buffer has.
fn total(lengths: impl Iterator<Item = usize>) -> u64 {
    lengths.fold(0, |sum: u64, len| sum.saturating_add(len as u64))
}
