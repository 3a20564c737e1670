use super::*;
use crate::frame::{Answer, HEADER_LEN, MAX_PAYLOAD};
use crate::{FrameError, Heartbeat, MessageType, Status};
use guest::v;

/// A right answer with 40 bytes of body.
fn answer() -> Vec<u8> {
    let mut service = Heartbeat::default();
    let mut guest = Linux::new(&[v(3, 0)]);
    open_only(&mut service, &mut guest);
    let packet = take(&mut service, 0).unwrap();
    guest.answer(&packet).unwrap()
}

fn open_only(service: &mut dyn Service, guest: &mut Linux) {
    service.opened(0);
    let packet = take(service, 0).unwrap();
    service
        .received(&guest.answer(&packet).unwrap(), packet.transaction, 0)
        .unwrap();
}

#[test]
fn an_answer_is_decoded_with_the_padding_of_the_ring() {
    let bytes = answer();
    assert_eq!(bytes.len(), 72);
    let answer = Answer::decode(&bytes).unwrap();
    assert_eq!(
        (answer.message_type, answer.status),
        (MessageType::HEARTBEAT, Status::OK)
    );
    assert_eq!((answer.transaction, answer.body.len()), (2, 40));
}

#[test]
fn an_answer_cut_anywhere_is_refused() {
    let bytes = answer();
    for len in 0..HEADER_LEN {
        assert_eq!(
            Answer::decode(&bytes[..len]),
            Err(FrameError::Truncated(len))
        );
    }
    for len in HEADER_LEN..HEADER_LEN + 40 {
        let present = len - 8;
        assert_eq!(
            Answer::decode(&bytes[..len]),
            Err(FrameError::PipeSize { size: 60, present })
        );
    }
    assert!(Answer::decode(&bytes[..HEADER_LEN + 40]).is_ok());
}

#[test]
fn a_body_longer_than_the_pipe_message_is_refused() {
    let mut bytes = answer();
    bytes[18] = 41;
    assert_eq!(
        Answer::decode(&bytes),
        Err(FrameError::BodySize { size: 41, room: 40 })
    );
    bytes[18..20].copy_from_slice(&[0xFF; 2]);
    assert_eq!(
        Answer::decode(&bytes),
        Err(FrameError::BodySize {
            size: 0xFFFF,
            room: 40
        })
    );
    bytes[4..8].copy_from_slice(&[0xFF; 4]);
    assert_eq!(
        Answer::decode(&bytes),
        Err(FrameError::PipeSize {
            size: u32::MAX,
            present: 64
        })
    );
    // A pipe message without room for the frame has none for a body.
    bytes[4..8].copy_from_slice(&[0; 4]);
    assert_eq!(
        Answer::decode(&bytes),
        Err(FrameError::BodySize {
            size: 0xFFFF,
            room: 0
        })
    );
}

#[test]
fn a_request_is_no_answer() {
    let mut bytes = answer();
    bytes[25] = 3;
    assert_eq!(Answer::decode(&bytes), Err(FrameError::NotAnAnswer(3)));
}

#[test]
fn a_packet_larger_than_any_channel_carries_is_refused() {
    let mut bytes = answer();
    bytes.resize(MAX_PAYLOAD, 0);
    assert!(Answer::decode(&bytes).is_ok());
    bytes.push(0);
    assert_eq!(
        Answer::decode(&bytes),
        Err(FrameError::TooLong(MAX_PAYLOAD + 1))
    );
}

#[test]
fn unknown_values_are_values() {
    let mut bytes = answer();
    bytes[12..14].copy_from_slice(&[0x34, 0x12]);
    bytes[20..24].copy_from_slice(&[1, 2, 3, 4]);
    let answer = Answer::decode(&bytes).unwrap();
    assert_eq!(
        alloc::format!("{:?} {:?}", answer.message_type, answer.status),
        "MessageType(0x1234) Status(0x4030201)"
    );
}
