//! Virtual processors: making and ending them, translation, CPUID (root sheet A.3.4).

use tlfs::stats::hypervisor as counter;
use tlfs::{
    HvCpuidLeafInfo, HvCpuidResult, HvGetVpCpuidValuesFlags, HvInputCreateVp, HvInputDeleteVp,
    HvInputGetVpCpuidValues, HvInputTranslateVirtualAddress, HvStatus,
};

use super::Call;
use super::stats::unshare;
use crate::event_log::Event as Trace;
use crate::log::events::{Event, record};
use crate::lp::find_home;
use crate::partition::table::VpPlace;
use crate::partition::vp::Turns;
use crate::partition::vp_pages::VpPages;
use crate::partition::{
    MAX_VPS, Partition, PartitionState, Vp, VpRef, cpuid, translate as address,
};
use crate::run::MAX_QUEUE;
use crate::sched::{Slot, TooMuch};

/// HvCallCreateVp. Linux leaves garbage in padding and subnode, which mean nothing here (root sheet A.1).
pub fn create(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputCreateVp = call.input();
    let mut target = call.target(input.partition_id)?;
    if !call.is_root() {
        // Nobody makes VPs for itself but the root.
        return Err(HvStatus::ACCESS_DENIED);
    }
    let index = u16::try_from(input.vp_index.0).map_err(|_| HvStatus::INVALID_VP_INDEX)?;
    if usize::from(index) >= MAX_VPS {
        return Err(HvStatus::INVALID_VP_INDEX);
    }
    let hv = call.hv();
    let who = VpRef {
        slot: target.slot,
        index,
    };
    let absent = matches!(*hv.partitions.vp(who).lock(), VpPlace::Absent);
    if !absent {
        return Err(HvStatus::INVALID_VP_INDEX);
    }
    if target.is_root() {
        // It has a VP for each logical processor that runs.
        return Err(HvStatus::OPERATION_DENIED);
    }
    if target.state != PartitionState::Active {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    let shares = &hv.partitions.entry(who.slot).shares;
    let reserve = hv.reserves.take(shares.get().reserve.into());
    let reserve = reserve.map_err(|TooMuch| HvStatus::OPERATION_DENIED)?;
    let pages = VpPages::allocate(hv, who.slot)?;
    let residents = hv.lps.iter().map(|lp| &lp.residents);
    let Some(home) = find_home(residents, call.cpu.index(), MAX_QUEUE as u32) else {
        pages.release(hv, who.slot);
        return Err(HvStatus::OPERATION_DENIED);
    };
    let mut vp = match Vp::new(hv, &mut target, index, pages) {
        Ok(vp) => vp,
        Err((pages, status)) => {
            hv.lp(home).residents.leave();
            pages.release(hv, who.slot);
            return Err(status);
        }
    };
    vp.processor = home;
    vp.queue_slot = if home == call.cpu.index() {
        call.cpu.welcome(who, None)
    } else {
        // That processor gives it a place when it first has to look at it.
        Slot::NONE
    };
    vp.suspend.partition = target.suspended;
    vp.hw.set_exception_intercepts(target.intercepts.exceptions);
    *hv.partitions.vp(who).lock() = VpPlace::Home(vp);
    target.vp_count += 1;
    reserve.keep();
    target
        .stats
        .add(tlfs::stats::partition::VIRTUAL_PROCESSORS, 1);
    hv.stats.add(counter::VIRTUAL_PROCESSORS, 1);
    let event = Event::VpCreated {
        partition: target.id.0,
        vp: index.into(),
    };
    record(hv.now().units(), event);
    Ok(())
}

/// HvCallDeleteVp.
pub fn delete(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputDeleteVp = call.input();
    let mut child = call.child(input.partition_id)?;
    let who = call.vp_of(&child, input.vp_index)?;
    if !call.with_vp(who, |vp| vp.is_suspended())? {
        return Err(HvStatus::INVALID_VP_STATE);
    }
    remove_vp(call, &mut child, who);
    Ok(())
}

/// Ends a VP of a child, if it is there. If another processor has to let it go first, the call is executed again.
pub(super) fn remove_vp(call: &mut Call<'_>, child: &mut Partition, who: VpRef) {
    let hv = call.hv();
    let here = call.cpu.index();
    let left = call.with_vp(who, |vp| {
        let turns = vp.turns();
        vp.leaving = turns.processor != here && turns.processor != Turns::NOWHERE;
        (vp.leaving, turns)
    });
    match left {
        Ok((false, turns)) if turns.processor == here => {
            call.cpu.forget_notice(call.vp, who);
            call.cpu.forget_vp(turns);
        }
        Ok((false, _)) => {}
        Ok((true, turns)) => {
            call.cpu.tell(turns);
            call.busy = true;
            return;
        }
        Err(_) => return,
    }
    let mut place = hv.partitions.vp(who).lock();
    let mut vp = match core::mem::take(&mut *place) {
        VpPlace::Home(vp) => vp,
        other => {
            *place = other;
            return;
        }
    };
    drop(place);
    let state = &mut *vp;
    for page in [&mut state.register_page, &mut state.intercept_page] {
        if core::mem::take(&mut page.mapped) {
            unshare(hv, Some(who.slot), page.frame.spfn());
        }
    }
    if core::mem::take(&mut vp.stats_mapped) {
        unshare(hv, Some(who.slot), vp.stats.spfn());
    }
    Vp::end(vp, hv, child);
    child.vp_count = child.vp_count.saturating_sub(1);
    let reserve = hv.partitions.entry(who.slot).shares.get().reserve;
    // Less is never too much.
    let _ = hv.reserves.change(reserve.into(), 0);
    let one_less = 1_u64.wrapping_neg();
    child
        .stats
        .add(tlfs::stats::partition::VIRTUAL_PROCESSORS, one_less);
    hv.stats.add(counter::VIRTUAL_PROCESSORS, one_less);
    let (id, index, status) = (child.id, who.index.into(), HvStatus::SUCCESS);
    call.cpu
        .trace(call.vp, Trace::DeleteVp { id, index, status });
}

/// HvCallTranslateVirtualAddress.
pub fn translate(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputTranslateVirtualAddress = call.input();
    let child = call.child(input.partition_id)?;
    let who = call.vp_of(&child, input.vp_index)?;
    let hv = call.hv();
    let flags = input.control_flags;
    let output = call.with_vp(who, |vp| {
        let output = address::translate(hv, &child, vp, flags, input.gva_page);
        // The answer stays true until the VP goes on (root sheet B.4).
        if flags.tlb_flush_inhibit() && vp.suspend.intercept.suspended() {
            vp.set_intercept_suspend(vp.suspend.intercept.with_tlb_locked(true));
        }
        output
    })?;
    call.put(&output);
    Ok(())
}

/// HvCallGetVpCpuidValues.
pub fn cpuid_values(call: &mut Call<'_>) -> Result<(), HvStatus> {
    const CHUNK: usize = 64;
    let input: HvInputGetVpCpuidValues = call.input();
    let child = call.child(input.partition_id)?;
    let who = call.vp_of(&child, input.vp_index)?;
    let hv = call.hv();
    let registered = input
        .flags
        .contains(HvGetVpCpuidValuesFlags::APPLY_REGISTERED_VALUES);
    for index in call.reps().take(CHUNK) {
        let leaf: HvCpuidLeafInfo = call.element(index);
        let answer = call.with_vp(who, |vp| {
            if registered {
                cpuid::answer(hv, &child, vp, leaf.eax, leaf.ecx)
            } else {
                cpuid::own(hv, &child, vp, leaf.eax, leaf.ecx)
            }
        })?;
        call.put_element(
            index,
            &HvCpuidResult {
                eax: answer.eax,
                ebx: answer.ebx,
                ecx: answer.ecx,
                edx: answer.edx,
            },
        );
        call.done += 1;
    }
    Ok(())
}
