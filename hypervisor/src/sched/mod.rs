//! Who runs on a processor.
//!
//! Each processor has a [`RunQueue`] of its own: the root's VP, ahead of all others because it serves their devices and
//! intercepts, and the children's VPs that are at home there, round robin in slices of [`SLICE`]. The queue knows no
//! clock and no VP: the caller gives it the time, and small ids. Every operation but the construction takes constant
//! time, however many VPs there are.

mod entries;
mod queue;

#[cfg(test)]
mod tests;

pub use entries::{QueueFull, Slot};
pub use queue::{RunQueue, Turn};

use crate::time::RefTime;

/// How long a child's VP runs before the next one's turn, while others want the processor.
pub const SLICE: RefTime = RefTime::from_millis(10);
