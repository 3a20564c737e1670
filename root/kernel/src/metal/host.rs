//! What the manager needs of the machine.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use manager::counters::{Object, Page, Whose};
use manager::{Counter, DebugFault, Definition, Event, Host, MemoryReport, PartitionMemory, VmId};
use root_kernel::frames::{Class, Owner, Slot};
use root_kernel::hv::Partition;
use root_kernel::sched::Processor;
use tlfs::{HvRegisterName, HvRegisterValue};

use super::memory::FRAMES;
use super::process::{self, Process, TABLE};
use super::{
    console, loader, partition, power, processors, registers, root_task, space, stats, time,
};

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

    fn start_worker(
        &mut self,
        vm: VmId,
        definition: &Definition,
        text: &str,
    ) -> Result<(), String> {
        let files = definition.files().map(|(_, name)| name);
        loader::start_worker(&definition.name, vm.0, text, files)
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
            let kernel = [Class::Image, Class::FrameTable, Class::Kernel];
            let own_deposit = ledger.of(Owner::kernel(Class::Deposit));
            MemoryReport {
                total: ledger.total().saturating_add(hypervisor),
                free: frames.free(),
                root_kernel: kernel.iter().map(|class| ledger.class(*class)).sum::<u64>()
                    + own_deposit,
                workers: ledger.class(Class::Process) + ledger.class(Class::PageTable),
                archive: ledger.class(Class::Archive),
                hypervisor,
                firmware: ledger.class(Class::Low),
                partitions,
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

/// A process's part of the report: its own books, and what the hypervisor says of its pool.
fn partition_memory((slot, process): (Slot, &Process)) -> Option<PartitionMemory> {
    process.partition.as_ref().map(Partition::id)?;
    let (ram, deposited) = FRAMES.with(|frames| {
        let of = |class| frames.ledger().of(Owner::new(slot, class));
        (of(Class::GuestRam), of(Class::Deposit))
    });
    let (deposited_available, deposited_in_use) =
        partition::balance(process).unwrap_or((deposited, 0));
    Some(PartitionMemory {
        vm: VmId(process.vm),
        ram,
        deposited_available,
        deposited_in_use,
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
