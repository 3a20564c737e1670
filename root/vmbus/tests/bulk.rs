//! Bulk data is copied once, between the guest's memory and the service's own, and nothing is allocated for it.
#![expect(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait; the crate itself has no unsafe code"
)]

mod counting;
mod one_packet;

use std::cell::{Cell, RefCell};
use std::ops::Range;

use counting::Held;
use one_packet::OnePacket;
use vmbus::bulk::{GuestMemory, NotRam, Transfer};
use vmbus::gpadl::GpadlTable;
use vmbus::protocol::{GpadlHandle, PacketType, Relid};
use vmbus::ring::{GpaList, IncomingRing, MAX_GPA_PAGES};

const PAGE: usize = 4096;
/// Pages of the guest: twice as many as a packet can name, so that none has to follow another.
const PAGES: usize = 2 * MAX_GPA_PAGES;

/// The guest's memory. It counts what is copied, and knows where the service's own bytes are: any other place would be a
/// buffer in between.
struct Counted {
    bytes: RefCell<Vec<u8>>,
    own: Cell<(usize, usize)>,
    copies: Cell<usize>,
    copied: Cell<usize>,
}

impl Counted {
    fn new() -> Self {
        Self {
            bytes: RefCell::new((0..PAGES * PAGE).map(|at| (at / PAGE + at) as u8).collect()),
            own: Cell::new((0, 0)),
            copies: Cell::new(0),
            copied: Cell::new(0),
        }
    }

    fn copy(&self, gpa: u64, slice: &[u8]) -> Result<Range<usize>, NotRam> {
        let (start, end) = self.own.get();
        let at = slice.as_ptr() as usize;
        assert!(start <= at && at + slice.len() <= end, "not the service's");
        self.copies.set(self.copies.get() + 1);
        self.copied.set(self.copied.get() + slice.len());
        let gpa = usize::try_from(gpa).map_err(|_| NotRam)?;
        let end = gpa
            .checked_add(slice.len())
            .filter(|end| *end <= PAGES * PAGE);
        Ok(gpa..end.ok_or(NotRam)?)
    }

    /// Copies and bytes since the last look.
    fn count(&self) -> (usize, usize) {
        (self.copies.take(), self.copied.take())
    }

    /// The service's bytes from now on.
    fn own(&self, bytes: &[u8]) {
        let range = bytes.as_ptr_range();
        self.own.set((range.start as usize, range.end as usize));
    }
}

impl GuestMemory for Counted {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), NotRam> {
        into.copy_from_slice(&self.bytes.borrow()[self.copy(gpa, into)?]);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), NotRam> {
        let range = self.copy(gpa, from)?;
        self.bytes.borrow_mut()[range].copy_from_slice(from);
        Ok(())
    }
}

fn packets_move_their_data_with_one_copy() {
    let guest = Counted::new();
    let len = MAX_GPA_PAGES * PAGE - 0x300;
    // One range, from byte 0x300 of its first page on.
    let mut header = vec![1 << 32, len as u64 | 0x300 << 32];
    header.extend((0..MAX_GPA_PAGES as u64).map(|page| 2 * page + 1));
    let packet = OnePacket::new(PacketType::DATA_USING_GPA_DIRECT, &header, 0);
    let mut ring = IncomingRing::new(packet).unwrap();
    let mut list = GpaList::new();
    let mut bytes = vec![0; len];
    guest.own(&bytes);
    let mut held = Held::default();
    held.by(|| {
        let mut packet = ring.read_packet().unwrap().unwrap();
        packet.read_gpa_direct(&mut list).unwrap();
        let transfer = Transfer::new(&guest, list.buffer());
        transfer.read(0, &mut bytes).unwrap();
    });
    assert_eq!(guest.count(), (MAX_GPA_PAGES, len));
    let first = bytes[..PAGE - 0x300].to_vec();
    assert_eq!(first, guest.bytes.borrow()[PAGE + 0x300..2 * PAGE]);
    bytes.fill(0x5A);
    held.by(|| {
        let transfer = Transfer::new(&guest, list.buffer());
        // The second slice starts in a page that the first has begun, so that page takes two copies.
        let (head, tail) = bytes.split_at(0x2100);
        transfer.write_vectored(0, &[head, tail]).unwrap();
    });
    assert_eq!(guest.count(), (MAX_GPA_PAGES + 1, len));
    let written = guest
        .bytes
        .borrow()
        .iter()
        .filter(|byte| **byte == 0x5A)
        .count();
    assert!(written >= len);
    assert_eq!(held.most, 0, "bytes allocated");
}

fn parts_of_a_gpadl_move_with_one_copy() {
    let guest = Counted::new();
    let mut table = GpadlTable::default();
    let header: [u32; 2] = [26 * PAGE as u32, 0];
    let mut buffer: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    buffer.extend((0..26u64).flat_map(|page| (2 * page).to_le_bytes()));
    let size = (buffer.len() as u16, 1);
    let handle = GpadlHandle(1);
    table
        .header(&|_| true, Relid(1), handle, size, &buffer)
        .unwrap();
    let range = table.get(handle).unwrap().range(0).unwrap();
    let bytes = vec![0x77; 3 * PAGE];
    guest.own(&bytes);
    let mut held = Held::default();
    held.by(|| {
        let section = Transfer::new(&guest, range).part(0x4800, 0x4000).unwrap();
        section.write(0x800, &bytes[..0x2800]).unwrap();
    });
    // Pages 5 and 6, and half of page 7.
    assert_eq!(guest.count(), (3, 0x2800));
    assert_eq!(guest.bytes.borrow()[10 * PAGE..][..PAGE], [0x77; PAGE]);
    assert_eq!(held.most, 0, "bytes allocated");
}

// One test, so that nothing else allocates meanwhile.
#[test]
fn bulk_data_is_copied_once_and_nothing_is_allocated_for_it() {
    packets_move_their_data_with_one_copy();
    parts_of_a_gpadl_move_with_one_copy();
}
