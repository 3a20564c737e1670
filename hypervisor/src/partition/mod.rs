//! Partitions and their virtual processors.

pub mod clock;
pub mod code_cache;
pub mod cpuid;
pub mod cpuid_cache;
pub mod lazy_eoi;
pub mod memory;
pub mod overlay;
pub mod page_cache;
pub mod pending;
pub mod properties;
pub mod register_page;
pub mod registers;
pub mod results;
pub mod synic;
pub mod table;
pub mod translate;
pub mod validate;
pub mod vp;
pub mod vp_pages;
pub mod vp_state;

use tlfs::{
    HV_CRASH_PARAMETER_COUNT, HV_X64_MSR_CRASH_CTL, HvCrashCtl, HvPartitionCreationFlags,
    HvPartitionId, HvPartitionPrivilegeMask, HvPartitionSyntheticProcessorFeatures,
    crash_parameter_of_msr,
};

use crate::intercept::Intercepts;
use crate::mem::frames::PartitionSlot;
use crate::mem::page_box::PageBox;
use crate::mem::table::SecondLevelTable;
use crate::stats::StatsPage;

pub use table::{MAX_PARTITIONS, MAX_VPS};
pub use vp::{Vp, VpRef};

/// Where a partition is in its life (root sheet A.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartitionState {
    /// Created; early properties can be set.
    Uninitialized,
    /// Initialized.
    Active,
    /// Being finalized: VPs are gone, memory goes step by step.
    Finalizing,
    /// Only its pool is left.
    Finalized,
}

/// Synthetic MSRs that the VPs of a partition share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedMsrs {
    /// GUEST_OS_ID.
    pub guest_os_id: u64,
    /// HYPERCALL as written, its enable bit as it took effect.
    pub hypercall: u64,
    /// REFERENCE_TSC.
    pub reference_tsc: u64,
    /// Bit 0 of TSC_INVARIANT_CONTROL: CPUID shows that the TSC is invariant.
    pub tsc_invariant: bool,
    /// CRASH_P0 to CRASH_P4: what the guest says about its end.
    pub crash: [u64; HV_CRASH_PARAMETER_COUNT],
    /// CRASH_CTL as it was written last. What it reads as says what is supported.
    pub crash_control: u64,
}

impl SharedMsrs {
    /// A crash parameter.
    pub fn crash(&self, msr: u32) -> Option<u64> {
        crash_parameter_of_msr(msr).and_then(|number| self.crash.get(number).copied())
    }

    /// Sets a crash parameter, or CRASH_CTL. Nothing for another MSR.
    pub fn set_crash(&mut self, msr: u32, value: u64) {
        if msr == HV_X64_MSR_CRASH_CTL {
            self.crash_control = value;
        } else if let Some(number) = crash_parameter_of_msr(msr)
            && let Some(place) = self.crash.get_mut(number)
        {
            *place = value;
        }
    }
}

/// CRASH_CTL reads as this: parameters are taken, and a text in P3 and P4 (guest sheet 4.12).
pub const CRASH_SUPPORT: HvCrashCtl = HvCrashCtl::new()
    .with_crash_notify(true)
    .with_crash_message(true);

/// A partition.
#[derive(Debug)]
pub struct Partition {
    /// Its id.
    pub id: HvPartitionId,
    /// Its place.
    pub slot: PartitionSlot,
    /// Where it is in its life.
    pub state: PartitionState,
    /// With what it was created.
    pub flags: HvPartitionCreationFlags,
    /// What it may do.
    pub privileges: HvPartitionPrivilegeMask,
    /// As set by its parent.
    pub features: HvPartitionSyntheticProcessorFeatures,
    /// Second-level translations, from initialization on.
    pub memory: Option<SecondLevelTable>,
    /// The large page of which a part is mapped.
    pub part_mapped: Option<memory::PartMapped>,
    /// What its parent wants to see.
    pub intercepts: Intercepts,
    /// Answers that its parent has registered.
    pub results: results::Results,
    /// Pages of the hypervisor's that cover its memory.
    pub overlays: overlay::Overlays,
    /// Shared synthetic MSRs.
    pub msrs: SharedMsrs,
    /// Properties that only have a value.
    pub properties: properties::Properties,
    /// Counters.
    pub stats: PageBox<StatsPage>,
    /// The root has the counters mapped.
    pub stats_mapped: bool,
    /// Number of VPs.
    pub vp_count: u32,
    /// Property Suspend: all VPs are stopped.
    pub suspended: bool,
}

impl Partition {
    /// A new one, uninitialized.
    pub fn new(
        id: HvPartitionId,
        slot: PartitionSlot,
        flags: HvPartitionCreationFlags,
        privileges: HvPartitionPrivilegeMask,
        stats: PageBox<StatsPage>,
    ) -> Self {
        Self {
            id,
            slot,
            state: PartitionState::Uninitialized,
            flags,
            privileges,
            features: HvPartitionSyntheticProcessorFeatures(0),
            memory: None,
            part_mapped: None,
            intercepts: Intercepts::new(),
            results: results::Results::new(),
            overlays: overlay::Overlays::default(),
            msrs: SharedMsrs::default(),
            properties: properties::Properties::default(),
            stats,
            stats_mapped: false,
            vp_count: 0,
            suspended: false,
        }
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.slot == PartitionSlot::ROOT
    }

    /// Whether its local APICs are emulated: HLT and interrupts are the hypervisor's then.
    pub fn has_lapic(&self) -> bool {
        self.is_root() || self.flags.contains(HvPartitionCreationFlags::LAPIC_ENABLED)
    }
}
