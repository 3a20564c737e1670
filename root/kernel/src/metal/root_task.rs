//! The root task: the kernel's own thread. It serves the console, takes down processes that have ended, and halts
//! the processor when there is nothing to do.

use alloc::format;
use alloc::string::String;

use root_kernel::events::Events;
use root_kernel::frames::Class;

use super::cell::Global;
use super::memory::FRAMES;
use super::process::{self, TABLE};
use super::{console, cpu, heap, hypervisor, loader, time};

static EVENTS: Global<Events> = Global::empty();

/// Notes something in the event list.
pub fn event(source: &str, text: &str) {
    let now = time::now();
    EVENTS.with(|events| events.add(now, &format!("{source}: {text}")));
}

/// Notes something of the process that runs.
pub fn event_of_current(text: &str) {
    let name = TABLE.with(|table| table.current().name.clone());
    event(&name, text);
}

/// Output of the serial line of the guest whose process runs.
pub fn guest_output(bytes: &[u8]) {
    console::send(bytes);
}

/// Runs for ever. `archive` is the boot archive's address and length.
pub fn run(archive: (u64, u64), serial_interrupts: bool) -> ! {
    EVENTS.set(Events::default());
    banner(serial_interrupts);
    if let Err(error) = loader::open(archive.0, archive.1) {
        console::line(format_args!("{error}"));
    }
    start_all();
    loop {
        if process::root_task_wanted() {
            work();
        }
        if !serial_interrupts {
            console::serve();
        }
        if !process::run_next() {
            heap::replenish();
            if !process::root_task_pending() {
                cpu::wait_for_interrupt();
            }
        }
    }
}

fn banner(serial_interrupts: bool) {
    let features = hypervisor::known_features();
    let (total, free, archive) = FRAMES.with(|frames| {
        let ledger = frames.ledger();
        (ledger.total(), frames.free(), ledger.class(Class::Archive))
    });
    console::line(format_args!(
        "Partita root partition {}",
        env!("CARGO_PKG_VERSION")
    ));
    console::line(format_args!(
        "{} MiB of RAM, {} MiB free, boot archive {} KiB",
        total / 256,
        free / 256,
        archive * 4
    ));
    let below = if features.present {
        "Hyper-V interface below"
    } else {
        "no hypervisor below"
    };
    let serial = if serial_interrupts {
        "by interrupt"
    } else {
        "polled"
    };
    console::line(format_args!(
        "{below}, partition id {:#x}, serial line {serial}",
        hypervisor::own_id().0
    ));
}

fn work() {
    while let Some(gone) = process::reap() {
        console::line(format_args!(
            "{}: {:?} {:?}",
            gone.name, gone.end, gone.trouble
        ));
        let free = FRAMES.with(|frames| frames.free());
        console::line(format_args!("free {free}"));
    }
    while let Some(byte) = console::input() {
        console::line(format_args!("typed {byte:#x}"));
        process::type_in(0, &[byte]);
    }
}

fn start_all() {
    let Some(archive) = loader::archive() else {
        return;
    };
    let mut vm = 0;
    for member in archive
        .members()
        .filter(|member| member.name().starts_with("vm/"))
    {
        let text = String::from_utf8_lossy(member.content());
        let files = archive
            .members()
            .map(|member| member.name())
            .filter(|name| name.starts_with("guest/"));
        let free = FRAMES.with(|frames| frames.free());
        console::line(format_args!("free {free}"));
        match loader::start_worker(member.name(), vm, &text, files) {
            Ok(()) => console::line(format_args!("{} started", member.name())),
            Err(error) => console::line(format_args!("{}: {error}", member.name())),
        }
        vm += 1;
    }
}
