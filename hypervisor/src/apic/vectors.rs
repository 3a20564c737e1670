//! Sets of interrupt vectors.

use super::FIRST_VECTOR;

/// A set of vectors 16 to 255 that knows its highest member without a search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VectorSet {
    words: [u64; 4],
    /// The highest member; 0 if there is none, for which 0 is free because it is never a member.
    top: u8,
}

impl VectorSet {
    pub(super) const EMPTY: Self = Self {
        words: [0; 4],
        top: 0,
    };

    const fn place(vector: u8) -> (usize, u64) {
        ((vector >> 6) as usize, 1 << (vector & 63))
    }

    /// Adds `vector`; says whether it is new. Vectors below 16 are never members.
    pub(super) fn insert(&mut self, vector: u8) -> bool {
        if vector < FIRST_VECTOR {
            return false;
        }
        let (word, bit) = Self::place(vector);
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.top = self.top.max(vector);
        new
    }

    /// Takes `vector` out; says whether it was in.
    pub(super) fn remove(&mut self, vector: u8) -> bool {
        let (word, bit) = Self::place(vector);
        let was = self.words[word] & bit != 0;
        self.words[word] &= !bit;
        if vector == self.top {
            self.top = self.search();
        }
        was
    }

    pub(super) fn contains(&self, vector: u8) -> bool {
        let (word, bit) = Self::place(vector);
        self.words[word] & bit != 0
    }

    /// Whether `vector` is the only member.
    pub(super) fn is_only(&self, vector: u8) -> bool {
        let (word, bit) = Self::place(vector);
        let mut only = [0; 4];
        only[word] = bit;
        self.words == only
    }

    /// The highest member, or 0.
    pub(super) const fn top(&self) -> u8 {
        self.top
    }

    fn search(&self) -> u8 {
        for (index, word) in self.words.iter().enumerate().rev() {
            if let Some(bit) = word.checked_ilog2() {
                return (index as u8) << 6 | bit as u8;
            }
        }
        0
    }

    /// The eight registers, bit n of register i being vector 32 i + n.
    pub(super) fn registers(&self) -> [u32; 8] {
        core::array::from_fn(|i| (self.words[i / 2] >> (32 * (i % 2))) as u32)
    }

    /// From the eight registers; bits of vectors below 16 are dropped.
    pub(super) fn from_registers(registers: &[u32; 8]) -> Self {
        let mut words: [u64; 4] = core::array::from_fn(|i| {
            u64::from(registers[2 * i]) | u64::from(registers[2 * i + 1]) << 32
        });
        words[0] &= !0xFFFF;
        let mut set = Self { words, top: 0 };
        set.top = set.search();
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set_that_knows_its_highest_member(steps: Vec<(bool, u8)>) {
            let mut set = VectorSet::EMPTY;
            let mut model = BTreeSet::new();
            for (add, vector) in steps {
                if add {
                    prop_assert_eq!(set.insert(vector), vector >= 16 && model.insert(vector));
                } else {
                    prop_assert_eq!(set.remove(vector), model.remove(&vector));
                }
                prop_assert_eq!(set.contains(vector), model.contains(&vector));
                prop_assert_eq!(set.top(), model.last().copied().unwrap_or(0));
            }
            prop_assert_eq!(VectorSet::from_registers(&set.registers()), set);
        }
    }

    #[test]
    fn registers_hold_32_vectors_each() {
        let mut set = VectorSet::EMPTY;
        set.insert(0x31);
        set.insert(0xEC);
        assert_eq!(set.registers(), [0, 1 << 0x11, 0, 0, 0, 0, 0, 1 << 0xC]);
    }

    #[test]
    fn illegal_vectors_of_a_saved_state_are_dropped() {
        let set = VectorSet::from_registers(&[0x0001_FFFF, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(set.registers()[0], 0x0001_0000);
        assert_eq!(set.top(), 16);
    }
}
