//! The counters' line: JSON, one object a line, as docs/counters.md says.

mod file;
pub mod samples;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// The version that is described here.
const SCHEMA: u32 = 1;
/// The counter that shows whether a VP runs.
const RUN_TIME: &str = "% Total Run Time";
/// The counter that shows whether a processor's clock goes.
const CLOCK: &str = "LpGlobalTime";

/// Counters of an object by their names; one that is missing is 0.
pub type Counters = BTreeMap<String, u64>;

pub use file::CounterFile;

/// What has been received.
#[derive(Debug, Default)]
pub struct Lines(Vec<Line>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    schema: u32,
    time: u64,
    sample: u64,
    dropped: u64,
    #[serde(default)]
    hypervisor: Counters,
    processors: Vec<Indexed>,
    partitions: Vec<Partition>,
    #[serde(default)]
    owners: Counters,
    #[serde(default)]
    balancers: Vec<Balancer>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Balancer {
    name: String,
    counters: Counters,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Indexed {
    index: u32,
    counters: Counters,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Partition {
    name: String,
    root: bool,
    id: u64,
    counters: Counters,
    #[serde(default)]
    memory: Counters,
    vps: Vec<Indexed>,
}

impl Line {
    /// Whether every page of the machine has one owner.
    fn is_owned(&self) -> bool {
        let owned = self.owners.iter().filter(|(name, _)| *name != "Total");
        let sum: u64 = owned.map(|(_, pages)| pages).sum();
        sum == self.owners.get("Total").copied().unwrap_or(0)
    }

    /// Whether what there is about Dynamic Memory keeps to its names: all of the balancer's values are gauges of 32 bits, and a VM
    /// always has memory.
    fn memory_is_right(&self) -> bool {
        let gauges = |balancer: &Balancer| {
            let mut values = balancer.counters.values();
            is_instance(&balancer.name) && values.all(|value| u32::try_from(*value).is_ok())
        };
        let sized = |partition: &Partition| {
            partition.memory.is_empty() || partition.memory.contains_key("Physical Memory")
        };
        self.balancers.iter().all(gauges) && self.partitions.iter().all(sized)
    }
}

/// Whether this is the name of a balancer: the machine's, or a NUMA node's.
fn is_instance(name: &str) -> bool {
    let node = name
        .strip_prefix("Node ")
        .and_then(|rest| rest.strip_suffix(" Balancer"));
    name == "System Balancer" || node.is_some_and(|node| node.parse::<u8>().is_ok())
}

impl Partition {
    /// Whether it is a VM's with Dynamic Memory.
    fn has_memory(&self) -> bool {
        !self.root && !self.memory.is_empty()
    }

    /// Its VPs' counters, by the ids of both.
    fn runs(&self) -> impl Iterator<Item = ((u64, u32), &Counters)> {
        let vps = self.vps.iter();
        vps.map(|vp| ((self.id, vp.index), &vp.counters))
    }
}

impl Lines {
    /// Takes complete lines that follow those before. What the firmware has said before the first is left out.
    ///
    /// # Errors
    /// If a line does not keep to the schema.
    fn add(&mut self, text: &str) -> Result<()> {
        let begun = !self.0.is_empty();
        let is_firmware = |line: &&str| !begun && !line.starts_with('{');
        for line in text.lines().skip_while(is_firmware) {
            let line: Line = serde_json::from_str(line)
                .with_context(|| format!("not a line of counters: {line:?}"))?;
            ensure!(line.schema == SCHEMA, "schema {}", line.schema);
            ensure!(line.memory_is_right(), "Dynamic Memory: {line:?}");
            ensure!(line.is_owned(), "pages have no owner, or two: {line:?}");
            if let Some(last) = self.0.last() {
                ensure!(line.time >= last.time, "time goes back: {last:?}, {line:?}");
                let step = line.sample.checked_sub(last.sample);
                let complete = line.dropped != 0 || step.is_some_and(|step| step <= 1);
                ensure!(complete, "a look is missing: {last:?}, {line:?}");
            }
            self.0.push(line);
        }
        Ok(())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// When the last line was told: reference time, 100 ns; 0 before the first.
    pub fn time(&self) -> u64 {
        self.0.last().map_or(0, |line| line.time)
    }

    /// Whether the clocks of the processors go, the root's VPs have run in between, and the partition `name` was seen in two
    /// looks with a VP that has run.
    ///
    /// # Errors
    /// If a counter has become less.
    pub fn check(&self, name: &str) -> Result<bool> {
        let lines = || self.0.iter();
        let hypervisor = lines().any(|line| line.hypervisor.contains_key("Partitions"));
        let processors = lines().flat_map(|line| &line.processors);
        let clocks = processors.map(|processor| ((0, processor.index), &processor.counters));
        let clocks = grows(clocks, CLOCK)?;
        let partitions = || lines().flat_map(|line| &line.partitions);
        let root = grows(
            partitions()
                .filter(|partition| partition.root)
                .flat_map(Partition::runs),
            RUN_TIME,
        )?;
        grows(partitions().flat_map(Partition::runs), RUN_TIME)?;
        let has_run = |vp: &Indexed| vp.counters.get(RUN_TIME).is_some_and(|time| *time > 0);
        let seen = |line: &&Line| {
            let mut named = line
                .partitions
                .iter()
                .filter(|partition| partition.name == name);
            named.any(|partition| {
                !partition.counters.is_empty() && partition.vps.iter().any(has_run)
            })
        };
        let looks: BTreeSet<u64> = lines().filter(seen).map(|line| line.sample).collect();
        Ok(hypervisor && clocks && root && looks.len() >= 2)
    }
}

/// Whether a counter of any object has become more.
fn grows<'c>(
    objects: impl Iterator<Item = ((u64, u32), &'c Counters)>,
    counter: &str,
) -> Result<bool> {
    let mut last = BTreeMap::new();
    let mut grown = false;
    for (object, counters) in objects {
        let value = counters.get(counter).copied().unwrap_or(0);
        let before = last.insert(object, value).unwrap_or(value);
        ensure!(
            value >= before,
            "{counter} of {object:?} was {before}, and is {value}"
        );
        grown |= value > before;
    }
    Ok(grown)
}

#[cfg(test)]
mod tests {
    use super::Lines;

    const OWNERS: &str = r#""owners":{"Total":9,"Free":5,"Guest RAM":4}"#;

    fn line(sample: u64, time: u64, dropped: u64) -> String {
        format!(
            r#"{{"schema":1,"time":{time},"sample":{sample},"dropped":{dropped},"hypervisor":{{"Partitions":2}},"processors":[{{"index":0,"counters":{{"LpGlobalTime":{time}}}}}],"partitions":[],{OWNERS}}}
{{"schema":1,"time":{time},"sample":{sample},"dropped":0,"processors":[],"partitions":[{{"name":"root","root":true,"id":1,"counters":{{"Partition Id":1}},"vps":[{{"index":0,"counters":{{"% Total Run Time":{time}}}}}]}}]}}
{{"schema":1,"time":{time},"sample":{sample},"dropped":0,"processors":[],"partitions":[{{"name":"a","root":false,"id":2,"counters":{{"Partition Id":2}},"vps":[{{"index":0,"counters":{{"% Total Run Time":{time}}}}}]}}]}}
"#
        )
    }

    #[test]
    fn what_the_firmware_says_is_left_out() {
        let text = format!("BdsDxe: starting\n{}", line(1, 5, 0));
        assert_eq!(read(&text).unwrap().0.len(), 3);
    }

    fn read(text: &str) -> anyhow::Result<Lines> {
        let mut lines = Lines::default();
        lines.add(text)?;
        Ok(lines)
    }

    fn check(text: &str) -> anyhow::Result<bool> {
        read(text)?.check("a")
    }

    #[test]
    fn there_is_a_balancer_of_the_machine_or_of_each_node() {
        let instances = |names: &[&str]| names.iter().all(|name| super::is_instance(name));
        assert!(instances(&[
            "System Balancer",
            "Node 0 Balancer",
            "Node 7 Balancer"
        ]));
        for wrong in ["", "Node", "Node  Balancer", "Node x Balancer", "balancer"] {
            assert!(!super::is_instance(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_partition_that_runs_is_seen_in_the_second_look() {
        assert!(!check("").unwrap());
        assert!(!check(&line(1, 5, 0)).unwrap());
        let two = line(1, 5, 0) + &line(2, 6, 0);
        assert!(check(&two).unwrap());
        assert!(!read(&two).unwrap().check("b").unwrap());
    }

    #[test]
    fn lines_that_break_the_schema_are_errors() {
        let bad = [
            line(1, 5, 0).replace("\"schema\":1", "\"schema\":2"),
            line(1, 5, 0).replace("sample", "simple"),
            line(1, 5, 0).replace("{\"schema", "{{\"schema"),
            line(1, 5, 0) + &line(1, 4, 0),
            line(1, 5, 0) + &line(3, 6, 0),
            line(1, 5, 0).replace(OWNERS, r#""owners":{"Total":9,"Free":8}"#),
            line(1, 5, 0).replace(OWNERS, r#""owners":{"Free":9}"#),
            line(1, 5, 0) + &line(2, 6, 0).replace("Time\":6", "Time\":4"),
        ];
        for text in bad {
            assert!(check(&text).is_err(), "{text}");
        }
        assert!(check(&(line(1, 5, 0) + &line(3, 6, 4))).is_ok(), "told");
    }
}
