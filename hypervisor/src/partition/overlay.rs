//! Pages of the hypervisor's that lie over a child's memory: its hypercall page, its reference TSC page, and of each VP the
//! pages of its SynIC and its VP assist page (guest sheet 4.2, 4.6, 4.8, 4.9).
//!
//! What lies below stays mapped in the books, and comes back when the overlay goes; that may be nothing. So a parent may map,
//! remap and unmap the page before and while it is covered: only what is remembered changes, never the overlay. Where a guest puts several overlays,
//! the one with the lowest number shows.

mod cover;

use arrayvec::ArrayVec;
use tlfs::{HvPageMsr, HvStatus};

use super::{MAX_VPS, Partition};
use crate::arch::Capabilities;
use crate::hv::Hypervisor;
use crate::mem::addr::{Gpfn, Spfn};
use crate::mem::format::{Leaf, Rights};
use crate::mem::frames::PartitionSlot;
use crate::mem::page_box::{Frame, PageBox};
use crate::time::{ReferenceClock, ReferenceTscPage};

/// Code of the hypercall page: VMMCALL or VMCALL, RET. The registers decide everything, not the page's address.
pub const fn hypercall_code(capabilities: &Capabilities) -> [u8; 4] {
    let [a, b, c] = capabilities.hypercall_instruction();
    [a, b, c, 0xC3]
}

/// Names an overlay of a partition, by a number below [`Overlay::COUNT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlay(u8);

impl Overlay {
    /// The hypercall page.
    pub const HYPERCALL: Self = Self(0);
    /// The reference TSC page.
    pub const REFERENCE_TSC: Self = Self(1);
    /// Overlays of a partition that has all its VPs.
    pub const COUNT: usize = 2 + Self::OF_VP * MAX_VPS;
    /// Overlays of a VP.
    pub const OF_VP: usize = 3;

    const fn of_vp(vp: u16, number: u8) -> Self {
        Self(2 + (vp % MAX_VPS as u16) as u8 * Self::OF_VP as u8 + number)
    }

    /// All of a VP: SIM page, SIEF page, VP assist page.
    pub const fn of(vp: u16) -> [Self; Self::OF_VP] {
        [Self::messages(vp), Self::event_flags(vp), Self::assist(vp)]
    }

    /// The SIM page of a VP.
    pub const fn messages(vp: u16) -> Self {
        Self::of_vp(vp, 0)
    }

    /// The SIEF page of a VP.
    pub const fn event_flags(vp: u16) -> Self {
        Self::of_vp(vp, 1)
    }

    /// The VP assist page of a VP.
    pub const fn assist(vp: u16) -> Self {
        Self::of_vp(vp, 2)
    }

    /// All that a partition can have.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// What the guest may do with it.
    const fn rights(self) -> Rights {
        match self {
            Self::HYPERCALL => Rights::RX,
            Self::REFERENCE_TSC => Rights::READ,
            _ => Rights::RW,
        }
    }
}

/// An overlay's frame, and where it lies. The frame is somebody else's, who takes it off before the frame goes.
#[derive(Clone, Copy, Debug)]
struct Page {
    frame: Spfn,
    at: Option<Gpfn>,
}

/// A page of the guest under one or more overlays.
#[derive(Clone, Copy, Debug)]
struct Covered {
    page: Gpfn,
    below: Option<Leaf>,
}

/// Where all the overlays are.
#[derive(Debug)]
struct Books {
    pages: [Option<Page>; Overlay::COUNT],
    /// One that moves covers two for a moment.
    covered: ArrayVec<Covered, { Overlay::COUNT + 1 }>,
    /// A frame for each overlay, for the table that cutting its page out of a large one needs: so that does not fail for
    /// memory.
    reserve: ArrayVec<Frame, { Overlay::COUNT }>,
}

const _: () = assert!(size_of::<Books>() <= 4096);

impl Books {
    const fn new() -> Self {
        Self {
            pages: [None; Overlay::COUNT],
            covered: ArrayVec::new_const(),
            reserve: ArrayVec::new_const(),
        }
    }

    fn page(&self, overlay: Overlay) -> Option<Page> {
        self.pages.get(usize::from(overlay.0)).copied().flatten()
    }

    /// The overlay that shows at a page of the guest.
    fn top(&self, page: Gpfn) -> Option<(Spfn, Rights)> {
        let mut all = Overlay::all().filter_map(|overlay| Some((overlay, self.page(overlay)?)));
        let (overlay, found) = all.find(|(_, found)| found.at == Some(page))?;
        Some((found.frame, overlay.rights()))
    }
}

/// The overlays of a partition.
#[derive(Debug, Default)]
pub struct Overlays {
    books: Option<PageBox<Books>>,
    hypercall: Option<Frame>,
    reference_tsc: Option<PageBox<ReferenceTscPage>>,
    /// Last sequence of that page.
    tsc_sequence: u32,
}

impl Overlays {
    /// Pages that the overlays of a partition without VPs take: the books, hypercall page, reference TSC page, and the
    /// reserve for these two.
    pub const PAGES: u64 = 5;

    /// The overlays of a partition, nowhere yet. The caller has made sure that there are [`PAGES`](Self::PAGES).
    ///
    /// # Errors
    /// INSUFFICIENT_MEMORY; what was allocated before is in use then.
    pub fn new(hypervisor: &Hypervisor, slot: PartitionSlot) -> Result<Self, HvStatus> {
        let hypercall = hypervisor.allocate(slot)?;
        // A frame outside the direct map is never handed out.
        let _ = hypervisor.phys.copy_to(
            hypercall.spfn().address(),
            &hypercall_code(&hypervisor.capabilities),
        );
        let reference_tsc = hypervisor.place(slot, ReferenceTscPage::new())?;
        let mut books = hypervisor.place(slot, Books::new())?;
        for (overlay, frame) in [
            (Overlay::HYPERCALL, hypercall.spfn()),
            (Overlay::REFERENCE_TSC, reference_tsc.spfn()),
        ] {
            books.pages[usize::from(overlay.0)] = Some(Page { frame, at: None });
            let _ = books.reserve.try_push(hypervisor.allocate(slot)?);
        }
        Ok(Self {
            books: Some(books),
            hypercall: Some(hypercall),
            reference_tsc: Some(reference_tsc),
            tsc_sequence: 0,
        })
    }

    /// Where an overlay lies.
    pub fn place(&self, overlay: Overlay) -> Option<Gpfn> {
        self.books.as_ref()?.page(overlay)?.at
    }

    /// Whether an overlay lies anywhere.
    pub fn any(&self) -> bool {
        let covered = self.books.as_ref().map(|books| &books.covered);
        covered.is_some_and(|covered| !covered.is_empty())
    }

    /// Whether an overlay lies over a page of the guest.
    pub fn cover(&self, page: Gpfn) -> bool {
        let covered = self.books.as_ref().map(|books| &books.covered);
        covered.is_some_and(|covered| covered.iter().any(|covered| covered.page == page))
    }

    /// Lets the reference TSC page show a clock, or send its readers to the MSR.
    pub fn show_clock(&mut self, clock: Option<&ReferenceClock>) {
        let Some(page) = &self.reference_tsc else {
            return;
        };
        match clock {
            Some(clock) => page.publish(clock, &mut self.tsc_sequence),
            None => page.invalidate(),
        }
    }

    /// Adds the overlays of a new VP, nowhere yet, in the order of [`Overlay::of`], and the frames of the reserve that they
    /// need.
    pub fn add_vp(
        &mut self,
        vp: u16,
        frames: [Spfn; Overlay::OF_VP],
        reserve: [Frame; Overlay::OF_VP],
    ) {
        let Some(books) = self.books.as_mut() else {
            unreachable!("a partition with VPs is initialized, and has its books");
        };
        for (overlay, frame) in Overlay::of(vp).into_iter().zip(frames) {
            books.pages[usize::from(overlay.0)] = Some(Page { frame, at: None });
        }
        for frame in reserve {
            let pushed = books.reserve.try_push(frame);
            debug_assert!(pushed.is_ok(), "there is room for one for each overlay");
        }
    }

    /// Forgets the overlays of a VP, which lie nowhere. Frames of the reserve that are there go back to the pool; others are
    /// tables still, and go there by themselves.
    pub fn remove_vp(&mut self, hypervisor: &Hypervisor, slot: PartitionSlot, vp: u16) {
        let Some(books) = self.books.as_mut() else {
            return;
        };
        for overlay in Overlay::of(vp) {
            let removed = books.pages[usize::from(overlay.0)].take();
            debug_assert!(removed.is_none_or(|page| page.at.is_none()));
        }
        let left = books.pages.iter().flatten().count();
        while books.reserve.len() > left {
            let spare = books.reserve.pop();
            spare
                .into_iter()
                .for_each(|frame| hypervisor.release(slot, frame));
        }
    }

    /// Ends the overlays of a partition whose memory is gone, and gives their pages back. None lies anywhere.
    pub fn release(&mut self, hypervisor: &Hypervisor, slot: PartitionSlot) {
        let Self {
            books,
            hypercall,
            reference_tsc,
            tsc_sequence: _,
        } = core::mem::take(self);
        if let Some(mut books) = books {
            debug_assert!(books.covered.is_empty());
            while let Some(frame) = books.reserve.pop() {
                hypervisor.release(slot, frame);
            }
            hypervisor.release(slot, books.into_frame());
        }
        let reference_tsc = reference_tsc.map(PageBox::into_frame);
        for frame in [hypercall, reference_tsc].into_iter().flatten() {
            hypervisor.release(slot, frame);
        }
    }
}

impl Hypervisor {
    /// GUEST_OS_ID: zero takes the hypercall page away (guest sheet 4.2). The caller shoots down.
    pub fn set_guest_os_id(&self, partition: &mut Partition, value: u64) {
        partition.msrs.guest_os_id = value;
        let page = HvPageMsr::from_bits(partition.msrs.hypercall);
        if value == 0 && page.enabled() {
            partition.msrs.hypercall = page.with_enabled(false).into_bits();
            self.remove_overlay(partition, Overlay::HYPERCALL);
        }
    }

    /// HYPERCALL: bit 0 enable, bit 1 locked, page number (guest sheet 4.2). Without a GUEST_OS_ID it stays disabled. The
    /// root's page is where the hypervisor has put it. The caller shoots down.
    ///
    /// # Errors
    /// As [`place_overlay`](Self::place_overlay); nothing is changed then.
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
            self.place_by_msr(partition, Overlay::HYPERCALL, new)?;
        }
        partition.msrs.hypercall = new.into_bits();
        Ok(())
    }

    /// REFERENCE_TSC: bit 0 enable, page number (guest sheet 4.6). The root's page is where the hypervisor has put it. The
    /// caller shoots down.
    ///
    /// # Errors
    /// As [`place_overlay`](Self::place_overlay); nothing is changed then.
    pub fn set_reference_tsc(&self, partition: &mut Partition, value: u64) -> Result<(), HvStatus> {
        let mut new = HvPageMsr::from_bits(value);
        if partition.is_root() {
            new.set_gpfn(self.root_pages.reference_tsc.spfn().0);
        } else {
            self.place_by_msr(partition, Overlay::REFERENCE_TSC, new)?;
        }
        partition.msrs.reference_tsc = new.into_bits();
        Ok(())
    }

    /// Lets a child's reference TSC page show its time, if that runs and the processors' TSCs are one clock.
    pub fn publish_clock(&self, child: &mut Partition) {
        let clock = &self.partitions.entry(child.slot).clock;
        let shown = clock.reference(&self.clock);
        let common = self.tsc_agreement.is_common();
        child.overlays.show_clock(shown.as_ref().filter(|_| common));
    }

    /// Puts an overlay where a page register has it, or nowhere if that is off. The caller shoots down.
    ///
    /// # Errors
    /// As [`place_overlay`](Self::place_overlay); nothing is changed then.
    pub fn place_by_msr(
        &self,
        child: &mut Partition,
        overlay: Overlay,
        register: HvPageMsr,
    ) -> Result<(), HvStatus> {
        if register.enabled() {
            return self.place_overlay(child, overlay, Gpfn(register.gpfn()));
        }
        self.remove_overlay(child, overlay);
        Ok(())
    }
}
