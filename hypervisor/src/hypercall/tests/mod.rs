//! The dispatcher and the calls behind it, as their callers see them.

mod conventions;
mod intercepts;
mod life;
mod memory;
mod messages;
mod overlay;
mod pages;
mod ports;
mod processors;
mod property;
mod sets;
mod vps;
