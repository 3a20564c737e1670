//! The header page of a ring (section 7.1).

/// Where the producer's index lies: bytes from the start of the data.
pub const WRITE_INDEX: u32 = 0;
/// Where the consumer's index lies.
pub const READ_INDEX: u32 = 4;
/// Non-zero: the consumer does not want to be signalled. The consumer's.
pub const INTERRUPT_MASK: u32 = 8;
/// Bytes of room that the producer waits for; 0 for none. The producer's.
pub const PENDING_SEND_SIZE: u32 = 12;
/// Feature bits.
pub const FEATURE_BITS: u32 = 64;
/// Feature bit: [`PENDING_SEND_SIZE`] is looked at.
pub const FEATURE_PENDING_SEND_SIZE: u32 = 1;
/// Where the data starts: behind the header page.
pub const DATA: u32 = tlfs::HV_PAGE_SIZE as u32;

/// Most bytes of a ring with its header: more than a GPADL can have pages (8190), and so little that sums of a few
/// indices and packet lengths stay far from overflow.
pub const MAX_RING_SIZE: u32 = 1 << 26;
