//! Little-endian fields of an image, and tables built for a guest.

use alloc::vec::Vec;

use super::LoadError;

/// `N` bytes of `image` at `offset`.
pub fn field<const N: usize>(
    image: &[u8],
    offset: usize,
    what: &'static str,
) -> Result<[u8; N], LoadError> {
    let bytes = offset
        .checked_add(N)
        .and_then(|end| image.get(offset..end))
        .and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(LoadError::Truncated {
        what,
        offset: offset as u64,
    })
}

/// A u16 of the image.
pub fn u16_at(image: &[u8], offset: usize, what: &'static str) -> Result<u16, LoadError> {
    field(image, offset, what).map(u16::from_le_bytes)
}

/// A u32 of the image.
pub fn u32_at(image: &[u8], offset: usize, what: &'static str) -> Result<u32, LoadError> {
    field(image, offset, what).map(u32::from_le_bytes)
}

/// A u64 of the image.
pub fn u64_at(image: &[u8], offset: usize, what: &'static str) -> Result<u64, LoadError> {
    field(image, offset, what).map(u64::from_le_bytes)
}

/// A little-endian table under construction.
#[derive(Debug, Default)]
pub struct Table(pub Vec<u8>);

impl Table {
    /// Appends a u32.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a u64.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
}
