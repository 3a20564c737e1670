//! Memory of partitions: what the root maps into its children, and what the hypervisor takes from the root and gives
//! back to it.

use tlfs::stats::partition as counter;
use tlfs::{HV_LARGE_PAGE_PAGES, HvStatus};

use super::Partition;
use super::table::PartitionGuard;
use crate::apic;
use crate::hv::Hypervisor;
use crate::mem::addr::{Gpa, Gpfn, Spa, Spfn};
use crate::mem::format::{Leaf, LeafSize, MemoryType, Rights};
use crate::mem::frames::{FrameError, PartitionSlot, RootSource};
use crate::mem::guest_walk::{GpaFault, GuestMemory, TranslateFlags};
use crate::mem::table::{Found, Stopped, TableError};

/// HV_STATUS for a frame that is not what it has to be.
pub const fn frame_status(error: FrameError) -> HvStatus {
    match error {
        FrameError::NotRam => HvStatus::OPERATION_DENIED,
        FrameError::InUse | FrameError::Retired | FrameError::TooManyMappings => {
            HvStatus::OBJECT_IN_USE
        }
        FrameError::NoSlot | FrameError::WrongState => HvStatus::INVALID_PARAMETER,
    }
}

/// HV_STATUS for a table that could not be changed.
pub const fn table_status(error: TableError) -> HvStatus {
    match error {
        TableError::NoMemory => HvStatus::INSUFFICIENT_MEMORY,
        TableError::OutOfRange | TableError::Unsupported => HvStatus::INVALID_PARAMETER,
    }
}

/// What is to be mapped at a range of guest pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First frame; none for pages without access.
    pub source: Option<Spfn>,
    /// Rights; none for pages without access.
    pub rights: Rights,
    /// Memory type.
    pub memory_type: MemoryType,
}

impl Mapping {
    const fn leaf(&self) -> Leaf {
        Leaf {
            frame: self.source,
            rights: self.rights,
            ..Leaf::NO_ACCESS
        }
        .with_memory_type(self.memory_type)
    }

    /// The same, `pages` further on.
    fn advanced(&self, pages: u64) -> Self {
        Self {
            source: self.source.map(|Spfn(first)| Spfn(first + pages)),
            ..*self
        }
    }
}

/// How far a large page is mapped, if that takes small leaves: more than a call may do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartMapped {
    first: Gpfn,
    mapping: Mapping,
    done: u64,
}

/// Pages of such a part.
const PART: u64 = 128;

impl Hypervisor {
    /// No VP of a partition uses a translation of before when this returns: neither its own nor those below.
    pub fn flush(&self, slot: PartitionSlot) {
        let shootdown = self.partitions.entry(slot).domain.shoot_down(self.marks);
        if !shootdown.is_done() {
            shootdown.targets().for_each(|cpu| self.kick(cpu as u32));
            while !shootdown.is_done() {
                core::hint::spin_loop();
            }
        }
    }

    /// After translations of a partition were removed or narrowed: no processor uses them when this returns, and frames
    /// that waited for it have their next owner.
    pub fn shoot_down(&self, slot: PartitionSlot) {
        let retired = self.frames.lock().detach_retired(slot);
        self.flush(slot);
        if let Ok(retired) = retired {
            let rest = self.frames.lock().reclaim(retired, usize::MAX);
            debug_assert!(rest.is_none(), "the budget was unlimited");
        }
    }

    /// Maps `pages` guest pages of a child (512 for a large page) to frames of the root, or to nothing. What was mapped
    /// there is replaced; the caller shoots down.
    ///
    /// # Errors
    /// As HvCallMapGpaPages. What was done before the error stays.
    pub fn map_child(
        &self,
        child: &mut Partition,
        first: Gpfn,
        pages: u64,
        mapping: &Mapping,
    ) -> Result<(), HvStatus> {
        child.part_mapped = None;
        self.map_part(child, first, pages, mapping)
    }

    /// As [`map_child`](Self::map_child) for a large page, or for a part of it if there has to be a leaf for each of its
    /// pages and there is not `time` for more. False if it is not complete: the same again goes on with it, unless the
    /// partition's memory has changed in the meantime.
    ///
    /// # Errors
    /// As for `map_child`.
    pub fn map_large(
        &self,
        child: &mut Partition,
        first: Gpfn,
        mapping: &Mapping,
        time: impl Fn() -> bool,
    ) -> Result<bool, HvStatus> {
        let table = child.memory.as_ref();
        if table.is_none_or(|table| table.has_large(mapping.leaf())) {
            self.map_child(child, first, HV_LARGE_PAGE_PAGES, mapping)?;
            return Ok(true);
        }
        let same = |part: &PartMapped| (part.first, part.mapping) == (first, *mapping);
        let begun = child.part_mapped.take().filter(same);
        let mut done = begun.map_or(0, |part| part.done);
        loop {
            let at = Gpfn(first.0 + done);
            self.map_part(child, at, PART, &mapping.advanced(done))?;
            done += PART;
            if done >= HV_LARGE_PAGE_PAGES {
                return Ok(true);
            }
            if !time() {
                child.part_mapped = Some(PartMapped {
                    first,
                    mapping: *mapping,
                    done,
                });
                return Ok(false);
            }
        }
    }

    fn map_part(
        &self,
        child: &mut Partition,
        first: Gpfn,
        pages: u64,
        mapping: &Mapping,
    ) -> Result<(), HvStatus> {
        let mut done = 0;
        while let Some(covered) = child.covered_in(Gpfn(first.0 + done), pages - done) {
            let before = covered.0 - first.0;
            let gap = mapping.advanced(done);
            self.map_uncovered(child, Gpfn(first.0 + done), before - done, &gap)?;
            let this = mapping.advanced(before);
            if let Some(source) = this.source {
                self.back(child.slot, source, 1)?;
            }
            child.replace_covered(self, covered, Some(this.leaf()));
            done = before + 1;
        }
        let rest = mapping.advanced(done);
        self.map_uncovered(child, Gpfn(first.0 + done), pages - done, &rest)
    }

    fn map_uncovered(
        &self,
        child: &mut Partition,
        first: Gpfn,
        pages: u64,
        mapping: &Mapping,
    ) -> Result<(), HvStatus> {
        if pages == 0 {
            return Ok(());
        }
        let slot = child.slot;
        let table = child
            .memory
            .as_mut()
            .ok_or(HvStatus::INVALID_PARTITION_STATE)?;
        if let Some(source) = mapping.source {
            self.back(slot, source, pages)?;
        }
        let mapped = self.with_child_source(slot, |source| {
            table.map(source, first, pages, mapping.leaf(), LeafSize::Size2M)
        });
        let Err(Stopped { done, error }) = mapped else {
            return Ok(());
        };
        if let Some(Spfn(start)) = mapping.source {
            let rest = Spfn(start + done);
            let undone = self.frames.lock().cancel_back(slot, rest, pages - done);
            debug_assert_eq!(undone, Ok(()), "backed above");
        }
        Err(table_status(error))
    }

    /// Counts frames as backing a child. A frame that was unmapped a moment ago waits for a shootdown: that is done here.
    fn back(&self, slot: PartitionSlot, first: Spfn, pages: u64) -> Result<(), HvStatus> {
        let backed = self.frames.lock().back(slot, first, pages);
        match backed {
            Err(FrameError::Retired) => {
                self.shoot_down(slot);
                let backed = self.frames.lock().back(slot, first, pages);
                backed.map_err(frame_status)
            }
            other => other.map_err(frame_status),
        }
    }

    /// Removes what is mapped at `pages` guest pages of a child; the caller shoots down.
    ///
    /// # Errors
    /// INSUFFICIENT_MEMORY if a large page has to be split.
    pub fn unmap_child(
        &self,
        child: &mut Partition,
        first: Gpfn,
        pages: u64,
    ) -> Result<(), HvStatus> {
        child.part_mapped = None;
        let (mut first, end) = (first.0, first.0 + pages);
        while let Some(covered) = child.covered_in(Gpfn(first), end - first) {
            self.unmap_uncovered(child, Gpfn(first), covered.0 - first)?;
            child.replace_covered(self, covered, None);
            first = covered.0 + 1;
        }
        self.unmap_uncovered(child, Gpfn(first), end - first)
    }

    fn unmap_uncovered(
        &self,
        child: &mut Partition,
        first: Gpfn,
        pages: u64,
    ) -> Result<(), HvStatus> {
        let slot = child.slot;
        let Some(table) = child.memory.as_mut() else {
            return Ok(());
        };
        self.with_child_source(slot, |source| table.unmap(source, first, pages))
            .map_err(|stopped| table_status(stopped.error))
    }

    /// Gives the root other rights to frames, at the addresses that they have. None takes them away. The caller shoots
    /// down when rights went.
    ///
    /// # Errors
    /// INSUFFICIENT_MEMORY when the reserve for the root's tables is used up, which its size excludes.
    pub fn set_root_rights(
        &self,
        first: Spfn,
        pages: u64,
        rights: Option<Rights>,
    ) -> Result<(), HvStatus> {
        let entry = self.partitions.entry(PartitionSlot::ROOT);
        let mut root = PartitionGuard::lock(entry).ok_or(HvStatus::INVALID_PARTITION_STATE)?;
        let table = root
            .memory
            .as_mut()
            .ok_or(HvStatus::INVALID_PARTITION_STATE)?;
        let mut frames = self.frames.lock();
        let mut source = RootSource(&mut frames);
        let done = match rights {
            Some(rights) => {
                let types = self.memory_types.as_ref();
                table.map_as_it_is(&mut source, types, (first, pages), rights)
            }
            None => table.unmap(&mut source, Gpfn(first.0), pages),
        };
        done.map_err(|stopped| table_status(stopped.error))
    }
}

impl Partition {
    /// Puts into the counters by what leaves the partition's memory is mapped. Overlays are among them.
    pub fn count_mappings(&self) {
        let Some(table) = &self.memory else { return };
        let counts = table.counts();
        for (counter, value) in [
            (counter::GPA_PAGES_4K, counts.of(LeafSize::Size4K)),
            (counter::GPA_PAGES_2M, counts.of(LeafSize::Size2M)),
            (counter::GPA_PAGES_1G, counts.of(LeafSize::Size1G)),
            (counter::PAGES_SHATTERED, counts.split),
            (counter::PAGES_RECOMBINED, counts.joined),
        ] {
            self.stats.set(counter, value);
        }
    }

    /// The leaf that translates a guest page.
    pub fn translation(&self, page: Gpfn) -> Option<Found<Gpfn>> {
        self.memory.as_ref()?.query(page)
    }

    /// Whether there is such a page in the partition's address space, mapped or not. The page of local APICs is none.
    pub fn can_have(&self, page: Gpfn) -> bool {
        let table = self.memory.as_ref();
        !self.is_apic_page(page) && table.is_some_and(|table| table.covers(page))
    }

    /// Whether that is the page of its local APICs.
    pub fn is_apic_page(&self, page: Gpfn) -> bool {
        page == apic::PAGE && self.has_lapic()
    }

    /// The machine address of a guest physical address, if the partition may access it so.
    ///
    /// # Errors
    /// Why not.
    pub fn resolve(&self, gpa: Gpa, rights: Rights) -> Result<Spa, GpaFault> {
        let page = gpa.page();
        let found = self.translation(page).ok_or(GpaFault::Unmapped)?;
        if !found.leaf.rights.contains(rights) {
            return Err(if rights.contains(Rights::WRITE) {
                GpaFault::NoWriteAccess
            } else {
                GpaFault::NoReadAccess
            });
        }
        let frame = found.frame_of(page).ok_or(GpaFault::NoReadAccess)?;
        Ok(Spa(frame.address().0 + gpa.offset() as u64))
    }
}

/// A partition's memory as its own page walks see it.
pub struct PartitionMemory<'a> {
    /// The machine.
    pub hypervisor: &'a Hypervisor,
    /// Whose memory.
    pub partition: &'a Partition,
}

impl GuestMemory for PartitionMemory<'_> {
    fn read_u64(&self, at: Gpa) -> Result<u64, GpaFault> {
        let spa = self.partition.resolve(at, Rights::READ)?;
        // Device memory is not in the direct map.
        self.hypervisor
            .phys
            .read_u64(spa)
            .map_err(|_| GpaFault::Unmapped)
    }

    fn compare_exchange_u64(&self, at: Gpa, old: u64, new: u64) -> Result<u64, GpaFault> {
        let spa = self.partition.resolve(at, Rights::RW)?;
        self.hypervisor
            .phys
            .compare_exchange_u64(spa, old, new)
            .map_err(|_| GpaFault::Unmapped)
    }

    fn check(&self, at: Gpa, access: TranslateFlags) -> Result<(), GpaFault> {
        let mut rights = Rights::empty();
        rights.set(Rights::READ, access.contains(TranslateFlags::READ));
        rights.set(Rights::WRITE, access.contains(TranslateFlags::WRITE));
        rights.set(Rights::EXECUTE, access.contains(TranslateFlags::EXECUTE));
        self.partition.resolve(at, rights).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hv::testing::Machine;
    use crate::mem::format::{Ept, EptFeatures, SecondLevel};
    use crate::partition::table::slot_of;

    /// A machine on which children execute by small leaves alone.
    fn small_code() -> Machine {
        let features = EptFeatures {
            max_leaf: LeafSize::Size2M,
            execute_only: false,
            access_bits: true,
            large_code: false,
            guest_pat: false,
        };
        let mut machine = Machine::new();
        machine.set_child_format(SecondLevel::Ept(Ept::new(48, 40, features)));
        machine
    }

    const AT: Gpfn = Gpfn(1024);

    #[test]
    fn a_large_page_of_code_is_mapped_in_parts_and_of_data_at_once() {
        let mut machine = small_code();
        let id = machine.child();
        let first = Spfn(machine.root_pages_unused(1023).0.next_multiple_of(512));
        let slot = slot_of(id).unwrap();
        let child = &mut machine.partitions.lookup(id).unwrap();
        let code = Mapping {
            source: Some(first),
            rights: Rights::RWX,
            memory_type: MemoryType::WriteBack,
        };
        let go = |child: &mut Partition, mapping| machine.map_large(child, AT, mapping, || false);
        let mapped = |child: &Partition| {
            let is = |&page: &u64| child.translation(Gpfn(AT.0 + page)).is_some();
            (0..512).filter(is).count()
        };
        assert_eq!((go(child, &code), mapped(child)), (Ok(false), 128));
        assert_eq!((go(child, &code), mapped(child)), (Ok(false), 256));
        // What comes between begins it anew.
        machine.unmap_child(child, AT, 1).unwrap();
        machine.shoot_down(slot);
        assert_eq!((go(child, &code), mapped(child)), (Ok(false), 256));
        assert!(child.translation(AT).is_some());
        for (parts, done) in [(2, false), (3, false), (4, true)] {
            let pages = (parts * 128).max(256);
            assert_eq!((go(child, &code), mapped(child)), (Ok(done), pages));
        }
        let last = child.translation(Gpfn(AT.0 + 511)).unwrap();
        assert_eq!(
            (last.size, last.leaf.frame),
            (LeafSize::Size4K, Some(Spfn(first.0 + 511)))
        );
        assert_eq!(child.part_mapped, None);
        machine.shoot_down(slot);
        machine.frames.lock().audit().unwrap();

        let data = Mapping {
            rights: Rights::RW,
            ..code
        };
        assert_eq!(go(child, &data), Ok(true));
        assert_eq!(child.translation(AT).unwrap().size, LeafSize::Size2M);
        machine.shoot_down(slot);
        machine.frames.lock().audit().unwrap();
    }
}
