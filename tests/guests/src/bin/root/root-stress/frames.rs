//! Frames that move between the children.

use guests::check;
use guests::root::Root;
use guests::root::memory::{self, PAGE};
use spin::Mutex;

/// How many there are: fewer than all windows have pages, so they move.
const COUNT: usize = 320;

static FREE: Mutex<([u64; COUNT], usize)> = Mutex::new(([0; COUNT], 0));

/// Takes them from the root's memory.
pub fn fill(root: &mut Root) {
    for _ in 0..COUNT {
        let frame = root.memory.frame();
        give(frame);
    }
}

/// Gives them back: all must be there.
pub fn empty(root: &mut Root) {
    for _ in 0..COUNT {
        let frame = take();
        check!(frame.is_some(), "a frame is missing");
        root.memory.give_back(frame.unwrap_or(0));
    }
}

/// One that is nobody's.
pub fn take() -> Option<u64> {
    let (frames, count) = &mut *FREE.lock();
    *count = count.checked_sub(1)?;
    Some(frames[*count])
}

/// One that is nobody's any more. It is written at once, so that whoever still has a translation to it shows.
pub fn give(frame: u64) {
    pattern(frame, 0xDEAD_0000);
    let (frames, count) = &mut *FREE.lock();
    frames[*count] = frame;
    *count += 1;
}

/// Writes a pattern to all of a frame.
pub fn pattern(frame: u64, word: u32) {
    let both = u64::from(word) << 32 | u64::from(word);
    for at in (0..PAGE).step_by(8) {
        memory::write(frame + at, both);
    }
}
