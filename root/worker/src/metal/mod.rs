//! The lowest layer of the process: everything that is `unsafe` is here.

pub mod calls;
pub mod files;
pub mod heap;
pub mod kernel;
pub mod ram;
pub mod start;
