//! Buffers and transfers: where bytes go, what is refused, and a guest whose memory changes.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use proptest::prelude::*;

use super::*;
use crate::GpaRun;

const PAGE: u64 = 4096;
/// Pages of the guest of the property test.
const PAGES: u64 = 12;

/// Guest memory of whole pages, of which any can be away.
struct Memory {
    bytes: RefCell<Vec<u8>>,
    away: Cell<u64>,
    accesses: Cell<usize>,
}

impl Memory {
    fn new(pages: u64) -> Self {
        let bytes = (0..pages * PAGE).map(pattern).collect();
        Self {
            bytes: RefCell::new(bytes),
            away: Cell::new(0),
            accesses: Cell::new(0),
        }
    }

    /// Takes a page from the guest, or gives it back.
    fn flip(&self, pfn: u64) {
        self.away.set(self.away.get() ^ 1 << pfn);
    }

    fn range(&self, gpa: u64, len: usize) -> Result<core::ops::Range<usize>, NotRam> {
        self.accesses.set(self.accesses.get() + 1);
        let end = gpa.checked_add(len as u64).ok_or(NotRam)?;
        let pages = gpa / PAGE..end.div_ceil(PAGE);
        let is_there = |pfn: u64| self.away.get() & 1 << pfn == 0;
        let inside = end <= self.bytes.borrow().len() as u64;
        (inside && pages.into_iter().all(is_there))
            .then_some(gpa as usize..end as usize)
            .ok_or(NotRam)
    }
}

/// What lies at an address at first.
fn pattern(gpa: u64) -> u8 {
    (gpa / PAGE * 31 + gpa * 7) as u8
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotRam> {
        let range = self.range(gpa, into.len())?;
        into.copy_from_slice(&self.bytes.borrow()[range]);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), NotRam> {
        let range = self.range(gpa, from.len())?;
        self.bytes.borrow_mut()[range].copy_from_slice(from);
        Ok(())
    }
}

fn list(runs: &[(u64, u64)]) -> Vec<Span> {
    let mut spans = Vec::new();
    for (gpa, len) in runs {
        append(&mut spans, *gpa, *len);
    }
    spans
}

/// Offsets, addresses and lengths of the pieces.
fn pieces(buffer: GuestBuffer<'_>) -> Vec<(u64, u64, u64)> {
    let of = |Piece { offset, run }: Piece| (offset, run.gpa, run.len);
    buffer.pieces().map(of).collect()
}

#[test]
fn what_follows_in_memory_is_one_piece() {
    let spans = list(&[(0x1800, 0x800), (0x2000, 0x1000), (0x5000, 1), (0x5001, 2)]);
    let buffer = GuestBuffer::of(&spans);
    assert_eq!(buffer.len(), 0x1803);
    assert_eq!(pieces(buffer), [(0, 0x1800, 0x1800), (0x1800, 0x5000, 3)]);
    // What lies before the last piece, or is the last piece again, does not.
    assert_eq!(list(&[(0x2000, 0x1000), (0x1000, 0x1000)]).len(), 2);
    assert_eq!(list(&[(0x2000, 0x1000), (0x2000, 0x1000)]).len(), 2);
}

#[test]
fn a_part_of_a_part_has_the_right_bytes() {
    let spans = list(&[(0x1F00, 0x100), (0x5000, 0x1000), (0x3000, 0x10)]);
    let buffer = GuestBuffer::of(&spans);
    let part = buffer.part(0x80, 0x1088).unwrap();
    assert_eq!(
        pieces(part),
        [
            (0, 0x1F80, 0x80),
            (0x80, 0x5000, 0x1000),
            (0x1080, 0x3000, 8)
        ]
    );
    let part = part.part(0x80, 0x1008).unwrap();
    assert_eq!(pieces(part), [(0, 0x5000, 0x1000), (0x1000, 0x3000, 8)]);
    assert_eq!(
        pieces(part.part(0xFFF, 2).unwrap()),
        [(0, 0x5FFF, 1), (1, 0x3000, 1)]
    );
    let last = part.part(0x1007, 1).unwrap();
    assert_eq!(pieces(last), [(0, 0x3007, 1)]);
    assert!(last.part(1, 1).is_err(), "the buffer it is of has more");
}

#[test]
fn nothing_is_a_part_of_every_buffer_and_has_no_pieces() {
    let spans = list(&[(0x1000, 0x1000), (0x7000, 0x1000)]);
    for buffer in [GuestBuffer::of(&[]), GuestBuffer::of(&spans)] {
        for offset in [0, buffer.len() / 2, buffer.len()] {
            let part = buffer.part(offset, 0).unwrap();
            assert!(part.is_empty());
            assert_eq!(part.len(), 0);
            assert_eq!(pieces(part), []);
            assert_eq!(pieces(part.part(0, 0).unwrap()), []);
        }
    }
}

#[test]
fn more_than_a_buffer_has_is_refused_and_nothing_moves() {
    let memory = Memory::new(2);
    let spans = list(&[(0x1000, 0x20), (0, 0x20)]);
    let transfer = Transfer::new(&memory, GuestBuffer::of(&spans));
    let lies = [
        (0, 0x41),
        (0x40, 1),
        (0x41, 0),
        (u64::MAX, 1),
        (u64::MAX, 0),
        (1, u64::MAX),
    ];
    for (offset, len) in lies {
        let outside = OutsideBuffer {
            offset,
            len,
            size: 0x40,
        };
        assert_eq!(transfer.part(offset, len).err(), Some(outside));
        if len <= 0x41 {
            let mut bytes = vec![0xEE; len as usize];
            let refused = Err(BulkError::Outside(outside));
            assert_eq!(transfer.read(offset, &mut bytes), refused);
            assert_eq!(transfer.write(offset, &bytes), refused);
            assert!(bytes.iter().all(|byte| *byte == 0xEE));
        }
    }
    let (mut first, mut second) = ([0xEE; 0x20], [0xEE; 0x21]);
    let both = transfer.read_vectored(0, &mut [&mut first, &mut second]);
    assert!(matches!(both, Err(BulkError::Outside(_))));
    assert_eq!(first, [0xEE; 0x20]);
    assert!(transfer.write_vectored(0, &[&first, &second]).is_err());
    assert_eq!(memory.accesses.get(), 0);
}

#[test]
fn no_bytes_are_moved_without_an_access() {
    let memory = Memory::new(1);
    let transfer = Transfer::new(&memory, GuestBuffer::of(&[]));
    transfer.read(0, &mut []).unwrap();
    transfer.write(0, &[]).unwrap();
    transfer.read_vectored(0, &mut [&mut [], &mut []]).unwrap();
    transfer.write_vectored(0, &[]).unwrap();
    assert_eq!(memory.accesses.get(), 0);
}

#[test]
fn a_page_that_goes_between_two_accesses_fails_those_that_touch_it() {
    let memory = Memory::new(8);
    let spans = list(&[(0x2800, 0x800), (0x6000, 0x1000), (0x4000, 0x1000)]);
    let transfer = Transfer::new(&memory, GuestBuffer::of(&spans));
    let mut bytes = vec![0; 0x2800];
    transfer.read(0, &mut bytes).unwrap();
    memory.flip(6);
    let gone = |done| {
        let gpa = 0x6000 + done - 0x800;
        Err(BulkError::NotRam { gpa, done })
    };
    assert_eq!(transfer.read(0, &mut bytes), gone(0x800));
    assert_eq!(transfer.write(0, &bytes), gone(0x800));
    let mut two = [0; 0x900];
    let (first, second) = two.split_at_mut(0x400);
    let result = transfer.read_vectored(0, &mut [first, second]);
    assert_eq!(result, gone(0x800), "counted over all slices");
    // Around it all is as before, and when it is back as well.
    transfer.read(0, &mut bytes[..0x800]).unwrap();
    transfer.write(0x1800, &[9; 0x1000]).unwrap();
    memory.flip(6);
    transfer.read(0, &mut bytes).unwrap();
    assert_eq!(bytes[0x1800..], [9; 0x1000]);
}

#[test]
fn a_page_that_goes_in_the_midst_of_an_access_ends_it_there() {
    /// The second access finds the memory gone.
    struct Going(Memory);
    impl GuestMemory for Going {
        fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotRam> {
            let result = self.0.read(gpa, into);
            self.0.away.set(u64::MAX);
            result
        }
        fn write(&self, gpa: u64, from: &[u8]) -> Result<(), NotRam> {
            let result = self.0.write(gpa, from);
            self.0.away.set(u64::MAX);
            result
        }
    }
    let spans = list(&[(0x1000, 0x10), (0x3000, 0x10), (0x5000, 0x10)]);
    let gone = Err(BulkError::NotRam {
        gpa: 0x3000,
        done: 0x10,
    });
    let memory = Going(Memory::new(8));
    let mut bytes = [0xEE; 0x30];
    let transfer = Transfer::new(&memory, GuestBuffer::of(&spans));
    assert_eq!(transfer.read(0, &mut bytes), gone);
    assert_eq!(bytes[0x10..], [0xEE; 0x20]);
    assert_eq!(memory.0.accesses.get(), 2, "nothing behind it is tried");
    memory.0.away.set(0);
    assert_eq!(transfer.write(0, &bytes), gone);
}

#[test]
fn a_page_that_is_there_twice_is_the_same_bytes_twice() {
    let memory = Memory::new(4);
    let spans = list(&[(0x1000, 0x1000), (0x3000, 0x10), (0x1000, 0x1000)]);
    let transfer = Transfer::new(&memory, GuestBuffer::of(&spans));
    transfer.write(0, &[1; 0x1000]).unwrap();
    transfer.write(0x1010, &[2; 0x800]).unwrap();
    let mut bytes = [0; 0x1000];
    transfer.read(0, &mut bytes).unwrap();
    assert_eq!(bytes[..0x800], [2; 0x800]);
    assert_eq!(bytes[0x800..], [1; 0x800]);
}

#[test]
fn memory_behind_a_trait_object_serves_as_well() {
    let memory = Memory::new(1);
    let memory: &dyn GuestMemory = &memory;
    let spans = list(&[(0x10, 2)]);
    let mut bytes = [0; 2];
    let transfer = Transfer::new(memory, GuestBuffer::of(&spans));
    transfer.read(0, &mut bytes).unwrap();
    assert_eq!(bytes, [pattern(0x10), pattern(0x11)]);
}

/// What a service does, and a guest meanwhile. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Action {
    Read(u64, Vec<usize>),
    Write(u64, Vec<Vec<u8>>),
    Flip(u64),
    Part(u64, u64),
}

fn action() -> impl Strategy<Value = Action> {
    let lengths = prop::collection::vec(0usize..6000, 0..4);
    let slice = (any::<u8>(), 0usize..6000).prop_map(|(byte, len)| vec![byte; len]);
    prop_oneof![
        4 => (any::<u64>(), lengths).prop_map(|(at, lengths)| Action::Read(at, lengths)),
        4 => (any::<u64>(), prop::collection::vec(slice, 0..4))
            .prop_map(|(at, slices)| Action::Write(at, slices)),
        1 => (0..PAGES).prop_map(Action::Flip),
        1 => (any::<u64>(), any::<u64>()).prop_map(|(at, len)| Action::Part(at, len)),
    ]
}

/// The addresses of a buffer one by one, and the guest's memory as a plain array.
struct Model {
    gpas: Vec<u64>,
    bytes: Vec<u8>,
    away: u64,
}

impl Model {
    /// How many of these bytes of the buffer are moved, and whether all are: pieces go as a whole.
    fn movable(&self, at: usize, len: usize) -> (usize, bool) {
        let there = |gpa: &u64| gpa / PAGE < PAGES && self.away & 1 << (gpa / PAGE) == 0;
        let gpas = &self.gpas[at..at + len];
        let mut done = 0;
        while done < len {
            let follows = |pair: &[u64]| pair[0] + 1 == pair[1];
            let piece = 1 + gpas[done..].windows(2).take_while(|p| follows(p)).count();
            if !gpas[done..done + piece].iter().all(there) {
                return (done, false);
            }
            done += piece;
        }
        (done, true)
    }

    /// Lengths of the slices that an access moves, and where a failing one stops. A slice's end ends a piece.
    fn expected(&self, at: usize, lengths: &[usize]) -> (usize, bool) {
        let mut done = 0;
        for len in lengths {
            let (moved, all) = self.movable(at + done, *len);
            done += moved;
            if !all {
                return (done, false);
            }
        }
        (done, true)
    }
}

fn check(result: Result<(), BulkError>, expected: (usize, bool), gpas: &[u64]) {
    let (done, all) = expected;
    let failed = || BulkError::NotRam {
        gpa: gpas[done],
        done: done as u64,
    };
    assert_eq!(result.err(), (!all).then(failed));
}

proptest! {
    #[test]
    fn random_accesses_to_random_buffers_are_those_of_a_plain_array(
        // Some pages behind the end of memory.
        runs in prop::collection::vec((0..(PAGES + 1) * PAGE, 1..3 * PAGE), 0..8),
        actions in prop::collection::vec(action(), 1..30),
    ) {
        let memory = Memory::new(PAGES);
        let spans = list(&runs);
        let mut transfer = Transfer::new(&memory, GuestBuffer::of(&spans));
        let mut model = Model {
            gpas: runs.iter().flat_map(|(gpa, len)| *gpa..gpa + len).collect(),
            bytes: (0..PAGES * PAGE).map(pattern).collect(),
            away: 0,
        };
        for action in actions {
            let size = model.gpas.len();
            prop_assert_eq!(transfer.buffer().len(), size as u64);
            match action {
                Action::Read(at, lengths) => {
                    let at = (at % (size as u64 + 1)) as usize;
                    let wanted: usize = lengths.iter().sum();
                    let mut slices: Vec<Vec<u8>> = lengths.iter().map(|len| vec![0xA5; *len]).collect();
                    let mut into: Vec<&mut [u8]> = slices.iter_mut().map(|slice| &mut slice[..]).collect();
                    let result = transfer.read_vectored(at as u64, &mut into);
                    let read = slices.concat();
                    let done = if at + wanted <= size {
                        let expected = model.expected(at, &lengths);
                        check(result, expected, &model.gpas[at..]);
                        expected.0
                    } else {
                        prop_assert!(matches!(result, Err(BulkError::Outside(_))));
                        0
                    };
                    let gpas = &model.gpas[at..at + done];
                    prop_assert!(gpas.iter().map(|gpa| &model.bytes[*gpa as usize]).eq(&read[..done]));
                    prop_assert!(read[done..].iter().all(|byte| *byte == 0xA5));
                }
                Action::Write(at, slices) => {
                    let at = (at % (size as u64 + 1)) as usize;
                    let from: Vec<&[u8]> = slices.iter().map(|slice| &slice[..]).collect();
                    let (lengths, bytes): (Vec<usize>, _) =
                        (slices.iter().map(Vec::len).collect(), slices.concat());
                    let result = transfer.write_vectored(at as u64, &from);
                    if at + bytes.len() > size {
                        prop_assert!(matches!(result, Err(BulkError::Outside(_))));
                        continue;
                    }
                    let expected = model.expected(at, &lengths);
                    check(result, expected, &model.gpas[at..]);
                    for (gpa, byte) in model.gpas[at..].iter().zip(&bytes[..expected.0]) {
                        model.bytes[*gpa as usize] = *byte;
                    }
                }
                Action::Flip(pfn) => {
                    memory.flip(pfn);
                    model.away ^= 1 << pfn;
                }
                Action::Part(at, len) => {
                    let at = (at % (size as u64 + 1)) as usize;
                    let len = (len % ((size - at) as u64 + 1)) as usize;
                    transfer = transfer.part(at as u64, len as u64).unwrap();
                    model.gpas = model.gpas[at..at + len].to_vec();
                }
            }
        }
        prop_assert!(*memory.bytes.borrow() == model.bytes);
        let pieces = transfer.buffer().pieces();
        let gpas = pieces.flat_map(|Piece { run: GpaRun { gpa, len }, .. }| gpa..gpa + len);
        prop_assert!(gpas.eq(model.gpas));
    }
}
