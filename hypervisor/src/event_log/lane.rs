//! What a processor fills, and the list of what it has completed. Types with shared buffers have one lane for all.

/// A lane.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// The buffer in use.
    pub current: Option<u16>,
    /// First and last completed buffer.
    ends: Option<(u16, u16)>,
    /// Length of the list.
    pub completed: u16,
    /// The list waits to be reported.
    pub report: bool,
    /// Events that found no buffer since the last one came into use.
    pub lost: u32,
    /// Buffers ever completed.
    pub sequence: u32,
}

impl Lane {
    /// An empty lane.
    pub const fn new() -> Self {
        Self {
            current: None,
            ends: None,
            completed: 0,
            report: false,
            lost: 0,
            sequence: 0,
        }
    }

    /// The oldest completed buffer.
    pub fn first(&self) -> Option<u16> {
        self.ends.map(|(first, _)| first)
    }

    /// Which of the lane's completed buffers the oldest one in the list was, counted from 1.
    pub fn first_sequence(&self) -> u32 {
        self.sequence
            .wrapping_sub(u32::from(self.completed))
            .wrapping_add(1)
    }

    /// Puts a completed buffer at the end of the list. Returns the one before it, which has to name it as the next.
    pub fn push(&mut self, index: u16) -> Option<u16> {
        let last = self.ends.map(|(_, last)| last);
        self.ends = Some((self.ends.map_or(index, |(first, _)| first), index));
        self.completed = self.completed.saturating_add(1);
        self.sequence = self.sequence.wrapping_add(1);
        last
    }

    /// Takes the oldest buffer off the list, of which `next` is the next.
    pub fn pop(&mut self, next: Option<u16>) {
        self.ends = match (self.ends, next) {
            (Some((_, last)), Some(next)) => Some((next, last)),
            _ => None,
        };
        self.completed = self.completed.saturating_sub(1);
    }
}
