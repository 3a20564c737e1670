//! Host to guest.

use zerocopy::IntoBytes;

use super::index::{DataSize, has_flow_control};
use super::{
    DATA, Gone, INTERRUPT_MASK, Index, PENDING_SEND_SIZE, READ_INDEX, RingError, RingMemory,
    Signal, WRITE_INDEX,
};
use crate::protocol::{
    COMPLETION_REQUESTED, DESCRIPTOR_SIZE, PACKET_UNIT, PacketDescriptor, PacketTrailer,
    PacketType, TRAILER_SIZE, TransferPageRange, TransferPagesHeader,
};

/// Bytes of the longest packet that a descriptor can describe.
const MAX_LENGTH: u32 = u16::MAX as u32 * PACKET_UNIT;

/// The producer's side of a ring (sections 7.4, 7.6).
///
/// Packets are written one after the other and become visible together with [`OutgoingRing::publish`]. When one does not
/// fit the caller keeps it, calls [`OutgoingRing::request_room`] and tries again when the guest signals. It never waits:
/// the guest may only be able to read on after its own packets are served (trap 29).
#[derive(Debug)]
pub struct OutgoingRing<M> {
    memory: M,
    size: DataSize,
    max_packet: u32,
    /// Where the next packet goes. Nobody else's: the header's write index is written, never read.
    write: u32,
    /// What the guest can see.
    published: u32,
    /// The guest's index when last looked at, checked.
    read: u32,
    /// Packets shorter than this fit for sure, and before the ring's end. 0 if there is something else to look at first: a
    /// dead ring, or a wish for room that is in the header. So writing has one comparison for all of it.
    room: u32,
    /// The wish for room in the header.
    pending: u32,
    flow_control: bool,
    dead: Option<RingError>,
}

/// Why a packet was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// No room now: [`OutgoingRing::request_room`].
    #[error("no room for {needed} bytes")]
    Full {
        /// Bytes that the packet needs.
        needed: u32,
    },
    /// Longer than the guest's driver takes, or than the ring.
    #[error("a packet of {0} bytes is too long")]
    TooLong(usize),
    /// The ring is dead.
    #[error(transparent)]
    Ring(#[from] RingError),
}

impl From<Gone> for WriteError {
    fn from(gone: Gone) -> Self {
        Self::Ring(gone.into())
    }
}

/// Answer to the wish for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the guest sleeps if it is not signalled"]
pub struct RoomRequest {
    /// For the packets that were published with it.
    pub signal: Signal,
    /// There is room by now: write. Else the guest signals when there is.
    pub room: bool,
}

impl<M: RingMemory> OutgoingRing<M> {
    /// The ring of a channel that was just opened. `max_packet`: bytes of the longest packet, without trailer, that the
    /// guest's driver takes. Linux clamps a longer one and loses its place in the ring for good (section 7.7).
    ///
    /// # Errors
    /// If the size is none of a ring, an index is invalid or the memory gone.
    pub fn new(memory: M, max_packet: u32) -> Result<Self, RingError> {
        let size = DataSize::of(&memory)?;
        let write = size.check(Index::Write, memory.load_acquire(WRITE_INDEX)?)?;
        let read = size.check(Index::Read, memory.load_acquire(READ_INDEX)?)?;
        let flow_control = has_flow_control(&memory)?;
        // A packet and its trailer are never the whole ring (trap 22).
        let largest = (size.0 - TRAILER_SIZE - PACKET_UNIT).min(MAX_LENGTH);
        Ok(Self {
            memory,
            size,
            max_packet: max_packet.min(largest) / PACKET_UNIT * PACKET_UNIT,
            write,
            published: write,
            read,
            room: 0,
            pending: 0,
            flow_control,
            dead: None,
        })
    }

    /// The memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Why the ring is dead, if it is.
    pub fn error(&self) -> Option<RingError> {
        self.dead
    }

    /// Whether the guest signals when there is room. If not, the caller has to look when the guest signals for another
    /// reason.
    pub fn has_flow_control(&self) -> bool {
        self.flow_control
    }

    /// Writes a packet with the parts of `payload` one behind the other.
    ///
    /// # Errors
    /// No room, too long, or a dead ring. Nothing has changed for the guest then.
    #[inline]
    pub fn write_in_band(
        &mut self,
        transaction_id: u64,
        completion_requested: bool,
        payload: &[&[u8]],
    ) -> Result<(), WriteError> {
        let kind = Kind {
            packet_type: PacketType::DATA_IN_BAND,
            flags: flags(completion_requested),
            transaction_id,
        };
        self.write(kind, &[], payload)
    }

    /// Writes the completion of a packet that has requested one (trap 28). The id is the packet's.
    ///
    /// # Errors
    /// As [`OutgoingRing::write_in_band`].
    #[inline]
    pub fn write_completion(
        &mut self,
        transaction_id: u64,
        payload: &[&[u8]],
    ) -> Result<(), WriteError> {
        let kind = Kind {
            packet_type: PacketType::COMPLETION,
            flags: 0,
            transaction_id,
        };
        self.write(kind, &[], payload)
    }

    /// Writes a packet that tells of data in the guest's buffer `page_set_id`.
    ///
    /// # Errors
    /// As [`OutgoingRing::write_in_band`].
    #[inline]
    pub fn write_transfer_pages(
        &mut self,
        transaction_id: u64,
        completion_requested: bool,
        page_set_id: u16,
        ranges: &[TransferPageRange],
        payload: &[&[u8]],
    ) -> Result<(), WriteError> {
        let header = TransferPagesHeader {
            page_set_id,
            sender_owns_set: 0,
            reserved: 0,
            range_count: u32::try_from(ranges.len())
                .map_err(|_| WriteError::TooLong(ranges.as_bytes().len()))?,
        };
        let kind = Kind {
            packet_type: PacketType::DATA_USING_TRANSFER_PAGES,
            flags: flags(completion_requested),
            transaction_id,
        };
        self.write(kind, &[header.as_bytes(), ranges.as_bytes()], payload)
    }

    /// Shows the guest all packets written so far. The signal is needed if the guest wants one and had read everything
    /// before them (traps 17 to 19).
    ///
    /// # Errors
    /// If the guest's read index is invalid or the memory gone. The ring is dead then.
    #[inline]
    pub fn publish(&mut self) -> Result<Signal, RingError> {
        match self.try_publish() {
            Ok(signal) => Ok(signal),
            Err(error) => self.fail(error),
        }
    }

    /// Publishes, and asks the guest to signal when more than `needed` bytes are free. The wish lasts until a packet of at
    /// least that length is written; another wish takes its place.
    ///
    /// # Errors
    /// As [`OutgoingRing::publish`].
    pub fn request_room(&mut self, needed: u32) -> Result<RoomRequest, RingError> {
        let result = self.try_request_room(needed);
        result.map_err(|error| self.die(error))
    }

    #[cold]
    fn die(&mut self, error: RingError) -> RingError {
        self.room = 0;
        *self.dead.get_or_insert(error)
    }

    /// [`Self::die`] away from the data path, which it costs no registers. A dead ring repeats its first error.
    #[cold]
    #[inline(never)]
    fn fail<T, E: From<RingError>>(&mut self, error: RingError) -> Result<T, E> {
        Err(self.die(error).into())
    }

    /// Writes a packet. The parts of `header` are multiples of 8 bytes. Always inlined: with parts whose number and
    /// lengths are known, most of it is computed by the compiler.
    #[inline(always)]
    fn write(&mut self, kind: Kind, header: &[&[u8]], payload: &[&[u8]]) -> Result<(), WriteError> {
        let data = total(header).saturating_add(DESCRIPTOR_SIZE as usize);
        let unpadded = total(payload).saturating_add(data);
        if unpadded > self.max_packet as usize {
            return Err(WriteError::TooLong(unpadded));
        }
        let len = (unpadded as u32).next_multiple_of(PACKET_UNIT);
        let needed = len + TRAILER_SIZE;
        if needed >= self.room && self.make_room(needed)? {
            return self.write_around_end(kind, header, payload, needed);
        }
        if self.store::<false>(kind, header, payload).is_err() {
            return self.fail(RingError::Gone);
        }
        self.write += needed;
        self.room -= needed;
        Ok(())
    }

    /// [`Self::write`] once in a round, kept out of the way of all others: there is room, at the ring's end and its start.
    #[cold]
    fn write_around_end(
        &mut self,
        kind: Kind,
        header: &[&[u8]],
        payload: &[&[u8]],
        needed: u32,
    ) -> Result<(), WriteError> {
        if self.store::<true>(kind, header, payload).is_err() {
            return self.fail(RingError::Gone);
        }
        self.write = self.size.advance(self.write, needed);
        self.room = (self.room - needed).min(self.size.0 - self.write);
        Ok(())
    }

    /// Looks for more than `needed` bytes, and says whether these go around the ring's end. Equal would make a full ring
    /// look empty (trap 22).
    fn make_room(&mut self, needed: u32) -> Result<bool, WriteError> {
        self.dead.map_or(Ok(()), Err)?;
        self.look().map_err(|error| self.die(error))?;
        let free = self.free();
        if free <= needed {
            return Err(WriteError::Full { needed });
        }
        let to_end = self.size.0 - self.write;
        // A shorter packet that goes first does not fulfil the wish: another one still waits.
        if needed < self.pending {
            self.room = needed;
            return Ok(needed >= to_end);
        }
        if self.pending != 0 {
            self.forget_wish().map_err(|error| self.die(error))?;
        }
        let around = needed >= to_end;
        self.room = if around { free } else { free.min(to_end) };
        Ok(around)
    }

    #[inline]
    fn free(&self) -> u32 {
        self.size.0 - self.size.distance(self.read, self.write)
    }

    #[cold]
    fn forget_wish(&mut self) -> Result<(), RingError> {
        self.pending = 0;
        Ok(self.memory.store_release(PENDING_SEND_SIZE, 0)?)
    }

    /// Copies a packet to where it belongs. `WRAPS`: it may cross the end of the ring, anywhere (trap 26).
    #[inline(always)]
    fn store<const WRAPS: bool>(
        &self,
        kind: Kind,
        header: &[&[u8]],
        payload: &[&[u8]],
    ) -> Result<(), Gone> {
        let data = total(header) + DESCRIPTOR_SIZE as usize;
        let unpadded = total(payload) + data;
        let len = unpadded.next_multiple_of(PACKET_UNIT as usize);
        let descriptor = PacketDescriptor {
            packet_type: kind.packet_type,
            data_offset8: (data as u32 / PACKET_UNIT) as u16,
            length8: (len as u32 / PACKET_UNIT) as u16,
            flags: kind.flags,
            transaction_id: kind.transaction_id,
        };
        let mut at = self.put::<WRAPS>(self.write, descriptor.as_bytes())?;
        for part in header {
            at = self.put::<WRAPS>(at, part)?;
        }
        for part in payload {
            at = self.put::<WRAPS>(at, part)?;
        }
        let padding = len - unpadded;
        if let Some(zeros) = [0; PACKET_UNIT as usize].get(..padding)
            && padding != 0
        {
            at = self.put::<WRAPS>(at, zeros)?;
        }
        let trailer = PacketTrailer {
            reserved: 0,
            start: self.write,
        };
        self.put::<WRAPS>(at, trailer.as_bytes())?;
        Ok(())
    }

    /// Copies bytes into the data area and says where the next ones go.
    #[inline(always)]
    fn put<const WRAPS: bool>(&self, at: u32, bytes: &[u8]) -> Result<u32, Gone> {
        // Bounded by the length of the packet, which was checked.
        let next = at + bytes.len() as u32;
        if !WRAPS || next <= self.size.0 {
            self.memory.write(DATA + at, bytes)?;
            return Ok(if WRAPS {
                self.size.advance(next, 0)
            } else {
                next
            });
        }
        let (head, tail) = bytes
            .split_at_checked((self.size.0 - at) as usize)
            .ok_or(Gone)?;
        self.memory.write(DATA + at, head)?;
        self.memory.write(DATA, tail)?;
        Ok(tail.len() as u32)
    }

    /// Looks at the guest's read index: it moves forward over what is published and no further.
    #[inline]
    fn look(&mut self) -> Result<(), RingError> {
        let value = self.memory.load_acquire(READ_INDEX)?;
        self.take_read_index(value)
    }

    /// The guest's read index is `value`, if it can be.
    fn take_read_index(&mut self, value: u32) -> Result<(), RingError> {
        if value == self.read {
            return Ok(());
        }
        let read = self.size.check(Index::Read, value)?;
        let unread = self.size.distance(self.read, self.published);
        if self.size.distance(self.read, read) > unread {
            return Err(RingError::ReadIndexBeyondWritten {
                from: self.read,
                to: read,
            });
        }
        self.read = read;
        Ok(())
    }

    #[inline]
    fn try_publish(&mut self) -> Result<Signal, RingError> {
        if self.dead.is_some() {
            return self.fail(RingError::Gone);
        }
        let before = self.published;
        if before == self.write {
            return Ok(Signal::NotNeeded);
        }
        self.memory.store_release(WRITE_INDEX, self.write)?;
        self.published = self.write;
        self.memory.fence();
        if self.memory.load_acquire(INTERRUPT_MASK)? != 0 {
            return Ok(Signal::NotNeeded);
        }
        // Most guests have read what there was before: no need to check where an index is that the host has put there.
        let read = self.memory.load_acquire(READ_INDEX)?;
        if read == before {
            self.read = before;
            return Ok(Signal::Needed);
        }
        self.take_read_index(read)?;
        Ok(Signal::NotNeeded)
    }

    fn try_request_room(&mut self, needed: u32) -> Result<RoomRequest, RingError> {
        let signal = self.try_publish()?;
        if self.flow_control && self.pending != needed {
            self.memory.store_release(PENDING_SEND_SIZE, needed)?;
            self.pending = needed;
            self.room = 0;
        }
        self.memory.fence();
        self.look()?;
        let room = self.free() > needed;
        if room && self.pending != 0 {
            self.forget_wish()?;
        }
        Ok(RoomRequest { signal, room })
    }
}

/// What a packet's descriptor says besides lengths.
#[derive(Clone, Copy)]
struct Kind {
    packet_type: PacketType,
    flags: u16,
    transaction_id: u64,
}

#[inline]
fn flags(completion_requested: bool) -> u16 {
    if completion_requested {
        COMPLETION_REQUESTED
    } else {
        0
    }
}

/// Bytes of all parts. They are in memory at the same time, so the sum cannot overflow unless the same part is named over
/// and over; then it stays at the largest number, which is too long.
#[inline(always)]
fn total(parts: &[&[u8]]) -> usize {
    parts
        .iter()
        .fold(0, |sum: usize, part| sum.saturating_add(part.len()))
}
