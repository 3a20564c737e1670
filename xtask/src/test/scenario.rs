//! Scenarios: the TOML files in `tests/scenarios/`. One boots one image and drives it over the serial line.
//!
//! ```toml
//! about = "a stock kernel reaches its shell"   # one line for the reader
//! on = ["amd", "tigerlake"]    # optional: processors, `amd` and `intel` for the vendors' usual ones, else models of Bochs'
//! skip_on = { bochs = "why" }  # optional: where it cannot pass, by processor, emulator or vendor, and why
//! fast = true                  # part of `cargo xtask test --fast`
//! exits = "boot_exits"         # bench only: a figure made of the last table that `counters NAME` printed
//! cpus = [1, 2, 4]             # on machines with so many processors, each by itself, whatever `machine.cpus` says
//! cpus_in_bochs = [4]          # the same in Bochs, which is slow; `cargo xtask test --long` takes `cpus` there too
//! section_meter = true         # with the hypervisor that measures how long interrupts are off
//! work = { figure = "KEY", trips = 10000 } # bench only: what a round trip takes, from three tables of `counters`
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
//! send = "vm list\r"
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
//! counters = "debian"          # waits until the counters' line has told twice of a partition of that name that has run;
//!                              # the machine needs `counters = true`, and every line has to keep to the schema
//! [[step]]
//! end = "success"              # a payload root has found all in order; or "off": switched off, or "reset"
//! ```
//!
//! `cycles = 10` and `[[cycle]]` tables, which are steps too, make a part that is played so often after the steps; in Bochs,
//! which is slow, `cycles_in_bochs` times if that is given, unless `--long` is. `[[after]]` tables are steps behind the cycles.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::machine::{End, Machine, Processor, Vendor};

/// Wait of a step that names none: generous, because the machine is emulated on a busy host.
const DEFAULT_SECONDS: f64 = 60.0;

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name of the file without its ending.
    #[serde(skip)]
    pub name: String,
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
    /// The same in Bochs, but for long runs.
    #[serde(default)]
    pub cpus_in_bochs: Vec<u32>,
    /// Whether the hypervisor is the one that measures how long interrupts are off.
    #[serde(default)]
    pub section_meter: bool,
    /// For `cargo xtask bench`: the figure whose round trips the last tables of `counters` are about.
    pub work: Option<Work>,
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

/// One step on the serial line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawStep")]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// For how long at most.
    pub wait: Duration,
    /// The same in long runs, if it is another there.
    pub long_wait: Option<Duration>,
    /// Left out of other runs.
    pub only_long: bool,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Waits for a text.
    Expect(String),
    /// Types a text.
    Send(String),
    /// Makes sure that a text stays away.
    Absent(String),
    /// Types a text, and compares what it brings, up to another text, with what it brought the first time.
    Same {
        /// What is typed.
        send: String,
        /// Where the answer ends.
        until: String,
    },
    /// Types something; its answer is what a list says.
    Listed {
        /// What is typed.
        send: String,
        /// Where the answer ends.
        until: String,
        /// The list, beside the scenario's file; VENDOR in it stands for the vendor.
        file: String,
    },
    /// Waits for a line with a number within bounds.
    Row {
        /// Its first word.
        first: String,
        /// Which word is the number.
        column: usize,
        /// The least and the most.
        between: [u32; 2],
    },
    /// Waits for a random point: so many bytes of output at most, and then at most as long as the step says.
    Point(u32),
    /// Waits for counters of a partition that has run.
    Counters(String),
    /// Waits for the machine's end.
    End(End),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    expect: Option<String>,
    send: Option<String>,
    absent: Option<String>,
    same: Option<String>,
    listed: Option<String>,
    file: Option<String>,
    until: Option<String>,
    row: Option<String>,
    column: Option<usize>,
    between: Option<[u32; 2]>,
    point: Option<u32>,
    counters: Option<String>,
    end: Option<End>,
    #[serde(default)]
    only_long: bool,
    seconds: Option<f64>,
    long_seconds: Option<f64>,
}

impl TryFrom<RawStep> for Step {
    type Error = String;

    fn try_from(raw: RawStep) -> Result<Self, String> {
        let same = raw.same.zip(raw.until.clone());
        let listed = raw.listed.zip(raw.until).zip(raw.file);
        let listed = listed.map(|((send, until), file)| Action::Listed { send, until, file });
        let row = raw.row.zip(raw.column).zip(raw.between);
        let row = row.map(|((first, column), between)| Action::Row {
            first,
            column,
            between,
        });
        let actions = [
            raw.expect.map(Action::Expect),
            raw.send.map(Action::Send),
            raw.absent.map(Action::Absent),
            same.map(|(send, until)| Action::Same { send, until }),
            listed,
            row,
            raw.point.map(Action::Point),
            raw.counters.map(Action::Counters),
            raw.end.map(Action::End),
        ];
        let mut actions = actions.into_iter().flatten();
        let (Some(action), None) = (actions.next(), actions.next()) else {
            return Err(
                "a step has exactly one of expect, send, absent, same (with until), listed (with until and file), row (with column and between), point, counters, end"
                    .into(),
            );
        };
        let usual = match action {
            Action::Point(_) => 0.0,
            _ => DEFAULT_SECONDS,
        };
        let time = |seconds| Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string());
        Ok(Self {
            action,
            wait: time(raw.seconds.unwrap_or(usual))?,
            long_wait: raw.long_seconds.map(time).transpose()?,
            only_long: raw.only_long,
        })
    }
}

/// The processors of a scenario that names none.
const USUAL: [Vendor; 2] = [Vendor::Amd, Vendor::Intel];

fn usual() -> Vec<Processor> {
    USUAL.map(Vendor::usual).into()
}

/// What the hypervisor, the root loader and a payload say when they cannot go on.
fn last_words() -> Vec<String> {
    [
        "Partita stopped",
        "the root cannot be started",
        "panicked at",
        "root kernel: ",
    ]
    .map(str::to_owned)
    .to_vec()
}

impl Scenario {
    /// Whether it has random points.
    pub fn is_random(&self) -> bool {
        let parts = [&self.steps, &self.cycle, &self.after];
        let mut steps = parts.into_iter().flatten();
        steps.any(|step| matches!(step.action, Action::Point(_)))
    }

    /// How many processors the machines have that have this one.
    pub fn cpus_on(&self, processor: &Processor) -> Vec<u32> {
        match processor {
            _ if self.cpus.is_empty() => vec![self.machine.cpus],
            Processor::Bochs(_) if !self.cpus_in_bochs.is_empty() => self.cpus_in_bochs.clone(),
            _ => self.cpus.clone(),
        }
    }

    /// Does as much in Bochs as in QEMU, and takes the long texts of members and the long waits for them.
    pub fn lengthen(&mut self) {
        self.is_long = true;
        self.cycles_in_bochs = None;
        self.cpus_in_bochs.clear();
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

    /// Reads the scenario in `file`.
    ///
    /// # Errors
    /// If it cannot be read or is not a scenario.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read {}", file.display()))?;
        let mut scenario: Self = toml::from_str(&text)
            .with_context(|| format!("{} is not a scenario", file.display()))?;
        scenario.name = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        scenario.file = file.to_path_buf();
        let all = scenario.cpus.iter().chain(&scenario.cpus_in_bochs);
        if all.clone().any(|cpus| *cpus == 0) || scenario.cpus.is_empty() && all.count() != 0 {
            bail!("{}: cpus names no machine", file.display());
        }
        for member in &scenario.member {
            let long_alone = member.long_text.is_some() && member.text.is_none();
            if member.text.is_some() == member.file.is_some() || long_alone {
                bail!(
                    "{}: the member {} needs either text, with or without a long_text, or file",
                    file.display(),
                    member.name
                );
            }
        }
        Ok(scenario)
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
        files.iter().map(|file| Self::read(file)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Scenario};

    #[test]
    fn a_step_does_exactly_one_thing() {
        let both = "about = \"\"\n[[step]]\nexpect = \"a\"\nsend = \"b\"\n";
        assert!(toml::from_str::<Scenario>(both).is_err());
        let one = "about = \"\"\n[[step]]\nexpect = \"a\"\nseconds = 1.5\n";
        let scenario: Scenario = toml::from_str(one).unwrap();
        assert_eq!(scenario.steps[0].action, Action::Expect("a".into()));
        assert_eq!(scenario.steps[0].wait.as_millis(), 1500);
    }

    #[test]
    fn a_scenario_about_a_model_keeps_it() {
        let usual = |on: &str| {
            let text = format!("about = \"\"\nstep = []\non = {on}");
            let mut scenario: Scenario = toml::from_str(&text).unwrap();
            scenario.only_usual();
            scenario.on.len()
        };
        assert_eq!(usual("[\"amd\", \"ryzen\", \"tigerlake\", \"intel\"]"), 2);
        assert_eq!(usual("[\"core2_penryn_t9600\"]"), 1);
    }

    #[test]
    fn a_long_run_takes_the_long_text_and_waits_longer_for_it() {
        let text = "about = \"\"\n[[member]]\nname = \"a\"\ntext = \"5\"\nlong_text = \"600\"\n\
                    [[member]]\nname = \"b\"\ntext = \"x\"\n\
                    [[step]]\nexpect = \"c\"\nseconds = 10\nlong_seconds = 700\n\
                    [[step]]\nexpect = \"d\"\nseconds = 20\n";
        let mut scenario: Scenario = toml::from_str(text).unwrap();
        let seen = |scenario: &Scenario| {
            let texts = scenario.member.iter().filter_map(|m| m.text.clone());
            let waits = scenario.steps.iter().map(|step| step.wait.as_secs());
            (
                texts.collect::<Vec<_>>().join(" "),
                waits.collect::<Vec<_>>(),
            )
        };
        assert_eq!(seen(&scenario), ("5 x".into(), vec![10, 20]));
        scenario.lengthen();
        assert_eq!(seen(&scenario), ("600 x".into(), vec![700, 20]));
    }

    #[test]
    fn unknown_keys_are_errors() {
        assert!(toml::from_str::<Scenario>("about = \"\"\nstep = []\nfsat = true\n").is_err());
    }
}
