//! The host side of Hyper-V Dynamic Memory for one VM: what Linux' `hv_balloon` talks to.
//!
//! [`DynamicMemory`] is the protocol as a value without I/O and without a clock. Whoever owns the VMBus channel tells
//! it that the channel opened or closed, what arrived and what time it is, and drains packets and events. Whoever
//! decides on sizes (the balancer) gives orders and reads [`Status`]. The machine memory is behind [`Memory`], and so
//! is the book of the VM's pages ([`GuestPages`]), the truth that all figures come from.
//!
//! After each call drain packets and events, and set the timer anew:
//!
//! * [`packet_len`](DynamicMemory::packet_len) is the most bytes that the next packet can have. Take it with
//!   [`take_packet`](DynamicMemory::take_packet) only if the ring has room for it, then send it in-band (type 6) with
//!   transaction id 0 and no completion asked for: memory that it names is backed when it is taken.
//! * [`take_event`](DynamicMemory::take_event) is what the manager may want to know.
//! * [`next_deadline`](DynamicMemory::next_deadline) is when [`tick`](DynamicMemory::tick) is wanted.
//!
//! # What holds whatever the guest sends
//!
//! * Only pages that the guest has listed in a BALLOON_RESPONSE, that are backed and not pinned, are taken from it;
//!   never on a request, a time-out or an id (N2, trap 4).
//! * Only pages that the present driver has listed, and that were not given back since, are named in an
//!   UNBALLOON_REQUEST; each is backed before (N6, N7).
//! * One operation at a time (N10). A guest that does not answer, or answers nonsense, keeps the memory that it has:
//!   it is a VM with static memory, and an event says so (N11).
//! * What a guest sends allocates nothing but bounded answers: the book is a map of bits, made when RAM is given.
//! * assigned = visible - ballooned + offered = startup + added - removed + offered, after every call.
//!
//! # Sources
//!
//! The project's sheet of Dynamic Memory, sections 1, 2 and 5, cited as "sheet" with section, invariant (N) or trap.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod balloon;
mod book;
mod clock;
mod event;
mod grow;
mod life;
mod memory;
mod order;
mod reports;
mod run;
mod search;
mod segment;
mod status;
#[cfg(test)]
mod tests;
mod vsp;

pub mod wire;

pub use balancer::pressure;
pub use book::{BookError, GuestPages, MAX_SEGMENTS};
pub use event::{Dropped, End, Event, Finished, HotAddOff, MAX_EVENTS, Oddity};
pub use life::{Missing, Touch};
pub use memory::{Memory, Pin};
pub use order::{Add, Refused};
pub use reports::Demand;
pub use run::PageRun;
pub use segment::PageState;
pub use status::{Counters, Status};
pub use vsp::{DynamicMemory, Settings};

/// A moment or a span of the hypervisor's reference time, in units of 100 ns.
pub type Time = u64;

/// Units of [`Time`] in a second.
pub const SECOND: Time = 10_000_000;

/// Interface type of the channel, `525074dc-8985-46e2-8057-a307dc18a502` in memory order (sheet 1.1). The instance is
/// the caller's to choose, one for each VM.
pub const INTERFACE: [u8; 16] = [
    0xdc, 0x74, 0x50, 0x52, 0x85, 0x89, 0xe2, 0x46, 0x80, 0x57, 0xa3, 0x07, 0xdc, 0x18, 0xa5, 0x02,
];

/// No request within this time of the capabilities: some versions of Windows crash (sheet 2.3, trap 18).
pub const QUIET: Time = 50 * SECOND;
/// A request or part that the ring has no room for is given up after this long.
pub const SEND_WITHIN: Time = 60 * SECOND;
/// A guest that returns no page for this long will return none (sheet 2.8, trap 13).
pub const BALLOON_WITHIN: Time = 60 * SECOND;
/// An unballoon is over after this long, answered or not: the memory is the guest's already.
pub const UNBALLOON_WITHIN: Time = 60 * SECOND;
/// A hot-add may take this long, and [`HOT_ADD_BLOCK_WITHIN`] for each block (trap 12).
pub const HOT_ADD_WITHIN: Time = 30 * SECOND;
/// Linux waits this long for each block to come online.
pub const HOT_ADD_BLOCK_WITHIN: Time = 5 * SECOND;
/// A guest that refused, or failed for the moment, is not asked again before.
pub const BACK_OFF: Time = 60 * SECOND;
/// Hot-added memory that becomes demand within this time has not been put to use (trap 9).
pub const OFFLINE_WATCH: Time = 10 * SECOND;
/// Then there is no hot-add for this long.
pub const OFFLINE_HOLD: Time = 300 * SECOND;
/// [`OFFLINE_HOLD`] is doubled each time in turn that the guest does so, this often, up to 21 hours: at one part every five
/// minutes it would still be at its maximum soon.
pub const OFFLINE_DOUBLINGS: u32 = 8;
/// Touches of ballooned pages are reported at most this often.
pub const TOUCH_LOG: Time = 60 * SECOND;
/// Most pages of one BALLOON_REQUEST: Windows ignores larger ones (sheet 2.3).
pub const MAX_BALLOON_REQUEST: u64 = 585_728;
/// Most pages of one MEM_HOT_ADD_REQUEST, unless the guest's alignment is larger: 2 GiB (sheet 2.3).
pub const MAX_HOT_ADD: u64 = 2048 * wire::PAGES_PER_MB;
/// The smallest block of memory that Linux adds: alignment for a guest whose version has none, and the unit of
/// [`HOT_ADD_BLOCK_WITHIN`] at least.
pub const LEAST_BLOCK: u64 = 128 * wire::PAGES_PER_MB;
/// Most pages of a 32-bit guest: 4 GiB (sheet DM-22).
pub const MAX_32_BIT: u64 = 4096 * wire::PAGES_PER_MB;
