//! Console output on its way from the serial line to the worker, in batches.
//!
//! A guest writes a byte per intercept. Passing every byte on alone would double the cost of each; so bytes wait for a
//! line's end, for company, or for a moment.

use alloc::vec::Vec;

/// Bytes that are a batch without an end of line.
const BATCH: usize = 256;
/// Room that is allocated at the start. Only a long string instruction makes it grow.
const ROOM: usize = 2048;
/// Longest time a byte waits, in 100 ns: 2 ms.
const PATIENCE: u64 = 20_000;

/// Output that waits.
#[derive(Debug)]
pub struct ConsoleOutput {
    bytes: Vec<u8>,
    /// Since when the first byte waits, and whether a line is complete.
    since: u64,
    line: bool,
}

impl Default for ConsoleOutput {
    fn default() -> Self {
        Self {
            bytes: Vec::with_capacity(ROOM),
            since: 0,
            line: false,
        }
    }
}

impl ConsoleOutput {
    /// A byte from the serial line.
    pub fn push(&mut self, byte: u8, now: u64) {
        if self.bytes.is_empty() {
            self.since = now;
        }
        self.bytes.push(byte);
        self.line |= byte == b'\n';
    }

    /// When what waits must be printed; `None` if nothing waits.
    pub fn deadline(&self) -> Option<u64> {
        if self.bytes.is_empty() {
            None
        } else if self.line || self.bytes.len() >= BATCH {
            Some(0)
        } else {
            Some(self.since.saturating_add(PATIENCE))
        }
    }

    /// What waits.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Everything was printed.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.line = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_batch_or_two_milliseconds_make_output_due() {
        let mut output = ConsoleOutput::default();
        assert_eq!(output.deadline(), None);
        output.push(b'$', 100);
        output.push(b' ', 5000);
        assert_eq!(output.deadline(), Some(100 + PATIENCE));
        output.push(b'\n', 6000);
        assert_eq!(output.deadline(), Some(0));
        assert_eq!(output.bytes(), b"$ \n");
        output.clear();
        assert_eq!(output.deadline(), None);
        (0..BATCH).for_each(|_| output.push(b'.', 7));
        assert_eq!(output.deadline(), Some(0));
    }
}
