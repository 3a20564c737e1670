//! The Partita microhypervisor: everything but the entry point, so that it can be tested on the host.
#![cfg_attr(not(test), no_std)]

pub mod apic;
pub mod arch;
pub mod boot;
pub mod cpu;
pub mod event_log;
pub mod hv;
pub mod hypercall;
pub mod insn;
pub mod intercept;
pub mod log;
pub mod lp;
pub mod mem;
pub mod partition;
pub mod port;
pub mod run;
pub mod sched;
pub mod stats;
pub mod synic;
pub mod time;

/// Takes the machine over. Never returns.
pub fn start(machine: boot::Machine) -> ! {
    ::log::info!("{}", machine.capabilities);
    ::log::info!("{:?}", machine.capabilities);
    run::start(machine)
}
