//! Counters that are shown later than they are counted.
//!
//! What is counted on every exit is counted where that costs least, and VPs' times are kept by the run queue. Both come
//! into the stats pages when a VP's turn ends, when the processor has nothing to do, when a physical interrupt is served,
//! and when the root maps a page.

use tlfs::stats::{logical_processor as lp, partita, vp as counter};

use super::Cpu;
use crate::partition::Vp;
use crate::time::RefTime;

impl Cpu {
    /// Brings the processor's page up to date.
    pub fn show_processor(&self, now: RefTime) {
        let counted = self.processor.counters();
        let ran = self.lp().run_clock.run_time(now);
        let page = &self.lp().stats;
        for (index, value) in [
            (lp::GLOBAL_TIME, now.units()),
            (lp::TOTAL_RUN_TIME, ran.units()),
            // What it did for a VP is that VP's.
            (
                lp::HYPERVISOR_RUN_TIME,
                ran.saturating_sub(self.queue.busy(now)).units(),
            ),
            (partita::GUEST_ENTRIES, counted.runs),
            (partita::VMLOADS, counted.vmloads),
            (partita::VMSAVES, counted.vmsaves),
            (partita::XSAVES, counted.xsaves),
            (partita::XRSTORS, counted.xrstors),
            (partita::TLB_FLUSH_REQUESTS, counted.tlb_flushes),
            (
                partita::MSR_WRITES,
                counted.msr_writes + self.apic.msr_writes(),
            ),
            (partita::CONTROL_REGISTER_WRITES, counted.xcr_writes),
        ] {
            page.set(index, value);
        }
        let longest = counted.section.longest();
        if longest.ticks != 0 {
            let ns = u128::from(longest.ticks) * 1_000_000_000 / u128::from(self.hv.tsc_hz);
            page.set(partita::LONGEST_SECTION, ns as u64);
            page.set(partita::LONGEST_SECTION_EXIT, longest.exit);
            page.set(partita::LONGEST_SECTION_RCX, longest.rcx);
        }
    }

    /// Brings the time that a VP has run into its page.
    pub fn show_run_time(&self, vp: &Vp, now: RefTime) {
        if let Some(time) = self.queue.run_time(vp.queue_slot, now) {
            vp.stats.set(counter::TOTAL_RUN_TIME, time.units());
        }
    }
}
