//! The other processors: starting them, and what they do.
//!
//! They are started one after the other, with INIT and a startup interrupt, and come up on the trampoline. A processor that
//! does not come within a second is named and left alone.

mod trampoline;

use core::sync::atomic::{AtomicUsize, Ordering};

use root_kernel::sched::{PROCESSORS, Processor};
use tlfs::HV_REFERENCE_TIME_HZ;

use super::block::Parts;
use super::cpu;
use super::{acpi, apic, console, hypervisor, lock, process, time};
use trampoline::Trampoline;

/// How long a processor may take to come up, 100 ns.
const PATIENCE: u64 = HV_REFERENCE_TIME_HZ;

/// Processors that run the kernel.
static RUNNING: AtomicUsize = AtomicUsize::new(1);

/// How many processors run the kernel: those of the numbers below this one.
pub fn running() -> usize {
    RUNNING.load(Ordering::Relaxed)
}

/// All of them.
pub fn all() -> impl Iterator<Item = Processor> {
    (0..running()).filter_map(Processor::new)
}

/// Starts the other processors of the machine.
pub fn start(machine: &acpi::Processors) {
    let own = apic::id();
    let others = || machine.apic_ids().filter(|id| *id != own);
    if others().next().is_none() {
        return;
    }
    let Some(trampoline) = Trampoline::new() else {
        console::line(format_args!(
            "no memory to start the other processors with; the kernel runs on one"
        ));
        return;
    };
    for id in others() {
        let Some(next) = Processor::new(running()) else {
            console::line(format_args!(
                "the kernel runs on {PROCESSORS} processors at most"
            ));
            break;
        };
        match bring_up(&trampoline, next, id) {
            Ok(()) => {
                RUNNING.store(next.index() + 1, Ordering::Relaxed);
                // It finishes, and halts instead of waiting: a VP at rest answers the hypervisor's questions at once.
                cpu::pause();
            }
            Err(why) => console::line(format_args!(
                "processor {next} (APIC id {id:#x}) {why}; the kernel goes on without it",
                next = next.index()
            )),
        }
    }
    trampoline.give_back();
    console::line(format_args!(
        "{} of {} processors run the kernel",
        running(),
        others().count() + 1
    ));
}

/// Starts one.
fn bring_up(trampoline: &Trampoline, processor: Processor, id: u32) -> Result<(), &'static str> {
    let parts = Parts::make(processor).ok_or("has no memory")?;
    trampoline.prepare(parts, begin);
    apic::reset(id);
    apic::start(id, trampoline.page());
    let deadline = time::now().saturating_add(PATIENCE);
    while !trampoline.is_over() {
        if time::now() >= deadline {
            // It must not come later, on what is another one's by then.
            apic::reset(id);
            trampoline.withdraw();
            return Err("does not start");
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// The first code of another processor, on its own stack, with the kernel's tables and interrupts off.
extern "C" fn begin(parts: &'static Parts) -> ! {
    cpu::init_processor(parts);
    trampoline::left();
    lock::take();
    apic::init();
    hypervisor::init_processor();
    // Its own task: there is nothing but processes to run.
    loop {
        if !process::run_next() {
            process::halt();
        }
    }
}
