//! The Hyper-V Top-Level Functional Specification (TLFS) as types: what a guest, a root partition and a hypervisor
//! say to each other.
//!
//! Everything here is data. Structures are `#[repr(C)]`, made of integers, free of hidden padding, and their sizes and
//! offsets are checked by the compiler, so that [`zerocopy`] turns bytes into them and back without `unsafe`.
//! Enumerations are open: a transparent integer with named constants, because an unknown value that a guest sends is
//! still a value. Names are the TLFS's.
//!
//! Where Linux's headers and the published TLFS disagree, the item says so; the layout is the one that runs.
#![no_std]
#![forbid(unsafe_code)]

mod macros;

pub mod call_code;
pub mod control;
pub mod cpuid;
pub mod event_log;
pub mod gpa;
pub mod hypercall;
pub mod ids;
pub mod intercept;
pub mod message;
pub mod msr;
pub mod partition;
pub mod register;
pub mod register_page;
pub mod stats;
pub mod status;
pub mod synic;
pub mod time;
pub mod vp_assist;
pub mod vp_set;

pub use call_code::*;
pub use control::*;
pub use cpuid::*;
pub use event_log::*;
pub use gpa::*;
pub use hypercall::*;
pub use ids::*;
pub use intercept::*;
pub use message::*;
pub use msr::*;
pub use partition::*;
pub use register::*;
pub use register_page::*;
pub use stats::{
    HV_STATS_COUNTERS_PER_PAGE, HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType,
};
pub use status::*;
pub use synic::*;
pub use time::*;
pub use vp_assist::*;
pub use vp_set::*;
