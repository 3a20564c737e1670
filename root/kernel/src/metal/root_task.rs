//! The root task: the first processor's own task. It runs the manager, takes down processes that have ended, and halts the
//! processor when there is nothing to do.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use manager::{HOST_FILE, Manager, VmId, WorkerEnd, WorkerNews};
use root_kernel::events::Events;
use root_kernel::frames::{Class, Node};

use super::cell::Global;
use super::host::{self, Machine};
use super::memory::FRAMES;
use super::process::{self, End, Gone, TABLE};
use super::{acpi, console, heap, hypervisor, loader, processors, stats, stream, time};

/// How often a serial line without an interrupt is looked at, 100 ns.
const POLL: u64 = 200_000;
/// Typed bytes handled at once.
const INPUT: usize = 256;

static EVENTS: Global<Events> = Global::empty();
static MANAGER: Global<Manager> = Global::empty();

/// Notes something in the kernel's event list.
pub fn event(source: &str, text: &str) {
    let now = time::now();
    EVENTS.with(|events| events.add(now, source, text));
}

/// Notes something of the process that runs in the kernel's event list.
pub fn event_of_current(text: &str) {
    let name = TABLE.with(|table| table.current().name.clone());
    event(&name, text);
}

/// The kernel's events, oldest first.
pub fn events() -> Vec<manager::Event> {
    EVENTS.with(|events| events.iter().map(host::event).collect())
}

fn current_vm() -> VmId {
    TABLE.with(|table| VmId(table.current().vm))
}

/// The process that runs has news for the manager.
pub fn worker_news(news: &WorkerNews<'_>) {
    let vm = current_vm();
    MANAGER.with(|manager| manager.worker_news(&mut Machine, vm, news));
}

/// Output of the serial line of the guest whose process runs.
pub fn guest_output(bytes: &[u8]) {
    let vm = current_vm();
    MANAGER.with(|manager| manager.guest_output(&mut Machine, vm, bytes));
}

/// The process that runs lets its first VP run.
pub fn worker_running() {
    let vm = current_vm();
    MANAGER.with(|manager| manager.worker_running(&mut Machine, vm));
}

/// Runs for ever. `archive` is the boot archive's address and length.
pub fn run(archive: (u64, u64), serial_interrupts: bool, machine: &acpi::Processors) -> ! {
    EVENTS.set(Events::default());
    banner(serial_interrupts);
    processors::start(machine);
    if let Err(error) = loader::open(archive.0, archive.1) {
        console::line(format_args!("{error}"));
    }
    stats::init();
    start_manager();
    loop {
        if !serial_interrupts {
            console::serve();
        }
        if process::root_task_wanted() {
            work(serial_interrupts);
        }
        if !process::run_next() {
            heap::replenish();
            if !process::root_task_pending() {
                process::halt();
            }
        }
    }
}

fn banner(serial_interrupts: bool) {
    let (total, free, archive) = FRAMES.with(|frames| {
        let ledger = frames.ledger();
        (ledger.total(), frames.free(), ledger.class(Class::Archive))
    });
    console::line(format_args!(
        "Partita root partition {}",
        env!("CARGO_PKG_VERSION")
    ));
    console::line(format_args!(
        "{} MiB of RAM, {} MiB free; boot archive {} KiB; serial line {}",
        total / 256,
        free / 256,
        archive * 4,
        if serial_interrupts {
            "by interrupt"
        } else {
            "polled"
        }
    ));
    nodes_banner();
    let features = hypervisor::known_features();
    if !features.present {
        console::line(format_args!("no hypervisor below"));
    } else if !features.root {
        console::line(format_args!(
            "the hypervisor below does not let this partition create others"
        ));
    } else {
        console::line(format_args!(
            "partition {:#x} of the hypervisor",
            hypervisor::own_id().0
        ));
    }
}

/// The NUMA nodes, if there are several.
fn nodes_banner() {
    let nodes = FRAMES.with(|frames| {
        let all = (0..frames.nodes()).filter_map(Node::new);
        let total = all.map(|node| frames.total_of(node) / 256);
        total.collect::<Vec<u64>>()
    });
    if nodes.len() > 1 {
        console::line(format_args!("NUMA nodes, MiB: {nodes:?}"));
    }
}

fn start_manager() {
    let archive = loader::archive();
    let members = archive.iter().flat_map(|archive| archive.members());
    let definitions = members.filter(|member| {
        let name = member.name();
        name.starts_with("vm/") && name.ends_with(".toml")
    });
    MANAGER.set(Manager::new(
        definitions.map(|member| (member.name(), member.content())),
    ));
    let host = archive.iter().find_map(|archive| archive.member(HOST_FILE));
    MANAGER.with(|manager| {
        if let Some(member) = host {
            manager.set_host(&mut Machine, member.content());
        }
        manager.begin(&mut Machine);
    });
}

fn work(serial_interrupts: bool) {
    heap::replenish();
    while let Some(gone) = process::reap() {
        ended(gone);
    }
    if let Some(kind) = process::take_unknown_message() {
        event("root", &format!("unexpected message {kind:?}"));
    }
    let mut input = Vec::new();
    while input.len() < INPUT {
        let Some(byte) = console::input() else { break };
        input.push(byte);
    }
    if input.len() == INPUT {
        process::want_root_task();
    }
    let now = time::now();
    let deadline = MANAGER.with(|manager| {
        if !input.is_empty() {
            manager.console_input(&mut Machine, &input);
        }
        if manager.deadline().is_some_and(|deadline| deadline <= now) {
            manager.tick(&mut Machine);
        }
        manager.deadline()
    });
    let streamed = stream::work(now, |stream, send| {
        MANAGER.with(|manager| manager.stream(&Machine, stream, send))
    });
    let poll = (!serial_interrupts).then(|| now.saturating_add(POLL));
    if let Some(next) = deadline.into_iter().chain(poll).chain(streamed).min() {
        process::root_task_at(next);
    }
}

fn ended(gone: Gone) {
    let heading = |trouble: String| format!("{}: {trouble}", gone.name);
    if let Some(trouble) = gone.trouble.map(heading) {
        event("root", &trouble);
        console::line(format_args!("{trouble}"));
    }
    let end = match gone.end {
        End::Exited(reason, text) => WorkerEnd::Exited(reason, text),
        End::Crashed(text) => WorkerEnd::Crashed(text),
        End::Killed => WorkerEnd::Killed,
    };
    MANAGER.with(|manager| manager.worker_ended(&mut Machine, VmId(gone.vm), &end));
}
