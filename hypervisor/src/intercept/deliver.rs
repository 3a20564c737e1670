//! Delivering an intercept to the parent (root sheet B.3): the one way there is.
//!
//! The VP stops, its message is complete in its intercept page and its registers in its register page, and only then
//! does SINT0 of the root tell of it.

use tlfs::stats::vp as counter;
use tlfs::{HvInterceptSuspendRegister, HvMessageHeader, HvMessageType, HvPartitionId, HvVpIndex};
use zerocopy::{Immutable, IntoBytes};

use crate::apic::{Delivery, Trigger};
use crate::arch::Snapshot;
use crate::hv::Hypervisor;
use crate::intercept::message::Intercept;
use crate::mem::addr::Spa;
use crate::partition::table::{PartitionGuard, VpPlace};
use crate::partition::{Vp, VpRef, register_page};
use crate::run::Cpu;
use crate::synic::{Link, Message, MessagePage, NoticeLinks, Signal, Sint, Synic, post};

/// The links of the notice queue: in the VPs.
struct Links<'a> {
    hv: &'a Hypervisor,
    hand: &'a mut Vp,
}

impl NoticeLinks for Links<'_> {
    type Id = VpRef;

    fn link(&self, id: VpRef) -> Link<VpRef> {
        if id == self.hand.who {
            return self.hand.link;
        }
        match &*self.hv.partitions.vp(id).lock() {
            VpPlace::Home(vp) => vp.link,
            VpPlace::Absent | VpPlace::Running { .. } => Link::Out,
        }
    }

    fn set_link(&mut self, id: VpRef, link: Link<VpRef>) {
        if id == self.hand.who {
            self.hand.link = link;
        } else if let VpPlace::Home(vp) = &mut *self.hv.partitions.vp(id).lock() {
            vp.link = link;
        }
    }
}

impl Cpu {
    /// Stops the VP in hand with a message for its parent. `seen` are its registers now.
    #[inline]
    pub fn intercept<T: IntoBytes + Immutable>(
        &mut self,
        vp: &mut Vp,
        seen: &Snapshot,
        message: &Intercept<T>,
    ) {
        self.intercept_with(vp, seen, message.kind, message.payload.as_bytes());
    }

    #[inline(never)]
    fn intercept_with(
        &mut self,
        vp: &mut Vp,
        seen: &Snapshot,
        kind: HvMessageType,
        payload: &[u8],
    ) {
        let memory = matches!(
            kind,
            HvMessageType::UNMAPPED_GPA | HvMessageType::GPA_INTERCEPT
        );
        let suspended = HvInterceptSuspendRegister::new()
            .with_suspended(true)
            .with_tlb_locked(memory);
        vp.set_intercept_suspend(suspended);
        if memory && locks_a_past(vp) {
            vp.set_intercept_suspend(HvInterceptSuspendRegister::new());
            return;
        }
        vp.stats.count(match kind {
            HvMessageType::X64_IO_PORT_INTERCEPT => counter::IO_INTERCEPT_MESSAGES,
            _ if memory => counter::MEMORY_INTERCEPT_MESSAGES,
            _ => counter::OTHER_MESSAGES,
        });
        self.write_message(vp, kind, payload);
        register_page::publish(self.hv, vp, seen, &self.live_xmm());
        self.block(vp);
        let who = vp.who;
        let hv = self.hv;
        self.notices.push(&mut Links { hv, hand: vp }, who);
        self.deliver_notices(vp);
    }

    /// Into the VP's intercept page. What is there behind the payload is from earlier messages, and does not count.
    fn write_message(&self, vp: &Vp, kind: HvMessageType, payload: &[u8]) {
        let header = HvMessageHeader {
            message_type: kind,
            // At most 240: `Intercept::new`.
            payload_size: payload.len() as u8,
            sender: vp.partition_id.0,
            ..HvMessageHeader::default()
        };
        let page = vp.intercept_page.frame.spfn().address();
        let behind = Spa(page.0 + size_of::<HvMessageHeader>() as u64);
        // The page is the hypervisor's own frame, in the direct map.
        let _ = self.hv.phys.copy_to(page, header.as_bytes());
        let _ = self.hv.phys.copy_to(behind, payload);
    }

    /// Puts the next notice, or a message of the event log, into the root's SINT0, if its slot is free.
    pub fn deliver_notices(&mut self, hand: &mut Vp) {
        let hv = self.hv;
        if self.notices.is_empty() && !hv.event_log.pending() {
            return;
        }
        let root = self.root_vp();
        // A copy, so that its lock is free: those of the links come before it.
        let Some(synic) = hv.with_synic(root, |synic| synic.registers().clone()) else {
            return;
        };
        let describe = |id: VpRef| describe(hv, id);
        let messages = &*self.lp().root.messages;
        // The log's goes first, because a notice does not say that it waits. If it cannot, no notice can.
        let signal = if hv.event_log.pending() {
            post_log(hv, messages, &synic, !self.notices.is_empty())
        } else {
            let mut links = Links { hv, hand };
            self.notices.deliver(&mut links, &synic, messages, describe)
        };
        if let Some(Signal::Interrupt { vector }) = signal {
            let trigger = Trigger::Edge;
            self.deliver(hand, root, Delivery::Fixed { vector, trigger });
        }
    }

    /// Drops the notice of one VP.
    pub fn forget_notice(&mut self, hand: &mut Vp, who: VpRef) {
        let hv = self.hv;
        self.notices
            .remove_if(&mut Links { hv, hand }, |id| id == who);
    }
}

/// Whether a flush has passed since the VP in hand used the translation that its parent is to go by: that did not wait for the
/// VP. The instruction is executed again, with what is true now (root sheet, trap 37).
fn locks_a_past(vp: &Vp) -> bool {
    !vp.tag.is_current(&vp.home.domain)
}

/// Tells the root of event log buffers; `followers` says that notices wait.
fn post_log(
    hv: &Hypervisor,
    slots: &MessagePage,
    synic: &Synic,
    followers: bool,
) -> Option<Signal> {
    let mut signal = None;
    hv.event_log.post_message(hv, |payload, more| {
        let message = Message {
            message_type: HvMessageType::EVENT_LOG_BUFFER_COMPLETE,
            sender: 0,
            payload: payload.as_bytes(),
        };
        signal = post(synic, slots, Sint::INTERCEPTS, &message, more || followers).ok();
        signal.is_some()
    });
    signal
}

fn describe(hv: &Hypervisor, who: VpRef) -> (HvPartitionId, HvVpIndex) {
    let partition = PartitionGuard::lock(hv.partitions.entry(who.slot));
    let id = partition.map_or(HvPartitionId::INVALID, |partition| partition.id);
    (id, HvVpIndex(u32::from(who.index)))
}
