//! The dispatcher and the calls behind it, as their callers see them.

mod conventions;
mod property;
