//! The file that a machine's second serial port writes, read while it grows.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Lines;

/// The file, and what has been read of it.
#[derive(Debug)]
pub struct CounterFile {
    path: PathBuf,
    /// Bytes that were read.
    read: u64,
    /// The beginning of a line that is not complete yet.
    rest: Vec<u8>,
    lines: Lines,
}

impl CounterFile {
    /// The file at `path`, which need not be there yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            read: 0,
            rest: Vec::new(),
            lines: Lines::default(),
        }
    }

    /// Reads on up to its end; a line that is not complete stays for the next time.
    ///
    /// # Errors
    /// If it cannot be read, or a line does not keep to the schema.
    pub fn look(&mut self) -> Result<&Lines> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(&self.lines),
            opened => opened.with_context(|| format!("cannot read {}", self.path.display()))?,
        };
        file.seek(SeekFrom::Start(self.read))?;
        self.read += file.read_to_end(&mut self.rest)? as u64;
        let complete = self.rest.iter().rposition(|byte| *byte == b'\n');
        if let Some(end) = complete {
            let text: Vec<u8> = self.rest.drain(..=end).collect();
            self.lines.add(&String::from_utf8_lossy(&text))?;
        }
        Ok(&self.lines)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::CounterFile;

    #[test]
    fn a_line_counts_once_it_is_complete() {
        let path = std::env::temp_dir().join(format!("partita-counters-{}", std::process::id()));
        let mut counters = CounterFile::new(path.clone());
        assert_eq!(counters.look().unwrap().time(), 0, "there is no file yet");
        let mut file = std::fs::File::create(&path).unwrap();
        let line = |sample: u64| {
            format!(
                r#"{{"schema":1,"time":{sample}7,"sample":{sample},"dropped":0,"processors":[],"partitions":[]}}"#
            )
        };
        let (first, second) = (line(1), line(2));
        let (start, end) = second.split_at(20);
        write!(file, "BdsDxe: starting\n{first}\n{start}").unwrap();
        assert_eq!(counters.look().unwrap().time(), 17);
        writeln!(file, "{end}").unwrap();
        assert_eq!(counters.look().unwrap().time(), 27);
        write!(file, "{{}}").unwrap();
        assert!(counters.look().is_ok());
        writeln!(file).unwrap();
        assert!(counters.look().is_err(), "not a line of counters");
        std::fs::remove_file(path).unwrap();
    }
}
