//! The performance counters of Dynamic Memory (sheet 3.3), with the names and units that Windows gives them.

use alloc::string::String;
use alloc::vec::Vec;

use balancer::{Levels, Round, TRIM_PRESSURE, pressure};

use crate::definition::Definition;
use crate::host::VmId;
use crate::manager::Manager;
use crate::memory::look::Look;
use crate::memory::scope::Scope;
use crate::memory::{VmMemory, mib, pages};

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// MiB, as Windows' "MB" are.
    Megabytes,
    /// Per cent.
    Percent,
    /// How many.
    Count,
}

/// Whether a value is of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is, and has 32 bits.
    Gauge,
    /// It only grows, from the VM's start on, and has 64 bits.
    Counter,
}

/// A counter's name and what its values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// Name.
    pub name: &'static str,
    /// Unit.
    pub unit: Unit,
    /// Type.
    pub kind: Kind,
}

/// Name and value.
pub type Value = (&'static str, u64);

/// The set with one instance for each balancer.
pub const BALANCER_SET: &str = "Hyper-V Dynamic Memory Balancer";
/// The instance where there is one balancer.
pub const BALANCER_INSTANCE: &str = "System Balancer";
/// The set with one instance for each VM with Dynamic Memory, named after it.
pub const VM_SET: &str = "Hyper-V Dynamic Memory VM";

const fn gauge(name: &'static str, unit: Unit) -> Name {
    let kind = Kind::Gauge;
    Name { name, unit, kind }
}

const fn counter(name: &'static str, unit: Unit) -> Name {
    let kind = Kind::Counter;
    Name { name, unit, kind }
}

/// The counters of [`BALANCER_SET`].
pub const BALANCER: [Name; 4] = [
    gauge("Available Memory", Unit::Megabytes),
    gauge("Available Memory For Balancing", Unit::Megabytes),
    gauge("Average Pressure", Unit::Percent),
    gauge("System Current Pressure", Unit::Percent),
];

/// The counters of [`VM_SET`].
pub const VM: [Name; 12] = [
    gauge("Physical Memory", Unit::Megabytes),
    gauge("Guest Visible Physical Memory", Unit::Megabytes),
    gauge("Current Pressure", Unit::Percent),
    gauge("Average Pressure", Unit::Percent),
    gauge("Minimum Pressure", Unit::Percent),
    gauge("Maximum Pressure", Unit::Percent),
    counter("Added Memory", Unit::Megabytes),
    counter("Removed Memory", Unit::Megabytes),
    counter("Memory Add Operations", Unit::Count),
    counter("Memory Remove Operations", Unit::Count),
    gauge("Guest Available Memory", Unit::Megabytes),
    gauge("Smart Paging Working Set Size", Unit::Megabytes),
];

/// What a round has found for the balancer's counters, in the order of [`BALANCER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures([u64; 4]);

impl Figures {
    /// The figures of a round. `newest` is the demand of a VM's newest report.
    pub(super) fn of(look: &Look, round: &Round, newest: impl Fn(balancer::VmId) -> u64) -> Self {
        let mut surplus = 0u64;
        let (mut demand, mut assigned) = (0u128, 0u128);
        let (mut averages, mut count) = (0u128, 0u128);
        // The sheet's "live" VMs (2.3): that an order is under way, or a report late, makes them no others.
        for vm in look.vms.iter().filter(|vm| vm.reporting) {
            let levels = Levels::of(vm.smoothed, vm.settled, vm.buffer);
            let kept = vm.minimum.max(levels.buffer);
            surplus = surplus.saturating_add(vm.assigned.saturating_sub(kept));
            demand += u128::from(newest(vm.id));
            assigned += u128::from(vm.assigned);
            averages += u128::from(pressure(vm.smoothed, vm.assigned));
            count += 1;
        }
        // Nobody has what is set aside.
        let available = round.available.saturating_add(look.held);
        let narrow =
            |value: Option<u128>| value.map_or(0, |value| u64::try_from(value).unwrap_or(u64::MAX));
        Self([
            mib(available),
            mib(available.saturating_add(surplus)),
            narrow(averages.checked_div(count)),
            narrow((demand * 100).checked_div(assigned)),
        ])
    }
}

/// Values with their names, each as large as its type.
fn named<const N: usize>(names: &'static [Name; N], values: [u64; N]) -> [Value; N] {
    let mut named = [("", 0); N];
    for ((named, name), value) in named.iter_mut().zip(names).zip(values) {
        let most = match name.kind {
            Kind::Gauge => u32::MAX.into(),
            Kind::Counter => u64::MAX,
        };
        *named = (name.name, value.min(most));
    }
    named
}

impl Manager {
    /// The counters of each balancer as of its last round, with its instance's name; none while there is nobody to balance.
    pub fn balancers(&self) -> Vec<(String, [Value; 4])> {
        let figures = self.memory.figures.iter().filter(|_| self.balances());
        let balancer =
            |(scope, figures): &(Scope, Figures)| (scope.instance(), named(&BALANCER, figures.0));
        figures.map(balancer).collect()
    }

    /// A VM's counters; `None` without Dynamic Memory, or without a worker.
    pub fn memory_counters(&self, id: VmId) -> Option<[Value; 12]> {
        let vm = self.vm(id).filter(|vm| vm.life.has_worker())?;
        let definition = vm.definition()?;
        definition.dynamic?;
        Some(named(&VM, values(&vm.memory, definition)))
    }
}

/// The values of a VM. All are of the moment when its worker told them.
///
/// Physical Memory is made of Added and Removed Memory, each rounded down: so it is what it started with and was given, less what
/// was taken, in every sample. It is at most 1 MB away from what it has; new memory that the guest has not taken yet is in neither.
fn values(memory: &VmMemory, definition: &Definition) -> [u64; 12] {
    let startup = mib(pages(definition.memory));
    let state = memory.state().copied().unwrap_or_default();
    let (added, removed) = (mib(state.added), mib(state.removed));
    let visible = match memory.state() {
        Some(state) => mib(state.visible),
        None => startup,
    };
    let [current, average] = state.pressures.map(u64::from);
    [
        startup.saturating_add(added).saturating_sub(removed),
        visible,
        current,
        average,
        TRIM_PRESSURE,
        most(state.smoothed, memory.goal),
        added,
        removed,
        state.add_operations,
        state.remove_operations,
        mib(state.available),
        0,
    ]
}

/// The pressure from which on the VM would get more: that of the goal, less the dead band.
fn most(smoothed: u64, goal: Option<u64>) -> u64 {
    let whole = u128::from(100 + balancer::DEAD_BAND);
    let wanted = goal.filter(|_| smoothed != 0);
    let found = wanted.and_then(|goal| (u128::from(smoothed) * whole).checked_div(goal.into()));
    let plenty = u128::from(balancer::MINIMUM_PRESSURE) * whole / 100;
    u64::try_from(found.unwrap_or(plenty)).unwrap_or(u64::MAX)
}
