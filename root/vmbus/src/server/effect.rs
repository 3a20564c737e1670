//! What the caller has to do.

use tlfs::HvVpIndex;

use crate::protocol::{GpadlHandle, Relid, Version};

/// Something to be carried out. In the order in which they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A guest has connected.
    Connected {
        /// With this version.
        version: Version,
    },
    /// The guest has disconnected, or was replaced by another kernel. All its channels are closed.
    Disconnected,
    /// The guest opens a channel: map the rings ([`super::Server::open_rings`]), start the device, and answer with
    /// [`super::Server::open_result`].
    OpenChannel(ChannelOpen),
    /// Stop the device of a channel and all accesses to the rings and to memory that its packets named, then call
    /// [`super::Server::closed`].
    CloseChannel {
        /// Channel.
        relid: Relid,
    },
    /// Stop all accesses to a GPADL, forget its mappings, then call [`super::Server::gpadl_released`].
    ReleaseGpadl {
        /// Channel for which it was made.
        relid: Relid,
        /// Handle.
        handle: GpadlHandle,
    },
    /// The channel's interrupts go to another VP from now on. Set its flag once if something is in the ring: the last
    /// flag may have been set for the old one.
    TargetVpChanged {
        /// Channel.
        relid: Relid,
    },
    /// The channel does not exist any more: it was rescinded and the guest has let it go, or it was a sub-channel and the
    /// guest has disconnected. Its relid may be used again.
    ChannelRemoved {
        /// Channel.
        relid: Relid,
    },
}

/// What the guest says when it opens a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOpen {
    /// Channel.
    pub relid: Relid,
    /// GPADL of the two rings; one range of whole pages, with at least a page of data for each.
    pub ring_gpadl: GpadlHandle,
    /// Where the second ring starts, in pages.
    pub downstream_pages: u32,
    /// VP to interrupt; maybe [`crate::protocol::NO_INTERRUPT_VP`].
    pub target_vp: HvVpIndex,
    /// For the device.
    pub user_data: [u8; 120],
}

/// An event flag to set with HvCallSignalEventDirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFlag {
    /// VP.
    pub vp: HvVpIndex,
    /// SINT.
    pub sint: u8,
    /// Flag.
    pub flag: u16,
}
