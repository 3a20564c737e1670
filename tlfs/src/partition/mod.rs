//! What a partition is made with: creation flags, privileges, features, properties; and system properties.

mod features;
mod flags;
mod privilege;
mod property;

pub use features::*;
pub use flags::*;
pub use privilege::*;
pub use property::*;
