//! A set of buffer indexes.

use tlfs::HV_EVENTLOG_MAX_BUFFERS;

const WORDS: usize = HV_EVENTLOG_MAX_BUFFERS as usize / 64;
const _: () = assert!(WORDS * 64 == HV_EVENTLOG_MAX_BUFFERS as usize);

/// Indexes of buffers that are free: taken out lowest first, in time that does not depend on their number.
#[derive(Debug, Default)]
pub(super) struct IndexSet([u64; WORDS]);

impl IndexSet {
    /// Adds an index; one that no buffer can have is ignored.
    pub fn insert(&mut self, index: u16) {
        if let Some(word) = self.0.get_mut(usize::from(index) / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Takes an index out, if it is there.
    pub fn remove(&mut self, index: u16) {
        if let Some(word) = self.0.get_mut(usize::from(index) / 64) {
            *word &= !(1 << (index % 64));
        }
    }

    /// Takes the lowest index out.
    pub fn take_first(&mut self) -> Option<u16> {
        let (word, bits) = self
            .0
            .iter_mut()
            .enumerate()
            .find(|(_, bits)| **bits != 0)?;
        let bit = bits.trailing_zeros();
        *bits &= *bits - 1;
        Some((word as u32 * 64 + bit) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_come_out_once_and_lowest_first() {
        let mut set = IndexSet::default();
        for index in [511, 64, 0, 63, 64, 300, 512] {
            set.insert(index);
        }
        set.remove(300);
        set.remove(1);
        let taken: Vec<u16> = core::iter::from_fn(|| set.take_first()).collect();
        assert_eq!(taken, [0, 63, 64, 511]);
    }
}
