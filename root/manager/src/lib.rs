//! The manager of the root partition: which VMs there are, what state each is in, and the console to command them.
//!
//! Everything here is a plain value: events go in as method calls on [`Manager`], effects come out through the trait
//! [`Host`], which the root kernel implements. So all of it runs in `cargo test`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod commands;
mod console;
mod counter_csv;
mod counter_table;
pub mod counters;
mod define;
pub mod definition;
mod events;
mod host;
mod input;
mod life;
mod manager;
mod memory;
mod news;
mod rates;
mod registers;
mod report;
mod ring;
mod stop_all;
pub mod stream;
#[cfg(test)]
mod tests;
mod top;
mod vm;

pub use balancer::HostReserve;
pub use definition::{Boot, Definition, DefinitionError, DynamicMemory, HOST_FILE, HostDefinition};
pub use host::{
    Counter, DebugFault, Event, Home, Host, MAX_NODES, MemoryReport, NodeMemory, PartitionMemory,
    VmId, WorkerEnd,
};
pub use life::State;
pub use manager::Manager;
pub use news::{WorkerNews, ascii};

/// Feeds arbitrary bytes to the definition parser and the command parser; must not panic. For the fuzz target.
pub fn fuzz(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    let _ = Definition::parse("vm/fuzz.toml", text);
    let _ = HostDefinition::parse(HOST_FILE, text);
    let _ = text
        .lines()
        .map(console::parse)
        .filter(Result::is_ok)
        .count();
}
