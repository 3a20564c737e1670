//! What was to be seen, and whether it was (sheet of Dynamic Memory, 3.4 and 3.5).

use std::fmt;

use anyhow::{Context, Result};
use balancer::linux_floor;

use super::record::Record;
use crate::test::counters::samples::Memory;

/// Reference time of a second.
const SECOND: u64 = 10_000_000;
/// Growth that is meant to follow at once comes within so many seconds.
const AT_ONCE: u64 = 10;
/// When the second step is to come, seconds after the first: about 30.
const SECOND_STEP: [u64; 2] = [25, 40];
/// How many seconds nothing happens after the release at least: several minutes.
const PLATEAU: u64 = 180;

/// An observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What was to be seen.
    pub expected: String,
    /// What was.
    pub seen: String,
    /// Whether that is it.
    pub good: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.good { "ok    " } else { "FAILED" };
        write!(f, "{word} {}: {}", self.expected, self.seen)
    }
}

fn verdict(expected: &str, good: bool, seen: String) -> Verdict {
    Verdict {
        expected: expected.into(),
        seen,
        good,
    }
}

/// What is to be seen in a scene.
pub type Judge = fn(&Record) -> Result<Vec<Verdict>>;

/// The scenes in the order of the report, with their judges.
pub const SCENES: [(&str, Judge); 2] = [("watching", watching), ("growing", growing)];

/// A VM's counters at times.
struct Course<'a>(Vec<(u64, &'a Memory)>);

impl<'a> Course<'a> {
    fn of(record: &'a Record) -> Self {
        Self(record.watched().collect())
    }

    /// The samples from `from` to before `to`.
    fn within(&self, from: u64, to: u64) -> Course<'a> {
        let inside = self.0.iter().filter(|(time, _)| (from..to).contains(time));
        Course(inside.copied().collect())
    }

    fn after(&self, from: u64) -> Course<'a> {
        self.within(from, u64::MAX)
    }

    fn first(&self) -> Result<&'a Memory> {
        let first = self.0.first().context("there is no sample of the VM")?;
        Ok(first.1)
    }

    fn last(&self) -> Result<&'a Memory> {
        let last = self.0.last().context("there is no sample of the VM")?;
        Ok(last.1)
    }

    /// When a counter first differs from what it is in the first sample.
    fn changes(&self, counter: &str) -> Option<u64> {
        let first = self.0.first()?.1.get(counter);
        let mut all = self.0.iter();
        let found = all.find(|(_, memory)| memory.get(counter) != first)?;
        Some(found.0)
    }

    /// The least and the most of a counter.
    fn range(&self, counter: &str) -> (u64, u64) {
        let values = self.0.iter().map(|(_, memory)| memory.get(counter));
        let least = values.clone().min().unwrap_or(0);
        (least, values.max().unwrap_or(0))
    }
}

fn sizes(memory: &Memory) -> String {
    format!(
        "visible {} MiB, physical {} MiB",
        memory.visible(),
        memory.physical()
    )
}

/// Whole seconds from `from` to `to`.
fn seconds(from: u64, to: u64) -> u64 {
    to.saturating_sub(from) / SECOND
}

/// A guest commits much, holds it and lets it go.
///
/// # Errors
/// If the scene has not marked what it should, or has no samples where they are needed.
fn watching(record: &Record) -> Result<Vec<Verdict>> {
    let course = Course::of(record);
    let (commits, let_go) = (record.mark("commits")?, record.mark("let go")?);
    let before = course.within(0, commits).last()?;
    let mut verdicts = vec![verdict(
        "before, the guest sees more than it has",
        before.visible() > before.physical(),
        sizes(before),
    )];
    verdicts.extend(growth(&course, before, commits, let_go)?);
    let held = course.within(commits, let_go).last()?;
    verdicts.extend(release(&course, before, held, let_go)?);
    Ok(verdicts)
}

/// From the commitment to its release.
fn growth(course: &Course, before: &Memory, commits: u64, let_go: u64) -> Result<Vec<Verdict>> {
    let held = course.within(commits, let_go);
    let rise = before.get("Current Pressure");
    let (_, most) = held.range("Current Pressure");
    let mut verdicts = vec![verdict(
        "pressure rises above 100",
        rise < 100 && most > 100,
        format!("from {rise} % to {most} %"),
    )];
    let Some(first) = held.changes("Added Memory") else {
        let nothing = verdict("memory is added at once", false, "nothing is added".into());
        verdicts.push(nothing);
        return Ok(verdicts);
    };
    let step = held.within(first, first + AT_ONCE * SECOND).last()?;
    verdicts.push(verdict(
        "within seconds both jump to the same value",
        seconds(commits, first) <= AT_ONCE && step.visible() == step.physical(),
        format!("{} s later {}", seconds(commits, first), sizes(step)),
    ));
    let second = held.after(first + AT_ONCE * SECOND);
    let (good, seen) = match second.changes("Added Memory") {
        None => (false, "there is none".into()),
        Some(time) => {
            let after = seconds(first, time);
            let in_time = (SECOND_STEP[0]..=SECOND_STEP[1]).contains(&after);
            let grown = second.last()?;
            let good = in_time && grown.visible() == grown.physical();
            (good, format!("{after} s later {}", sizes(grown)))
        }
    };
    verdicts.push(verdict("a second jump about 30 s later", good, seen));
    let end = held.last()?;
    verdicts.push(verdict(
        "which relieves the pressure",
        end.get("Current Pressure") < 100,
        format!("{} %", end.get("Current Pressure")),
    ));
    Ok(verdicts)
}

/// From the release on.
fn release(course: &Course, before: &Memory, held: &Memory, let_go: u64) -> Result<Vec<Verdict>> {
    let free = course.after(let_go);
    let end = free.last()?;
    let trimmed = free.changes("Physical Memory");
    let plateau = trimmed.map(|time| seconds(let_go, time));
    let long = plateau.is_some_and(|plateau| plateau >= PLATEAU);
    let near = end.physical().abs_diff(before.physical()) * 10 <= before.physical();
    Ok(vec![
        verdict(
            "both stay for minutes after the release",
            long && free.first()?.physical() == held.physical(),
            match plateau {
                Some(plateau) => format!("{plateau} s at {}", sizes(held)),
                None => "they stay for good".into(),
            },
        ),
        verdict(
            "then physical memory falls back near its value before",
            trimmed.is_some() && near,
            format!("{} MiB, before {} MiB", end.physical(), before.physical()),
        ),
        verdict(
            "and what the guest sees stays",
            free.range("Guest Visible Physical Memory") == (held.visible(), held.visible()),
            format!("{} MiB", end.visible()),
        ),
    ])
}

/// A guest is short while others hold the rest, and grows when they end.
///
/// # Errors
/// As [`watching`].
fn growing(record: &Record) -> Result<Vec<Verdict>> {
    let course = Course::of(record);
    let (short, others_end) = (record.mark("is short")?, record.mark("others end")?);
    let waiting = course.within(short, others_end);
    let before = waiting.last()?;
    let after = course.last()?;
    let (least, most) = waiting.range("Current Pressure");
    let grown = course.after(others_end);
    let grows = grown.changes("Physical Memory");
    let size = before.visible();
    let settled = grown.after(grows.unwrap_or(u64::MAX).saturating_add(AT_ONCE * SECOND));
    let (low, high) = settled.range("Current Pressure");
    let demand = |memory: &Memory| memory.get("Current Pressure") * memory.physical() / 100;
    let more = linux_floor(after.visible()).saturating_sub(linux_floor(size));
    Ok(vec![
        verdict(
            "with the others, pressure stands at 150 and nothing is added",
            least >= 145 && most <= 155 && waiting.changes("Added Memory").is_none(),
            format!(
                "{least} % to {most} % for {} s at {}",
                seconds(short, others_end),
                sizes(before)
            ),
        ),
        verdict(
            "once they have ended, it has and sees twice as much",
            after.visible() == 2 * size && after.physical() == 2 * size,
            sizes(after),
        ),
        verdict(
            "within a minute",
            grows.is_some_and(|time| seconds(others_end, time) <= 60),
            grows.map_or("never".into(), |time| {
                format!("{} s later", seconds(others_end, time))
            }),
        ),
        verdict(
            "the demand is as before, and what Linux's driver adds of its own for the larger memory",
            demand(after).abs_diff(demand(before) + more) * 50 <= demand(before),
            format!(
                "{} MiB, before {} MiB, of its own {more} MiB",
                demand(after),
                demand(before)
            ),
        ),
        verdict(
            "so pressure is at 75, or above it by that part, and stays there",
            low >= 73 && high <= 77 + 100 * more / after.visible().max(1),
            format!("{low} % to {high} %"),
        ),
    ])
}

#[cfg(test)]
mod tests;
