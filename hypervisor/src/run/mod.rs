//! The run loop: what a processor does between power-on and power-off.

pub mod timers;
