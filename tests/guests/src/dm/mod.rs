//! The guest's side of Dynamic Memory, as far as it needs no machine: messages (sheet `dynamic-memory.md`, 1.2 to 1.6), and sets
//! of pages.
//!
//! Everything is put together by offsets of its own: a test of the host's side must not share its mistakes.

pub mod pages;

pub use pages::{PageSet, Run};

/// Types of messages (sheet 1.4).
pub mod kind {
    /// From the guest: the version that it wants.
    pub const VERSION_REQUEST: u16 = 1;
    /// Its answer.
    pub const VERSION_RESPONSE: u16 = 2;
    /// From the guest: what it can do.
    pub const CAPABILITIES_REPORT: u16 = 3;
    /// Its answer.
    pub const CAPABILITIES_RESPONSE: u16 = 4;
    /// From the guest: what it needs.
    pub const STATUS_REPORT: u16 = 5;
    /// Pages are wanted.
    pub const BALLOON_REQUEST: u16 = 6;
    /// From the guest: which they are.
    pub const BALLOON_RESPONSE: u16 = 7;
    /// Pages come back.
    pub const UNBALLOON_REQUEST: u16 = 8;
    /// From the guest: it has them.
    pub const UNBALLOON_RESPONSE: u16 = 9;
    /// New memory.
    pub const HOT_ADD_REQUEST: u16 = 10;
    /// From the guest: how much of it it has.
    pub const HOT_ADD_RESPONSE: u16 = 11;
    /// How much the guest may have one day.
    pub const INFO: u16 = 12;
}

/// Version 2.0, which Linux offers first.
pub const VERSION_2: u32 = 0x0002_0000;
/// Bytes of a header.
const HEADER: usize = 8;
/// Most bytes of a message that a driver sends or takes.
pub const MAX_MESSAGE: usize = 4096;
/// Most ranges of a message.
pub const MAX_RANGES: usize = (MAX_MESSAGE - 16) / 8;

/// A message of the guest's, with its header.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: [u8; MAX_MESSAGE],
    length: usize,
}

impl Message {
    /// A message without content.
    pub fn new(kind: u16, id: u32) -> Self {
        let mut message = Self {
            bytes: [0; MAX_MESSAGE],
            length: 0,
        };
        message.put(&kind.to_le_bytes());
        message.put(&[0; 2]);
        message.put(&id.to_le_bytes());
        message
    }

    /// The driver's first message.
    pub fn version(id: u32, version: u32) -> Self {
        Self::new(kind::VERSION_REQUEST, id).word(version).word(0)
    }

    /// What the driver can do: give pages, take new memory in units of 2^`unit` MiB.
    pub fn capabilities(id: u32, unit: u32) -> Self {
        let bits = 0b11 | u64::from(unit & 15) << 2;
        let report = Self::new(kind::CAPABILITIES_REPORT, id);
        report.long(bits).long(0).long(u64::MAX)
    }

    /// What is available and committed, in pages.
    pub fn report(id: u32, available: u64, committed: u64) -> Self {
        let report = Self::new(kind::STATUS_REPORT, id);
        let report = report.long(available).long(committed);
        report.long(0).long(0).long(0)
    }

    /// Pages that go back. Another part follows if there is `more`.
    pub fn balloon(id: u32, more: bool, runs: &[Run]) -> Self {
        let count = (runs.len() as u32) << 1 | u32::from(more);
        let start = Self::new(kind::BALLOON_RESPONSE, id).word(0).word(count);
        runs.iter()
            .fold(start, |message, run| message.long(run.to_bits()))
    }

    /// All pages of an unballoon are in use again.
    pub fn unballoon(id: u32) -> Self {
        Self::new(kind::UNBALLOON_RESPONSE, id)
    }

    /// So many pages of new memory are in use.
    pub fn hot_add(id: u32, pages: u32, result: u32) -> Self {
        let response = Self::new(kind::HOT_ADD_RESPONSE, id);
        response.word(pages).word(result)
    }

    /// Four bytes more.
    pub fn word(mut self, word: u32) -> Self {
        self.put(&word.to_le_bytes());
        self
    }

    /// Eight bytes more.
    pub fn long(mut self, long: u64) -> Self {
        self.put(&long.to_le_bytes());
        self
    }

    /// As many bytes more, or fewer, as there are to `length` then; the size in the header is as it was.
    pub fn resized(mut self, length: usize) -> Self {
        self.length = length.min(MAX_MESSAGE);
        self
    }

    /// With this size in the header.
    pub fn with_size(mut self, size: u16) -> Self {
        self.bytes[2..4].copy_from_slice(&size.to_le_bytes());
        self
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
        self.bytes[2..4].copy_from_slice(&(end as u16).to_le_bytes());
    }

    /// What goes into a packet.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// A message of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Whether the version is accepted.
    Version(bool),
    /// Whether it is known what the guest can do.
    Capabilities(bool),
    /// So many pages are wanted.
    Balloon(u32),
    /// Pages come back; whether another part follows.
    Unballoon(bool, Runs<'a>),
    /// New memory.
    HotAdd(Run),
    /// So many pages the guest may have one day.
    Info(u64),
}

/// The runs of an unballoon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs<'a>(&'a [u8]);

impl Runs<'_> {
    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Run> {
        let runs = self.0.chunks_exact(8);
        runs.map(|bytes| Run::from_bits(long(bytes, 0).unwrap_or_default()))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

impl<'a> Request<'a> {
    /// The message in a packet; `None` if it is none, or one that a driver need not know.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let first = word(packet, 0)?;
        let (kind, size) = (first as u16, (first >> 16) as usize);
        let message = packet.get(..size).filter(|_| size <= MAX_MESSAGE)?;
        let word = |at| word(message, HEADER + at);
        let long = |at| long(message, HEADER + at);
        Some(match kind {
            kind::VERSION_RESPONSE => Self::Version(long(0)? & 1 != 0),
            kind::CAPABILITIES_RESPONSE => Self::Capabilities(long(0)? & 1 != 0),
            kind::BALLOON_REQUEST => Self::Balloon(word(0)?),
            kind::UNBALLOON_REQUEST => {
                let ranges = message.get(16..16 + 8 * word(4)? as usize)?;
                Self::Unballoon(word(0)? & 1 != 0, Runs(ranges))
            }
            kind::HOT_ADD_REQUEST => Self::HotAdd(Run::from_bits(long(0)?)),
            kind::INFO => Self::Info(long(16)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;

    #[test]
    fn messages_are_as_linux_sends_them() {
        let bytes = |message: &Message| Vec::from(message.bytes());
        let version = [1, 0, 16, 0, 7, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0];
        assert_eq!(bytes(&Message::version(7, VERSION_2)), version);
        let capabilities = bytes(&Message::capabilities(8, 7));
        assert_eq!((capabilities.len(), capabilities[8]), (32, 0x1F));
        assert_eq!(bytes(&Message::report(9, 1, 2)).len(), 48);
        assert_eq!(bytes(&Message::unballoon(9)).len(), 8);
        assert_eq!(bytes(&Message::hot_add(9, 1, 1)).len(), 16);
        // The example of the sheet: more parts, five ranges.
        let runs = [Run::new(0x123456, 512); 5];
        let balloon = bytes(&Message::balloon(9, true, &runs));
        assert_eq!(balloon[12..16], [0x0B, 0, 0, 0]);
        assert_eq!(balloon[16..24], 0x0002_0000_0012_3456_u64.to_le_bytes());
        assert_eq!(balloon.len(), 16 + 5 * 8);
        let runs = [Run::new(1, 1); MAX_RANGES];
        assert_eq!(Message::balloon(9, true, &runs).bytes().len(), MAX_MESSAGE);
    }

    #[test]
    fn a_message_can_be_wrong_on_purpose() {
        let message = Message::version(1, VERSION_2).resized(5).with_size(9);
        assert_eq!(message.bytes(), [1, 0, 9, 0, 1]);
    }

    #[test]
    fn requests_are_read_and_nothing_else() {
        let runs = [Run::new(5, 2), Run::new(0xFF_FFFF_FFFF, 0xFF_FFFF)];
        let unballoon = runs.iter().fold(
            Message::new(kind::UNBALLOON_REQUEST, 1).word(1).word(2),
            |message, run| message.long(run.to_bits()),
        );
        let Some(Request::Unballoon(true, found)) = Request::parse(unballoon.bytes()) else {
            panic!("no unballoon");
        };
        assert_eq!(found.iter().collect::<Vec<_>>(), runs);
        let balloon = Message::new(kind::BALLOON_REQUEST, 1).word(77).word(0);
        assert_eq!(Request::parse(balloon.bytes()), Some(Request::Balloon(77)));
        for length in 0..unballoon.bytes().len() {
            assert_eq!(Request::parse(&unballoon.bytes()[..length]), None);
        }
        assert_eq!(Request::parse(Message::new(99, 1).bytes()), None);
    }
}
