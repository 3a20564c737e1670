//! What a processor's VMX can do, and whether that is enough: Intel SDM vol. 3D, appendix A.

use crate::arch::cpuid::CpuidSource;
use crate::arch::features::Feature;
use crate::arch::msr::MsrSource;
use crate::arch::state::cr0;
use crate::arch::{Refusal, VcpuKind};
use crate::mem::format::{EptFeatures, LeafSize};

use super::controls::{self, Allowed, Controls, pin, primary, secondary};
use super::errata;
use super::vcpu::{CR0_NE, CR4_VMXE};
use Refusal::{Imposes, Lacks};

/// IA32_FEATURE_CONTROL.
pub const MSR_FEATURE_CONTROL: u32 = 0x3A;
/// IA32_FEATURE_CONTROL: it cannot be changed any more.
pub const FEATURE_CONTROL_LOCK: u64 = 1 << 0;
/// IA32_FEATURE_CONTROL: VMXON works outside of SMX operation.
pub const FEATURE_CONTROL_VMX: u64 = 1 << 2;

const MSR_BASIC: u32 = 0x480;
const MSR_PINBASED: u32 = 0x481;
const MSR_MISC: u32 = 0x485;
const MSR_CR0_FIXED0: u32 = 0x486;
const MSR_CR4_FIXED0: u32 = 0x488;
const MSR_PROCBASED2: u32 = 0x48B;
const MSR_EPT_VPID: u32 = 0x48C;
const MSR_TRUE_PINBASED: u32 = 0x48D;

/// Number of TLB tags, tag 0 (the host's) included: a VPID has 16 bits.
pub const VPIDS: u32 = 0x1_0000;

/// What VMX operation asks of a control register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// Bits that must be 1; of CR0, guests may have PE and PG 0 all the same.
    pub ones: u64,
    /// Bits that may be 1.
    pub may: u64,
}

/// What this processor's VMX can do. All processors of a machine are taken to be alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// First word of VMXON region and VMCS.
    pub vmcs_revision: u32,
    /// Controls of a child's VP at first.
    pub controls: Controls,
    /// Controls of a VP of the root at first.
    pub root_controls: Controls,
    /// CR0.
    pub cr0_fixed: Fixed,
    /// CR4.
    pub cr4_fixed: Fixed,
    /// EPT has leaves of 1 GiB.
    pub ept_1g: bool,
    /// EPT has leaves of 2 MiB.
    pub ept_2m: bool,
    /// EPT entries have accessed and dirty bits.
    pub ept_access_dirty: bool,
    /// EPT entries may allow nothing but execution.
    pub ept_execute_only: bool,
    /// INVEPT for one EPT pointer.
    pub invept_single: bool,
    /// The preemption timer counts down by one when this bit of the TSC changes. `None` if there is no such timer.
    pub preemption_timer_shift: Option<u8>,
    /// IA32_SPEC_CTRL exists.
    pub spec_ctrl: bool,
    /// TSC_AUX exists (RDTSCP or RDPID).
    pub tsc_aux: bool,
    /// Children may execute by leaves larger than 4 KiB: not where the iTLB multihit erratum is (`errata.rs`).
    pub large_code: bool,
}

impl Capabilities {
    /// What the processor may have or not, as far as the hypervisor uses it.
    pub(in crate::arch) const fn features(&self) -> [Feature; 6] {
        [
            ("2 MiB leaves", self.ept_2m),
            ("large leaves of code", self.large_code),
            ("1 GiB leaves", self.ept_1g),
            ("accessed and dirty bits", self.ept_access_dirty),
            ("flush by EPT pointer", self.invept_single),
            ("preemption timer", self.preemption_timer_shift.is_some()),
        ]
    }

    /// What EPT has here for a partition of this kind, with leaves of at most `largest`. The root is trusted with
    /// whatever it has; its devices need the memory types of its PAT.
    pub const fn ept_features(&self, kind: VcpuKind, largest: LeafSize) -> EptFeatures {
        let root = matches!(kind, VcpuKind::Root);
        let max_leaf = match largest {
            LeafSize::Size1G if self.ept_1g => LeafSize::Size1G,
            LeafSize::Size1G | LeafSize::Size2M if self.ept_2m => LeafSize::Size2M,
            _ => LeafSize::Size4K,
        };
        EptFeatures {
            max_leaf,
            execute_only: self.ept_execute_only,
            access_bits: self.ept_access_dirty,
            large_code: root || self.large_code,
            guest_pat: root,
        }
    }
}

/// What CPUID and the capability MSRs say about VMX.
///
/// # Errors
/// The reason why this processor cannot run the hypervisor.
pub fn probe(cpu: &impl CpuidSource, msrs: &impl MsrSource) -> Result<Capabilities, Refusal> {
    if cpu.cpuid_checked(1, 0).ecx & (1 << 5) == 0 {
        return Err(Refusal::NoVirtualization);
    }
    let feature_control = msrs.read(MSR_FEATURE_CONTROL);
    if feature_control & (FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX) == FEATURE_CONTROL_LOCK {
        return Err(Refusal::DisabledByFirmware);
    }
    let basic = msrs.read(MSR_BASIC);
    check_basic(basic)?;
    let limits = Limits::read(msrs, basic)?;
    let translation = msrs.read(MSR_EPT_VPID);
    check_translation(translation)?;
    let has = |bit: u32| translation >> bit & 1 == 1;
    let preemption_timer = limits.pin.may & pin::ACTIVATE_PREEMPTION_TIMER != 0;
    let leaf7 = cpu.cpuid_checked(7, 0);
    Ok(Capabilities {
        vmcs_revision: basic as u32 & 0x7FFF_FFFF,
        controls: limits.controls(VcpuKind::Child)?,
        root_controls: limits.controls(VcpuKind::Root)?,
        // What a guest needs to be 0 must be allowed to be: PE and PG are, in unrestricted guest mode.
        cr0_fixed: fixed(msrs, MSR_CR0_FIXED0, cr0::PE | CR0_NE | cr0::PG)?,
        cr4_fixed: fixed(msrs, MSR_CR4_FIXED0, CR4_VMXE)?,
        ept_execute_only: has(0),
        ept_2m: has(16),
        ept_1g: has(17),
        ept_access_dirty: has(21),
        invept_single: has(25),
        preemption_timer_shift: preemption_timer.then(|| msrs.read(MSR_MISC) as u8 & 0x1F),
        // IBRS or STIBP or SSBD.
        spec_ctrl: leaf7.edx & (1 << 26 | 1 << 27 | 1 << 31) != 0,
        tsc_aux: cpu.cpuid_checked(0x8000_0001, 0).edx & (1 << 27) != 0
            || leaf7.ecx & (1 << 22) != 0,
        large_code: !errata::itlb_multihit(cpu, msrs),
    })
}

fn check_basic(basic: u64) -> Result<(), Refusal> {
    let (size, memory_type) = (basic >> 32 & 0x1FFF, basic >> 50 & 0xF);
    if !(1..=4096).contains(&size) {
        return Err(Imposes("a VMCS larger than a page"));
    }
    if basic & 1 << 48 != 0 {
        return Err(Imposes("a VMCS below 4 GiB"));
    }
    if memory_type != 6 {
        return Err(Lacks("VMCS in write-back memory"));
    }
    Ok(())
}

fn check_translation(capabilities: u64) -> Result<(), Refusal> {
    let needed = [
        (6, "EPT with four levels"),
        (14, "EPT tables in write-back memory"),
        (20, "INVEPT"),
        (26, "all-context INVEPT"),
        (32, "INVVPID"),
        (42, "all-context INVVPID"),
    ];
    match needed.iter().find(|(bit, _)| capabilities >> bit & 1 == 0) {
        Some((_, name)) => Err(Lacks(name)),
        None => Ok(()),
    }
}

/// A pair of MSRs about a control register, of which guests can have `pinned` bits 1 whatever they write.
fn fixed(msrs: &impl MsrSource, first: u32, pinned: u64) -> Result<Fixed, Refusal> {
    let (ones, may) = (msrs.read(first), msrs.read(first + 1));
    if ones & !(may & pinned) != 0 {
        return Err(Imposes("some bits of CR0 or CR4"));
    }
    Ok(Fixed { ones, may })
}

/// What the capability MSRs allow each control word to be.
struct Limits {
    pin: Allowed,
    primary: Allowed,
    secondary: Allowed,
    exit: Allowed,
    entry: Allowed,
}

impl Limits {
    fn read(msrs: &impl MsrSource, basic: u64) -> Result<Self, Refusal> {
        // Where bit 55 is set, the true MSRs tell which of the traditional ones may be 0.
        let first = if basic & 1 << 55 != 0 {
            MSR_TRUE_PINBASED
        } else {
            MSR_PINBASED
        };
        let read = |msr| Allowed::of_msr(msrs.read(msr));
        let [pin, primary, exit, entry] = [0, 1, 2, 3].map(|index| read(first + index));
        // The next two MSRs exist only where they have something to say.
        if primary.may & primary::ACTIVATE_SECONDARY_CONTROLS == 0 {
            return Err(Refusal::NoNestedPaging);
        }
        let secondary = read(MSR_PROCBASED2);
        if secondary.may & secondary::ENABLE_EPT == 0 {
            return Err(Refusal::NoNestedPaging);
        }
        Ok(Self {
            pin,
            primary,
            secondary,
            exit,
            entry,
        })
    }

    fn controls(&self, kind: VcpuKind) -> Result<Controls, Refusal> {
        Ok(Controls {
            pin: controls::PIN.adjust(self.pin)?,
            primary: controls::primary_of(kind).adjust(self.primary)?,
            secondary: controls::secondary_of(kind).adjust(self.secondary)?,
            exit: controls::EXIT.adjust(self.exit)?,
            entry: controls::ENTRY.adjust(self.entry)?,
        })
    }
}

#[cfg(test)]
mod tests;
