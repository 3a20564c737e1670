//! Intel VMX.

mod bitmaps;
pub mod capabilities;
pub mod controls;

pub use bitmaps::PERMISSIONS;
