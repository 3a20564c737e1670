//! Bulk data: guest memory that a packet or a GPADL names, and that a service reads and writes where it lies.
//!
//! * [`GuestBuffer`]: which bytes, in which order: of a packet ([`crate::ring::GpaList::buffer`]), of a range of a GPADL
//!   ([`crate::gpadl::Gpadl::range`]), or a part of either ([`GuestBuffer::part`]);
//! * [`GuestMemory`]: the guest's memory as it is at the moment of an access;
//! * [`Transfer`]: both together, which is what a service works with.
//!
//! A buffer is a list of addresses and no right to access them. A page can leave the guest's memory map after the list was
//! made and checked, so each access asks the map again, and fails where there is no RAM any more. Bytes go from the guest's
//! memory to the slice of the caller, or back, with one copy; nothing here keeps them, allocates, or refers to guest memory
//! when an access is over.
//!
//! The guest may change its bytes at any time: what has to be checked is read once, and the copy is checked. What is
//! written here is visible to the guest before the completion that tells of it, since publishing a ring's index is a
//! store with release order.

mod buffer;
mod transfer;

#[cfg(test)]
mod tests;

pub use buffer::*;
pub use transfer::*;
