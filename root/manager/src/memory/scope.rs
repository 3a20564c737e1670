//! What one balancer balances: the machine, or a NUMA node (DM-15, DM-16).
//!
//! D: as long as every VM that runs or waits may span nodes, memory is memory: there is one balancer, the system's, on the sum of all
//! nodes, as on a machine with one. Once a VM may not (`spanning = false`), there is one for each node, and for these VMs a
//! node is a machine: they start if it has the memory, and only those at home there give for them.
//!
//! A VM that spans has a home as well: its definition's node, or the one that had most to give when its start was asked for. There
//! it is balanced, with all that it has; what it has of other nodes counts as its node's meanwhile, and stays where it is for
//! *their* balancers. It starts on the sum: when the machine has the memory free, wherever. If it has to wait, those who are
//! at its home make room for it, nobody else.
//!
//! The root's kernel takes a guest's memory from its home first, then, for one that spans, from the others in their order, and
//! what nodes keep for the host last ([`Home::keep`]): a node that lacks that has to ask its VMs for it. So does this when it says in which nodes memory will be that is promised and not taken yet.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, string::ToString};

use crate::definition::Definition;
use crate::host::{Home, Host, MAX_NODES, MemoryReport, VmId};
use crate::life::State;
use crate::manager::Manager;
use crate::memory::counters::BALANCER_INSTANCE;
use crate::memory::pages;
use crate::vm::{DEPOSIT, Vm};

/// Memory that one balancer balances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All of the machine's.
    #[default]
    Machine,
    /// That of a node, below [`MAX_NODES`].
    Node(usize),
}

/// Pages in each node.
pub type Spread = [u64; MAX_NODES];

impl Scope {
    /// Of what somebody has in all, and in each node: what is in here, and what is elsewhere.
    pub fn split(self, all: u64, spread: &Spread) -> (u64, u64) {
        let here = match self {
            Scope::Machine => all,
            Scope::Node(node) => spread.get(node).copied().unwrap_or(0),
        };
        (here, all.saturating_sub(here))
    }

    /// All of its memory, and what of that is free.
    pub fn size(self, report: &MemoryReport) -> (u64, u64) {
        match self {
            Scope::Machine => (report.total, report.free),
            Scope::Node(node) => {
                let node = report.nodes.get(node).copied().unwrap_or_default();
                (node.total, node.free)
            }
        }
    }

    /// Whether a VM is balanced here.
    pub fn has(self, home: Home) -> bool {
        match self {
            Scope::Machine => true,
            Scope::Node(node) => node == home.node as usize,
        }
    }

    /// Name of its balancer's instance among the counters.
    pub fn instance(self) -> String {
        match self {
            Scope::Machine => BALANCER_INSTANCE.to_string(),
            Scope::Node(node) => format!("Node {node} Balancer"),
        }
    }
}

impl Manager {
    /// What there is a balancer for.
    pub(super) fn scopes(&self, host: &impl Host) -> Vec<Scope> {
        if self.is_divided(host, None) {
            (0..nodes(host)).map(Scope::Node).collect()
        } else {
            Vec::from([Scope::Machine])
        }
    }

    /// Whether each node has a balancer of its own, or would have if a VM with this definition counted as well.
    pub(super) fn is_divided(&self, host: &impl Host, also: Option<&Definition>) -> bool {
        let counts = |vm: &&Vm| vm.life.has_worker() || vm.life.is_waiting();
        let all = self.vms.values().filter(counts).filter_map(Vm::definition);
        nodes(host) > 1 && all.chain(also).any(|definition| !definition.spanning)
    }

    /// The node for a VM whose definition has none: which has most to give, the first of equal ones.
    pub(crate) fn choose_node(&self, host: &impl Host) -> u32 {
        if nodes(host) == 1 {
            return 0;
        }
        let report = host.memory();
        let promised = self.promised(&report);
        let mut best = (0, 0);
        for (node, memory) in (0..).zip(report.nodes.iter().take(nodes(host))) {
            let taken = promised
                .values()
                .filter_map(|spread| spread.get(node as usize));
            let left = taken.fold(memory.free, |left, taken| left.saturating_sub(*taken));
            if left > best.1 {
                best = (node, left);
            }
        }
        best.0
    }

    /// What the host keeps of what is free in each node; nothing while there is one balancer, which keeps it wherever it is.
    pub(crate) fn kept_for_host(&self, host: &impl Host) -> Spread {
        let mut kept = [0; MAX_NODES];
        if self.is_divided(host, None) && self.has_dynamic() {
            let report = host.memory();
            for (node, kept) in kept.iter_mut().enumerate().take(nodes(host)) {
                *kept = self.look(host, &report, true, Scope::Node(node)).kept;
            }
        }
        kept
    }

    /// What VMs that are being built have still to get, in the nodes where it will come from. The start was allowed because that
    /// was free.
    pub(super) fn promised(&self, report: &MemoryReport) -> BTreeMap<VmId, Spread> {
        let mut free = [0; MAX_NODES];
        for (free, node) in free.iter_mut().zip(&report.nodes) {
            *free = node.free;
        }
        let builds = |(_, vm): &(&VmId, &Vm)| *vm.life.state() == State::Starting;
        let missing = |(id, vm): (&VmId, &Vm)| {
            let startup = pages(vm.definition()?.memory);
            let missing = startup.saturating_sub(report.ram_of(*id));
            Some((*id, vm.home(), missing))
        };
        let mut builds: Vec<_> = self.vms.iter().filter(builds).filter_map(missing).collect();
        for (id, home, _) in &builds {
            // Its deposits come from there as well.
            let missing = pages(DEPOSIT).saturating_sub(report.deposited_of(*id));
            if let Some(free) = free.get_mut(home.node as usize) {
                *free = free.saturating_sub(missing);
            }
        }
        // Those that have no choice come first.
        builds.sort_by_key(|(_, home, _)| home.spanning);
        let spread = |(id, home, missing): (VmId, Home, u64)| (id, place(&mut free, home, missing));
        builds.into_iter().map(spread).collect()
    }
}

/// How many nodes the host tells apart.
fn nodes(host: &impl Host) -> usize {
    (host.nodes() as usize).clamp(1, MAX_NODES)
}

/// In which nodes memory will be that is taken as the root's kernel takes it. What is nowhere is the home's.
fn place(free: &mut Spread, home: Home, pages: u64) -> Spread {
    let mut spread: Spread = [0; MAX_NODES];
    let mut left = pages;
    let at_home = home.node as usize;
    let others = (0..MAX_NODES).filter(|node| home.spanning && *node != at_home);
    let nodes = core::iter::once(at_home).chain(others);
    // What is to be kept goes last.
    for keep in [home.keep, [0; MAX_NODES]] {
        for node in nodes.clone() {
            let free = free.get_mut(node).zip(keep.get(node));
            if let (Some((free, keep)), Some(taken)) = (free, spread.get_mut(node)) {
                let more = left.min(free.saturating_sub(*keep));
                *taken = taken.saturating_add(more);
                *free -= more;
                left -= more;
            }
        }
    }
    if let Some(taken) = spread.get_mut(at_home) {
        *taken = taken.saturating_add(left);
    }
    spread
}
