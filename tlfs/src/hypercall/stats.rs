//! Mapping of stats pages (root sheet A.3.8, E.1). What is on the pages: [`crate::stats`].

use crate::macros::wire_struct;
use crate::stats::{HvStatsObjectIdentity, HvStatsObjectType};

wire_struct! {
    /// Input of MapStatsPage and UnmapStatsPage. For the latter the published table prints the identity at 4:
    /// misprint.
    pub struct HvInputStatsPage [24] {
        /// Kind of object.
        stats_type @ 0: HvStatsObjectType,
        /// Zero.
        padding @ 4: u32,
        /// Which object and which area.
        identity @ 8: HvStatsObjectIdentity,
    }
}

wire_struct! {
    /// Output of MapStatsPage.
    pub struct HvOutputMapStatsPage [8] {
        /// Page number of the caller; the hypervisor chooses.
        map_location @ 0: u64,
    }
}

wire_struct! {
    /// Input of MapStatsPage2 (nested hosts).
    pub struct HvInputMapStatsPage2 [32] {
        /// Kind of object.
        stats_type @ 0: HvStatsObjectType,
        /// Zero.
        padding @ 4: u32,
        /// Which object and which area.
        identity @ 8: HvStatsObjectIdentity,
        /// Page number of the caller.
        map_location @ 24: u64,
    }
}
