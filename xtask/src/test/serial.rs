//! The far end of a serial line: what the machine prints, and typing to it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::counters::{CounterFile, Lines};
use crate::machine::{Link, Sign};

/// How long it takes at most until what the counters' line has told is noticed.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// A running emulator with the machine's serial line. Dropping it ends the emulator.
pub struct SerialLine {
    emulator: Child,
    input: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    log: File,
    words: Option<PathBuf>,
    counters: Option<CounterFile>,
    transcript: Transcript,
}

/// What has been printed, and how much of it the steps have used up.
#[derive(Debug, Default)]
pub struct Transcript {
    bytes: Vec<u8>,
    used: usize,
    forbidden: Vec<String>,
    /// Up to here no forbidden text was found.
    searched: usize,
}

impl Transcript {
    /// An empty one in which the texts `forbidden` must not appear.
    pub fn new(forbidden: Vec<String>) -> Self {
        Self {
            forbidden,
            ..Self::default()
        }
    }

    /// Adds output; returns a forbidden text that it completed.
    pub fn add(&mut self, output: &[u8]) -> Option<&str> {
        self.bytes.extend_from_slice(output);
        let longest = self.forbidden.iter().map(String::len).max().unwrap_or(0);
        let from = self.searched.saturating_sub(longest);
        self.searched = self.bytes.len();
        let fresh = self.bytes.get(from..).unwrap_or_default();
        self.forbidden
            .iter()
            .map(String::as_str)
            .find(|text| find(fresh, text.as_bytes()).is_some())
    }

    /// Whether `text` has appeared after what was taken before; if so, takes everything up to its end.
    pub fn take(&mut self, text: &str) -> bool {
        let fresh = self.bytes.get(self.used..).unwrap_or_default();
        let Some(at) = find(fresh, text.as_bytes()) else {
            return false;
        };
        self.used += at + text.len();
        true
    }

    /// Takes so many bytes, if there are that many.
    fn take_bytes(&mut self, count: usize) -> bool {
        let enough = self.bytes.len() - self.used >= count;
        if enough {
            self.used += count;
        }
        enough
    }

    /// Takes complete lines up to one whose first word is `first`, and returns its words.
    fn take_row(&mut self, first: &str) -> Option<Vec<String>> {
        loop {
            let fresh = self.bytes.get(self.used..)?;
            let end = find(fresh, b"\n")?;
            let line = plain(&String::from_utf8_lossy(fresh.get(..end)?));
            self.used += end + 1;
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            if words.first().is_some_and(|word| word == first) {
                return Some(words);
            }
        }
    }

    /// What was taken since `from` of it was used up, without terminal control sequences.
    fn taken_since(&self, from: usize) -> String {
        let bytes = self.bytes.get(from..self.used).unwrap_or_default();
        plain(&String::from_utf8_lossy(bytes))
    }

    /// The last lines, without terminal control sequences.
    pub fn tail(&self, lines: usize) -> String {
        let text = plain(&String::from_utf8_lossy(&self.bytes));
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..)
            .unwrap_or_default()
            .join("\n")
    }

    /// Everything, without terminal control sequences.
    pub fn text(&self) -> String {
        plain(&String::from_utf8_lossy(&self.bytes))
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        return Some(0);
    }
    hay.windows(needle.len())
        .position(|window| window == needle)
}

/// Drops escape sequences and carriage returns, which would garble a log on a terminal.
fn plain(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                if characters.next() == Some('[') {
                    let _ = characters.find(|parameter| parameter.is_ascii_alphabetic());
                }
            }
            '\n' | '\t' => result.push(character),
            other if other.is_control() => {}
            other => result.push(other),
        }
    }
    result
}

impl SerialLine {
    /// Takes a machine that has just been started; everything it prints also goes to `log`.
    pub fn new(link: Link, log: File, forbidden: Vec<String>) -> Self {
        let mut pipe = link.output;
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                if sender
                    .send(buffer.get(..length).unwrap_or_default().to_vec())
                    .is_err()
                {
                    return;
                }
            }
        });
        Self {
            emulator: link.emulator,
            input: link.input,
            output,
            log,
            words: link.words,
            counters: link.counters.map(CounterFile::new),
            transcript: Transcript::new(forbidden),
        }
    }

    /// Waits until `text` appears.
    ///
    /// # Errors
    /// If it does not in time, if the machine ends before, or if a forbidden text appears.
    pub fn expect(&mut self, text: &str, wait: Duration) -> Result<()> {
        let until = Instant::now() + wait;
        loop {
            if self.transcript.take(text) {
                return Ok(());
            }
            match self.receive(until)? {
                Received::Output => {}
                Received::Time => bail!("no {text:?} within {:.0} s", wait.as_secs_f64()),
                Received::End => bail!("the machine ended before {text:?} appeared"),
            }
        }
    }

    /// What is printed until `text` has appeared, `text` included.
    ///
    /// # Errors
    /// As [`expect`](Self::expect).
    pub fn answer(&mut self, text: &str, wait: Duration) -> Result<String> {
        let from = self.transcript.used;
        self.expect(text, wait)?;
        Ok(self.transcript.taken_since(from))
    }

    /// Waits for a line whose first word is `first` and whose word number `column` is a number.
    ///
    /// # Errors
    /// If the number is not within the bounds, and as [`expect`](Self::expect).
    pub fn row(
        &mut self,
        first: &str,
        column: usize,
        between: [u64; 2],
        wait: Duration,
    ) -> Result<()> {
        let until = Instant::now() + wait;
        let [least, most] = between.map(|bound| bound as f64);
        loop {
            while let Some(words) = self.transcript.take_row(first) {
                let word = words.get(column).and_then(|word| word.parse::<f64>().ok());
                match word {
                    Some(number) if (least..=most).contains(&number) => return Ok(()),
                    Some(number) => bail!("{number} is not within {least} and {most}: {words:?}"),
                    None => {}
                }
            }
            match self.receive(until)? {
                Received::Output => {}
                Received::Time => bail!("no row {first:?} within {:.0} s", wait.as_secs_f64()),
                Received::End => bail!("the machine ended before a row {first:?} appeared"),
            }
        }
    }

    /// Waits for so many bytes of output behind what was taken, and then for a time.
    ///
    /// # Errors
    /// If so much does not come within `longest`, and as [`expect`](Self::expect).
    pub fn point(&mut self, bytes: usize, time: Duration, longest: Duration) -> Result<()> {
        let until = Instant::now() + longest;
        while !self.transcript.take_bytes(bytes) {
            match self.receive(until)? {
                Received::Output => {}
                Received::Time => bail!("not {bytes} bytes within {:.0} s", longest.as_secs_f64()),
                Received::End => bail!("the machine ended before {bytes} bytes appeared"),
            }
        }
        let until = Instant::now() + time;
        loop {
            match self.receive(until)? {
                Received::Output => {}
                Received::Time => return Ok(()),
                Received::End => bail!("the machine ended"),
            }
        }
    }

    /// Waits until the counters' line has told what `is_there` looks for, which is said in `what`.
    ///
    /// # Errors
    /// If a line does not keep to the schema, if `is_there` finds a mistake, and as [`expect`](Self::expect).
    pub fn told(
        &mut self,
        what: &str,
        wait: Duration,
        is_there: impl Fn(&Lines) -> Result<bool>,
    ) -> Result<()> {
        let until = Instant::now() + wait;
        let mut judged = None;
        loop {
            let lines = self.look()?;
            // The same lines would be judged the same.
            if judged.replace(lines.count()) != Some(lines.count()) && is_there(lines)? {
                return Ok(());
            }
            let look_again = Instant::now() + BETWEEN_LOOKS;
            match self.receive(look_again.min(until))? {
                Received::Time if Instant::now() >= until => {
                    bail!("{what} is not told within {:.0} s", wait.as_secs_f64())
                }
                Received::End => bail!("the machine ended before {what}"),
                _ => {}
            }
        }
    }

    /// What the counters' line has told by now.
    ///
    /// # Errors
    /// If there is none, or a line does not keep to the schema.
    pub fn look(&mut self) -> Result<&Lines> {
        let file = self.counters.as_mut();
        file.context("the machine has no second serial line")?
            .look()
    }

    /// Makes sure that `text` does not appear for a while.
    ///
    /// # Errors
    /// If it does, or if the machine ends.
    pub fn absent(&mut self, text: &str, wait: Duration) -> Result<()> {
        let until = Instant::now() + wait;
        loop {
            if self.transcript.take(text) {
                bail!("{text:?} appeared");
            }
            match self.receive(until)? {
                Received::Output => {}
                Received::Time => return Ok(()),
                Received::End => bail!("the machine ended"),
            }
        }
    }

    /// What is printed until nothing has come for a time, or until the machine ends; what comes after `longest` is left.
    pub fn listen(&mut self, quiet: Duration, longest: Duration) -> String {
        let (end, from) = (Instant::now() + longest, self.transcript.bytes.len());
        while Instant::now() < end {
            let silence = Instant::now() + quiet;
            if !matches!(self.receive(silence.min(end)), Ok(Received::Output)) {
                break;
            }
        }
        self.transcript.used = self.transcript.bytes.len();
        self.transcript.taken_since(from)
    }

    /// Types `text`.
    ///
    /// # Errors
    /// If the machine has ended.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.input
            .write_all(text.as_bytes())
            .and_then(|()| self.input.flush())
            .context("the machine has ended and takes no input")
    }

    /// Waits until the emulator shows the machine's end by `sign`.
    ///
    /// # Errors
    /// If it does not in time, ends in another way, or prints a forbidden text.
    pub fn end(&mut self, sign: Sign, wait: Duration) -> Result<()> {
        match sign {
            Sign::Text(text) => self.expect(text, wait),
            Sign::Status(wanted) => {
                let status = self.exit(wait)?;
                match status.code() {
                    Some(code) if code == wanted => Ok(()),
                    _ => bail!("the emulator ended with {status}, not with status {wanted}"),
                }
            }
            Sign::Words(wanted) => {
                let status = self.exit(wait)?;
                let words = self.words()?;
                if !words.contains(wanted) {
                    bail!("the emulator ended with {status}, not by {wanted:?}: {words}");
                }
                Ok(())
            }
        }
    }

    /// Waits for the emulator's end.
    fn exit(&mut self, wait: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + wait;
        loop {
            match self.receive(until)? {
                Received::Output => {}
                Received::Time => {
                    bail!("the machine did not end within {:.0} s", wait.as_secs_f64())
                }
                Received::End => break,
            }
        }
        self.emulator
            .wait()
            .context("the emulator's end was not seen")
    }

    /// Why the emulator ended, as it says itself.
    fn words(&self) -> Result<String> {
        let words = self.words.as_deref().map(crate::paths::read).transpose()?;
        Ok(plain(&String::from_utf8_lossy(&words.unwrap_or_default())))
    }

    /// What has been printed so far.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    fn receive(&mut self, until: Instant) -> Result<Received> {
        match self
            .output
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            Ok(output) => {
                self.log.write_all(&output)?;
                if let Some(text) = self.transcript.add(&output).map(str::to_owned) {
                    self.drain();
                    bail!("{text:?} appeared");
                }
                Ok(Received::Output)
            }
            Err(RecvTimeoutError::Timeout) => Ok(Received::Time),
            Err(RecvTimeoutError::Disconnected) => Ok(Received::End),
        }
    }

    /// Collects what follows a forbidden text: the report behind a panic is worth reading.
    fn drain(&mut self) {
        while let Ok(output) = self.output.recv_timeout(Duration::from_millis(700)) {
            let _ = self.log.write_all(&output);
            self.transcript.add(&output);
        }
    }
}

enum Received {
    Output,
    Time,
    End,
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::Transcript;

    #[test]
    fn text_is_taken_once_and_in_order() {
        let mut transcript = Transcript::default();
        transcript.add(b"one two one");
        assert!(transcript.take("one"));
        assert!(transcript.take("two"));
        assert!(transcript.take("one"));
        assert!(!transcript.take("one"));
    }

    #[test]
    fn bytes_are_taken_once_they_are_all_there() {
        let mut transcript = Transcript::default();
        transcript.add(b"one two");
        assert!(transcript.take("one"));
        assert!(!transcript.take_bytes(5));
        assert!(transcript.take_bytes(2));
        assert!(!transcript.take("two") && transcript.take("wo"));
        assert!(transcript.take_bytes(0));
    }

    #[test]
    fn text_split_over_reads_is_found() {
        let mut transcript = Transcript::new(vec!["PANIC".into()]);
        assert_eq!(transcript.add(b"a PA"), None);
        assert_eq!(transcript.add(b"NIC b"), Some("PANIC"));
        assert_eq!(transcript.add(b"later"), None);
    }

    #[test]
    fn a_row_is_a_whole_line_by_its_first_word() {
        let mut transcript = Transcript::default();
        transcript.add(b"ab 1\r\n\x1b[H b  2 \x1b[K\r\nb 3");
        let row = transcript.take_row("b").unwrap();
        assert_eq!(row, ["b", "2"]);
        assert_eq!(transcript.take_row("b"), None);
        transcript.add(b"4\n");
        assert_eq!(transcript.take_row("b").unwrap(), ["b", "34"]);
    }

    #[test]
    fn the_tail_has_no_control_sequences() {
        let mut transcript = Transcript::default();
        transcript.add(b"first\r\n\x1b[2J\x1b[01;01Hsecond\r\nthird");
        assert_eq!(transcript.tail(2), "second\nthird");
    }
}
