//! Interrupts that their guest ends without an exit (TLFS, "EOI Assist"; guest sheet 4.8).
//!
//! When an interrupt begins whose end means nothing to anybody else, the VP assist page says that it needs no EOI. The guest
//! exchanges that word with zero when it is done, and skips the EOI if the word was set. So after each exit the word tells
//! whether the interrupt is over. When another one waits behind it the word is taken back, and the guest's EOI exits.

use core::sync::atomic::{AtomicU32, Ordering};

use tlfs::{HvPageMsr, HvVirtualApicAssist, HvVpAssistPage};

use super::Vp;
use crate::apic::Effect;

const NO_EOI_REQUIRED: u32 = HvVirtualApicAssist::new()
    .with_no_eoi_required(true)
    .into_bits();

/// The VP assist page of a child's VP, which all its VPs may write to at any time.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct AssistPage {
    apic_assist: AtomicU32,
    rest: [AtomicU32; size_of::<HvVpAssistPage>() / 4 - 1],
}

const _: () = assert!(size_of::<AssistPage>() == size_of::<HvVpAssistPage>());

impl AssistPage {
    /// All zeros.
    pub const fn new() -> Self {
        Self {
            apic_assist: AtomicU32::new(0),
            rest: [const { AtomicU32::new(0) }; _],
        }
    }

    /// All zeros again.
    pub fn clear(&self) {
        let all = core::iter::once(&self.apic_assist).chain(&self.rest);
        all.for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

impl Default for AssistPage {
    fn default() -> Self {
        Self::new()
    }
}

impl Vp {
    /// An interrupt has begun: its guest may end it without an exit, if nothing depends on it.
    pub fn offer_lazy_eoi(&mut self) {
        let Some(page) = &self.assist else {
            return;
        };
        if HvPageMsr::from_bits(self.assist_page).enabled() && self.apic.ends_quietly() {
            page.apic_assist.store(NO_EOI_REQUIRED, Ordering::SeqCst);
            self.lazy_eoi = true;
        }
    }

    /// After an exit of a VP with [`lazy_eoi`](Self::lazy_eoi): what the end of the interrupt brings, if its guest has ended it.
    pub fn end_lazily(&mut self) -> Option<Effect> {
        let page = self.assist.as_ref()?;
        if page.apic_assist.load(Ordering::SeqCst) & NO_EOI_REQUIRED != 0 {
            return None;
        }
        self.lazy_eoi = false;
        Some(self.apic.end_of_interrupt())
    }

    /// The interrupt in service is to be ended by an EOI, if it is not over yet: something else waits for it, or the page is going
    /// away. The guest does not run, and [`end_lazily`](Self::end_lazily) was asked after its last exit.
    pub fn require_eoi(&mut self) {
        if core::mem::take(&mut self.lazy_eoi)
            && let Some(page) = &self.assist
        {
            page.apic_assist
                .fetch_and(!NO_EOI_REQUIRED, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests;
