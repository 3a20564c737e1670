//! How much memory a guest may have, and what follows from that.

use board::layout::{FOUR_GIB, MMIO_START, PAGE, RamLayout};
use board::ram::RamMap;
use dynamic_memory::GuestPages;
use manager::definition::{DynamicMemory, USUAL_MAXIMUM};

use super::pins::MAX_BYTES;

/// What hot-added memory may leave free below it, twice: at the guest's unit, at most 2 GiB, and below the device window.
const SLACK: u64 = 2 << 30;

/// How much memory a guest may have, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What it starts with.
    pub startup: u64,
    /// The least.
    pub minimum: u64,
    /// The most.
    pub maximum: u64,
    /// The most that it has addresses for.
    pub addressable: u64,
}

/// A guest that would need longer addresses than there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "maximum: guests of this machine have addresses of {width} bits, which is enough for {} MiB and not for {} MiB; lower it to that",
    most >> 20,
    maximum >> 20
)]
pub struct TooLarge {
    /// What it may have, bytes.
    maximum: u64,
    /// What it can have, bytes.
    most: u64,
    /// Bits of its addresses.
    width: u64,
}

/// Most bits of a guest's addresses that the second-level tables translate.
const MOST_BITS: u64 = 48;

impl Limits {
    /// The limits of a guest that starts with `startup` bytes, on a machine whose guests have addresses of `width` bits, if that is
    /// known. The usual maximum is as much as there can be.
    ///
    /// # Errors
    /// It may have more than it can address.
    pub fn new(
        startup: u64,
        dynamic: &DynamicMemory,
        width: Option<u64>,
    ) -> Result<Self, TooLarge> {
        let width = width.unwrap_or(MOST_BITS).clamp(32, MOST_BITS);
        let addressable = (1 << width) - (FOUR_GIB - MMIO_START);
        let mut maximum = dynamic.maximum;
        if maximum > addressable && maximum == USUAL_MAXIMUM {
            maximum = addressable.max(startup);
        }
        if maximum > addressable {
            return Err(TooLarge {
                maximum,
                most: addressable,
                width,
            });
        }
        Ok(Self {
            startup,
            minimum: dynamic.minimum,
            maximum,
            addressable,
        })
    }

    /// Bytes of RAM that there have to be addresses for: more than the maximum, because new memory begins at multiples of the
    /// guest's unit, and not within the device window.
    pub fn reach(&self) -> u64 {
        let most = self.maximum.saturating_add(SLACK);
        let most = if most > MMIO_START {
            most.saturating_add(SLACK)
        } else {
            most
        };
        most.min(self.addressable)
    }

    /// Most bytes that the books of a guest with these limits take, whatever becomes of its memory: the book of its pages and the
    /// memory map, together 96 KiB for each GiB, and some 1.5 MiB; and for a moment a list of pages that it cannot give away.
    pub fn books(&self) -> u64 {
        let map = RamMap::most_bytes(RamLayout::new(self.reach()));
        let pages = GuestPages::most_bytes(self.maximum / PAGE);
        let pins = MAX_BYTES as u64;
        pages.saturating_add(map).saturating_add(pins)
    }
}
