//! What the guest sends.

use tlfs::HvConnectionId;

use super::{DropReason, MAX_WAITING_EFFECTS, Received, Server};
use crate::gpadl::GuestMemoryMap;
use crate::protocol::{
    ChannelMessage, ChannelMessageHeader, ChannelMessageType, CloseChannel, GpadlBody, GpadlHeader,
    GpadlTeardown, ModifyChannel, OpenChannel, Relid, RelidReleased, Status, TlConnectRequest,
    TlConnectResult, Version,
};
use zerocopy::FromBytes;

impl Server {
    /// A message of type 1 that the guest has posted to a connection. `memory` says what is RAM.
    ///
    /// All that does not fit the state is dropped, but for GPADL_TEARDOWN, which a connected guest always gets answered,
    /// and requests of a usable channel for which a guest would wait without end: those get a failure.
    pub fn receive(
        &mut self,
        memory: &impl GuestMemoryMap,
        connection_id: HvConnectionId,
        payload: &[u8],
    ) -> Received {
        if self.effects.len() >= MAX_WAITING_EFFECTS {
            return Received::Busy;
        }
        let result = self.dispatch(memory, connection_id, payload);
        result.unwrap_or_else(|reason| {
            self.drops.add(reason);
            Received::Dropped(reason)
        })
    }

    /// The guest has signalled a connection (HvCallSignalEvent): the channel whose incoming ring has something, or whose
    /// outgoing ring has room.
    ///
    /// # Errors
    /// If it is no open channel's. Counted.
    pub fn event(&mut self, connection_id: HvConnectionId, flag: u16) -> Result<Relid, DropReason> {
        let relid = Relid::from_event_connection(connection_id)
            .filter(|relid| flag == 0 && self.is_open(*relid));
        relid.ok_or_else(|| {
            self.drops.add(DropReason::UnknownEvent);
            DropReason::UnknownEvent
        })
    }

    fn dispatch(
        &mut self,
        memory: &impl GuestMemoryMap,
        connection_id: HvConnectionId,
        payload: &[u8],
    ) -> Result<Received, DropReason> {
        let (header, _) =
            ChannelMessageHeader::read_from_prefix(payload).map_err(|_| DropReason::TooShort)?;
        if header.message_type == ChannelMessageType::INITIATE_CONTACT {
            self.initiate_contact(connection_id, &parse(payload)?.0)?;
            return Ok(Received::Taken);
        }
        if self.connection.connected().is_none() {
            return Err(DropReason::NotConnected);
        }
        if !self.is_message_connection(connection_id) {
            return Err(DropReason::WrongConnection);
        }
        if header.message_type == ChannelMessageType::UNLOAD {
            self.unload()?;
            return Ok(Received::Taken);
        }
        // Every other message has at most one answer.
        if !self.outbox.has_room() {
            return Ok(Received::Busy);
        }
        self.request(memory, header.message_type, payload)?;
        Ok(Received::Taken)
    }

    fn request(
        &mut self,
        memory: &impl GuestMemoryMap,
        message_type: ChannelMessageType,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        match message_type {
            ChannelMessageType::REQUEST_OFFERS => self.request_offers(),
            ChannelMessageType::OPEN_CHANNEL => {
                self.open_channel(&parse::<OpenChannel>(payload)?.0)?;
            }
            ChannelMessageType::CLOSE_CHANNEL => {
                self.close_channel(&parse::<CloseChannel>(payload)?.0)?;
            }
            ChannelMessageType::GPADL_HEADER => {
                let (message, bytes) = parse::<GpadlHeader>(payload)?;
                self.gpadl_header(memory, &message, bytes)?;
            }
            ChannelMessageType::GPADL_BODY => {
                let (message, bytes) = parse::<GpadlBody>(payload)?;
                self.gpadl_body(memory, &message, bytes)?;
            }
            ChannelMessageType::GPADL_TEARDOWN => {
                self.gpadl_teardown(&parse::<GpadlTeardown>(payload)?.0);
            }
            ChannelMessageType::RELID_RELEASED => {
                self.relid_released(&parse::<RelidReleased>(payload)?.0)?;
            }
            ChannelMessageType::MODIFY_CHANNEL => {
                self.modify_channel(&parse::<ModifyChannel>(payload)?.0)?;
            }
            ChannelMessageType::TL_CONNECT_REQUEST => {
                self.tl_connect(&parse::<TlConnectRequest>(payload)?.0)?;
            }
            _ => return Err(DropReason::UnknownType),
        }
        Ok(())
    }

    /// There is no hv_sock here.
    fn tl_connect(&mut self, message: &TlConnectRequest) -> Result<(), DropReason> {
        if self.connection.version() < Some(Version::V4_0) {
            return Err(DropReason::Version);
        }
        self.send(&TlConnectResult {
            endpoint: message.endpoint,
            service: message.service,
            status: Status::CONNECTION_REFUSED,
            ..TlConnectResult::empty()
        });
        Ok(())
    }
}

/// The fixed part of a message, and what follows.
fn parse<T: ChannelMessage>(payload: &[u8]) -> Result<(T, &[u8]), DropReason> {
    T::parse(payload).ok_or(DropReason::TooShort)
}
