//! A scene that was played: what was marked, and what the counters' line has told.

use anyhow::{Context, Result, bail};

use super::chart::{Chart, Curve};
use super::verdict::{SCENES, Verdict};
use crate::machine::Emulators;
use crate::system::System;
use crate::test::case::Case;
use crate::test::counters::samples::{Memory, Sample};
use crate::test::emulator::{self, Marks};

/// The VM that the scenes are about.
pub const WATCHED: &str = "watched";

/// A scene that was played.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// The scene, its kernel and the processor.
    pub title: String,
    /// What happens in it.
    pub about: String,
    /// The machine, and its VMs with their limits, a line each.
    pub setting: Vec<String>,
    /// Times with names.
    pub marks: Marks,
    /// What was told, in the order of time.
    pub samples: Vec<Sample>,
    /// What was to be seen, and what was.
    pub verdicts: Vec<Verdict>,
}

impl Record {
    /// The title of a scene.
    pub fn title_of(case: &Case) -> String {
        let (scene, kernel) = parts(&case.scenario.name);
        format!("{scene}, Linux {kernel}, {}", case.machine())
    }

    /// Plays a scene.
    ///
    /// # Errors
    /// If it does not come to its end, or a sample does not add up.
    pub fn play(system: &System, emulators: &Emulators, case: &Case) -> Result<Self> {
        let image = emulator::prepare(system, case)?;
        let mut line = emulator::boot(emulators, case, &image)?;
        let played = emulator::play(&mut line, case);
        emulator::drop_files(&image, case, played.is_ok());
        let marks = match played {
            Ok(marks) => marks,
            Err(error) => bail!("{error:#}\n{}", line.transcript().tail(40)),
        };
        let samples = emulator::checked_samples(&mut line, case)?;
        let mut record = Self {
            title: Self::title_of(case),
            about: case.scenario.about.clone(),
            setting: setting(case)?,
            marks,
            samples,
            verdicts: Vec::new(),
        };
        let place = place(&case.scenario.name).and_then(|place| SCENES.get(place));
        let (_, judge) = place.context("nobody knows what is to be seen in this scene")?;
        record.verdicts = judge(&record)?;
        Ok(record)
    }

    /// The time with a name, 100 ns.
    ///
    /// # Errors
    /// If the scene did not mark it.
    pub fn mark(&self, name: &str) -> Result<u64> {
        let mark = self.marks.iter().find(|(known, _)| known == name);
        let (_, time) = mark.with_context(|| format!("the scene did not mark {name:?}"))?;
        Ok(*time)
    }

    /// The watched VM's counters, with the times of their samples.
    pub fn watched(&self) -> impl DoubleEndedIterator<Item = (u64, &Memory)> {
        self.samples
            .iter()
            .filter_map(|sample| Some((sample.time, sample.vms.get(WATCHED)?)))
    }

    /// Seconds since the first sample.
    fn seconds(&self, time: u64) -> f64 {
        let first = self.samples.first().map_or(0, |sample| sample.time);
        time.saturating_sub(first) as f64 / 1e7
    }

    /// A curve of what each sample has.
    fn curve(&self, name: &str, value: impl Fn(&Sample) -> Option<u64>) -> Curve {
        let points = self.samples.iter();
        let points = points.filter_map(|sample| Some((self.seconds(sample.time), value(sample)?)));
        Curve::steps(name, points)
    }

    fn of_vm(&self, label: &str, vm: &str, counter: &str) -> Curve {
        self.curve(label, |sample| Some(sample.vms.get(vm)?.get(counter)))
    }

    fn of_balancer(&self, counter: &str) -> Curve {
        self.curve(counter, |sample| {
            Some(sample.balancer.get(counter).copied().unwrap_or(0))
        })
    }

    fn chart(&self, title: &str, unit: &'static str, curves: Vec<Curve>) -> Chart {
        let marks = self.marks.iter();
        Chart {
            title: title.into(),
            unit,
            curves,
            marks: marks
                .map(|(name, time)| (self.seconds(*time), name.clone()))
                .collect(),
        }
    }

    /// What the VMs see and have.
    pub fn memory_chart(&self) -> Chart {
        let title = format!("Memory: {}", self.title);
        let mut curves = vec![
            self.of_vm(
                "Guest Visible Physical Memory",
                WATCHED,
                "Guest Visible Physical Memory",
            ),
            self.of_vm("Physical Memory", WATCHED, "Physical Memory"),
        ];
        let mut names: Vec<&String> = self.samples.iter().flat_map(|s| s.vms.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names.into_iter().filter(|name| *name != WATCHED) {
            curves.push(self.of_vm(&format!("{name}: Physical Memory"), name, "Physical Memory"));
        }
        self.chart(&title, "MiB", curves)
    }

    /// All charts.
    pub fn charts(&self) -> Vec<Chart> {
        let of = |counter: &str| self.of_vm(counter, WATCHED, counter);
        let pressures = vec![of("Current Pressure"), of("Average Pressure")];
        let available = ["Available Memory", "Available Memory For Balancing"];
        let operations = ["Memory Add Operations", "Memory Remove Operations"];
        vec![
            self.memory_chart(),
            self.chart("Pressure of the watched VM", "%", pressures),
            self.chart(
                "What the balancer has",
                "MiB",
                available.map(|name| self.of_balancer(name)).into(),
            ),
            self.chart(
                "Operations of the watched VM",
                "",
                operations.map(of).into(),
            ),
        ]
    }
}

/// Where a scenario has its place in the report.
pub fn place(name: &str) -> Option<usize> {
    let (scene, _) = parts(name);
    SCENES.iter().position(|(known, _)| *known == scene)
}

/// The scene and the kernel in a scenario's name.
fn parts(name: &str) -> (&str, &str) {
    name.split_once('-').unwrap_or((name, "?"))
}

/// The machine and its VMs, for the reader.
fn setting(case: &Case) -> Result<Vec<String>> {
    let machine = &case.scenario.machine;
    let mut lines = vec![format!(
        "machine: {} processor, {}, -icount shift={},sleep=off",
        machine.cpus, machine.memory, machine.icount_shift
    )];
    for (name, limits) in case.scenario.limits()? {
        lines.push(format!(
            "{name}: startup {} MiB, minimum {} MiB, maximum {} MiB",
            limits.startup, limits.minimum, limits.maximum
        ));
    }
    Ok(lines)
}
