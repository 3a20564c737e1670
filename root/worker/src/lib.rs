//! The worker: the process of one VM.
//!
//! It creates its partition, gives it memory, starts the board on it and then serves intercepts until the guest or the
//! manager ends the run. What it needs from the outside is [`System`], which the root's kernel offers by system calls
//! (root-abi) and Linux by `/dev/mshv`; so everything here runs in `cargo test`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use manager::Definition;

mod crash;
mod exit;
mod post;
mod run;
mod setup;
mod system;
mod testdev;
mod vmbus;

pub use exit::Exit;
pub use run::Worker;
pub use setup::{SetupError, set_up};
pub use system::{CallError, Files, SharedRam, System, VpState};
pub use vmbus::{BulkMemory, CHANNELS, MAX_PIN_BYTES};

#[cfg(test)]
mod tests;

/// The life of a worker: reads the definition, sets the VM up and runs it to its end.
pub fn live<S: System>(system: S, definition: &[u8], files: &impl Files) -> Exit {
    let vm = core::str::from_utf8(definition)
        .map_err(|_| SetupError::NotText)
        .and_then(|text| Ok(Definition::parse("definition", text)?));
    match vm.and_then(|vm| set_up(system, &vm, files)) {
        Ok(mut worker) => worker.run(),
        Err(error) => error.into(),
    }
}
