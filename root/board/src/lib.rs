//! The virtual motherboard of a VM: what a guest finds around its processors.
//!
//! Everything here is a state machine without I/O. The worker process owns the partition and its memory; it hands the
//! board an intercept message, the VP's registers and access to guest memory, and carries out what the board asks
//! for: interrupts to assert, console bytes to print, a VM to end. So the whole board runs in `cargo test`.
//!
//! * [`load`] puts a kernel into guest memory and says in which state the first VP starts;
//! * [`acpi`] describes the board to the guest;
//! * [`device`] are the devices, one state machine each;
//! * [`exit`] turns an intercept into device accesses;
//! * [`direct`] is the board that has no firmware; [`Board`] is the one that a VM has.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod board;

pub mod acpi;
pub mod device;
pub mod direct;
pub mod exit;
pub mod layout;
pub mod load;
pub mod ram;

pub use board::{Board, BoardKind, Options, Start, StartError};
pub use exit::{Exception, Fault, Outcome, Registers, ResetReason};
pub use load::fuzz_bzimage;
