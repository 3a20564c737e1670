//! What a guest with Dynamic Memory is made of: its memory, every page of it with a pattern of its own, and the driver that talks
//! to the host.

mod arena;
mod driver;

pub use arena::Arena;
pub use driver::{Buffer, Driver, INTERFACE};

/// Pages of a MiB.
pub const MIB: u64 = 256;
