//! VMs that want to start (sheet 4.5, step 1; DM-09).
//!
//! A start is at once if its memory is free. While nobody has Dynamic Memory that is all: it is, or it is not, and the host's
//! reserve does not count, as nobody could be asked to give back what the host lacks. Otherwise the balancer is asked, with all
//! that wait. What it holds, waits at most [`WAIT_TIME`] for memory that others give, the heavier before the lighter; a VM
//! without Dynamic Memory has the usual weight.
//!
//! The balancer rejects a start if those that are live may not be made to give enough. It does not count on a VM that it cannot
//! ask at the moment: one that boots, or has an order under way, perhaps for this very start. So a rejected start is refused
//! only if it would be with these VMs awake, and needing nothing; else it waits as well. That is decided once, when it is asked
//! for: no round refuses a start that waits, for what others need in a second says little of the next.
//!
//! The [`WAIT_TIME`] of the sheet, 60 s, is hardly longer than a guest's boot with the 50 s of quiet after it, in which it cannot give.
//! D: so the time begins when no VM is in either that has more than its minimum. That is at most
//! [`BOOT_TIME`](super::told::BOOT_TIME) and [`QUIET_TIME`](super::told::QUIET_TIME) after the last start. A guest whose driver has not
//! come by then has none, and nobody waits for it. Others may start meanwhile, or reset: all in all a start waits no longer than
//! [`LONGEST_WAIT`](crate::life::LONGEST_WAIT).
//!
//! A VM that may not span NUMA nodes starts if its node has the memory, whatever others have; one that may, if the machine has it
//! (DM-16; [`super::scope`]).
//!
//! A VM whose guest has reset is never refused, and waits as long as it takes (sheet 2.5): it ran, and nobody may be there to
//! start it again.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use balancer::{Action, LONG_AGO};

use crate::definition::Definition;
use crate::host::{Host, VmId};
use crate::life::{Patience, SECOND, State, WAIT_TIME};
use crate::manager::Manager;
use crate::memory::look::Look;
use crate::memory::queue::{self, Waiting};
use crate::memory::scope::Scope;
use crate::memory::{PAGE, mib};
use crate::vm::{OVERHEAD, Vm};

/// What becomes of a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Its memory is free.
    Now,
    /// It may become free. The text says what is missing.
    Wait(String),
    /// There is not enough. The text says what is missing, and what would help.
    Refuse(String),
}

impl Manager {
    /// Whether a VM with this definition can start now. One whose guest has reset is never refused.
    pub(crate) fn admit(
        &self,
        host: &impl Host,
        id: VmId,
        definition: &Definition,
        patience: Patience,
    ) -> Admission {
        let home = self.vm(id).map(Vm::home).unwrap_or_default();
        let scope = if home.spanning || !self.is_divided(host, Some(definition)) {
            Scope::Machine
        } else {
            Scope::Node(home.node as usize)
        };
        let is_dynamic = definition.dynamic.is_some() || self.has_dynamic();
        let mut look = self.look(host, &host.memory(), is_dynamic, scope);
        let needed = definition.memory.saturating_add(OVERHEAD);
        let fits = needed <= look.unclaimed();
        if !is_dynamic && !self.balances() {
            if fits {
                return Admission::Now;
            }
            let text = missing(definition, look.unclaimed(), None, scope);
            return match patience {
                Patience::Reset => Admission::Wait(text),
                Patience::Once | Patience::Rested => Admission::Refuse(text),
            };
        }
        let mut queue = self.queue(&look);
        queue.retain(|waiting| waiting.id != id);
        queue.push(Waiting::new(id, definition, &look, patience));
        queue::sort(&mut queue);
        let hopeless = patience != Patience::Reset && is_hopeless(&look, &queue, id);
        look.set_aside(&mut queue);
        let is_ready = |waiting: &Waiting| waiting.id == id && waiting.is_ready();
        if fits && queue.iter().any(is_ready) {
            return Admission::Now;
        }
        let round = look.round(&queue::pending(&queue), false);
        let free = (round.available * PAGE).min(look.unclaimed());
        let reserve = is_dynamic.then_some(look.node.reserve);
        let text = missing(definition, free, reserve, scope);
        match action(&round, id) {
            Some(Action::Start { .. }) if fits => Admission::Now,
            Some(Action::Reject { .. }) if hopeless => Admission::Refuse(text),
            _ => Admission::Wait(text),
        }
    }

    /// The balancer has memory for a VM that waited. `left` are the bytes that starts can still have of what is free.
    pub(super) fn start_waiting(&mut self, host: &mut impl Host, id: VmId, left: &mut u64) {
        let Some(definition) = self.vm(id).and_then(|vm| vm.definition()) else {
            return;
        };
        let needed = definition.memory.saturating_add(OVERHEAD);
        // The root's kernel has the last word.
        let Some(rest) = left.checked_sub(needed) else {
            return;
        };
        let begins = self.vm(id).is_some_and(|vm| vm.life.waits_once());
        match self.start_now(host, id) {
            Ok(()) => {
                *left = rest;
                // Those that are stopped one after the other are so by when they did start.
                if begins {
                    self.number_life(id);
                }
                self.show(host, id, "starting");
            }
            Err(problem) => self.start_failed(host, id, problem),
        }
    }

    /// Starts VMs that wait and may span nodes, if the machine has memory for them by now: no node's balancer sees that.
    pub(super) fn start_spanning(&mut self, host: &mut impl Host) {
        for id in self.waiting_in_order() {
            let Some(vm) = self.vm(id).filter(|vm| vm.home().spanning) else {
                continue;
            };
            let patience = vm.life.patience();
            let admission = vm
                .definition()
                .map(|definition| self.admit(host, id, definition, patience));
            if admission == Some(Admission::Now) {
                // It was looked at with all that is promised.
                let mut left = u64::MAX;
                self.start_waiting(host, id, &mut left);
            }
        }
    }

    /// Lets the starts that wait here wait on, while there are VMs that may give something and cannot be asked yet.
    pub(super) fn wait_on(&mut self, now: u64, look: &Look) {
        if look.coming.is_empty() {
            return;
        }
        for vm in self.vms.values_mut() {
            if look.scope.has(vm.home()) {
                vm.life.wait_on(now);
            }
        }
    }

    /// Gives up those that have waited too long.
    pub(crate) fn waited_too_long(&mut self, host: &mut impl Host, id: VmId) {
        let Some(State::Waiting(missing)) = self.state(id) else {
            return;
        };
        let seconds = WAIT_TIME / SECOND;
        let problem = format!("no memory became free within {seconds} s: {missing}");
        self.start_failed(host, id, problem);
    }

    /// A VM that waited cannot be started. One that had rested before rests again.
    fn start_failed(&mut self, host: &mut impl Host, id: VmId, problem: String) {
        let now = host.now();
        let Some(vm) = self.vm_mut(id) else { return };
        let rest = vm.life.gave_up(now, problem.clone());
        let text = match rest {
            None => format!("cannot be started: {problem}"),
            Some(rest) => {
                let rest = rest / SECOND;
                format!("cannot be started: {problem}; tried again in {rest} s")
            }
        };
        self.notice(host, id, &text);
    }
}

fn action(round: &balancer::Round, id: VmId) -> Option<Action> {
    let mut operations = round.operations.iter();
    let found = operations.find(|operation| operation.vm == id.into());
    found.map(|operation| operation.action)
}

/// Whether a start would be rejected even if all VMs could be asked.
fn is_hopeless(look: &Look, queue: &[Waiting], id: VmId) -> bool {
    let starts: Vec<_> = queue.iter().map(|waiting| waiting.start).collect();
    let round = awake(look).round(&starts, false);
    matches!(action(&round, id), Some(Action::Reject { .. }))
}

/// The same memory, while all VMs can be asked that ever can. Those that do not report yet need no more than their minimum; those
/// that never will, having no driver, give nothing.
fn awake(look: &Look) -> Look {
    let mut look = look.clone();
    for vm in look.vms.iter_mut().filter(|vm| !vm.is_live()) {
        if !vm.reporting && look.coming.binary_search(&vm.id).is_err() {
            continue;
        }
        if !vm.reporting {
            vm.can_balloon = true;
            vm.since_refusal = LONG_AGO;
            (vm.settled, vm.smoothed) = (0, 0);
        }
        vm.reporting = true;
        vm.in_flight = false;
        vm.report_age = 0;
    }
    look
}

/// What a start lacks. `reserve` is the host's, in pages, if it counts.
fn missing(definition: &Definition, free: u64, reserve: Option<u64>, scope: Scope) -> String {
    let needed = definition.memory.saturating_add(OVERHEAD) >> 20;
    let free = free >> 20;
    let key = if definition.dynamic.is_some() {
        "startup"
    } else {
        "memory"
    };
    let beyond = reserve.map_or(String::new(), |reserve| {
        format!(" beyond the host's reserve of {} MiB", mib(reserve))
    });
    let (place, bound, remedy) = match scope {
        Scope::Machine => (
            String::new(),
            "",
            format!("stop another VM, or lower \"{key}\""),
        ),
        Scope::Node(node) => (
            format!(" in NUMA node {node}"),
            ", which it may not leave",
            format!("stop another VM there, lower \"{key}\", or allow \"spanning\""),
        ),
    };
    format!(
        "{needed} MiB of memory are needed and {free} MiB are free{beyond}{place}{bound}; {remedy}"
    )
}
