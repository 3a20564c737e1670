//! One slow step of a command: a spinner on a terminal, plain lines elsewhere, the whole output when it fails.

use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Steps quicker than this leave no line behind on a terminal: nobody waited for them.
const WORTH_A_LINE: Duration = Duration::from_secs(2);

/// Spinners of steps at the same time have a line each.
static SPINNERS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A running step.
pub struct Step {
    what: String,
    bar: ProgressBar,
    started: Instant,
}

impl Step {
    /// Shows that `what` has begun.
    pub fn start(what: impl Into<String>) -> Self {
        let what = what.into();
        let bar = if std::io::stderr().is_terminal() {
            let bar = SPINNERS.add(ProgressBar::new_spinner().with_prefix(what.clone()));
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        } else {
            eprintln!("    {what} ...");
            ProgressBar::hidden()
        };
        Self {
            what,
            bar,
            started: Instant::now(),
        }
    }

    /// Runs a command as this step; its latest line of output is shown beside the spinner.
    ///
    /// # Errors
    /// With the command line and the end of its output if it does not start or ends with a failure.
    pub fn run(self, command: &mut Command) -> Result<()> {
        let shown = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}: cannot start {shown}", self.what))?;
        let (lines, received) = mpsc::channel();
        forward(child.stdout.take(), lines.clone());
        forward(child.stderr.take(), lines);
        let mut output = Vec::new();
        for line in received {
            self.bar.set_message(line.trim().to_owned());
            output.push(line);
        }
        let status = child
            .wait()
            .with_context(|| format!("{}: lost {shown}", self.what))?;
        if !status.success() {
            self.bar.finish_and_clear();
            let from = output.len().saturating_sub(60);
            let tail = output.get(from..).unwrap_or_default().join("\n");
            bail!("{} failed ({status}): {shown}\n{tail}", self.what);
        }
        self.done();
        Ok(())
    }

    /// The step is over and went well.
    pub fn done(self) {
        self.bar.finish_and_clear();
        let elapsed = self.started.elapsed();
        if elapsed >= WORTH_A_LINE {
            let line = format!("    {}: done in {:.0} s", self.what, elapsed.as_secs_f64());
            SPINNERS.suspend(|| eprintln!("{line}"));
        }
    }
}

/// Sends the lines of a pipe to `lines` from a thread of its own.
fn forward(pipe: Option<impl Read + Send + 'static>, lines: mpsc::Sender<String>) {
    let Some(pipe) = pipe else { return };
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            if lines
                .send(String::from_utf8_lossy(&line).into_owned())
                .is_err()
            {
                return;
            }
        }
    });
}

/// Runs a command quietly and returns what it printed on its standard output.
///
/// # Errors
/// If it does not start or ends with a failure, with its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let result = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {shown}"))?;
    if !result.status.success() {
        bail!(
            "{shown} failed ({}): {}",
            result.status,
            String::from_utf8_lossy(&result.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}
