//! Rings in scattered pages are one piece of memory for their user.

use ::vmbus::gpadl::GpadlTable;
use ::vmbus::protocol::{GpadlHandle, Relid};
use ::vmbus::ring::{Gone, RingMemory};
use proptest::prelude::*;

use super::super::*;
use crate::vmbus::RunMemory;

const HANDLE: GpadlHandle = GpadlHandle(1);
const PAGE: usize = 4096;

/// The GPADL of these pages.
fn table(pages: &[u64]) -> GpadlTable {
    let mut bytes = vec![0; 8];
    bytes[..4].copy_from_slice(&(pages.len() as u32 * 4096).to_le_bytes());
    bytes.extend(pages.iter().flat_map(|pfn| pfn.to_le_bytes()));
    let mut table = GpadlTable::default();
    let everything = |_: u64| true;
    let size = (bytes.len() as u16, 1);
    let (first, rest) = bytes.split_at(bytes.len().min(27 * 8));
    table
        .header(&everything, Relid(1), HANDLE, size, first)
        .unwrap();
    for body in rest.chunks(28 * 8) {
        table.body(&everything, HANDLE, body).unwrap();
    }
    table
}

fn ram() -> TestRam {
    TestRam::new(VecRam::new(1 << 20))
}

fn ring(ram: &TestRam, pages: &[u64]) -> Result<RunMemory<TestRam>, Gone> {
    RunMemory::new(ram, &table(pages).get(HANDLE).unwrap().range(0).unwrap())
}

#[test]
fn memory_that_is_no_ram_is_no_ring() {
    // 1 MiB are 0x100 pages.
    assert!(ring(&ram(), &[0xFE, 0xFF]).is_ok());
    for pages in [[0xFF, 0x100], [0x100, 0x101], [1 << 39, 1]] {
        assert!(ring(&ram(), &pages).is_err(), "{pages:x?}");
    }
}

#[test]
fn a_ring_of_more_than_the_largest_size_is_no_ring() {
    let pages: Vec<u64> = (0..0x101).collect();
    let ram = TestRam::new(VecRam::new(2 << 20));
    let of = |count: usize| ring(&ram, &pages[..count]).map(|ring| ring.size());
    assert_eq!(of(0x100), Ok(1 << 20));
    assert_eq!(of(0x101), Err(Gone));
}

#[test]
fn nothing_beyond_the_ring_is_touched() {
    let (ram, pages) = (ram(), [7, 3]);
    let ring = ring(&ram, &pages).unwrap();
    assert_eq!(ring.size(), 0x2000);
    for (at, len) in [(0x1FFF, 2), (0x2000, 1), (u32::MAX, 8), (0, 0x2001)] {
        assert_eq!(ring.read(at, &mut vec![0; len]), Err(Gone));
        assert_eq!(ring.write(at, &vec![9; len]), Err(Gone));
    }
    for at in [0x1FFE, 0x2000, u32::MAX - 3, 2] {
        assert_eq!(ring.load_acquire(at), Err(Gone));
        assert_eq!(ring.store_release(at, 9), Err(Gone));
    }
    assert_eq!(ring.read(0x2000, &mut []), Ok(()));
    let mut all = vec![0; 1 << 20];
    ram.read(0, &mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == 0));
}

proptest! {
    #[test]
    fn accesses_go_to_the_pages_in_their_order(
        pages in Just((0..0x100u64).collect::<Vec<_>>()).prop_shuffle(),
        count in 2usize..20,
        accesses in proptest::collection::vec((any::<u32>(), 0usize..10_000), 1..20),
    ) {
        let pages = &pages[..count];
        let ram = ram();
        let ring = ring(&ram, pages).unwrap();
        let mut model = vec![0u8; count * PAGE];
        for (number, (at, len)) in accesses.into_iter().enumerate() {
            let at = at as usize % model.len();
            let len = len.min(model.len() - at);
            let bytes: Vec<u8> = (0..len).map(|byte| (byte * 7 + number * 13 + 1) as u8).collect();
            ring.write(at as u32, &bytes).unwrap();
            model[at..at + len].copy_from_slice(&bytes);
            let word = at / 4 * 4;
            ring.store_release(word as u32, number as u32).unwrap();
            model[word..word + 4].copy_from_slice(&(number as u32).to_le_bytes());
            prop_assert_eq!(ring.load_acquire(word as u32), Ok(number as u32));
        }
        let mut read = vec![0; model.len()];
        ring.read(0, &mut read).unwrap();
        prop_assert!(read == model);
        for (page, model) in pages.iter().zip(model.chunks(PAGE)) {
            let mut bytes = [0; PAGE];
            ram.read(page * 4096, &mut bytes).unwrap();
            prop_assert!(bytes == *model);
        }
    }
}
