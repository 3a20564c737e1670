//! The kernel on the machine.

mod acpi;
mod apic;
mod block;
mod cell;
mod console;
mod cpu;
mod heap;
mod host;
mod hypervisor;
mod interrupts;
mod ioapic;
mod layout;
mod loader;
mod lock;
mod memory;
mod partition;
mod power;
mod process;
mod processors;
mod registers;
mod root_task;
mod space;
mod stats;
mod stream;
mod syscall;
mod time;
mod trap;
mod uart;

use boot_archive::start_info::{HvmStartInfo, MAX_MEMORY_MAP, MemoryMapEntry, StartInfo, module};
use root_kernel::frames::{Claim, Class, Owner, Span};

use cell::Global;
use memory::{FRAMES, StartMemory};

static MEMORY_MAP: Global<[MemoryMapEntry; MAX_MEMORY_MAP as usize]> = Global::new(
    [MemoryMapEntry {
        addr: 0,
        size: 0,
        kind: 0,
        reserved: 0,
    }; MAX_MEMORY_MAP as usize],
);

/// The first Rust code: on the boot stack, interrupts off, with the loader's page tables.
extern "C" fn start(start_info: u64) -> ! {
    cpu::init();
    console::init();
    console::print(format_args!("\n"));
    let info = match StartInfo::read(&StartMemory, start_info) {
        Ok(info) => info,
        Err(error) => panic!("{error}"),
    };
    let archive = take_memory(&info);
    heap::init();
    let nodes = acpi::nodes(info.header().rsdp_paddr);
    FRAMES.with(|frames| frames.divide(nodes));
    process::init().unwrap_or_else(|error| panic!("kernel stacks: {error}"));
    let features = hypervisor::features();
    apic::init();
    time::init(&features);
    hypervisor::init(&features);
    let machine = acpi::read(info.header().rsdp_paddr);
    power::init(machine);
    let routes = machine.ioapic.and_then(ioapic::Routes::new);
    let route = |interrupt: Option<acpi::IsaInterrupt>, vector| {
        let routes = routes.as_ref().zip(interrupt);
        routes.is_some_and(|(routes, interrupt)| routes.route(interrupt, vector, apic::id()))
    };
    if stream::init() && route(machine.second_serial, interrupts::STREAM_VECTOR) {
        stream::enable_interrupts();
    }
    let routed = route(machine.serial, interrupts::SERIAL_VECTOR);
    if routed {
        console::enable_interrupts();
    }
    root_task::run(archive, routed, &machine.processors)
}

/// Takes over all RAM; returns where the boot archive is: address and length.
fn take_memory(info: &StartInfo<'_, StartMemory>) -> (u64, u64) {
    let nothing = Claim {
        span: Span { start: 0, end: 0 },
        owner: Owner::FREE,
    };
    let mut claims = [nothing; 8];
    let owners = [Class::Archive, Class::Image, Class::Image];
    let mut archive = (0, 0);
    for (index, part) in info.modules().enumerate().take(6) {
        if index == module::ARCHIVE {
            archive = (part.paddr, part.size);
        }
        let class = owners.get(index).copied().unwrap_or(Class::Image);
        if let Some(claim) = claims.get_mut(index) {
            *claim = Claim {
                span: Span::touching(part.paddr, part.size),
                owner: Owner::kernel(class),
            };
        }
    }
    // The start info itself may lie outside the modules (when another loader than ours made it).
    let header = info.header();
    if let Some(claim) = claims.get_mut(6) {
        let span = Span::touching(header.modlist_paddr, size_of::<HvmStartInfo>() as u64);
        *claim = Claim {
            span,
            owner: Owner::kernel(Class::Image),
        };
    }
    MEMORY_MAP.with(|map| {
        let mut count = 0;
        for (place, entry) in map.iter_mut().zip(info.memory_map()) {
            *place = entry;
            count += 1;
        }
        let map = map.get(..count).unwrap_or_default();
        if let Err(error) = memory::init(map, &mut claims, 7) {
            panic!("{error}");
        }
    });
    archive
}
