//! Access to guest memory, always bounds-checked.

use alloc::vec;
use alloc::vec::Vec;

use crate::layout::RamLayout;

/// A range of guest physical addresses that is not, or not wholly, RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {gpa:#x} are not guest RAM")]
pub struct OutOfRam {
    /// First address of the range.
    pub gpa: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// The guest's RAM by guest physical address.
///
/// An access lies wholly in RAM or fails as a whole: a partial access never happens. Guest code runs on other VPs at
/// the same time, so two reads of the same bytes may differ: read once, check what was read.
pub trait GuestRam {
    /// Where RAM is.
    fn layout(&self) -> RamLayout;

    /// Copies guest memory at `gpa` into `buf`.
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRam>;

    /// Copies `data` into guest memory at `gpa`.
    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam>;
}

/// Guest RAM in a vector: for tests and fuzzing.
#[derive(Clone, Debug)]
pub struct VecRam {
    layout: RamLayout,
    bytes: Vec<u8>,
}

impl VecRam {
    /// Zeroed RAM of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self {
            layout: RamLayout::new(size as u64),
            bytes: vec![0; size],
        }
    }

    fn range(&self, gpa: u64, len: usize) -> Result<core::ops::Range<usize>, OutOfRam> {
        let error = OutOfRam {
            gpa,
            len: len as u64,
        };
        let start = self.layout.offset(gpa, len as u64).ok_or(error)? as usize;
        Ok(start..start + len)
    }
}

impl GuestRam for VecRam {
    fn layout(&self) -> RamLayout {
        self.layout
    }

    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRam> {
        let range = self.range(gpa, buf.len())?;
        buf.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam> {
        let range = self.range(gpa, data.len())?;
        self.bytes[range].copy_from_slice(data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_that_crosses_the_end_of_ram_changes_nothing() {
        let mut ram = VecRam::new(0x1000);
        assert!(ram.write(0xFFE, &[1, 2, 3]).is_err());
        let mut end = [9; 2];
        ram.read(0xFFE, &mut end).unwrap();
        assert_eq!(end, [0, 0]);
        assert!(ram.read(u64::MAX, &mut end).is_err());
    }
}
