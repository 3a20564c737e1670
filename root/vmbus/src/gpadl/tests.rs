//! GPADLs: assembly, limits, refusals, views.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::GpaRun;
use crate::bulk::GuestBuffer;
use crate::protocol::{GpadlHandle, Relid};

const RELID: Relid = Relid(3);
const HANDLE: GpadlHandle = GpadlHandle(0xE1E10);

/// RAM below 4 GiB but for a hole.
fn memory(pfn: u64) -> bool {
    pfn < 0x10_0000 && !(0xA0..0x100).contains(&pfn)
}

/// A range buffer.
fn buffer(ranges: &[(u32, u32, &[u64])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (byte_count, byte_offset, pfns) in ranges {
        bytes.extend_from_slice(&byte_count.to_le_bytes());
        bytes.extend_from_slice(&byte_offset.to_le_bytes());
        bytes.extend(pfns.iter().flat_map(|pfn| pfn.to_le_bytes()));
    }
    bytes
}

fn whole_pages(pfns: &[u64]) -> Vec<u8> {
    buffer(&[(pfns.len() as u32 * 4096, 0, pfns)])
}

/// Sends a buffer as Linux does: 26 page numbers in the header, 28 in each body.
fn send(
    table: &mut GpadlTable,
    (relid, handle): (Relid, GpadlHandle),
    bytes: &[u8],
    ranges: u16,
) -> Result<Progress, GpadlError> {
    let (first, rest) = bytes.split_at(bytes.len().min(27 * 8));
    let size = (bytes.len() as u16, ranges);
    let mut progress = table.header(&memory, relid, handle, size, first)?;
    for body in rest.chunks(28 * 8) {
        assert_eq!(progress, Progress::Assembling);
        progress = match table.body(&memory, handle, body) {
            Ok((owner, progress)) => {
                assert_eq!(owner, relid);
                progress
            }
            Err(BodyError::Refused { error, .. }) => return Err(error),
            Err(error) => panic!("{error}"),
        };
    }
    Ok(progress)
}

fn refusal(bytes: &[u8], ranges: u16) -> GpadlError {
    let mut table = GpadlTable::default();
    let error = send(&mut table, (RELID, HANDLE), bytes, ranges).unwrap_err();
    assert_eq!((table.count(), table.units()), (0, 0), "nothing is kept");
    error
}

fn run(gpa: u64, len: u64) -> GpaRun {
    GpaRun { gpa, len }
}

fn runs(buffer: &GuestBuffer<'_>) -> Vec<GpaRun> {
    buffer.pieces().map(|piece| piece.run).collect()
}

#[test]
fn a_gpadl_of_16_mib_is_assembled_from_147_messages() {
    let pfns: Vec<u64> = (0x1000..0x2000).collect();
    let mut table = GpadlTable::default();
    let bytes = whole_pages(&pfns);
    assert_eq!(bytes.len(), 8 + 4096 * 8);
    assert_eq!(
        send(&mut table, (RELID, HANDLE), &bytes, 1),
        Ok(Progress::Complete)
    );
    let view = table.get(HANDLE).unwrap().range(0).unwrap();
    assert_eq!(view.len(), 16 << 20);
    assert_eq!(runs(&view), [run(0x100_0000, 16 << 20)]);
}

#[test]
fn the_longest_gpadl_that_a_message_can_announce_fits() {
    let pfns: Vec<u64> = (0x1000..0x1000 + 8190).collect();
    let mut table = GpadlTable::default();
    send(&mut table, (RELID, HANDLE), &whole_pages(&pfns), 1).unwrap();
    let view = table.get(HANDLE).unwrap().range(0).unwrap();
    assert_eq!(view.len(), 8190 * 4096);
}

#[test]
fn a_range_of_one_page_more_than_fits_is_refused() {
    let mut pfns: Vec<u64> = (0x1000..0x1000 + 8190).collect();
    let mut bytes = buffer(&[(8191 * 4096, 0, &pfns)]);
    assert_eq!(bytes.len(), 65_528, "the longest that can be announced");
    assert_eq!(refusal(&bytes, 1), GpadlError::RangesMismatch);
    // As many ranges as there are units for, and one more.
    pfns.truncate(4095);
    let ranges: Vec<_> = pfns.chunks(1).map(|pfn| (1, 0, pfn)).collect();
    bytes = buffer(&ranges);
    let mut table = GpadlTable::default();
    let sent = send(&mut table, (RELID, HANDLE), &bytes, 4095);
    assert_eq!(sent, Ok(Progress::Complete));
    assert_eq!(
        refusal(&bytes, 4096),
        GpadlError::BufferLength {
            len: 65_520,
            ranges: 4096
        }
    );
    assert_eq!(refusal(&bytes, 4094), GpadlError::RangesMismatch);
}

#[test]
fn messages_of_several_gpadls_may_interleave() {
    let mut table = GpadlTable::default();
    let handles = [HANDLE, GpadlHandle(HANDLE.0 + 1)];
    let buffers =
        [0x1000u64, 0x8000].map(|base| whole_pages(&(base..base + 60).collect::<Vec<_>>()));
    for (handle, bytes) in handles.iter().zip(&buffers) {
        let size = (bytes.len() as u16, 1);
        let progress = table.header(&memory, RELID, *handle, size, &bytes[..216]);
        assert_eq!(progress, Ok(Progress::Assembling));
    }
    let bodies = buffers.each_ref().map(|bytes| bytes[216..].chunks(224));
    let [first, second] = bodies;
    for (first, second) in first.zip(second) {
        table.body(&memory, handles[0], first).unwrap();
        table.body(&memory, handles[1], second).unwrap();
    }
    for (handle, base) in handles.iter().zip([0x1000u64, 0x8000]) {
        let view = table.get(*handle).unwrap().range(0).unwrap();
        assert_eq!(runs(&view), [run(base << 12, 60 << 12)]);
    }
}

#[test]
fn ranges_with_offsets_are_contiguous_for_the_guest() {
    let bytes = buffer(&[(0x1800, 0x900, &[5, 6, 9]), (10, 0, &[7])]);
    let mut table = GpadlTable::default();
    send(&mut table, (RELID, HANDLE), &bytes, 2).unwrap();
    let gpadl = table.get(HANDLE).unwrap();
    assert_eq!(gpadl.range_count(), 2);
    let runs = |index| runs(&gpadl.range(index).unwrap());
    assert_eq!(runs(0), [run(0x5900, 0x1700), run(0x9000, 0x100)]);
    assert_eq!(runs(1), [run(0x7000, 10)]);
    assert!(gpadl.range(2).is_none());
    assert_eq!(gpadl.rings(2), Err(RingLayoutError::NotWholePages));
}

#[test]
fn the_downstream_offset_counts_pages_and_splits_runs() {
    let mut table = GpadlTable::default();
    send(
        &mut table,
        (RELID, HANDLE),
        &whole_pages(&[0x10, 0x11, 0x12, 0x20, 0x21]),
        1,
    )
    .unwrap();
    let gpadl = table.get(HANDLE).unwrap();
    let rings = gpadl.rings(2).unwrap();
    assert_eq!(rings.incoming.len(), 0x2000);
    assert_eq!(runs(&rings.incoming), [run(0x1_0000, 0x2000)]);
    assert_eq!(
        runs(&rings.outgoing),
        [run(0x1_2000, 0x1000), run(0x2_0000, 0x2000)]
    );
    for downstream in [0, 1, 4, 5, 8192, u32::MAX] {
        let pages = 5;
        assert_eq!(
            gpadl.rings(downstream),
            Err(RingLayoutError::Downstream { downstream, pages })
        );
    }
}

#[test]
fn pages_that_are_no_ram_or_there_twice_are_refused() {
    for pfn in [0xA0, 0xFF, 0x10_0000, 1 << 40, u64::MAX] {
        assert_eq!(
            refusal(&whole_pages(&[1, 2, pfn]), 1),
            GpadlError::NotRam(pfn)
        );
    }
    assert_eq!(
        refusal(&whole_pages(&[7, 8, 7]), 1),
        GpadlError::Duplicate(7)
    );
    // Also across ranges, and in a body.
    let two = buffer(&[(1, 0, &[9]), (1, 0, &[9])]);
    assert_eq!(refusal(&two, 2), GpadlError::Duplicate(9));
    let mut long: Vec<u64> = (0x1000..0x1064).collect();
    long[99] = 0x1000;
    assert_eq!(
        refusal(&whole_pages(&long), 1),
        GpadlError::Duplicate(0x1000)
    );
}

#[test]
fn ranges_and_buffer_have_to_agree() {
    let length = |len, ranges| GpadlError::BufferLength { len, ranges };
    assert_eq!(refusal(&whole_pages(&[1]), 0), length(16, 0));
    assert_eq!(refusal(&whole_pages(&[1]), 2), length(16, 2));
    assert_eq!(refusal(&[0; 12], 1), length(12, 1));
    assert_eq!(refusal(&[], 1), length(0, 1));
    assert_eq!(refusal(&[0; 8], 1), length(8, 1));
    let mismatch = GpadlError::RangesMismatch;
    assert_eq!(refusal(&buffer(&[(4097, 0, &[1])]), 1), mismatch);
    assert_eq!(refusal(&buffer(&[(4096, 1, &[1])]), 1), mismatch);
    assert_eq!(refusal(&buffer(&[(4096, 0, &[1, 2])]), 1), mismatch);
    assert_eq!(refusal(&buffer(&[(u32::MAX, 4095, &[1, 2])]), 1), mismatch);
    assert_eq!(refusal(&buffer(&[(1, 0, &[1]), (1, 0, &[2])]), 1), mismatch);
    assert_eq!(
        refusal(&buffer(&[(1, 4096, &[1])]), 1),
        GpadlError::RangeOffset(4096)
    );
    assert_eq!(refusal(&buffer(&[(0, 1, &[1])]), 1), GpadlError::EmptyRange);
}

#[test]
fn more_bytes_than_announced_are_refused() {
    let mut table = GpadlTable::default();
    let bytes = whole_pages(&[1, 2]);
    let header = table.header(&memory, RELID, HANDLE, (16, 1), &bytes);
    assert_eq!(header, Err(GpadlError::Surplus));
    let header = table.header(&memory, RELID, HANDLE, (24, 1), &bytes[..16]);
    assert_eq!(header, Ok(Progress::Assembling));
    let refused = BodyError::Refused {
        relid: RELID,
        error: GpadlError::Surplus,
    };
    assert_eq!(table.body(&memory, HANDLE, &[0; 16]), Err(refused));
    assert_eq!(table.count(), 0);
    let unexpected = Err(BodyError::Unexpected);
    assert_eq!(table.body(&memory, HANDLE, &[0; 8]), unexpected);
}

#[test]
fn a_handle_names_one_gpadl_of_the_guest() {
    let mut table = GpadlTable::default();
    let bytes = whole_pages(&[1]);
    let header = |table: &mut GpadlTable, relid, handle, len| {
        table.header(&memory, relid, handle, (16, 1), &bytes[..len])
    };
    assert_eq!(
        header(&mut table, RELID, GpadlHandle(0), 16),
        Err(GpadlError::NoHandle)
    );
    header(&mut table, RELID, HANDLE, 8).unwrap();
    let in_use = Err(GpadlError::HandleInUse);
    assert_eq!(header(&mut table, Relid(9), HANDLE, 16), in_use);
    table.body(&memory, HANDLE, &bytes[8..]).unwrap();
    assert_eq!(header(&mut table, Relid(9), HANDLE, 16), in_use);
    assert_eq!(
        table.body(&memory, HANDLE, &bytes[8..]),
        Err(BodyError::Unexpected)
    );
    assert!(table.remove(HANDLE));
    assert!(!table.remove(HANDLE));
    header(&mut table, Relid(9), HANDLE, 16).unwrap();
    assert_eq!(table.owner(HANDLE), Some(Relid(9)));
}

#[test]
fn the_limits_hold_and_are_reached() {
    // Promises count, so the first message is enough.
    let promise = |table: &mut GpadlTable, relid, handle, units: u16| {
        table.header(
            &memory,
            Relid(relid),
            GpadlHandle(handle),
            (units * 8, 1),
            &[],
        )
    };
    let limit = Err(GpadlError::Limit);
    let mut table = GpadlTable::default();
    for handle in 1..=MAX_GPADLS_PER_CHANNEL as u32 {
        promise(&mut table, 1, handle, 2).unwrap();
    }
    assert_eq!(promise(&mut table, 1, 1000, 2), limit);
    for handle in MAX_GPADLS_PER_CHANNEL as u32 + 1..=MAX_GPADLS as u32 {
        promise(&mut table, 1 + handle, handle, 2).unwrap();
    }
    assert_eq!(promise(&mut table, 5000, 5000, 2), limit);
    let mut table = GpadlTable::default();
    for handle in 1..=2 {
        promise(&mut table, 1, handle, 8190).unwrap();
    }
    assert_eq!(promise(&mut table, 1, 3, 5), limit);
    promise(&mut table, 1, 3, 4).unwrap();
    for relid in 2..=4 {
        for n in 0..2 {
            promise(&mut table, relid, relid * 10 + n, 8190).unwrap();
        }
        promise(&mut table, relid, relid * 10 + 2, 4).unwrap();
    }
    assert_eq!(table.units(), MAX_UNITS);
    assert_eq!(promise(&mut table, 9, 900, 2), limit);
    assert!(table.remove(GpadlHandle(3)));
    promise(&mut table, 9, 900, 4).unwrap();
    table.remove_incomplete(None);
    assert_eq!((table.units(), table.count()), (0, 0));
}

proptest! {
    #[test]
    fn a_view_has_the_pages_in_the_order_of_the_guest(
        pfns in prop::collection::vec(0x1000u64..0x1080, 1..60),
        cut in prop::collection::vec(1usize..29, 60),
    ) {
        let mut seen = std::collections::BTreeSet::new();
        let pfns: Vec<u64> = pfns.into_iter().filter(|pfn| seen.insert(*pfn)).collect();
        let bytes = whole_pages(&pfns);
        let mut table = GpadlTable::default();
        let mut rest = &bytes[..];
        let mut progress = table.header(&memory, RELID, HANDLE, (bytes.len() as u16, 1), &[]).unwrap();
        for cut in cut {
            if rest.is_empty() {
                break;
            }
            prop_assert_eq!(progress, Progress::Assembling);
            // Not even whole page numbers.
            let (body, behind) = rest.split_at(rest.len().min(cut * 3 + 57));
            progress = table.body(&memory, HANDLE, body).unwrap().1;
            rest = behind;
        }
        prop_assert_eq!(progress, Progress::Complete);
        let runs = runs(&table.get(HANDLE).unwrap().range(0).unwrap());
        let pages: Vec<u64> = runs.iter().flat_map(|run| run.gpa >> 12..(run.gpa + run.len) >> 12).collect();
        prop_assert_eq!(pages, pfns);
        prop_assert!(runs.windows(2).all(|pair| pair[0].gpa + pair[0].len != pair[1].gpa), "neighbours are merged");
    }

    #[test]
    fn no_message_makes_the_table_panic_or_lose_count(
        messages in prop::collection::vec(
            (any::<bool>(), 1u32..4, 0u32..4, 0u16..80, 0u16..4, prop::collection::vec(0u32..12, 0..28)),
            0..80,
        ),
    ) {
        let mut table = GpadlTable::default();
        for (is_header, relid, handle, len, ranges, words) in messages {
            let bytes: Vec<u8> = words.iter().flat_map(|word| {
                // Page counts and page numbers that are sometimes right.
                let word = if *word > 8 { (word - 8) * 4096 } else { word * 2 };
                word.to_le_bytes()
            }).collect();
            let handle = GpadlHandle(handle);
            if is_header {
                let _ = table.header(&memory, Relid(relid), handle, (len * 4, ranges), &bytes);
            } else if ranges == 3 {
                table.remove(handle);
            } else {
                let _ = table.body(&memory, handle, &bytes);
            }
            prop_assert!(table.units() >= table.count() * 2);
            prop_assert!(table.complete(None).all(|handle| table.get(handle).is_some()));
        }
        for handle in 0..4 {
            table.remove(GpadlHandle(handle));
        }
        prop_assert_eq!((table.units(), table.count()), (0, 0));
    }
}
