//! What is typed at the payload's console, a line at a time.

use super::console;

/// Most bytes of a line.
const MOST: usize = 16;

/// A line that is being typed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    bytes: [u8; MOST],
    length: usize,
}

impl Line {
    /// Takes what has been typed; the line, once it is complete.
    pub fn take(&mut self) -> Option<&str> {
        while let Some(byte) = console::get() {
            if byte == b'\r' || byte == b'\n' {
                let length = core::mem::take(&mut self.length);
                return core::str::from_utf8(&self.bytes[..length]).ok();
            }
            if let Some(place) = self.bytes.get_mut(self.length) {
                *place = byte;
                self.length += 1;
            }
        }
        None
    }
}
