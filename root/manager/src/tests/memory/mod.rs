//! Dynamic Memory: a machine with a few VMs, whose workers tell what the tests want.

mod counters;
mod numa;
mod properties;
mod queue;
mod rounds;
mod sequence;
mod starts;

use root_abi::MemoryOrder;
use root_abi::news::{self, MemoryState};

use super::fake::{Effect, Fake, begun, typed};
use crate::life::SECOND;
use crate::{Manager, MemoryReport, PartitionMemory, VmId, WorkerNews};

pub const A: VmId = VmId(0);
pub const B: VmId = VmId(1);
pub const C: VmId = VmId(2);
/// Pages of a MiB.
pub const MIB: u64 = 256;

/// A VM with Dynamic Memory: startup, minimum and maximum in MiB, and more keys.
pub fn dynamic(name: &str, [startup, minimum, maximum]: [u64; 3], more: &str) -> (String, String) {
    let text = format!(
        "name = \"{name}\"\nstartup = {startup}\nminimum = {minimum}\nmaximum = {maximum}\nkernel = \"guest/k\"\n{more}\n"
    );
    (format!("vm/{name}.toml"), text)
}

/// A state of a guest that is well: sizes in MiB.
pub fn state(visible: u64, ballooned: u64, demand: u64) -> MemoryState {
    let demand = demand * MIB;
    MemoryState {
        visible: visible * MIB,
        ballooned: ballooned * MIB,
        returnable: ballooned * MIB,
        assigned: (visible - ballooned) * MIB,
        maximum: u64::MAX,
        settled: demand,
        smoothed: demand,
        newest: demand,
        available: 100 * MIB,
        alignment: 128 * MIB,
        since_add: news::NEVER,
        since_refusal: news::NEVER,
        flags: news::MEMORY_LIVE | news::MEMORY_CAN_BALLOON | news::MEMORY_CAN_HOT_ADD,
        ..MemoryState::default()
    }
}

pub struct Machine {
    pub manager: Manager,
    pub host: Fake,
}

impl Machine {
    /// A machine with so many MiB, of which the host uses 100.
    pub fn new(total: u64, definitions: &[(String, String)]) -> Self {
        let (manager, host) = begun(definitions);
        let mut machine = Self { manager, host };
        machine.host.report = MemoryReport {
            total: total * MIB,
            root_kernel: 100 * MIB,
            ..MemoryReport::default()
        };
        machine.books();
        machine
    }

    /// The counters of the first balancer.
    pub fn balancer(&self) -> Option<[crate::memory::counters::Value; 4]> {
        let balancers = self.manager.balancers();
        balancers.first().map(|(_, values)| *values)
    }

    fn books(&mut self) {
        let report = &mut self.host.report;
        let ram: u64 = report.partitions.iter().map(|part| part.ram).sum();
        report.free = (report.total - report.root_kernel).saturating_sub(ram);
        for (at, node) in report.nodes.iter_mut().enumerate() {
            let guests: u64 = report.partitions.iter().map(|part| part.ram_in[at]).sum();
            node.free = (node.total - node.root).saturating_sub(guests);
        }
        self.host.free = report.free << 12;
    }

    /// A VM has so many MiB.
    pub fn ram(&mut self, vm: VmId, mib: u64) {
        self.host.report.partitions.retain(|part| part.vm != vm);
        if mib != 0 {
            let part = PartitionMemory {
                vm,
                ram: mib * MIB,
                ..PartitionMemory::default()
            };
            self.host.report.partitions.push(part);
        }
        self.books();
    }

    /// A VM has so many MiB in each of the first nodes.
    pub fn ram_in(&mut self, vm: VmId, mib: [u64; 2]) {
        self.ram(vm, mib.iter().sum());
        let mut parts = self.host.report.partitions.iter_mut();
        if let Some(part) = parts.find(|part| part.vm == vm) {
            part.ram_in[..2].copy_from_slice(&mib.map(|mib| mib * MIB));
        }
        self.books();
    }

    /// A VM is started and has what it starts with. VMs here deposit nothing, so that machines can be full of guest RAM.
    pub fn run(&mut self, vm: VmId, mib: u64) {
        let name = self.manager.name(vm).expect("there").to_string();
        let total = self.host.report.total;
        self.host.report.total += 16 * MIB;
        self.books();
        let answer = self.type_in(&format!("vm start {name}"));
        assert!(answer.contains("is starting"), "{answer}");
        self.host.report.total = total;
        self.manager.worker_running(&mut self.host, vm);
        self.ram(vm, mib);
        self.host.done();
    }

    /// The worker tells, and has seen the last order.
    pub fn tell(&mut self, vm: VmId, mut state: MemoryState) {
        state.order = self.host.ordered.get(&vm).copied().unwrap_or(0);
        self.tell_exactly(vm, state);
    }

    pub fn tell_exactly(&mut self, vm: VmId, state: MemoryState) {
        let news = WorkerNews::Memory(state);
        self.manager.worker_news(&mut self.host, vm, &news);
    }

    pub fn type_in(&mut self, line: &str) -> String {
        typed(&mut self.manager, &mut self.host, line)
    }

    /// A second passes, and with it a round. What it brings.
    pub fn second(&mut self) -> Vec<Effect> {
        self.host.now += SECOND;
        self.manager.tick(&mut self.host);
        self.host.done()
    }

    pub fn ends(&mut self, vm: VmId) {
        self.ram(vm, 0);
        let end = super::fake::exited(root_abi::ExitReason::PowerOff);
        self.manager.worker_ended(&mut self.host, vm, &end);
    }
}

pub fn add(vm: VmId, unballoon: u64, hot_add: u64) -> Effect {
    let order = MemoryOrder {
        unballoon: unballoon * MIB,
        hot_add: hot_add * MIB,
        ..MemoryOrder::default()
    };
    Effect::Memory(vm, order)
}

pub fn remove(vm: VmId, size: u64) -> Effect {
    let order = MemoryOrder {
        remove: size * MIB,
        ..MemoryOrder::default()
    };
    Effect::Memory(vm, order)
}
