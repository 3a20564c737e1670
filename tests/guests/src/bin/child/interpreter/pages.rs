//! The memory that programs may harm, and the memory that they may not.

use guests::metal::cell::Pages;
use guests::program::Program;

/// Where parameters of hypercalls are, and pages of lists that are no rings.
pub static PLAYGROUND: Pages<{ 32 * 4096 }> = Pages::new();
/// What may be covered by pages that cannot be written: nobody writes here.
static COVERED: Pages<{ 4 * 4096 }> = Pages::new();
/// Messages and event flags.
pub static MESSAGES: Pages<4096> = Pages::new();
pub static FLAGS: Pages<4096> = Pages::new();
/// Parameters that are as they should be.
pub static INPUT: Pages<4096> = Pages::new();

/// Both rings of each channel, one after the other.
pub static RINGS: Pages<{ CHANNELS * CHANNEL_PAGES * 4096 }> = Pages::new();
/// Channels with rings.
pub const CHANNELS: usize = 4;
/// Pages of a ring, its header included.
pub const RING_PAGES: usize = 3;
/// Pages of the two rings of a channel.
pub const CHANNEL_PAGES: usize = 2 * RING_PAGES;

/// End of the RAM that the definition gives.
const RAM_END: u64 = 16 << 20;

/// A page of the playground.
pub fn play_page(program: &mut Program<'_>) -> u64 {
    PLAYGROUND.gpa() + program.below(32) * 4096
}

/// A page that may become one that cannot be written.
pub fn covered_page(program: &mut Program<'_>) -> u64 {
    COVERED.gpa() + program.below(4) * 4096
}

/// A page of a ring.
pub fn ring_page(program: &mut Program<'_>) -> u64 {
    RINGS.gpa() + program.below((CHANNELS * CHANNEL_PAGES) as u64) * 4096
}

/// An address as parameters dislike them, but none whose change would end the payload itself.
pub fn address(program: &mut Program<'_>) -> u64 {
    let page = play_page(program);
    let low = program.number(2) & 0xFFF;
    match program.below(8) {
        // With room behind it.
        0..=2 => page,
        3 => page | low & !7,
        // Near the page's end.
        4 => page | (0xFFF - (low & 63)),
        5 => page | low,
        6 => covered_page(program) | low & !7,
        _ => outside(program, page),
    }
}

/// Any address but those of the payload, in whose place there is `other`.
pub fn outside(program: &mut Program<'_>, other: u64) -> u64 {
    match program.odd_value() {
        value if value < RAM_END || value.wrapping_add(1 << 20) < RAM_END => other,
        value => value,
    }
}
