//! The tables of partitions, whichever the machine's processors walk.

use super::{Entry, Ept, Format, Leaf, LeafSize, Npt};
use crate::mem::addr::{Gpfn, Spfn};

/// The second-level format of this machine: one for all partitions, chosen by what virtualization the processors have.
#[derive(Clone, Copy, Debug)]
pub enum SecondLevel {
    /// AMD SVM's.
    Npt(Npt),
    /// Intel VMX's.
    Ept(Ept),
}

impl SecondLevel {
    /// The memory types in these tables stand in for the MTRRs, which apply no more to what a partition reaches.
    pub const fn replaces_mtrrs(self) -> bool {
        matches!(self, Self::Ept(_))
    }
}

macro_rules! forward {
    ($self:ident.$name:ident($($arg:ident),*)) => {
        match $self {
            Self::Npt(format) => format.$name($($arg),*),
            Self::Ept(format) => format.$name($($arg),*),
        }
    };
}

impl Format for SecondLevel {
    type Page = Gpfn;

    #[inline]
    fn decode(self, raw: u64, level: u8) -> Entry {
        forward!(self.decode(raw, level))
    }

    #[inline]
    fn table(self, table: Spfn) -> u64 {
        forward!(self.table(table))
    }

    #[inline]
    fn leaf(self, leaf: Leaf, level: u8) -> Option<u64> {
        forward!(self.leaf(leaf, level))
    }

    #[inline]
    fn covers(self, first: u64, last: u64) -> bool {
        forward!(self.covers(first, last))
    }

    #[inline]
    fn max_leaf(self) -> LeafSize {
        forward!(self.max_leaf())
    }
}
