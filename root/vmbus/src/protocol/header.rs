//! Types of channel messages, ids, status codes, connections.

use tlfs::{HvConnectionId, wire_enum, wire_struct};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the longest channel message.
pub const MAX_MESSAGE_SIZE: usize = tlfs::HV_MESSAGE_PAYLOAD_BYTE_COUNT;

/// Message connection of guests that speak a version below 5.0.
pub const MESSAGE_CONNECTION: HvConnectionId = HvConnectionId(1);
/// Message connection of guests that speak 5.0 or newer.
pub const MESSAGE_CONNECTION_5: HvConnectionId = HvConnectionId(4);
/// Event connection of the channel with relid 0, which does not exist. That of a channel is `relid` above this: below the
/// 24 bits of a connection id, and above all ids that have a meaning.
pub const EVENT_CONNECTION_BASE: u32 = 0x2000;

/// Relids are below this: a guest has as many event flags in a SINT.
pub const RELID_LIMIT: u32 = tlfs::HV_EVENT_FLAGS_COUNT as u32;

wire_enum! {
    /// Id of a channel for one guest: 1 to 2047, and number of the event flag that interrupts the guest.
    pub struct Relid(u32);
}

impl Relid {
    /// Whether a channel can have it (trap 6).
    pub const fn is_valid(self) -> bool {
        self.0 != 0 && self.0 < RELID_LIMIT
    }

    /// Connection that the guest signals for this channel.
    pub const fn event_connection(self) -> HvConnectionId {
        HvConnectionId(EVENT_CONNECTION_BASE.saturating_add(self.0))
    }

    /// The channel whose event connection this is.
    pub fn from_event_connection(connection: HvConnectionId) -> Option<Self> {
        let relid = Self(connection.0.checked_sub(EVENT_CONNECTION_BASE)?);
        relid.is_valid().then_some(relid)
    }
}

wire_enum! {
    /// Handle of a GPADL. The guest chooses it; it is unique in the guest, not in a channel (trap 14).
    pub struct GpadlHandle(u32);
}

wire_enum! {
    /// Type of a channel message (section 2).
    pub struct ChannelMessageType(u32);
    OFFER_CHANNEL = 1, "OFFERCHANNEL";
    RESCIND_CHANNEL_OFFER = 2, "RESCIND_CHANNELOFFER";
    REQUEST_OFFERS = 3, "REQUESTOFFERS";
    ALL_OFFERS_DELIVERED = 4, "ALLOFFERS_DELIVERED";
    OPEN_CHANNEL = 5, "OPENCHANNEL";
    OPEN_CHANNEL_RESULT = 6, "OPENCHANNEL_RESULT";
    CLOSE_CHANNEL = 7, "CLOSECHANNEL";
    GPADL_HEADER = 8, "GPADL_HEADER";
    GPADL_BODY = 9, "GPADL_BODY";
    GPADL_CREATED = 10, "GPADL_CREATED";
    GPADL_TEARDOWN = 11, "GPADL_TEARDOWN";
    GPADL_TORNDOWN = 12, "GPADL_TORNDOWN";
    RELID_RELEASED = 13, "RELID_RELEASED";
    INITIATE_CONTACT = 14, "INITIATE_CONTACT";
    VERSION_RESPONSE = 15, "VERSION_RESPONSE";
    UNLOAD = 16, "UNLOAD";
    UNLOAD_RESPONSE = 17, "UNLOAD_RESPONSE";
    TL_CONNECT_REQUEST = 21, "TL_CONNECT_REQUEST";
    MODIFY_CHANNEL = 22, "MODIFYCHANNEL";
    TL_CONNECT_RESULT = 23, "TL_CONNECT_RESULT";
    MODIFY_CHANNEL_RESPONSE = 24, "MODIFYCHANNEL_RESPONSE";
}

wire_enum! {
    /// Status in answers: 0 is success, anything else a failure. The values are NTSTATUS codes, which Linux only prints.
    pub struct Status(u32);
    SUCCESS = 0, "SUCCESS";
    UNSUCCESSFUL = 0xC000_0001, "UNSUCCESSFUL";
    INVALID_PARAMETER = 0xC000_000D, "INVALID_PARAMETER";
    INSUFFICIENT_RESOURCES = 0xC000_009A, "INSUFFICIENT_RESOURCES";
    CONNECTION_REFUSED = 0xC000_0236, "CONNECTION_REFUSED";
}

wire_struct! {
    /// First 8 bytes of a channel message. REQUESTOFFERS, ALLOFFERS_DELIVERED, UNLOAD and UNLOAD_RESPONSE have no more.
    pub struct ChannelMessageHeader [8] {
        /// Type.
        message_type @ 0: ChannelMessageType,
        /// Ignored.
        padding @ 4: u32,
    }
}

impl ChannelMessageHeader {
    /// The header of a message of this type.
    pub const fn new(message_type: ChannelMessageType) -> Self {
        Self {
            message_type,
            padding: 0,
        }
    }
}

/// A channel message, or its fixed part.
pub trait ChannelMessage: Sized + FromBytes + IntoBytes + Immutable + KnownLayout {
    /// Its type.
    const TYPE: ChannelMessageType;

    /// The message at the start of `bytes`, whatever type stands in it, and what follows. `None` if they are too few. The
    /// bytes need no alignment (trap 13), and more than the message are fine.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        Self::read_from_prefix(bytes).ok()
    }
}
