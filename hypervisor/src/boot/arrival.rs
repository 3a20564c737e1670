//! On our own page tables and stack: processor, clock and local APIC, then the machine's description.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use super::acpi::{self, ProcessorInfo, Processors};
use super::plan::{Handover, LOCAL_APIC};
use super::{Machine, TSC_HZ};
use crate::arch::cpuid::ThisProcessor;
use crate::arch::fpu::FpuFormat;
use crate::cpu::apic::{LocalApic, Mode};
use crate::cpu::local::Local;
use crate::cpu::{features, pic, tsc};
use crate::mem::addr::Spa;

/// Where the departure leads.
pub(super) unsafe extern "sysv64" fn arrive(handover: *mut Handover) -> ! {
    // SAFETY: the departure made it, in the block, and gave it to us alone; it is read once.
    let handover = unsafe { handover.read() };
    let start = handover.start;
    let machine = describe(handover);
    start(machine)
}

fn describe(mut handover: Handover) -> Machine {
    let cpu = ThisProcessor;
    // SAFETY: ring 0, on our own tables.
    unsafe { harden(&cpu) };
    if let Some(buffer) = &handover.frame_buffer {
        // SAFETY: our tables are active.
        crate::log::set_screen(unsafe { buffer.screen() });
    }
    let apic_id = initial_apic_id();
    let local = handover
        .pool
        .place(Local::new(0, apic_id))
        .expect("the block has room for it");
    // SAFETY: ring 0, interrupts off, on the processor that booted; the stacks are mapped for it.
    let local = unsafe { local.install(&handover.stacks.exceptions) };
    // SAFETY: nobody else programs them now.
    unsafe { pic::mask_all() };

    let found = match handover.rsdp {
        // SAFETY: the loader found it; the direct map covers the tables, and nobody else runs.
        Some(rsdp) => unsafe { acpi::read(handover.phys, rsdp) },
        None => acpi::AcpiInfo::default(),
    };
    let tsc_hz = tsc_frequency(found.pm_timer);
    TSC_HZ.store(tsc_hz, Ordering::Relaxed);
    crate::log::set_clock(tsc_hz);
    let mapped = match handover.apic_mode {
        Mode::XApic(_) => NonNull::new(LOCAL_APIC as *mut u32),
        Mode::X2Apic => None,
    };
    // SAFETY: ring 0, interrupts off; the departure mapped the registers there, uncached.
    let apic = unsafe { LocalApic::enable(handover.apic_mode, mapped, &cpu, tsc_hz) };

    let mut processors = Processors::new();
    let me = found
        .processors
        .as_slice()
        .iter()
        .find(|p| p.apic_id == apic.id());
    processors.add(me.copied().unwrap_or(ProcessorInfo {
        apic_id: apic.id(),
        uid: 0,
    }));
    found
        .processors
        .as_slice()
        .iter()
        .for_each(|&p| processors.add(p));
    log_machine(&handover, &processors, tsc_hz);
    Machine {
        phys: handover.phys,
        tables: handover.tables,
        memory: handover.memory,
        own: handover.own,
        pool: handover.pool,
        archive: handover.archive,
        rsdp: handover.rsdp,
        frame_buffer: handover.frame_buffer,
        tsc_hz,
        processors,
        capabilities: handover.capabilities,
        fpu_format: FpuFormat::probe(&cpu),
        apic_mode: handover.apic_mode,
        apic_registers: mapped,
        apic: Some(apic),
        local,
    }
}

/// Control registers as the hypervisor runs with them, on any processor.
///
/// # Safety
/// Ring 0, with our own tables active.
pub(super) unsafe fn harden(cpu: &ThisProcessor) {
    const CR4_PGE: u64 = 1 << 7;
    // SAFETY: ring 0; the image's writable pages are mapped writable, and PGE exists on every 64-bit processor.
    unsafe { features::harden(features::cr4_hardening(cpu) | CR4_PGE) };
}

/// The best source there is.
fn tsc_frequency(pm_timer: Option<u16>) -> u64 {
    if let Some(hz) = tsc::frequency_from_cpuid(&ThisProcessor) {
        return hz;
    }
    // SAFETY: the FADT names the port; the PIT is nobody's yet.
    let measured = unsafe {
        pm_timer
            .and_then(|port| tsc::measure_by_pm_timer(port))
            .or_else(|| tsc::measure_by_pit())
    };
    measured
        .unwrap_or_else(|| crate::log::refuse("there is no clock to measure the processor's by"))
}

fn initial_apic_id() -> u32 {
    use crate::arch::cpuid::CpuidSource;
    ThisProcessor.cpuid(1, 0).ebx >> 24
}

fn log_machine(handover: &Handover, processors: &Processors, tsc_hz: u64) {
    use super::memory::MemoryKind;
    let (Spa(start), Spa(end)) = handover.own;
    let (_, left) = handover.pool.left();
    log::info!(
        "{} MiB RAM, {} processors, TSC {}.{:06} MHz, {:?}",
        handover.memory.total(MemoryKind::Ram) >> 20,
        processors.as_slice().len(),
        tsc_hz / 1_000_000,
        tsc_hz % 1_000_000,
        handover.apic_mode
    );
    log::info!(
        "own memory {start:#x}-{end:#x}, {} KiB of it left",
        left * 4
    );
}
