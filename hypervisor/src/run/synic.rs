//! The SynIC and the synthetic timers of the VP in hand: what its guest writes, and what comes of it.

use tlfs::HvDeliverabilityNotificationsRegister as Notifications;

use super::Cpu;
use crate::apic::{Delivery, GeneralProtection, Trigger};
use crate::intercept::message;
use crate::mem::frames::PartitionSlot;
use crate::partition::synic::places_vp_page;
use crate::partition::table::PartitionGuard;
use crate::partition::{Vp, VpRef};
use crate::port::Signals;
use crate::synic::{Signal, Sint, SynicEffect, VpSynic};

impl Cpu {
    /// WRMSR of a register of the SynIC, or of VP_ASSIST_PAGE of a child's.
    ///
    /// # Errors
    /// #GP; nothing has changed then.
    pub(super) fn write_synic(
        &mut self,
        vp: &mut Vp,
        msr: u32,
        value: u64,
    ) -> Result<SynicEffect, GeneralProtection> {
        let hv = self.hv;
        if !places_vp_page(msr) || vp.is_root() {
            let written = hv.with_synic(vp.who, |synic| synic.write(msr, value));
            return written.unwrap_or(Err(GeneralProtection));
        }
        let mut child = PartitionGuard::lock(vp.home.0).ok_or(GeneralProtection)?;
        let effect = hv.set_vp_page(&mut child, vp, msr, value);
        hv.shoot_down(vp.who.slot);
        effect.map_err(|_| GeneralProtection)
    }

    /// A SynIC register of the VP in hand was written.
    pub fn synic_written(&mut self, vp: &mut Vp, effect: SynicEffect) {
        let seen = self.hv.with_synic(vp.who, |synic| {
            let served = synic.registers().takes_messages(Sint::INTERCEPTS);
            (synic.vectors(), served)
        });
        if let Some((vectors, served)) = seen {
            vp.sints = vectors;
            if vp.is_root() {
                self.lp().residents.set_served(served);
            }
        }
        match effect {
            SynicEffect::Retry(sints) => self.retry_sints(vp, sints),
            SynicEffect::MessagePage(_) => self.retry_sints(vp, u16::MAX),
            SynicEffect::None | SynicEffect::EventFlagsPage(_) | SynicEffect::EventRingPage(_) => {}
        }
    }

    /// Slots of the VP in hand may have become free, or able to take messages (bit n: of SINTn): what waits for them is put
    /// there, or whoever waits is told.
    pub(super) fn retry_sints(&mut self, vp: &mut Vp, sints: u16) {
        if vp.is_root() && sints & Sint::INTERCEPTS.bit() != 0 {
            self.deliver_notices(vp);
        }
        if vp.stimers.messages(sints).next().is_some() {
            self.post_timers(vp, sints);
        }
        let waiting = |synic: &mut VpSynic| synic.take_waiting(sints);
        if let Some(sints @ 1..) = self.hv.with_synic(vp.who, waiting) {
            self.deliver_from_ports(vp, sints);
        }
        if vp.notifications.sints() & sints != 0 {
            self.report_free_slots(vp);
        }
    }

    /// Messages of the timers of the VP in hand into their slots.
    fn post_timers(&mut self, vp: &mut Vp, sints: u16) {
        let (who, now) = (vp.who, self.hv.now());
        for signal in self.hv.post_timer_messages(vp, sints, now) {
            self.signal(vp, who, signal);
        }
        // A periodic timer goes on when its message is out of the way.
        self.set_deadline(who, vp.next_deadline());
    }

    /// Messages that wait in the ports of the VP in hand's partition into their slots.
    fn deliver_from_ports(&mut self, vp: &mut Vp, sints: u16) {
        let home = vp.home;
        let VpRef { slot, index } = vp.who;
        let signals = home.ports.lock().deliver(Some(index), sints, &home.synics);
        self.signal_all(vp, slot, signals);
    }

    /// Tells VPs of a partition what came for them through its ports.
    pub fn signal_all(&mut self, hand: &mut Vp, slot: PartitionSlot, signals: Signals) {
        for (index, signal) in signals {
            self.signal(hand, VpRef { slot, index }, signal);
        }
    }

    /// Tells a VP that something is in its message or event flags page. True if the VP is there.
    pub fn signal(&mut self, hand: &mut Vp, to: VpRef, signal: Signal) -> bool {
        match signal {
            Signal::None => true,
            Signal::Interrupt { vector } => {
                let trigger = Trigger::Edge;
                self.deliver(hand, to, Delivery::Fixed { vector, trigger })
            }
            // A root's VP, whose index is its processor's.
            Signal::Notice(sint) if u32::from(to.index) == self.index() => {
                self.notices.push_sint(sint);
                self.deliver_notices(hand);
                true
            }
            Signal::Notice(sint) => {
                let processor = to.index.into();
                self.hv.lp(processor).mailbox.notice(sint);
                self.hv.kick(processor);
                true
            }
        }
    }

    /// Tells the parent of the VP in hand of the slots that it waits for, and that are free.
    pub fn report_free_slots(&mut self, vp: &mut Vp) {
        if vp.is_suspended() {
            // It has a message already.
            vp.sint_due = true;
            return;
        }
        let wanted = vp.notifications.sints();
        let free = self.hv.with_synic(vp.who, |synic| synic.free_slots(wanted));
        let Some(free) = free.filter(|free| *free != 0) else {
            return;
        };
        // Each is reported once (root sheet C.4).
        let rest: Notifications = vp.notifications.with_sints(wanted & !free);
        vp.notifications = rest;
        let seen = vp.hw.snapshot();
        let message = message::sint_deliverable(vp, &seen, free);
        self.intercept(vp, &seen, &message);
    }
}
