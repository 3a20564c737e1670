//! The connection: contact, unload, and everything being forgotten.

use tlfs::{HV_SYNIC_VMBUS_SINT_INDEX, HvConnectionId};

use super::channel::{Announcement, State};
use super::outbox::Target;
use super::{DropReason, Effect, Server};
use crate::protocol::{
    ChannelMessage, InitiateContact, MESSAGE_CONNECTION, MESSAGE_CONNECTION_5, Relid,
    UnloadResponse, Version, VersionResponse,
};

/// SINTs of a VP.
const SINTS: u8 = 16;

#[derive(Clone, Copy, Debug)]
pub(super) enum Connection {
    Disconnected,
    /// Channels are being closed and GPADLs released.
    Ending(After),
    Connected(Connected),
}

/// What follows when everything is closed.
#[derive(Clone, Copy, Debug)]
pub(super) enum After {
    /// UNLOAD_RESPONSE.
    Unload(Target),
    /// The answer to INITIATE_CONTACT.
    Contact(Contact),
}

/// A connection that exists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connected {
    pub(super) version: Version,
    pub(super) target: Target,
    pub(super) offers_requested: bool,
    /// ALLOFFERS_DELIVERED follows the offers.
    pub(super) owes_all_delivered: bool,
}

/// An INITIATE_CONTACT that is to be answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contact {
    version: Version,
    target: Target,
    accepted: bool,
}

impl Connection {
    pub(super) fn connected_mut(&mut self) -> Option<&mut Connected> {
        match self {
            Self::Connected(connected) => Some(connected),
            _ => None,
        }
    }

    pub(super) fn connected(&self) -> Option<&Connected> {
        match self {
            Self::Connected(connected) => Some(connected),
            _ => None,
        }
    }

    pub(super) fn version(&self) -> Option<Version> {
        self.connected().map(|connected| connected.version)
    }

    pub(super) fn offers_requested(&self) -> bool {
        self.connected()
            .is_some_and(|connected| connected.offers_requested)
    }

    pub(super) fn set_offers_requested(&mut self) {
        if let Some(connected) = self.connected_mut() {
            connected.offers_requested = true;
            connected.owes_all_delivered = true;
        }
    }
}

impl Server {
    /// INITIATE_CONTACT, in any state: a guest that makes contact again was restarted (trap 53), so everything of the old
    /// one is closed, and then it is answered. A version that is not supported is refused in the same way.
    pub(super) fn initiate_contact(
        &mut self,
        connection_id: HvConnectionId,
        message: &InitiateContact,
    ) -> Result<(), DropReason> {
        let version = message.version;
        if message.target_vp.0 >= self.vp_count {
            return Err(DropReason::UnknownVp);
        }
        let (sint, is_valid) = if version.names_sint() {
            let is_valid = (1..SINTS).contains(&message.msg_sint) && message.msg_vtl == 0;
            (message.msg_sint, is_valid)
        } else {
            (HV_SYNIC_VMBUS_SINT_INDEX, true)
        };
        let target = Target {
            vp: message.target_vp,
            sint: if is_valid {
                sint
            } else {
                HV_SYNIC_VMBUS_SINT_INDEX
            },
        };
        let accepted =
            is_valid && version.is_supported() && connection_id == message_connection(version);
        self.disconnect(After::Contact(Contact {
            version,
            target,
            accepted,
        }));
        Ok(())
    }

    /// UNLOAD: as if nobody had been connected, and then an answer. It waits for devices to stop, never for the guest
    /// (trap 52).
    pub(super) fn unload(&mut self) -> Result<(), DropReason> {
        let target = self.target().ok_or(DropReason::NotConnected)?;
        self.disconnect(After::Unload(target));
        Ok(())
    }

    /// Where messages to the guest go.
    fn target(&self) -> Option<Target> {
        self.connection
            .connected()
            .map(|connected| connected.target)
    }

    /// Sends a message to the guest that is connected.
    pub(super) fn send(&mut self, message: &impl ChannelMessage) {
        if let Some(target) = self.target() {
            self.outbox.push(target, message);
        }
    }

    /// The message connection of the guest.
    pub(super) fn is_message_connection(&self, connection_id: HvConnectionId) -> bool {
        self.connection
            .version()
            .is_some_and(|version| connection_id == message_connection(version))
    }

    fn disconnect(&mut self, after: After) {
        let was_connected = self.connection.connected().is_some();
        self.connection = Connection::Ending(after);
        self.outbox.clear();
        self.outbox.promise();
        self.gpadls.remove_incomplete(None);
        self.release_gpadls(None);
        self.forget_teardown_answers();
        let mut next = Relid(0);
        while let Some((relid, channel)) = self.channels.range_mut(next..).next() {
            let relid = *relid;
            next = Relid(relid.0 + 1);
            channel.announcement = Announcement::None;
            channel.told = false;
            if let State::Opening { answer, .. } = &mut channel.state {
                *answer = false;
            }
            // A guest that has forgotten the channel does not let it go in words. Sub-channels exist for a driver that
            // has asked.
            channel.rescinded |= channel.offer.sub_channel_index != 0;
            channel.released = channel.rescinded;
            self.stop(relid);
            self.settle(relid);
        }
        if was_connected {
            self.effects.push_back(Effect::Disconnected);
        }
        self.try_reconnect();
    }

    /// Answers what ended the last connection, once nothing is left of it.
    pub(super) fn try_reconnect(&mut self) {
        let Connection::Ending(after) = self.connection else {
            return;
        };
        let is_busy = self.channels.values().any(super::Channel::is_busy);
        if is_busy || self.gpadls.count() != 0 {
            return;
        }
        self.outbox.redeem();
        self.connection = Connection::Disconnected;
        match after {
            After::Unload(target) => self.outbox.push(target, &UnloadResponse::empty()),
            After::Contact(contact) => {
                self.outbox.push(contact.target, &contact.response());
                if contact.accepted {
                    self.connect(&contact);
                }
            }
        }
    }

    fn connect(&mut self, contact: &Contact) {
        self.connection = Connection::Connected(Connected {
            version: contact.version,
            target: contact.target,
            offers_requested: false,
            owes_all_delivered: false,
        });
        self.effects.push_back(Effect::Connected {
            version: contact.version,
        });
    }
}

impl Contact {
    /// 16 bytes, whatever is said (trap 1).
    fn response(&self) -> VersionResponse {
        let connection_id_or_version = match (self.accepted, self.version.names_sint()) {
            (false, _) => 0,
            (true, false) => self.version.0,
            (true, true) => MESSAGE_CONNECTION_5.0,
        };
        VersionResponse {
            version_supported: u8::from(self.accepted),
            connection_id_or_version,
            ..VersionResponse::empty()
        }
    }
}

/// Where a guest posts with this version.
fn message_connection(version: Version) -> HvConnectionId {
    if version.names_sint() {
        MESSAGE_CONNECTION_5
    } else {
        MESSAGE_CONNECTION
    }
}
