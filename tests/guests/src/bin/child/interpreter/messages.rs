//! Control messages that a driver would not send.

use guests::program::Program;
use tlfs::HvStatus;
use zerocopy::IntoBytes;

use crate::calls;
use crate::counts::Counts;
use crate::pages::{PLAYGROUND, RINGS, outside, play_page, ring_page};
use crate::vmbus::{self, Vmbus, kind};

/// 240 bytes.
const WORDS: usize = 60;
/// Versions: some are too new or too old.
const VERSIONS: &[u32] = &[
    0x5_0003, 0x5_0003, 0x5_0000, 0x4_0001, 0x4_0000, 0x3_0000, 0x6_0000, 0,
];

/// A message of which most fields are possible. Whether it was accepted; that it was answered is counted with the answers.
pub fn operation(
    vmbus: &mut Vmbus,
    counts: &mut Counts,
    program: &mut Program<'_>,
    which: u8,
) -> bool {
    let mut words = [0u32; WORDS];
    let channel = channel(vmbus, program);
    let gpadl = gpadl(vmbus, program);
    let target = processor(program);
    let (kind, length): (u32, usize) = match which {
        0 => (kind::REQUEST_OFFERS, 8),
        1 | 2 => {
            words[2..7].copy_from_slice(&[
                channel,
                program.byte().into(),
                gpadl,
                target,
                pages(program),
            ]);
            (kind::OPEN, 148)
        }
        3 => {
            words[2] = channel;
            (kind::CLOSE, 12)
        }
        4 | 5 => {
            words[2..4].copy_from_slice(&[channel, gpadl]);
            (kind::TEARDOWN, 16)
        }
        6 => {
            words[2] = channel;
            (kind::RELID_RELEASED, 12)
        }
        7 | 8 => {
            words[2..4].copy_from_slice(&[channel, target]);
            (kind::MODIFY, 16)
        }
        9 => (kind::TL_CONNECT, 40),
        // These two end everything, so they are rare.
        10 if program.one_in(4) => {
            let sint = if program.one_in(4) {
                program.number(2) as u32
            } else {
                2
            };
            words[2..5].copy_from_slice(&[program.pick(VERSIONS), target, sint]);
            (kind::CONTACT, 40)
        }
        11 if program.one_in(8) => (kind::UNLOAD, 8),
        12 => {
            words[3] = gpadl;
            fill(program, &mut words[4..]);
            (kind::GPADL_BODY, 240)
        }
        _ => {
            fill(program, &mut words[2..12]);
            (program.below(27) as u32, 48)
        }
    };
    words[0] = kind;
    damage(program, &mut words, length);
    let length = match program.below(8) {
        0 => program.below(240) as usize,
        1 => 240,
        _ => length,
    };
    let connection = if program.one_in(16) {
        1
    } else {
        vmbus::CONNECTION
    };
    let payload = &words.as_bytes()[..length];
    calls::post(counts, connection, 1, payload) == HvStatus::SUCCESS
}

/// Lists of pages, that say the truth about their length or not. Whether the message was accepted.
pub fn list(vmbus: &mut Vmbus, counts: &mut Counts, program: &mut Program<'_>, which: u8) -> bool {
    let mut words = [0u32; WORDS];
    let channel = channel(vmbus, program);
    vmbus.last_gpadl = vmbus.last_gpadl.wrapping_add(1);
    let gpadl = if which == 0 {
        gpadl(vmbus, program)
    } else {
        vmbus.last_gpadl
    };
    let pages = 1 + program.below(26) as u32;
    let ranges = if which < 4 {
        program.below(4) as u32
    } else {
        1
    };
    // Some need bodies behind the header, which come or do not.
    let promised = match which {
        1 => program.number(2) as u32,
        2 | 3 => 8 + 8 * (pages + program.below(64) as u32),
        _ => 8 + 8 * pages,
    };
    let offset = if which < 6 {
        program.odd_value() as u32
    } else {
        0
    };
    let bytes = if which < 8 {
        program.odd_value() as u32
    } else {
        pages * 4096
    };
    words[..7].copy_from_slice(&[
        kind::GPADL,
        0,
        channel,
        gpadl,
        promised & 0xFFFF | ranges << 16,
        bytes,
        offset,
    ]);
    for place in words[7..].chunks_exact_mut(2).take(pages as usize) {
        let page = page(program, which);
        (place[0], place[1]) = (page as u32, (page >> 32) as u32);
    }
    let length = 28 + 8 * pages as usize;
    if which > 8 && program.one_in(4) {
        damage(program, &mut words, length);
    }
    let status = vmbus::post(counts, &words.as_bytes()[..length.min(240)]);
    if matches!(which, 2 | 3) {
        let mut body = [0u32; WORDS];
        body[..4].copy_from_slice(&[kind::GPADL_BODY, 0, 0, gpadl]);
        for place in body[4..].chunks_exact_mut(2) {
            place[0] = page(program, 9) as u32;
        }
        vmbus::post(counts, body.as_bytes());
    }
    status == HvStatus::SUCCESS
}

/// Number of a page: the host may write there, so it is none of the payload's own but those set apart.
fn page(program: &mut Program<'_>, which: u8) -> u64 {
    let gpa = match program.below(if which < 12 { 8 } else { 4 }) {
        0 => RINGS.gpa(),
        1 | 2 => ring_page(program),
        3..=6 => play_page(program),
        _ => return outside(program, PLAYGROUND.gpa()) >> 12,
    };
    gpa >> 12
}

fn channel(vmbus: &Vmbus, program: &mut Program<'_>) -> u32 {
    match program.below(8) {
        0 => program.odd_value() as u32,
        _ => {
            let channels = vmbus.channels.map(|channel| channel.relid);
            program.pick(&channels)
        }
    }
}

fn gpadl(vmbus: &Vmbus, program: &mut Program<'_>) -> u32 {
    match program.below(8) {
        0 => program.odd_value() as u32,
        _ => vmbus.last_gpadl.wrapping_sub(program.below(8) as u32),
    }
}

fn processor(program: &mut Program<'_>) -> u32 {
    match program.below(8) {
        0 => program.odd_value() as u32,
        1 => 1,
        2 => u32::MAX,
        _ => 0,
    }
}

/// Where the second ring starts.
fn pages(program: &mut Program<'_>) -> u32 {
    match program.below(4) {
        0 => program.odd_value() as u32,
        _ => 1 + program.below(4) as u32,
    }
}

fn fill(program: &mut Program<'_>, words: &mut [u32]) {
    for word in words.iter_mut().take(24) {
        *word = program.odd_value() as u32;
    }
}

/// One bit of the message, now and then.
fn damage(program: &mut Program<'_>, words: &mut [u32; WORDS], length: usize) {
    if program.one_in(8) {
        let bit = program.below((length.min(240) * 8) as u64) as usize;
        // Page numbers of a list stay what they are.
        if words[0] != kind::GPADL || bit < 28 * 8 {
            words[bit / 32] ^= 1 << (bit % 32);
        }
    }
}
