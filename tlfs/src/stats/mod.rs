//! Stats pages: objects, areas, counters (root sheet E).
//!
//! A page is an array of 512 `u64`; the index is the counter's number. Times are in 100 ns. Values only grow, except
//! gauges. Indexes belong to a version of the hypervisor: these are the ones of builds 27744 to 27751, which Linux
//! names as validated.

pub mod hypervisor;
pub mod logical_processor;
pub mod partita;
pub mod partition;
pub mod vp;

use crate::ids::HV_PAGE_SIZE;
use crate::macros::{wire_enum, wire_struct};

/// A counter: index on the page, the hypervisor's name for it, and the name of the performance counter that it feeds,
/// empty if there is none. A performance counter ending in `/sec` is the counter's growth in a second; one ending in
/// `Cost` is the growth of the time by that of the count, in ns; one beginning with `%` is the growth by elapsed time.
pub type CounterName = (u32, &'static str, &'static str);

/// Declares the counters of an object: a constant for each, and the table of all.
macro_rules! counters {
    (
        $(#[$outer:meta])*
        $( $konst:ident = $index:literal, $name:literal, $performance:literal $(, $gauge:ident)?; )*
    ) => {
        $(
            #[doc = concat!("`", $name, "`" $(, " (", stringify!($gauge), ")")?, ".")]
            pub const $konst: u32 = $index;
        )*

        $(#[$outer])*
        pub const COUNTERS: &[crate::stats::CounterName] = &[$( ($konst, $name, $performance) ),*];
    };
}
use counters;

/// Counters of a page.
pub const HV_STATS_COUNTERS_PER_PAGE: usize = HV_PAGE_SIZE / 8;

wire_enum! {
    /// Kind of object that has a stats page.
    pub struct HvStatsObjectType(u32);
    HYPERVISOR = 0x0000_0001, "HvStatsObjectHypervisor";
    LOGICAL_PROCESSOR = 0x0000_0002, "HvStatsObjectLogicalProcessor";
    PARTITION = 0x0001_0001, "HvStatsObjectPartition";
    VP = 0x0001_0002, "HvStatsObjectVp";
}

wire_enum! {
    /// Whose view a page gives. Linux takes PARENT's value if it is not zero, else SELF's; INVALID_PARAMETER for
    /// PARENT means "use SELF".
    pub struct HvStatsAreaType(u8);
    SELF = 0, "HvStatsAreaSelf";
    PARENT = 1, "HvStatsAreaParent";
    INTERNAL = 2, "HvStatsAreaInternal";
}

wire_struct! {
    /// Names an object and an area. What is used depends on the object's type.
    pub struct HvStatsObjectIdentity [16] {
        /// Partition and VP: partition id. LP: index in the low half.
        id @ 0: u64,
        /// VP: index.
        vp_index @ 8: u32,
        /// VP: flags.
        flags @ 12: u16,
        /// Zero.
        reserved @ 14: u8,
        /// Area.
        area @ 15: HvStatsAreaType,
    }
}

impl HvStatsObjectIdentity {
    /// The hypervisor.
    pub const fn hypervisor(area: HvStatsAreaType) -> Self {
        Self {
            id: 0,
            vp_index: 0,
            flags: 0,
            reserved: 0,
            area,
        }
    }

    /// A logical processor.
    pub const fn logical_processor(lp_index: u32, area: HvStatsAreaType) -> Self {
        Self {
            id: lp_index as u64,
            ..Self::hypervisor(area)
        }
    }

    /// A partition.
    pub const fn partition(id: crate::HvPartitionId, area: HvStatsAreaType) -> Self {
        Self {
            id: id.0,
            ..Self::hypervisor(area)
        }
    }

    /// A virtual processor.
    pub const fn vp(id: crate::HvPartitionId, vp: crate::HvVpIndex, area: HvStatsAreaType) -> Self {
        Self {
            id: id.0,
            vp_index: vp.0,
            ..Self::hypervisor(area)
        }
    }

    /// Index of the logical processor.
    pub const fn lp_index(&self) -> u32 {
        self.id as u32
    }
}
