//! Flattening: the image is what would be in memory, and starts at its entry.

use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::{FlattenError, flatten};

const BASE: u64 = 0xFFFF_FFFF_C000_0000;

/// A segment: file offset, address, bytes in the file, bytes in memory.
type Segment = (u64, u64, u64, u64);

fn file(kind: u16, entry: u64, segments: &[Segment]) -> Vec<u8> {
    let mut file = b"\x7FELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([kind, 62].iter().flat_map(|half| half.to_le_bytes()));
    file.extend(1u32.to_le_bytes());
    file.extend([entry, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    file.extend(
        [64, 56, segments.len() as u16, 64, 0, 0]
            .iter()
            .flat_map(|half| half.to_le_bytes()),
    );
    for (offset, virt, file_size, memory_size) in segments {
        file.extend([1u32, 7].iter().flat_map(|word| word.to_le_bytes()));
        let words = [*offset, *virt, *virt, *file_size, *memory_size, 4096];
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    file.resize(0x300, 0);
    file.extend((0..0x100).map(|byte| byte as u8));
    file
}

#[test]
fn segments_are_in_place_with_zeros_around() {
    // Data before code in the table: the order of the table does not matter.
    let segments = [
        (0x310, BASE + 0x1800, 0x20, 0x1000),
        (0x300, BASE, 0x10, 0x10),
    ];
    let flat = flatten(&file(2, BASE, &segments)).expect("sound");
    let mut expected = std::vec![0; 0x3000];
    expected[..0x10].copy_from_slice(&(0..0x10).collect::<Vec<u8>>());
    expected[0x1800..0x1820].copy_from_slice(&(0x10..0x30).collect::<Vec<u8>>());
    assert_eq!(flat, expected);
}

#[test]
fn what_cannot_be_started_at_its_first_byte_is_refused() {
    let code = (0x300, BASE, 0x10, 0x10);
    assert_eq!(flatten(b"no ELF"), Err(FlattenError::Format));
    assert_eq!(flatten(&file(3, BASE, &[code])), Err(FlattenError::Kind));
    assert_eq!(flatten(&file(2, BASE, &[])), Err(FlattenError::Empty));
    assert_eq!(
        flatten(&file(2, BASE + 4, &[code])),
        Err(FlattenError::Entry {
            entry: BASE + 4,
            first: BASE
        })
    );
    assert_eq!(
        flatten(&file(2, BASE, &[(0, BASE + 4, 1, 1)])),
        Err(FlattenError::Unaligned(BASE + 4))
    );
}

#[test]
fn contradicting_segments_are_refused() {
    let code = (0x300, BASE, 0x10, 0x1010);
    let with = |segment: Segment| flatten(&file(2, BASE, &[code, segment])).expect_err("refused");
    assert_eq!(
        with((0x300, BASE + 0x1000, 1, 1)),
        FlattenError::Segment(BASE + 0x1000),
        "overlap"
    );
    assert_eq!(
        with((0x300, BASE + 0x2000, 2, 1)),
        FlattenError::Segment(BASE + 0x2000),
        "more file than memory"
    );
    assert_eq!(
        with((0x3FF, BASE + 0x2000, 2, 2)),
        FlattenError::Segment(BASE + 0x2000),
        "outside of the file"
    );
    assert_eq!(
        with((0x300, BASE + 0x2000, 1, u64::MAX)),
        FlattenError::Segment(BASE + 0x2000),
        "wraps"
    );
    assert_eq!(
        with((0x300, BASE, 1, 17 << 20)),
        FlattenError::TooLong(17 << 20)
    );
}

proptest! {
    #[test]
    fn arbitrary_segments_never_panic(
        segments in vec((0..0x500u64, 0..0x8000u64, 0..0x200u64, 0..0x4000u64), 0..5),
        at in 0usize..0x150,
        bytes in vec(any::<u8>(), 0..9),
    ) {
        let segments = segments.iter().map(|(offset, virt, f, m)| (*offset, BASE + virt, *f, *m)).collect::<Vec<_>>();
        let entry = segments.iter().map(|segment| segment.1).min().unwrap_or(BASE);
        let mut file = file(2, entry, &segments);
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        if let Ok(flat) = flatten(&file) {
            prop_assert!(!flat.is_empty() && flat.len() % 4096 == 0);
        }
    }
}
