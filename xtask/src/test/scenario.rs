//! Scenarios: the TOML files in `tests/scenarios/`. One boots one image and drives it over the serial line.
//!
//! ```toml
//! about = "a stock kernel reaches its shell"   # one line for the reader
//! on = ["amd", "tigerlake"]    # optional: processors, `amd` and `intel` for the vendors' usual ones, else models of Bochs'
//! skip_on = { bochs = "why" }  # optional: where it cannot pass, by processor, emulator or vendor, and why
//! fast = true                  # part of `cargo xtask test --fast`
//! exits = "boot_exits"         # bench only: a figure made of the last table that `counters NAME` printed
//! cpus = [1, 2, 4]             # on machines with so many processors, each by itself, whatever `machine.cpus` says
//! short_cpus = [4]             # these alone, unless it is `cargo xtask test --long`
//! salt = 2                     # other random points than with the same seed elsewhere: for variants
//! section_meter = true         # with the hypervisor that measures how long interrupts are off
//! work = { figure = "KEY", trips = 10000 } # bench only: what a round trip takes, from three tables of `counters`
//! balloon = true               # bench only: what a balloon costs, from eight tables of `counters`
//! operations = 10              # optional: the balancer has added or removed memory so often, by the counters' line
//! root = "payload/NAME"        # optional: a payload root instead of the built-in root kernel
//! forbid = ["PANIC"]           # optional: text that fails the scenario wherever it appears
//!
//! [machine]                    # optional, see `machine::Machine`
//! cpu = "max,-svm"
//!
//! [[vm]]                       # a VM definition, as in a member vm/NAME.toml; payload/NAME is from tests/guests
//! name = "debian"
//! kernel = "guest/vmlinuz"
//!
//! [[member]]                   # further archive members; one under the name of a built part replaces it
//! name = "vm/broken.toml"
//! text = "name ="              # or file = "PATH", beside the scenario's file
//! long_text = "name = 1"       # optional: what it holds instead with `--long`
//!
//! [[damage]]                   # bits flipped in the finished archive
//! member = "root"              # without it, offset counts from the archive's start
//! offset = 100
//!
//! [[step]]
//! expect = "partita>"          # waits for this text on the serial line, after what earlier steps saw
//! seconds = 60
//! long_seconds = 600           # optional: instead of `seconds`, with `--long`
//! [[step]]
//! send = "vm list\r"            # SEED in it is a number: that of `--seed` times 1000, and the number of the cycle
//! [[step]]
//! absent = "error"             # must not appear for that long
//! seconds = 2
//! [[step]]
//! same = "mem\r"               # typed; what comes up to `until` is the same as at the first step with this text
//! until = "has one owner"
//! [[step]]
//! listed = "dmesg\r"           # typed; what comes up to `until` are the lines of the list in `file`, beside the scenario's
//! until = "guest# "            # file, and no others: see `test::listed`
//! file = "../dmesg/linux-6.1.VENDOR.txt" # VENDOR stands for amd or intel
//! only_long = true             # optional, of any step: it is left out without `--long`
//! [[step]]
//! row = "debian"               # waits for a line whose first word this is, and whose word number `column` (the first is 0)
//! column = 3                   # is a number, and fails if that is not within these
//! between = [50, 100]
//! [[step]]
//! point = 20000                # waits for a random part of so many bytes of output, and then for a random part of
//! seconds = 0.5                # so many seconds, none if that is missing; `cargo xtask test --seed` makes it other points
//! [[step]]
//! choose = ["vm stop a\r", "vm kill a\r"] # one of them is typed; the seed chooses
//! [[step]]
//! counters = "debian"          # waits until the counters' line has told twice of a partition of that name that has run;
//!                              # the machine needs `counters = true`, and every line has to keep to the schema
//! [[step]]
//! clock = 300                  # waits until so many seconds have gone by in the machine, by the counters' line
//! [[step]]
//! memory = "debian"            # waits until this counter of the VM's Dynamic Memory is within these
//! counter = "Physical Memory"
//! between = [500, 600]
//! [[step]]
//! mark = "hog"                 # gives the machine's time a name, for what looks at the run afterwards (`experiment`)
//! [[step]]
//! end = "success"              # a payload root has found all in order; or "off": switched off, or "reset"
//! ```
//!
//! `[[variant]]` tables make several scenarios of a file, each with its own `name` behind the file's and with its own values
//! for what the file's texts write as `${KEY}`; a text that is nothing else becomes the value, of whatever type. Without `--long`
//! steps with `only_long_in = ["NAME"]` are left out of the variants of these names.
//!
//! Without `--long` a scenario, or a variant, runs on the processors in its `short_on` only, if it names some.
//!
//! `cycles = 10` and `[[cycle]]` tables, which are steps too, make a part that is played so often after the steps; in Bochs,
//! which is slow, `cycles_in_bochs` times if that is given, unless `--long` is. `[[after]]` tables are steps behind the cycles.

mod step;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use manager::Definition;
use serde::Deserialize;

use super::counters::samples::Limits;
use crate::machine::{Machine, Processor, Vendor};
pub use step::{Action, Step};

/// What stands for a seed in what is typed.
pub const SEED: &str = "SEED";

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name of the file without its ending, and of the variant.
    #[serde(skip)]
    pub name: String,
    /// The file's [`Variants`], of which this is one.
    #[serde(rename = "variant")]
    _variants: Option<toml::Value>,
    /// The processors of runs that are not long, if they are fewer.
    pub short_on: Option<Vec<Processor>>,
    /// The file.
    #[serde(skip)]
    pub file: PathBuf,
    /// What it shows.
    pub about: String,
    /// The processors that it runs on, each by itself.
    #[serde(default = "usual")]
    pub on: Vec<Processor>,
    /// Whether this is a long run.
    #[serde(skip)]
    pub is_long: bool,
    /// Whether `--fast` runs it.
    #[serde(default)]
    pub fast: bool,
    /// For `cargo xtask bench`: key of the figure that adds up the exits in the last table of `counters`.
    pub exits: Option<String>,
    /// How many processors the machines have on which it runs, if not as many as `machine` says.
    #[serde(default)]
    pub cpus: Vec<u32>,
    /// Those of them that are enough for runs that are not long; all if there are none.
    #[serde(default)]
    pub short_cpus: Vec<u32>,
    /// What makes random points others than those of other scenarios with the same seed.
    #[serde(default)]
    pub salt: u32,
    /// Whether the hypervisor is the one that measures how long interrupts are off.
    #[serde(default)]
    pub section_meter: bool,
    /// For `cargo xtask bench`: the figure whose round trips the last tables of `counters` are about.
    pub work: Option<Work>,
    /// For `cargo xtask bench`: whether the last tables of `counters` are about a balloon.
    #[serde(default)]
    pub balloon: bool,
    /// How often the balancer has to have added or removed memory, by the counters' line.
    pub operations: Option<u64>,
    /// Why it cannot pass yet: it is reported as skipped, with this reason.
    pub skip: Option<String>,
    /// As `skip`, for a processor, an emulator (`qemu`, `bochs`) or a vendor.
    #[serde(default)]
    pub skip_on: BTreeMap<String, String>,
    /// Archive member that replaces the root kernel.
    pub root: Option<String>,
    /// Text that must never appear.
    #[serde(default = "last_words")]
    pub forbid: Vec<String>,
    /// The emulated machine.
    #[serde(default)]
    pub machine: Machine,
    /// VM definitions.
    #[serde(default)]
    pub vm: Vec<toml::Table>,
    /// Further members.
    #[serde(default)]
    pub member: Vec<Member>,
    /// Bits to flip.
    #[serde(default)]
    pub damage: Vec<Damage>,
    /// What happens on the serial line.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    /// How often `cycle` is played after the steps.
    #[serde(default)]
    pub cycles: usize,
    /// How often in Bochs, if not so often, but for long runs.
    pub cycles_in_bochs: Option<usize>,
    /// Steps of a cycle.
    #[serde(default)]
    pub cycle: Vec<Step>,
    /// Steps behind the cycles.
    #[serde(default)]
    pub after: Vec<Step>,
}

/// The scenarios that a file makes. (It is not a valid one itself while keys stand for values.)
#[derive(Deserialize)]
struct Variants {
    #[serde(default, rename = "variant")]
    variants: Vec<Variant>,
}

/// One of them.
#[derive(Deserialize)]
struct Variant {
    /// Its name, behind the file's.
    name: String,
    /// The processors of runs that are not long, if they are fewer than the scenario's.
    short_on: Option<Vec<Processor>>,
    /// What stands for `${KEY}` in the file's texts.
    #[serde(flatten)]
    values: BTreeMap<String, toml::Value>,
}

impl Variant {
    /// The file's text with the values in it. A text that is nothing but a key becomes its value, of whatever type.
    fn text(&self, file: &str) -> String {
        let mut text = file.replace("${name}", &self.name);
        for (key, value) in &self.values {
            let key = format!("${{{key}}}");
            let plain = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            text = text.replace(&format!("\"{key}\""), &value.to_string());
            text = text.replace(&key, &plain);
        }
        text
    }
}

/// Which round trips a scenario of the bench lets the console count.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Work {
    /// Key of the figure that they belong to.
    pub figure: String,
    /// How many are made between the last table but one and the last.
    pub trips: u32,
}

/// A further archive member.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its content.
    pub text: Option<String>,
    /// Its content in long runs, if that is another one.
    pub long_text: Option<String>,
    /// The file with its content.
    pub file: Option<PathBuf>,
}

/// One byte to invert in the archive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// The member it is in; the whole archive if none is named.
    pub member: Option<String>,
    /// Offset in it, in bytes.
    pub offset: usize,
}

/// The processors of a scenario that names none.
const USUAL: [Vendor; 2] = [Vendor::Amd, Vendor::Intel];

fn usual() -> Vec<Processor> {
    USUAL.map(Vendor::usual).into()
}

/// What the hypervisor, the root loader and a payload say when they cannot go on, and the console when pages have no owner, or two.
fn last_words() -> Vec<String> {
    [
        "Partita stopped",
        "the root cannot be started",
        "panicked at",
        "root kernel: ",
        "have no owner",
        "are counted twice",
    ]
    .map(str::to_owned)
    .to_vec()
}

impl Scenario {
    /// Whether it has random points, or programs that come from a seed.
    pub fn is_random(&self) -> bool {
        let parts = [&self.steps, &self.cycle, &self.after];
        let mut steps = parts.into_iter().flatten();
        steps.any(|step| match &step.action {
            Action::Point(_) | Action::Choose(_) => true,
            Action::Send(text) => text.contains(SEED),
            _ => false,
        })
    }

    /// What the definitions of VMs with Dynamic Memory say about it, by their names.
    ///
    /// # Errors
    /// If one is no definition.
    pub fn limits(&self) -> Result<BTreeMap<String, Limits>> {
        let mut limits = BTreeMap::new();
        for vm in &self.vm {
            let file = self.file.display().to_string();
            let definition = Definition::parse(&file, &toml::to_string(vm)?)?;
            if let Some(dynamic) = definition.dynamic {
                let sizes = Limits {
                    startup: definition.memory >> 20,
                    minimum: dynamic.minimum >> 20,
                    maximum: dynamic.maximum >> 20,
                };
                limits.insert(definition.name, sizes);
            }
        }
        Ok(limits)
    }

    /// How many processors the machines have.
    pub fn all_cpus(&self) -> Vec<u32> {
        if self.cpus.is_empty() {
            vec![self.machine.cpus]
        } else if self.short_cpus.is_empty() {
            self.cpus.clone()
        } else {
            self.short_cpus.clone()
        }
    }

    /// Does as much in Bochs as in QEMU, on all machines, and takes the long texts of members and the long waits for them.
    pub fn lengthen(&mut self) {
        self.is_long = true;
        self.cycles_in_bochs = None;
        self.short_cpus.clear();
        for member in &mut self.member {
            member.text = member.long_text.take().or(member.text.take());
        }
        let parts = [&mut self.steps, &mut self.cycle, &mut self.after];
        for step in parts.into_iter().flatten() {
            step.wait = step.long_wait.unwrap_or(step.wait);
        }
    }

    /// Leaves out processors beyond the usual ones, unless it is about those.
    pub fn only_usual(&mut self) {
        if self.on.iter().any(Processor::is_usual) {
            self.on.retain(Processor::is_usual);
        }
    }

    /// Leaves out what is for long runs.
    pub fn shorten(&mut self) {
        if let Some(on) = self.short_on.take() {
            self.on = on;
        }
    }

    /// Reads the scenario in `file`, or all of its variants.
    ///
    /// # Errors
    /// If it cannot be read or is not a scenario.
    pub fn read(file: &Path) -> Result<Vec<Self>> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        Self::parse(&text, file).with_context(|| format!("{} is not a scenario", file.display()))
    }

    fn parse(text: &str, file: &Path) -> Result<Vec<Self>> {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let variants = toml::from_str::<Variants>(text)?.variants;
        if variants.is_empty() {
            let mut scenario: Self = toml::from_str(text)?;
            scenario.settle(&stem, file)?;
            return Ok(vec![scenario]);
        }
        let make = |variant: Variant| -> Result<Self> {
            let text = variant.text(text);
            if let Some((_, rest)) = text.split_once("${") {
                let key = rest.split('}').next().unwrap_or_default();
                bail!("the variant {} has no value for {key}", variant.name);
            }
            let mut scenario: Self = toml::from_str(&text)?;
            scenario.leave_out_for(&variant.name);
            scenario.settle(&format!("{stem}-{}", variant.name), file)?;
            scenario.short_on = variant.short_on.or(scenario.short_on);
            Ok(scenario)
        };
        variants.into_iter().map(make).collect()
    }

    /// Steps that are for long runs of this variant are for those alone.
    fn leave_out_for(&mut self, variant: &String) {
        let parts = [&mut self.steps, &mut self.cycle, &mut self.after];
        for step in parts.into_iter().flatten() {
            step.only_long |= step.only_long_in.contains(variant);
        }
    }

    /// Gives a scenario its name, and checks what its types do not.
    fn settle(&mut self, name: &str, file: &Path) -> Result<()> {
        self.name = name.to_owned();
        self.file = file.to_path_buf();
        if self.cpus.contains(&0) {
            bail!("cpus names no machine");
        }
        if self.short_cpus.iter().any(|cpus| !self.cpus.contains(cpus)) {
            bail!("short_cpus is no part of cpus");
        }
        for member in &self.member {
            let long_alone = member.long_text.is_some() && member.text.is_none();
            if member.text.is_some() == member.file.is_some() || long_alone {
                bail!(
                    "the member {} needs either text, with or without a long_text, or file",
                    member.name
                );
            }
        }
        Ok(())
    }

    /// All scenarios of a folder, by name.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn all(folder: &Path) -> Result<Vec<Self>> {
        let mut files = Vec::new();
        if folder.exists() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|ending| ending == "toml") {
                    files.push(path);
                }
            }
        }
        files.sort();
        let mut all = Vec::new();
        for file in &files {
            all.extend(Self::read(file)?);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests;
