//! Registers of VPs (root sheet A.3.4, B.4).

use core::ops::Range;

use tlfs::{
    HvInputVpRegisters, HvPartitionPrivilegeMask, HvRegisterAssoc, HvRegisterName, HvStatus,
};

use super::Call;
use super::call::List;
use crate::hv::Hypervisor;
use crate::partition::registers::{self, SetEffect};
use crate::partition::table::PartitionGuard;
use crate::partition::vp::Turns;
use crate::partition::{PartitionState, Vp, VpRef, register_page};
use crate::synic::SynicEffect;
use crate::time::RefTime;

/// Registers that one execution of a call does.
const CHUNK: usize = 32;

/// Whose registers a call is about.
fn target(
    call: &Call<'_>,
    input: &HvInputVpRegisters,
) -> Result<(PartitionGuard<'static>, VpRef), HvStatus> {
    let target = call.target(input.partition_id)?;
    let own = target.id == call.caller;
    let allowed = HvPartitionPrivilegeMask::ACCESS_VP_REGISTERS;
    if own && !target.privileges.contains(allowed) {
        return Err(HvStatus::ACCESS_DENIED);
    }
    if target.state != PartitionState::Active {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    if !input.input_vtl.is_vtl0() {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let who = call.vp_named(&target, input.vp_index)?;
    Ok((target, who))
}

/// HvCallGetVpRegisters. Of a VP that runs, the values are those of a moment.
pub fn get(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputVpRegisters = call.input();
    let (target, who) = target(call, &input)?;
    let hv = call.hv();
    if who == call.vp.who {
        call.cpu.store_fpu(call.vp);
        call.cpu.show_run_time(call.vp, hv.now());
    }
    load_page(call, hv, who)?;
    for index in call.reps().take(CHUNK) {
        let name: HvRegisterName = call.element(index);
        let value = call.with_vp(who, |vp| registers::get(hv, &target, vp, name))??;
        call.put_element(index, &value);
        call.done += 1;
    }
    Ok(())
}

/// What the worker has changed in the register page counts before anything else is looked at.
fn load_page(call: &mut Call<'_>, hv: &Hypervisor, who: VpRef) -> Result<(), HvStatus> {
    call.with_vp(who, |vp| {
        if vp.is_suspended() {
            register_page::load(hv, vp)
        } else {
            Ok(())
        }
    })?
}

/// What is left to do after registers were set.
#[derive(Default)]
struct After {
    /// A suspend register has changed.
    suspend: bool,
    timer: bool,
    fpu: bool,
    synic: Option<SynicEffect>,
    /// The VP does not run on.
    suspended: bool,
    /// Where its turns are, and when its timer is due: what was true while it was looked at, for its processor may have it in
    /// hand again by now.
    seen: Option<(Turns, Option<RefTime>)>,
    /// Where it wants to run, if it does.
    wanted: Option<Turns>,
}

/// HvCallSetVpRegisters: in the order of the list, up to the first that is refused. A VP that may run then goes on.
///
/// This is how every intercept ends, so the VP is looked up once.
pub fn set(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputVpRegisters = call.input();
    let (mut target, who) = target(call, &input)?;
    let hv = call.hv();
    let live = who == call.vp.who;
    if live {
        call.cpu.store_fpu(call.vp);
    }
    let (list, reps) = (call.list(), call.reps());
    let (mut after, mut done) = (After::default(), reps.start);
    let result = call
        .with_vp(who, |vp| {
            set_all(hv, &mut target, vp, list, reps, &mut done, &mut after)
        })
        .flatten();
    drop(target);
    call.done = done;
    if after.fpu && live {
        call.cpu.load_fpu(call.vp);
    }
    if let Some(effect) = after.synic
        && live
    {
        call.cpu.synic_written(call.vp, effect);
    }
    let Some((turns, deadline)) = after.seen else {
        return result;
    };
    if after.timer {
        // Registers of the APIC may be among them.
        if live {
            hv.show_addressing(call.vp);
        }
        call.cpu.set_timer_of(turns, deadline);
    }
    if after.suspend {
        if after.suspended {
            call.cpu.park(turns);
            call.cpu.reschedule |= live;
        } else {
            call.cpu.wake_wanted(after.wanted);
        }
    }
    result
}

/// Sets a part of the list in a VP; the page of one that stays suspended shows it.
///
/// # Errors
/// What the worker left in the register page is refused, with nothing of the list set then; or an element.
fn set_all(
    hv: &Hypervisor,
    target: &mut PartitionGuard<'_>,
    vp: &mut Vp,
    list: List<'_>,
    reps: Range<usize>,
    done: &mut usize,
    after: &mut After,
) -> Result<(), HvStatus> {
    if vp.is_suspended() {
        register_page::load(hv, vp)?;
    }
    let end = reps.end.min(reps.start + CHUNK);
    let mut result = Ok(());
    while *done < end && result.is_ok() {
        result = set_one(hv, target, vp, &list.element(*done), after);
        *done += usize::from(result.is_ok());
    }
    after.seen = Some((vp.turns(), vp.next_deadline()));
    after.suspended = vp.is_suspended();
    if !after.suspended {
        after.wanted = vp.wanted();
    } else if !vp.is_root() {
        register_page::publish_stored(hv, vp);
    }
    result
}

fn set_one(
    hv: &Hypervisor,
    target: &mut PartitionGuard<'_>,
    vp: &mut Vp,
    assoc: &HvRegisterAssoc,
    after: &mut After,
) -> Result<(), HvStatus> {
    match registers::set(hv, target, vp, assoc.name, assoc.value)? {
        SetEffect::None => {}
        SetEffect::Resume | SetEffect::Suspend => after.suspend = true,
        SetEffect::TimerChanged => after.timer = true,
        SetEffect::Xcr0 => after.fpu = true,
        SetEffect::Synic(effect) => look_at_sints(vp, effect, after),
        SetEffect::GuestOsId(value) => {
            hv.set_guest_os_id(target, value);
            hv.shoot_down(target.slot);
        }
        SetEffect::ReferenceTsc(value) => {
            hv.set_reference_tsc(target, value)
                .map_err(|_| HvStatus::INVALID_REGISTER_VALUE)?;
            hv.shoot_down(target.slot);
        }
        SetEffect::HypercallPage(value) => {
            hv.set_hypercall_msr(target, value)
                .map_err(|_| HvStatus::INVALID_REGISTER_VALUE)?;
            hv.shoot_down(target.slot);
        }
        SetEffect::Crash { msr, value } => target.msrs.set_crash(msr, value),
        SetEffect::VpPage { msr, value } => {
            let effect = hv.set_vp_page(target, vp, msr, value);
            hv.shoot_down(target.slot);
            let effect = effect.map_err(|_| HvStatus::INVALID_REGISTER_VALUE)?;
            look_at_sints(vp, effect, after);
        }
        SetEffect::CrIntercepts => vp.refresh_cr_intercepts(),
    }
    // Any register may be a floating point one; that of the VP in hand goes back into the processor.
    after.fpu |= assoc.name.0 >> 16 == 3;
    Ok(())
}

/// A SynIC register was set: by the root in itself, or in a VP that looks at its slots when it has its next turn.
fn look_at_sints(vp: &mut Vp, effect: SynicEffect, after: &mut After) {
    after.synic = Some(effect);
    if !vp.is_root() && effect != SynicEffect::None {
        vp.sint_due = true;
        after.suspend = true;
    }
}
