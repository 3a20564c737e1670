//! Guests that do one access a step, as Linux's ring code does them.

use zerocopy::{FromBytes, IntoBytes};

use super::world::*;
use crate::protocol::{PacketDescriptor, PacketType};
use crate::ring::*;

/// Reads the host's ring and checks what it reads.
pub struct Consumer {
    /// Masks signals while it reads.
    pub masks: bool,
    /// Times that it moved the read index.
    pub publications: usize,
    pub received: u64,
    state: Reading,
    read: u32,
    published: u32,
    write: u32,
    consumed: u32,
    ends: bool,
}

#[derive(Clone, Copy)]
enum Reading {
    Start,
    Asleep,
    Mask,
    Look,
    Packet,
    Publish,
    Fence,
    Pending,
    Room(u32),
    Unmask,
    LastFence,
    LastLook,
}

impl Consumer {
    pub fn new(masks: bool) -> Self {
        Self {
            masks,
            publications: 0,
            received: 0,
            state: Reading::Start,
            read: 0,
            published: 0,
            write: 0,
            consumed: 0,
            ends: false,
        }
    }

    fn begin(&self) -> Reading {
        if self.masks {
            Reading::Mask
        } else {
            Reading::Look
        }
    }

    fn published(&self) -> Reading {
        match (self.ends, self.masks) {
            (false, _) => Reading::Look,
            (true, true) => Reading::Unmask,
            (true, false) => Reading::LastFence,
        }
    }

    fn packet(&mut self, cpu: &mut Cpu<'_>) -> Reading {
        let bytes = cpu.read_data(self.read, 16);
        let descriptor = PacketDescriptor::read_from_bytes(&bytes).unwrap();
        let len = u32::from(descriptor.length8) * 8;
        let expected = payload(self.received);
        assert_eq!(descriptor.transaction_id, self.received);
        assert_eq!(len as usize, 16 + expected.len());
        let packet = cpu.read_data(self.read, len + 8);
        assert_eq!(packet[16..len as usize], expected);
        assert_eq!(
            packet[len as usize..],
            (u64::from(self.read) << 32).to_le_bytes()
        );
        self.received += 1;
        self.read = (self.read + len + 8) % SIZE;
        self.ends = false;
        match cpu.choices.below(3) {
            0 => Reading::Publish,
            _ => Reading::Look,
        }
    }
}

impl Guest for Consumer {
    fn step(&mut self, cpu: &mut Cpu<'_>) {
        self.state = match self.state {
            Reading::Start => {
                self.read = cpu.load(READ_INDEX);
                self.published = self.read;
                Reading::Asleep
            }
            Reading::Asleep if cpu.signals.to_guest => {
                cpu.signals.to_guest = false;
                self.begin()
            }
            Reading::Asleep => Reading::Asleep,
            Reading::Mask => {
                cpu.store(INTERRUPT_MASK, 1);
                Reading::Look
            }
            Reading::Look => {
                self.write = cpu.load(WRITE_INDEX);
                self.ends = self.write == self.read;
                if self.ends {
                    Reading::Publish
                } else {
                    Reading::Packet
                }
            }
            Reading::Packet => self.packet(cpu),
            Reading::Publish => {
                self.consumed = distance(self.published, self.read);
                self.published = self.read;
                if self.consumed == 0 {
                    self.published()
                } else {
                    self.publications += 1;
                    cpu.store(READ_INDEX, self.read);
                    Reading::Fence
                }
            }
            Reading::Fence => {
                cpu.fence();
                Reading::Pending
            }
            Reading::Pending => match cpu.load(PENDING_SEND_SIZE) {
                0 => self.published(),
                wanted => Reading::Room(wanted),
            },
            Reading::Room(wanted) => {
                let free = SIZE - distance(self.read, cpu.load(WRITE_INDEX));
                if free > wanted && free.saturating_sub(self.consumed) <= wanted {
                    cpu.signal_host();
                }
                self.published()
            }
            Reading::Unmask => {
                cpu.store(INTERRUPT_MASK, 0);
                Reading::LastFence
            }
            Reading::LastFence => {
                cpu.fence();
                Reading::LastLook
            }
            Reading::LastLook => {
                if cpu.load(WRITE_INDEX) == self.read {
                    Reading::Asleep
                } else {
                    self.begin()
                }
            }
        };
    }

    fn sleeps(&self) -> bool {
        matches!(self.state, Reading::Asleep)
    }
}

/// Writes packets into the guest's ring, and waits for room.
pub struct Producer {
    /// Times that it asked for room.
    pub wishes: usize,
    state: Writing,
    write: u32,
    old: u32,
    next: u64,
    wished: bool,
}

#[derive(Clone, Copy)]
enum Writing {
    Begin,
    Start,
    Packet,
    Index,
    Fence,
    Mask,
    Read,
    Wish,
    WishFence,
    WishLook,
    Asleep,
    Done,
}

impl Producer {
    pub fn new() -> Self {
        Self {
            wishes: 0,
            state: Writing::Begin,
            write: 0,
            old: 0,
            next: 0,
            wished: false,
        }
    }

    /// Bytes of the next packet.
    fn total(&self) -> u32 {
        16 + payload(self.next).len() as u32 + 8
    }

    fn has_room(&self, cpu: &Cpu<'_>) -> bool {
        SIZE - distance(cpu.load(READ_INDEX), self.write) > self.total()
    }

    fn packet(&mut self, cpu: &mut Cpu<'_>) {
        let payload = payload(self.next);
        let descriptor = PacketDescriptor {
            packet_type: PacketType::DATA_IN_BAND,
            data_offset8: 2,
            length8: 2 + payload.len() as u16 / 8,
            flags: 0,
            transaction_id: self.next,
        };
        let trailer = u64::from(self.write) << 32;
        let packet = [descriptor.as_bytes(), &payload, &trailer.to_le_bytes()].concat();
        let (head, tail) = packet.split_at(packet.len().min((SIZE - self.write) as usize));
        cpu.write(DATA + self.write, head);
        cpu.write(DATA, tail);
        self.old = self.write;
        self.write = (self.write + packet.len() as u32) % SIZE;
        self.next += 1;
    }
}

impl Guest for Producer {
    fn step(&mut self, cpu: &mut Cpu<'_>) {
        self.state = match self.state {
            Writing::Begin => {
                self.write = cpu.load(WRITE_INDEX);
                Writing::Start
            }
            Writing::Start if self.next == COUNT => Writing::Done,
            Writing::Start if !self.has_room(cpu) => Writing::Wish,
            Writing::Start => {
                if self.wished {
                    cpu.store(PENDING_SEND_SIZE, 0);
                    self.wished = false;
                }
                Writing::Packet
            }
            Writing::Packet => {
                self.packet(cpu);
                Writing::Index
            }
            Writing::Index => {
                cpu.store(WRITE_INDEX, self.write);
                Writing::Fence
            }
            Writing::Fence => {
                cpu.fence();
                Writing::Mask
            }
            Writing::Mask if cpu.load(INTERRUPT_MASK) == 0 => Writing::Read,
            Writing::Mask => Writing::Start,
            Writing::Read => {
                if cpu.load(READ_INDEX) == self.old {
                    cpu.signal_host();
                }
                Writing::Start
            }
            Writing::Wish => {
                cpu.store(PENDING_SEND_SIZE, self.total());
                self.wished = true;
                self.wishes += 1;
                Writing::WishFence
            }
            Writing::WishFence => {
                cpu.fence();
                Writing::WishLook
            }
            Writing::WishLook if self.has_room(cpu) => Writing::Start,
            Writing::WishLook => Writing::Asleep,
            Writing::Asleep if cpu.signals.to_guest => {
                cpu.signals.to_guest = false;
                Writing::Start
            }
            Writing::Asleep => Writing::Asleep,
            Writing::Done => Writing::Done,
        };
    }

    fn sleeps(&self) -> bool {
        matches!(self.state, Writing::Asleep | Writing::Done)
    }
}
