//! What the commands need beyond this repository, found or fetched, each once.

pub mod apt;
pub mod bochs;
pub mod daemons;
pub mod guest;
mod initramfs;
pub mod suite;
pub mod toolchain;
