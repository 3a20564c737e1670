//! Offers, and telling the guest of them and of their end.

use super::channel::{Announcement, Channel};
use super::{Effect, HostError, Server};
use crate::protocol::{
    AllOffersDelivered, ChannelFlags, Guid, OfferChannel, RELID_LIMIT, Relid, RescindChannelOffer,
};

/// What the host offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Interface type: chooses the guest's driver.
    pub interface: Guid,
    /// Instance: stable and unique.
    pub instance: Guid,
    /// Flags.
    pub flags: ChannelFlags,
    /// MMIO space in MiB.
    pub mmio_megabytes: u16,
    /// For the driver.
    pub user_defined: [u8; 120],
    /// 0 for a device's primary channel. A sub-channel has the same interface and instance, and is offered when the
    /// driver has asked for it; it ends with the guest's connection.
    pub sub_channel_index: u16,
}

impl Offer {
    /// A primary channel.
    pub fn new(interface: Guid, instance: Guid) -> Self {
        Self {
            interface,
            instance,
            flags: ChannelFlags::NONE,
            mmio_megabytes: 0,
            user_defined: [0; 120],
            sub_channel_index: 0,
        }
    }

    /// The sub-channel of this device with that index.
    pub fn sub_channel(mut self, index: u16) -> Self {
        self.sub_channel_index = index;
        self
    }

    /// A pipe of messages, as Windows offers its utilities.
    pub fn message_pipe(mut self) -> Self {
        const MODE_MESSAGE: [u8; 4] = 4u32.to_le_bytes();
        self.flags = ChannelFlags(self.flags.0 | ChannelFlags::NAMED_PIPE.0);
        if let Some(mode) = self.user_defined.first_chunk_mut() {
            *mode = MODE_MESSAGE;
        }
        self
    }

    fn is_same_channel(&self, other: &Self) -> bool {
        (self.interface, self.instance, self.sub_channel_index)
            == (other.interface, other.instance, other.sub_channel_index)
    }

    fn message(&self, relid: Relid) -> OfferChannel {
        OfferChannel {
            interface: self.interface,
            instance: self.instance,
            flags: self.flags,
            mmio_megabytes: self.mmio_megabytes,
            user_defined: self.user_defined,
            sub_channel_index: self.sub_channel_index,
            relid,
            monitor_id: 0xFF,
            is_dedicated_interrupt: 1,
            connection_id: relid.event_connection(),
            ..OfferChannel::empty()
        }
    }
}

/// Why a channel cannot be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// The guest knows a channel with this interface, instance and index, maybe a rescinded one that it has not let go.
    #[error("a channel of this interface, instance and index exists")]
    Duplicate,
    /// All relids are in use.
    #[error("all relids are in use")]
    NoRelid,
}

impl Server {
    /// Offers a channel, now or when the guest asks for offers (trap 5).
    ///
    /// # Errors
    /// If there is one like it, or no relid is free.
    pub fn add_offer(&mut self, offer: Offer) -> Result<Relid, OfferError> {
        if self
            .channels
            .values()
            .any(|channel| channel.offer.is_same_channel(&offer))
        {
            return Err(OfferError::Duplicate);
        }
        let relid = self.free_relid().ok_or(OfferError::NoRelid)?;
        self.next_relid = relid.0 + 1;
        let mut channel = Channel::new(offer);
        if self.connection.offers_requested() {
            channel.announcement = Announcement::Offer;
        }
        self.channels.insert(relid, channel);
        Ok(relid)
    }

    /// Takes an offer back. The channel ends when the guest has closed it and let its relid go
    /// ([`Effect::ChannelRemoved`]), or at once if the guest does not know of it. Until then the relid is not used again
    /// (trap 6). A device that is gone already says so first, with [`Server::fail`]; else it goes on until
    /// [`Effect::CloseChannel`].
    ///
    /// # Errors
    /// If there is no such channel.
    pub fn rescind(&mut self, relid: Relid) -> Result<(), HostError> {
        let channel = self
            .channels
            .get_mut(&relid)
            .ok_or(HostError::UnknownChannel)?;
        if channel.rescinded {
            return Ok(());
        }
        channel.rescinded = true;
        if channel.told {
            channel.announcement = Announcement::Rescind;
        } else {
            channel.announcement = Announcement::None;
            // A guest that was not told of it has nothing open, unless it is being disconnected.
            channel.released = true;
        }
        self.settle(relid);
        Ok(())
    }

    /// REQUESTOFFERS: all that there is, also if it was offered before (resume).
    pub(super) fn request_offers(&mut self) {
        for channel in self.channels.values_mut() {
            if !channel.rescinded {
                channel.announcement = Announcement::Offer;
            }
        }
        self.connection.set_offers_requested();
    }

    /// Turns what the guest is to be told of offers into messages, as far as there is room.
    pub(super) fn announce(&mut self) {
        let Some(connected) = self.connection.connected_mut() else {
            return;
        };
        let target = connected.target;
        for (relid, channel) in &mut self.channels {
            if channel.announcement == Announcement::None {
                continue;
            }
            if !self.outbox.has_room() {
                return;
            }
            match channel.announcement {
                Announcement::None => {}
                Announcement::Offer => {
                    self.outbox.push(target, &channel.offer.message(*relid));
                    channel.told = true;
                }
                Announcement::Rescind => {
                    let mut message = RescindChannelOffer::empty();
                    message.relid = *relid;
                    self.outbox.push(target, &message);
                }
            }
            channel.announcement = Announcement::None;
        }
        if connected.owes_all_delivered && self.outbox.has_room() {
            connected.owes_all_delivered = false;
            self.outbox.push(target, &AllOffersDelivered::empty());
        }
    }

    /// A channel that is gone for good.
    pub(super) fn remove_channel(&mut self, relid: Relid) {
        if self.channels.remove(&relid).is_some() {
            self.effects.push_back(Effect::ChannelRemoved { relid });
        }
    }

    fn free_relid(&self) -> Option<Relid> {
        let later = self.next_relid..RELID_LIMIT;
        let earlier = 1..self.next_relid.min(RELID_LIMIT);
        later
            .chain(earlier)
            .map(Relid)
            .find(|relid| relid.is_valid() && !self.channels.contains_key(relid))
    }
}
