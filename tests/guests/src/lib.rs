//! What payload guests and payload roots share.
//!
//! A *payload* is a small program that tests one corner of the hypervisor's interface from the inside. A **child** payload
//! is the kernel of a VM (`kernel = "payload/NAME"` in a definition); a payload **root** replaces the built-in root
//! kernel (`root = "payload/NAME"` in a scenario). A payload says `ok NAME` for each thing that held, panics at the first
//! one that did not, and ends the machine by the debug exit port.
//!
//! What does not need the machine is in modules of its own and is tested on the host; the rest is the module `metal`.
#![no_std]
#![allow(
    clippy::macro_metavars_in_unsafe,
    reason = "operands of `probe!` belong to its assembly, which the caller writes too"
)]

pub mod dm;
#[cfg(feature = "metal")]
pub mod metal;
pub mod program;
pub mod rng;
#[cfg(feature = "metal")]
#[macro_use]
pub mod root;
pub mod statistics;
pub mod tally;
