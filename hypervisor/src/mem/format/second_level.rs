//! The tables of partitions, whichever the machine's processors walk.

use super::{Ept, Npt};

/// The second-level format of this machine: one for all partitions, chosen by what virtualization the processors have. Its
/// tables are a [`SecondLevelTable`](crate::mem::table::SecondLevelTable).
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
