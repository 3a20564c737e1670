//! Bulk data: packets and GPADLs that name guest memory, with descriptors that lie, and a guest whose pages come and go
//! between the service's accesses.
//!
//! Input: actions ([`World::act`]). Decoding is compared with a second decoder, and accesses with a plain array.
#![no_main]

mod input;
#[path = "../../../root/vmbus/tests/one_packet/mod.rs"]
mod one_packet;

use std::cell::{Cell, RefCell};
use std::ops::Range;

use input::Input;
use one_packet::OnePacket;
use vmbus::bulk::{BulkError, GuestBuffer, GuestMemory, NotRam, Piece, Transfer};
use vmbus::gpadl::GpadlTable;
use vmbus::protocol::{GpadlHandle, PacketType, Relid};
use vmbus::ring::*;

/// More than an input that is worth it has.
const MOST_ACTIONS: usize = 100;
const PAGE: u64 = 4096;
/// Pages of the guest's memory.
const PAGES: u64 = 40;
/// Headers and page numbers of the longest list: its length in bytes has 16 bits in a GPADL.
const MOST_UNITS: usize = 8191;
/// Most bytes of an access.
const MOST_BYTES: usize = 4 * PAGE as usize;
const HANDLE: GpadlHandle = GpadlHandle(1);
const UNIT: usize = 8;

/// The guest's memory.
struct Memory {
    bytes: RefCell<Vec<u8>>,
    /// A bit for each page that is away.
    away: u64,
    /// Where the service's own bytes are: nothing else is copied from or to.
    own: Cell<(usize, usize)>,
}

impl Memory {
    fn is_there(&self, pages: Range<u64>) -> bool {
        pages.end <= PAGES && !{ pages }.any(|pfn| self.away & 1 << pfn != 0)
    }

    fn range(&self, gpa: u64, slice: &[u8]) -> Result<Range<usize>, NotRam> {
        let at = slice.as_ptr() as usize;
        let (start, end) = self.own.get();
        assert!(start <= at && at + slice.len() <= end, "not the service's");
        assert!(!slice.is_empty(), "an access of nothing");
        let end = gpa + slice.len() as u64;
        let is_there = self.is_there(gpa / PAGE..end.div_ceil(PAGE));
        is_there.then_some(gpa as usize..end as usize).ok_or(NotRam)
    }
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotRam> {
        into.copy_from_slice(&self.bytes.borrow()[self.range(gpa, into)?]);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), NotRam> {
        let range = self.range(gpa, from)?;
        self.bytes.borrow_mut()[range].copy_from_slice(from);
        Ok(())
    }
}

/// What a list of ranges says: addresses and lengths, none longer than a page. `None` if it lies.
fn decode(units: &[u64], count: u32, most_pages: usize) -> Option<Vec<Vec<(u64, u64)>>> {
    let mut units = units.iter();
    let mut pages = 0;
    let mut ranges = Vec::new();
    for _ in 0..count {
        let header = *units.next()?;
        let (mut left, mut offset) = (header & 0xFFFF_FFFF, header >> 32);
        if offset >= PAGE {
            return None;
        }
        let mut range = Vec::new();
        for _ in 0..(offset + left).div_ceil(PAGE) {
            let pfn = *units.next()?;
            pages += 1;
            if pages > most_pages || pfn >= 1 << 40 {
                return None;
            }
            let len = left.min(PAGE - offset);
            if len > 0 {
                range.push((pfn * PAGE + offset, len));
            }
            (left, offset) = (left - len, 0);
        }
        assert_eq!(left, 0);
        ranges.push(range);
    }
    Some(ranges)
}

/// The pieces are these bytes, and as few as can be.
fn check_pieces(buffer: &GuestBuffer<'_>, parts: &[(u64, u64)]) {
    let mut parts = parts.iter().copied();
    let mut at = 0;
    let mut last_end = None;
    for Piece { offset, run } in buffer.pieces() {
        assert_eq!(offset, at);
        assert_ne!(last_end, Some(run.gpa), "it follows the one before");
        let mut here = 0;
        while here < run.len {
            let (gpa, len) = parts.next().expect("bytes that were not named");
            assert_eq!(gpa, run.gpa + here);
            here += len;
        }
        assert_eq!(here, run.len);
        at += run.len;
        last_end = Some(run.gpa + run.len);
    }
    assert_eq!(at, buffer.len());
    assert!(parts.next().is_none());
}

struct World {
    memory: Memory,
    /// What its bytes have to be.
    model: Vec<u8>,
    list: GpaList,
    gpadls: GpadlTable,
    /// What the list, and the first range of the GPADL, are made of.
    named: [Vec<(u64, u64)>; 2],
}

impl World {
    fn new() -> Self {
        let bytes: Vec<u8> = (0..PAGES * PAGE).map(|at| (at / PAGE + at) as u8).collect();
        Self {
            model: bytes.clone(),
            memory: Memory {
                bytes: RefCell::new(bytes),
                away: 0,
                own: Cell::new((0, 0)),
            },
            list: GpaList::new(),
            gpadls: GpadlTable::default(),
            named: [Vec::new(), Vec::new()],
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.u8() % 5 {
            0 => self.send(input),
            1 => self.describe(input),
            2 => self.memory.away ^= 1 << (u64::from(input.u8()) % PAGES),
            3 => self.access(input, false),
            _ => self.access(input, true),
        }
    }

    /// A packet of the guest, and its list.
    fn send(&mut self, input: &mut Input<'_>) {
        let (kind, cut) = (input.u8(), input.u8());
        let is_direct = kind & 3 != 0;
        let other = PacketType(u16::from(kind >> 2) + 10);
        let packet_type = if is_direct {
            PacketType::DATA_USING_GPA_DIRECT
        } else {
            other
        };
        let (count, units) = ranges(input);
        let header: Vec<u64> = [u64::from(count) << 32 | 9]
            .into_iter()
            .chain(units)
            .collect();
        let memory = OnePacket::new(packet_type, &header, cut);
        let mut ring = IncomingRing::new(memory).expect("a ring");
        let Ok(packet) = ring.read_packet() else {
            assert!(usize::from(cut) > header.len());
            return;
        };
        let mut packet = packet.expect("a packet");
        let result = packet.read_gpa_direct(&mut self.list);
        let visible = header.len().saturating_sub(cut.into());
        let expected = match header.get(1..visible) {
            _ if !is_direct => Some(Vec::new()),
            Some(units) if count <= MAX_GPA_RANGES => decode(units, count, MAX_GPA_PAGES),
            _ => None,
        };
        assert_eq!(result.is_ok(), expected.is_some(), "{result:?}");
        let parts = expected.map(|ranges| ranges.concat());
        if parts.is_none() {
            self.list.clear();
        }
        self.named[0] = parts.unwrap_or_default();
        check_pieces(&self.list.buffer(), &self.named[0]);
    }

    /// A GPADL of the guest, instead of the one before.
    fn describe(&mut self, input: &mut Input<'_>) {
        self.gpadls.remove(HANDLE);
        self.named[1].clear();
        let (count, units) = ranges(input);
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let size = (bytes.len() as u16, count as u16);
        let (memory, gpadls) = (&self.memory, &mut self.gpadls);
        let is_ram = |pfn: u64| pfn < PAGES && memory.is_there(pfn..pfn + 1);
        let (first, rest) = bytes.split_at(bytes.len().min(27 * UNIT));
        if gpadls
            .header(&is_ram, Relid(1), HANDLE, size, first)
            .is_ok()
        {
            for body in rest.chunks(28 * UNIT) {
                let _ = gpadls.body(&is_ram, HANDLE, body);
            }
        }
        let Some(gpadl) = gpadls.get(HANDLE) else {
            return;
        };
        let ranges = decode(&units, size.1.into(), units.len()).expect("it was taken");
        assert_eq!(gpadl.range_count(), ranges.len());
        for (index, parts) in ranges.iter().enumerate() {
            check_pieces(&gpadl.range(index).expect("a range"), parts);
            assert!(parts.iter().all(|(gpa, _)| is_ram(gpa / PAGE)));
        }
        self.named[1] = ranges.into_iter().next().unwrap_or_default();
    }

    /// A service accesses what was named, or a part of it.
    fn access(&mut self, input: &mut Input<'_>, is_write: bool) {
        let which = usize::from(input.u8() & 1);
        let buffer = match self.gpadls.get(HANDLE) {
            Some(gpadl) if which == 1 => gpadl.range(0).expect("a range"),
            _ => self.list.buffer(),
        };
        let which = usize::from(which == 1 && self.gpadls.get(HANDLE).is_some());
        let (offset, at) = (u64::from(input.u32() >> 8), u64::from(input.u16()));
        let len = usize::from(input.u16()) % MOST_BYTES;
        let transfer = Transfer::new(&self.memory, buffer);
        let Ok(part) = transfer.part(offset, buffer.len().wrapping_sub(offset)) else {
            assert!(offset > buffer.len());
            return;
        };
        let mut bytes = vec![input.u8(); len];
        let before = bytes.clone();
        let own = bytes.as_ptr_range();
        self.memory.own.set((own.start as usize, own.end as usize));
        let (head, tail) = bytes.split_at_mut(usize::from(input.u16()).min(len));
        let result = if is_write {
            part.write_vectored(at, &[head, tail])
        } else {
            part.read_vectored(at, &mut [head, tail])
        };
        let done = match result {
            Ok(()) => len,
            Err(BulkError::Outside(_)) => {
                assert!(at + len as u64 > part.buffer().len());
                0
            }
            Err(BulkError::NotRam { done, .. }) => done as usize,
        };
        let gpas: Vec<u64> = addresses(&self.named[which], offset + at)
            .take(len)
            .collect();
        let wrong = gpas
            .iter()
            .any(|gpa| !self.memory.is_there(gpa / PAGE..gpa / PAGE + 1));
        match result {
            Ok(()) => assert!(!wrong && gpas.len() == len),
            // Asserted above.
            Err(BulkError::Outside(_)) => {}
            Err(BulkError::NotRam { gpa, .. }) => assert!(wrong && gpas[done] == gpa),
        }
        for (gpa, byte) in gpas.iter().zip(&mut bytes[..done]) {
            let place = &mut self.model[*gpa as usize];
            if is_write {
                *place = *byte;
            } else {
                assert_eq!(*place, *byte);
            }
        }
        assert_eq!(bytes[done..], before[done..]);
    }
}

/// The addresses of what was named, one by one, from a byte on.
fn addresses(named: &[(u64, u64)], from: u64) -> impl Iterator<Item = u64> {
    let mut skip = from;
    named.iter().flat_map(move |(gpa, len)| {
        let here = skip.min(*len);
        skip -= here;
        gpa + here..gpa + len
    })
}

/// Ranges with their pages, nearly right: how many they are said to be, and what is written of them.
fn ranges(input: &mut Input<'_>) -> (u32, Vec<u64>) {
    let (count, lie) = (u32::from(input.u8()) % 70, input.u8());
    let mut units = Vec::new();
    for _ in 0..count {
        let (len, offset) = (u64::from(input.u16()), u64::from(input.u16()) % 4100);
        let (stretch, first) = (input.u8(), input.u8());
        // Some are much longer, and have pages that follow each other.
        let len = if stretch == 1 { len << 8 } else { len };
        if units.len() >= MOST_UNITS {
            break;
        }
        units.push(len | offset << 32);
        for page in 0..(offset + len).div_ceil(PAGE) {
            let pfn = match stretch {
                0 => u64::from(input.u8()),
                2 => u64::from(input.u8()) << 33,
                _ => u64::from(first) % PAGES + page,
            };
            units.push(pfn);
            if units.len() >= MOST_UNITS {
                return (count, units);
            }
        }
    }
    match lie {
        0 => (input.u32(), units),
        1 => {
            units.pop();
            (count, units)
        }
        2 => {
            let at = usize::from(input.u16());
            if let Some(unit) = units.get_mut(at) {
                *unit = u64::from(input.u32()) << (input.u8() % 33);
            }
            (count, units)
        }
        _ => (count, units),
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input::new(data);
    let mut world = World::new();
    for _ in 0..MOST_ACTIONS {
        if input.is_over() {
            break;
        }
        world.act(&mut input);
    }
    assert!(*world.memory.bytes.borrow() == world.model);
});
