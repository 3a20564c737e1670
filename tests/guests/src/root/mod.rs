//! What payload roots share: the root's side of the interface, checked call by call.
//!
//! A check that holds says `ok WHAT`; the first that does not says `FAIL: ...` and ends the machine.

#[macro_use]
pub mod report;
#[macro_use]
pub mod code;
pub mod busy;
pub mod call;
pub mod child;
pub mod interrupts;
pub mod memory;
pub mod pool;
pub mod processors;
pub mod removal;
pub mod stats;
pub mod trips;
pub mod vp;
pub mod way;
pub mod work;

pub use call::Calls;
pub use child::Child;
pub use memory::forget_translations;
pub use pool::Root;
pub use vp::Vp;
