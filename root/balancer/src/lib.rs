//! The memory balancer of Dynamic Memory: numbers in, orders out.
//!
//! There is one for each NUMA node, or one for the sum of them with NUMA spanning. Once a second [`round()`] is told what the node has and
//! what its VMs have and need ([`Input`]), and says what is to be done ([`Round`]). It has no clock, no memory of its own, no
//! random and no floating point numbers: the same input gives the same orders, in whatever order its lists are. A round for `n` VMs
//! takes `O(n log n)`.
//!
//! ```
//! use balancer::{Action, Buffer, Input, LONG_AGO, Node, Unit, Vm, VmId, Weight};
//!
//! let vm = Vm {
//!     id: VmId(1),
//!     weight: Weight::DEFAULT,
//!     buffer: Buffer::DEFAULT,
//!     minimum: 512,
//!     maximum: 8192,
//!     is_32_bit: false,
//!     alignment: 128,
//!     can_balloon: true,
//!     can_hot_add: true,
//!     assigned: 1024,
//!     ballooned: 512,
//!     settled: 1500,
//!     smoothed: 1500,
//!     reporting: true,
//!     in_flight: false,
//!     report_age: 1,
//!     since_add: LONG_AGO,
//!     since_refusal: LONG_AGO,
//!     low_for: 0,
//! };
//! let round = balancer::round(&Input {
//!     unit: Unit::Mebibyte,
//!     node: Node { total: 16384, reserve: 880, fixed: 2048 },
//!     vms: &[vm],
//!     starts: &[],
//!     trim_tick: false,
//! });
//! let add = Action::Add { unballoon: 512, hot_add: 512, partial: false };
//! assert_eq!(round.operations.first().map(|operation| operation.action), Some(add));
//! ```
//!
//! What makes the numbers of an [`Input`]: [`HostReserve`] the reserve, [`Settings`] limits, buffer and weight, [`Demand`] the
//! settled and the smoothed demand of a row of reports, [`Dwell`] the time with low pressure. The caller keeps the other times, and
//! freezes a VM while an operation is outstanding.
//!
//! # The steps of a round
//!
//! | Step | Where |
//! |---|---|
//! | buffer level, ample level and limits of each VM | `levels` |
//! | which waiting VMs may start | `starts` |
//! | one target for all, and each VM's goal | `target` |
//! | who wants memory, and gets what is free | `serve` |
//! | who has to give | `donors` |
//! | every five minutes: who has far too much | `trim` |
//!
//! Section numbers, rules (DM-), traps (T) and vectors (B, SEQ) named in comments are those of the specification sheet
//! `dynamic-memory.md`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod alert;
mod donors;
mod dwell;
mod input;
mod levels;
mod math;
mod pressure;
mod reserve;
mod round;
mod serve;
mod settings;
mod starts;
mod target;
mod trim;
mod unit;

#[cfg(test)]
mod tests;

pub use alert::Alert;
pub use donors::DONOR_QUIET_TIME;
pub use dwell::Dwell;
pub use input::{Input, LONG_AGO, Node, PendingStart, REPORT_AGE_LIMIT, Vm, VmId};
pub use levels::{Levels, REFUSAL_BACK_OFF};
pub use pressure::{Demand, demand, linux_floor, pressure};
pub use reserve::HostReserve;
pub use round::{Action, Goal, Operation, Round, round};
pub use serve::{ADD_COOL_DOWN, DEAD_BAND, SHORT_COOL_DOWN};
pub use settings::{Buffer, Settings, SettingsError, Weight};
pub use target::{FP, K_MAX, MINIMUM_PRESSURE, NO_LIMIT, REFERENCE_WEIGHT, Target};
pub use trim::{TRIM_DWELL, TRIM_INTERVAL, TRIM_PRESSURE};
pub use unit::Unit;
