//! A scenario on one processor.

use std::path::PathBuf;

use super::scenario::Scenario;
use crate::machine::{Machine, Processor, Vendor};
use crate::paths;

/// The suite is to say the same of the same tree; `cargo xtask fuzz`, and another seed, look further.
pub const USUAL_SEED: u32 = 1;

/// One scenario, to be run on one kind of processor.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The processor.
    pub processor: &'a Processor,
    /// How many of them the machine has.
    pub cpus: u32,
    /// What its random points come from.
    pub seed: u32,
}

impl<'a> Case<'a> {
    /// All processors of all scenarios, or those of one vendor.
    pub fn all(scenarios: &'a [Scenario], vendor: Option<Vendor>) -> Vec<Self> {
        let of = |scenario: &'a Scenario| {
            scenario.on.iter().flat_map(move |processor| {
                let machines = scenario.all_cpus().into_iter();
                machines.map(move |cpus| Self {
                    scenario,
                    processor,
                    cpus,
                    seed: USUAL_SEED,
                })
            })
        };
        scenarios
            .iter()
            .flat_map(of)
            .filter(|case| vendor.is_none_or(|vendor| case.processor.vendor() == vendor))
            .collect()
    }

    /// The processor, as the reader is told, and how many, if the scenario runs on several numbers of them.
    pub fn machine(&self) -> String {
        let vendor = self.processor.vendor().name();
        let mut text = if self.processor.is_usual() {
            vendor.into()
        } else {
            format!("{vendor} {}", self.processor)
        };
        if !self.scenario.cpus.is_empty() {
            text += &format!(" x {}", self.cpus);
        }
        text
    }

    /// The emulated machine.
    pub fn computer(&self) -> Machine {
        Machine {
            cpus: self.cpus,
            ..self.scenario.machine.clone()
        }
    }

    /// Why it cannot run: it is reported as skipped with this reason.
    pub fn obstacle(&self) -> Option<String> {
        let scenario = self.scenario;
        let emulator = match self.processor {
            Processor::Qemu => "qemu",
            Processor::Bochs(_) => "bochs",
        };
        let names = [
            &self.processor.to_string(),
            emulator,
            self.processor.vendor().name(),
        ];
        let here = names.iter().find_map(|name| scenario.skip_on.get(*name));
        let lacks = || self.processor.lacks(&scenario.machine).map(str::to_owned);
        scenario
            .skip
            .clone()
            .or_else(|| here.cloned())
            .or_else(lacks)
    }

    /// How often the scenario's cycle is played.
    pub fn cycles(&self) -> usize {
        let cycles = self.scenario.cycles;
        match self.processor {
            Processor::Qemu => cycles,
            Processor::Bochs(_) => self.scenario.cycles_in_bochs.unwrap_or(cycles),
        }
    }

    /// The file `target/scenarios/NAME.ENDING`; the name is the scenario's, the model's if it is one of Bochs', and the number
    /// of processors if the scenario has several.
    pub fn file(&self, ending: &str) -> PathBuf {
        let mut name = match self.processor {
            Processor::Qemu => self.scenario.name.clone(),
            Processor::Bochs(model) => format!("{}.{model}", self.scenario.name),
        };
        if !self.scenario.cpus.is_empty() {
            name += &format!(".{}", self.cpus);
        }
        paths::target("scenarios").join(name + ending)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Case, Scenario, Vendor};

    fn scenario(text: &str) -> Scenario {
        toml::from_str(&format!("about = \"\"\nstep = []\n{text}")).unwrap()
    }

    #[test]
    fn a_vendor_takes_its_processors() {
        let all = [scenario("on = [\"amd\", \"ryzen\", \"tigerlake\"]")];
        let machines = |vendor| -> Vec<String> {
            let cases = Case::all(&all, vendor);
            cases.iter().map(Case::machine).collect()
        };
        assert_eq!(machines(None).len(), 3);
        assert_eq!(machines(Some(Vendor::Amd)), ["amd", "amd ryzen"]);
        assert_eq!(machines(Some(Vendor::Intel)), ["intel tigerlake"]);
    }

    #[test]
    fn machines_differ_in_their_processors() {
        let text =
            "on = [\"amd\", \"intel\"]\ncpus = [1, 4]\nshort_cpus = [4]\ncycles_in_bochs = 1";
        let mut all = [scenario(text)];
        let machines = |all: &[Scenario]| -> Vec<String> {
            let cases = Case::all(all, None);
            cases.iter().map(Case::machine).collect()
        };
        assert_eq!(machines(&all), ["amd x 4", "intel x 4"]);
        let files = |all: &[Scenario]| -> BTreeSet<_> {
            let cases = Case::all(all, None);
            cases.iter().map(|case| case.file(".log")).collect()
        };
        assert_eq!(files(&all).len(), 2);
        all[0].lengthen();
        assert_eq!(
            machines(&all),
            ["amd x 1", "amd x 4", "intel x 1", "intel x 4"]
        );
        assert_eq!(files(&all).len(), 4);
        assert_eq!(all[0].cycles_in_bochs, None);
        let plain = [scenario("[machine]\ncpus = 3")];
        assert_eq!(Case::all(&plain, None)[0].computer().cpus, 3);
    }

    #[test]
    fn what_an_emulator_lacks_is_an_obstacle_there() {
        let all = [scenario(
            "on = [\"amd\", \"ryzen\", \"haswell\"]\nskip_on = { ryzen = \"a\", bochs = \"b\" }",
        )];
        let obstacles: Vec<_> = Case::all(&all, None).iter().map(Case::obstacle).collect();
        assert_eq!(obstacles, [None, Some("a".into()), Some("b".into())]);
        let qemu = [scenario(
            "on = [\"amd\", \"intel\"]\n[machine]\ncpu = \"max,-npt\"",
        )];
        let obstacles: Vec<_> = Case::all(&qemu, None).iter().map(Case::obstacle).collect();
        assert!(obstacles[0].is_none() && obstacles[1].is_some());
    }
}
