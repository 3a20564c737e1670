//! The processors: what each of them has, and how the others come to run.

use core::mem::MaybeUninit;

use arrayvec::ArrayVec;

use super::Cpu;
use super::start::{boxed, zeroed};
use crate::arch::Processor;
use crate::arch::fpu::FpuUnit;
use crate::arch::page::HwPages;
use crate::boot::Machine;
use crate::boot::pool::Pool;
use crate::boot::secondary::{self, Arrival};
use crate::cpu::apic::LocalApic as PhysicalApic;
use crate::cpu::local::Local;
use crate::cpu::ordered_tsc;
use crate::hv::Hypervisor;
use crate::hypercall::Buffers;
use crate::log::panic;
use crate::lp::{LogicalProcessor, Mailbox, Residents, RootVpPages, RunClock};
use crate::mem::phys::PhysMap;
use crate::partition::table::MAX_VPS;
use crate::stats::StatsPage;
use crate::synic::{EventFlagsPage, MessagePage};

/// Most processors that are started: the root has a VP for each.
pub(super) const MAX_PROCESSORS: usize = MAX_VPS;

/// What others see of `count` processors.
pub(super) fn logical_processors(
    phys: PhysMap,
    pool: &mut Pool,
    count: usize,
) -> Option<&'static [LogicalProcessor]> {
    let mut all = ArrayVec::<_, MAX_PROCESSORS>::new();
    for index in 0..count {
        let root = RootVpPages {
            messages: boxed(phys, pool, MessagePage::new())?,
            event_flags: boxed(phys, pool, EventFlagsPage::new())?,
            event_ring: zeroed(phys, pool)?,
            assist: zeroed(phys, pool)?,
        };
        all.push(LogicalProcessor {
            mailbox: Mailbox::new(),
            residents: Residents::new(),
            // The first one has run since the clock does.
            run_clock: if index == 0 {
                RunClock::running()
            } else {
                RunClock::idle()
            },
            stats: boxed(phys, pool, StatsPage::new())?,
            stats_mapped: false.into(),
            root,
        });
    }
    Some(pool.place(all)?.as_slice())
}

/// Memory for what a processor has, taken from the pool before it starts.
pub(super) struct CpuParts {
    hv: &'static Hypervisor,
    pages: [HwPages; Processor::PAGES],
    buffers: &'static mut Buffers,
    place: &'static mut MaybeUninit<Cpu>,
}

impl CpuParts {
    /// Takes it.
    pub(super) fn take(hv: &'static Hypervisor, pool: &mut Pool) -> Option<Self> {
        Some(Self {
            hv,
            pages: [pool.hw_pages(1)?, pool.hw_pages(1)?],
            buffers: pool.place(Buffers::new())?,
            place: pool.place(MaybeUninit::uninit())?,
        })
    }

    /// Turns virtualization and floating point on for the processor that this runs on.
    ///
    /// # Safety
    /// Ring 0 on the processor of `local` and `apic`, which the boot code has probed and whose tables are installed; what is
    /// made stays on it.
    #[expect(
        clippy::mut_from_ref,
        reason = "what is returned lies in `place`, and only names `local`"
    )]
    pub(super) unsafe fn make(
        self,
        local: &'static Local,
        apic: PhysicalApic,
    ) -> Option<&'static mut Cpu> {
        let (hv, index) = (self.hv, local.index());
        // SAFETY: the caller's obligations are the same.
        let (processor, fpu) = unsafe {
            (
                Processor::enable(index, self.pages, &hv.capabilities),
                FpuUnit::enable(hv.fpu_format),
            )
        };
        hv.lp(index).mailbox.open(apic.id());
        let cpu = Cpu::new(hv, local, apic, processor, fpu, self.buffers)?;
        Some(self.place.write(cpu))
    }
}

/// Where the other processors go: each runs the root's VP of its index, as soon as there is one.
fn join(arrival: Arrival<CpuParts>, ready: &dyn Fn()) -> ! {
    let Arrival { local, apic, parts } = arrival;
    // SAFETY: the arrival is this processor's, set up as the one that booted is.
    let cpu = unsafe { parts.make(local, apic) };
    let Some(cpu) = cpu else {
        panic!("a processor without TLB tags, or one more than were counted");
    };
    ready();
    let hv = cpu.hv;
    // Whether it had its turn the other side knows.
    let _ = hv
        .tsc_agreement
        .answer(cpu.index(), ordered_tsc, PATIENCE_SECONDS * hv.tsc_hz);
    cpu.join()
}

/// Starts the other processors; says how many run then.
pub(super) fn start_others(hv: &'static Hypervisor, machine: &mut Machine) -> u32 {
    panic::stops_others_by(hv.commands);
    let parts = |machine: &mut Machine| CpuParts::take(hv, &mut machine.pool);
    // SAFETY: ring 0 on the processor that booted, with interrupts off, on our own tables; the root, whose the low memory
    // will be, does not run yet.
    let running = unsafe {
        let met = |index| compare_tsc(hv, index);
        secondary::start_all(machine, hv.commands, hv.lps.len(), parts, join, met)
    };
    if running > 1 {
        ::log::info!("{running} processors run");
        report_tscs(hv);
    }
    running as u32
}

/// How long a processor may take to compare its TSC: it may be one of an emulator that does not run all the time.
const PATIENCE_SECONDS: u64 = 5;

/// Compares the TSC with that of a processor that has just started.
fn compare_tsc(hv: &Hypervisor, other: u32) {
    // Once they differ it is decided; and one that did not answer is not waited for again.
    if hv.tsc_agreement.is_common() {
        let patience = PATIENCE_SECONDS * hv.tsc_hz;
        hv.tsc_agreement.compare_with(other, ordered_tsc, patience);
    }
}

/// Says what came of the comparisons, which decides about the reference TSC pages.
fn report_tscs(hv: &Hypervisor) {
    let kind = if hv.constant_tsc {
        "invariant"
    } else {
        "not invariant"
    };
    match hv.tsc_agreement.difference() {
        Some(0) => ::log::info!("the TSCs ({kind}) are one clock: there are reference TSC pages"),
        Some(ticks) => {
            ::log::warn!("the TSCs ({kind}) differ, by {ticks} ticks: no reference TSC pages");
        }
        None => ::log::warn!("a TSC ({kind}) was not compared: no reference TSC pages"),
    }
}
