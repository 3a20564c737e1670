//! The last bytes of a VM's output.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes kept of each VM's output.
pub const CAPACITY: usize = 64 << 10;
/// Bytes shown again when a VM is attached.
pub const REPLAY: usize = 4 << 10;

/// Output kept while nobody reads it; the oldest goes first.
#[derive(Clone, Debug, Default)]
pub struct Ring(VecDeque<u8>);

impl Ring {
    /// Keeps bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = bytes
            .get(bytes.len().saturating_sub(CAPACITY)..)
            .unwrap_or(bytes);
        let excess = (self.0.len() + bytes.len()).saturating_sub(CAPACITY);
        self.0.drain(..excess.min(self.0.len()));
        self.0.extend(bytes);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The last bytes, for somebody who attaches: up to [`REPLAY`], from the start of a line if there is one.
    pub fn replay(&self) -> Vec<u8> {
        let skipped = self.0.len().saturating_sub(REPLAY);
        let tail: Vec<u8> = self.0.iter().skip(skipped).copied().collect();
        let line = tail
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        if skipped == 0 || line == tail.len() {
            tail
        } else {
            tail.get(line..).unwrap_or_default().to_vec()
        }
    }

    /// Everything kept.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}
