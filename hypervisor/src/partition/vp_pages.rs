//! The pages that a VP is made of.

use tlfs::HvStatus;

use super::overlay::Overlay;
use crate::hv::Hypervisor;
use crate::mem::frames::PartitionSlot;
use crate::mem::page_box::Frame;

/// The pages of a VP, all from its partition's pool and zeroed: the root will see two of them.
#[derive(Debug)]
pub struct VpPages {
    /// The control block.
    pub control: Frame,
    /// Floating point state.
    pub fpu: Frame,
    /// Register page.
    pub registers: Frame,
    /// Intercept message page.
    pub intercept: Frame,
    /// Counters.
    pub stats: Frame,
    /// The [`Vp`](super::Vp) itself.
    pub object: Frame,
    /// Its SynIC.
    pub synic: Frame,
    /// What a child's guest can lay over its memory; the root's is provided elsewhere.
    pub overlays: Option<OverlayPages>,
}

/// Pages of a VP that its guest can lay over its memory.
#[derive(Debug)]
pub struct OverlayPages {
    /// SIM page.
    pub messages: Frame,
    /// SIEF page.
    pub event_flags: Frame,
    /// VP assist page.
    pub assist: Frame,
    /// What cutting large pages for these may need.
    pub reserve: [Frame; Overlay::OF_VP],
}

impl OverlayPages {
    const COUNT: u64 = 2 * Overlay::OF_VP as u64;

    fn allocate(hypervisor: &Hypervisor, slot: PartitionSlot) -> Result<Self, HvStatus> {
        let page = || hypervisor.allocate(slot);
        Ok(Self {
            messages: page()?,
            event_flags: page()?,
            assist: page()?,
            reserve: [page()?, page()?, page()?],
        })
    }

    fn release(self, hypervisor: &Hypervisor, slot: PartitionSlot) {
        let pages = [self.messages, self.event_flags, self.assist];
        for frame in pages.into_iter().chain(self.reserve) {
            hypervisor.release(slot, frame);
        }
    }
}

impl VpPages {
    /// How many there are of a child's.
    pub const COUNT: u64 = 7 + OverlayPages::COUNT;

    /// Takes the pages from a pool: all or none.
    ///
    /// # Errors
    /// INSUFFICIENT_MEMORY.
    pub fn allocate(hypervisor: &Hypervisor, slot: PartitionSlot) -> Result<Self, HvStatus> {
        hypervisor.require(slot, Self::COUNT)?;
        // The caller has the partition locked, so nobody else takes the pages that are there.
        Ok(Self {
            control: hypervisor.allocate(slot)?,
            fpu: hypervisor.allocate(slot)?,
            registers: hypervisor.allocate(slot)?,
            intercept: hypervisor.allocate(slot)?,
            stats: hypervisor.allocate(slot)?,
            object: hypervisor.allocate(slot)?,
            synic: hypervisor.allocate(slot)?,
            overlays: Some(OverlayPages::allocate(hypervisor, slot)?),
        })
    }

    /// Gives the pages back to the pool that they are from. None may be shared with the root any more.
    pub fn release(self, hypervisor: &Hypervisor, slot: PartitionSlot) {
        for frame in [
            self.control,
            self.fpu,
            self.registers,
            self.intercept,
            self.stats,
            self.object,
            self.synic,
        ] {
            hypervisor.release(slot, frame);
        }
        if let Some(overlays) = self.overlays {
            overlays.release(hypervisor, slot);
        }
    }
}
