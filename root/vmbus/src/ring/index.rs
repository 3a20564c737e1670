//! Arithmetic of indices, and the checks of those that come from the guest.

use super::{
    DATA, FEATURE_BITS, FEATURE_PENDING_SEND_SIZE, Index, MAX_RING_SIZE, RingError, RingMemory,
};
use crate::protocol::PACKET_UNIT;

/// Size of the data area of a ring, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DataSize(pub(super) u32);

impl DataSize {
    /// Of the ring in this memory.
    pub(super) fn of(memory: &impl RingMemory) -> Result<Self, RingError> {
        let size = memory.size();
        if !(2 * DATA..=MAX_RING_SIZE).contains(&size) || !size.is_multiple_of(DATA) {
            return Err(RingError::Size(size));
        }
        Ok(Self(size - DATA))
    }

    /// Bytes from `from` forward to `to`. Both are valid indices.
    #[inline]
    pub(super) fn distance(self, from: u32, to: u32) -> u32 {
        if to >= from {
            to - from
        } else {
            self.0 - (from - to)
        }
    }

    /// `index` moved forward by `by`, which is at most the size.
    #[inline]
    pub(super) fn advance(self, index: u32, by: u32) -> u32 {
        let sum = index + by;
        if sum >= self.0 { sum - self.0 } else { sum }
    }

    /// An index that the guest can have written.
    #[inline]
    pub(super) fn check(self, index: Index, value: u32) -> Result<u32, RingError> {
        if value >= self.0 {
            return Err(RingError::IndexOutOfRange { index, value });
        }
        if !value.is_multiple_of(PACKET_UNIT) {
            return Err(RingError::IndexUnaligned { index, value });
        }
        Ok(value)
    }
}

/// Whether both sides look at the pending send size of this ring.
pub(super) fn has_flow_control(memory: &impl RingMemory) -> Result<bool, RingError> {
    Ok(memory.load_acquire(FEATURE_BITS)? & FEATURE_PENDING_SEND_SIZE != 0)
}
