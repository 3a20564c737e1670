//! Bulk data: guest memory that a packet or a GPADL names.
//!
//! [`GuestBuffer`] says which bytes, in which order: of a packet ([`crate::ring::GpaList::buffer`]), of a range of a GPADL
//! ([`crate::gpadl::Gpadl::range`]), or a part of either ([`GuestBuffer::part`]).

mod buffer;

pub use buffer::*;
