//! Layouts of the channel messages (section 3). Offsets include the 8-byte header.

use tlfs::{HvConnectionId, HvVpIndex, wire_enum, wire_struct};

use super::{
    ChannelMessage, ChannelMessageHeader, ChannelMessageType, GpadlHandle, Guid, Relid, Status,
    Version,
};

/// Target VP of a channel that never interrupts (trap 32).
pub const NO_INTERRUPT_VP: HvVpIndex = HvVpIndex(0xFFFF_FFFF);

/// Declares channel messages: the structure, its type, and a default with the type filled in.
macro_rules! channel_messages {
    ($( $(#[$outer:meta])* pub struct $ty:ident [$size:literal] = $konst:ident $body:tt )*) => {
        $(
            wire_struct! { $(#[$outer])* pub struct $ty [$size] $body }

            impl ChannelMessage for $ty {
                const TYPE: ChannelMessageType = ChannelMessageType::$konst;
            }

            impl $ty {
                /// The message with its type, all else zero.
                pub fn empty() -> Self {
                    let mut message = <Self as zerocopy::FromZeros>::new_zeroed();
                    message.header = ChannelMessageHeader::new(Self::TYPE);
                    message
                }
            }
        )*
    };
}

wire_enum! {
    /// Flags of an offer.
    pub struct ChannelFlags(u16);
    NONE = 0x0000, "NONE";
    ENUMERATE_DEVICE_INTERFACE = 0x0001, "ENUMERATE_DEVICE_INTERFACE";
    NAMED_PIPE = 0x0010, "NAMED_PIPE";
    /// Linux makes a socket of such a channel.
    TLNPI_PROVIDER = 0x2000, "TLNPI_PROVIDER";
}

channel_messages! {
    /// OFFERCHANNEL, to the guest (3.3).
    pub struct OfferChannel [196] = OFFER_CHANNEL {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Interface type: chooses the driver.
        interface @ 8: Guid,
        /// Instance: stable and unique.
        instance @ 24: Guid,
        /// Zero.
        reserved_40 @ 40: [u8; 16],
        /// Flags.
        flags @ 56: ChannelFlags,
        /// MMIO space that the device wants, in MiB.
        mmio_megabytes @ 58: u16,
        /// For the driver. Of a pipe: mode in the first four bytes.
        user_defined @ 60: [u8; 120],
        /// 0: the primary channel of the device.
        sub_channel_index @ 180: u16,
        /// Zero.
        reserved_182 @ 182: u16,
        /// Channel.
        relid @ 184: Relid,
        /// Not used.
        monitor_id @ 188: u8,
        /// 1: signalled through the monitor page. Never set here: nobody polls (trap 7).
        monitor_allocated @ 189: u8,
        /// 1: signals do not go through the interrupt page (trap 8).
        is_dedicated_interrupt @ 190: u16,
        /// What the guest signals.
        connection_id @ 192: HvConnectionId,
    }

    /// RESCIND_CHANNELOFFER, to the guest.
    pub struct RescindChannelOffer [12] = RESCIND_CHANNEL_OFFER {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Channel.
        relid @ 8: Relid,
    }

    /// REQUESTOFFERS, from the guest.
    pub struct RequestOffers [8] = REQUEST_OFFERS {
        /// Header.
        header @ 0: ChannelMessageHeader,
    }

    /// ALLOFFERS_DELIVERED, to the guest.
    pub struct AllOffersDelivered [8] = ALL_OFFERS_DELIVERED {
        /// Header.
        header @ 0: ChannelMessageHeader,
    }

    /// OPENCHANNEL, from the guest (3.4).
    pub struct OpenChannel [148] = OPEN_CHANNEL {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Channel.
        relid @ 8: Relid,
        /// Echoed in the result.
        open_id @ 12: u32,
        /// GPADL of the two rings.
        ring_gpadl @ 16: GpadlHandle,
        /// VP to interrupt, or [`NO_INTERRUPT_VP`].
        target_vp @ 20: HvVpIndex,
        /// Where the second ring starts in the GPADL, in pages (trap 10).
        downstream_pages @ 24: u32,
        /// For the device.
        user_data @ 28: [u8; 120],
    }

    /// OPENCHANNEL_RESULT, to the guest.
    pub struct OpenChannelResult [20] = OPEN_CHANNEL_RESULT {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Channel.
        relid @ 8: Relid,
        /// Echo.
        open_id @ 12: u32,
        /// 0: open.
        status @ 16: Status,
    }

    /// CLOSECHANNEL, from the guest.
    pub struct CloseChannel [12] = CLOSE_CHANNEL {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Channel.
        relid @ 8: Relid,
    }

    /// Fixed part of GPADL_HEADER, from the guest; the range buffer starts behind it (3.5).
    pub struct GpadlHeader [20] = GPADL_HEADER {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Channel.
        relid @ 8: Relid,
        /// Handle.
        handle @ 12: GpadlHandle,
        /// Bytes of the range buffer in this message and all bodies.
        range_buflen @ 16: u16,
        /// Ranges in the buffer.
        range_count @ 18: u16,
    }

    /// Fixed part of GPADL_BODY, from the guest; more of the range buffer follows.
    pub struct GpadlBody [16] = GPADL_BODY {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Linux leaves it 0: not looked at (trap 12).
        message_number @ 8: u32,
        /// Handle.
        handle @ 12: GpadlHandle,
    }

    /// GPADL_CREATED, to the guest.
    pub struct GpadlCreated [20] = GPADL_CREATED {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Channel.
        relid @ 8: Relid,
        /// Handle.
        handle @ 12: GpadlHandle,
        /// 0: created.
        status @ 16: Status,
    }

    /// GPADL_TEARDOWN, from the guest.
    pub struct GpadlTeardown [16] = GPADL_TEARDOWN {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Channel.
        relid @ 8: Relid,
        /// Handle.
        handle @ 12: GpadlHandle,
    }

    /// GPADL_TORNDOWN, to the guest.
    pub struct GpadlTorndown [12] = GPADL_TORNDOWN {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Handle.
        handle @ 8: GpadlHandle,
    }

    /// RELID_RELEASED, from the guest.
    pub struct RelidReleased [12] = RELID_RELEASED {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Channel.
        relid @ 8: Relid,
    }

    /// INITIATE_CONTACT, from the guest (3.1).
    pub struct InitiateContact [40] = INITIATE_CONTACT {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Version that the guest wants.
        version @ 8: Version,
        /// VP that gets all channel messages.
        target_vp @ 12: HvVpIndex,
        /// From 5.0 on: SINT that gets them. Before, the eight bytes from here are the address of the interrupt page,
        /// which dedicated channels do not need.
        msg_sint @ 16: u8,
        /// From 5.0 on: trust level, 0.
        msg_vtl @ 17: u8,
        /// Ignored.
        reserved_18 @ 18: [u8; 2],
        /// From 6.0 on: features.
        feature_flags @ 20: u32,
        /// Monitor page from host to guest. Accepted, not used.
        monitor_page_1 @ 24: u64,
        /// Monitor page from guest to host. Accepted, not used.
        monitor_page_2 @ 32: u64,
    }

    /// VERSION_RESPONSE, to the guest: always 16 bytes, also when refusing (trap 1).
    pub struct VersionResponse [16] = VERSION_RESPONSE {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// 1: accepted.
        version_supported @ 8: u8,
        /// 0: fine.
        connection_state @ 9: u8,
        /// Zero.
        padding @ 10: u16,
        /// From 5.0 on: the connection of all later messages (trap 2). Before: the version.
        connection_id_or_version @ 12: u32,
    }

    /// UNLOAD, from the guest.
    pub struct Unload [8] = UNLOAD {
        /// Header.
        header @ 0: ChannelMessageHeader,
    }

    /// UNLOAD_RESPONSE, to the guest.
    pub struct UnloadResponse [8] = UNLOAD_RESPONSE {
        /// Header.
        header @ 0: ChannelMessageHeader,
    }

    /// TL_CONNECT_REQUEST, from the guest: hv_sock.
    pub struct TlConnectRequest [40] = TL_CONNECT_REQUEST {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Endpoint.
        endpoint @ 8: Guid,
        /// Service.
        service @ 24: Guid,
    }

    /// TL_CONNECT_RESULT, to the guest. Linux ignores it.
    pub struct TlConnectResult [44] = TL_CONNECT_RESULT {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Endpoint.
        endpoint @ 8: Guid,
        /// Service.
        service @ 24: Guid,
        /// 0: connected.
        status @ 40: Status,
    }

    /// MODIFYCHANNEL, from the guest: another VP for the channel's interrupts.
    pub struct ModifyChannel [16] = MODIFY_CHANNEL {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Channel.
        relid @ 8: Relid,
        /// VP.
        target_vp @ 12: HvVpIndex,
    }

    /// MODIFYCHANNEL_RESPONSE, to the guest.
    pub struct ModifyChannelResponse [16] = MODIFY_CHANNEL_RESPONSE {
        /// Header.
        header @ 0: ChannelMessageHeader,
        /// Channel.
        relid @ 8: Relid,
        /// 0: done.
        status @ 12: Status,
    }
}
