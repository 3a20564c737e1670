//! Sets of virtual processors (guest sheet 6.3, `HV_VP_SET`): a header of two words, then one word for each bank named
//! in the mask.

use crate::macros::{wire_enum, wire_struct};

/// Most banks of a set.
pub const HV_GENERIC_SET_MAX_BANKS: usize = 64;
/// VPs of a bank.
pub const HV_GENERIC_SET_BANK_SIZE: u32 = 64;

wire_enum! {
    /// Form of a VP set.
    pub struct HvGenericSetFormat(u64);
    /// The banks named in the mask follow.
    SPARSE_4K = 0, "HvGenericSetSparse4k";
    /// Every VP; no banks follow.
    ALL = 1, "HvGenericSetAll";
}

wire_struct! {
    /// Fixed part of a VP set; the banks follow.
    pub struct HvVpSetHeader [16] {
        /// Form.
        format @ 0: HvGenericSetFormat,
        /// Bit n: bank n (VPs 64 n to 64 n + 63) follows. A bank may be zero; a mask without bits names no VP.
        valid_bank_mask @ 8: u64,
    }
}

impl HvVpSetHeader {
    /// How many banks follow: none for the form ALL.
    pub const fn bank_count(&self) -> usize {
        if self.format.0 == HvGenericSetFormat::ALL.0 {
            0
        } else {
            self.valid_bank_mask.count_ones() as usize
        }
    }

    /// Number of the bank that is the `nth` to follow (from 0), `None` past the last.
    pub fn nth_bank(&self, nth: usize) -> Option<u32> {
        if nth >= self.bank_count() {
            return None;
        }
        (0..u64::BITS)
            .filter(|bank| self.valid_bank_mask >> bank & 1 != 0)
            .nth(nth)
    }

    /// VP indexes of a sparse set, ascending. `banks` are the words that followed; words that are missing count as
    /// zero, words too many are not looked at. The form ALL yields none: its meaning depends on the partition.
    pub fn sparse_vps<'a>(&self, banks: &'a [u64]) -> impl Iterator<Item = u32> + use<'a> {
        let mask = if self.bank_count() == 0 {
            0
        } else {
            self.valid_bank_mask
        };
        let numbers = (0..u64::BITS).filter(move |bank| mask >> bank & 1 != 0);
        numbers.zip(banks).flat_map(|(bank, &word)| {
            (0..u64::BITS)
                .filter(move |bit| word >> bit & 1 != 0)
                .map(move |bit| bank * HV_GENERIC_SET_BANK_SIZE + bit)
        })
    }
}
