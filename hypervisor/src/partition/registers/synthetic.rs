//! Registers that are synthetic MSRs: 0x90000, the SynIC's 0xA0000, and the synthetic timers' 0xB0000.

use tlfs::stats::vp as counter;
use tlfs::{
    HV_X64_MSR_EOM, HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0,
    HV_X64_MSR_SIRBP, HV_X64_MSR_SVERSION, HvPageMsr, HvPartitionPrivilegeMask,
    HvRegisterName as Name, HvRegisterValue, HvStatus,
};

use super::general::numbered;
use super::{Done, Got, INVALID_VALUE, READ_ONLY, SetEffect, Source, Target, got, set_if, unknown};
use crate::apic::Register;
use crate::partition::validate::gpfn_ok;
use crate::synic::Synic;

/// Bit 1 of HYPERCALL: locked.
const HYPERCALL_LOCKED: u64 = 1 << 1;

/// The MSR of a SynIC register.
fn synic_msr(name: Name) -> Option<u32> {
    if let Some(sint) = numbered(name, Name::SINT0, Name::SINT15) {
        return Some(HV_X64_MSR_SINT0 + sint as u32);
    }
    Some(match name {
        Name::SCONTROL => HV_X64_MSR_SCONTROL,
        Name::SVERSION => HV_X64_MSR_SVERSION,
        Name::SIEFP => HV_X64_MSR_SIEFP,
        Name::SIMP => HV_X64_MSR_SIMP,
        Name::EOM => HV_X64_MSR_EOM,
        Name::SIRBP => HV_X64_MSR_SIRBP,
        _ => return None,
    })
}

fn is_timer(name: Name) -> bool {
    (Name::STIMER0_CONFIG..=Name::STIMER3_COUNT).contains(&name)
}

pub(super) fn get(source: Source<'_>, name: Name) -> Got {
    let Source { hv, partition, vp } = source;
    if let Some(msr) = synic_msr(name) {
        // A VP without a SynIC reads one after reset; only the root has an event ring.
        let read = match &vp.synic {
            Some(synic) => synic.read(msr),
            None => Synic::new().read(msr),
        };
        return got(read.unwrap_or(0));
    }
    got(match name {
        Name::VP_RUNTIME => vp.stats.get(counter::TOTAL_RUN_TIME),
        Name::HYPERCALL => partition.msrs.hypercall,
        Name::GUEST_OS_ID => partition.msrs.guest_os_id,
        Name::VP_INDEX => vp.who.index.into(),
        Name::TIME_REF_COUNT => vp.home.clock.time(hv.now()).units(),
        Name::EOI => 0,
        Name::ICR => vp.apic.read_synthetic(tlfs::HV_X64_MSR_ICR).unwrap_or(0),
        Name::TPR => vp.apic.tpr().into(),
        Name::VP_ASSIST_PAGE => vp.assist_page,
        // Counts signals of a root scheduler: there is none.
        Name::VP_ROOT_SIGNAL_COUNT => 0,
        Name::REFERENCE_TSC => partition.msrs.reference_tsc,
        name if is_timer(name) => 0,
        _ => return Err(unknown(name)),
    })
}

pub(super) fn set(target: Target<'_>, name: Name, value: HvRegisterValue) -> Done {
    let value = value.low;
    if let Some(msr) = synic_msr(name) {
        return set_synic(target, msr, value);
    }
    match name {
        Name::HYPERCALL => set_hypercall(&target, value),
        Name::GUEST_OS_ID => Ok(SetEffect::GuestOsId(value)),
        Name::TPR => set_tpr(target, value),
        Name::VP_ASSIST_PAGE => {
            target.vp.assist_page = if target.vp.is_root() {
                let index = target.vp.who.index.into();
                let page = target.hv.lp(index).root.assist.spfn();
                provided(page.0, value)
            } else {
                value
            };
            Ok(SetEffect::None)
        }
        Name::REFERENCE_TSC => set_reference_tsc(target, value),
        // Writing them is an action of the guest's.
        Name::EOI | Name::ICR => Err(READ_ONLY),
        name if is_timer(name) => set_if(value == 0),
        _ => Err(READ_ONLY),
    }
}

/// A page register of the root's: the page is where the hypervisor has put it (root sheet F.3).
const fn provided(page: u64, value: u64) -> u64 {
    page << 12 | value & 1
}

fn set_synic(target: Target<'_>, msr: u32, value: u64) -> Done {
    let Some(synic) = target.vp.synic.as_mut() else {
        let as_it_is = Synic::new().read(msr).unwrap_or(0) == value;
        return if as_it_is {
            Ok(SetEffect::None)
        } else {
            Err(HvStatus::INVALID_SYNIC_STATE)
        };
    };
    match msr {
        HV_X64_MSR_SVERSION => Err(READ_ONLY),
        _ => synic
            .write(msr, value)
            .map(SetEffect::Synic)
            .map_err(|_| INVALID_VALUE),
    }
}

/// HYPERCALL: enabled only with a GUEST_OS_ID; a locked one stays as it is (guest sheet 4.2).
fn set_hypercall(target: &Target<'_>, value: u64) -> Done {
    let (hv, partition) = (target.hv, &target.partition);
    if partition.msrs.hypercall & HYPERCALL_LOCKED != 0 {
        return set_if(value == partition.msrs.hypercall);
    }
    let mut new = HvPageMsr::from_bits(value);
    if partition.is_root() {
        new.set_gpfn(hv.root_pages.hypercall.spfn().0);
    } else if !gpfn_ok(new.gpfn(), partition.physical_bits(hv)) {
        return Err(INVALID_VALUE);
    }
    if partition.msrs.guest_os_id == 0 {
        new.set_enabled(false);
    }
    Ok(SetEffect::HypercallPage(new.into_bits()))
}

fn set_tpr(target: Target<'_>, value: u64) -> Done {
    let Target { hv, vp, .. } = target;
    vp.apic
        .set_register(Register::TaskPriority, value, hv.now())
        .map_err(|_| INVALID_VALUE)?;
    vp.hw.set_cr8(vp.apic.cr8());
    Ok(SetEffect::None)
}

/// Without the privilege there is no page, so nothing can enable it.
fn set_reference_tsc(target: Target<'_>, value: u64) -> Done {
    let partition = target.partition;
    if partition.is_root() {
        let page = target.hv.root_pages.reference_tsc.spfn();
        return Ok(SetEffect::ReferenceTsc(provided(page.0, value)));
    }
    let offered = HvPartitionPrivilegeMask::ACCESS_PARTITION_REFERENCE_TSC;
    let gpfn = HvPageMsr::from_bits(value).gpfn();
    let reachable = gpfn_ok(gpfn, partition.physical_bits(target.hv));
    if value & 1 != 0 && !(reachable && partition.privileges.contains(offered)) {
        return Err(INVALID_VALUE);
    }
    Ok(SetEffect::ReferenceTsc(value))
}
