//! What sizes are counted in (section 4.1).

/// What a size counts. The algorithm has no unit; only its granule and the limit of 32-bit guests depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 4 KiB, as the product passes sizes.
    Page,
    /// 1 MiB, as the test vectors do.
    Mebibyte,
}

impl Unit {
    /// So many MiB in this unit; at most `u64::MAX`.
    pub const fn of_mib(self, mib: u64) -> u64 {
        mib.saturating_mul(self.per_mib())
    }

    /// A size of this unit in MiB, rounded down.
    pub const fn mib(self, size: u64) -> u64 {
        match self {
            Self::Page => size / Self::Page.per_mib(),
            Self::Mebibyte => size,
        }
    }

    /// The balloon granule: 2 MB, a large page, of which a guest's balloon is made (section 4.2).
    pub const fn granule(self) -> u64 {
        2 * self.per_mib()
    }

    /// What a 32-bit guest never has more of: 4 GB (DM-22).
    pub const fn limit_of_32_bit(self) -> u64 {
        4096 * self.per_mib()
    }

    const fn per_mib(self) -> u64 {
        match self {
            Self::Page => 256,
            Self::Mebibyte => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Unit;

    #[test]
    fn a_granule_is_512_pages() {
        assert_eq!(Unit::Page.granule(), 512);
        assert_eq!(Unit::Mebibyte.granule(), 2);
        assert_eq!(Unit::Page.limit_of_32_bit(), 1 << 20);
    }

    #[test]
    fn mebibytes_go_both_ways() {
        assert_eq!(Unit::Page.of_mib(3), 768);
        assert_eq!(Unit::Page.mib(1023), 3);
        assert_eq!(Unit::Page.of_mib(u64::MAX), u64::MAX);
    }
}
