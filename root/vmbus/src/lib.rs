//! The host side of VMBus for one guest.
//!
//! Everything here is a state machine without I/O. The worker process hands in what the guest posted and signalled, and
//! carries out what comes back as values: messages to post, event flags to set, channels to open and to close. So the whole
//! of it runs in `cargo test`. The guest is not trusted: whatever it sends is copied once, checked, and then acted on.
//!
//! * [`protocol`]: what lies on the wire: channel messages, packets, GUIDs, versions;
//! * [`server`]: connection, offers, channels; one [`server::Server`] for each guest;
//! * [`gpadl`]: lists of guest pages that the guest describes in messages and names by a handle;
//! * [`ring`]: the two rings of an open channel;
//! * [`bulk`]: data that a packet names instead of carrying it.
//!
//! Sections and traps named in comments are those of the specification sheet `vmbus.md`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod gpa;

pub mod bulk;
pub mod gpadl;
pub mod protocol;
pub mod ring;
pub mod server;

pub use gpa::GpaRun;
