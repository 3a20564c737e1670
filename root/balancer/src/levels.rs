//! What a live VM should have, could have and must have (section 4.3).

use alloc::vec::Vec;

use crate::input::{Input, Vm};
use crate::math::mul_div_up;
use crate::settings::Buffer;
use crate::target::MINIMUM_PRESSURE;
use crate::unit::Unit;

/// Seconds after a short balloon answer in which the VM is not asked again (trap T34).
pub const REFUSAL_BACK_OFF: u32 = 60;

/// `n` and `m`: what a VM shall have in any case, and what it has when there is plenty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Buffer level `n`: the smoothed demand and its buffer, at least the settled demand.
    pub buffer: u64,
    /// Ample level `m`: where the pressure is the minimum pressure, at least the buffer level.
    pub ample: u64,
}

impl Levels {
    /// Levels for a smoothed and a settled demand.
    pub fn of(smoothed: u64, settled: u64, buffer: Buffer) -> Self {
        let buffered = mul_div_up(smoothed, 100 + buffer.percent(), 100).max(settled);
        let ample = mul_div_up(smoothed, 100, MINIMUM_PRESSURE).max(buffered);
        Self {
            buffer: buffered,
            ample,
        }
    }
}

/// A live VM in a round.
#[derive(Clone, Debug)]
pub(crate) struct Live<'a> {
    pub(crate) vm: &'a Vm,
    pub(crate) levels: Levels,
    /// `lo`, or the floor that a pending start leaves it. Never above `upper`.
    pub(crate) lower: u64,
    /// `hi`.
    pub(crate) upper: u64,
    pub(crate) goal: u64,
    /// Whether the round has an operation for it.
    pub(crate) busy: bool,
}

impl<'a> Live<'a> {
    pub(crate) fn new(vm: &'a Vm, unit: Unit) -> Self {
        let upper = upper_limit(vm, unit);
        Self {
            vm,
            levels: Levels::of(vm.smoothed, vm.settled, vm.buffer),
            lower: lower_limit(vm, upper),
            upper,
            goal: 0,
            busy: false,
        }
    }

    /// The live VMs of a round, by id: from here on nothing depends on the order of the input.
    pub(crate) fn all(input: &Input<'a>) -> Vec<Self> {
        let vms = input.vms.iter().filter(|vm| vm.is_live());
        let mut live: Vec<Self> = vms.map(|vm| Self::new(vm, input.unit)).collect();
        live.sort_unstable_by_key(|live| live.vm.id);
        live
    }

    /// A size within the limits.
    pub(crate) fn limited(&self, size: u64) -> u64 {
        size.max(self.lower).min(self.upper)
    }

    /// What a start that is lighter than the VM has to leave to it: no more than it has, and no more than it needs.
    pub(crate) fn floor_for_lighter(&self) -> u64 {
        self.limited(self.levels.buffer.min(self.vm.assigned))
    }
}

/// Whether a VM gives pages when it is asked now.
pub(crate) fn gives(vm: &Vm) -> bool {
    vm.can_balloon && vm.since_refusal >= REFUSAL_BACK_OFF
}

fn upper_limit(vm: &Vm, unit: Unit) -> u64 {
    let mut upper = vm.maximum;
    if vm.is_32_bit {
        upper = upper.min(unit.limit_of_32_bit());
    }
    if !vm.can_hot_add {
        upper = upper.min(vm.assigned.saturating_add(vm.ballooned));
    }
    upper
}

fn lower_limit(vm: &Vm, upper: u64) -> u64 {
    let lower = if gives(vm) {
        vm.minimum
    } else {
        vm.minimum.max(vm.assigned)
    };
    lower.min(upper)
}
