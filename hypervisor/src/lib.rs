//! The Partita microhypervisor: everything but the entry point, so that it can be tested on the host.
#![cfg_attr(not(test), no_std)]

pub mod apic;
pub mod arch;
pub mod insn;
pub mod mem;
pub mod sched;
pub mod synic;
pub mod time;
