//! Access to the memory of a ring.

/// Memory of a ring was taken away from the guest, or cannot be accessed for another reason. The channel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ring's memory is gone")]
pub struct Gone;

/// The memory of one ring: header page and data, contiguous. Positions are bytes from the start of the header page.
///
/// The guest reads and writes it at the same time, so nothing here hands out references, and a second read of the same
/// bytes may differ. The rings access what lies within [`RingMemory::size`] and no more; an implementation must stay
/// sound also when asked for more, and may answer [`Gone`] then.
///
/// The methods are on the data path: mark implementations `#[inline]`. Lengths are often constant, so that a copy of
/// pointers becomes a move or two.
pub trait RingMemory {
    /// Bytes of the ring with its header page.
    fn size(&self) -> u32;

    /// Copies from the ring. No order against other accesses but those that follow from the atomic ones.
    ///
    /// # Errors
    /// [`Gone`]; `into` may be half filled.
    fn read(&self, at: u32, into: &mut [u8]) -> Result<(), Gone>;

    /// Copies into the ring. No order but as for [`RingMemory::read`].
    ///
    /// # Errors
    /// [`Gone`]; the bytes may be half written.
    fn write(&self, at: u32, from: &[u8]) -> Result<(), Gone>;

    /// Loads an aligned word with acquire order: what the other side wrote before it is seen by later reads.
    ///
    /// # Errors
    /// [`Gone`].
    fn load_acquire(&self, at: u32) -> Result<u32, Gone>;

    /// Stores an aligned word with release order: everything before it is seen by whoever sees the word.
    ///
    /// # Errors
    /// [`Gone`].
    fn store_release(&self, at: u32, value: u32) -> Result<(), Gone>;

    /// A full barrier (sequentially consistent fence): no load after it is done before the stores ahead of it are
    /// visible. Without it signals are lost, also on x86 (trap 17).
    fn fence(&self);
}
