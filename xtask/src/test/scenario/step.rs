//! What happens on the serial line.

use std::time::Duration;

use serde::Deserialize;

use crate::machine::End;

/// Wait of a step that names none: generous, because the machine is emulated on a busy host.
const DEFAULT_SECONDS: f64 = 60.0;

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
    /// The same in variants of these names.
    pub only_long_in: Vec<String>,
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
        between: [u64; 2],
    },
    /// Waits for a random point: so many bytes of output at most, and then at most as long as the step says.
    Point(u32),
    /// Types one of these texts, which the seed chooses.
    Choose(Vec<String>),
    /// Waits for counters of a partition that has run.
    Counters(String),
    /// Waits until so many seconds have gone by in the machine, by the counters' line.
    Clock(u64),
    /// Waits until a VM's counter of Dynamic Memory is within bounds.
    Memory {
        /// The VM.
        vm: String,
        /// The counter.
        counter: String,
        /// The least and the most.
        between: [u64; 2],
    },
    /// Remembers the machine's time, by the counters' line, under a name.
    Mark(String),
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
    between: Option<[u64; 2]>,
    point: Option<u32>,
    choose: Option<Vec<String>>,
    counters: Option<String>,
    clock: Option<u64>,
    memory: Option<String>,
    counter: Option<String>,
    mark: Option<String>,
    end: Option<End>,
    #[serde(default)]
    only_long: bool,
    #[serde(default)]
    only_long_in: Vec<String>,
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
        let memory = raw.memory.zip(raw.counter).zip(raw.between);
        let memory = memory.map(|((vm, counter), between)| Action::Memory {
            vm,
            counter,
            between,
        });
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
            raw.choose.map(Action::Choose),
            raw.counters.map(Action::Counters),
            raw.clock.map(Action::Clock),
            memory,
            raw.mark.map(Action::Mark),
            raw.end.map(Action::End),
        ];
        let mut actions = actions.into_iter().flatten();
        let (Some(action), None) = (actions.next(), actions.next()) else {
            return Err(
                "a step has exactly one of expect, send, absent, same (with until), listed (with until and file), row (with column and between), point, choose, counters, clock, memory (with counter and between), mark, end"
                    .into(),
            );
        };
        if matches!(&action, Action::Choose(texts) if texts.is_empty()) {
            return Err("choose has nothing to choose from".into());
        }
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
            only_long_in: raw.only_long_in,
        })
    }
}
