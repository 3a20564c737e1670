//! Physical interrupts, timers, and messages between local APICs.

use tlfs::stats::{logical_processor as lp, vp as counter};

use super::Cpu;
use crate::apic::{Delivery, Effect, InterruptMessage, Trigger, lowest_priority};
use crate::arch::section::AFTER_WINDOW;
use crate::cpu::{self, VECTOR_SPURIOUS, VECTOR_TIMER, VECTOR_WAKE};
use crate::hv::Hypervisor;
use crate::log::events::{Event, record};
use crate::log::panic;
use crate::partition::table::{MAX_VPS, VpPlace};
use crate::partition::vp::Turns;
use crate::partition::{Vp, VpRef};
use crate::time::{RefTime, UNITS_PER_SECOND};

/// Physical vectors that arrived, bit = vector.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrived([u64; 4]);

impl Arrived {
    fn add(&mut self, vector: u8) {
        self.0[usize::from(vector >> 6)] |= 1 << (vector & 63);
    }

    fn is_empty(self) -> bool {
        self.0 == [0; 4]
    }

    /// All of them, the highest first.
    pub(super) fn drain(mut self) -> impl Iterator<Item = u8> {
        core::iter::from_fn(move || {
            let word = (0..4).rev().find(|&word| self.0[word] != 0)?;
            let bit = 63 - self.0[word].leading_zeros();
            self.0[word] &= !(1 << bit);
            Some((word as u32 * 64 + bit) as u8)
        })
    }
}

/// Vectors that the hypervisor keeps: the root gets no interrupt under them.
const OWN: core::ops::RangeInclusive<u8> = 0xF0..=0xFE;

/// Most windows for interrupts in a row: a storm of them does not keep the guest out for ever.
const MAX_WINDOWS: usize = 4;

/// Most expirations of one VP's timer that are served in a second.
const MAX_TIMER_RATE: u64 = 50_000;

/// What became of a delivery.
#[derive(Debug)]
pub(super) enum Delivered {
    /// The VP's APIC took it; the VP wants its turn, or does not.
    Taken(Option<Turns>),
    /// It was left for the processor that has the VP in hand.
    Left,
    /// The APIC did not take it, or had it already; or there is no such VP.
    Refused,
}

/// Gives the APIC of a VP that this processor may change a delivery.
fn accept(vp: &mut Vp, delivery: Delivery) -> Delivered {
    if !vp.apic.accept(delivery) {
        return Delivered::Refused;
    }
    vp.stats.count(counter::SYNTHETIC_INTERRUPTS);
    Delivered::Taken(vp.wanted())
}

impl Hypervisor {
    /// Shows other processors how the APIC of a VP is addressed that is taken in hand, or that is in hand and has changed.
    #[inline]
    pub fn show_addressing(&self, vp: &Vp) {
        let shared = self.partitions.addressing(vp.who);
        shared.show(vp.apic.addressing());
    }

    /// Gives a VP that is not in hand here a delivery.
    pub(super) fn deliver(&self, to: VpRef, delivery: Delivery) -> Delivered {
        match &mut *self.partitions.vp(to).lock() {
            VpPlace::Home(vp) => {
                let delivered = accept(vp, delivery);
                if matches!(delivered, Delivered::Taken(_)) {
                    // It has to wait for the VP's turn.
                    vp.stats.count(counter::POSTED_INTERRUPT_NOTIFICATIONS);
                }
                delivered
            }
            VpPlace::Running { on, .. } => {
                // Under the lock of the place: see there.
                self.lp(*on).mailbox.deliver(delivery);
                self.kick(*on);
                Delivered::Left
            }
            VpPlace::Absent => Delivered::Refused,
        }
    }
}

impl Cpu {
    /// Lets pending physical interrupts in, and serves them. One that has been served may have held back others: they
    /// come now rather than with an exit of their own, which an emulator may forget.
    pub(super) fn take_interrupts(&mut self, hand: &mut Vp) {
        for _ in 0..MAX_WINDOWS {
            let mut arrived = Arrived::default();
            self.processor.counters_mut().section.end();
            cpu::take_interrupts(self.local, &mut |vector| arrived.add(vector));
            self.section_after_window();
            self.serve(hand, arrived);
            if arrived.is_empty() {
                break;
            }
        }
    }

    /// Halts until an interrupt arrives.
    pub(super) fn halt(&mut self) -> Arrived {
        self.apic.look_again();
        let mut arrived = Arrived::default();
        self.processor.counters_mut().section.end();
        cpu::idle(self.local, &mut |vector| arrived.add(vector));
        self.section_after_window();
        arrived
    }

    fn section_after_window(&mut self) {
        let section = &mut self.processor.counters_mut().section;
        section.begin(|| (AFTER_WINDOW, 0));
    }

    /// Whether what arrived is no interrupt, so that there is nothing to end. Of a device's with the same vector the local
    /// APIC knows.
    pub(super) fn is_spurious(&self, vector: u8) -> bool {
        vector == VECTOR_SPURIOUS && !self.apic.is_in_service(vector)
    }

    /// Deals with what arrived.
    pub(super) fn serve(&mut self, hand: &mut Vp, arrived: Arrived) {
        let mut mail = false;
        for vector in arrived.drain() {
            match vector {
                VECTOR_TIMER => {
                    self.apic.eoi();
                    self.apic.timer_fired();
                    self.armed = u64::MAX;
                    self.lp().stats.count(lp::TIMER_INTERRUPTS);
                }
                VECTOR_WAKE => {
                    self.apic.eoi();
                    mail = true;
                    self.lp().stats.count(lp::INTER_PROCESSOR_INTERRUPTS);
                }
                vector if OWN.contains(&vector) => {
                    self.apic.eoi();
                    record(self.hv.now().units(), Event::StrayInterrupt { vector });
                }
                // The root would take it for one, and might not end it: then no other would ever come to it.
                vector if self.is_spurious(vector) => {
                    record(self.hv.now().units(), Event::StrayInterrupt { vector });
                }
                vector => self.device_interrupt(hand, vector),
            }
        }
        if self.local.take_nmi() {
            panic::stop_with_the_others();
            record(self.hv.now().units(), Event::MachineNmi);
            self.deliver(hand, self.root_vp(), Delivery::Nmi);
        }
        if mail {
            self.read_mail(hand);
        }
        let now = self.hv.now();
        self.show_run_time(hand, now);
        self.show_processor(now);
        self.expire_timers(hand, now);
        if now >= self.slice_end {
            // Once is enough: armed for what is past, the timer would be the next interrupt of each window.
            self.slice_end = RefTime::MAX;
            self.slice_end_tsc = u64::MAX;
            self.reschedule = true;
        }
        if self.queue.should_preempt(now) {
            self.reschedule = true;
        }
        self.arm_timer();
    }

    /// The root's VP of this processor.
    pub fn root_vp(&self) -> VpRef {
        VpRef {
            slot: crate::mem::frames::PartitionSlot::ROOT,
            index: self.local.index() as u16,
        }
    }

    /// A device's interrupt is the root's. An edge one is ended here, a level one when the root ends it.
    fn device_interrupt(&mut self, hand: &mut Vp, vector: u8) {
        self.lp().stats.count(lp::HARDWARE_INTERRUPTS);
        let level = self.apic.is_level(vector);
        let trigger = if level { Trigger::Level } else { Trigger::Edge };
        let taken = self.deliver(hand, self.root_vp(), Delivery::Fixed { vector, trigger });
        if !level || !taken {
            self.apic.eoi();
        }
    }

    /// Gives a VP's APIC what arrives for it, and lets the VP run if that ends its waiting. False if the APIC did not
    /// take it, or had it already.
    pub fn deliver(&mut self, hand: &mut Vp, to: VpRef, delivery: Delivery) -> bool {
        let delivered = if to == hand.who {
            accept(hand, delivery)
        } else {
            self.hv.deliver(to, delivery)
        };
        match delivered {
            Delivered::Taken(wanted) => self.wake_wanted(wanted),
            Delivered::Left => {}
            Delivered::Refused => return false,
        }
        true
    }

    /// Routes a message to the APICs of a partition that it is for.
    pub fn route(
        &mut self,
        hand: &mut Vp,
        sender: Option<VpRef>,
        to: VpRef,
        message: InterruptMessage,
    ) {
        let slot = to.slot;
        if let Some(id) = message.destination.single() {
            if let Some(to) = self.hv.vp_with_apic_id(slot, id)
                && self.apic_matches(hand, to, sender, &message).is_some()
            {
                self.deliver(hand, to, message.delivery);
            }
            return;
        }
        if message.lowest_priority {
            let mut candidates = [None; MAX_VPS];
            for (to, place) in VpRef::all(slot).zip(&mut candidates) {
                let found = self.apic_matches(hand, to, sender, &message);
                *place = found.flatten().map(|found| (to, found));
            }
            if let Some(to) = lowest_priority(candidates.into_iter().flatten()) {
                self.deliver(hand, to, message.delivery);
            }
            return;
        }
        for to in VpRef::all(slot) {
            if self.apic_matches(hand, to, sender, &message).is_some() {
                self.deliver(hand, to, message.delivery);
            }
        }
    }

    /// The arbitration priority of a VP's APIC (`None` if it takes part in none), if a message is for it. One that another
    /// processor has in hand counts as busy: only its addressing is known.
    fn apic_matches(
        &self,
        hand: &mut Vp,
        to: VpRef,
        sender: Option<VpRef>,
        message: &InterruptMessage,
    ) -> Option<Option<u8>> {
        let is_sender = sender == Some(to);
        let ask = |vp: &Vp| {
            vp.apic
                .matches(message.destination, is_sender)
                .then(|| vp.apic.arbitration_priority())
        };
        if to == hand.who {
            return ask(hand);
        }
        match &*self.hv.partitions.vp(to).lock() {
            VpPlace::Home(vp) => ask(vp),
            VpPlace::Running { .. } => {
                let id = self.hv.apic_id(to);
                let addressing = self.hv.partitions.addressing(to).get();
                let included = addressing.include(id, message.destination, is_sender);
                included.then_some(Some(u8::MAX))
            }
            VpPlace::Absent => None,
        }
    }

    /// Does what a write to the APIC of the VP in hand asks for.
    pub(super) fn apply(&mut self, vp: &mut Vp, effect: Effect) {
        match effect {
            Effect::None => {}
            Effect::TimerChanged => self.set_timer(vp),
            Effect::Readdressed => {
                self.hv.show_addressing(vp);
                self.set_timer(vp);
            }
            Effect::Ipi(message) => {
                vp.stats.count(counter::APIC_IPIS_SENT);
                let who = vp.who;
                self.route(vp, Some(who), who, message);
            }
            Effect::EndOfInterrupt { vector, level } => {
                vp.stats.count(counter::APIC_EOI_ACCESSES);
                self.end_of_interrupt(vp, vector, level);
            }
        }
    }

    /// The guest of the VP in hand may have ended an interrupt without an EOI.
    #[cold]
    pub(super) fn end_lazily(&mut self, vp: &mut Vp) {
        if let Some(Effect::EndOfInterrupt { vector, level }) = vp.end_lazily() {
            self.end_of_interrupt(vp, vector, level);
        }
    }

    fn end_of_interrupt(&mut self, vp: &mut Vp, vector: u8, level: bool) {
        match (vp.is_root(), level) {
            (true, true) => self.apic.eoi(),
            (false, true) => self.report_eoi(vp, vector),
            _ => {}
        }
        if vp.sints.are_used(vector) {
            let sints = self
                .hv
                .with_synic(vp.who, |synic| synic.registers().sints_with_vector(vector));
            self.retry_sints(vp, sints.unwrap_or(0));
        }
    }

    /// A timer of the VP in hand has been set anew.
    pub(super) fn set_timer(&mut self, vp: &Vp) {
        self.set_deadline(vp.who, vp.next_deadline());
    }

    /// A timer of a VP, which may have its turns elsewhere, has been set anew.
    pub fn set_timer_of(&mut self, turns: Turns, deadline: Option<RefTime>) {
        if turns.processor == self.index() {
            self.set_deadline(turns.who, deadline);
        } else {
            self.tell(turns);
        }
    }

    pub(super) fn set_deadline(&mut self, who: VpRef, deadline: Option<RefTime>) {
        // The heap and the physical timer count in TSC ticks.
        let deadline = deadline.map(|at| self.hv.clock.tsc_at(at));
        self.timers.set(who.key(), deadline);
        self.arm_timer();
    }

    /// A VP ends: its place in the queue and its timer go.
    pub fn forget_vp(&mut self, turns: Turns) {
        self.lp().residents.leave();
        self.queue.remove(turns.slot, self.hv.now());
        self.timers.set(turns.who.key(), None);
    }

    /// Brings all timers that are due to `now`.
    fn expire_timers(&mut self, hand: &mut Vp, now: RefTime) {
        let (hv, tsc) = (self.hv, cpu::tsc());
        // A deadline of the heap is the first tick at which the clock shows it: so one that is past is due at this time. One
        // that the VP has changed since is not served early.
        let at = hv.time_at(tsc).max(now);
        while let Some((deadline, key)) = self.timers.first()
            && deadline <= tsc
        {
            let who = VpRef::from_key(key);
            let ticked = self.with_vp(hand, who, |vp| {
                vp.apic.tick(at);
                let signals = hv.expire_stimers(vp, at);
                (vp.next_deadline(), vp.wanted(), signals)
            });
            let Some((next, wanted, signals)) = ticked else {
                self.timers.set(key, None);
                continue;
            };
            // Periods shorter than this are served late, several at once: so this loop ends, and a guest that asks for a
            // storm of interrupts costs the others a bounded share of the processor.
            let soonest = tsc.saturating_add(self.hv.tsc_hz / MAX_TIMER_RATE);
            let next = next.map(|next| self.hv.clock.tsc_at(next).max(soonest));
            self.timers.set(key, next);
            self.wake_wanted(wanted);
            for signal in signals {
                self.signal(hand, who, signal);
            }
        }
    }

    /// The turn that is chosen at `now` (by TSC and by time) ends at `end`, or never.
    #[inline]
    pub(super) fn end_slice_at(&mut self, end: RefTime, (tsc, now): (u64, RefTime)) {
        self.slice_end = end;
        self.slice_end_tsc = u64::MAX;
        if end != RefTime::MAX {
            // A slice is short: this is exact enough, the two ticks being for what was rounded, and done at each turn of a child.
            let units = end.saturating_sub(now).units();
            let ticks = units.saturating_mul(self.hv.tsc_hz) / UNITS_PER_SECOND;
            self.slice_end_tsc = tsc.saturating_add(ticks + 2);
        }
    }

    /// Sets the physical timer to the next thing that happens: a VP's timer, or the end of the turn.
    pub(super) fn arm_timer(&mut self) {
        let mut next = self
            .timers
            .first()
            .map_or(u64::MAX, |(deadline, _)| deadline);
        next = next.min(self.slice_end_tsc);
        if next == self.armed {
            return;
        }
        self.armed = next;
        if next == u64::MAX {
            self.apic.stop_timer();
        } else {
            self.apic.set_timer(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::testing::Bench;

    /// Whether an interrupt that arrives at the processor is pending at the root's VP then, and whether it was ended.
    fn arrival(mut bench: Bench, vector: u8, in_service: bool) -> (bool, bool) {
        let (cpu, vp) = bench.parts();
        vp.apic.switch_on();
        cpu.apic.arrive(vector, in_service);
        let mut arrived = Arrived::default();
        arrived.add(vector);
        cpu.serve(vp, arrived);
        let pending = vp.apic.next_interrupt() == Some(vector);
        (pending, cpu.apic.has_ended_one())
    }

    fn arrivals(vector: u8, in_service: bool) -> Vec<(bool, bool)> {
        let benches = Bench::each();
        let arrivals = benches.map(|bench| arrival(bench, vector, in_service));
        arrivals.collect()
    }

    #[test]
    fn a_devices_interrupt_is_the_roots_and_ended_here() {
        assert_eq!(arrivals(0x41, true), [(true, true); 2]);
        assert_eq!(arrivals(VECTOR_SPURIOUS, true), [(true, true); 2]);
    }

    #[test]
    fn a_spurious_interrupt_is_nobodys_and_ends_no_other() {
        assert_eq!(arrivals(VECTOR_SPURIOUS, false), [(false, false); 2]);
    }

    #[test]
    fn the_hypervisors_own_interrupts_are_ended_and_not_the_roots() {
        assert_eq!(arrivals(0xF5, true), [(false, true); 2]);
    }
}
