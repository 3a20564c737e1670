//! The SynICs of partitions' VPs, wherever the VPs are: registers, messages, events.

use arrayvec::ArrayVec;
use tlfs::{
    HV_SYNIC_STIMER_COUNT, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_VP_ASSIST_PAGE,
    HvMessageType, HvPageMsr, HvStatus, HvTimerMessagePayload,
};
use zerocopy::IntoBytes;

use super::overlay::Overlay;
use super::{Partition, Vp, VpRef};
use crate::hv::Hypervisor;
use crate::synic::{DirectInterrupt, Message, Signal, SynicEffect, VpSynic};
use crate::time::RefTime;

/// Whether a synthetic MSR places a page of a VP.
pub const fn places_vp_page(msr: u32) -> bool {
    matches!(
        msr,
        HV_X64_MSR_SIMP | HV_X64_MSR_SIEFP | HV_X64_MSR_VP_ASSIST_PAGE
    )
}

impl Hypervisor {
    /// Calls `f` with the SynIC of a VP, if there is one. Its lock is inside that of the VP's place; nothing else is locked
    /// meanwhile.
    pub fn with_synic<R>(&self, who: VpRef, f: impl FnOnce(&mut VpSynic) -> R) -> Option<R> {
        self.partitions.synic(who).lock().as_deref_mut().map(f)
    }

    /// SIMP, SIEFP or VP_ASSIST_PAGE of a child's VP: the page lies where the guest wants it, and is empty when it is switched
    /// on. The caller shoots down.
    ///
    /// # Errors
    /// As [`place_overlay`](Self::place_overlay); nothing is changed then.
    pub fn set_vp_page(
        &self,
        child: &mut Partition,
        vp: &mut Vp,
        msr: u32,
        value: u64,
    ) -> Result<SynicEffect, HvStatus> {
        let index = vp.who.index;
        let overlay = match msr {
            HV_X64_MSR_SIMP => Overlay::messages(index),
            HV_X64_MSR_SIEFP => Overlay::event_flags(index),
            HV_X64_MSR_VP_ASSIST_PAGE => Overlay::assist(index),
            _ => return Err(HvStatus::INVALID_PARAMETER),
        };
        let register = HvPageMsr::from_bits(value);
        if msr == HV_X64_MSR_VP_ASSIST_PAGE {
            vp.require_eoi();
            let was_on = HvPageMsr::from_bits(vp.assist_page).enabled();
            if let Some(page) = vp.assist.as_ref().filter(|_| !was_on) {
                page.clear();
            }
            self.place_by_msr(child, overlay, register)?;
            vp.assist_page = value;
            return Ok(SynicEffect::None);
        }
        // The page is empty before anybody sees it, and where the guest wants it before something is put there.
        self.with_synic(vp.who, |synic| synic.prepare(msr, value));
        self.place_by_msr(child, overlay, register)?;
        let written = self.with_synic(vp.who, |synic| synic.write(msr, value));
        written
            .and_then(Result::ok)
            .ok_or(HvStatus::INVALID_SYNIC_STATE)
    }

    /// Lets the synthetic timers of a VP expire that are due at the machine's `now`. The caller sees to the signals.
    pub fn expire_stimers(
        &self,
        vp: &mut Vp,
        now: RefTime,
    ) -> ArrayVec<Signal, HV_SYNIC_STIMER_COUNT> {
        if vp.stimers.next_deadline().is_none() {
            return ArrayVec::new();
        }
        let expired = vp.stimers.expire(vp.home.clock.time(now));
        let mut signals = self.post_timer_messages(vp, u16::MAX, now);
        for DirectInterrupt { vector } in expired.into_iter().flatten() {
            // A timer has either.
            let _ = signals.try_push(Signal::Interrupt { vector });
        }
        signals
    }

    /// Puts the messages of a VP's timers into the slots of these SINTs (bit n: SINTn), as far as they are free, at the
    /// machine's `now`. The caller sees to the signals.
    pub fn post_timer_messages(
        &self,
        vp: &mut Vp,
        sints: u16,
        now: RefTime,
    ) -> ArrayVec<Signal, HV_SYNIC_STIMER_COUNT> {
        let mut signals = ArrayVec::new();
        let now = vp.home.clock.time(now);
        for waiting in vp.stimers.messages(sints) {
            let payload = HvTimerMessagePayload {
                timer_index: waiting.timer as u32,
                reserved: 0,
                expiration_time: waiting.expired.units(),
                delivery_time: now.units(),
            };
            let message = Message {
                message_type: HvMessageType::TIMER_EXPIRED,
                sender: 0,
                payload: payload.as_bytes(),
            };
            let posted = self.with_synic(vp.who, |synic| synic.post(waiting.sint, &message, false));
            if let Some(Ok(signal)) = posted {
                vp.stimers.delivered(waiting.timer, now);
                // One each at most.
                let _ = signals.try_push(signal);
            }
        }
        signals
    }
}
