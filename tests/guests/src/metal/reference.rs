//! The reference TSC page (guest sheet 4.4).

use core::sync::atomic::{Ordering, fence};

use tlfs::{HV_X64_MSR_REFERENCE_TSC, HvReferenceTscPage};

use super::cell::Pages;
use super::cpu::{tsc, wrmsr};
use super::{memory, time};

/// The page, laid over one of the payload's. All processors may read it.
#[derive(Clone, Copy, Debug)]
pub struct ReferencePage {
    gpa: u64,
}

impl ReferencePage {
    /// Lays it.
    pub fn lay(over: &'static Pages<4096>) -> Self {
        wrmsr(HV_X64_MSR_REFERENCE_TSC, over.gpa() | 1).expect("REFERENCE_TSC");
        Self { gpa: over.gpa() }
    }

    /// Takes it away.
    pub fn remove(self) {
        wrmsr(HV_X64_MSR_REFERENCE_TSC, 0).expect("REFERENCE_TSC");
    }

    /// Reference time, in 100 ns, by the page and this processor's TSC; `None` if the page says nothing.
    pub fn time(self) -> Option<u64> {
        loop {
            let sequence = self.sequence();
            if sequence == 0 {
                return None;
            }
            let page = HvReferenceTscPage {
                tsc_sequence: sequence,
                reserved: 0,
                tsc_scale: memory::read(self.gpa + 8),
                tsc_offset: memory::read(self.gpa + 16),
            };
            let time = page.reference_time(tsc());
            if self.sequence() == sequence {
                return Some(time);
            }
        }
    }

    /// Panics unless the page and the reference counter say the same time, within the resolution of both.
    #[track_caller]
    pub fn expect_counter(self) {
        const SAYS: &str = "the TSCs of the machine are one clock";
        let before = self.time().expect(SAYS);
        let counter = time::reference();
        let after = self.time().expect(SAYS);
        assert!(
            before <= counter + 1 && counter <= after + 1,
            "{before}, {counter}, {after}"
        );
    }

    fn sequence(self) -> u32 {
        fence(Ordering::SeqCst);
        let sequence = memory::read(self.gpa);
        fence(Ordering::SeqCst);
        sequence
    }
}
