//! The manager's own events.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use crate::host::Event;

/// Events kept. With the longest text of a crash in each they take a megabyte of the kernel's heap.
pub const CAPACITY: usize = 256;
/// Longest text of one, bytes: a guest's words may be in it.
pub const MAX_TEXT: usize = 240;

/// The last events; the oldest goes first.
#[derive(Clone, Debug, Default)]
pub struct Events(VecDeque<Event>);

impl Events {
    /// Keeps an event. What a console would obey in the text is replaced.
    pub fn push(&mut self, time: u64, source: &str, text: &str) {
        self.keep(time, source, printable(text));
    }

    /// Keeps an event of several lines. Their number is the caller's to limit.
    pub fn push_lines(&mut self, time: u64, source: &str, lines: &[String]) {
        let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
        self.keep(time, source, lines.join("\n"));
    }

    fn keep(&mut self, time: u64, source: &str, text: String) {
        if self.0.len() >= CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(Event {
            time,
            source: source.into(),
            text,
        });
    }

    /// These and `others`, by time.
    pub fn merged(&self, others: Vec<Event>) -> Vec<Event> {
        let mut all: Vec<Event> = self.0.iter().cloned().chain(others).collect();
        all.sort_by_key(|event| event.time);
        all
    }
}

/// The text without control characters, and not too long.
pub fn printable(text: &str) -> String {
    let clean = text
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter });
    let mut short = String::new();
    for letter in clean {
        if short.len() + letter.len_utf8() > MAX_TEXT {
            short.push('…');
            break;
        }
        short.push(letter);
    }
    short
}
