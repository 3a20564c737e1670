//! Starting the other processors, one after the other.
//!
//! A processor that is told to start does so in real mode, in a page below 1 MiB: the `trampoline`. That takes it to
//! long mode on tables which map the trampoline itself and our upper half, and from there to `arrive`, on its own stack.
//! Whoever started it waits, so that one set of low pages does for all.

mod place;
mod trampoline;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use super::Machine;
use super::acpi::ProcessorInfo;
use super::arrival::harden;
use super::stacks;
use crate::arch::cpuid::ThisProcessor;
use crate::arch::fpu::FpuFormat;
use crate::arch::{Capabilities, probe_here};
use crate::cpu::apic::{CommandPort, LocalApic, Mode};
use crate::cpu::local::Local;
use crate::cpu::tables::ExceptionStacks;
use crate::cpu::{halt_forever, tsc};
use trampoline::Trampoline;

/// Fractions of a second: between INIT and startup, between two startups, and until a processor counts as dead.
const AFTER_INIT: u64 = 100;
const AFTER_STARTUP: u64 = 5000;
const LONGEST_START: u64 = 1;

/// Commands of the local APIC, asserted.
const INIT: u32 = 5 << 8 | 1 << 14;
const STARTUP: u32 = 6 << 8 | 1 << 14;

/// How a processor that was told to start is getting on.
mod state {
    /// It has not arrived.
    pub const ASLEEP: u32 = 0;
    /// It runs.
    pub const READY: u32 = 1;
    /// It is not like the one that booted.
    pub const DIFFERENT: u32 = 2;
}

/// What a processor goes on with, once it is set up.
pub struct Arrival<P> {
    /// Its block, installed.
    pub local: &'static Local,
    /// Its local APIC, on.
    pub apic: LocalApic,
    /// What was laid by for it.
    pub parts: P,
}

/// What waits for a processor that starts.
struct Seed<P: 'static> {
    local: Option<&'static mut Local>,
    parts: Option<P>,
    stacks: ExceptionStacks,
    capabilities: Capabilities,
    fpu_format: FpuFormat,
    apic_mode: Mode,
    apic_registers: Option<NonNull<u32>>,
    tsc_hz: u64,
    state: AtomicU32,
    go_on: fn(Arrival<P>, &dyn Fn()) -> !,
}

/// Starts all processors of the machine but the one that this runs on, up to index `most`. `parts` lays by what one of them
/// will need, `go_on` is where it goes with that; it calls what it is given when it no longer needs to be waited
/// for. `met` is called then, with its index. Returns how many run, this one included.
///
/// # Safety
/// Ring 0 on the processor that booted, whose local APIC `apic` is of and on, interrupts off, on our own tables; no low memory is in use.
pub unsafe fn start_all<P: 'static>(
    machine: &mut Machine,
    apic: CommandPort,
    most: usize,
    mut parts: impl FnMut(&mut Machine) -> Option<P>,
    go_on: fn(Arrival<P>, &dyn Fn()) -> !,
    mut met: impl FnMut(u32),
) -> usize {
    let found = machine.processors;
    let others = found.as_slice().get(1..).unwrap_or(&[]);
    if others.is_empty() {
        return 1;
    }
    let Some(pages) = place::low_pages(&machine.memory, machine.archive) else {
        log::warn!("there is no free memory below 1 MiB: the other processors stay asleep");
        return 1;
    };
    let root = machine.tables.root().address();
    // SAFETY: RAM that nobody uses yet.
    let mut trampoline = unsafe { Trampoline::new(machine.phys, pages, root) };
    let mut running = 1;
    for &processor in others {
        if running >= most {
            log::warn!("more than {most} processors: the others stay asleep");
            break;
        }
        let index = running as u32;
        let parts = parts(machine);
        let seed = parts.and_then(|parts| seed(machine, processor, index, parts, go_on));
        let Some((seed, stack)) = seed else {
            log::warn!("no memory of the hypervisor's is left for processor {index}");
            break;
        };
        trampoline.prepare(stack, seed, arrive::<P>);
        // SAFETY: the seed lives for ever, and its state is the only thing of it that both sides look at.
        let state = unsafe { &(*seed).state };
        wake(apic, processor.apic_id, &trampoline, machine.tsc_hz, state);
        match state.load(Ordering::Acquire) {
            state::READY => {
                met(index);
                running += 1;
            }
            state::DIFFERENT => log::warn!(
                "the processor with APIC id {} is not like the one that booted: it stays asleep",
                processor.apic_id
            ),
            _ if trampoline.withdraw() => {
                // Should it come late after all, it waits again to be told.
                apic.send(processor.apic_id, INIT);
                log::warn!(
                    "the processor with APIC id {} does not start",
                    processor.apic_id
                );
            }
            // It is on its way with what was meant for it, at its own pace.
            _ => {
                log::warn!(
                    "the processor with APIC id {} takes too long to start: it is not used",
                    processor.apic_id
                );
                break;
            }
        }
    }
    trampoline.clear();
    running
}

fn seed<P: 'static>(
    machine: &mut Machine,
    processor: ProcessorInfo,
    index: u32,
    parts: P,
    go_on: fn(Arrival<P>, &dyn Fn()) -> !,
) -> Option<(*mut Seed<P>, u64)> {
    let stacks = stacks::map(&mut machine.tables, &mut machine.pool, index).ok()?;
    let local = machine.pool.place(Local::new(index, processor.apic_id))?;
    let seed = machine.pool.place(Seed {
        local: Some(local),
        parts: Some(parts),
        stacks: stacks.exceptions,
        capabilities: machine.capabilities,
        fpu_format: machine.fpu_format,
        apic_mode: machine.apic_mode,
        apic_registers: machine.apic_registers,
        tsc_hz: machine.tsc_hz,
        state: AtomicU32::new(state::ASLEEP),
        go_on,
    })?;
    Some((seed, stacks.main))
}

/// INIT, and up to two startup messages; then waits for what comes of it.
fn wake(apic: CommandPort, apic_id: u32, trampoline: &Trampoline, tsc_hz: u64, state: &AtomicU32) {
    apic.send(apic_id, INIT);
    wait(tsc_hz / AFTER_INIT, || false);
    for _ in 0..2 {
        apic.send(apic_id, STARTUP | u32::from(trampoline.vector()));
        if wait(tsc_hz / AFTER_STARTUP, || trampoline.is_taken()) {
            break;
        }
    }
    wait(tsc_hz / LONGEST_START, || {
        state.load(Ordering::Acquire) != state::ASLEEP
    });
}

/// Waits for so many ticks of the TSC, or until `done`; says whether it was.
fn wait(ticks: u64, done: impl Fn() -> bool) -> bool {
    let start = tsc();
    while tsc().wrapping_sub(start) < ticks {
        if done() {
            return true;
        }
        core::hint::spin_loop();
    }
    done()
}

/// Where the trampoline leads, on our tables and the processor's own stack.
unsafe extern "sysv64" fn arrive<P>(seed: *mut Seed<P>) -> ! {
    // SAFETY: the starter laid it by for this processor alone, and looks at its state only.
    let seed = unsafe { &mut *seed };
    let cpu = ThisProcessor;
    // SAFETY: ring 0, on our own tables.
    unsafe { harden(&cpu) };
    // SAFETY: ring 0.
    let same = unsafe { probe_here() } == Ok(seed.capabilities)
        && FpuFormat::probe(&cpu) == seed.fpu_format;
    let (Some(local), Some(parts), true) = (seed.local.take(), seed.parts.take(), same) else {
        seed.state.store(state::DIFFERENT, Ordering::Release);
        halt_forever();
    };
    // SAFETY: ring 0, interrupts off, on the processor that the block is for; its stacks are mapped.
    let local = unsafe { local.install(&seed.stacks) };
    // SAFETY: the boot code mapped the registers for all processors, at one address.
    let apic = unsafe { LocalApic::enable(seed.apic_mode, seed.apic_registers, &cpu, seed.tsc_hz) };
    let arrival = Arrival { local, apic, parts };
    (seed.go_on)(arrival, &|| {
        seed.state.store(state::READY, Ordering::Release);
    })
}
