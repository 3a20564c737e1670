//! The processor's virtualization, behind one fixed set of names.
//!
//! `svm` and `vmx` export the same items; [`VpHw`] picks one at run time. Nothing outside this folder knows
//! which vendor it is. Everything here but [`VpHw::run`] and what turns a processor on works on memory alone, so it runs
//! in host tests too.

pub mod constants;
pub mod cpuid;
mod debug;
pub mod exit;
mod features;
pub mod fpu;
pub mod maps;
mod merge;
pub mod msr;
pub mod page;
pub mod section;
mod snapshot;
pub mod state;
pub mod svm;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;
pub mod vmx;
mod vp;

use crate::mem::addr::Spa;

pub use crate::mem::tlb::Flush;
pub use snapshot::Snapshot;
pub(crate) use vp::with_backend;
pub use vp::{Backend, Capabilities, Processor, VpHw, probe, probe_here};

/// Why a machine cannot run the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// CPUID knows neither SVM nor VMX.
    NoVirtualization,
    /// Without nested paging.
    NoNestedPaging,
    /// The firmware has locked it off.
    DisabledByFirmware,
    /// The TLB has no tags for guests.
    NoTlbTags,
    /// Something else is missing that the hypervisor needs: the manual's name.
    Lacks(&'static str),
    /// Something cannot be turned off that the hypervisor cannot live with: the manual's name.
    Imposes(&'static str),
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoVirtualization => {
                "this processor has no hardware virtualization (AMD SVM or Intel VMX)"
            }
            Self::NoNestedPaging => {
                "this processor has no nested paging (AMD NPT or Intel EPT): use a newer one"
            }
            Self::DisabledByFirmware => {
                "hardware virtualization is disabled by the firmware: enable it in its setup (SVM, or VT-x)"
            }
            Self::NoTlbTags => {
                "this processor has no TLB tags for guests (AMD ASIDs or Intel VPIDs): use a newer one"
            }
            Self::Lacks(what) => {
                return write!(
                    f,
                    "this processor's virtualization has no {what}: use a newer processor, or an outer hypervisor that offers it"
                );
            }
            Self::Imposes(what) => {
                return write!(
                    f,
                    "this processor's virtualization cannot do without {what}: use a newer processor, or an outer hypervisor that leaves the choice"
                );
            }
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

/// Which writes of control registers end a run of a VP's as [`exit::Exit::ControlRegister`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrIntercepts {
    /// Those that change one of these bits of CR0. A processor that cannot tell these from others ends the run at any.
    pub cr0: u64,
    /// The same for CR4.
    pub cr4: u64,
    /// All of CR8.
    pub cr8: bool,
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
