//! The line editor: bytes in, an edited line and its echo out.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

/// Lines remembered.
pub const HISTORY: usize = 16;
/// Longest line, bytes.
pub const MAX_LINE: usize = 256;

const BELL: u8 = 0x07;
const CTRL_C: u8 = 0x03;
const CTRL_U: u8 = 0x15;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7F;
const ESCAPE: u8 = 0x1B;

/// What a byte brought about, apart from its echo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The line goes on.
    None,
    /// The line is complete.
    Line(String),
    /// Ctrl-C: the line was given up.
    Abandoned,
}

/// Where in a sequence of bytes the editor is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sequence {
    #[default]
    None,
    /// After a carriage return, whose line feed is to be ignored.
    Return,
    /// After ESC.
    Escape,
    /// After ESC and `[`.
    Bracket,
}

/// A line being edited, and those before it.
#[derive(Clone, Debug, Default)]
pub struct Editor {
    /// Printable ASCII only.
    line: String,
    history: VecDeque<String>,
    /// Place in the history, from its end; 0 is the line being written.
    back: usize,
    /// What was written before going back in the history.
    draft: String,
    sequence: Sequence,
}

impl Editor {
    /// The line so far.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// Takes a typed byte; appends what the terminal is to show to `echo`.
    pub fn byte(&mut self, byte: u8, echo: &mut Vec<u8>) -> Input {
        match (core::mem::take(&mut self.sequence), byte) {
            (Sequence::Return, b'\n') => {}
            (Sequence::Escape, b'[' | b'O') => self.sequence = Sequence::Bracket,
            (Sequence::Bracket, b'A') => self.travel(self.back.saturating_add(1), echo),
            (Sequence::Bracket, b'B') => self.travel(self.back.saturating_sub(1), echo),
            // Parameters of a longer sequence, whose last byte is a letter or `~`.
            (Sequence::Bracket, b'0'..=b'?') => self.sequence = Sequence::Bracket,
            (Sequence::Bracket, _) => {}
            (_, byte) => return self.plain(byte, echo),
        }
        Input::None
    }

    fn plain(&mut self, byte: u8, echo: &mut Vec<u8>) -> Input {
        match byte {
            b'\r' | b'\n' => {
                if byte == b'\r' {
                    self.sequence = Sequence::Return;
                }
                echo.extend_from_slice(b"\r\n");
                return Input::Line(self.complete());
            }
            CTRL_C => {
                echo.extend_from_slice(b"^C\r\n");
                self.clear();
                return Input::Abandoned;
            }
            CTRL_U => {
                self.erase(echo);
                self.clear();
            }
            BACKSPACE | DELETE => match self.line.pop() {
                Some(_) => echo.extend_from_slice(b"\x08 \x08"),
                None => echo.push(BELL),
            },
            ESCAPE => self.sequence = Sequence::Escape,
            b' '..=b'~' if self.line.len() < MAX_LINE => {
                self.line.push(char::from(byte));
                echo.push(byte);
            }
            _ => echo.push(BELL),
        }
        Input::None
    }

    fn complete(&mut self) -> String {
        let line = core::mem::take(&mut self.line);
        self.clear();
        if !line.trim().is_empty() && self.history.back() != Some(&line) {
            if self.history.len() >= HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(line.clone());
        }
        line
    }

    fn clear(&mut self) {
        self.line.clear();
        self.draft.clear();
        self.back = 0;
    }

    /// Shows the line `back` places before the one being written.
    fn travel(&mut self, back: usize, echo: &mut Vec<u8>) {
        if back > self.history.len() || back == self.back {
            echo.push(BELL);
            return;
        }
        self.erase(echo);
        if self.back == 0 {
            self.draft = core::mem::take(&mut self.line);
        }
        let place = self.history.len().checked_sub(back);
        let remembered = place
            .and_then(|place| self.history.get(place))
            .filter(|_| back > 0);
        self.line = remembered.unwrap_or(&self.draft).clone();
        self.back = back;
        echo.extend_from_slice(self.line.as_bytes());
    }

    fn erase(&self, echo: &mut Vec<u8>) {
        (0..self.line.len()).for_each(|_| echo.extend_from_slice(b"\x08 \x08"));
    }
}
