//! The built-in root partition's kernel: what can be decided without a machine.
//!
//! The kernel proper is the binary of the same name (feature `metal`): entry, interrupts, context switches, devices.
//! Everything here is plain values and state machines, so it is tested on the host: the frame allocator and its books,
//! NUMA nodes, page tables, the checks of user ranges, process images, scheduling, the life of a partition and the deposits for it, and how its
//! memory comes and goes.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod addr;
pub mod backing;
pub mod events;
pub mod frame_tables;
pub mod frames;
pub mod guest_memory;
pub mod hv;
pub mod image;
pub mod inbox;
pub mod paging;
pub mod ring;
pub mod rtc;
pub mod s5;
pub mod sched;
pub mod srat;
