//! The message page of the first processor.

use guests::metal::cell::Pages;
use guests::metal::cpu::{read_msr, write_msr};
use guests::metal::memory;
use guests::metal::slot::Slot;
use tlfs::{HV_X64_MSR_SIMP, HvMessageType};

static PAGE: Pages<4096> = Pages::new();

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
    write_msr(HV_X64_MSR_SIMP, PAGE.gpa() | 1);
    assert_eq!(read_msr(HV_X64_MSR_SIMP), PAGE.gpa() | 1);
    assert_eq!(memory::read::<u64>(PAGE.gpa()), 0, "it is another page");
}

/// Takes the page away.
pub fn remove() {
    write_msr(HV_X64_MSR_SIMP, 0);
    assert_eq!(memory::read::<u64>(PAGE.gpa()), u64::MAX, "what was below");
}

/// The message in a slot, if there is one.
pub fn message(sint: u32) -> Option<Message> {
    let slot = Slot::of(&PAGE, sint);
    let kind = slot.kind();
    if kind == HvMessageType::NONE {
        return None;
    }
    assert_eq!(kind, HvMessageType::TIMER_EXPIRED);
    assert_eq!(slot.size(), 24, "its size");
    Some(Message {
        timer: slot.payload(0),
        expiration: slot.payload(8),
        delivery: slot.payload(16),
        pending: slot.is_pending(),
    })
}

/// Takes the message out of a slot, without saying so: whether others wait is looked up behind that, as it must be.
pub fn take(sint: u32) -> Option<Message> {
    let message = message(sint)?;
    let slot = Slot::of(&PAGE, sint);
    slot.empty();
    let pending = slot.is_pending();
    Some(Message { pending, ..message })
}
