//! The memory of the machine, or of a NUMA node, as its balancer sees it (sheet 4.1).
//!
//! What the sheet calls *static*, [`balancer::Node::fixed`], is here:
//!
//! | What | Why it is static |
//! |---|---|
//! | guest RAM of VMs without Dynamic Memory | it stays |
//! | deposits of all partitions; while a VM starts or stops at least [`DEPOSIT`] | they are in no reserve |
//! | what the host uses beyond its reserve | up to that it is the reserve's |
//! | what VMs have of this node that are at home in another one | it is another balancer's |
//!
//! What the host uses is all that is left over: neither free, nor guest RAM, nor deposited. So `F` is never more than what is
//! free, and memory that nobody accounts for is nobody's to give.
//!
//! A VM that is at home in a node counts there with all its memory, since its demand is for all of it. So what it has of other
//! nodes is added to its node's size ([`Look::elsewhere`]): nothing is free that was not. The hypervisor's own memory is in the
//! machine, and in no node; so nodes have a little less for guests than the machine with the same reserve.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use balancer::{HostReserve, Node, PendingStart, Round, Unit};

use crate::host::{Host, MemoryReport, VmId};
use crate::life::State;
use crate::manager::Manager;
use crate::memory::scope::{Scope, Spread};
use crate::memory::{PAGE, pages};
use crate::vm::{DEPOSIT, OVERHEAD, Vm};

/// Memory and who has it, at a moment. In pages.
#[derive(Clone, Debug)]
pub struct Look {
    /// Which memory.
    pub scope: Scope,
    /// Its size, reserve and what is fixed.
    pub node: Node,
    /// What the following VMs have of other nodes; in the size.
    pub elsewhere: u64,
    /// VMs with Dynamic Memory that are at home here.
    pub vms: Vec<balancer::Vm>,
    /// Those of them that cannot be asked now, but have something to give and may be asked soon, by id.
    pub coming: Vec<balancer::VmId>,
    /// What a start takes of it beside the guest's memory: its deposit, and its worker if the reserve has no room for that.
    pub overhead: u64,
    /// What is free of it, and is the host's to use.
    pub kept: u64,
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

    /// All of the memory that is here.
    pub fn size(&self) -> u64 {
        self.node.total.saturating_sub(self.elsewhere)
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
    /// Looks at the machine or a node. The host keeps its reserve only if somebody has Dynamic Memory (`is_dynamic`): nobody
    /// else could be asked to give back what the host lacks.
    pub(crate) fn look(
        &self,
        host: &impl Host,
        report: &MemoryReport,
        is_dynamic: bool,
        scope: Scope,
    ) -> Look {
        let now = host.now();
        let mut books = Books::of(report, scope);
        let promised = self.promised(report);
        let mut elsewhere = 0u64;
        let mut vms = Vec::new();
        let mut coming = Vec::new();
        let running = self.vms.iter().filter(|(_, vm)| vm.life.has_worker());
        for (id, vm) in running {
            let Some(definition) = vm.definition() else {
                continue;
            };
            let (here, away) = books.claim(*id, vm, promised.get(id));
            let at_home = definition.dynamic.as_ref().filter(|_| scope.has(vm.home()));
            let Some(settings) = at_home else {
                books.fixed = books.fixed.saturating_add(here);
                continue;
            };
            elsewhere = elsewhere.saturating_add(away);
            let assigned = vm.memory.assigned(here.saturating_add(away));
            let mut seen = vm.memory.vm(*id, settings, assigned, now);
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
        let (total, free) = scope.size(report);
        let mut given = host.free_memory() / PAGE;
        if scope != Scope::Machine {
            given = given.min(free);
        }
        let free = free.min(given);
        let guests = books.guests.saturating_add(books.deposits);
        let used = total.saturating_sub(free).saturating_sub(guests);
        let reserve = if is_dynamic {
            reserve(&self.memory.reserve, total, report.total)
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
            scope,
            node: Node {
                total: total.saturating_add(elsewhere),
                reserve,
                fixed,
            },
            elsewhere,
            vms,
            coming,
            kept: room,
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
    /// Guest RAM here.
    ram: u64,
    /// Guest RAM of other nodes.
    away: u64,
    /// In all nodes.
    deposited: u64,
}

/// Who has what, in pages.
struct Books {
    scope: Scope,
    /// By VM, those that are dealt with left out.
    parts: BTreeMap<VmId, Part>,
    /// All guest RAM here.
    guests: u64,
    /// All deposits here.
    deposits: u64,
    /// What VMs that start will deposit yet, and what VMs that stop have withdrawn.
    to_deposit: u64,
    fixed: u64,
    /// Promised to VMs that are being built, and not theirs yet.
    claimed: u64,
}

impl Books {
    fn of(report: &MemoryReport, scope: Scope) -> Self {
        let mut books = Self {
            scope,
            parts: BTreeMap::new(),
            guests: 0,
            deposits: 0,
            to_deposit: 0,
            fixed: 0,
            claimed: 0,
        };
        for partition in &report.partitions {
            let deposited = partition.deposited();
            let (ram, away) = scope.split(partition.ram, &partition.ram_in);
            let part = books.parts.entry(partition.vm).or_default();
            part.ram = part.ram.saturating_add(ram);
            part.away = part.away.saturating_add(away);
            part.deposited = part.deposited.saturating_add(deposited);
            books.guests = books.guests.saturating_add(ram);
            let (here, _) = scope.split(deposited, &partition.deposited_in);
            books.deposits = books.deposits.saturating_add(here);
        }
        books
    }

    /// The RAM that counts as a VM's, here and in other nodes. One that is being built has what it starts with, whatever is there
    /// yet. Of what is free it claims only what it has still to get, which is `promised`: its worker is there already.
    fn claim(&mut self, id: VmId, vm: &Vm, promised: Option<&Spread>) -> (u64, u64) {
        let part = self.parts.remove(&id).unwrap_or_default();
        let is_new = matches!(vm.life.state(), State::Starting | State::Stopping);
        if is_new && self.scope.has(vm.home()) {
            let missing = pages(DEPOSIT).saturating_sub(part.deposited);
            self.to_deposit = self.to_deposit.saturating_add(missing);
            if *vm.life.state() == State::Starting {
                self.claimed = self.claimed.saturating_add(missing);
            }
        }
        let spread = promised.copied().unwrap_or_default();
        let all = spread
            .iter()
            .fold(0, |sum: u64, more| sum.saturating_add(*more));
        let (here, away) = self.scope.split(all, &spread);
        self.claimed = self.claimed.saturating_add(here);
        (
            part.ram.saturating_add(here),
            part.away.saturating_add(away),
        )
    }
}
