//! The run loop of a processor: whose turn it is, into the guest, and what its exits mean.
//!
//! | File | Job |
//! |---|---|
//! | `cpu` | what a processor has |
//! | `turn` | choosing a VP, switching, idling |
//! | `enter` | into the guest and back |
//! | `events` | interrupts and exceptions into a VP |
//! | `interrupts` | physical interrupts, timers, messages between APICs |
//! | `exits` | from an exit to the code that deals with it |
//! | `instruction` | instructions that the hypervisor completes for the guest |
//! | `control` | control registers and XCR0 |
//! | `msr` | RDMSR and WRMSR |
//! | `fault` | second-level translation faults |
//! | `apic_page` | accesses to the page of a local APIC in xAPIC mode |
//! | `pae` | page directory pointers of VPs whose control registers were set from outside |
//! | `synic` | SynIC and synthetic timers |
//! | `mail` | what other processors want |
//! | `figures` | counters that are shown later than they are counted |
//! | `trace` | exits as entries of the event log |

mod apic_page;
mod control;
pub mod cpu;
mod enter;
mod events;
mod exits;
mod fault;
mod figures;
pub mod instruction;
pub mod interrupts;
mod mail;
pub mod msr;
mod pae;
mod processors;
mod start;
mod synic;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod timers;
mod trace;
mod turn;

pub use cpu::{Cpu, MAX_QUEUE};
pub use start::start;
