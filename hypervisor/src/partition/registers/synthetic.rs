//! Registers that are synthetic MSRs: 0x90000, the SynIC's 0xA0000, and the synthetic timers' 0xB0000.

use tlfs::stats::vp as counter;
use tlfs::{
    HV_SYNIC_VERSION, HV_X64_MSR_EOM, HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP,
    HV_X64_MSR_SINT0, HV_X64_MSR_SIRBP, HV_X64_MSR_STIMER0_CONFIG, HV_X64_MSR_SVERSION,
    HV_X64_MSR_VP_ASSIST_PAGE, HvPageMsr, HvPartitionPrivilegeMask, HvRegisterName as Name,
    HvRegisterValue, HvStatus,
};

use super::general::numbered;
use super::{Done, Got, INVALID_VALUE, READ_ONLY, SetEffect, Source, Target, got, set_if, unknown};
use crate::apic::{GeneralProtection, Register};
use crate::partition::synic::places_vp_page;
use crate::partition::validate::gpfn_ok;

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

/// The MSR of a register of the synthetic timers.
fn timer_msr(name: Name) -> Option<u32> {
    let timer = numbered(name, Name::STIMER0_CONFIG, Name::STIMER3_COUNT)?;
    Some(HV_X64_MSR_STIMER0_CONFIG + timer as u32)
}

pub(super) fn get(source: Source<'_>, name: Name) -> Got {
    let Source { hv, partition, vp } = source;
    if let Some(msr) = synic_msr(name) {
        // Only the root has an event ring.
        let read = hv.with_synic(vp.who, |synic| synic.registers().read(msr));
        return got(read.and_then(Result::ok).unwrap_or(0));
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
        name => match timer_msr(name) {
            Some(msr) => vp.stimers.read(msr).unwrap_or(0),
            None => return Err(unknown(name)),
        },
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
        Name::VP_ASSIST_PAGE if target.vp.is_root() => {
            let index = target.vp.who.index.into();
            let page = target.hv.lp(index).root.assist.spfn();
            target.vp.assist_page = provided(page.0, value);
            Ok(SetEffect::None)
        }
        Name::VP_ASSIST_PAGE => set_page(&target, HV_X64_MSR_VP_ASSIST_PAGE, value),
        Name::REFERENCE_TSC => set_reference_tsc(target, value),
        // Writing them is an action of the guest's.
        Name::EOI | Name::ICR => Err(READ_ONLY),
        name => match timer_msr(name) {
            Some(msr) => set_timer(target, msr, value),
            None => Err(READ_ONLY),
        },
    }
}

/// A page register of the root's: the page is where the hypervisor has put it (root sheet F.3).
const fn provided(page: u64, value: u64) -> u64 {
    page << 12 | value & 1
}

fn set_synic(target: Target<'_>, msr: u32, value: u64) -> Done {
    if msr == HV_X64_MSR_SVERSION {
        // A parent that restores everything it has read comes through.
        return set_if(value == HV_SYNIC_VERSION);
    }
    if msr == HV_X64_MSR_SIRBP && !target.vp.is_root() {
        return set_if(value == 0);
    }
    if places_vp_page(msr) && !target.vp.is_root() {
        return set_page(&target, msr, value);
    }
    let who = target.vp.who;
    let written = target.hv.with_synic(who, |synic| {
        let effect = synic.write(msr, value)?;
        Ok::<_, GeneralProtection>((effect, synic.vectors()))
    });
    let (effect, vectors) = written
        .ok_or(HvStatus::INVALID_SYNIC_STATE)?
        .map_err(|_| INVALID_VALUE)?;
    target.vp.sints = vectors;
    Ok(SetEffect::Synic(effect))
}

/// A page of a child's VP: the caller lays it there.
fn set_page(target: &Target<'_>, msr: u32, value: u64) -> Done {
    let page = HvPageMsr::from_bits(value);
    let reachable = gpfn_ok(page.gpfn(), target.partition.physical_bits(target.hv));
    if page.enabled() && !reachable {
        return Err(INVALID_VALUE);
    }
    Ok(SetEffect::VpPage { msr, value })
}

fn set_timer(target: Target<'_>, msr: u32, value: u64) -> Done {
    let now = target.vp.home.clock.time(target.hv.now());
    let written = target.vp.stimers.write(msr, value, now);
    written.map_err(|_| INVALID_VALUE)?;
    Ok(SetEffect::TimerChanged)
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
