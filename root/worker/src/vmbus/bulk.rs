//! Bulk data in the guest's RAM.

use vmbus::bulk::{GuestMemory, NotRam};

use crate::system::SharedRam;

/// The guest's RAM as services with bulk data access it, by way of a [`vmbus::bulk::Transfer`]: in place, and only what is in
/// the guest's memory map at that moment.
#[derive(Clone, Debug)]
pub struct BulkMemory<R>(pub R);

impl<R: SharedRam> GuestMemory for BulkMemory<R> {
    #[inline]
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotRam> {
        self.0.read(gpa, into).map_err(|_| NotRam)
    }

    #[inline]
    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), NotRam> {
        self.0.write_shared(gpa, from).map_err(|_| NotRam)
    }
}
