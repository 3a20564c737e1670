//! A round of the balancer, once a second, and what becomes of its orders.

use balancer::{Action, Round, TRIM_INTERVAL};
use root_abi::MemoryOrder;

use crate::host::{Host, VmId};
use crate::life::SECOND;
use crate::manager::Manager;
use crate::memory::PERIOD;
use crate::memory::counters::Figures;
use crate::memory::look::Look;
use crate::memory::queue::{self, Waiting};

impl Manager {
    /// Whether there is anybody to balance.
    pub(super) fn balances(&self) -> bool {
        self.has_dynamic() || self.vms.values().any(|vm| vm.life.is_waiting())
    }

    /// Whether anybody with Dynamic Memory runs or waits.
    pub(super) fn has_dynamic(&self) -> bool {
        self.vms.values().any(|vm| {
            let counts = vm.life.has_worker() || vm.life.is_waiting();
            let definition = vm.definition().filter(|_| counts);
            definition.is_some_and(|definition| definition.dynamic.is_some())
        })
    }

    /// When the next round is, if there is one.
    pub(crate) fn next_round(&self) -> Option<u64> {
        self.balances().then_some(self.memory.due)
    }

    /// Has a round, if it is time for one.
    pub(crate) fn balance(&mut self, host: &mut impl Host) {
        let now = host.now();
        if !self.balances() {
            self.memory.figures.clear();
            return;
        }
        if self.memory.due > now {
            return;
        }
        let next = self.memory.due.saturating_add(PERIOD);
        self.memory.due = if next > now {
            next
        } else {
            now.saturating_add(PERIOD)
        };
        let trim_tick = self.trim_tick(now);
        self.remember_pressures();
        self.memory.figures.clear();
        let scopes = self.scopes(host);
        for scope in &scopes {
            let mut look = self.look(host, &host.memory(), self.has_dynamic(), *scope);
            let mut queue = self.queue(&look);
            look.set_aside(&mut queue);
            self.balance_scope(host, &look, &queue, trim_tick);
        }
        if scopes.len() > 1 {
            self.start_spanning(host);
        }
    }

    /// Whether this is the first round of an interval. The one in which the manager begins does not count.
    fn trim_tick(&mut self, now: u64) -> bool {
        let interval = now / (u64::from(TRIM_INTERVAL) * SECOND);
        let before = core::mem::replace(&mut self.memory.interval, interval);
        before < interval
    }

    /// A round for the machine, or for one node.
    fn balance_scope(
        &mut self,
        host: &mut impl Host,
        look: &Look,
        queue: &[Waiting],
        trim_tick: bool,
    ) {
        let round = look.round(&queue::pending(queue), trim_tick);
        self.remember(look, &round);
        self.claim(queue, &round);
        let mut left = look.unclaimed();
        for waiting in queue.iter().filter(|waiting| waiting.is_ready()) {
            self.start_waiting(host, waiting.id, &mut left);
        }
        for operation in &round.operations {
            let Ok(id) = VmId::try_from(operation.vm) else {
                continue;
            };
            match operation.action {
                Action::Add {
                    unballoon,
                    hot_add,
                    partial,
                } => {
                    let order = MemoryOrder {
                        unballoon,
                        hot_add,
                        flags: if partial { MemoryOrder::PARTIAL } else { 0 },
                        ..MemoryOrder::default()
                    };
                    self.order(host, look, id, order);
                }
                Action::Remove { size } | Action::Trim { size } => {
                    let order = MemoryOrder {
                        remove: size,
                        ..MemoryOrder::default()
                    };
                    self.order(host, look, id, order);
                }
                Action::Start { .. } => self.start_waiting(host, id, &mut left),
                // What is set aside is claimed already. A rejected start waits on: its time ends that.
                Action::Hold { .. } | Action::Reject { .. } => {}
            }
        }
        self.wait_on(host.now(), look);
        self.alert(host, look, &round);
    }

    fn order(&mut self, host: &mut impl Host, look: &Look, id: VmId, order: MemoryOrder) {
        let at = look.vms.binary_search_by_key(&id.into(), |vm| vm.id);
        let assigned = at.ok().and_then(|at| look.vms.get(at));
        if let (Some(vm), Some(before)) = (self.vm_mut(id), assigned) {
            let order = vm.memory.order(order, before.assigned);
            host.order_memory(id, order);
        }
    }

    /// Keeps the pressures that `mem --watch` shows, once a second.
    fn remember_pressures(&mut self) {
        for vm in self.vms.values_mut() {
            // One that is busy keeps its goal.
            if !vm.memory.is_reporting() {
                vm.memory.goal = None;
            }
            if let Some([pressure, _]) = vm.memory.state().map(|state| state.pressures) {
                vm.memory.history.push(pressure);
            }
        }
    }

    /// Keeps what counters show of the round.
    fn remember(&mut self, look: &Look, round: &Round) {
        for goal in &round.goals {
            let id = VmId::try_from(goal.vm).ok();
            if let Some(vm) = id.and_then(|id| self.vm_mut(id)) {
                vm.memory.goal = Some(goal.size);
            }
        }
        let newest = |vm: balancer::VmId| {
            let vm = VmId::try_from(vm).ok().and_then(|id| self.vm(id));
            vm.map_or(0, |vm| vm.memory.newest())
        };
        let figures = Figures::of(look, round, newest);
        self.memory.figures.push((look.scope, figures));
    }
}
