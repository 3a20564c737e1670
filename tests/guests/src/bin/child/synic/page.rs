//! The message page of the first processor.

use guests::metal::cell::Pages;
use guests::metal::memory;
use tlfs::{HV_X64_MSR_SIMP, HvMessageType};

use crate::{read, write};

static PAGE: Pages<4096> = Pages::new();
const SLOT: u64 = 256;
const FLAGS: u64 = 5;
const PAYLOAD: u64 = 16;
const PENDING: u8 = 1;

/// A message of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    pub timer: u32,
    pub expiration: u64,
    pub delivery: u64,
    /// Others wait behind it.
    pub pending: bool,
}

/// Lays the page; it begins empty, whatever is below.
pub fn lay() {
    PAGE.fill(0xFF);
    write(HV_X64_MSR_SIMP, PAGE.gpa() | 1);
    assert_eq!(read(HV_X64_MSR_SIMP), PAGE.gpa() | 1);
    assert_eq!(memory::read::<u64>(PAGE.gpa()), 0, "it is another page");
}

/// Takes the page away.
pub fn remove() {
    write(HV_X64_MSR_SIMP, 0);
    assert_eq!(memory::read::<u64>(PAGE.gpa()), u64::MAX, "what was below");
}

fn slot(sint: u32) -> u64 {
    PAGE.gpa() + u64::from(sint) * SLOT
}

/// The message in a slot, if there is one.
pub fn message(sint: u32) -> Option<Message> {
    let at = slot(sint);
    let kind = HvMessageType(memory::read(at));
    if kind == HvMessageType::NONE {
        return None;
    }
    assert_eq!(kind, HvMessageType::TIMER_EXPIRED);
    assert_eq!(memory::read::<u8>(at + 4), 24, "its size");
    Some(Message {
        timer: memory::read(at + PAYLOAD),
        expiration: memory::read(at + PAYLOAD + 8),
        delivery: memory::read(at + PAYLOAD + 16),
        pending: memory::read::<u8>(at + FLAGS) & PENDING != 0,
    })
}

/// Takes the message out of a slot, without saying so: whether others wait is looked up behind that, as it must be.
pub fn take(sint: u32) -> Option<Message> {
    let message = message(sint)?;
    memory::write(slot(sint), HvMessageType::NONE.0);
    core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
    let pending = memory::read::<u8>(slot(sint) + FLAGS) & PENDING != 0;
    Some(Message { pending, ..message })
}
