//! Bytes on the wire. Sizes and offsets are asserted where the structures are declared.

use zerocopy::IntoBytes;

use super::*;

#[test]
fn a_guid_lies_in_memory_as_windows_has_it() {
    assert_eq!(
        interface::BALLOON.as_bytes(),
        [
            0xdc, 0x74, 0x50, 0x52, 0x85, 0x89, 0xe2, 0x46, 0x80, 0x57, 0xa3, 0x07, 0xdc, 0x18,
            0xa5, 0x02
        ]
    );
    assert_eq!(
        std::format!("{}", interface::SHUTDOWN_INSTANCE),
        "b6650ff7-33bc-4840-8048-e0676786f393"
    );
}

#[test]
fn exactly_the_versions_from_3_0_to_5_3_are_supported() {
    let accepted: std::vec::Vec<_> = (0..=7)
        .flat_map(|major| (0..=6).map(move |minor| Version::new(major, minor)))
        .filter(|version| version.is_supported())
        .map(|version| std::format!("{version}"))
        .collect();
    assert_eq!(accepted, ["3.0", "4.0", "4.1", "5.0", "5.1", "5.2", "5.3"]);
}

#[test]
fn a_message_is_parsed_from_bytes_of_any_alignment() {
    let mut body = GpadlBody::empty();
    body.handle = GpadlHandle(0xE1E10);
    for shift in 0..8 {
        let mut bytes = std::vec![0; shift];
        bytes.extend_from_slice(body.as_bytes());
        bytes.extend_from_slice(&[1, 2, 3]);
        let (parsed, rest) = GpadlBody::parse(&bytes[shift..]).unwrap();
        assert_eq!(parsed, body);
        assert_eq!(rest, [1, 2, 3]);
        assert!(GpadlBody::parse(&bytes[shift..shift + 15]).is_none());
    }
}

#[test]
fn event_connections_are_unique_and_lead_back_to_their_channel() {
    for relid in (1..RELID_LIMIT).map(Relid) {
        let connection = relid.event_connection();
        assert!(connection.id().is_some());
        assert_eq!(Relid::from_event_connection(connection), Some(relid));
    }
    for stranger in [
        0,
        1,
        4,
        EVENT_CONNECTION_BASE,
        EVENT_CONNECTION_BASE + 2048,
        u32::MAX,
    ] {
        let connection = tlfs::HvConnectionId(stranger);
        assert_eq!(Relid::from_event_connection(connection), None);
    }
}
