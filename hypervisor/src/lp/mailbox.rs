//! What processors leave for each other: deliveries for the VP in hand, and the names of VPs to look at.
//!
//! Whoever leaves something kicks the processor ([`crate::hv::Hypervisor::kick`]), which then looks here. A delivery for a VP
//! in hand is left under the lock of the VP's place, and the processor empties the box under it before it puts the VP
//! home; so it reaches the VP that it is for.

use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};

use spin::Mutex;

use crate::apic::{Delivery, Inbox, LocalApic};
use crate::partition::VpRef;
use crate::partition::table::{MAX_PARTITIONS, MAX_VPS};
use crate::synic::Sint;

/// No processor: an APIC id that none has.
const NOBODY: u32 = u32::MAX;
const WORDS: usize = MAX_PARTITIONS * MAX_VPS / 64;

/// A set of VPs that anybody may add to, and one processor empties.
#[derive(Debug)]
pub struct VpSet {
    words: [AtomicU64; WORDS],
    /// Bit by word: something may be in it.
    summary: AtomicU32,
}

impl VpSet {
    /// None.
    pub const fn new() -> Self {
        const { assert!(WORDS <= 32) };
        Self {
            words: [const { AtomicU64::new(0) }; WORDS],
            summary: AtomicU32::new(0),
        }
    }

    /// Adds a VP.
    pub fn insert(&self, who: VpRef) {
        let key = who.key();
        if let Some(word) = self.words.get(key / 64) {
            word.fetch_or(1 << (key % 64), Ordering::AcqRel);
            self.summary.fetch_or(1 << (key / 64), Ordering::AcqRel);
        }
    }

    /// Takes all out and tells each. One that is added meanwhile may be told or stay.
    pub fn drain(&self, mut each: impl FnMut(VpRef)) {
        let mut summary = self.summary.swap(0, Ordering::AcqRel);
        while summary != 0 {
            let index = summary.trailing_zeros() as usize;
            summary &= summary - 1;
            let word = self.words.get(index);
            let mut bits = word.map_or(0, |word| word.swap(0, Ordering::AcqRel));
            while bits != 0 {
                each(VpRef::from_key(index * 64 + bits.trailing_zeros() as usize));
                bits &= bits - 1;
            }
        }
    }
}

impl Default for VpSet {
    fn default() -> Self {
        Self::new()
    }
}

/// The mailbox of one processor.
#[derive(Debug)]
#[repr(align(64))]
pub struct Mailbox {
    apic_id: AtomicU32,
    vps: VpSet,
    inbox: Mutex<Inbox>,
    /// There is something in the inbox.
    delivered: AtomicBool,
    /// SINTs of the root's VP of which it is to be told by notices (bit n: SINTn).
    notices: AtomicU16,
}

impl Mailbox {
    /// Of a processor that does not run yet.
    pub const fn new() -> Self {
        Self {
            apic_id: AtomicU32::new(NOBODY),
            vps: VpSet::new(),
            inbox: Mutex::new(Inbox::new()),
            delivered: AtomicBool::new(false),
            notices: AtomicU16::new(0),
        }
    }

    /// The processor runs, and is kicked under this physical APIC id.
    pub fn open(&self, apic_id: u32) {
        self.apic_id.store(apic_id, Ordering::Release);
    }

    /// Where to kick the processor, if it runs.
    pub fn apic_id(&self) -> Option<u32> {
        match self.apic_id.load(Ordering::Acquire) {
            NOBODY => None,
            id => Some(id),
        }
    }

    /// Leaves the name of a VP at home here, of which something has changed.
    pub fn look_at(&self, who: VpRef) {
        self.vps.insert(who);
    }

    /// Leaves a delivery for the VP in hand. The caller holds the lock of the VP's place.
    pub fn deliver(&self, delivery: Delivery) {
        self.inbox.lock().put(delivery);
        self.delivered.store(true, Ordering::Release);
    }

    /// Something arrived at a SINT of the root's VP of this processor that is announced by a notice.
    pub fn notice(&self, sint: Sint) {
        self.notices.fetch_or(sint.bit(), Ordering::AcqRel);
    }

    /// Takes the SINTs to give notice of (bit n: SINTn), for this mailbox's processor.
    pub fn take_notices(&self) -> u16 {
        // Most of the time there are none.
        match self.notices.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.notices.swap(0, Ordering::AcqRel),
        }
    }

    /// Takes the names of VPs, for this mailbox's processor.
    pub fn take_vps(&self, each: impl FnMut(VpRef)) {
        self.vps.drain(each);
    }

    /// Gives the deliveries to the VP in hand's APIC; says how many it took. For this mailbox's processor, before it puts
    /// the VP home under the lock of its place.
    #[inline]
    pub fn take_deliveries(&self, apic: &mut LocalApic) -> u64 {
        // Most of the time there is nothing. Under the lock of the VP's place nothing can come any more.
        if !self.delivered.load(Ordering::Acquire) {
            return 0;
        }
        self.empty_inbox(apic)
    }

    #[cold]
    fn empty_inbox(&self, apic: &mut LocalApic) -> u64 {
        self.delivered.store(false, Ordering::Relaxed);
        let inbox = core::mem::take(&mut *self.inbox.lock());
        inbox.empty_into(apic)
    }
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::frames::PartitionSlot;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_set_tells_each_vp_once(keys in proptest::collection::btree_set(0..MAX_PARTITIONS * MAX_VPS, 0..40)) {
            let set = VpSet::new();
            for &key in keys.iter().chain(&keys) {
                set.insert(VpRef::from_key(key));
            }
            let mut told = Vec::new();
            set.drain(|who| told.push(who.key()));
            prop_assert_eq!(told, keys.into_iter().collect::<Vec<_>>());
            set.drain(|_| panic!("it is empty"));
        }
    }

    #[test]
    fn a_processor_that_does_not_run_is_not_kicked() {
        let mailbox = Mailbox::new();
        assert_eq!(mailbox.apic_id(), None);
        mailbox.open(0);
        assert_eq!(mailbox.apic_id(), Some(0));
        mailbox.look_at(VpRef {
            slot: PartitionSlot(3),
            index: 5,
        });
        let mut told = Vec::new();
        mailbox.take_vps(|who| told.push((who.slot.0, who.index)));
        assert_eq!(told, [(3, 5)]);
    }
}
