//! A slot of a message page, as a guest reads it (guest sheet 4.9).

use core::sync::atomic::{Ordering, fence};

use tlfs::HvMessageType;

use super::cell::Pages;
use super::memory;

const SIZE: u64 = 256;
const PAYLOAD_SIZE: u64 = 4;
const FLAGS: u64 = 5;
const PAYLOAD: u64 = 16;
const PENDING: u8 = 1;

/// The slot of a SINT.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    gpa: u64,
}

impl Slot {
    /// In this page, which is laid.
    #[inline(always)]
    pub fn of(page: &Pages<4096>, sint: u32) -> Self {
        Self {
            gpa: page.gpa() + u64::from(sint) * SIZE,
        }
    }

    /// Type of the message in it; NONE if there is none.
    #[inline(always)]
    pub fn kind(self) -> HvMessageType {
        HvMessageType(memory::read(self.gpa))
    }

    /// Bytes of the payload that count.
    pub fn size(self) -> u8 {
        memory::read(self.gpa + PAYLOAD_SIZE)
    }

    /// Whether others wait behind the message.
    #[inline(always)]
    pub fn is_pending(self) -> bool {
        memory::read::<u8>(self.gpa + FLAGS) & PENDING != 0
    }

    /// What the payload has from byte `at` on.
    #[inline(always)]
    pub fn payload<T: Copy>(self, at: u64) -> T {
        memory::read(self.gpa + PAYLOAD + at)
    }

    /// Takes the message out, without saying so. Whether others wait is to be looked up behind that.
    #[inline(always)]
    pub fn empty(self) {
        memory::write(self.gpa, HvMessageType::NONE.0);
        fence(Ordering::SeqCst);
    }
}
