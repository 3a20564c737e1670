//! The machine's memory as the balancer sees it (sheet 4.1).
//!
//! What the sheet calls *static*, [`balancer::Node::fixed`], is here:
//!
//! | What | Why it is static |
//! |---|---|
//! | guest RAM of VMs without Dynamic Memory | it stays |
//! | deposits of all partitions; while a VM starts or stops at least [`DEPOSIT`] | they are in no reserve |
//! | what the host uses beyond its reserve | up to that it is the reserve's |
//!
//! What the host uses is all that is left over: neither free, nor guest RAM, nor deposited. So `F` is never more than what is
//! free, and memory that nobody accounts for is nobody's to give.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use balancer::{HostReserve, Node, PendingStart, Round, Unit};

use crate::host::{Host, MemoryReport, VmId};
use crate::life::State;
use crate::manager::Manager;
use crate::memory::{PAGE, pages};
use crate::vm::{DEPOSIT, OVERHEAD, Vm};

/// A node's memory and who has it, at a moment. In pages.
#[derive(Clone, Debug)]
pub struct Look {
    /// Its memory.
    pub node: Node,
    /// VMs with Dynamic Memory.
    pub vms: Vec<balancer::Vm>,
    /// Those of them that cannot be asked now, but have something to give and may be asked soon, by id.
    pub coming: Vec<balancer::VmId>,
    /// What a start takes of it beside the guest's memory: its deposit, and its worker if the reserve has no room for that.
    pub overhead: u64,
    /// What is set aside for starts: free, and in [`Node::fixed`].
    pub held: u64,
    /// What is free, and what of that nobody has been promised.
    unclaimed: u64,
}

impl Look {
    /// Bytes that a start can have: free, and promised to nobody.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed.saturating_mul(PAGE)
    }

    /// `F`, or 0: what nobody has, and is set aside for nobody.
    pub fn free(&self) -> u64 {
        let assigned = self.vms.iter().map(|vm| i128::from(vm.assigned));
        u64::try_from(self.node.free(assigned.sum())).unwrap_or(0)
    }

    /// One round of the balancer.
    pub fn round(&self, starts: &[PendingStart], trim_tick: bool) -> Round {
        balancer::round(&balancer::Input {
            unit: Unit::Page,
            node: self.node,
            vms: &self.vms,
            starts,
            trim_tick,
        })
    }
}

impl Manager {
    /// Looks at a node, which is the machine now. The host keeps its reserve only if somebody has Dynamic Memory
    /// (`is_dynamic`): nobody else could be asked to give back what the host lacks.
    pub(super) fn look(&self, host: &impl Host, report: &MemoryReport, is_dynamic: bool) -> Look {
        let now = host.now();
        let mut books = Books::of(report);
        let mut vms = Vec::new();
        let mut coming = Vec::new();
        let running = self.vms.iter().filter(|(_, vm)| vm.life.has_worker());
        for (id, vm) in running {
            let Some(definition) = vm.definition() else {
                continue;
            };
            let ram = books.claim(*id, vm, pages(definition.memory));
            let Some(settings) = &definition.dynamic else {
                books.fixed = books.fixed.saturating_add(ram);
                continue;
            };
            let mut seen = vm.memory.vm(*id, settings, vm.memory.assigned(ram), now);
            // It is on its way out, with all that it has.
            let stops = *vm.life.state() == State::Stopping;
            seen.in_flight |= stops;
            let uptime = vm.life.uptime(now).unwrap_or(0);
            if stops || (vm.memory.is_coming(uptime) && seen.assigned > seen.minimum) {
                coming.push(seen.id);
            }
            vms.push(seen);
        }
        // Partitions whose VM has no worker any more.
        let others = books.parts.values().map(|part| part.ram);
        let fixed = others.fold(books.fixed, u64::saturating_add);

        // What the kernel does not give away is its own.
        let given = host.free_memory() / PAGE;
        let free = report.free.min(given);
        let guests = books.guests.saturating_add(books.deposits);
        let used = report.total.saturating_sub(free).saturating_sub(guests);
        let reserve = if is_dynamic {
            reserve(&self.memory.reserve, report.total, report.total)
        } else {
            0
        };
        let worker = pages(OVERHEAD - DEPOSIT);
        let room = reserve.saturating_sub(used);
        let fixed = fixed
            .saturating_add(books.deposits)
            .saturating_add(books.to_deposit)
            .saturating_add(used.saturating_sub(reserve));
        Look {
            node: Node {
                total: report.total,
                reserve,
                fixed,
            },
            vms,
            coming,
            held: 0,
            overhead: pages(DEPOSIT).saturating_add(worker.saturating_sub(room)),
            unclaimed: given.saturating_sub(books.claimed),
        }
    }
}

/// What the host keeps of a node, in pages: its share of the reserve of a machine with `machine` pages.
fn reserve(reserve: &HostReserve, node: u64, machine: u64) -> u64 {
    let mib = |pages| Unit::Page.mib(pages);
    Unit::Page.of_mib(reserve.of_node(mib(node), mib(machine)))
}

/// What a VM has, in pages.
#[derive(Clone, Copy, Default)]
struct Part {
    ram: u64,
    deposited: u64,
}

/// Who has what, in pages.
struct Books {
    /// By VM, those that are dealt with left out.
    parts: BTreeMap<VmId, Part>,
    /// All guest RAM.
    guests: u64,
    /// All deposits.
    deposits: u64,
    /// What VMs that start will deposit yet, and what VMs that stop have withdrawn.
    to_deposit: u64,
    fixed: u64,
    /// Promised to VMs that are being built, and not theirs yet.
    claimed: u64,
}

impl Books {
    fn of(report: &MemoryReport) -> Self {
        let mut books = Self {
            parts: BTreeMap::new(),
            guests: 0,
            deposits: 0,
            to_deposit: 0,
            fixed: 0,
            claimed: 0,
        };
        for partition in &report.partitions {
            let deposited = partition
                .deposited_available
                .saturating_add(partition.deposited_in_use);
            let part = books.parts.entry(partition.vm).or_default();
            part.ram = part.ram.saturating_add(partition.ram);
            part.deposited = part.deposited.saturating_add(deposited);
            books.guests = books.guests.saturating_add(partition.ram);
            books.deposits = books.deposits.saturating_add(deposited);
        }
        books
    }

    /// The RAM that counts as a VM's. One that is being built has what it starts with, whatever is there yet: the start was
    /// allowed because that was free. Of what is free it claims only what it has still to get: its worker is there already.
    fn claim(&mut self, id: VmId, vm: &Vm, startup: u64) -> u64 {
        let Part { ram, deposited } = self.parts.remove(&id).unwrap_or_default();
        let mut missing = 0;
        if matches!(vm.life.state(), State::Starting | State::Stopping) {
            missing = pages(DEPOSIT).saturating_sub(deposited);
            self.to_deposit = self.to_deposit.saturating_add(missing);
        }
        if *vm.life.state() != State::Starting {
            return ram;
        }
        let claim = startup.saturating_sub(ram).saturating_add(missing);
        self.claimed = self.claimed.saturating_add(claim);
        ram.max(startup)
    }
}
