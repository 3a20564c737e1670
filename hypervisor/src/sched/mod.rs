//! Who runs on a processor.
//!
//! Each processor has a [`RunQueue`] of its own: the root's VP, ahead of all others because it serves their devices and
//! intercepts, and the children's VPs that are at home there. These share what the root leaves by their partitions'
//! [`Shares`], in turns of at most a [`SLICE`]. The queue knows no clock and no VP: the caller gives it the time, and small
//! ids.

mod entries;
mod queue;
mod reserves;
mod shares;

#[cfg(test)]
mod tests;

pub use entries::{QueueFull, Slot};
pub use queue::{RunQueue, Turn};
pub use reserves::{Reservation, Reserves, TooMuch};
pub use shares::{Account, PERIOD, Shares, SharesCell, WHOLE};

use crate::time::RefTime;

/// How long a child's VP runs before the next one's turn, while others want the processor.
pub const SLICE: RefTime = RefTime::from_millis(10);

/// How long a child's VP runs at least, if it wants to, before one that wakes takes its turn.
pub const SHORTEST: RefTime = RefTime::from_millis(1);
