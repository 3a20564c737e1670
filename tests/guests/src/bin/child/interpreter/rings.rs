//! What is written into rings.

use guests::metal::cell::Pages;
use guests::metal::memory;
use guests::program::Program;

use crate::counts::Counts;
use crate::pages::{CHANNELS, RING_PAGES};
use crate::vmbus::{self, Vmbus, ring_gpa};

const WRITE_INDEX: u64 = 0;
const READ_INDEX: u64 = 4;
const MASK: u64 = 8;
const PENDING: u64 = 12;
const FEATURES: u64 = 64;
/// Bytes of data of a ring.
const DATA: u32 = (RING_PAGES as u32 - 1) * 4096;
/// Bytes of a descriptor and of a trailer.
const DESCRIPTOR: u32 = 16;
const TRAILER: u32 = 8;

/// A packet that came.
static PACKET: Pages<{ 2 * 4096 }> = Pages::new();

/// A ring, in memory that nobody else sees (the host apart).
#[derive(Clone, Copy)]
struct Ring {
    gpa: u64,
}

impl Ring {
    /// Guest to host, and host to guest.
    fn pair(channel: usize) -> (Self, Self) {
        let gpa = ring_gpa(channel);
        let other = gpa + (RING_PAGES * 4096) as u64;
        (Self { gpa }, Self { gpa: other })
    }

    fn word(self, at: u64) -> u32 {
        memory::read(self.gpa + at)
    }

    fn set_word(self, at: u64, value: u32) {
        memory::write(self.gpa + at, value);
    }

    /// An index, whatever is there.
    fn index(self, at: u64) -> u32 {
        (self.word(at) % DATA) & !7
    }

    fn place(self, at: u32) -> u64 {
        self.gpa + 4096 + u64::from(at % DATA)
    }

    /// Writes words from an index on, which wraps.
    fn put(self, at: u32, words: impl Iterator<Item = u64>) {
        for (at, word) in (at..).step_by(8).zip(words) {
            memory::write(self.place(at), word);
        }
    }

    /// Room for a packet.
    fn has_room(self, len: u32) -> bool {
        let used = (self.index(WRITE_INDEX) + DATA - self.index(READ_INDEX)) % DATA;
        DATA - used > len
    }

    fn advance(self, index: u64, len: u32) {
        let at = self.index(index);
        self.set_word(index, (at + len) % DATA);
    }
}

/// What a descriptor says.
struct Descriptor {
    kind: u16,
    offset: u16,
    length: u16,
    flags: u16,
}

impl Descriptor {
    /// The truth about an in-band packet.
    fn of(payload: u32) -> Self {
        Self {
            kind: 6,
            offset: 2,
            length: ((DESCRIPTOR + payload) / 8) as u16,
            flags: 0,
        }
    }

    fn word(&self) -> u64 {
        [self.kind, self.offset, self.length, self.flags]
            .iter()
            .rev()
            .fold(0, |sum, part| sum << 16 | u64::from(*part))
    }
}

/// Writes something into the rings of a channel, and signals it. Whether the channel was open still.
pub fn operation(
    vmbus: &mut Vmbus,
    counts: &mut Counts,
    program: &mut Program<'_>,
    which: u8,
) -> bool {
    let number = an_open_one(vmbus, counts, program);
    let (up, down) = Ring::pair(number);
    let value = program.odd_value() as u32;
    match which {
        // Packets that are what they say, with anything in them.
        0..=5 => packet(up, program, |_, descriptor| descriptor),
        6 | 7 => packet(up, program, lie),
        8 => packet(up, program, |program, descriptor| Descriptor {
            kind: program.pick(&[0, 1, 7, 8, 9, 9, 9, 0xA, 0xB, 0xC, 0xFFFF]),
            offset: 2 + program.below(4) as u16,
            ..descriptor
        }),
        9 => up.set_word(WRITE_INDEX, value),
        10 => down.set_word(READ_INDEX, value),
        11 => up.advance(WRITE_INDEX, 8 * program.below(1024) as u32),
        12 => down.advance(READ_INDEX, 8 * program.below(64) as u32),
        // What is the other side's.
        13 => up.set_word(program.pick(&[READ_INDEX, MASK]), value),
        14 => down.set_word(program.pick(&[WRITE_INDEX, PENDING, MASK]), value),
        _ => up.set_word(program.pick(&[PENDING, FEATURES]), value),
    }
    send(vmbus, counts, number)
}

/// A descriptor that is not true.
fn lie(program: &mut Program<'_>, descriptor: Descriptor) -> Descriptor {
    let odd = program.odd_value() as u16;
    match program.below(4) {
        0 => Descriptor {
            offset: odd,
            ..descriptor
        },
        1 => Descriptor {
            flags: odd,
            ..descriptor
        },
        _ => Descriptor {
            length: odd,
            ..descriptor
        },
    }
}

/// Writes a packet with a short payload.
fn packet(
    ring: Ring,
    program: &mut Program<'_>,
    change: impl FnOnce(&mut Program<'_>, Descriptor) -> Descriptor,
) {
    let most = if program.one_in(16) { 512 } else { 16 };
    let payload = 8 * program.below(most) as u32;
    let len = DESCRIPTOR + payload + TRAILER;
    if !ring.has_room(len) {
        return;
    }
    let descriptor = change(program, Descriptor::of(payload));
    let start = ring.index(WRITE_INDEX);
    ring.put(start, [descriptor.word(), program.odd_value()].into_iter());
    // A few words of its own; behind them is what was there.
    let words = payload / 8;
    for word in 0..words.min(8) {
        memory::write(
            ring.place(start + DESCRIPTOR + word * 8),
            program.odd_value(),
        );
    }
    memory::write(
        ring.place(start + DESCRIPTOR + payload),
        u64::from(start) << 32,
    );
    ring.advance(WRITE_INDEX, len);
}

/// A channel that is open; one that is not is opened, mostly.
fn an_open_one(vmbus: &mut Vmbus, counts: &mut Counts, program: &mut Program<'_>) -> usize {
    let number = program.below(CHANNELS as u64) as usize;
    if !vmbus.channels[number].is_open && !program.one_in(8) {
        let is_open = vmbus.reopen(counts, number);
        // Nobody hears, or nothing arrives here.
        if !is_open && vmbus.may_begin && program.one_in(4) {
            vmbus.begin(counts);
        }
    }
    number
}

/// Signals, and counts what was taken.
fn send(vmbus: &mut Vmbus, counts: &mut Counts, number: usize) -> bool {
    let (up, _) = Ring::pair(number);
    let before = up.word(READ_INDEX);
    let was_open = vmbus::signal(counts, &mut vmbus.channels[number]);
    counts.taken += u64::from(was_open && up.word(READ_INDEX) != before);
    was_open
}

/// Only signals. Whether the channel was open still.
pub fn signal(vmbus: &mut Vmbus, counts: &mut Counts, program: &mut Program<'_>) -> bool {
    let number = an_open_one(vmbus, counts, program);
    send(vmbus, counts, number)
}

/// Takes a packet of the host's, and answers it: rightly, or nearly so. Whether there was one and the channel open still.
pub fn answer(
    vmbus: &mut Vmbus,
    counts: &mut Counts,
    program: &mut Program<'_>,
    which: u8,
) -> bool {
    let number = an_open_one(vmbus, counts, program);
    let (up, down) = Ring::pair(number);
    let Some((transaction, length)) = take(down) else {
        return false;
    };
    counts.packets += 1;
    reply(program, which);
    let transaction = if which == 1 {
        program.odd_value()
    } else {
        transaction
    };
    let length = if which == 2 {
        program.below(u64::from(length) + 1) as u32 & !7
    } else {
        length
    };
    let len = DESCRIPTOR + length + TRAILER;
    if !up.has_room(len) {
        return false;
    }
    let start = up.index(WRITE_INDEX);
    up.put(
        start,
        [Descriptor::of(length).word(), transaction].into_iter(),
    );
    let words = (0..u64::from(length) / 8).map(|word| memory::read(PACKET.gpa() + word * 8));
    up.put(start + DESCRIPTOR, words);
    up.put(
        start + DESCRIPTOR + length,
        core::iter::once(u64::from(start) << 32),
    );
    up.advance(WRITE_INDEX, len);
    send(vmbus, counts, number)
}

/// Takes a packet: its transaction, and the bytes of its payload, which are in [`PACKET`].
fn take(ring: Ring) -> Option<(u64, u32)> {
    let (write, read) = (ring.word(WRITE_INDEX), ring.index(READ_INDEX));
    // An index of ours that was damaged may lead anywhere.
    if write == read || write >= DATA {
        return None;
    }
    let descriptor = memory::read::<u64>(ring.place(read));
    let (offset, length) = (descriptor >> 16 & 0xFFFF, descriptor >> 32 & 0xFFFF);
    let length = length as u32 * 8;
    if offset != 2 || !(DESCRIPTOR..DATA - TRAILER).contains(&length) {
        return None;
    }
    let transaction = memory::read(ring.place(read + 8));
    let payload = length - DESCRIPTOR;
    for word in 0..payload / 8 {
        let value = memory::read::<u64>(ring.place(read + DESCRIPTOR + word * 8));
        memory::write(PACKET.gpa() + u64::from(word) * 8, value);
    }
    ring.advance(READ_INDEX, length + TRAILER);
    Some((transaction, payload))
}

/// Makes the packet an answer to itself (vmbus sheet 10.1, 10.2), and then maybe not quite.
fn reply(program: &mut Program<'_>, which: u8) {
    const KIND: u64 = 12;
    const STATUS: u64 = 20;
    const FLAGS: u64 = 25;
    const FRAMEWORKS: u64 = 28;
    const MESSAGES: u64 = 30;
    const VERSIONS: u64 = 36;
    let at = |offset| PACKET.gpa() + offset;
    if memory::read::<u16>(at(KIND)) == 0 {
        // The last framework, and one of the messages.
        let frameworks = u64::from(memory::read::<u16>(at(FRAMEWORKS)).clamp(1, 16));
        let messages = u64::from(memory::read::<u16>(at(MESSAGES)).clamp(1, 16));
        let message = frameworks + program.below(messages);
        let framework = memory::read::<u32>(at(VERSIONS) + (frameworks - 1) * 4);
        let message = memory::read::<u32>(at(VERSIONS) + message * 4);
        memory::write(at(FRAMEWORKS), 1u16);
        memory::write(at(MESSAGES), 1u16);
        memory::write(at(VERSIONS), framework);
        memory::write(at(VERSIONS + 4), message);
    }
    memory::write(at(FLAGS), 5u8);
    match which {
        3 => memory::write(at(STATUS), program.pick(&[0x8000_4005u32, 0x8007_0103, 1])),
        4..=6 => {
            let offset = program.below(64);
            memory::write(at(offset), program.byte());
        }
        7 => {
            let offset = program.below(1024) * 4;
            memory::write(at(offset), program.odd_value() as u32);
        }
        _ => {}
    }
}
