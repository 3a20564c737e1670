//! The life cycle of one VM: what a worker's end means, and what may be commanded when.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};

use root_abi::ExitReason;

use crate::definition::Restart;
use crate::host::WorkerEnd;
use crate::memory::{BOOT_TIME, QUIET_TIME};

/// One second in reference time, 100 ns units.
pub const SECOND: u64 = 10_000_000;
/// A VM that resets more often than this within [`STORM_TIME`] has failed.
pub const STORM_RESETS: usize = 5;
/// See [`STORM_RESETS`].
pub const STORM_TIME: u64 = 10 * SECOND;
/// How long a worker may take to stop before it is killed.
pub const STOP_TIME: u64 = 10 * SECOND;
/// How long a VM with a restart policy rests after its first end.
pub const FIRST_REST: u64 = SECOND;
/// Each rest is twice as long as the one before, up to this.
pub const LONGEST_REST: u64 = 60 * SECOND;
/// How long a VM waits for memory before its start has failed (sheet of Dynamic Memory, 2.8).
pub const WAIT_TIME: u64 = 60 * SECOND;
/// How long it waits at most, whatever others do meanwhile: a guest that resets again and again begins to boot each time.
pub const LONGEST_WAIT: u64 = BOOT_TIME + QUIET_TIME + WAIT_TIME;
/// A run as long as this makes the next rest a first one again.
pub const GOOD_RUN: u64 = 60 * SECOND;

/// What state a VM is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// No worker. The text says how the last run ended, or is empty.
    Off(String),
    /// The worker builds the VM.
    Starting,
    /// The guest runs.
    Running,
    /// The worker has been asked to stop.
    Stopping,
    /// No worker, and something is wrong: the text says what.
    Failed(String),
    /// No worker, but it will be started again soon. The text says how the last run ended.
    Resting(String),
    /// No worker, but it will be started when there is memory for it. The text says what is missing.
    Waiting(String),
}

impl State {
    /// One word for it.
    pub fn word(&self) -> &'static str {
        match self {
            State::Off(_) => "off",
            State::Starting => "starting",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Failed(_) => "failed",
            State::Resting(_) => "resting",
            State::Waiting(_) => "waiting",
        }
    }

    /// How the last run ended, or what a start waits for, if there is something to say.
    pub fn reason(&self) -> &str {
        match self {
            State::Off(reason)
            | State::Failed(reason)
            | State::Resting(reason)
            | State::Waiting(reason) => reason,
            _ => "",
        }
    }
}

/// What is to be done after a worker's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the VM stays off, or has failed.
    Rest,
    /// Start the VM again.
    Start,
    /// Start it again after this rest, 100 ns.
    StartAfter(u64),
}

/// How long a start waits for memory, and what follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patience {
    /// [`WAIT_TIME`]: then it has failed.
    #[default]
    Once,
    /// [`WAIT_TIME`]: then it rests, as it did before.
    Rested,
    /// As long as it takes: its guest has reset, and nobody is there who would start it again (sheet of Dynamic Memory, 2.5).
    Reset,
}

/// A VM's state and what it remembers.
#[derive(Clone, Debug)]
pub struct Life {
    state: State,
    /// When the current run started.
    since: u64,
    /// When it was asked to stop.
    asked: u64,
    /// Whether it is to start again once it has stopped.
    again: bool,
    /// Whether a person wants it to end.
    commanded: bool,
    /// Whether a person wants the guest to switch itself off.
    shutting_down: bool,
    /// Times of the last resets, at most [`STORM_RESETS`] + 1.
    resets: VecDeque<u64>,
    /// The last rest, 0 if there was none that counts.
    rest: u64,
    /// When the rest is over, or the wait.
    wake: u64,
    /// When the wait is over at the latest.
    latest: u64,
    /// How long it waits.
    patience: Patience,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            state: State::Off(String::new()),
            since: 0,
            asked: 0,
            again: false,
            commanded: false,
            shutting_down: false,
            resets: VecDeque::new(),
            rest: 0,
            wake: 0,
            latest: 0,
            patience: Patience::Once,
        }
    }
}

impl Life {
    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether there is a worker.
    pub fn has_worker(&self) -> bool {
        matches!(
            self.state,
            State::Starting | State::Running | State::Stopping
        )
    }

    /// How long the current run has lasted, if there is one; 100 ns.
    pub fn uptime(&self, now: u64) -> Option<u64> {
        self.has_worker().then(|| now.saturating_sub(self.since))
    }

    /// When a worker that is stopping will be killed, a VM that rests will be started, or one that waits has waited too long.
    pub fn deadline(&self) -> Option<u64> {
        match self.state {
            State::Stopping => Some(self.asked.saturating_add(STOP_TIME)),
            State::Waiting(_) if self.patience == Patience::Reset => None,
            State::Resting(_) | State::Waiting(_) => Some(self.wake),
            _ => None,
        }
    }

    /// Whether it waits for being started again.
    pub fn is_resting(&self) -> bool {
        matches!(self.state, State::Resting(_))
    }

    /// Whether it waits for memory.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    /// It has to wait for memory: `missing` says for how much.
    pub fn wait(&mut self, now: u64, missing: String, patience: Patience) {
        self.state = State::Waiting(missing);
        self.wake = now.saturating_add(WAIT_TIME);
        self.latest = now.saturating_add(LONGEST_WAIT);
        self.patience = patience;
    }

    /// If it waits, the time for that begins now, but it is no longer than [`LONGEST_WAIT`] in all.
    pub fn wait_on(&mut self, now: u64) {
        if self.is_waiting() {
            self.wake = now.saturating_add(WAIT_TIME).min(self.latest);
        }
    }

    /// How long it waits, if it does.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Whether it waits for a start that somebody asked for.
    pub fn waits_once(&self) -> bool {
        self.is_waiting() && self.patience == Patience::Once
    }

    /// Whether it waits for as long as it takes, because its guest has reset.
    pub fn waits_after_reset(&self) -> bool {
        self.is_waiting() && self.patience == Patience::Reset
    }

    /// It has waited, and cannot be started. If it had rested before, returns for how long it rests again.
    pub fn gave_up(&mut self, now: u64, reason: String) -> Option<u64> {
        self.failed(reason);
        (self.patience == Patience::Rested).then(|| self.rest(now))
    }

    /// A person does not want it to be started. Returns whether it would have been.
    pub fn stay(&mut self) -> bool {
        let reason = match &mut self.state {
            State::Resting(reason) => core::mem::take(reason),
            State::Waiting(_) => String::new(),
            _ => return false,
        };
        self.state = State::Off(reason);
        true
    }

    /// What was wrong is so no more: it has another definition.
    pub fn mended(&mut self) {
        if matches!(self.state, State::Failed(_)) {
            self.state = State::Off(String::new());
        }
    }

    /// A worker has been started.
    pub fn started(&mut self, now: u64) {
        self.state = State::Starting;
        self.since = now;
        self.again = false;
        self.commanded = false;
        self.shutting_down = false;
    }

    /// A person asked for the start: earlier resets and rests do not count any more.
    pub fn forget(&mut self) {
        self.resets.clear();
        self.rest = 0;
    }

    /// It could not be started.
    pub fn failed(&mut self, reason: String) {
        self.state = State::Failed(reason);
        self.again = false;
    }

    /// The guest runs. Returns whether that is news.
    pub fn running(&mut self) -> bool {
        let news = self.state == State::Starting;
        if news {
            self.state = State::Running;
        }
        news
    }

    /// Notes that the worker is being asked to stop, and whether it is to start again then. Returns whether it has to be
    /// asked: if there is a worker, and it was not asked before.
    pub fn stop(&mut self, now: u64, again: bool) -> bool {
        if !self.has_worker() {
            return false;
        }
        self.again = again;
        self.commanded = true;
        let first = self.state != State::Stopping;
        if first {
            self.state = State::Stopping;
            self.asked = now;
        }
        first
    }

    /// Notes that the guest is being asked to switch itself off: if it does so it will not start again. Any other end is as if
    /// nobody had asked, for a guest need not listen.
    pub fn shut_down(&mut self) {
        self.shutting_down = self.has_worker();
    }

    /// Notes that the worker is being killed: it will not start again.
    pub fn kill(&mut self) {
        self.again = false;
        self.commanded = true;
    }

    /// The time to stop is over: a kill is under way, and a restart that was wanted still is. The next deadline is as far
    /// away again.
    pub fn overdue(&mut self, now: u64) {
        self.asked = now;
    }

    /// The worker has ended; `policy` says what follows if nobody wanted that.
    pub fn ended(&mut self, now: u64, end: &WorkerEnd, policy: Restart) -> Next {
        if !self.has_worker() {
            return Next::Rest;
        }
        if now.saturating_sub(self.since) >= GOOD_RUN {
            self.rest = 0;
        }
        let next = self.end_of_run(now, end);
        let unwanted = match self.state {
            State::Failed(_) => policy != Restart::Never,
            State::Off(_) => policy == Restart::Always && !self.shutting_down,
            _ => false,
        };
        if next == Next::Rest && unwanted && !self.commanded {
            return Next::StartAfter(self.rest(now));
        }
        next
    }

    /// Lets it rest before the next start, as it has no worker. Returns for how long.
    pub fn rest(&mut self, now: u64) -> u64 {
        self.rest = match self.rest {
            0 => FIRST_REST,
            last => last.saturating_mul(2).min(LONGEST_REST),
        };
        self.wake = now.saturating_add(self.rest);
        self.state = State::Resting(self.state.reason().to_string());
        self.rest
    }

    fn end_of_run(&mut self, now: u64, end: &WorkerEnd) -> Next {
        let asked = self.state == State::Stopping;
        let again = core::mem::take(&mut self.again);
        self.state = match end {
            WorkerEnd::Exited(ExitReason::Reset, text) if !asked => return self.reset(now, text),
            WorkerEnd::Exited(ExitReason::Reset | ExitReason::Stopped, _) => {
                State::Off("stopped".into())
            }
            WorkerEnd::Exited(ExitReason::PowerOff, text) => {
                State::Off(with("switched off by the guest", text))
            }
            WorkerEnd::Exited(ExitReason::GuestFault, text) => {
                State::Failed(with("the guest cannot go on", text))
            }
            WorkerEnd::Exited(ExitReason::BadDefinition, text) => {
                State::Failed(with("cannot be started", text))
            }
            WorkerEnd::Exited(ExitReason::WorkerFault, text) => {
                State::Failed(with("its worker failed", text))
            }
            WorkerEnd::Crashed(text) => State::Failed(with("its worker crashed", text)),
            WorkerEnd::Killed => State::Off("killed".into()),
        };
        // A fault is to be seen, not started over.
        if again && matches!(self.state, State::Off(_)) {
            Next::Start
        } else {
            Next::Rest
        }
    }

    fn reset(&mut self, now: u64, text: &str) -> Next {
        self.resets
            .retain(|time| now.saturating_sub(*time) < STORM_TIME);
        self.resets.push_back(now);
        if self.resets.len() > STORM_RESETS {
            let (resets, seconds) = (self.resets.len(), STORM_TIME / SECOND);
            let storm = format!("it reset {resets} times within {seconds} seconds");
            self.state = State::Failed(with(&storm, text));
            self.resets.clear();
            return Next::Rest;
        }
        // A reset is often a crash: where it was is the reason that somebody will look for.
        self.state = State::Off(with("reset", text));
        Next::Start
    }
}

fn with(what: &str, text: &str) -> String {
    let text = text.trim();
    if text.is_empty() {
        what.to_string()
    } else {
        format!("{what}: {text}")
    }
}
