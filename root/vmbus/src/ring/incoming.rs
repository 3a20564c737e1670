//! Guest to host.

use zerocopy::{FromZeros, IntoBytes};

use super::index::{DataSize, has_flow_control};
use super::{
    DATA, Gone, GpaList, INTERRUPT_MASK, Index, MAX_GPA_RANGES, PENDING_SEND_SIZE, READ_INDEX,
    RingError, RingMemory, Signal, WRITE_INDEX,
};
use crate::protocol::{
    COMPLETION_REQUESTED, DESCRIPTOR_SIZE, GpaDirectHeader, PACKET_UNIT, PacketDescriptor,
    PacketType, PageRangeHeader, TRAILER_SIZE,
};

/// Page numbers that are copied out of the ring at once.
const PFN_BATCH: usize = 32;

/// The consumer's side of a ring (sections 7.3, 7.5, 7.6).
///
/// Drained like this, whenever the guest signals and once when the channel is opened:
///
/// ```text
/// loop {
///     while let Some(packet) = ring.read_packet()? { ... }
///     let finish = ring.finish()?;
///     if finish.signal == Signal::Needed { /* set the event flag */ }
///     if !finish.more { break }    // only now is it right to sleep
/// }
/// ```
#[derive(Debug)]
pub struct IncomingRing<M> {
    memory: M,
    size: DataSize,
    /// Where the next packet starts. Nobody else's: the header's read index is written, never read.
    read: u32,
    /// What the guest believes that was read.
    published: u32,
    /// The guest's index when last looked at, checked.
    write: u32,
    masked: bool,
    flow_control: bool,
    dead: Option<RingError>,
}

/// What there is to do when a batch has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a ring that is left although there is more is never signalled again"]
pub struct Finish {
    /// The guest waits for the room that was made.
    pub signal: Signal,
    /// More packets came meanwhile; the guest will not signal for them.
    pub more: bool,
}

impl<M: RingMemory> IncomingRing<M> {
    /// The ring of a channel that was just opened. Not to be made before OPENCHANNEL: the guest clears the header after
    /// it knows that the GPADL is made (trap 9).
    ///
    /// # Errors
    /// If the size is none of a ring, an index is invalid or the memory gone.
    pub fn new(memory: M) -> Result<Self, RingError> {
        let size = DataSize::of(&memory)?;
        let read = size.check(Index::Read, memory.load_acquire(READ_INDEX)?)?;
        let write = size.check(Index::Write, memory.load_acquire(WRITE_INDEX)?)?;
        let flow_control = has_flow_control(&memory)?;
        Ok(Self {
            memory,
            size,
            read,
            published: read,
            write,
            masked: false,
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

    /// The next packet, or `None` when all that the guest had written is read. The guest gets its room back with
    /// [`IncomingRing::publish`] or [`IncomingRing::finish`], so until then it may not change what was read.
    ///
    /// # Errors
    /// If the guest lies. The ring is dead then.
    #[inline]
    pub fn read_packet(&mut self) -> Result<Option<IncomingPacket<'_, M>>, RingError> {
        match self.parse() {
            Ok(Some((start, descriptor))) => Ok(Some(IncomingPacket {
                ring: self,
                start,
                descriptor,
            })),
            Ok(None) => Ok(None),
            Err(error) => Err(self.die(error)),
        }
    }

    /// Gives the room of all packets read so far back to the guest.
    ///
    /// # Errors
    /// As [`IncomingRing::read_packet`].
    #[inline]
    pub fn publish(&mut self) -> Result<Signal, RingError> {
        let result = self.try_publish();
        result.map_err(|error| self.die(error))
    }

    /// Asks the guest not to signal while packets are read. Lasts until [`IncomingRing::finish`] finds the ring empty.
    ///
    /// # Errors
    /// If the memory is gone.
    #[inline]
    pub fn mask(&mut self) -> Result<(), RingError> {
        self.alive()?;
        if self.masked {
            return Ok(());
        }
        self.masked = true;
        let result = self.memory.store_release(INTERRUPT_MASK, 1);
        result.map_err(|gone| self.die(gone.into()))
    }

    /// Ends a batch: publishes it, lifts the mask and looks again (trap 20). If there is more the mask is set again, if it
    /// was, and the caller goes on; else the guest signals the next packet.
    ///
    /// # Errors
    /// As [`IncomingRing::read_packet`].
    #[inline]
    pub fn finish(&mut self) -> Result<Finish, RingError> {
        let result = self.try_finish();
        result.map_err(|error| self.die(error))
    }

    #[inline]
    fn alive(&self) -> Result<(), RingError> {
        self.dead.map_or(Ok(()), Err)
    }

    #[cold]
    fn die(&mut self, error: RingError) -> RingError {
        *self.dead.get_or_insert(error)
    }

    #[inline]
    fn parse(&mut self) -> Result<Option<(u32, PacketDescriptor)>, RingError> {
        self.alive()?;
        if self.read == self.write {
            self.look()?;
            if self.read == self.write {
                return Ok(None);
            }
        }
        let used = self.size.distance(self.read, self.write);
        if used < DESCRIPTOR_SIZE + TRAILER_SIZE {
            return Err(RingError::NoPacket { used });
        }
        let mut descriptor = PacketDescriptor::new_zeroed();
        self.copy(self.read, descriptor.as_mut_bytes())?;
        let len = checked_length(&descriptor, used)?;
        let start = self.read;
        self.read = self.size.advance(start, len);
        Ok(Some((start, descriptor)))
    }

    /// Looks at the guest's write index. From what is published to it, the distance can only grow.
    #[inline]
    fn look(&mut self) -> Result<(), RingError> {
        let value = self.memory.load_acquire(WRITE_INDEX)?;
        if value == self.write {
            return Ok(());
        }
        let write = self.size.check(Index::Write, value)?;
        let before = self.size.distance(self.published, self.write);
        if self.size.distance(self.published, write) < before {
            return Err(RingError::WriteIndexBackwards {
                from: self.write,
                to: write,
            });
        }
        self.write = write;
        Ok(())
    }

    #[inline]
    fn try_publish(&mut self) -> Result<Signal, RingError> {
        self.alive()?;
        let consumed = self.store_read_index()?;
        if consumed == 0 || !self.flow_control {
            return Ok(Signal::NotNeeded);
        }
        self.memory.fence();
        self.room_signal(consumed)
    }

    #[inline]
    fn try_finish(&mut self) -> Result<Finish, RingError> {
        self.alive()?;
        let consumed = self.store_read_index()?;
        if self.masked {
            self.memory.store_release(INTERRUPT_MASK, 0)?;
        }
        self.memory.fence();
        let signal = if consumed != 0 && self.flow_control {
            self.room_signal(consumed)?
        } else {
            Signal::NotNeeded
        };
        self.look()?;
        let more = self.read != self.write;
        if self.masked {
            if more {
                self.memory.store_release(INTERRUPT_MASK, 1)?;
            } else {
                self.masked = false;
            }
        }
        Ok(Finish { signal, more })
    }

    /// Stores the read index; bytes that became free.
    #[inline]
    fn store_read_index(&mut self) -> Result<u32, RingError> {
        let consumed = self.size.distance(self.published, self.read);
        if consumed != 0 {
            self.memory.store_release(READ_INDEX, self.read)?;
            self.published = self.read;
        }
        Ok(consumed)
    }

    /// Whether the guest waits for room and has it since the last `consumed` bytes (7.6). After a fence. The write index
    /// is loaded after the wish, so it is not older than the wish.
    #[inline]
    fn room_signal(&mut self, consumed: u32) -> Result<Signal, RingError> {
        let wanted = self.memory.load_acquire(PENDING_SEND_SIZE)?;
        if wanted == 0 {
            return Ok(Signal::NotNeeded);
        }
        self.look()?;
        let free = self.size.0 - self.size.distance(self.published, self.write);
        let before = free.saturating_sub(consumed);
        Ok(Signal::when(before <= wanted && wanted < free))
    }

    /// Copies from the data area. `at` is less than twice the size of it.
    #[inline]
    fn copy(&self, at: u32, into: &mut [u8]) -> Result<(), Gone> {
        let at = self.size.advance(at, 0);
        let room = (self.size.0 - at) as usize;
        if into.len() <= room {
            return self.memory.read(DATA + at, into);
        }
        let (head, tail) = into.split_at_mut_checked(room).ok_or(Gone)?;
        self.memory.read(DATA + at, head)?;
        self.memory.read(DATA, tail)
    }
}

/// Bytes of a packet with its trailer, if the descriptor does not lie.
#[inline]
fn checked_length(descriptor: &PacketDescriptor, used: u32) -> Result<u32, RingError> {
    let PacketDescriptor {
        packet_type,
        data_offset8,
        length8,
        ..
    } = *descriptor;
    if packet_type == PacketType::INVALID {
        return Err(RingError::PacketType(packet_type));
    }
    if u32::from(data_offset8) * PACKET_UNIT < DESCRIPTOR_SIZE {
        return Err(RingError::DataOffset(data_offset8));
    }
    if length8 < data_offset8 {
        return Err(RingError::Length {
            length8,
            data_offset8,
        });
    }
    let len = u32::from(length8) * PACKET_UNIT + TRAILER_SIZE;
    if len > used {
        return Err(RingError::BeyondWritten { len, used });
    }
    Ok(len)
}

/// A packet of the guest. Its descriptor was copied and checked; headers and payload are still in the ring, and each
/// copy of them may differ from the last one: take what is needed once.
#[derive(Debug)]
pub struct IncomingPacket<'a, M> {
    ring: &'a mut IncomingRing<M>,
    start: u32,
    descriptor: PacketDescriptor,
}

impl<M: RingMemory> IncomingPacket<'_, M> {
    /// Type: not INVALID, but maybe one that nobody knows.
    #[inline]
    pub fn packet_type(&self) -> PacketType {
        self.descriptor.packet_type
    }

    /// Opaque value that a completion has to bring back.
    #[inline]
    pub fn transaction_id(&self) -> u64 {
        self.descriptor.transaction_id
    }

    /// Whether the guest waits for a completion. Without this none may be sent (trap 28).
    #[inline]
    pub fn completion_requested(&self) -> bool {
        self.descriptor.flags & COMPLETION_REQUESTED != 0
    }

    /// Bytes of the payload, rounded up to 8 by the sender.
    #[inline]
    pub fn payload_len(&self) -> u32 {
        let units = self.descriptor.length8 - self.descriptor.data_offset8;
        u32::from(units) * PACKET_UNIT
    }

    /// Copies the start of the payload, as much as there is and fits, and says how much that is.
    ///
    /// # Errors
    /// If the memory is gone.
    #[inline]
    pub fn read_payload(&mut self, into: &mut [u8]) -> Result<usize, RingError> {
        let len = into.len().min(self.payload_len() as usize);
        let at = self.start + u32::from(self.descriptor.data_offset8) * PACKET_UNIT;
        if let Some(into) = into.get_mut(..len) {
            let result = self.ring.copy(at, into);
            result.map_err(|gone| self.ring.die(gone.into()))?;
        }
        Ok(len)
    }

    /// Decodes the GPA direct ranges into `list`; empty if the packet is of another type. What lies between the last range
    /// and the payload is ignored: a driver may send a header of a fixed size.
    ///
    /// # Errors
    /// If the ranges lie. The ring is dead then, and the list not to be used.
    #[inline]
    pub fn read_gpa_direct(&mut self, list: &mut GpaList) -> Result<(), RingError> {
        list.clear();
        if self.packet_type() != PacketType::DATA_USING_GPA_DIRECT {
            return Ok(());
        }
        let result = self.try_gpa_direct(list);
        result.map_err(|error| self.ring.die(error))
    }

    fn try_gpa_direct(&self, list: &mut GpaList) -> Result<(), RingError> {
        let mut header = HeaderReader {
            ring: self.ring,
            at: self.start + DESCRIPTOR_SIZE,
            left: u32::from(self.descriptor.data_offset8) * PACKET_UNIT - DESCRIPTOR_SIZE,
        };
        let mut direct = GpaDirectHeader::new_zeroed();
        header.take(direct.as_mut_bytes())?;
        if direct.range_count > MAX_GPA_RANGES {
            return Err(RingError::TooManyRanges(direct.range_count));
        }
        for _ in 0..direct.range_count {
            let mut range = PageRangeHeader::new_zeroed();
            header.take(range.as_mut_bytes())?;
            read_range(&mut header, &range, list)?;
        }
        Ok(())
    }
}

/// Reads the page numbers of a range.
fn read_range<M: RingMemory>(
    header: &mut HeaderReader<'_, M>,
    range: &PageRangeHeader,
    list: &mut GpaList,
) -> Result<(), RingError> {
    if !range.starts_in_first_page() {
        return Err(RingError::RangeOffset(range.byte_offset));
    }
    let mut pages = list.reserve_pages(range.pages())?;
    let mut offset = range.byte_offset;
    let mut bytes = range.byte_count;
    let mut batch = [0u64; PFN_BATCH];
    while pages > 0 {
        let count = pages.min(PFN_BATCH);
        let Some(pfns) = batch.get_mut(..count) else {
            break;
        };
        header.take(pfns.as_mut_bytes())?;
        for pfn in pfns.iter() {
            bytes -= list.push_page(*pfn, offset, bytes)?;
            offset = 0;
        }
        pages -= count;
    }
    Ok(())
}

/// Walks over what lies between descriptor and payload, each byte once.
struct HeaderReader<'a, M> {
    ring: &'a IncomingRing<M>,
    at: u32,
    left: u32,
}

impl<M: RingMemory> HeaderReader<'_, M> {
    fn take(&mut self, into: &mut [u8]) -> Result<(), RingError> {
        // At most the page numbers of a batch.
        let len = into.len() as u32;
        self.left = self
            .left
            .checked_sub(len)
            .ok_or(RingError::RangesTruncated)?;
        self.ring.copy(self.at, into)?;
        self.at += len;
        Ok(())
    }
}
