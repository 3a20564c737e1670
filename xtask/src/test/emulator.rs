//! Runs scenarios in the emulators.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::case::Case;
use super::counters::samples::{self, Sample};
use super::inquest;
use super::listed;
use super::random::Random;
use super::report::{Outcome, Status};
use super::scenario::{Action, Damage, SEED, Step};
use super::serial::SerialLine;
use crate::machine::{Emulators, Processor};
use crate::paths;
use crate::system::{Contents, DefinitionFile, System};

/// Lines of the serial log that are shown for a failed scenario.
const TAIL: usize = 40;

/// How long the output before a random point may take.
const LONGEST_WAY: Duration = Duration::from_secs(300);

/// Runs the scenarios, as many at once as this machine has processors but two at most, since one emulated machine may
/// use several. Prints a line for each as it ends.
pub fn run(system: &System, emulators: &Emulators, cases: &[Case]) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let lanes = std::thread::available_parallelism().map_or(1, |count| count.get().min(2));
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (outcome, tail) = run_one(system, emulators, case);
                    let Ok(mut outcomes) = outcomes.lock() else {
                        return;
                    };
                    outcome.print("scenario");
                    if let Some(tail) = tail {
                        println!("{tail}");
                    }
                    outcomes.push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_default()
}

/// Runs one; for a failure, also returns the end of its serial log.
fn run_one(system: &System, emulators: &Emulators, case: &Case) -> (Outcome, Option<String>) {
    let started = Instant::now();
    if let Some(reason) = case.obstacle() {
        let skipped = Err((Status::Skipped, reason));
        return (Outcome::of(case, started.elapsed(), skipped), None);
    }
    let mut tail = None;
    let result = prepare(system, case).and_then(|image| {
        let mut line = boot(emulators, case, &image)?;
        let result = play_all(&mut line, case);
        drop_files(&image, case, result.is_ok());
        if result.is_err() {
            let text = line.transcript().tail(TAIL);
            let last = format!(
                "---- last lines of {} ----\n{text}\n----",
                case.file(".log").display()
            );
            let answers = inquest::ask(&mut line, case).unwrap_or_default();
            tail = Some([last, answers].join("\n"));
        }
        result
    });
    let result = result.map_err(|error| (Status::Failed, format!("{error:#}")));
    let mut outcome = Outcome::of(case, started.elapsed(), result);
    if case.scenario.is_random() {
        outcome.note = Some(format!("seed {}", case.seed));
    }
    (outcome, tail)
}

/// Removes what is large: all of it after a success, of a failure what can be made again.
pub fn drop_files(image: &Path, case: &Case, passed: bool) {
    let folder = case.file("");
    let _ = std::fs::remove_file(folder.join("disk.img"));
    if passed {
        let _ = std::fs::remove_file(image);
        let _ = std::fs::remove_file(image.with_extension("archive"));
        if matches!(case.processor, Processor::Bochs(_)) {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

/// Makes the scenario's image.
///
/// # Errors
/// If the scenario asks for what is not there.
pub fn prepare(system: &System, case: &Case) -> Result<PathBuf> {
    let scenario = case.scenario;
    let mut contents = Contents {
        root: scenario.root.clone(),
        ..Contents::default()
    };
    for vm in &scenario.vm {
        let text = toml::to_string(vm)?;
        contents.definitions.push(DefinitionFile {
            file: scenario.file.clone(),
            text,
        });
    }
    for member in &scenario.member {
        let content = match (&member.text, &member.file) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(file)) => paths::read(&scenario.file.with_file_name(file))?,
            (None, None) => Vec::new(),
        };
        contents.members.push((member.name.clone(), content));
    }
    let mut archive = system.archive(&contents)?;
    damage(&mut archive, &scenario.damage)?;
    paths::target_dir("scenarios")?;
    let image = case.file(".img");
    if scenario.section_meter {
        system.write_metered_image(&archive, &image)?;
    } else {
        system.write_image(&archive, &image)?;
    }
    Ok(image)
}

/// Boots the scenario's image.
///
/// # Errors
/// If the emulator does not start.
pub fn boot(emulators: &Emulators, case: &Case, image: &Path) -> Result<SerialLine> {
    let file = case.file(".log");
    let log = File::create(&file).with_context(|| format!("cannot write {}", file.display()))?;
    let machine = &case.computer();
    let folder = case.file("");
    let link = emulators.boot(machine, case.processor, image, &folder, log.try_clone()?)?;
    Ok(SerialLine::new(link, log, case.scenario.forbid.clone()))
}

/// Times by their names: reference time of the machine, 100 ns.
pub type Marks = Vec<(String, u64)>;

/// Goes through the steps; returns what they have marked.
///
/// # Errors
/// Naming the first step that went wrong.
pub fn play(line: &mut SerialLine, case: &Case) -> Result<Marks> {
    let mut memory = Memory::of(case);
    play_part(line, case, &case.scenario.steps, &mut memory)?;
    Ok(memory.marks)
}

/// Waits for the machine's clock.
fn clock(line: &mut SerialLine, seconds: u64, wait: Duration) -> Result<()> {
    const SECOND: u64 = 10_000_000;
    let until = line.look()?.time() + seconds * SECOND;
    let what = format!("that {seconds} s have gone by in the machine");
    line.told(&what, wait, |lines| Ok(lines.time() >= until))
}

/// What goes from step to step.
struct Memory {
    /// What the steps with `same` brought first.
    answers: Answers,
    /// Where the random points are.
    random: Random,
    /// What SEED stands for.
    seed: u32,
    /// What was marked.
    marks: Marks,
}

type Answers = BTreeMap<String, String>;

impl Memory {
    fn of(case: &Case) -> Self {
        Self {
            answers: Answers::new(),
            random: Random::new(case.seed.wrapping_add(case.scenario.salt << 16)),
            seed: seed_of(case, 0),
            marks: Marks::new(),
        }
    }
}

/// What SEED stands for in a cycle; before and behind the cycles it is what cycle 0 would have.
fn seed_of(case: &Case, cycle: usize) -> u32 {
    case.seed.wrapping_mul(1000).wrapping_add(cycle as u32)
}

fn play_part(
    line: &mut SerialLine,
    case: &Case,
    steps: &[Step],
    memory: &mut Memory,
) -> Result<()> {
    for (number, step) in steps.iter().enumerate() {
        if step.only_long && !case.scenario.is_long {
            continue;
        }
        // How long something stays away is not how long something may take.
        let wait = step.wait * case.processor.patience();
        let result = match &step.action {
            Action::Expect(text) => line.expect(text, wait),
            Action::Send(text) => line.send(&text.replace(SEED, &memory.seed.to_string())),
            Action::Absent(text) => line.absent(text, step.wait),
            Action::Same { send, until } => same(line, send, until, wait, &mut memory.answers),
            Action::Listed { send, until, file } => {
                let answer = answer_to(line, send, until, wait)?;
                let printed = answer.strip_suffix(until.trim()).unwrap_or(&answer);
                let beside = case.scenario.file.parent().unwrap_or(Path::new(""));
                let vendor = case.processor.vendor().name();
                listed::compare(printed, &beside.join(file.replace("VENDOR", vendor)))
            }
            Action::Row {
                first,
                column,
                between,
            } => line.row(first, *column, *between, wait),
            Action::Point(most) => {
                let bytes = memory.random.up_to(*most);
                let time = wait.mul_f64(memory.random.part());
                line.point(
                    bytes as usize,
                    time,
                    LONGEST_WAY * case.processor.patience(),
                )
            }
            Action::Choose(texts) => line.send(memory.random.pick(texts)),
            Action::Counters(name) => {
                let what = format!("that {name:?} runs");
                line.told(&what, wait, |lines| lines.check(name))
            }
            Action::Clock(seconds) => clock(line, *seconds, wait),
            Action::Memory {
                vm,
                counter,
                between: [least, most],
            } => {
                let what = format!("{counter} of {vm} from {least} to {most}");
                let is_within = |value: u64| (*least..=*most).contains(&value);
                line.told(&what, wait, |lines| {
                    Ok(lines.newest(vm, counter).is_some_and(is_within))
                })
            }
            Action::Mark(name) => {
                let time = line.look()?.time();
                memory.marks.push((name.clone(), time));
                Ok(())
            }
            Action::End(end) => line.end(case.processor.sign(*end), wait),
        };
        result.with_context(|| format!("step {}", number + 1))?;
    }
    Ok(())
}

/// Goes through the steps, and then the cycles.
///
/// # Errors
/// As [`play`].
fn play_all(line: &mut SerialLine, case: &Case) -> Result<()> {
    let scenario = case.scenario;
    let mut memory = Memory::of(case);
    play_part(line, case, &scenario.steps, &mut memory)?;
    for cycle in 1..=case.cycles() {
        memory.seed = seed_of(case, cycle);
        play_part(line, case, &scenario.cycle, &mut memory)
            .with_context(|| format!("cycle {cycle}"))?;
    }
    memory.seed = seed_of(case, 0);
    play_part(line, case, &scenario.after, &mut memory).context("after the cycles")?;
    checked_samples(line, case).map(drop)
}

/// What the counters' line, if there is one, has told of Dynamic Memory: it fits together, in every sample.
///
/// # Errors
/// As [`samples::check`], and if a line does not keep to the schema.
pub fn checked_samples(line: &mut SerialLine, case: &Case) -> Result<Vec<Sample>> {
    if !case.scenario.machine.counters {
        return Ok(Vec::new());
    }
    let samples = line.look()?.samples();
    samples::check(&samples, &case.scenario.limits()?)?;
    if let Some(least) = case.scenario.operations {
        let found = samples::operations(&samples);
        ensure!(
            found >= least,
            "{found} operations of the balancer, and not {least}"
        );
    }
    Ok(samples)
}

/// Types a text, and returns what comes behind its echo.
fn answer_to(line: &mut SerialLine, send: &str, until: &str, wait: Duration) -> Result<String> {
    line.send(send)?;
    let answer = line.answer(until, wait)?;
    // What stands before the echo of the text belongs to others.
    let answer = answer.rsplit(send.trim()).next().unwrap_or(&answer);
    Ok(answer.trim().to_owned())
}

/// Types a text; its answer has to be the first one again.
fn same(
    line: &mut SerialLine,
    send: &str,
    until: &str,
    wait: Duration,
    answers: &mut Answers,
) -> Result<()> {
    let answer = answer_to(line, send, until, wait)?;
    match answers.entry(send.to_owned()) {
        Entry::Vacant(place) => {
            place.insert(answer);
        }
        Entry::Occupied(first) if *first.get() != answer => {
            bail!(
                "{send:?} answers differently now:\n{answer}\nand at first:\n{}",
                first.get()
            );
        }
        Entry::Occupied(_) => {}
    }
    Ok(())
}

/// Inverts the bytes named.
fn damage(archive: &mut [u8], places: &[Damage]) -> Result<()> {
    for place in places {
        let start = match &place.member {
            None => 0,
            Some(name) => {
                let member = boot_archive::Archive::open(archive)?
                    .member(name)
                    .map(|member| member.offset());
                usize::try_from(member.with_context(|| format!("damage: no member {name}"))?)?
            }
        };
        let byte = archive
            .get_mut(start + place.offset)
            .context("damage: the offset is past the archive's end")?;
        *byte = !*byte;
    }
    Ok(())
}
