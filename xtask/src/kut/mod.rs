//! `cargo xtask kut`: the Hyper-V tests of kvm-unit-tests, built by the user, as payloads in VMs.
//!
//! All of them are VMs of one machine, which is booted once with each vendor's virtualization; one after the other is started, and
//! judged by what it prints on its serial line and by how it ends (`verdict`). They are multiboot images that start in xAPIC mode,
//! take the number of processors from an environment module, and want QEMU's hyperv-testdev.

mod verdict;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use toml::{Table, Value};

use crate::machine::{Emulators, Vendor};
use crate::system::{Needs, System};
use crate::test::case::Case;
use crate::test::emulator;
use crate::test::report::{Counts, Outcome, Status};
use crate::test::scenario::Scenario;
use crate::test::serial::SerialLine;
use verdict::Verdict;

/// Processors of each VM: as many as the tests' own list gives them.
const PROCESSORS: u32 = 2;
/// What the tests ask their environment for: how many processors there are, and whether port 0xF4 takes their exit status.
const ENVIRONMENT: &str = "TEST_DEVICE=1\n";
/// The archive member with it.
const MODULE: &str = "kut/environment";
/// Enough for the tests, which have 64 MiB at least wherever else they run.
const MEMORY: &str = "64 MiB";
/// How long the machine may take to its prompt.
const BOOT: Duration = Duration::from_secs(120);
/// How long a VM may take to stop, and how long nothing comes when it has.
const STOP: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_secs(3);
/// What makes the console leave the VM that it is attached to.
const DETACH: &str = "\u{1d}d";
/// Lines that are shown of a test that failed.
const TAIL: usize = 30;

/// One of the tests.
struct Test {
    /// Its name, and the VM's.
    name: &'static str,
    /// Its image, without the ending.
    image: &'static str,
    /// Its arguments.
    arguments: &'static str,
}

const fn test(name: &'static str, image: &'static str, arguments: &'static str) -> Test {
    Test {
        name,
        image,
        arguments,
    }
}

/// The tests of the group `hyperv`.
const TESTS: [Test; 5] = [
    test("hyperv_synic", "hyperv_synic", ""),
    test("hyperv_connections", "hyperv_connections", ""),
    test("hyperv_stimer", "hyperv_stimer", ""),
    test("hyperv_stimer_direct", "hyperv_stimer", "direct"),
    test("hyperv_clock", "hyperv_clock", ""),
];

/// Options of the command.
#[derive(Args, Debug)]
pub struct Kut {
    /// The folder with the built images, or the one above its x86/
    #[arg(long, value_name = "PATH")]
    dir: PathBuf,
    /// Run only tests whose name contains this
    filter: Option<String>,
    /// Whose virtualization; without it, both
    #[arg(long, value_enum)]
    vendor: Option<Vendor>,
    /// Processors of the machine
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// How long a test may take in QEMU; twice that in Bochs
    #[arg(long, value_name = "NUMBER", default_value_t = 300)]
    seconds: u64,
}

/// Runs the command; returns whether no test failed or stayed silent.
///
/// # Errors
/// If an image is missing, or something that the tests need cannot be set up.
pub fn kut(options: &Kut) -> Result<bool> {
    let wanted = |test: &&Test| {
        let filter = options.filter.as_deref();
        filter.is_none_or(|part| test.name.contains(part))
    };
    let tests: Vec<&Test> = TESTS.iter().filter(wanted).collect();
    if tests.is_empty() {
        let names: Vec<_> = TESTS.iter().map(|test| test.name).collect();
        bail!("no such test; there are {}", names.join(", "));
    }
    let images = find(&options.dir, &tests)?;
    let scenarios = [scenario(&images, options.cpus)?];
    let cases = Case::all(&scenarios, options.vendor);
    let emulators = Emulators::find(cases.iter().map(|case| case.processor))?;
    let system = System::build(&Needs::default())?;
    let mut outcomes = Vec::new();
    for case in &cases {
        let longest = Duration::from_secs(options.seconds) * case.processor.patience();
        outcomes.extend(run(&system, &emulators, case, &tests, longest)?);
    }
    let counts = |sum: Counts, outcome: &Outcome| sum.plus(Counts::one(outcome.status));
    let total = outcomes.iter().fold(Counts::default(), counts);
    println!(
        "{} passed, {} failed, {} skipped",
        total.passed, total.failed, total.skipped
    );
    Ok(total.failed == 0)
}

/// The image of each test.
///
/// # Errors
/// Naming all that are missing, and how they are built.
fn find<'a>(folder: &Path, tests: &[&'a Test]) -> Result<Vec<(&'a Test, PathBuf)>> {
    let image = |test: &Test| {
        let folders = [folder.to_path_buf(), folder.join("x86")];
        let files = folders.iter().flat_map(|folder| {
            let name = |ending| folder.join(format!("{}.{ending}", test.image));
            [name("flat"), name("elf")]
        });
        files.into_iter().find(|file| file.is_file())
    };
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for &test in tests {
        match image(test) {
            Some(file) => found.push((test, std::path::absolute(file)?)),
            None if missing.contains(&test.image) => {}
            None => missing.push(test.image),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let targets: Vec<_> = missing
        .iter()
        .map(|name| format!("x86/{name}.flat"))
        .collect();
    bail!(
        "{} has no {} (.flat or .elf). In the sources of kvm-unit-tests: ./configure --arch=x86_64 && make {}",
        folder.display(),
        missing.join(", "),
        targets.join(" ")
    )
}

/// A machine with a VM for each test.
fn scenario(images: &[(&Test, PathBuf)], cpus: u32) -> Result<Scenario> {
    let vms = images
        .iter()
        .map(|(test, image)| Value::from(vm(test, image)));
    let mut environment = member(MODULE);
    let text = format!("NR_CPUS={PROCESSORS}\n{ENVIRONMENT}");
    environment.insert("text".into(), text.into());
    let mut members = vec![Value::from(environment)];
    for (index, (_, image)) in images.iter().enumerate() {
        let same = |(_, other): &(&Test, PathBuf)| other == image;
        if images.iter().position(same) == Some(index) {
            let mut member = member(&name_of(image));
            member.insert("file".into(), image.display().to_string().into());
            members.push(member.into());
        }
    }
    let mut table = Table::new();
    table.insert("about".into(), "the Hyper-V tests of kvm-unit-tests".into());
    table.insert("vm".into(), vms.collect::<Vec<_>>().into());
    table.insert("member".into(), members.into());
    table.insert("step".into(), Value::Array(Vec::new()));
    let mut scenario: Scenario = table.try_into().context("the scenario of the tests")?;
    scenario.name = "kut".into();
    scenario.machine.cpus = cpus;
    Ok(scenario)
}

fn member(name: &str) -> Table {
    let mut member = Table::new();
    member.insert("name".into(), name.into());
    member
}

/// Name of the archive member with an image.
fn name_of(image: &Path) -> String {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    format!("kut/{name}")
}

/// A definition.
fn vm(test: &Test, image: &Path) -> Table {
    // The first word of a command line is the program's name to them.
    let cmdline = format!("{} {}", test.image, test.arguments);
    let mut vm = Table::new();
    for (key, value) in [
        ("name", test.name.into()),
        ("memory", MEMORY.into()),
        ("processors", PROCESSORS.into()),
        ("kernel", name_of(image).into()),
        ("module", MODULE.into()),
        ("boot", "multiboot".into()),
        ("cmdline", cmdline.trim_end().into()),
        ("apic", "xapic".into()),
        ("vmbus", false.into()),
        ("debug_exit", true.into()),
        ("hyperv_testdev", true.into()),
    ] {
        let _: Option<Value> = vm.insert(key.into(), value);
    }
    vm
}

/// Boots the machine, and runs one test after the other; prints a line for each.
fn run(
    system: &System,
    emulators: &Emulators,
    case: &Case,
    tests: &[&Test],
    longest: Duration,
) -> Result<Vec<Outcome>> {
    let image = emulator::prepare(system, case)?;
    let mut line = emulator::boot(emulators, case, &image)?;
    line.expect("partita> ", BOOT * case.processor.patience())
        .with_context(|| format!("the machine with {}", case.machine()))?;
    let mut outcomes = Vec::new();
    for test in tests {
        let started = Instant::now();
        // A machine that has ended fails all that come after it, each with its own line.
        let verdict = play(&mut line, test.name, longest)
            .unwrap_or_else(|error| Verdict::failed(format!("{error:#}")));
        let result = match verdict.status {
            Status::Passed => Ok(()),
            status => Err((status, verdict.reason.clone())),
        };
        let mut outcome = Outcome::of(case, started.elapsed(), result);
        outcome.name = test.name.into();
        outcome.counts = verdict.counts;
        // Not all of it ran.
        let skipped = outcome.status == Status::Passed && !verdict.reason.is_empty();
        outcome.note = skipped.then(|| verdict.reason.clone());
        outcome.print("kut");
        if outcome.status == Status::Failed {
            let log = case.file(".log");
            println!("---- its last lines; {} has all ----", log.display());
            println!("{}\n----", verdict.tail(TAIL));
        }
        outcomes.push(outcome);
    }
    drop(line);
    emulator::drop_files(
        &image,
        case,
        outcomes.iter().all(|o| o.status != Status::Failed),
    );
    Ok(outcomes)
}

/// Starts a VM, waits for its end, and judges what it printed.
///
/// # Errors
/// If the machine is at its end.
fn play(line: &mut SerialLine, name: &str, longest: Duration) -> Result<Verdict> {
    line.send(&format!("vm start {name}\r"))?;
    line.send(&format!("vm attach {name}\r"))?;
    let begins = format!("[attached to {name}; Ctrl-] d detaches]");
    // What the manager says of its end.
    let notice = format!("[{name}: ");
    let verdict = match line.answer(&notice, longest) {
        Ok(printed) => {
            let end = line.answer("]", STOP)?;
            let printed = printed.rsplit(&begins).next().unwrap_or_default();
            let printed = printed.strip_suffix(&notice).unwrap_or(printed);
            verdict::judge(printed.trim(), end.trim_end_matches(']'))
        }
        Err(error) => {
            let printed = line.transcript().text();
            let printed = printed.rsplit(&begins).next().unwrap_or_default();
            verdict::without_end(printed.trim(), &format!("{error:#}"))
        }
    };
    if !verdict.has_ended {
        // The next one needs the console, and no neighbour.
        for text in [DETACH, "\r", &format!("vm kill {name}\r")] {
            line.send(text)?;
        }
        line.listen(QUIET, STOP);
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests;
