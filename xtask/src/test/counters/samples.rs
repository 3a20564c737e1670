//! What the counters' line tells of Dynamic Memory, look by look.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::{Counters, Lines, Partition};

/// A look, as far as Dynamic Memory goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// When its first line was told: reference time, 100 ns.
    pub time: u64,
    /// Which look it is.
    pub number: u64,
    /// The balancer's counters.
    pub balancer: Counters,
    /// The VMs' by their names.
    pub vms: BTreeMap<String, Memory>,
    /// Pages that the root's kernel has booked as guests' RAM, if it was told.
    pub guest_ram: Option<u64>,
    /// Some of it is a VM's without Dynamic Memory.
    pub has_others: bool,
}

/// For so many looks, a second each, what workers tell and what the root's kernel books may differ while nothing changes: a guest that is
/// offered new memory may take half a minute and more to answer (sheet 2.8).
const UNSETTLED: usize = 60;
/// Pages of a MiB.
const MIB: u64 = 256;

/// A VM's counters of Dynamic Memory, and the run that they are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The partition's id.
    pub run: u64,
    /// The counters.
    pub counters: Counters,
}

/// What a VM's definition says about its memory, MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What it starts with.
    pub startup: u64,
    /// What it keeps.
    pub minimum: u64,
    /// What it has at most.
    pub maximum: u64,
}

impl Memory {
    /// The counter called `name`.
    pub fn get(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// What machine memory is behind, MiB.
    pub fn physical(&self) -> u64 {
        self.get("Physical Memory")
    }

    /// What the guest believes it has, MiB.
    pub fn visible(&self) -> u64 {
        self.get("Guest Visible Physical Memory")
    }

    /// Whether the numbers fit together and keep to the limits (sheet 3.3, N8).
    fn check(&self, limits: Limits) -> Result<()> {
        let (added, removed) = (self.get("Added Memory"), self.get("Removed Memory"));
        ensure!(
            self.physical() + removed == limits.startup + added,
            "Physical Memory is not startup + Added - Removed"
        );
        ensure!(
            self.physical() <= self.visible(),
            "it has more than it sees"
        );
        let allowed = limits.minimum..=limits.maximum;
        ensure!(
            allowed.contains(&self.physical()),
            "Physical Memory is beyond its limits"
        );
        Ok(())
    }
}

impl Lines {
    /// All looks that came whole enough to have something of Dynamic Memory.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples: Vec<Sample> = Vec::new();
        for line in &self.0 {
            let is_new = samples.last().is_none_or(|last| last.number != line.sample);
            if is_new {
                samples.push(Sample {
                    time: line.time,
                    number: line.sample,
                    ..Sample::default()
                });
            }
            let Some(sample) = samples.last_mut() else {
                continue;
            };
            if let Some(pages) = line.owners.get("Guest RAM") {
                sample.guest_ram = Some(*pages);
            }
            let is_other = |part: &Partition| !part.root && !part.has_memory();
            sample.has_others |= line.partitions.iter().any(is_other);
            for balancer in &line.balancers {
                sample.balancer.clone_from(&balancer.counters);
            }
            for partition in line.partitions.iter().filter(|part| part.has_memory()) {
                let memory = Memory {
                    run: partition.id,
                    counters: partition.memory.clone(),
                };
                sample.vms.insert(partition.name.clone(), memory);
            }
        }
        samples.retain(|sample| !sample.balancer.is_empty() || !sample.vms.is_empty());
        samples
    }

    /// A VM's counter in the last look that has the VM.
    pub fn newest(&self, vm: &str, counter: &str) -> Option<u64> {
        let told = |partition: &&Partition| partition.has_memory() && partition.name == vm;
        let mut lines = self.0.iter().rev();
        let partition = lines.find_map(|line| line.partitions.iter().find(told))?;
        Some(partition.memory.get(counter).copied().unwrap_or(0))
    }
}

/// Looks at every sample: what a VM has is what it started with and what came and went since, never beyond its limits, and what
/// its guest sees never becomes less while it runs. And while nothing changes, the VMs have as much as the root's kernel has booked.
///
/// # Errors
/// Naming the first sample in which that is not so.
pub fn check(samples: &[Sample], limits: &BTreeMap<String, Limits>) -> Result<()> {
    check_books(samples)?;
    let mut seen: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for sample in samples {
        for (name, memory) in &sample.vms {
            let wrong = |what: &str| format!("{name}, look {}: {what}: {memory:?}", sample.number);
            let Some(limits) = limits.get(name) else {
                continue;
            };
            memory
                .check(*limits)
                .map_err(|error| anyhow::anyhow!(wrong(&error.to_string())))?;
            let visible = memory.visible();
            let before = seen.insert((name, memory.run), visible).unwrap_or(0);
            ensure!(visible >= before, wrong("what its guest sees became less"));
        }
    }
    Ok(())
}

/// A VM's counters are its worker's word; the books are the kernel's.
fn check_books(samples: &[Sample]) -> Result<()> {
    let mut differ = 0;
    let mut before = Vec::new();
    for sample in samples {
        let sizes = sample.vms.values().map(|vm| (vm.run, vm.physical()));
        let sizes: Vec<(u64, u64)> = sizes.collect();
        let told: u64 = sizes.iter().map(|(_, physical)| physical).sum();
        let booked = sample.guest_ram.map_or(told, |pages| pages / MIB);
        // Each VM's is rounded to MiB.
        let is_different = !sample.has_others && booked.abs_diff(told) > sizes.len() as u64;
        differ = if is_different && sizes == before {
            differ + 1
        } else {
            0
        };
        before = sizes;
        ensure!(
            differ < UNSETTLED,
            "look {}: the VMs have {told} MiB, and {booked} MiB are booked as theirs: {:?}",
            sample.number,
            sample.vms
        );
    }
    Ok(())
}

/// How many operations of the balancer's have added memory to the VMs, or removed some from them.
pub fn operations(samples: &[Sample]) -> u64 {
    let mut runs = BTreeMap::new();
    for sample in samples {
        for (name, vm) in &sample.vms {
            let counters = ["Memory Add Operations", "Memory Remove Operations"];
            let sum: u64 = counters.iter().map(|counter| vm.get(counter)).sum();
            runs.insert((name, vm.run), sum);
        }
    }
    runs.values().sum()
}

#[cfg(test)]
mod tests;
