//! Packets of the type "data using GPA direct".

use ::vmbus::bulk::OutsideBuffer;
use ::vmbus::ring::{MAX_GPA_PAGES, MAX_GPA_RANGES};
use board::layout::PAGE;
use proptest::prelude::*;

use super::*;

/// Pages of the guest's 8 MiB.
const PAGES: u64 = 0x800;
/// One range, and so on: the first unit of a header has the count above 32 reserved bits.
const fn ranges(count: u32) -> u64 {
    (count as u64) << 32
}

fn not_ram(pfn: u64, done: u64) -> BulkError {
    BulkError::NotRam {
        gpa: pfn * PAGE,
        done,
    }
}

#[test]
fn data_goes_between_the_guests_pages_and_the_service() {
    let mut guest = Guest::new(8);
    guest.ram.write_shared(0x20_0F00, &[1; 0x100]).unwrap();
    guest.ram.write_shared(0x30_0000, &[2; 0x1000]).unwrap();
    // Whatever is in the reserved bits.
    guest.send(&[
        ranges(1) | 0xFFFF,
        range(0x1110, 0xF00),
        0x200,
        0x300,
        0x250,
    ]);
    guest.take().unwrap();
    let mut bytes = [0xEE; 0x1110];
    guest.data().read(0, &mut bytes).unwrap();
    assert_eq!(bytes[..0x100], [1; 0x100]);
    assert_eq!(bytes[0x100..0x1100], [2; 0x1000]);
    assert_eq!(bytes[0x1100..], [0; 0x10]);
    guest.data().write(0xFE, &[3; 4]).unwrap();
    assert_eq!(guest.bytes(0x20_0FFC, 6), [1, 1, 3, 3, 0, 0]);
    assert_eq!(guest.bytes(0x30_0000, 3), [3, 3, 2]);
    // The last byte, and none more.
    guest.data().write(0x110F, &[4]).unwrap();
    assert_eq!(guest.bytes(0x25_000E, 3), [0, 4, 0]);
    let outside = OutsideBuffer {
        offset: 0x110F,
        len: 2,
        size: 0x1110,
    };
    let result = guest.data().write(0x110F, &[5; 2]);
    assert_eq!(result, Err(BulkError::Outside(outside)));
}

#[test]
fn a_descriptor_that_lies_ends_the_ring() {
    use RingError::{PageNumber, RangeOffset, RangesTruncated, TooManyPages, TooManyRanges};
    let all = MAX_GPA_PAGES as u32 * 4096;
    let lies: [(&[u64], RingError); 14] = [
        (&[], RangesTruncated),
        (&[ranges(1)], RangesTruncated),
        (&[ranges(1), range(1, 0)], RangesTruncated),
        (&[ranges(1), range(0, 1)], RangesTruncated),
        (&[ranges(1), range(4097, 0), 1], RangesTruncated),
        (&[ranges(1), range(4096, 1), 1], RangesTruncated),
        (&[ranges(2), range(4096, 0), 1], RangesTruncated),
        (&[ranges(MAX_GPA_RANGES + 1)], TooManyRanges(65)),
        (&[ranges(u32::MAX), range(1, 0), 1], TooManyRanges(u32::MAX)),
        (&[ranges(1), range(1, 4096), 1, 2], RangeOffset(4096)),
        (&[ranges(1), range(0, u32::MAX), 1], RangeOffset(u32::MAX)),
        (&[ranges(1), range(all + 1, 0), 1], TooManyPages),
        (&[ranges(1), range(u32::MAX, 4095), 1], TooManyPages),
        (&[ranges(1), range(1, 0), 1 << 40], PageNumber(1 << 40)),
    ];
    for (units, error) in lies {
        let mut guest = Guest::new(2);
        guest.send(units);
        assert_eq!(guest.take(), Err(error), "{units:x?}");
        assert_eq!(guest.ring.error(), Some(error), "it is dead");
    }
}

#[test]
fn a_header_that_ends_before_its_ranges_ends_the_ring() {
    let units = [ranges(2), range(0x1000, 0), 0x20, range(8, 8), 0x21];
    for offset in 0..=7u16 {
        let mut guest = Guest::new(2);
        guest.send_with_offset(offset.into(), &units);
        let result = match guest.ring.read_packet() {
            Ok(packet) => packet.unwrap().read_gpa_direct(&mut guest.list),
            Err(error) => Err(error),
        };
        let expected = match offset {
            0 | 1 => Err(RingError::DataOffset(offset)),
            2..=6 => Err(RingError::RangesTruncated),
            _ => Ok(()),
        };
        assert_eq!(result, expected, "header up to unit {offset}");
    }
}

#[test]
fn more_header_than_ranges_is_no_lie() {
    // A driver may send a header of a fixed size, with room for the most pages that it ever needs.
    let mut guest = Guest::new(8);
    let mut units = vec![ranges(1), range(4, 0), 0x200];
    units.resize(40, u64::MAX);
    guest.send(&units);
    guest.take().unwrap();
    assert_eq!(guest.list.buffer().len(), 4);
}

#[test]
fn pages_that_are_no_ram_fail_the_access_and_not_the_ring() {
    let mut guest = Guest::new(8);
    // Behind RAM, the hole for devices, its I/O APIC and local APIC, above 4 GiB, and the last page that there can be.
    let wrong = [PAGES, 0xD_0000, 0xF_EC00, 0xF_EE00, 1 << 20, (1 << 40) - 1];
    for pfn in wrong {
        guest.send(&[ranges(1), range(0x1010, 0xFF0), 0x200, pfn]);
        guest.take().unwrap();
        let mut bytes = [0xEE; 0x1010];
        assert_eq!(guest.data().read(0, &mut bytes), Err(not_ram(pfn, 0x10)));
        assert_eq!(bytes[0x10..], [0xEE; 0x1000]);
        assert_eq!(guest.data().write(0x10, &[1]), Err(not_ram(pfn, 0)));
        assert_eq!(guest.data().write(0x0F, &[1]), Ok(()), "the page before");
    }
    // A piece that begins in RAM and ends behind it.
    guest.send(&[ranges(1), range(0x2000, 0), PAGES - 1, PAGES]);
    guest.take().unwrap();
    let whole = guest.data().write(0, &[7; 0x2000]);
    assert_eq!(whole, Err(not_ram(PAGES - 1, 0)));
    assert_eq!(guest.bytes((PAGES - 1) * PAGE, 1), [0]);
    assert_eq!(guest.data().write(0, &[7; 0x1000]), Ok(()));
    assert_eq!(guest.ring.error(), None);
}

#[test]
fn a_page_that_is_unmapped_after_the_packet_was_taken_fails_its_accesses() {
    let mut guest = Guest::new(8);
    guest.send(&[ranges(1), range(0x3000, 0), 0x200, 0x400, 0x300]);
    guest.take().unwrap();
    guest.data().write(0, &[1; 0x3000]).unwrap();
    guest.ram.set_present(0x400..0x401, false);
    let mut bytes = [0; 0x3000];
    assert_eq!(
        guest.data().read(0, &mut bytes),
        Err(not_ram(0x400, 0x1000))
    );
    assert_eq!(
        guest.data().write(0, &[2; 0x3000]),
        Err(not_ram(0x400, 0x1000))
    );
    guest.data().write(0x2000, &[3; 0x1000]).unwrap();
    // It goes on with the next packet, and with the page when it is back.
    guest.send(&[ranges(1), range(1, 0), 0x401]);
    guest.take().unwrap();
    guest.data().write(0, &[4]).unwrap();
    guest.ram.set_present(0x400..0x401, true);
    assert_eq!(guest.bytes(0x40_0000, 0x1000), [1; 0x1000]);
    assert_eq!(guest.bytes(0x40_1000, 2), [4, 0]);
}

#[test]
fn a_ring_whose_own_page_is_unmapped_is_gone() {
    let mut guest = Guest::new(8);
    guest.send(&[ranges(1), range(1, 0), 0x200]);
    guest.ram.set_present(0x101..0x102, false);
    assert_eq!(guest.take(), Err(RingError::Gone));
    guest.ram.set_present(0x101..0x102, true);
    assert_eq!(guest.ring.error(), Some(RingError::Gone));
}

#[test]
fn what_the_guest_writes_over_a_descriptor_that_was_taken_changes_nothing() {
    let mut guest = Guest::new(8);
    guest.send(&[ranges(1), range(0x2000, 0), 0x200, 0x300]);
    guest.take().unwrap();
    guest.scribble();
    guest.data().write(0, &[9; 0x2000]).unwrap();
    assert_eq!(guest.bytes(0x20_0000, 0x1001)[0xFFF..], [9, 0]);
    assert_eq!(guest.bytes(0x30_0000, 0x1001)[0xFFF..], [9, 0]);
}

#[test]
fn a_page_may_be_there_twice() {
    let mut guest = Guest::new(8);
    let pages = [0x200, 0x200, 0x300, 0x200];
    guest.send(&[&[ranges(1), range(0x4000, 0)], &pages[..]].concat());
    guest.take().unwrap();
    let bytes: Vec<u8> = (0..4).flat_map(|page| [page; 0x1000]).collect();
    guest.data().write(0, &bytes).unwrap();
    let mut read = [0xEE; 0x4000];
    guest.data().read(0, &mut read).unwrap();
    assert_eq!(read[..0x2000], [3; 0x2000]);
    assert_eq!(read[0x2000..0x3000], [2; 0x1000]);
}

#[test]
fn nothing_to_move_is_a_list_without_bytes() {
    let mut guest = Guest::new(8);
    for units in [
        &[ranges(0)][..],
        &[ranges(1), range(0, 0)],
        &[ranges(1), range(0, 5), PAGES],
        &[ranges(2), range(0, 0), range(0, 0)],
    ] {
        guest.send(units);
        guest.take().unwrap();
        assert!(guest.list.buffer().is_empty());
        assert_eq!(guest.data().write(0, &[]), Ok(()));
        let read = guest.data().read(0, &mut [0]);
        assert!(matches!(read, Err(BulkError::Outside(_))));
    }
}

#[test]
fn the_most_ranges_and_pages_of_a_packet_are_moved_and_one_more_is_not() {
    let scattered = |count: u64| (0..count).map(|page| 0x200 + page % 2 * 0x300 + page / 2);
    let whole = |count: u64| -> Vec<u64> {
        let header = [ranges(1), range(count as u32 * 4096, 0)];
        header.into_iter().chain(scattered(count)).collect()
    };
    let mut guest = Guest::new(8);
    let most = MAX_GPA_PAGES as u64;
    guest.send(&whole(most));
    guest.take().unwrap();
    let bytes: Vec<u8> = scattered(most).flat_map(|pfn| [pfn as u8; 4096]).collect();
    guest.data().write(0, &bytes).unwrap();
    for pfn in scattered(most) {
        assert_eq!(guest.bytes(pfn * PAGE, 4096), [pfn as u8; 4096]);
    }
    let mut read = vec![0; bytes.len()];
    guest.data().read(0, &mut read).unwrap();
    assert!(read == bytes);
    guest.send(&whole(most + 1));
    assert_eq!(guest.take(), Err(RingError::TooManyPages));

    let many = |count: u32| -> Vec<u64> {
        let each = |number: u32| [range(1, number), 0x200 + u64::from(number)];
        [ranges(count)]
            .into_iter()
            .chain((0..count).flat_map(each))
            .collect()
    };
    let mut guest = Guest::new(8);
    guest.send(&many(MAX_GPA_RANGES));
    guest.take().unwrap();
    guest
        .data()
        .write(0, &[6; MAX_GPA_RANGES as usize])
        .unwrap();
    assert_eq!(guest.bytes(0x20_0000 + 63 * 0x1001, 2), [6, 0]);
    guest.send(&many(MAX_GPA_RANGES + 1));
    assert_eq!(guest.take(), Err(RingError::TooManyRanges(65)));
}

/// As many pages as a range of the test below can need; some follow each other, are there twice, or are no RAM.
fn pages() -> impl Strategy<Value = Vec<u64>> {
    let page = prop_oneof![8 => 0x7F0..PAGES, 1 => PAGES..PAGES + 4];
    prop::collection::vec(page, 4)
}

proptest! {
    /// The service inverts what a packet names, with pages that are and are not RAM. Nothing else changes.
    #[test]
    fn whatever_a_packet_names_nothing_else_is_touched(
        lists in prop::collection::vec((0u32..9000, 0u32..4096, pages()), 0..5),
        away in prop::collection::btree_set(0x7F0..PAGES, 0..3),
    ) {
        const FIRST: u64 = 0x7F0;
        let mut guest = Guest::new(8);
        let area = (PAGES - FIRST) * PAGE;
        let mut model: Vec<u8> = (0..area).map(|at| (at * 3 + at / PAGE) as u8).collect();
        guest.ram.write_shared(FIRST * PAGE, &model).unwrap();
        let mut units = vec![ranges(lists.len() as u32)];
        for (len, offset, pages) in &lists {
            units.push(range(*len, *offset));
            let needed = (len + offset).div_ceil(4096);
            units.extend(&pages[..needed as usize]);
        }
        guest.send(&units);
        guest.take().unwrap();
        for pfn in &away {
            guest.ram.set_present(*pfn..pfn + 1, false);
        }
        let transfer = guest.data();
        for piece in transfer.buffer().pieces() {
            let run = piece.run;
            let mut bytes = vec![0; run.len as usize];
            let pages = run.gpa / PAGE..(run.gpa + run.len).div_ceil(PAGE);
            let is_ram = pages.clone().all(|pfn| pfn < PAGES && !away.contains(&pfn));
            prop_assert_eq!(transfer.read(piece.offset, &mut bytes).is_ok(), is_ram);
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
            prop_assert_eq!(transfer.write(piece.offset, &bytes).is_ok(), is_ram);
            if is_ram {
                let at = (run.gpa - FIRST * PAGE) as usize;
                model[at..at + bytes.len()].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        guest.ram.set_present(0..PAGES, true);
        prop_assert!(guest.bytes(FIRST * PAGE, area as usize) == model);
    }
}
