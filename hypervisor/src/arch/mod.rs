//! The processor's virtualization, behind one fixed set of names.
//!
//! `svm` (and later `vmx`) export the same items; [`VpHw`] picks one at run time. Nothing outside this folder knows
//! which vendor it is. Everything here but [`VpHw::run`] and what turns a processor on works on memory alone, so it runs
//! in host tests too.

pub mod cpuid;
pub mod exit;
pub mod fpu;
pub mod maps;
pub mod page;
pub mod section;
pub mod state;
pub mod svm;
mod vp;

use crate::mem::addr::Spa;

pub use vp::{Capabilities, Processor, VpHw, probe, probe_here};

/// Why a machine cannot run the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// CPUID knows neither SVM nor anything else that is supported.
    NoVirtualization,
    /// Without nested paging.
    NoNestedPaging,
    /// The firmware has locked it off.
    DisabledByFirmware,
    /// The TLB has no tags for guests.
    NoTlbTags,
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoVirtualization => "this processor has no AMD SVM (hardware virtualization)",
            Self::NoNestedPaging => "this processor has no nested paging",
            Self::DisabledByFirmware => {
                "hardware virtualization is disabled by the firmware: enable SVM in its setup"
            }
            Self::NoTlbTags => "this processor has no TLB tags for guests",
        })
    }
}

/// Whose VP it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcpuKind {
    /// The root partition's: trusted with the machine's devices.
    Root,
    /// A child partition's.
    Child,
}

/// What a new VP needs.
#[derive(Clone, Copy, Debug)]
pub struct VcpuConfig {
    /// Whose it is.
    pub kind: VcpuKind,
    /// Root of the second-level page tables.
    pub nested_root: Spa,
    /// Of [`maps::PermissionMaps`].
    pub port_map: Spa,
    /// Of the same.
    pub msr_map: Spa,
}

/// What the next run takes out of the TLB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flush {
    /// Nothing.
    None,
    /// All translations under the VP's tag.
    Tag,
    /// All translations of all tags.
    All,
}

/// What one processor did, for the statistics pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Entries into a guest.
    pub runs: u64,
    /// VMLOADs.
    pub vmloads: u64,
    /// VMSAVEs.
    pub vmsaves: u64,
    /// XSAVEs.
    pub xsaves: u64,
    /// XRSTORs.
    pub xrstors: u64,
    /// TLB flushes asked of the processor.
    pub tlb_flushes: u64,
    /// MSR writes for VPs; the local APIC counts its own.
    pub msr_writes: u64,
    /// Writes to extended control registers.
    pub xcr_writes: u64,
    /// The longest stretch with interrupts off.
    pub section: section::Section,
}
