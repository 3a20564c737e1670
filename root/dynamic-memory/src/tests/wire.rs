//! Bytes of the sheet's sections 1.2 to 1.6.

use zerocopy::IntoBytes;

use super::linux::Linux;
use crate::PageRun;
use crate::wire::*;

#[test]
fn a_range_has_the_first_page_in_40_bits_and_the_count_above() {
    let run = PageRun::new(0x12_3456, 512);
    let range = WireRange::new(run).unwrap();
    assert_eq!(range.0.get(), 0x0002_0000_0012_3456);
    assert_eq!(range.run(), run);
    assert_eq!(WireRange::new(PageRun::new(1 << 40, 1)), None);
    assert_eq!(WireRange::new(PageRun::new(0, 1 << 24)), None);
    let most = WireRange(u64::MAX.into()).run();
    assert_eq!(most, PageRun::new((1 << 40) - 1, 16_777_215));
}

#[test]
fn linux_capabilities_give_its_alignment() {
    let small = Capabilities(0x1f);
    assert!(small.balloon() && small.hot_add());
    assert_eq!(small.alignment(), 128 * PAGES_PER_MB);
    assert_eq!(Capabilities(0x2f).alignment(), 2048 * PAGES_PER_MB);
    assert_eq!(Capabilities(!0).alignment(), 32768 * PAGES_PER_MB);
    assert!(!Capabilities(0x1e).balloon() && !Capabilities(0x1d).hot_add());
}

#[test]
fn messages_of_the_host_have_the_bytes_of_the_sheet() {
    assert_eq!(
        accept(MessageType::VERSION_RESPONSE, 1, true),
        [2, 0, 16, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        accept(MessageType::CAPABILITIES_RESPONSE, 7, false),
        [4, 0, 16, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        balloon(3, 1000),
        [6, 0, 16, 0, 3, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        info(2, 0x80000),
        [
            12, 0, 32, 0, 2, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 8, 0,
            0, 0, 0, 0
        ]
    );
    let range = WireRange::new(PageRun::new(0x12_3456, 512)).unwrap();
    let bytes = [0x56, 0x34, 0x12, 0, 0, 0, 2, 0];
    assert_eq!(
        unballoon(5, true, &[range]),
        [
            &[8, 0, 24, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0][..],
            &bytes
        ]
        .concat()
    );
    assert_eq!(
        hot_add(6, Version::WIN10, range),
        [&[10, 0, 24, 0, 6, 0, 0, 0][..], &bytes, &bytes].concat()
    );
    assert_eq!(
        hot_add(6, Version::WIN7, range),
        [&[10, 0, 16, 0, 6, 0, 0, 0][..], &bytes].concat()
    );
}

#[test]
fn the_largest_unballoon_is_4096_bytes() {
    let range = WireRange::new(PageRun::new(1, 1)).unwrap();
    let message = unballoon(1, false, &[range; 600]);
    assert_eq!(message.len(), 4096);
    assert_eq!(message[12..16], 510_u32.to_le_bytes());
}

#[test]
fn messages_of_the_guest_are_decoded_from_the_bytes_of_the_sheet() {
    let version = [1, 0, 16, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0];
    let wanted = Incoming::Version {
        trans_id: 1,
        version: Version::WIN10,
    };
    assert_eq!(decode(&version), Ok(wanted));
    let mut capabilities = vec![3, 0, 32, 0, 2, 0, 0, 0, 0x1f, 0, 0, 0, 0, 0, 0, 0];
    capabilities.extend([0; 8]);
    capabilities.extend([0xff; 8]);
    let wanted = Incoming::Capabilities {
        trans_id: 2,
        capabilities: Capabilities(0x1f),
    };
    assert_eq!(decode(&capabilities), Ok(wanted));
    let mut status = vec![0; 48];
    status[..8].copy_from_slice(&[5, 0, 48, 0, 9, 0, 0, 0]);
    status[8] = 77;
    status[16] = 88;
    let wanted = Incoming::Status {
        committed: 88,
        available: 77,
    };
    assert_eq!(decode(&status), Ok(wanted));
    assert_eq!(decode(&[9, 0, 8, 0, 4, 0, 0, 0]), Ok(Incoming::Unballoon));
    let hot_add = [11, 0, 16, 0, 4, 0, 0, 0, 0, 0x80, 0, 0, 1, 0, 0, 0];
    let wanted = Incoming::HotAdd {
        page_count: 32768,
        result: true,
    };
    assert_eq!(decode(&hot_add), Ok(wanted));
}

#[test]
fn more_and_count_share_a_word_in_balloon_responses() {
    let mut guest = Linux::new(&[]);
    let runs = [PageRun::new(0x200, 512); 5];
    let message = guest.balloon_response(true, &runs);
    assert_eq!(message[12..16], 0xb_u32.to_le_bytes());
    let Ok(Incoming::Balloon { more, ranges }) = decode(&message) else {
        panic!();
    };
    assert!(more);
    assert_eq!(
        ranges.iter().map(|range| range.run()).collect::<Vec<_>>(),
        runs
    );
}

#[test]
fn every_message_is_refused_when_cut_anywhere() {
    let mut guest = Linux::new(&[]);
    let messages = [
        guest.reload(),
        guest.report(),
        guest.balloon_response(false, &[PageRun::new(1, 1); 3]),
        guest.unballoon_response(),
        guest.hot_add_response(1, 1),
    ];
    for message in messages {
        assert!(decode(&message).is_ok());
        for len in 0..message.len() {
            assert!(decode(&message[..len]).is_err(), "{message:?} cut to {len}");
        }
        let mut short = message.clone();
        short[2] = 7;
        short[3] = 0;
        assert!(decode(&short).is_err(), "a size below the header");
    }
}

#[test]
fn padding_of_the_ring_is_no_part_of_a_message() {
    let mut guest = Linux::new(&[]);
    let mut message = guest.hot_add_response(1, 1);
    message.extend([0xff; 8]);
    assert!(decode(&message).is_ok());
}

#[test]
fn a_range_count_beyond_the_message_is_refused() {
    let mut guest = Linux::new(&[]);
    let mut message = guest.balloon_response(false, &[PageRun::new(1, 1)]);
    for count in [2_u32, 510, 0x7fff_ffff] {
        message[12..16].copy_from_slice(&(count << 1).to_le_bytes());
        assert_eq!(decode(&message), Err(Malformed::Ranges(count)));
    }
}

#[test]
fn types_that_guests_do_not_send_and_lengths_that_cannot_be_are_refused() {
    for kind in (0..=20).chain([0x8000, 0xffff]) {
        let message_type = MessageType::from_bits(kind);
        let header = Header {
            message_type: kind.into(),
            size: 48.into(),
            trans_id: 1.into(),
        };
        let mut message = header.as_bytes().to_vec();
        message.resize(48, 0);
        let is_known = matches!(kind, 1 | 3 | 5 | 7 | 9 | 11);
        assert_eq!(decode(&message).is_ok(), is_known, "{message_type:?}");
        message.resize(MAX_INCOMING + 8, 0);
        assert_eq!(decode(&message), Err(Malformed::Length(MAX_INCOMING + 8)));
    }
}
