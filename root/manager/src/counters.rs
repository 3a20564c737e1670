//! Counters of the hypervisor: which object a stats page is of, and what its numbers are called.
//!
//! The names are those of Windows' performance counters, as `tlfs::stats` has them. A value here is what such a counter is
//! made of: what is called "/sec" is the count so far, "%" the time so far in 100 ns.

use tlfs::HV_STATS_COUNTERS_PER_PAGE;
use tlfs::stats::{CounterName, hypervisor, logical_processor as lp, partita, partition, vp};

use crate::host::VmId;

/// A copy of a stats page.
pub type Page = [u64; HV_STATS_COUNTERS_PER_PAGE];

/// Whose counters are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// The hypervisor's and its processors'.
    Machine,
    /// The root partition's, and of its VPs.
    Root,
    /// The partition's of a VM, and of its VPs.
    Vm(VmId),
}

/// What a stats page is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// The hypervisor.
    Hypervisor,
    /// A logical processor, by its index.
    LogicalProcessor(u32),
    /// A partition.
    Partition,
    /// A VP of the partition shown before, by its index.
    VirtualProcessor(u32),
}

/// A value and what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// The hypervisor's name; empty for what is computed from others.
    pub counter: &'static str,
    /// The performance counter's name; empty if there is none.
    pub performance: &'static str,
    /// The value.
    pub value: u64,
}

impl Value {
    /// The performance counter's name, else the hypervisor's.
    pub fn name(&self) -> &'static str {
        if self.performance.is_empty() {
            self.counter
        } else {
            self.performance
        }
    }
}

impl Object {
    /// The performance counters' set. VPs of the root have one of their own, and so has its partition.
    pub fn set(self, root: bool) -> &'static str {
        match (self, root) {
            (Object::Hypervisor, _) => "Hyper-V Hypervisor",
            (Object::LogicalProcessor(_), _) => "Hyper-V Hypervisor Logical Processor",
            (Object::Partition, true) => "Hyper-V Hypervisor Root Partition",
            (Object::Partition, false) => "Hyper-V Hypervisor Partition",
            (Object::VirtualProcessor(_), true) => "Hyper-V Hypervisor Root Virtual Processor",
            (Object::VirtualProcessor(_), false) => "Hyper-V Hypervisor Virtual Processor",
        }
    }

    /// The names of its counters.
    fn names(self) -> [&'static [CounterName]; 2] {
        match self {
            Object::Hypervisor => [hypervisor::COUNTERS, &[]],
            Object::LogicalProcessor(_) => [lp::COUNTERS, partita::COUNTERS],
            Object::Partition => [partition::COUNTERS, &[]],
            Object::VirtualProcessor(_) => [vp::COUNTERS, &[]],
        }
    }

    /// What is computed from the counters of a page: what Windows shows and the hypervisor does not keep.
    fn computed(self, page: &Page) -> [(&'static str, u64); 2] {
        match self {
            Object::LogicalProcessor(_) => [
                ("Total Interrupts/sec", interrupts(page)),
                (
                    "% Idle Time",
                    get(page, lp::GLOBAL_TIME).saturating_sub(get(page, lp::TOTAL_RUN_TIME)),
                ),
            ],
            Object::VirtualProcessor(_) => [
                ("Total Intercepts/sec", intercepts(page)),
                ("Total Messages/sec", sum(page, vp::TOTAL_MESSAGES_COUNTS)),
            ],
            Object::Hypervisor | Object::Partition => [("", 0); 2],
        }
    }

    /// Every value of its page that is not zero, the computed ones first.
    pub fn values(self, page: &Page) -> impl Iterator<Item = Value> {
        self.all(page).filter(|value| value.value != 0)
    }

    /// Every value of its page, the computed ones first.
    pub fn all(self, page: &Page) -> impl Iterator<Item = Value> {
        let computed = self.computed(page).into_iter();
        let computed = computed.filter(|(performance, _)| !performance.is_empty());
        let computed = computed.map(|(performance, value)| Value {
            counter: "",
            performance,
            value,
        });
        let names = self.names().into_iter().flatten();
        let kept = names.map(|(index, counter, performance)| Value {
            counter,
            performance,
            value: get(page, *index),
        });
        computed.chain(kept)
    }
}

/// A counter of a page.
pub fn get(page: &Page, counter: u32) -> u64 {
    page.get(counter as usize).copied().unwrap_or(0)
}

fn sum(page: &Page, counters: &[u32]) -> u64 {
    let values = counters.iter().map(|counter| get(page, *counter));
    values.fold(0, u64::saturating_add)
}

/// All intercepts of a VP.
pub fn intercepts(page: &Page) -> u64 {
    sum(page, vp::TOTAL_INTERCEPTS_COUNTS)
}

/// All interrupts of a processor.
pub fn interrupts(page: &Page) -> u64 {
    sum(page, lp::TOTAL_INTERRUPTS_COUNTS)
}

/// Adds a page to another, counter by counter.
pub fn add(sum: &mut Page, page: &Page) {
    for (sum, value) in sum.iter_mut().zip(page) {
        *sum = sum.saturating_add(*value);
    }
}
