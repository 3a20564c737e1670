//! The event flags page as memory that is shared with the guest.

use core::sync::atomic::{AtomicU64, Ordering};

use tlfs::{HV_EVENT_FLAGS_COUNT, HV_SYNIC_SINT_COUNT};

use super::Sint;

/// Words of the flags of a SINT.
const WORDS: usize = HV_EVENT_FLAGS_COUNT as usize / 64;

/// The SIEF page of a VP: 2048 flags for each SINT. The guest clears them while they are set here, so all are atomics.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct EventFlagsPage {
    sints: [[AtomicU64; WORDS]; HV_SYNIC_SINT_COUNT],
}

const _: () = assert!(size_of::<EventFlagsPage>() == 4096);

impl EventFlagsPage {
    /// No flag set, as a page is when it is created.
    pub const fn new() -> Self {
        Self {
            sints: [const { [const { AtomicU64::new(0) }; WORDS] }; HV_SYNIC_SINT_COUNT],
        }
    }

    /// Sets a flag; `Some(true)` if it was clear. `None` if there is no such flag.
    ///
    /// Its old value decides about the interrupt, in one step with the change: the guest may clear it at any moment (guest
    /// sheet, traps 17 and 18).
    pub fn set(&self, sint: Sint, flag: u16) -> Option<bool> {
        let flags = &self.sints[sint.index()];
        let word = flags.get(usize::from(flag / 64))?;
        let bit = 1 << (flag % 64);
        Some(word.fetch_or(bit, Ordering::SeqCst) & bit == 0)
    }

    /// Clears all flags.
    pub fn clear(&self) {
        let words = self.sints.iter().flatten();
        words.for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

impl Default for EventFlagsPage {
    fn default() -> Self {
        Self::new()
    }
}
