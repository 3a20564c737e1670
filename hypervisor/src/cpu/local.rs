//! The block of one processor, found through its GS base.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use x86_64::VirtAddr;
use x86_64::registers::model_specific::GsBase;

use super::tables::Tables;

/// What belongs to one processor. Others only read `index` and `apic_id`.
#[repr(C)]
#[derive(Debug)]
pub struct Local {
    /// Its own address, so that one load from GS:0 finds it.
    this: *const Self,
    /// Index of the processor, from 0 (the one that booted).
    index: u32,
    /// Physical APIC id.
    apic_id: u32,
    /// Vectors that arrived and were not told yet: bit `v % 64` of word `v / 64`. Set by the interrupt stubs.
    arrived: [AtomicU64; 4],
    /// An NMI arrived. Set by its stub.
    nmi: AtomicBool,
    /// Descriptor tables.
    pub(super) tables: Tables,
}

/// Offset of `arrived` for the stubs.
pub(super) const ARRIVED_OFFSET: usize = core::mem::offset_of!(Local, arrived);
/// Offset of `nmi` for the stubs.
pub(super) const NMI_OFFSET: usize = core::mem::offset_of!(Local, nmi);
const _: () = assert!(core::mem::offset_of!(Local, this) == 0);

// SAFETY: the pointer is to the block itself; everything that changes is atomic, but for `tables`, which only the owner
// writes, before it publishes the block.
unsafe impl Sync for Local {}

impl Local {
    /// A block for processor `index` with physical APIC id `apic_id`; `install` gives it life.
    pub const fn new(index: u32, apic_id: u32) -> Self {
        Self {
            this: core::ptr::null(),
            index,
            apic_id,
            arrived: [const { AtomicU64::new(0) }; 4],
            nmi: AtomicBool::new(false),
            tables: Tables::new(),
        }
    }

    /// Loads descriptor tables and GS base of this processor from the block.
    ///
    /// # Safety
    /// Ring 0 on the processor that the block is for, interrupts off; the stacks are mapped and used by nothing else.
    pub unsafe fn install(
        &'static mut self,
        stacks: &super::tables::ExceptionStacks,
    ) -> &'static Self {
        self.this = &raw const *self;
        self.tables.prepare(stacks);
        let this: &'static Self = self;
        // SAFETY: the tables live for ever and are complete; the caller vouches for the rest. GS base comes last, because
        // loading the segment registers clears it.
        unsafe { this.tables.load() };
        GsBase::write(VirtAddr::from_ptr(this));
        this
    }

    /// The block of the processor that this runs on.
    ///
    /// # Safety
    /// `install` must have run on this processor.
    pub unsafe fn current() -> &'static Self {
        let this: *const Self;
        // SAFETY: GS base is the block's address since `install`, and its first word too.
        unsafe {
            core::arch::asm!("mov {}, gs:[0]", out(reg) this, options(nostack, preserves_flags, readonly, pure));
            &*this
        }
    }

    /// Index of the processor.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Physical APIC id.
    pub const fn apic_id(&self) -> u32 {
        self.apic_id
    }

    /// Takes note of the NMI that arrived since the last call, if one did.
    pub fn take_nmi(&self) -> bool {
        self.nmi.swap(false, Ordering::Relaxed)
    }

    /// Tells and forgets the vectors that arrived, the highest first.
    pub(super) fn drain(&self, each: &mut dyn FnMut(u8)) {
        for (word, bits) in self.arrived.iter().enumerate().rev() {
            if bits.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = bits.swap(0, Ordering::Relaxed);
            while bits != 0 {
                let bit = 63 - bits.leading_zeros();
                bits &= !(1 << bit);
                each((word as u32 * 64 + bit) as u8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_told_once_and_the_highest_first() {
        let local = Local::new(0, 0);
        local.arrived[0].store(1 << 0x20, Ordering::Relaxed);
        local.arrived[3].store(1 << 63 | 1 << 48, Ordering::Relaxed);
        local.arrived[1].store(1, Ordering::Relaxed);
        let mut told = Vec::new();
        local.drain(&mut |v| told.push(v));
        assert_eq!(told, [0xFF, 0xF0, 0x40, 0x20]);
        told.clear();
        local.drain(&mut |v| told.push(v));
        assert!(told.is_empty());
    }
}
