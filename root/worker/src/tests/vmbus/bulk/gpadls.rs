//! Buffers that a guest describes once and names by a handle.

use ::vmbus::gpadl::{MAX_GPADLS_PER_CHANNEL, MAX_UNITS_PER_CHANNEL};
use board::layout::PAGE;

use super::*;

const HANDLE: u32 = 5;
/// Pages of the guest's 8 MiB.
const PAGES: u64 = 0x800;
/// The most that a range buffer of 16 bits of length has room for, beside a header.
const MOST_PAGES: u64 = 8190;

fn whole(pages: &[u64]) -> u64 {
    range(pages.len() as u32 * 4096, 0)
}

#[test]
fn sections_of_a_buffer_are_read_and_written_by_offset() {
    let mut guest = Guest::new(8);
    let pages: Vec<u64> = (0..100).map(|page| 0x200 + page * 3).collect();
    assert_eq!(guest.gpadl(HANDLE, &[(whole(&pages), &pages)]), 0);
    let buffer = guest.find(HANDLE).unwrap().range(0).unwrap();
    let buffer = Transfer::new(&guest.memory, buffer);
    // Sections of 0x1800 bytes, as a network adapter's buffer has.
    for section in 0..66u64 {
        let transfer = buffer.part(section * 0x1800, 0x1800).unwrap();
        transfer.write(0, &[section as u8; 0x1800]).unwrap();
        assert!(transfer.write(0x17FF, &[0; 2]).is_err(), "the next one's");
    }
    for (page, pfn) in pages.iter().enumerate().take(99) {
        let byte = |half: usize| ((page * 2 + half) / 3) as u8;
        let bytes = guest.bytes(pfn * PAGE, 4096);
        assert_eq!(bytes[..0x800], [byte(0); 0x800]);
        assert_eq!(bytes[0x800..], [byte(1); 0x800]);
    }
    let end = 100 * PAGE;
    for (offset, len) in [
        (end - 1, 2),
        (end, 1),
        (u64::MAX, 2),
        (0, u64::MAX),
        (end + 1, 0),
    ] {
        assert!(buffer.part(offset, len).is_err(), "{offset:#x} {len:#x}");
    }
}

#[test]
fn each_range_of_a_gpadl_is_a_buffer_of_its_own() {
    let mut guest = Guest::new(8);
    let ranges = [
        (range(0x1002, 0xFFF), &[0x200, 0x300, 0x400][..]),
        (range(3, 8), &[0x500]),
    ];
    assert_eq!(guest.gpadl(HANDLE, &ranges), 0);
    let gpadl = guest.find(HANDLE).unwrap();
    for (index, len) in [(0, 0x1002), (1, 3)] {
        let buffer = Transfer::new(&guest.memory, gpadl.range(index).unwrap());
        assert_eq!(buffer.buffer().len(), len);
        buffer.write(0, &vec![7; len as usize]).unwrap();
        assert!(buffer.write(len, &[8]).is_err());
    }
    assert!(gpadl.range(2).is_none());
    assert_eq!(guest.bytes(0x20_0FFE, 2), [0, 7]);
    assert_eq!(guest.bytes(0x40_0000, 2), [7, 0]);
    assert_eq!(guest.bytes(0x50_0007, 5), [0, 7, 7, 7, 0]);
}

#[test]
fn a_page_of_a_buffer_that_is_unmapped_fails_the_accesses_to_it() {
    let mut guest = Guest::new(8);
    let pages = [0x200, 0x300, 0x301, 0x400];
    assert_eq!(guest.gpadl(HANDLE, &[(whole(&pages), &pages)]), 0);
    guest.ram.set_present(0x301..0x302, false);
    let buffer = guest.find(HANDLE).unwrap().range(0).unwrap();
    let buffer = Transfer::new(&guest.memory, buffer);
    let gone = |pfn: u64, done| {
        let gpa = pfn * PAGE;
        Err(BulkError::NotRam { gpa, done })
    };
    assert_eq!(buffer.write(0, &[1; 0x4000]), gone(0x300, 0x1000));
    assert_eq!(buffer.write(0x2000, &[1]), gone(0x301, 0));
    for offset in [0, 0x1000, 0x3000] {
        assert_eq!(buffer.write(offset, &[2; 0x1000]), Ok(()));
    }
    // A new one cannot have the page while it is away.
    assert_ne!(guest.gpadl(HANDLE + 1, &[(whole(&[0x301]), &[0x301])]), 0);
    guest.ram.set_present(0x301..0x302, true);
    assert_eq!(guest.gpadl(HANDLE + 1, &[(whole(&[0x301]), &[0x301])]), 0);
}

#[test]
fn pages_that_are_no_ram_or_twice_there_are_refused() {
    let mut guest = Guest::new(8);
    let wrong = [
        PAGES,
        0xD_0000,
        0xF_EC00,
        0xF_EE00,
        1 << 20,
        1 << 40,
        1 << 52,
        u64::MAX,
        0x200,
    ];
    for pfn in wrong {
        // In the header, and in a body.
        for len in [3, 60] {
            let mut pages: Vec<u64> = (0x200..0x200 + len).collect();
            pages.push(pfn);
            assert_ne!(
                guest.gpadl(HANDLE, &[(whole(&pages), &pages)]),
                0,
                "{pfn:#x}"
            );
            assert!(guest.find(HANDLE).is_none());
        }
    }
    // Twice in two ranges.
    let twice = [(range(1, 0), &[0x200][..]), (range(1, 1), &[0x200])];
    assert_ne!(guest.gpadl(HANDLE, &twice), 0);
    assert_eq!(guest.gpadl(HANDLE, &[(range(1, 0), &[0x200])]), 0);
}

#[test]
fn the_longest_list_is_taken_and_one_that_is_longer_is_not() {
    let mut guest = Guest::new(40);
    let pages: Vec<u64> = (0x200..0x200 + MOST_PAGES).collect();
    // The length of the list has 16 bits, so one page more can only be claimed by the range.
    for len in [MOST_PAGES * PAGE + 1, u64::from(u32::MAX)] {
        assert_ne!(guest.gpadl(HANDLE, &[(range(len as u32, 0), &pages)]), 0);
    }
    assert_eq!(guest.gpadl(HANDLE, &[(whole(&pages), &pages)]), 0);
    let buffer = guest.find(HANDLE).unwrap().range(0).unwrap();
    let buffer = Transfer::new(&guest.memory, buffer);
    let last = MOST_PAGES * PAGE - 1;
    buffer.write(last, &[9]).unwrap();
    assert!(buffer.write(last, &[9; 2]).is_err());
    assert_eq!(guest.bytes((0x200 + MOST_PAGES) * PAGE - 2, 3), [0, 9, 0]);
    // A second one fits, but for the rings' own units: the channel is full.
    let units = MAX_UNITS_PER_CHANNEL as u64 - (MOST_PAGES + 1) - (1 + 7);
    let rest: Vec<u64> = (0x200..0x200 + units).collect();
    assert_ne!(guest.gpadl(HANDLE + 1, &[(whole(&rest), &rest)]), 0);
    let rest = &rest[1..];
    assert_eq!(guest.gpadl(HANDLE + 1, &[(whole(rest), rest)]), 0);
}

#[test]
fn the_most_lists_are_taken_and_one_more_is_not() {
    let mut guest = Guest::new(8);
    // The rings have one.
    for handle in 2..=MAX_GPADLS_PER_CHANNEL as u32 {
        assert_eq!(guest.gpadl(handle, &[(range(1, 0), &[0x200])]), 0);
    }
    let one_more = MAX_GPADLS_PER_CHANNEL as u32 + 1;
    assert_ne!(guest.gpadl(one_more, &[(range(1, 0), &[0x200])]), 0);
    assert!(guest.find(one_more).is_none());
}

#[test]
fn a_buffer_that_is_torn_down_is_not_found_any_more() {
    let mut guest = Guest::new(8);
    assert_eq!(guest.gpadl(HANDLE, &[(range(1, 0), &[0x200])]), 0);
    assert!(guest.find(HANDLE).is_some());
    let relid = guest.relid.0;
    let torn_down = guest.post(&words(&[11, 0, relid, HANDLE]));
    assert_eq!(torn_down, [words(&[12, 0, HANDLE])]);
    assert!(guest.find(HANDLE).is_none());
    assert!(
        guest.server.gpadl(Relid(2), GpadlHandle(1)).is_none(),
        "another channel's"
    );
}
