//! Where partitions and their VPs are.
//!
//! A partition has a place ([`PartitionSlot`]) for its life, and an id that is not used again: the id's low byte is the
//! place, the rest a serial number, so looking an id up is one comparison. A VP lies in its place while it does not run;
//! a processor that runs it takes it out. So nobody holds a lock while a guest runs, and whoever wants a VP that runs
//! finds out where it is.

use core::sync::atomic::AtomicU16;

use spin::{Mutex, MutexGuard};
use tlfs::{HvPartitionId, HvStatus};

use super::clock::PartitionClock;
use super::cpuid_cache::Changes;
use super::{Partition, Vp, VpRef};
use crate::apic::SharedAddressing;
use crate::mem::frames::PartitionSlot;
use crate::mem::page_box::PageBox;
use crate::mem::tlb::Domain;
use crate::port::{Connections, Ports, Synics};
use crate::sched::{Shares, SharesCell};
use crate::synic::VpSynic;
use crate::time::RefTime;

pub use super::vp::MAX_VPS;

/// Most partitions, the root included.
pub const MAX_PARTITIONS: usize = 128;

const SLOT_BITS: u32 = 8;
const _: () = assert!(MAX_PARTITIONS <= 1 << SLOT_BITS);

/// Where a VP is.
#[derive(Debug, Default)]
pub enum VpPlace {
    /// There is none.
    #[default]
    Absent,
    /// At rest.
    Home(PageBox<Vp>),
    /// In the hands of a processor.
    Running {
        /// Its index.
        on: u32,
        /// Another processor waits for the VP to come home.
        wanted: bool,
    },
}

impl VpPlace {
    /// In the hands of a processor, where nobody waits for it.
    pub const fn running(on: u32) -> Self {
        Self::Running { on, wanted: false }
    }
}

/// A partition's place.
#[derive(Debug)]
pub struct PartitionEntry {
    partition: Mutex<Option<PageBox<Partition>>>,
    /// Its translations' generation; needed at every entry into a guest, hence outside the lock.
    pub domain: Domain,
    /// Counts what may have changed of it: each mutable look through a [`PartitionGuard`].
    pub changes: Changes,
    /// How much of a processor each of its VPs gets; their processors read it, hence outside the lock.
    pub shares: SharesCell,
    /// Its reference time; the timers of its VPs go by it, hence outside the lock.
    pub clock: PartitionClock,
    /// VPs whose parent goes by a translation of theirs (InterceptSuspend.TlbLocked), one bit each: a flush waits for them.
    pub tlb_locked: AtomicU16,
    /// Its VPs.
    pub vps: [Mutex<VpPlace>; MAX_VPS],
    /// How their APICs are addressed, of those that processors have in hand.
    pub addressing: [SharedAddressing; MAX_VPS],
    /// Their SynICs: in reach also while a processor has the VP.
    pub synics: Synics,
    /// Its ports.
    pub ports: Mutex<Ports>,
    /// Its connections to ports, of its own or of other partitions.
    pub connections: Mutex<Connections>,
}

impl PartitionEntry {
    /// An empty place.
    pub const fn new(slot: PartitionSlot) -> Self {
        Self {
            partition: Mutex::new(None),
            domain: Domain::new(slot),
            changes: Changes::new(),
            shares: SharesCell::new(),
            clock: PartitionClock::new(),
            tlb_locked: AtomicU16::new(0),
            vps: [const { Mutex::new(VpPlace::Absent) }; MAX_VPS],
            addressing: [const { SharedAddressing::new() }; MAX_VPS],
            synics: [const { Mutex::new(None) }; MAX_VPS],
            ports: Mutex::new(Ports::new()),
            connections: Mutex::new(Connections::new()),
        }
    }

    /// Keeps the place for a new partition, if it is empty: nobody else takes it meanwhile.
    pub fn claim(&self) -> Option<EmptyPlace<'_>> {
        let place = self.partition.lock();
        place.is_none().then_some(EmptyPlace { place, entry: self })
    }
}

/// A locked place without a partition.
pub struct EmptyPlace<'a> {
    place: MutexGuard<'a, Option<PageBox<Partition>>>,
    entry: &'a PartitionEntry,
}

impl EmptyPlace<'_> {
    /// Puts the new partition there, which begins with the usual shares, and whose time begins at the machine's `now`.
    pub fn put(mut self, partition: PageBox<Partition>, now: RefTime) {
        self.entry.changes.note();
        self.entry.shares.set(Shares::NEW);
        self.entry.clock.begin(now);
        *self.place = Some(partition);
    }
}

/// The id of the `serial`th partition, in `slot`.
pub const fn partition_id(serial: u64, slot: PartitionSlot) -> HvPartitionId {
    HvPartitionId(serial << SLOT_BITS | slot.0 as u64)
}

/// The place that an id names, whether or not the partition exists.
pub const fn slot_of(id: HvPartitionId) -> Option<PartitionSlot> {
    let slot = id.0 & ((1 << SLOT_BITS) - 1);
    if slot < MAX_PARTITIONS as u64 {
        Some(PartitionSlot(slot as u16))
    } else {
        None
    }
}

/// A locked partition that exists.
pub struct PartitionGuard<'a> {
    place: MutexGuard<'a, Option<PageBox<Partition>>>,
    changes: &'a Changes,
}

impl<'a> PartitionGuard<'a> {
    /// Locks the partition in a place, if there is one.
    pub fn lock(entry: &'a PartitionEntry) -> Option<Self> {
        let place = entry.partition.lock();
        place.is_some().then_some(Self {
            place,
            changes: &entry.changes,
        })
    }

    /// Takes the partition out of its place, which is empty then.
    pub fn take(mut self) -> Option<PageBox<Partition>> {
        self.place.take()
    }
}

impl core::ops::Deref for PartitionGuard<'_> {
    type Target = Partition;

    fn deref(&self) -> &Partition {
        match &*self.place {
            Some(partition) => partition,
            None => unreachable!("checked by `lock`, and only `take` empties it"),
        }
    }
}

impl core::ops::DerefMut for PartitionGuard<'_> {
    fn deref_mut(&mut self) -> &mut Partition {
        self.changes.note();
        match &mut *self.place {
            Some(partition) => partition,
            None => unreachable!("checked by `lock`, and only `take` empties it"),
        }
    }
}

/// The place of a VP's own partition, at hand: every exit needs it.
#[derive(Clone, Copy)]
pub struct Home(pub &'static PartitionEntry);

impl core::ops::Deref for Home {
    type Target = PartitionEntry;

    fn deref(&self) -> &PartitionEntry {
        self.0
    }
}

impl core::fmt::Debug for Home {
    /// Nothing of it: it leads back to the VP.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Home")
    }
}

/// The table of all partitions.
#[derive(Debug)]
pub struct PartitionTable(pub [PartitionEntry; MAX_PARTITIONS]);

impl PartitionTable {
    /// No partitions.
    pub const fn new() -> Self {
        let mut entries = [const { PartitionEntry::new(PartitionSlot(0)) }; MAX_PARTITIONS];
        let mut slot = 0;
        while slot < MAX_PARTITIONS {
            entries[slot].domain = Domain::new(PartitionSlot(slot as u16));
            slot += 1;
        }
        Self(entries)
    }

    /// The place `slot`. A slot that is none (there is no way to one) gives the root's.
    pub fn entry(&self, slot: PartitionSlot) -> &PartitionEntry {
        self.0.get(usize::from(slot.0)).unwrap_or(&self.0[0])
    }

    /// The place that an id names, whoever has it.
    ///
    /// # Errors
    /// INVALID_PARTITION_ID for an id that names none.
    pub fn entry_of(&self, id: HvPartitionId) -> Result<&PartitionEntry, HvStatus> {
        let slot = slot_of(id).ok_or(HvStatus::INVALID_PARTITION_ID)?;
        Ok(self.entry(slot))
    }

    /// The place of a VP. The index wraps: it is checked where it comes from.
    pub fn vp(&self, who: VpRef) -> &Mutex<VpPlace> {
        &self.entry(who.slot).vps[usize::from(who.index) % MAX_VPS]
    }

    /// How the APIC of a VP is addressed that a processor has in hand. The index wraps, as for [`vp`](Self::vp).
    pub fn addressing(&self, who: VpRef) -> &SharedAddressing {
        &self.entry(who.slot).addressing[usize::from(who.index) % MAX_VPS]
    }

    /// The SynIC of a VP. The index wraps, as for [`vp`](Self::vp).
    pub fn synic(&self, who: VpRef) -> &Mutex<Option<PageBox<VpSynic>>> {
        &self.entry(who.slot).synics[usize::from(who.index) % MAX_VPS]
    }

    /// The partition with this id, which must exist.
    ///
    /// # Errors
    /// INVALID_PARTITION_ID.
    pub fn lookup(&self, id: HvPartitionId) -> Result<PartitionGuard<'_>, HvStatus> {
        PartitionGuard::lock(self.entry_of(id)?)
            .filter(|partition| partition.id == id)
            .ok_or(HvStatus::INVALID_PARTITION_ID)
    }
}

impl Default for PartitionTable {
    fn default() -> Self {
        Self::new()
    }
}
