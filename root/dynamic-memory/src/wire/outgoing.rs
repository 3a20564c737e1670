//! The messages of the host.

use alloc::vec::Vec;

use zerocopy::IntoBytes;

use super::{
    AcceptResponse, BalloonRequest, Header, HotAddRegionRequest, HotAddRequest, InfoMessage,
    MAX_RANGES, MessageType, UnballoonRequest, Version, WireRange,
};

/// A header for a message of type `T`, with `extra` bytes behind it.
fn header<T>(message_type: MessageType, extra: usize, trans_id: u32) -> Header {
    let size = size_of::<T>().saturating_add(extra);
    Header {
        message_type: message_type.into_bits().into(),
        size: u16::try_from(size).unwrap_or(u16::MAX).into(),
        trans_id: trans_id.into(),
    }
}

/// The answer to a version (`VERSION_RESPONSE`) or capabilities (`CAPABILITIES_RESPONSE`).
pub fn accept(message_type: MessageType, trans_id: u32, accepted: bool) -> Vec<u8> {
    let message = AcceptResponse {
        header: header::<AcceptResponse>(message_type, 0, trans_id),
        flags: u64::from(accepted).into(),
    };
    message.as_bytes().to_vec()
}

/// How many pages the VM may have one day.
pub fn info(trans_id: u32, max_page_count: u64) -> Vec<u8> {
    let message = InfoMessage {
        header: header::<InfoMessage>(MessageType::INFO_MESSAGE, 0, trans_id),
        reserved: 0.into(),
        info_size: 16.into(),
        info_type: 0.into(),
        data_size: 8.into(),
        max_page_count: max_page_count.into(),
    };
    message.as_bytes().to_vec()
}

/// Asks for pages.
pub fn balloon(trans_id: u32, pages: u32) -> Vec<u8> {
    let message = BalloonRequest {
        header: header::<BalloonRequest>(MessageType::BALLOON_REQUEST, 0, trans_id),
        num_pages: pages.into(),
        reserved: 0.into(),
    };
    message.as_bytes().to_vec()
}

/// Gives pages back: at most [`MAX_RANGES`], what is beyond is left out.
pub fn unballoon(trans_id: u32, more: bool, ranges: &[WireRange]) -> Vec<u8> {
    let ranges = ranges.get(..MAX_RANGES).unwrap_or(ranges);
    let bytes = ranges.as_bytes();
    let request = UnballoonRequest {
        header: header::<UnballoonRequest>(MessageType::UNBALLOON_REQUEST, bytes.len(), trans_id),
        more: u32::from(more).into(),
        range_count: u32::try_from(ranges.len()).unwrap_or(0).into(),
    };
    let mut message = Vec::with_capacity(size_of::<UnballoonRequest>().saturating_add(bytes.len()));
    message.extend_from_slice(request.as_bytes());
    message.extend_from_slice(bytes);
    message
}

/// Offers new memory, with its region if the guest knows that layout.
pub fn hot_add(trans_id: u32, version: Version, range: WireRange) -> Vec<u8> {
    if version < Version::WIN8 {
        let header = header::<HotAddRequest>(MessageType::MEM_HOT_ADD_REQUEST, 0, trans_id);
        return HotAddRequest { header, range }.as_bytes().to_vec();
    }
    let header = header::<HotAddRegionRequest>(MessageType::MEM_HOT_ADD_REQUEST, 0, trans_id);
    let message = HotAddRegionRequest {
        header,
        range,
        region: range,
    };
    message.as_bytes().to_vec()
}
