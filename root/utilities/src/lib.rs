//! The host side of the Hyper-V integration services: what Linux' `hv_utils` talks to.
//!
//! Each service is a value without I/O ([`Heartbeat`], [`Shutdown`], [`TimeSync`], [`Kvp`]). Whoever owns the VMBus
//! channel tells it that the channel opened or closed, what arrived and what time it is, and drains packets and
//! events:
//!
//! ```
//! use utilities::{Clocks, Event, Heartbeat, Service};
//!
//! let mut heartbeat = Heartbeat::default();
//! let service: &mut dyn Service = &mut heartbeat;
//! service.opened(0);
//! // Ask for the length first: a packet is made when it is taken, so take it only if the ring has room.
//! while let Some(_length) = service.packet_len() {
//!     let Some(_packet) = service.take_packet(0, &mut || Clocks::default()) else { break };
//!     // Send `_packet.payload` in-band with `_packet.transaction`; an answer goes to `received`.
//! }
//! while let Some(event) = service.take_event() {
//!     if let Event::Dead(reason) = event { panic!("{reason}") }
//! }
//! // Call `tick` when this time has come.
//! assert_eq!(service.next_deadline(), None);
//! ```
//!
//! After each call of `opened`, `closed`, `received`, `tick`, and of a service's own methods, drain packets and
//! events and set the timer anew. What all services share is in [`Integration`]: negotiation, one packet at a time,
//! and the rules for answers that do not fit.
//!
//! # Answers that do not fit
//!
//! Every byte of an answer is the guest's. Two rules cover all of it:
//!
//! * A packet that does not carry the ring's transaction id of the packet outstanding (a duplicate, unsolicited,
//!   late, or anything at all while the channel is closed or the service dead) is counted in [`Counters::strays`] and
//!   ignored, whatever is in it.
//! * A packet that carries it and cannot be decoded, or is not a possible answer, ends the service: it is *dead* with
//!   a [`DeadReason`], sends nothing, and comes back when the guest opens the channel again. What a service takes
//!   for possible but useless is said there.
//!
//! # Sources
//!
//! Layouts and behaviour: the project's VMBus sheet, sections 7.7, 9, 10 and 13 (traps 33 to 37). What the sheet
//! lacks is named where it is used; it is from Linux (`drivers/hv/hv_util.c`, `drivers/hv/hv_kvp.c`,
//! `include/uapi/linux/hyperv.h`, `tools/hv/hv_kvp_daemon.c`) and OpenVMM (`vm/devices/hyperv_ic`,
//! `vm/devices/hyperv_ic_protocol`).
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod integration;
mod service;
#[cfg(test)]
mod tests;

pub mod frame;
pub mod heartbeat;
pub mod kvp;
pub mod negotiate;
pub mod shutdown;
pub mod timesync;

pub use frame::{FrameError, MessageType, Status, Version};
pub use heartbeat::Heartbeat;
pub use integration::{Counters, Integration, LinkState};
pub use kvp::Kvp;
pub use negotiate::Versions;
pub use service::{Clocks, DeadReason, Event, MAX_EVENTS, MAX_MEMORY, Packet, Service, ServiceId};
pub use shutdown::Shutdown;
pub use timesync::TimeSync;

/// A moment or a span of the hypervisor's reference time, in units of 100 ns.
pub type Time = u64;

/// Units of [`Time`] in a second.
pub const SECOND: Time = 10_000_000;
