//! The memory of a ring: runs of guest RAM, used in place.

use alloc::boxed::Box;
use core::ops::Range;
use core::sync::atomic::{Ordering, fence};

use board::ram::OutOfRam;
use vmbus::GpaRun;
use vmbus::bulk::{GuestBuffer, Piece};
use vmbus::ring::{Gone, RingMemory};

use crate::system::SharedRam;

/// Most bytes of a ring. Linux gives its utilities 12 KiB (16 KiB for heartbeat and time); the limit keeps the list of
/// runs of a guest that scatters its pages short.
pub const MAX_RING: u64 = 1 << 20;

/// A part of a ring that is contiguous in guest memory.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Where it starts in the ring.
    at: u32,
    run: GpaRun,
}

/// The memory of one ring.
pub struct RunMemory<R> {
    ram: R,
    parts: Box<[Part]>,
    size: u32,
}

impl<R: SharedRam> RunMemory<R> {
    /// The ring in the memory of `buffer`.
    ///
    /// # Errors
    /// If it is too large, or not all of it is RAM.
    pub fn new(ram: &R, buffer: &GuestBuffer<'_>) -> Result<Self, Gone> {
        if buffer.len() > MAX_RING {
            return Err(Gone);
        }
        let part = |Piece { offset, run }| {
            let at = offset as u32;
            let is_ram = ram.is_ram(run.gpa, run.len);
            is_ram.then_some(Part { at, run }).ok_or(Gone)
        };
        let parts = buffer.pieces().map(part).collect::<Result<_, _>>()?;
        Ok(Self {
            ram: ram.clone(),
            parts,
            size: buffer.len() as u32,
        })
    }

    /// Calls `each` with the guest address and the place in the caller's buffer of each part of `len` bytes at `at`.
    #[inline]
    fn each(
        &self,
        at: u32,
        len: usize,
        mut each: impl FnMut(u64, Range<usize>) -> Result<(), OutOfRam>,
    ) -> Result<(), Gone> {
        let inside = (at as usize)
            .checked_add(len)
            .is_some_and(|end| end <= self.size as usize);
        if !inside {
            return Err(Gone);
        }
        let first = self.parts.partition_point(|part| part.at <= at);
        let mut parts = self
            .parts
            .get(first.saturating_sub(1)..)
            .ok_or(Gone)?
            .iter();
        let mut done = 0;
        while done < len {
            let part = parts.next().ok_or(Gone)?;
            // Only the first part starts before `at`. All of this is below `size`.
            let offset = u64::from(at.saturating_sub(part.at)) * u64::from(done == 0);
            let count = ((part.run.len - offset) as usize).min(len - done);
            each(part.run.gpa + offset, done..done + count).map_err(|_| Gone)?;
            done += count;
        }
        Ok(())
    }

    /// The guest address of an aligned word.
    #[inline]
    fn word(&self, at: u32) -> Result<u64, Gone> {
        let mut found = Err(Gone);
        if at.is_multiple_of(4) {
            self.each(at, 4, |gpa, _| {
                found = Ok(gpa);
                Ok(())
            })?;
        }
        found
    }
}

impl<R: SharedRam> RingMemory for RunMemory<R> {
    #[inline]
    fn size(&self) -> u32 {
        self.size
    }

    #[inline]
    fn read(&self, at: u32, into: &mut [u8]) -> Result<(), Gone> {
        self.each(at, into.len(), |gpa, range| {
            self.ram.read(gpa, into.get_mut(range).unwrap_or_default())
        })
    }

    #[inline]
    fn write(&self, at: u32, from: &[u8]) -> Result<(), Gone> {
        self.each(at, from.len(), |gpa, range| {
            self.ram
                .write_shared(gpa, from.get(range).unwrap_or_default())
        })
    }

    #[inline]
    fn load_acquire(&self, at: u32) -> Result<u32, Gone> {
        self.ram.load_acquire(self.word(at)?).map_err(|_| Gone)
    }

    #[inline]
    fn store_release(&self, at: u32, value: u32) -> Result<(), Gone> {
        let gpa = self.word(at)?;
        self.ram.store_release(gpa, value).map_err(|_| Gone)
    }

    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}
