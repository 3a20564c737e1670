//! What other processors want of this one: see [`crate::lp`].

use tlfs::stats::vp as counter;

use super::Cpu;
use super::cpu::MAX_QUEUE;
use crate::cpu;
use crate::lp::find_lighter;
use crate::mem::page_box::PageBox;
use crate::partition::table::VpPlace;
use crate::partition::vp::Turns;
use crate::partition::{Vp, VpRef};
use crate::sched::{Account, Slot};
use crate::synic::Link;

/// How long a VP that another processor wants to look at stays at home: a fraction of a second.
const VISIT: u64 = 50_000;

impl Cpu {
    /// Looks into the mailbox.
    pub(super) fn read_mail(&mut self, hand: &mut Vp) {
        let mailbox = &self.lp().mailbox;
        let taken = mailbox.take_deliveries(&mut hand.apic);
        if taken != 0 {
            hand.stats.add(counter::SYNTHETIC_INTERRUPTS, taken);
            self.wake_wanted(hand.wanted());
        }
        mailbox.take_vps(|who| self.look_at(hand, who));
        let sints = mailbox.take_notices();
        if sints != 0 {
            self.notices.push_sints(sints);
            self.deliver_notices(hand);
        }
        let wanted = match &*self.hv.partitions.vp(hand.who).lock() {
            VpPlace::Running { wanted, .. } => *wanted,
            VpPlace::Absent | VpPlace::Home(_) => false,
        };
        self.release |= wanted;
        self.reschedule |= wanted;
    }

    /// Something of a VP was changed by another processor, or one wants to look at it. A VP that has its turns elsewhere by
    /// now is not this one's affair: it may be another one in the same place.
    fn look_at(&mut self, hand: &mut Vp, who: VpRef) {
        let (here, visit) = (self.index(), self.visit());
        let found = self.with_vp(hand, who, |vp| {
            if vp.processor != here {
                return None;
            }
            if !vp.hw.is_settled() {
                Self::settle(vp);
                vp.visited_until = cpu::tsc().saturating_add(visit);
            }
            Some((vp.turns(), vp.wanted(), vp.next_deadline(), vp.leaving))
        });
        let Some((mut turns, mut wanted, deadline, leaving)) = found.flatten() else {
            return;
        };
        if turns.slot == Slot::NONE && !leaving {
            let account = self.with_vp(hand, who, |vp| vp.account.take());
            turns.slot = self.welcome(who, account.flatten());
            self.with_vp(hand, who, |vp| vp.queue_slot = turns.slot);
            wanted = wanted.map(|_| turns);
        }
        // A VP in hand comes home first; whoever asked asks again.
        if leaving && who != hand.who {
            return self.let_go(hand, turns);
        }
        self.set_deadline(who, deadline);
        if wanted.is_none() && who != hand.who {
            return self.park(turns);
        }
        self.wake_wanted(wanted);
    }

    /// A VP that is to have its turns here gets its place, with what it has run elsewhere. There is room: it was counted when
    /// this processor was chosen.
    pub fn welcome(&mut self, who: VpRef, account: Option<Account>) -> Slot {
        let shares = &self.hv.partitions.entry(who.slot).shares;
        let account = account.unwrap_or(Account::new(shares));
        let added = self.queue.add(who, account);
        added.unwrap_or(Slot::NONE)
    }

    /// A child's turn is over, and others wait here: it has its next one where fewer do, if that makes a difference.
    #[cold]
    #[inline(never)]
    pub(super) fn share_load(&mut self, hand: &mut Vp, who: VpRef, slot: Slot) {
        let load = self.queue.load() as u32;
        let all = self.hv.lps.iter().map(|lp| &lp.residents);
        let Some(to) = find_lighter(all, self.index(), load) else {
            return;
        };
        // A notice is in this processor's queue.
        let may_go = |vp: &mut Vp| !vp.leaving && vp.link == Link::Out;
        if self.with_vp(hand, who, may_go) != Some(true) {
            return;
        }
        if !self.hv.lp(to).residents.receive(MAX_QUEUE as u32) {
            return;
        }
        let Some((_, account)) = self.queue.remove(slot, self.hv.now()) else {
            unreachable!("a VP has its turns where it has a place");
        };
        self.timers.set(who.key(), None);
        self.lp().residents.leave();
        let moved = self.with_vp(hand, who, |vp| {
            Self::depart(vp);
            vp.account = Some(account);
            vp.stats.count(counter::LOGICAL_PROCESSOR_MIGRATIONS);
            (vp.processor, vp.queue_slot) = (to, Slot::NONE);
            vp.turns()
        });
        self.lp().residents.set_load(self.queue.load() as u32);
        if let Some(turns) = moved {
            self.tell(turns);
        }
    }

    /// Ticks of the TSC that a visit takes.
    fn visit(&self) -> u64 {
        self.hv.tsc_hz / VISIT
    }

    /// A VP that lies at home here is never coming back.
    fn let_go(&mut self, hand: &mut Vp, turns: Turns) {
        self.forget_notice(hand, turns.who);
        self.forget_vp(turns);
        let _ = self.with_vp(hand, turns.who, |vp| {
            Self::depart(vp);
            vp.processor = Turns::NOWHERE;
            vp.leaving = false;
        });
    }

    /// The VP in hand is at home for a moment, for another processor to look at, and in hand again.
    #[cold]
    pub(super) fn receive_visitor(&mut self, mut hand: PageBox<Vp>) -> PageBox<Vp> {
        self.release = false;
        Self::settle(&mut hand);
        let who = hand.who;
        self.put_home(hand, self.visit());
        let hand = self.take_in_hand(who, who);
        if hand.leaving {
            // Whoever ends it has found it at home. If nobody else's turn came, it would never lie there for long enough.
            return self.put_down(hand);
        }
        hand
    }

    /// The VP in hand is never coming back; the root's VP of this processor is in hand instead.
    #[cold]
    #[inline(never)]
    fn put_down(&mut self, hand: PageBox<Vp>) -> PageBox<Vp> {
        let turns = hand.turns();
        // A child was in hand, so that one is at home.
        let (mut root, _) = self.exchange(hand, self.root_vp());
        self.let_go(&mut root, turns);
        root
    }
}
