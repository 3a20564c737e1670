//! What can be wrong with a ring.

use super::Gone;
use crate::protocol::PacketType;

/// One of the two indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// Of the producer.
    Write,
    /// Of the consumer.
    Read,
}

/// Why a ring is dead. All but [`RingError::Gone`] and [`RingError::Size`] are the guest's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Its memory is gone.
    #[error("the ring's memory is gone")]
    Gone,
    /// Not a header page and at least one page of data, or too large.
    #[error("no ring has {0} bytes")]
    Size(u32),
    /// An index outside of the data.
    #[error("{index:?} index {value:#x} is outside of the ring")]
    IndexOutOfRange {
        /// Which.
        index: Index,
        /// Its value.
        value: u32,
    },
    /// An index that is no multiple of 8.
    #[error("{index:?} index {value:#x} is no multiple of 8")]
    IndexUnaligned {
        /// Which.
        index: Index,
        /// Its value.
        value: u32,
    },
    /// The guest took back what it had written, or overwrote what is not yet free.
    #[error("write index moved backwards from {from:#x} to {to:#x}")]
    WriteIndexBackwards {
        /// Index before.
        from: u32,
        /// Index after.
        to: u32,
    },
    /// The guest read what was not written, or moved its index backwards.
    #[error("read index moved from {from:#x} to {to:#x}, which was not written")]
    ReadIndexBeyondWritten {
        /// Index before.
        from: u32,
        /// Index after.
        to: u32,
    },
    /// What was written is shorter than the shortest packet.
    #[error("{used} bytes are no packet")]
    NoPacket {
        /// Bytes written.
        used: u32,
    },
    /// Packet type 0.
    #[error("packet of type {0:?}")]
    PacketType(PacketType),
    /// The payload starts in the descriptor.
    #[error("payload starts at unit {0}, in the descriptor")]
    DataOffset(u16),
    /// The payload starts behind the packet's end.
    #[error("packet of {length8} units has its payload at unit {data_offset8}")]
    Length {
        /// Length in units.
        length8: u16,
        /// Start of the payload in units.
        data_offset8: u16,
    },
    /// The packet is longer than what was written.
    #[error("packet of {len} bytes, {used} are written")]
    BeyondWritten {
        /// Bytes with trailer.
        len: u32,
        /// Bytes written.
        used: u32,
    },
    /// GPA direct ranges do not fit between descriptor and payload.
    #[error("GPA ranges do not fit into the packet")]
    RangesTruncated,
    /// More GPA direct ranges than [`super::MAX_GPA_RANGES`].
    #[error("{0} GPA ranges in a packet")]
    TooManyRanges(u32),
    /// More pages than [`super::MAX_GPA_PAGES`].
    #[error("more than {} pages in a packet", super::MAX_GPA_PAGES)]
    TooManyPages,
    /// A range that starts behind its first page.
    #[error("GPA range starts at byte {0} of its first page")]
    RangeOffset(u32),
    /// A page number that no guest can have.
    #[error("page number {0:#x}")]
    PageNumber(u64),
}

impl From<Gone> for RingError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}
