//! Archives: what is written is read back, what is damaged is noticed, what is nonsense is refused.

use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use proptest::collection::{btree_map, vec as bytes};
use proptest::prelude::*;

use crate::format::{self, ENTRY, HEADER, RawHeader, RawMember};
use crate::{Archive, ArchiveError, BuildError, Builder, Damaged, HeaderView, NameFault};
use zerocopy::{FromBytes, IntoBytes};

const PAGE: usize = 4096;

fn sample() -> Vec<u8> {
    let mut builder = Builder::new();
    builder.loader(vec![0x90; PAGE]).expect("a page");
    builder.member("root", vec![1; 5000]).expect("new");
    builder.member("vm/a.toml", *b"name = \"a\"").expect("new");
    builder.member("empty", []).expect("new");
    builder.build().expect("has a loader")
}

/// Changes the header and entries of an archive and makes its digest right again.
fn reseal(archive: &mut [u8], change: impl FnOnce(&mut RawHeader, &mut [RawMember])) {
    let (head, rest) = archive.split_at_mut(HEADER);
    let header = RawHeader::mut_from_bytes(head).expect("header");
    let count = header.member_count.get() as usize;
    let (table, _) = rest.split_at_mut(ENTRY * count);
    let entries = <[RawMember]>::mut_from_bytes(table).expect("entries");
    change(header, entries);
    header.header_digest = format::header_digest(header, entries.as_bytes());
}

fn open_changed(change: impl FnOnce(&mut RawHeader, &mut [RawMember])) -> Option<ArchiveError> {
    let mut archive = sample();
    reseal(&mut archive, change);
    Archive::open(&archive).err()
}

#[test]
fn layout_is_the_documented_one() {
    let archive = sample();
    let word = |at: usize| u64::from_le_bytes(archive[at..at + 8].try_into().expect("eight"));
    assert_eq!(&archive[..8], b"PARTITA\0");
    assert_eq!(word(8), 1 | 3 << 32, "version and member count");
    assert_eq!(word(16), archive.len() as u64);
    assert_eq!((word(24), word(32)), (PAGE as u64, PAGE as u64), "loader");
    assert_eq!(word(40), 96 + 3 * 128, "header length, then zero");
    assert_eq!(&archive[96..101], b"root\0");
    assert_eq!((word(96 + 64), word(96 + 72)), (2 * PAGE as u64, 5000));
    assert_eq!(archive[96 + 80..96 + 112], format::digest(&[1; 5000]));
}

#[test]
fn header_view_gives_the_loader() {
    let archive = sample();
    let view = HeaderView::parse(&archive).expect("sound");
    assert_eq!(view.loader(), vec![0x90; PAGE]);
    assert_eq!(view.loader_offset(), PAGE as u64);
    assert_eq!(view.total_length(), archive.len() as u64);
}

#[test]
fn bytes_after_the_archive_are_ignored() {
    let mut archive = sample();
    let length = archive.len();
    archive.extend_from_slice(&[0xAA; 100]);
    assert_eq!(
        Archive::open(&archive).expect("sound").total_length(),
        length as u64
    );
}

#[test]
fn truncated_archive_says_how_much_is_missing() {
    let archive = sample();
    let (have, need) = (archive.len() as u64 - 1, archive.len() as u64);
    let error = Archive::open(&archive[..archive.len() - 1]).expect_err("too short");
    assert_eq!(error, ArchiveError::Truncated { have, need });
    assert!(error.to_string().contains("write the image again"));
}

#[test]
fn damaged_member_is_named() {
    let mut archive = sample();
    archive[3 * PAGE] ^= 1;
    let archive = Archive::open(&archive).expect("the header is whole");
    assert_eq!(archive.verify(), Err(Damaged { name: "root" }));
    assert_eq!(archive.member("vm/a.toml").expect("there").verify(), Ok(()));
}

#[test]
fn other_version_and_magic_are_refused() {
    assert_eq!(
        open_changed(|h, _| h.version = 2.into()),
        Some(ArchiveError::Version(2))
    );
    assert_eq!(
        open_changed(|h, _| h.magic = *b"ELEPHANT"),
        Some(ArchiveError::Magic)
    );
    assert_eq!(
        open_changed(|h, _| h.member_count = 257.into()),
        Some(ArchiveError::MemberCount(257))
    );
}

#[test]
fn reserved_fields_must_be_zero() {
    assert_eq!(
        open_changed(|h, _| h.reserved1[3] = 1),
        Some(ArchiveError::Reserved)
    );
    assert_eq!(
        open_changed(|h, _| h.reserved0 = 1.into()),
        Some(ArchiveError::Reserved)
    );
    assert_eq!(
        open_changed(|_, m| m[1].reserved[0] = 1),
        Some(ArchiveError::Reserved)
    );
}

#[test]
fn loader_range_must_be_whole_pages_in_the_archive() {
    for (offset, length) in [
        (0, 4096),
        (4097, 4096),
        (4096, 0),
        (4096, 100),
        (u64::MAX - 4095, 8192),
        (1 << 40, 4096),
    ] {
        let error = open_changed(|h, _| {
            h.loader_offset = offset.into();
            h.loader_length = length.into();
        });
        assert_eq!(error, Some(ArchiveError::Loader { offset, length }));
    }
}

#[test]
fn member_range_must_be_aligned_in_the_archive_and_after_the_header() {
    for (offset, length) in [
        (0, 10),
        (8193, 10),
        (u64::MAX - 4095, 4096),
        (8192, u64::MAX),
        (1 << 40, 0),
    ] {
        let error = open_changed(|_, m| {
            m[0].offset = offset.into();
            m[0].length = length.into();
        });
        assert_eq!(
            error,
            Some(ArchiveError::Range {
                index: 0,
                offset,
                length
            })
        );
    }
}

#[test]
fn members_must_not_share_pages() {
    let error = open_changed(|_, m| m[1].offset = m[0].offset);
    assert_eq!(error, Some(ArchiveError::Overlap { index: 1 }));
    let error = open_changed(|h, m| m[0].offset = h.loader_offset);
    assert_eq!(error, Some(ArchiveError::Overlap { index: 0 }));
}

#[test]
fn names_must_be_unique_printable_and_padded() {
    let name_fault = |index, fault| Some(ArchiveError::Name { index, fault });
    assert_eq!(
        open_changed(|_, m| m[1].name = m[0].name),
        name_fault(1, NameFault::Duplicate)
    );
    assert_eq!(
        open_changed(|_, m| m[0].name[0] = 0xFF),
        name_fault(0, NameFault::Text)
    );
    assert_eq!(
        open_changed(|_, m| m[0].name[0] = 0x1B),
        name_fault(0, NameFault::Text)
    );
    assert_eq!(
        open_changed(|_, m| m[0].name[60] = b'x'),
        name_fault(0, NameFault::Padding)
    );
    assert_eq!(
        open_changed(|_, m| m[0].name = [0; 64]),
        name_fault(0, NameFault::Empty)
    );
}

#[test]
fn builder_refuses_what_the_reader_would() {
    let mut builder = Builder::new();
    assert_eq!(builder.build(), Err(BuildError::Loader(0)));
    assert!(matches!(
        builder.loader(vec![0; 4095]),
        Err(BuildError::Loader(4095))
    ));
    for (name, expected) in [
        ("", NameFault::Empty),
        ("a\nb", NameFault::Text),
        ("a\0b", NameFault::Text),
        ("root", NameFault::Duplicate),
        (&"x".repeat(65), NameFault::TooLong),
    ] {
        let _ = builder.member("root", []);
        let refused = builder.member(name, []).map(|_| ()).expect_err("refused");
        assert_eq!(
            refused,
            BuildError::Name {
                name: name.into(),
                fault: expected
            }
        );
    }
    for number in 1..256 {
        builder.member(&number.to_string(), []).expect("room");
    }
    assert!(matches!(
        builder.member("one more", []),
        Err(BuildError::TooMany(_))
    ));
    builder.loader(vec![0; PAGE]).expect("a page");
    let archive = builder.build().expect("full but sound");
    assert_eq!(Archive::open(&archive).expect("sound").members().len(), 256);
}

prop_compose! {
    fn archives()(
        members in btree_map("[a-zä/.]{1,20}", bytes(any::<u8>(), 0..9000), 0..6),
        loader in 1usize..4,
    ) -> (std::collections::BTreeMap<String, Vec<u8>>, Vec<u8>) {
        let mut builder = Builder::new();
        builder.loader(vec![0x42; loader * PAGE]).expect("pages");
        for (name, content) in &members {
            builder.member(name, content.clone()).expect("unique");
        }
        let archive = builder.build().expect("sound");
        (members, archive)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back((members, archive) in archives()) {
        let archive = Archive::open(&archive).expect("sound");
        prop_assert_eq!(archive.verify(), Ok(()));
        prop_assert_eq!(archive.members().len(), members.len());
        for (name, content) in &members {
            let found = archive.member(name).expect("there");
            prop_assert_eq!(found.content(), content.as_slice());
            prop_assert_eq!(found.offset() % 4096, 0);
        }
        prop_assert!(archive.member("no such member").is_none());
    }

    #[test]
    fn any_damaged_byte_of_header_or_member_is_detected(
        (members, archive) in archives(),
        place in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let header = 0..HEADER + ENTRY * members.len();
        let spans = Archive::open(&archive).expect("sound").members()
            .map(|m| m.offset() as usize..m.offset() as usize + m.content().len()).collect::<Vec<_>>();
        let checked = header.chain(spans.into_iter().flatten()).collect::<Vec<_>>();
        let mut damaged = archive.clone();
        damaged[*place.get(&checked)] ^= flip;
        let noticed = match Archive::open(&damaged) {
            Err(_) => true,
            Ok(archive) => archive.verify().is_err(),
        };
        prop_assert!(noticed);
    }

    #[test]
    fn arbitrary_bytes_never_panic(data in bytes(any::<u8>(), 0..600)) {
        crate::fuzz(&data);
    }

    #[test]
    fn arbitrary_fields_under_a_right_digest_never_panic(
        (members, mut archive) in archives(),
        words in bytes(any::<u64>(), 1..5),
        places in bytes(any::<prop::sample::Index>(), 1..5),
    ) {
        // Anything but magic, version and counts, so that the deep checks are reached.
        let words_in_header = (HEADER + ENTRY * members.len()) / 8;
        for (word, place) in words.iter().zip(&places) {
            let at = 16 + 8 * place.index(words_in_header - 2);
            archive[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        if archive[40..44] == ((HEADER + ENTRY * members.len()) as u32).to_le_bytes() {
            reseal(&mut archive, |_, _| ());
        }
        crate::fuzz(&archive);
    }
}
