//! Intel VMX.

pub mod capabilities;
pub mod controls;
