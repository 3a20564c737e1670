//! Input and output blocks of hypercalls (root sheet A.3, guest sheet 6).
//!
//! `HvInput…` is the fixed part of the input, `HvOutput…` of the output. Where a list follows, the structure's comment
//! names its element; the list starts right after the fixed part, or after the variable header. Fields called
//! `reserved` or `padding` are zero unless the comment says that Linux leaves garbage there.

mod device;
mod flush;
mod intercept;
mod interrupt;
mod memory;
mod partition;
mod port;
mod stats;
mod system;
mod translate;
mod vp;
mod vp_state;

pub use device::*;
pub use flush::*;
pub use intercept::*;
pub use interrupt::*;
pub use memory::*;
pub use partition::*;
pub use port::*;
pub use stats::*;
pub use system::*;
pub use translate::*;
pub use vp::*;
pub use vp_state::*;
