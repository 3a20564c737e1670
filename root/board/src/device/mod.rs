//! Devices: each a state machine that knows nothing of the others.
//!
//! Time is the reference time in units of 100 ns, given with every access.

pub mod console;
pub mod ioapic;
pub mod rtc;
pub mod testdev;
pub mod uart;

/// Reference time units in a second.
pub const TICKS_PER_SECOND: u64 = 10_000_000;
