//! The rings of an open channel: a guest that changes anything in their memory between any two accesses of the host.
//!
//! Input: the shape of both rings ([`Setup`]), changes that come before accesses ([`Change`]), then actions ([`Channel::act`]).
#![no_main]

mod input;

use std::cell::RefCell;
use std::rc::Rc;

use input::Input;
use vmbus::bulk::Piece;
use vmbus::protocol::{PacketDescriptor, PacketType, TransferPageRange};
use vmbus::ring::*;
use zerocopy::IntoBytes;

/// More than an input that is worth it has.
const MOST_ACTIONS: usize = 2000;
/// Bytes of the longest packet that the guest's driver takes.
const MAX_PACKET: u32 = 16_384;

/// Something that the guest's other processor does.
#[derive(Clone, Copy)]
struct Change {
    /// Accesses of the host since the last change.
    after: u8,
    at: u32,
    value: u32,
}

impl Change {
    /// A word of the header, or any other one.
    fn read(input: &mut Input<'_>) -> Self {
        const WORDS: [u32; 5] = [
            WRITE_INDEX,
            READ_INDEX,
            INTERRUPT_MASK,
            PENDING_SEND_SIZE,
            FEATURE_BITS,
        ];
        let (after, place, offset) = (input.u8(), input.u8(), input.u16());
        Self {
            after,
            at: WORDS
                .get(usize::from(place))
                .copied()
                .unwrap_or(DATA + u32::from(offset) / 4 * 4),
            value: input.u32(),
        }
    }
}

/// Which side of a ring the host is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Consumer,
    Producer,
}

/// The memory of a ring, and what the host may do with it.
struct Shared {
    bytes: Vec<u8>,
    side: Side,
    /// Changes that are still to come, the next one last.
    changes: Vec<Change>,
    accesses: u64,
    /// The indices as the host has stored or last loaded them. It may not use what it has not checked, so what is done
    /// on the strength of a wrong one is a fault.
    write: u32,
    read: u32,
}

impl Shared {
    fn size(&self) -> u32 {
        self.bytes.len() as u32 - DATA
    }

    fn distance(&self, from: u32, to: u32) -> u32 {
        (to + self.size() - from) % self.size()
    }

    fn word(&self, at: u32) -> u32 {
        let bytes = self.bytes[at as usize..].first_chunk().expect("a word");
        u32::from_le_bytes(*bytes)
    }

    fn set_word(&mut self, at: u32, value: u32) {
        if let Some(word) = self.bytes.get_mut(at as usize..at as usize + 4) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// The host is about to access the memory.
    fn step(&mut self) {
        self.accesses += 1;
        while let Some(change) = self.changes.last_mut() {
            if let Some(after) = change.after.checked_sub(1) {
                change.after = after;
                return;
            }
            let Change { at, value, .. } = *change;
            self.changes.pop();
            self.set_word(at, value);
        }
    }

    /// Copies of data lie in the part that belongs to the host now.
    fn check_data(&self, at: u32, len: usize) {
        let at = at.checked_sub(DATA).expect("the header is no data");
        assert!(at as usize + len <= self.size() as usize, "outside of it");
        assert!(self.write < self.size() && self.read < self.size());
        let used = self.distance(self.read, self.write);
        let (from, room) = match self.side {
            Side::Consumer => (self.read, used),
            Side::Producer => (self.write, self.size() - used),
        };
        let end = self.distance(from, at) as usize + len;
        assert!(end <= room as usize, "{end} of {room} bytes");
    }

    fn check_store(&self, at: u32, value: u32) {
        match (self.side, at) {
            (Side::Consumer, READ_INDEX) | (Side::Producer, WRITE_INDEX) => {
                assert!(value < self.size() && value.is_multiple_of(8));
            }
            (Side::Consumer, INTERRUPT_MASK) => assert!(value <= 1),
            (Side::Producer, PENDING_SEND_SIZE) => {}
            _ => panic!("the word at {at} is the guest's"),
        }
    }

    fn note(&mut self, at: u32, value: u32) {
        match at {
            WRITE_INDEX => self.write = value,
            READ_INDEX => self.read = value,
            _ => {}
        }
    }

    /// The guest writes at its index, and shows it.
    fn send(&mut self, bytes: &[u8]) {
        let size = self.size();
        let start = self.word(WRITE_INDEX) % size;
        for (at, byte) in (start..).zip(bytes) {
            self.bytes[(DATA + at % size) as usize] = *byte;
        }
        self.set_word(WRITE_INDEX, (start + bytes.len() as u32) % size);
    }
}

#[derive(Clone)]
struct Memory(Rc<RefCell<Shared>>);

impl RingMemory for Memory {
    fn size(&self) -> u32 {
        self.0.borrow().bytes.len() as u32
    }

    fn read(&self, at: u32, into: &mut [u8]) -> Result<(), Gone> {
        let mut shared = self.0.borrow_mut();
        shared.step();
        assert!(shared.side == Side::Consumer, "a producer reads no data");
        shared.check_data(at, into.len());
        into.copy_from_slice(&shared.bytes[at as usize..][..into.len()]);
        Ok(())
    }

    fn write(&self, at: u32, from: &[u8]) -> Result<(), Gone> {
        let mut shared = self.0.borrow_mut();
        shared.step();
        assert!(shared.side == Side::Producer, "a consumer writes no data");
        shared.check_data(at, from.len());
        shared.bytes[at as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }

    fn load_acquire(&self, at: u32) -> Result<u32, Gone> {
        let mut shared = self.0.borrow_mut();
        shared.step();
        let value = shared.word(at);
        shared.note(at, value);
        Ok(value)
    }

    fn store_release(&self, at: u32, value: u32) -> Result<(), Gone> {
        let mut shared = self.0.borrow_mut();
        shared.step();
        shared.check_store(at, value);
        shared.set_word(at, value);
        shared.note(at, value);
        Ok(())
    }

    fn fence(&self) {
        self.0.borrow_mut().step();
    }
}

impl Memory {
    /// Pages of data, indices, features, changes.
    fn new(input: &mut Input<'_>, side: Side) -> Self {
        let pages = 1 + usize::from(input.u8() % 4);
        let mut shared = Shared {
            bytes: vec![0; (1 + pages) * DATA as usize],
            side,
            changes: Vec::new(),
            accesses: 0,
            write: 0,
            read: 0,
        };
        shared.set_word(FEATURE_BITS, input.u8().into());
        shared.set_word(WRITE_INDEX, input.u32());
        shared.set_word(READ_INDEX, input.u32());
        for _ in 0..input.u8() {
            shared.changes.push(Change::read(input));
        }
        shared.changes.reverse();
        Self(Rc::new(RefCell::new(shared)))
    }

    fn accesses(&self) -> u64 {
        self.0.borrow().accesses
    }
}

/// Both rings.
struct Channel {
    incoming: IncomingRing<Memory>,
    outgoing: OutgoingRing<Memory>,
    from_guest: Memory,
    to_guest: Memory,
    list: GpaList,
}

impl Channel {
    fn open(input: &mut Input<'_>) -> Option<Self> {
        let from_guest = Memory::new(input, Side::Consumer);
        let to_guest = Memory::new(input, Side::Producer);
        Some(Self {
            incoming: IncomingRing::new(from_guest.clone()).ok()?,
            outgoing: OutgoingRing::new(to_guest.clone(), MAX_PACKET).ok()?,
            from_guest,
            to_guest,
            list: GpaList::new(),
        })
    }

    /// One action of either side.
    fn act(&mut self, input: &mut Input<'_>) {
        let dead = (self.incoming.error(), self.outgoing.error());
        let accesses = (self.from_guest.accesses(), self.to_guest.accesses());
        match input.u8() % 12 {
            0 => {
                let len = usize::from(input.u8());
                self.from_guest.0.borrow_mut().send(input.bytes(len));
            }
            1 => self.guest_sends(input),
            2 => {
                let shared = &mut *self.to_guest.0.borrow_mut();
                let write = shared.word(WRITE_INDEX);
                shared.set_word(READ_INDEX, write);
            }
            3 => {
                let Change { at, value, .. } = Change::read(input);
                let ring = if input.u8() & 1 == 0 {
                    &self.from_guest
                } else {
                    &self.to_guest
                };
                ring.0.borrow_mut().set_word(at, value);
            }
            4 => self.read(input.u8()),
            5 => {
                let _ = self.incoming.finish();
            }
            6 => {
                let _ = self.incoming.publish();
            }
            7 => {
                let _ = self.incoming.mask();
            }
            8 => self.write(input),
            9 => {
                let _ = self.outgoing.publish();
            }
            10 => {
                let request = self.outgoing.request_room(input.u16().into());
                assert_eq!(request.err(), self.outgoing.error());
            }
            _ => {
                let ranges = vec![TransferPageRange::default(); input.u8().into()];
                let result = self
                    .outgoing
                    .write_transfer_pages(1, true, 2, &ranges, &[&[1; 9]]);
                self.check_write(result);
            }
        }
        self.check_dead(dead, accesses);
    }

    /// A dead ring stays dead, for the same reason, and nothing touches its memory any more.
    fn check_dead(&self, dead: (Option<RingError>, Option<RingError>), accesses: (u64, u64)) {
        if dead.0.is_some() {
            assert_eq!(self.incoming.error(), dead.0);
            assert_eq!(self.from_guest.accesses(), accesses.0);
        }
        if dead.1.is_some() {
            assert_eq!(self.outgoing.error(), dead.1);
            assert_eq!(self.to_guest.accesses(), accesses.1);
        }
    }

    /// A packet as the guest's driver writes it: any type, any lengths in the descriptor, so many bytes.
    fn guest_sends(&mut self, input: &mut Input<'_>) {
        let descriptor = PacketDescriptor {
            packet_type: PacketType(input.u8().into()),
            data_offset8: input.u16(),
            length8: input.u16(),
            flags: input.u8().into(),
            transaction_id: 7,
        };
        let len = usize::from(input.u8());
        let mut packet = descriptor.as_bytes().to_vec();
        packet.extend_from_slice(input.bytes(len));
        packet.resize(packet.len().next_multiple_of(8), 0);
        let shared = &mut *self.from_guest.0.borrow_mut();
        let start = shared.word(WRITE_INDEX);
        packet.extend_from_slice(&(u64::from(start) << 32).to_le_bytes());
        shared.send(&packet);
    }

    /// The host takes a packet, and so many bytes of it.
    fn read(&mut self, len: u8) {
        let size = self.from_guest.0.borrow().size();
        let mut packet = match self.incoming.read_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return,
            Err(error) => {
                assert_eq!(self.incoming.error(), Some(error));
                return;
            }
        };
        assert!(packet.packet_type() != PacketType::INVALID);
        assert!(packet.payload_len() < size);
        let mut payload = vec![0xA5; usize::from(len) * 16];
        let copied = packet.read_payload(&mut payload);
        if let Ok(copied) = copied {
            assert_eq!(copied, payload.len().min(packet.payload_len() as usize));
            assert!(payload[copied..].iter().all(|byte| *byte == 0xA5));
        }
        let result = packet.read_gpa_direct(&mut self.list);
        if result.is_ok() {
            self.check_list();
        }
        assert_eq!(result.err(), self.incoming.error());
    }

    fn check_list(&self) {
        let buffer = self.list.buffer();
        assert!(buffer.pieces().count() <= MAX_GPA_PAGES);
        assert!(buffer.len() <= MAX_GPA_PAGES as u64 * 4096);
        let end = buffer.pieces().fold(0, |at, Piece { offset, run }| {
            assert!(offset == at && run.len > 0 && run.gpa + run.len <= 1 << 52);
            at + run.len
        });
        assert_eq!(end, buffer.len());
    }

    /// The host writes a packet of any length.
    fn write(&mut self, input: &mut Input<'_>) {
        let payload = vec![0x5A; input.u16().into()];
        let (head, tail) = payload.split_at(payload.len() / 3);
        let result = match input.u8() % 3 {
            0 => self.outgoing.write_in_band(1, true, &[head, tail]),
            1 => self.outgoing.write_in_band(u64::MAX, false, &[&payload]),
            _ => self.outgoing.write_completion(3, &[tail, head]),
        };
        self.check_write(result);
    }

    fn check_write(&self, result: Result<(), WriteError>) {
        let size = self.to_guest.0.borrow().size();
        match result {
            Ok(()) => assert_eq!(self.outgoing.error(), None),
            Err(WriteError::Full { needed }) => assert!(needed < size, "it never fits"),
            Err(WriteError::TooLong(len)) => assert!(len > 16),
            Err(WriteError::Ring(error)) => assert_eq!(self.outgoing.error(), Some(error)),
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let Some(mut channel) = Channel::open(&mut input) else {
        return;
    };
    for _ in 0..MOST_ACTIONS {
        if input.is_over() {
            return;
        }
        channel.act(&mut input);
    }
});
