//! The starts that wait, in the order in which they are served, and what is set aside for them.
//!
//! The balancer holds a start while others make room for it, and remembers nothing: in the next round the VM that gives is
//! busy, so that the start seems impossible, and what has come goes to somebody else. So what a held start is owed is kept here,
//! as its *claim*: what was free when it was held, and what others were then asked to give. As much of the free memory as is
//! claimed is out of the balancer's sight ([`Look::set_aside`]). A claim ends with the wait.
//!
//! Claims are one pot. The first in the order that has a claim takes from it what it starts with, then the next: so a start that is
//! heavier than the one for which memory was freed goes before it here too, once the balancer has held it.
//!
//! First of all are VMs whose guest has reset, in whatever weight: they claim all that they start with from the beginning.

use alloc::vec::Vec;
use core::cmp::Reverse;

use balancer::{Action, PendingStart, Round, Weight};

use crate::definition::Definition;
use crate::host::VmId;
use crate::life::Patience;
use crate::manager::Manager;
use crate::memory::look::Look;
use crate::memory::pages;
use crate::vm::Vm;

/// A start that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Of which VM.
    pub id: VmId,
    /// As the balancer would see it without a claim.
    pub start: PendingStart,
    /// Its guest has reset.
    after_reset: bool,
    /// Pages that it is owed, at most what it starts with.
    claim: u64,
    /// Pages that are set aside for it.
    held: u64,
}

impl Waiting {
    /// A start of a VM with this definition; nothing is set aside for it.
    pub fn new(id: VmId, definition: &Definition, look: &Look, patience: Patience) -> Self {
        let startup = pages(definition.memory).saturating_add(look.overhead);
        let after_reset = patience == Patience::Reset;
        Self {
            id,
            start: PendingStart {
                id: id.into(),
                weight: definition.weight(),
                startup,
            },
            after_reset,
            claim: if after_reset { startup } else { 0 },
            held: 0,
        }
    }

    /// Whether all that it starts with is set aside.
    pub fn is_ready(&self) -> bool {
        self.held >= self.start.startup
    }

    /// What is to be found for it yet.
    fn rest(&self) -> PendingStart {
        PendingStart {
            startup: self.start.startup.saturating_sub(self.held),
            ..self.start
        }
    }
}

/// Puts starts into the order in which they are served.
pub fn sort(queue: &mut [Waiting]) {
    queue.sort_unstable_by_key(|waiting| {
        turn(waiting.after_reset, waiting.start.weight, waiting.id)
    });
}

/// Of two starts, that with the lower turn is served first.
fn turn(after_reset: bool, weight: Weight, id: VmId) -> (bool, Reverse<Weight>, VmId) {
    (!after_reset, Reverse(weight), id)
}

/// What the balancer is told of starts: those that are not ready.
pub fn pending(queue: &[Waiting]) -> Vec<PendingStart> {
    let open = queue.iter().filter(|waiting| !waiting.is_ready());
    open.map(Waiting::rest).collect()
}

impl Look {
    /// Takes what is claimed out of what the balancer can give, and sets it aside for the starts in their order.
    pub fn set_aside(&mut self, queue: &mut [Waiting]) {
        let claimed = queue
            .iter()
            .fold(0, |sum: u64, waiting| sum.saturating_add(waiting.claim));
        let mut left = claimed.min(self.free());
        for waiting in queue.iter_mut().filter(|waiting| waiting.claim != 0) {
            waiting.held = waiting.start.startup.min(left);
            left -= waiting.held;
            self.held = self.held.saturating_add(waiting.held);
        }
        self.node.fixed = self.node.fixed.saturating_add(self.held);
    }
}

impl Manager {
    /// The starts that wait at a balancer, in the order in which they are served.
    pub(super) fn queue(&self, look: &Look) -> Vec<Waiting> {
        let waits = |vm: &Vm| vm.life.is_waiting() && look.scope.has(vm.home());
        let waiting = self.vms.iter().filter(|(_, vm)| waits(vm));
        let waiting = waiting.filter_map(|(id, vm)| {
            let mut waiting = Waiting::new(*id, vm.definition()?, look, vm.life.patience());
            let claim = waiting.claim.max(vm.memory.claim);
            waiting.claim = claim.min(waiting.start.startup);
            Some(waiting)
        });
        let mut queue: Vec<Waiting> = waiting.collect();
        sort(&mut queue);
        queue
    }

    /// The VMs that wait, in the order in which they are served.
    pub(crate) fn waiting_in_order(&self) -> Vec<VmId> {
        let waiting = self.vms.iter().filter(|(_, vm)| vm.life.is_waiting());
        let turns = waiting.filter_map(|(id, vm)| {
            let weight = vm.definition()?.weight();
            Some(turn(vm.life.waits_after_reset(), weight, *id))
        });
        let mut turns: Vec<_> = turns.collect();
        turns.sort_unstable();
        turns.into_iter().map(|(.., id)| id).collect()
    }

    /// Keeps what a round leaves starts to claim. What others are asked for is for the starts first, except for what the host
    /// lacks itself.
    pub(super) fn claim(&mut self, queue: &[Waiting], round: &Round) {
        let asked = round.operations.iter().map(|operation| operation.action);
        let asked = asked.fold(0u64, |sum, action| match action {
            Action::Remove { size } => sum.saturating_add(size),
            _ => sum,
        });
        let lacking = u64::try_from(-round.free.min(0)).unwrap_or(u64::MAX);
        let mut coming = asked.saturating_sub(lacking);
        for operation in &round.operations {
            let Action::Hold { set_aside } = operation.action else {
                continue;
            };
            let of = |waiting: &&Waiting| waiting.start.id == operation.vm;
            let Some(waiting) = queue.iter().find(of) else {
                continue;
            };
            let there = waiting.held.saturating_add(set_aside);
            let startup = waiting.start.startup;
            let more = coming.min(startup.saturating_sub(there));
            coming -= more;
            if let Some(vm) = self.vm_mut(waiting.id) {
                let claim = vm.memory.claim.max(there).saturating_add(more);
                vm.memory.claim = claim.min(startup);
            }
        }
    }
}
