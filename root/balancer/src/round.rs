//! One round (section 4.5): what it decides, and the order of its steps.

use alloc::vec::Vec;

use crate::alert::Alert;
use crate::input::{Input, PendingStart, VmId};
use crate::levels::Live;
use crate::math::size;
use crate::serve::Pool;
use crate::target::Target;
use crate::{donors, serve, starts, target, trim};

/// What a round decides. Sizes are in the unit of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// What the search found.
    pub target: Target,
    /// What each live VM should have, by id.
    pub goals: Vec<Goal>,
    /// What is to be done, at most one for each VM: rejected starts, then what gets memory in the order in which it does, then
    /// what gives some.
    pub operations: Vec<Operation>,
    /// `F` before the operations; negative if the host has outgrown its reserve.
    pub free: i128,
    /// `F` when what the round gives is gone. What it takes is not in it.
    pub free_after: i128,
    /// The counter *Available Memory*: `F`, or 0.
    pub available: u64,
    /// What an administrator should know of that.
    pub alert: Alert,
}

/// What a VM should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Which VM.
    pub vm: VmId,
    /// So much.
    pub size: u64,
}

/// What is to be done for a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// For this one.
    pub vm: VmId,
    /// This.
    pub action: Action,
}

/// What can be done for a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give it memory.
    Add {
        /// So much of its balloon, first.
        unballoon: u64,
        /// So much by hot-add, a multiple of its alignment; 0 unless the whole balloon returns.
        hot_add: u64,
        /// It should have had more: this add does not restart `since_add`.
        partial: bool,
    },
    /// Take memory, because others need it.
    Remove {
        /// So much.
        size: u64,
    },
    /// Take memory that the VM has no use for.
    Trim {
        /// So much.
        size: u64,
    },
    /// Start it: the memory is there.
    Start {
        /// Its startup RAM.
        startup: u64,
    },
    /// Let it wait: memory is being made free.
    Hold {
        /// What of the free memory is set aside for it in this round. Nothing is remembered: the next round sets aside anew.
        set_aside: u64,
    },
    /// Do not start it now: there is not enough that it may take.
    Reject {
        /// Its startup RAM.
        startup: u64,
    },
}

/// Decides once. The same input makes the same round, whatever the order of its lists; nothing is remembered.
pub fn round(input: &Input<'_>) -> Round {
    let free = input.node.free(sum(input.vms.iter().map(|vm| vm.assigned)));
    let mut live = Live::all(input);
    let capacity = free + sum(live.iter().map(|live| live.vm.assigned));

    let admission = starts::admit(&mut live, input.starts, capacity);
    let target = target::search(&mut live, capacity - admission.startup);

    let mut operations: Vec<Operation> = admission.rejected.into_iter().map(reject).collect();
    let available = size(free);
    let mut pool = Pool {
        left: available,
        shortage: size(-free),
        granule: input.unit.granule(),
    };
    serve::serve(&mut live, &admission.accepted, &mut pool, &mut operations);
    donors::ask(&mut live, &mut pool, free < 0, &mut operations);
    if input.trim_tick {
        trim::trim(&mut live, pool.granule, &mut operations);
    }
    Round {
        target,
        goals: live.iter().map(goal).collect(),
        free,
        free_after: free - sum(operations.iter().map(|operation| operation.action.given())),
        available,
        alert: Alert::of(available, input.node.total),
        operations,
    }
}

impl Action {
    /// What it takes from the free memory.
    pub fn given(&self) -> u64 {
        match *self {
            Self::Add {
                unballoon, hot_add, ..
            } => unballoon.saturating_add(hot_add),
            Self::Start { startup } => startup,
            Self::Remove { .. } | Self::Trim { .. } | Self::Hold { .. } | Self::Reject { .. } => 0,
        }
    }
}

fn reject(start: &PendingStart) -> Operation {
    Operation {
        vm: start.id,
        action: Action::Reject {
            startup: start.startup,
        },
    }
}

fn goal(live: &Live<'_>) -> Goal {
    Goal {
        vm: live.vm.id,
        size: live.goal,
    }
}

fn sum(sizes: impl Iterator<Item = u64>) -> i128 {
    sizes.map(i128::from).sum()
}
