//! Why a VP does not run, and what is about to happen to it: 0x0 to 0x4 and 0x10002 to 0x10009 (root sheet B.4, C.4).

use tlfs::{
    HvDeliverabilityNotificationsRegister as Notifications, HvDispatchSuspendRegister,
    HvExplicitSuspendRegister, HvInterceptSuspendRegister, HvInternalActivityRegister,
    HvRegisterName as Name, HvRegisterValue, HvStatus, HvX64InterruptStateRegister,
    HvX64PendingExceptionEvent, HvX64PendingInterruptionRegister,
};

use super::{Done, Got, INVALID_VALUE, SetEffect, Source, Target, got, set_if, unknown};
use crate::partition::pending::{event_of, pending_interruption, set_pending_exception};

/// InterruptState.
pub fn interrupt_state(shadow: bool, nmi_masked: bool) -> HvX64InterruptStateRegister {
    HvX64InterruptStateRegister::new()
        .with_interrupt_shadow(shadow)
        .with_nmi_masked(nmi_masked)
}

pub(super) fn get(source: Source<'_>, name: Name) -> Got {
    let vp = source.vp;
    match name {
        Name::EXPLICIT_SUSPEND => {
            got(HvExplicitSuspendRegister::new().with_suspended(vp.suspend.explicit))
        }
        Name::INTERCEPT_SUSPEND => got(vp.suspend.intercept),
        Name::DISPATCH_SUSPEND => {
            got(HvDispatchSuspendRegister::new().with_suspended(vp.suspend.dispatch))
        }
        Name::INTERNAL_ACTIVITY_STATE => got(HvInternalActivityRegister::new()
            .with_startup_suspend(vp.apic.is_waiting_for_startup())
            .with_halt_suspend(vp.halted && !vp.idle)
            .with_idle_suspend(vp.idle)),
        Name::PENDING_INTERRUPTION => got(pending_interruption(vp.hw.pending_event())),
        Name::INTERRUPT_STATE => got(interrupt_state(
            vp.hw.interrupt_shadow(),
            vp.hw.nmi_masked(),
        )),
        Name::DELIVERABILITY_NOTIFICATIONS => got(vp.notifications),
        name if reads_zero(name) => got(0_u64),
        _ => Err(unknown(name)),
    }
}

/// PendingEvent0 shows in PendingInterruption; there is no place for more events, debug exceptions are one, and hints are
/// not given.
const fn reads_zero(name: Name) -> bool {
    matches!(
        name,
        Name::INSTRUCTION_EMULATION_HINTS
            | Name::PENDING_EVENT0
            | Name::PENDING_EVENT1
            | Name::PENDING_EVENT2
            | Name::PENDING_EVENT3
            | Name::PENDING_DEBUG_EXCEPTION
    )
}

pub(super) fn set(target: Target<'_>, name: Name, value: HvRegisterValue) -> Done {
    match name {
        Name::EXPLICIT_SUSPEND => {
            let register = HvExplicitSuspendRegister::from_bits(value.low);
            target.vp.suspend.explicit = flag(register.suspended(), register.reserved())?;
            Ok(suspended(register.suspended()))
        }
        Name::INTERCEPT_SUSPEND => set_intercept_suspend(target, value.low),
        Name::DISPATCH_SUSPEND => {
            let register = HvDispatchSuspendRegister::from_bits(value.low);
            target.vp.suspend.dispatch = flag(register.suspended(), register.reserved())?;
            Ok(suspended(register.suspended()))
        }
        Name::DELIVERABILITY_NOTIFICATIONS => set_notifications(target, value.low),
        _ => set_stopped(target, name, value),
    }
}

/// The registers of these groups that need a stopped VP.
fn set_stopped(target: Target<'_>, name: Name, value: HvRegisterValue) -> Done {
    get(target.source(), name)?;
    target.require_stopped()?;
    let Target { vp, .. } = target;
    match name {
        Name::INTERNAL_ACTIVITY_STATE => {
            let register = HvInternalActivityRegister::from_bits(value.low);
            let (halt, idle) = (register.halt_suspend(), register.idle_suspend());
            // The root has no such MSR.
            let impossible = idle && (halt || vp.is_root());
            if impossible || register.reserved() != 0 {
                return Err(INVALID_VALUE);
            }
            (vp.halted, vp.idle) = (halt || idle, idle);
            vp.apic.set_waiting_for_startup(register.startup_suspend());
        }
        Name::PENDING_INTERRUPTION => {
            let register = HvX64PendingInterruptionRegister::from_bits(value.low);
            vp.hw.set_pending_event(event_of(register)?);
        }
        Name::INTERRUPT_STATE => {
            let register = HvX64InterruptStateRegister::from_bits(value.low);
            if register.reserved() != 0 {
                return Err(INVALID_VALUE);
            }
            vp.hw.set_interrupt_shadow(register.interrupt_shadow());
            vp.hw.set_nmi_masked(register.nmi_masked());
        }
        Name::PENDING_EVENT0 => {
            set_pending_exception(vp, HvX64PendingExceptionEvent::from_bits(value.as_u128()))?;
        }
        _ => return set_if(value.as_u128() == 0),
    }
    Ok(SetEffect::None)
}

fn flag(value: bool, reserved: u64) -> Result<bool, HvStatus> {
    if reserved == 0 {
        Ok(value)
    } else {
        Err(INVALID_VALUE)
    }
}

const fn suspended(now: bool) -> SetEffect {
    if now {
        SetEffect::Suspend
    } else {
        SetEffect::Resume
    }
}

/// The root can clear the register, and write it as it is; only the hypervisor sets it.
fn set_intercept_suspend(target: Target<'_>, value: u64) -> Done {
    let old = target.vp.suspend.intercept;
    let new = HvInterceptSuspendRegister::from_bits(value);
    if new.into_bits() & !old.into_bits() != 0 || (new.tlb_locked() && !new.suspended()) {
        return Err(INVALID_VALUE);
    }
    target.vp.set_intercept_suspend(new);
    Ok(if old.suspended() && !new.suspended() {
        SetEffect::Resume
    } else {
        SetEffect::None
    })
}

/// NMIs and interrupts of a VP with a local APIC need no help of its parent's: INVALID_PARAMETER (root sheet C.4). The
/// SINTs are those of a SynIC.
fn set_notifications(target: Target<'_>, value: u64) -> Done {
    let new = Notifications::from_bits(value);
    if new.reserved() != 0 {
        return Err(INVALID_VALUE);
    }
    if target.partition.has_lapic() && (new.nmi_notification() || new.interrupt_notification()) {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let vp = target.vp;
    if new.sints() != 0 && vp.is_root() {
        // It has no parent that could be told.
        return Err(HvStatus::INVALID_PARAMETER);
    }
    vp.notifications = new;
    let who = vp.who;
    // A slot that has become free since the parent found it full: the guest will not say so again.
    let free = target
        .hv
        .with_synic(who, |synic| synic.free_slots(new.sints()));
    vp.sint_due = free.is_some_and(|free| free != 0);
    Ok(if vp.sint_due {
        SetEffect::Resume
    } else {
        SetEffect::None
    })
}
