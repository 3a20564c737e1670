//! Pages of the hypervisor's that lie over a child's memory: its hypercall page (guest sheet 4.3).
//!
//! What lies below stays mapped in the books, and comes back when the overlay goes. So a parent may map, remap and unmap
//! the page while it is covered: only what is remembered changes, never the overlay.

use tlfs::{HvPageMsr, HvStatus};

use super::Partition;
use crate::arch::Capabilities;
use crate::hv::Hypervisor;
use crate::mem::addr::Gpfn;
use crate::mem::format::{Leaf, LeafSize, Rights};
use crate::mem::frames::{FrameTable, PartitionSlot};
use crate::mem::page_box::Frame;
use crate::mem::table::FrameSource;

/// Code of the hypercall page: VMMCALL or VMCALL, RET. The registers decide everything, not the page's address.
pub const fn hypercall_code(capabilities: &Capabilities) -> [u8; 4] {
    let [a, b, c] = capabilities.hypercall_instruction();
    [a, b, c, 0xC3]
}

/// The overlays of a partition.
#[derive(Debug, Default)]
pub struct Overlays {
    /// The hypercall page.
    page: Option<Frame>,
    /// A frame for the table that cutting one page out of a large one needs, so that it does not fail for memory.
    reserve: Option<Frame>,
    /// Where the hypercall page lies, and what is below it.
    active: Option<(Gpfn, Option<Leaf>)>,
}

/// Tables from the pool or the reserve; what is covered still backs the partition.
struct OverlaySource<'a, 'm> {
    frames: &'a mut FrameTable<'m>,
    slot: PartitionSlot,
    reserve: &'a mut Option<Frame>,
}

impl FrameSource for OverlaySource<'_, '_> {
    fn allocate(&mut self) -> Option<Frame> {
        let pooled = self.frames.allocate(self.slot).ok().flatten();
        pooled.or_else(|| self.reserve.take())
    }

    fn release(&mut self, frame: Frame) {
        let done = self.frames.retire(self.slot, frame);
        assert_eq!(done, Ok(()), "a table's frame is from its partition's pool");
    }
}

impl Overlays {
    /// Pages that a partition's overlays take.
    pub const PAGES: u64 = 2;

    /// Overlays with their pages; `page` becomes the hypercall page.
    pub fn new(hypervisor: &Hypervisor, page: Frame, reserve: Frame) -> Self {
        // A frame outside the direct map is never handed out.
        let _ = hypervisor.phys.copy_to(
            page.spfn().address(),
            &hypercall_code(&hypervisor.capabilities),
        );
        Self {
            page: Some(page),
            reserve: Some(reserve),
            active: None,
        }
    }

    /// Where the hypercall page lies.
    pub fn hypercall_page(&self) -> Option<Gpfn> {
        self.active.as_ref().map(|(page, _)| *page)
    }

    /// Ends the overlays of a partition whose memory is gone, and gives their pages back.
    pub fn release(&mut self, hypervisor: &Hypervisor, slot: PartitionSlot) {
        if let Some((_, Some(below))) = self.active.take() {
            forget(hypervisor, slot, below);
        }
        for frame in [self.page.take(), self.reserve.take()]
            .into_iter()
            .flatten()
        {
            hypervisor.release(slot, frame);
        }
    }
}

/// A covered frame backs the partition no more. It waits for the next shootdown like any other.
fn forget(hypervisor: &Hypervisor, slot: PartitionSlot, below: Leaf) {
    let Some(below) = below.frame else { return };
    let mut frames = hypervisor.frames.lock();
    if frames.owner(below) != crate::mem::frames::Owner::NotRam {
        let done = frames.unback(slot, below, 1);
        assert_eq!(done, Ok(()), "a covered frame backs its partition");
    }
}

impl Hypervisor {
    /// Lays the hypercall page over a page of the child's memory, or takes it away. The caller shoots down.
    ///
    /// # Errors
    /// INVALID_PARAMETER where the child has no memory; INSUFFICIENT_MEMORY if a large page cannot be cut. Nothing is
    /// changed then.
    pub fn place_hypercall_page(
        &self,
        child: &mut Partition,
        to: Option<Gpfn>,
    ) -> Result<(), HvStatus> {
        if child.overlays.hypercall_page() == to {
            return Ok(());
        }
        // For a moment it lies at both places: the old one is only given up when the new one is certain.
        let active = match to {
            Some(to) => Some((to, Some(self.cover(child, to)?))),
            None => None,
        };
        self.uncover(child);
        child.overlays.active = active;
        Ok(())
    }

    /// Maps the hypercall page over another page, and returns what is below it.
    fn cover(&self, child: &mut Partition, to: Gpfn) -> Result<Leaf, HvStatus> {
        let slot = child.slot;
        let found = child.translation(to).ok_or(HvStatus::INVALID_PARAMETER)?;
        let below = Leaf {
            frame: found.frame_of(to),
            ..found.leaf
        };
        let frame = child.overlays.page.as_ref().map(Frame::spfn);
        let frame = frame.ok_or(HvStatus::INVALID_PARTITION_STATE)?;
        let mut frames = self.frames.lock();
        if child.overlays.reserve.is_none() {
            child.overlays.reserve = frames.allocate(slot).ok().flatten();
        }
        let mut source = OverlaySource {
            frames: &mut frames,
            slot,
            reserve: &mut child.overlays.reserve,
        };
        let table = child
            .memory
            .as_mut()
            .ok_or(HvStatus::INVALID_PARTITION_STATE)?;
        let leaf = Leaf::new(frame, Rights::RX);
        table
            .map(&mut source, to, 1, leaf, LeafSize::Size4K)
            .map_err(|_| HvStatus::INSUFFICIENT_MEMORY)?;
        Ok(below)
    }

    /// GUEST_OS_ID: zero takes the hypercall page away (guest sheet 4.2).
    pub fn set_guest_os_id(&self, partition: &mut Partition, value: u64) {
        partition.msrs.guest_os_id = value;
        let page = HvPageMsr::from_bits(partition.msrs.hypercall);
        if value == 0 && page.enabled() {
            partition.msrs.hypercall = page.with_enabled(false).into_bits();
            if !partition.is_root() {
                self.uncover(partition);
            }
        }
    }

    /// HYPERCALL: bit 0 enable, bit 1 locked, page number (guest sheet 4.3). Without a GUEST_OS_ID it stays disabled. The
    /// root's page is where the hypervisor has put it. The caller shoots down.
    ///
    /// # Errors
    /// As [`place_hypercall_page`](Self::place_hypercall_page); nothing is changed then.
    pub fn set_hypercall_msr(&self, partition: &mut Partition, value: u64) -> Result<(), HvStatus> {
        const LOCKED: u64 = 1 << 1;
        if partition.msrs.hypercall & LOCKED != 0 {
            return Ok(());
        }
        let mut new = HvPageMsr::from_bits(value);
        if partition.msrs.guest_os_id == 0 {
            new.set_enabled(false);
        }
        if partition.is_root() {
            new.set_gpfn(self.root_pages.hypercall.spfn().0);
        } else {
            let page = new.enabled().then(|| Gpfn(new.gpfn()));
            self.place_hypercall_page(partition, page)?;
        }
        partition.msrs.hypercall = new.into_bits();
        Ok(())
    }

    /// Takes the hypercall page away: what is below it shows again.
    fn uncover(&self, child: &mut Partition) {
        let Some((page, below)) = child.overlays.active.take() else {
            return;
        };
        let mut frames = self.frames.lock();
        let mut source = OverlaySource {
            frames: &mut frames,
            slot: child.slot,
            reserve: &mut child.overlays.reserve,
        };
        let Some(table) = child.memory.as_mut() else {
            return;
        };
        let done = match below {
            Some(below) => table.map(&mut source, page, 1, below, LeafSize::Size4K),
            None => table.unmap(&mut source, page, 1),
        };
        debug_assert!(done.is_ok(), "the page has its own leaf: no memory needed");
    }
}

impl Partition {
    /// The covered page, if it lies in a range.
    pub fn covered_in(&self, first: Gpfn, pages: u64) -> Option<Gpfn> {
        let covered = self.overlays.hypercall_page()?;
        let last = first.0.saturating_add(pages);
        (first <= covered && covered.0 < last).then_some(covered)
    }

    /// Changes what lies below the covered page; what was there backs the partition no more.
    pub fn replace_covered(&mut self, hypervisor: &Hypervisor, new: Option<Leaf>) {
        let slot = self.slot;
        if let Some((_, below)) = self.overlays.active.as_mut()
            && let Some(old) = core::mem::replace(below, new)
        {
            forget(hypervisor, slot, old);
        }
    }
}
