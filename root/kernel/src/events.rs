//! The kernel's event list: the last things worth telling an operator.

use alloc::collections::VecDeque;
use alloc::string::String;

/// Events kept.
pub const KEPT: usize = 256;
/// Longest text, in bytes.
pub const MAX_TEXT: usize = 240;

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Running number, from 1.
    pub number: u64,
    /// Reference time, 100 ns.
    pub time: u64,
    /// Who says so.
    pub source: String,
    /// What happened, one line.
    pub text: String,
}

/// The list: bounded, the oldest event makes room.
#[derive(Clone, Debug, Default)]
pub struct Events {
    list: VecDeque<Event>,
    last: u64,
}

impl Events {
    /// Adds an event. Source and text are each made one printable line and cut at [`MAX_TEXT`] bytes.
    pub fn add(&mut self, time: u64, source: &str, text: &str) {
        if self.list.len() >= KEPT {
            self.list.pop_front();
        }
        self.last = self.last.saturating_add(1);
        self.list.push_back(Event {
            number: self.last,
            time,
            source: printable(source.as_bytes(), MAX_TEXT),
            text: printable(text.as_bytes(), MAX_TEXT),
        });
    }

    /// The events, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.list.iter()
    }
}

/// Untrusted bytes as one line: control characters and bytes that are not UTF-8 become `?`, at most `most` bytes.
pub fn printable(bytes: &[u8], most: usize) -> String {
    let mut line = String::new();
    for chunk in bytes.utf8_chunks() {
        let broken = if chunk.invalid().is_empty() {
            None
        } else {
            Some('?')
        };
        for character in chunk.valid().chars().chain(broken) {
            let character = if character.is_control() {
                '?'
            } else {
                character
            };
            if line.len().saturating_add(character.len_utf8()) > most {
                return line;
            }
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_event_makes_room_and_numbers_go_on() {
        let mut events = Events::default();
        for time in 0..KEPT as u64 + 3 {
            events.add(time, "root", "x");
        }
        let numbers: Vec<_> = events.iter().map(|event| event.number).collect();
        assert_eq!(
            (numbers.len(), numbers[0], numbers[KEPT - 1]),
            (KEPT, 4, KEPT as u64 + 3)
        );
    }

    #[test]
    fn untrusted_text_becomes_one_printable_line() {
        assert_eq!(printable(b"a\nb\x1B[31m\xFFc", 100), "a?b?[31m?c");
        assert_eq!(printable("äöü".as_bytes(), 3), "ä");
        assert_eq!(printable(b"", 10), "");
    }
}
