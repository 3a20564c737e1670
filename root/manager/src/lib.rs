//! The manager of the root partition: which VMs there are, what state each is in, and the console to command them.
//!
//! Everything here is a plain value: events go in as method calls on [`Manager`], effects come out through the trait
//! [`Host`], which the root kernel implements. So all of it runs in `cargo test`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod definition;
mod host;

pub use definition::{Boot, Definition, DefinitionError};
pub use host::{Counter, DebugFault, Event, Host, MemoryReport, PartitionMemory, VmId, WorkerEnd};

#[cfg(test)]
mod tests;
