//! GPADLs: lists of guest pages that the guest describes in messages and names by a handle (section 3.5).
//!
//! [`GpadlTable`] puts the messages together and keeps what is complete; [`Gpadl`] is one list, checked against the
//! guest's memory map and kept as contiguous runs.

mod decode;
mod list;
mod table;

#[cfg(test)]
mod tests;

pub use decode::*;
pub use list::*;
pub use table::*;
