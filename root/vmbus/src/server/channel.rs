//! Channels: open, close, modify, release.

use tlfs::HvVpIndex;

use super::{ChannelOpen, DropReason, Effect, Offer, Server};
use crate::protocol::{
    CloseChannel, GpadlHandle, ModifyChannel, ModifyChannelResponse, OpenChannel,
    OpenChannelResult, Relid, RelidReleased, Status,
};

/// What the guest is still to be told of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announcement {
    None,
    Offer,
    Rescind,
}

/// How far a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Offered or not, and not open.
    Closed,
    /// The device was asked to open it.
    Opening {
        open_id: u32,
        /// The guest waits for the result.
        answer: bool,
        /// The guest has closed it meanwhile, or disconnected.
        abandoned: bool,
    },
    Open,
    /// The device was asked to stop.
    Closing,
    /// The device has stopped by itself; the guest thinks that it is open.
    Failed,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) offer: Offer,
    pub(super) state: State,
    pub(super) announcement: Announcement,
    /// The guest was sent an offer.
    pub(super) told: bool,
    pub(super) rescinded: bool,
    /// The guest has let it go; it ends when nothing uses it any more.
    pub(super) released: bool,
    /// While it is not closed.
    pub(super) ring_gpadl: GpadlHandle,
    pub(super) downstream_pages: u32,
    pub(super) target_vp: HvVpIndex,
}

impl Channel {
    pub(super) fn new(offer: Offer) -> Self {
        Self {
            offer,
            state: State::Closed,
            announcement: Announcement::None,
            told: false,
            rescinded: false,
            released: false,
            ring_gpadl: GpadlHandle(0),
            downstream_pages: 0,
            target_vp: HvVpIndex(0),
        }
    }

    /// The device may access guest memory on its behalf.
    pub(super) fn is_busy(&self) -> bool {
        !matches!(self.state, State::Closed | State::Failed)
    }
}

impl Server {
    /// A channel that the guest was told of and may still use.
    pub(super) fn usable(&mut self, relid: Relid) -> Result<&mut Channel, DropReason> {
        let channel = self.known(relid)?;
        if channel.rescinded {
            return Err(DropReason::Rescinded);
        }
        Ok(channel)
    }

    /// A channel that the guest was told of.
    fn known(&mut self, relid: Relid) -> Result<&mut Channel, DropReason> {
        self.channels
            .get_mut(&relid)
            .filter(|channel| channel.told)
            .ok_or(DropReason::UnknownChannel)
    }

    pub(super) fn open_channel(&mut self, message: &OpenChannel) -> Result<(), DropReason> {
        let relid = message.relid;
        let state = self.usable(relid)?.state;
        match state {
            State::Closed => {}
            // The guest has closed it and is so quick to open it again that the device has not stopped yet.
            State::Closing => {
                self.send_open_result(relid, message.open_id, Status::UNSUCCESSFUL);
                return Ok(());
            }
            _ => return Err(DropReason::ChannelState),
        }
        if !self.is_channel_target(message.target_vp) || !self.has_rings(message) {
            self.send_open_result(relid, message.open_id, Status::INVALID_PARAMETER);
            return Ok(());
        }
        let channel = self.usable(relid)?;
        channel.ring_gpadl = message.ring_gpadl;
        channel.downstream_pages = message.downstream_pages;
        channel.target_vp = message.target_vp;
        channel.state = State::Opening {
            open_id: message.open_id,
            answer: true,
            abandoned: false,
        };
        self.outbox.promise();
        self.effects.push_back(Effect::OpenChannel(ChannelOpen {
            relid,
            ring_gpadl: message.ring_gpadl,
            downstream_pages: message.downstream_pages,
            target_vp: message.target_vp,
            user_data: message.user_data,
        }));
        Ok(())
    }

    /// Whether the GPADL is the channel's, stays, and is a pair of rings.
    fn has_rings(&self, message: &OpenChannel) -> bool {
        self.gpadls.owner(message.ring_gpadl) == Some(message.relid)
            && !self.teardowns.contains_key(&message.ring_gpadl)
            && self
                .gpadls
                .get(message.ring_gpadl)
                .is_some_and(|gpadl| gpadl.rings(message.downstream_pages).is_ok())
    }

    pub(super) fn send_open_result(&mut self, relid: Relid, open_id: u32, status: Status) {
        self.send(&OpenChannelResult {
            relid,
            open_id,
            status,
            ..OpenChannelResult::empty()
        });
    }

    pub(super) fn close_channel(&mut self, message: &CloseChannel) -> Result<(), DropReason> {
        let channel = self.known(message.relid)?;
        match channel.state {
            State::Open | State::Failed => self.stop(message.relid),
            State::Opening {
                abandoned: false, ..
            } => self.stop(message.relid),
            _ => return Err(DropReason::ChannelState),
        }
        Ok(())
    }

    /// Brings a channel on the way to being closed, whatever state it is in.
    pub(super) fn stop(&mut self, relid: Relid) {
        let Some(channel) = self.channels.get_mut(&relid) else {
            return;
        };
        match &mut channel.state {
            State::Closed | State::Closing => {}
            State::Failed => channel.state = State::Closed,
            State::Opening { abandoned, .. } => *abandoned = true,
            State::Open => {
                channel.state = State::Closing;
                self.effects.push_back(Effect::CloseChannel { relid });
            }
        }
    }

    pub(super) fn modify_channel(&mut self, message: &ModifyChannel) -> Result<(), DropReason> {
        let version = self.connection.version().ok_or(DropReason::NotConnected)?;
        if !version.has_modify_channel() {
            return Err(DropReason::Version);
        }
        let relid = message.relid;
        let is_target = self.is_channel_target(message.target_vp);
        // Also after a rescind: the guest waits for the answer.
        let channel = self.known(relid)?;
        let status = if matches!(channel.state, State::Open) && is_target {
            channel.target_vp = message.target_vp;
            self.effects.push_back(Effect::TargetVpChanged { relid });
            Status::SUCCESS
        } else {
            Status::INVALID_PARAMETER
        };
        if version.has_modify_channel_response() {
            self.send(&ModifyChannelResponse {
                relid,
                status,
                ..ModifyChannelResponse::empty()
            });
        }
        Ok(())
    }

    pub(super) fn relid_released(&mut self, message: &RelidReleased) -> Result<(), DropReason> {
        let relid = message.relid;
        let channel = self.known(relid)?;
        // Before the guest has heard of the rescind it has no reason to let go.
        if !channel.rescinded || channel.announcement == Announcement::Rescind || channel.released {
            return Err(DropReason::ChannelState);
        }
        channel.released = true;
        self.stop(relid);
        self.gpadls.remove_incomplete(Some(relid));
        self.release_gpadls(Some(relid));
        self.settle(relid);
        Ok(())
    }
}
