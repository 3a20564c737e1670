//! Programs as bytes: what a payload does that interprets them.
//!
//! Any bytes are a program. An operation is a byte, whose high half says what kind it is ([`Family`]) and whose low half which
//! of its kind, and as many bytes as it asks for; behind the end of a recorded program these are zeros. A program is recorded,
//! as text of two hexadecimal digits a byte with `#` before comments, or comes from a seed.

use crate::rng::Rng;

/// Kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// Hypercalls.
    Call,
    /// RDMSR and WRMSR.
    Msr,
    /// IN, OUT and their string forms.
    Port,
    /// Pages, SINTs and timers.
    Synic,
    /// Control messages of VMBus.
    Message,
    /// Lists of pages for VMBus.
    Gpadl,
    /// Connecting, opening and closing as a driver does.
    Channel,
    /// What is written into rings.
    Ring,
    /// Answers to packets of the host.
    Answer,
    /// Events to the host.
    Signal,
    /// Messages and interrupts that wait.
    Take,
}

impl Family {
    /// All of them, in order.
    pub const ALL: [Self; 11] = [
        Self::Call,
        Self::Msr,
        Self::Port,
        Self::Synic,
        Self::Message,
        Self::Gpadl,
        Self::Channel,
        Self::Ring,
        Self::Answer,
        Self::Signal,
        Self::Take,
    ];

    /// What the high half of an operation's byte means: so often each comes in a random program, in sixteenths.
    const fn of(byte: u8) -> Self {
        match byte >> 4 {
            0 | 1 => Self::Call,
            2 | 3 => Self::Msr,
            4 => Self::Port,
            5 => Self::Synic,
            6 | 7 => Self::Message,
            8 => Self::Gpadl,
            9 => Self::Channel,
            0xA..=0xC => Self::Ring,
            0xD => Self::Answer,
            0xE => Self::Signal,
            _ => Self::Take,
        }
    }
}

/// Bytes of an operation that [`Program::bytes`] keeps: more than any operation asks for.
const KEPT: usize = 768;

/// A program that is being read.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    source: Source<'a>,
    bytes: [u8; KEPT],
    len: usize,
}

#[derive(Clone, Debug)]
enum Source<'a> {
    Recorded(&'a [u8]),
    Random { rng: Rng, operations: u64 },
}

impl<'a> Program<'a> {
    /// The program that a text has.
    ///
    /// # Errors
    /// The number of a line that is none, counted from 1.
    pub fn recorded(text: &'a [u8]) -> Result<Self, usize> {
        for (line, number) in text.split(|byte| *byte == b'\n').zip(1..) {
            let mut rest = line;
            while next(&mut rest).is_some() {}
            if !rest.is_empty() {
                return Err(number);
            }
        }
        Ok(Self::new(Source::Recorded(text)))
    }

    /// So many operations from this seed.
    pub fn random(seed: u64, operations: u64) -> Self {
        let rng = Rng::new(seed);
        Self::new(Source::Random { rng, operations })
    }

    fn new(source: Source<'a>) -> Self {
        Self {
            source,
            bytes: [0; KEPT],
            len: 0,
        }
    }

    /// The next operation, and which of its kind; none at the program's end.
    pub fn operation(&mut self) -> Option<(Family, u8)> {
        self.len = 0;
        match &mut self.source {
            Source::Recorded(text) => {
                let mut rest = *text;
                next(&mut rest)?;
            }
            Source::Random { operations, .. } => *operations = operations.checked_sub(1)?,
        }
        let byte = self.byte();
        Some((Family::of(byte), byte & 0xF))
    }

    /// What the last operation was made of, as far as it was read.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let byte = match &mut self.source {
            Source::Recorded(text) => next(text).unwrap_or(0),
            Source::Random { rng, .. } => (rng.next_u64() >> 56) as u8,
        };
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
        byte
    }

    /// The next `count` bytes, at most 8, as a number, the first one lowest.
    pub fn number(&mut self, count: u32) -> u64 {
        (0..count.min(8)).fold(0, |sum, place| sum | u64::from(self.byte()) << (8 * place))
    }

    /// A number below `bound`, which must not be zero and is at most 65536.
    pub fn below(&mut self, bound: u64) -> u64 {
        let bytes = if bound <= 256 { 1 } else { 2 };
        self.number(bytes) % bound
    }

    /// True once in `n` times, at most 256.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One element of a list that is not empty.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// A number as interfaces dislike them: small, a power of two, all ones, near one of these, or anything.
    pub fn odd_value(&mut self) -> u64 {
        let kind = self.byte();
        let base = match kind & 7 {
            0 | 1 => u64::from(self.byte() & 0xF),
            2 => 1 << (self.byte() & 63),
            3 => u64::MAX >> (self.byte() & 63),
            4 => self.number(2),
            5 => self.number(3),
            6 => self.number(4),
            _ => self.number(8),
        };
        match kind >> 3 & 7 {
            0 => base.wrapping_sub(1),
            1 => base & !0xFFF,
            2 => base.wrapping_neg(),
            _ => base,
        }
    }
}

/// Takes a byte from a text: none at its end, and none where it is no text of bytes, which is left over then.
fn next(text: &mut &[u8]) -> Option<u8> {
    loop {
        match text {
            [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] => *text = rest,
            [b'#', ..] => {
                let end = text.iter().position(|byte| *byte == b'\n');
                *text = &text[end.unwrap_or(text.len())..];
            }
            [high, low, rest @ ..] => {
                let byte = digit(*high)? << 4 | digit(*low)?;
                *text = rest;
                return Some(byte);
            }
            _ => return None,
        }
    }
}

fn digit(byte: u8) -> Option<u8> {
    Some(char::from(byte).to_digit(16)? as u8)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::string::String;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn families(mut program: Program<'_>) -> Vec<(Family, u8, u64)> {
        let mut all = Vec::new();
        while let Some((family, which)) = program.operation() {
            all.push((family, which, program.number(2)));
        }
        all
    }

    #[test]
    fn a_text_is_bytes_and_comments() {
        let text = b"# a program\n  05 34 12 # a call\n\nA3 00";
        let all = families(Program::recorded(text).unwrap());
        assert_eq!(
            all,
            [(Family::Call, 5, 0x1234), (Family::Ring, 3, 0)],
            "zeros follow the end"
        );
        assert_eq!(families(Program::recorded(b"# nothing\n").unwrap()), []);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        for (text, line) in [
            ("0", 1),
            ("00\n0x", 2),
            ("00 # fine\n# also\n12 3", 3),
            ("GG", 1),
        ] {
            let error = Program::recorded(text.as_bytes()).unwrap_err();
            assert_eq!(error, line, "{text}");
        }
    }

    #[test]
    fn a_seed_repeats_and_has_every_family() {
        let all = families(Program::random(7, 1000));
        assert_eq!(all, families(Program::random(7, 1000)));
        assert_ne!(all, families(Program::random(8, 1000)));
        assert_eq!(all.len(), 1000);
        for family in Family::ALL {
            assert!(all.iter().any(|one| one.0 == family), "{family:?}");
        }
    }

    #[test]
    fn values_reach_the_edges() {
        let mut program = Program::random(1, 1);
        let values: Vec<u64> = (0..20_000).map(|_| program.odd_value()).collect();
        for edge in [0, 1, u64::MAX, 1 << 63, 1 << 32, 0xFFF] {
            assert!(values.contains(&edge), "{edge:#x}");
        }
    }

    proptest! {
        #[test]
        fn what_a_random_program_did_can_be_recorded(seed: u64) {
            let mut random = Program::random(seed, 8);
            let (mut text, mut values) = (String::new(), Vec::new());
            while random.operation().is_some() {
                values.push((random.odd_value(), random.below(1000)));
                for byte in random.bytes() {
                    text += &format!("{byte:02x} ");
                }
                text += "\n";
            }
            let mut recorded = Program::recorded(text.as_bytes()).unwrap();
            for value in values {
                prop_assert!(recorded.operation().is_some());
                prop_assert_eq!((recorded.odd_value(), recorded.below(1000)), value);
            }
            prop_assert!(recorded.operation().is_none());
        }
    }
}
