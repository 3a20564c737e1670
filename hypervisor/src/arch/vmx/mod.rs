//! Intel VMX.

mod bitmaps;
mod capabilities;
mod checks;
mod controls;
mod enable;
mod errata;
mod events;
mod exits;
mod fields;
mod hardware;
mod live;
mod pae;
mod registers;
mod run;
#[cfg(any(test, feature = "test-support"))]
mod testing;
#[cfg(test)]
mod tests;
mod vcpu;
mod vmcs;

pub use bitmaps::PERMISSIONS;
pub use capabilities::{Capabilities, VPIDS, probe};
pub use enable::Processor;
pub use vcpu::Vcpu;
