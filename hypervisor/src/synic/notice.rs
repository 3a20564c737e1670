//! The queue in front of SINT0 of a root VP.
//!
//! An intercept message lies in a page of its VP; SINT0 only says which VP to look at (root sheet B.3). A lost notice is
//! a VP that sleeps for ever, so the queue has no bound: it is a list through the VPs themselves. A VP with an unanswered
//! intercept does not run, hence one link each is enough.

use tlfs::{
    HvMessageType, HvOpaqueInterceptMessage, HvPartitionId, HvVpIndex,
    HvX64SynicSintInterceptMessage,
};
use zerocopy::IntoBytes;

use super::{Message, MessageSlots, NotPosted, Signal, Sint, Synic, post};

/// A VP's link in the queue; kept by whoever keeps the VP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link<Id> {
    /// Not in the queue.
    #[default]
    Out,
    /// The last in the queue.
    Last,
    /// In the queue, before this one.
    Before(Id),
}

/// Where the links are. Ids that do not exist read as [`Link::Out`], and writes to them are dropped.
pub trait NoticeLinks {
    /// Names a VP of any partition.
    type Id: Copy + Eq;

    /// The VP's link.
    fn link(&self, id: Self::Id) -> Link<Self::Id>;

    /// Changes the VP's link.
    fn set_link(&mut self, id: Self::Id, link: Link<Self::Id>);
}

/// What SINT0 is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice<Id> {
    /// A SINT that is signalled by notices.
    Sint(Sint),
    /// A VP with a message in its intercept page.
    Vp(Id),
}

/// Notices for one root VP, first come first served among VPs.
///
/// A VP must leave the queue ([`remove_if`](Self::remove_if)) before its link goes away.
#[derive(Debug)]
pub struct NoticeQueue<Id> {
    ends: Option<(Id, Id)>,
    /// SINTs to notify; a notice stands for any number of signals.
    sints: u16,
}

impl<Id: Copy + Eq> NoticeQueue<Id> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            ends: None,
            sints: 0,
        }
    }

    /// Nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_none() && self.sints == 0
    }

    /// Queues the notice of a VP. `false`, without effect, if it is in a queue already: one intercept gets one notice.
    pub fn push(&mut self, links: &mut impl NoticeLinks<Id = Id>, id: Id) -> bool {
        if links.link(id) != Link::Out {
            return false;
        }
        links.set_link(id, Link::Last);
        self.ends = match self.ends {
            Some((first, last)) => {
                links.set_link(last, Link::Before(id));
                Some((first, id))
            }
            None => Some((id, id)),
        };
        true
    }

    /// Queues the notice of a SINT.
    pub fn push_sint(&mut self, sint: Sint) {
        self.push_sints(sint.bit());
    }

    /// Queues the notices of SINTs (bit n: SINTn).
    pub fn push_sints(&mut self, sints: u16) {
        self.sints |= sints;
    }

    /// The notice that is next.
    pub fn first(&self) -> Option<Notice<Id>> {
        match Sint::new(self.sints.trailing_zeros()) {
            Some(sint) => Some(Notice::Sint(sint)),
            None => self.ends.map(|(first, _)| Notice::Vp(first)),
        }
    }

    /// Whether anything waits behind the notice that is next.
    fn has_followers(&self) -> bool {
        let vps = self
            .ends
            .map_or(0, |(first, last)| 1 + u32::from(first != last));
        self.sints.count_ones() + vps > 1
    }

    /// Takes the notice that is next.
    pub fn pop(&mut self, links: &mut impl NoticeLinks<Id = Id>) -> Option<Notice<Id>> {
        let notice = self.first()?;
        match notice {
            Notice::Sint(sint) => self.sints &= !sint.bit(),
            Notice::Vp(id) => self.take_first(links, id),
        }
        Some(notice)
    }

    fn take_first(&mut self, links: &mut impl NoticeLinks<Id = Id>, id: Id) {
        self.ends = match (links.link(id), self.ends) {
            (Link::Before(next), Some((_, last))) => Some((next, last)),
            _ => None,
        };
        links.set_link(id, Link::Out);
    }

    /// Drops the notices of all VPs for which `gone` holds: those of a partition that is being torn down, of which no
    /// message may reach the root any more (root sheet, trap 23). Takes time in proportion to the queue.
    pub fn remove_if(
        &mut self,
        links: &mut impl NoticeLinks<Id = Id>,
        mut gone: impl FnMut(Id) -> bool,
    ) {
        let Some((mut id, _)) = self.ends.take() else {
            return;
        };
        loop {
            let link = links.link(id);
            links.set_link(id, Link::Out);
            if !gone(id) {
                self.push(links, id);
            }
            match link {
                Link::Before(next) => id = next,
                Link::Last | Link::Out => return,
            }
        }
    }

    /// Puts the notice that is next into the slot of SINT0, if it is free. `describe` tells a VP's partition id and
    /// index. `None` if nothing could be delivered: nothing waits, the SINT is off, or the slot is full and now marked.
    ///
    /// Called after a [`push`](Self::push), on [`SynicEffect::Retry`](super::SynicEffect) and on an EOI of SINT0's vector.
    pub fn deliver(
        &mut self,
        links: &mut impl NoticeLinks<Id = Id>,
        synic: &Synic,
        slots: &impl MessageSlots,
        describe: impl FnOnce(Id) -> (HvPartitionId, HvVpIndex),
    ) -> Option<Signal> {
        let posted = match self.first()? {
            Notice::Sint(sint) => {
                let sint_index = sint.index() as u32;
                let payload = HvX64SynicSintInterceptMessage { sint_index };
                let message_type = HvMessageType::SYNIC_SINT_INTERCEPT;
                self.post(synic, slots, message_type, 0, payload.as_bytes())
            }
            Notice::Vp(id) => {
                let (partition, vp_index) = describe(id);
                let payload = HvOpaqueInterceptMessage { vp_index };
                let message_type = HvMessageType::OPAQUE_INTERCEPT;
                self.post(synic, slots, message_type, partition.0, payload.as_bytes())
            }
        };
        let signal = posted.ok()?;
        self.pop(links);
        Some(signal)
    }

    fn post(
        &self,
        synic: &Synic,
        slots: &impl MessageSlots,
        message_type: HvMessageType,
        sender: u64,
        payload: &[u8],
    ) -> Result<Signal, NotPosted> {
        let message = Message {
            message_type,
            sender,
            payload,
        };
        post(
            synic,
            slots,
            Sint::INTERCEPTS,
            &message,
            self.has_followers(),
        )
    }
}

impl<Id: Copy + Eq> Default for NoticeQueue<Id> {
    fn default() -> Self {
        Self::new()
    }
}
