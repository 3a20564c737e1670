//! What the manager needs of the machine.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use manager::counters::{Object, Page, Whose};
use manager::{
    Counter, DebugFault, Definition, Event, Home, Host, MemoryReport, NodeMemory, PartitionMemory,
    VmId,
};
use root_kernel::frames::{self, Class, Frames, MAX_NODES, Node, Owner, Slot};
use root_kernel::hv::Partition;
use root_kernel::sched::Processor;
use tlfs::{HvRegisterName, HvRegisterValue};

use super::memory::FRAMES;
use super::process::{self, Process, TABLE};
use super::{
    console, loader, partition, power, processors, registers, root_task, space, stats, time,
};

const _: () = assert!(MAX_NODES == manager::MAX_NODES);

/// The machine as the manager sees it.
pub struct Machine;

impl Host for Machine {
    fn now(&self) -> u64 {
        time::now()
    }

    fn console_write(&mut self, bytes: &[u8]) {
        console::send(bytes);
    }

    fn file_size(&self, name: &str) -> Option<u64> {
        Some(loader::archive()?.member(name)?.content().len() as u64)
    }

    fn free_memory(&self) -> u64 {
        let free = FRAMES.with(|frames| frames.free());
        free.saturating_sub(space::RESERVE)
            .saturating_mul(root_kernel::addr::PAGE_SIZE)
    }

    fn nodes(&self) -> u32 {
        FRAMES.with(|frames| frames.nodes()) as u32
    }

    fn start_worker(
        &mut self,
        vm: VmId,
        definition: &Definition,
        text: &str,
        home: Home,
    ) -> Result<(), String> {
        let files = definition.files().map(|(_, name)| name);
        let home = frames::Home {
            node: Node::new(home.node as usize).ok_or("there is no such node")?,
            spanning: home.spanning,
            keep: home.keep,
        };
        loader::start_worker(&definition.name, vm.0, text, files, home)
    }

    fn stop_worker(&mut self, vm: VmId) {
        process::ask_to_stop(vm.0);
    }

    fn shut_down_guest(&mut self, vm: VmId) {
        process::ask_to_shut_down(vm.0, root_abi::event::POWER_OFF);
    }

    fn order_memory(&mut self, vm: VmId, order: root_abi::MemoryOrder) {
        process::order_memory(vm.0, order);
    }

    fn kill_worker(&mut self, vm: VmId) {
        process::kill(vm.0);
    }

    fn send_input(&mut self, vm: VmId, bytes: &[u8]) {
        process::type_in(vm.0, bytes);
    }

    fn debug_worker(&mut self, vm: VmId, fault: DebugFault) {
        // The numbers of `root_abi::event::DEBUG`.
        let what = match fault {
            DebugFault::Panic => 1,
            DebugFault::Wild => 2,
            DebugFault::Loop => 3,
        };
        process::ask_to_misbehave(vm.0, what);
    }

    fn memory(&self) -> MemoryReport {
        let hypervisor = stats::hypervisor_pages();
        let partitions = TABLE.with(|table| table.iter().filter_map(partition_memory).collect());
        FRAMES.with(|frames| {
            let ledger = frames.ledger();
            let own_deposit = ledger.of(Owner::kernel(Class::Deposit));
            let nodes = node_memory(frames);
            // Counted apart from the owners, whose sum it is compared with.
            let frames_of_nodes = nodes.iter().map(|node| node.total).sum::<u64>();
            MemoryReport {
                total: frames_of_nodes.saturating_add(hypervisor),
                free: frames.free(),
                root_kernel: KERNEL.iter().map(|class| ledger.class(*class)).sum::<u64>()
                    + own_deposit,
                workers: ledger.class(Class::Process) + ledger.class(Class::PageTable),
                archive: ledger.class(Class::Archive),
                hypervisor,
                firmware: ledger.class(Class::Low),
                partitions,
                nodes,
            }
        })
    }

    fn counters(&self, whose: Whose, look: &mut dyn FnMut(Object, &Page)) {
        stats::show(whose, look);
    }

    fn registers(
        &self,
        vm: VmId,
        names: &[HvRegisterName],
        look: &mut dyn FnMut(u32, &[HvRegisterValue]),
    ) {
        registers::show(vm, names, look);
    }

    fn own_counters(&self) -> Vec<Counter> {
        let turns = |processor: Processor| Counter {
            name: format!("Root Kernel Processor {} Process Turns", processor.index()),
            value: process::turns(processor),
        };
        let used = |counter: &Counter| counter.value != 0;
        processors::all().map(turns).filter(used).collect()
    }

    fn events(&self) -> Vec<Event> {
        root_task::events()
    }

    fn power_off(&mut self) {
        power::off();
    }

    fn reboot(&mut self) {
        power::reset();
    }
}

/// What the kernel itself is made of, beside what it has deposited for the root's partition.
const KERNEL: [Class; 3] = [Class::Image, Class::FrameTable, Class::Kernel];

/// The report's part of each node.
fn node_memory(frames: &Frames<'_>) -> Vec<NodeMemory> {
    let nodes = (0..frames.nodes()).filter_map(Node::new);
    let nodes = nodes.filter_map(|node| Some((node, frames.ledger_in(node)?)));
    let part = |(node, ledger): (Node, &frames::Ledger)| {
        let kernel = KERNEL.iter().map(|class| ledger.class(*class)).sum::<u64>();
        let own_deposit = ledger.of(Owner::kernel(Class::Deposit));
        let kept = ledger.class(Class::Archive) + ledger.class(Class::Low);
        NodeMemory {
            total: frames.total_of(node),
            free: frames.free_in(node),
            root: kernel + own_deposit + kept,
            workers: ledger.class(Class::Process) + ledger.class(Class::PageTable),
        }
    };
    nodes.map(part).collect()
}

/// A process's part of the report: its own books, and what the hypervisor says of its pool.
fn partition_memory((slot, process): (Slot, &Process)) -> Option<PartitionMemory> {
    process.partition.as_ref().map(Partition::id)?;
    let [ram_in, deposited_in] = FRAMES.with(|frames| {
        let of = |class| frames.ledger().by_node(Owner::new(slot, class));
        [of(Class::GuestRam), of(Class::Deposit)]
    });
    let [ram, deposited] = [ram_in, deposited_in].map(|spread| spread.iter().sum());
    let (deposited_available, deposited_in_use) =
        partition::balance(process).unwrap_or((deposited, 0));
    Some(PartitionMemory {
        vm: VmId(process.vm),
        ram,
        deposited_available,
        deposited_in_use,
        ram_in,
        deposited_in,
    })
}

/// An event of the kernel as the manager shows it.
pub fn event(event: &root_kernel::events::Event) -> Event {
    Event {
        time: event.time,
        source: event.source.to_string(),
        text: event.text.clone(),
    }
}
