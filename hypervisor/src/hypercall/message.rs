//! Messages and events (root sheet A.3.7 and C.4, guest sheet 6.1 and 6.2).

use tlfs::{
    HV_MESSAGE_PAYLOAD_BYTE_COUNT, HvConnectionId, HvInputPostMessage, HvInputPostMessageDirect,
    HvInputSignalEvent, HvInputSignalEventDirect, HvMessage, HvMessageType,
    HvOutputSignalEventDirect, HvPartitionId, HvStatus, HvVpIndex,
};

use super::Call;
use crate::partition::table::{PartitionGuard, slot_of};
use crate::partition::{PartitionState, VpRef};
use crate::port::{Connection, Ports, Signals, Synics};
use crate::synic::{Message, NotPosted, Sint};

/// HvCallPostMessage. A connection that does not exist is the parent's business, if that has asked for those.
pub fn post(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputPostMessage = call.input();
    let reserved = 1 << 31;
    let well_formed = input.reserved == 0
        && input.message_type.0 & reserved == 0
        && input.message_type != HvMessageType::NONE
        && input.payload_size as usize <= HV_MESSAGE_PAYLOAD_BYTE_COUNT;
    if !well_formed {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let Some(connection) = connection(call, input.connection_id) else {
        return no_connection(call);
    };
    let used = input.payload.get(..input.payload_size as usize);
    let message = used.and_then(|used| HvMessage::new(input.message_type, 0, used));
    let message = message.ok_or(HvStatus::INVALID_PARAMETER)?;
    let sender = call.caller;
    send(call, &connection, |ports, synics| {
        ports.post(sender, &connection, message, synics)
    })
}

/// HvCallSignalEvent. As [`post`] for a connection that does not exist.
pub fn signal(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputSignalEvent = call.input();
    if input.reserved != 0 {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let Some(connection) = connection(call, input.connection_id) else {
        return no_connection(call);
    };
    let sender = call.caller;
    send(call, &connection, |ports, synics| {
        ports.signal(sender, &connection, input.flag_number, synics)
    })
}

/// Sends something through a connection, and tells whom it has reached.
fn send(
    call: &mut Call<'_>,
    connection: &Connection,
    through: impl FnOnce(&mut Ports, &Synics) -> Result<Signals, HvStatus>,
) -> Result<(), HvStatus> {
    let slot = slot_of(connection.port_owner).ok_or(HvStatus::INVALID_PORT_ID)?;
    let receiver = call.hv().partitions.entry(slot);
    let signals = through(&mut receiver.ports.lock(), &receiver.synics)?;
    call.cpu.signal_all(call.vp, slot, signals);
    Ok(())
}

/// The caller's connection with this id.
fn connection(call: &Call<'_>, id: HvConnectionId) -> Option<Connection> {
    let connections = call.vp.home.connections.lock();
    connections.iter().find(|other| other.id == id).copied()
}

fn no_connection(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let intercepted = call.cpu.partition(call.vp, |_, partition| {
        partition.intercepts.unknown_connection && !partition.is_root()
    });
    call.for_parent = intercepted;
    Err(HvStatus::INVALID_CONNECTION_ID)
}

/// HvCallPostMessageDirect: a message from the parent into a slot.
///
/// OBJECT_IN_USE if the slot is full; the parent can ask to be told when it is not (DeliverabilityNotifications).
pub fn post_direct(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputPostMessageDirect = call.input();
    if !input.vtl.is_vtl0() || input.padding != 0 {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let sint = Sint::new(input.sint_index).ok_or(HvStatus::INVALID_PARAMETER)?;
    let (child, to) = receiver(call, input.partition_id, input.vp_index)?;
    let message = input.message();
    let header = message.header;
    let size = usize::from(header.payload_size);
    if header.message_type == HvMessageType::NONE || size > HV_MESSAGE_PAYLOAD_BYTE_COUNT {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let hv = call.hv();
    let posted = hv.with_synic(to, |synic| {
        synic.post(sint, &Message::from(&message), false)
    });
    drop(child);
    let signal = posted
        .ok_or(HvStatus::INVALID_VP_INDEX)?
        .map_err(|error| match error {
            NotPosted::Inactive => HvStatus::INVALID_SYNIC_STATE,
            NotPosted::SlotBusy => HvStatus::OBJECT_IN_USE,
        })?;
    call.cpu.signal(call.vp, to, signal);
    Ok(())
}

/// HvCallSignalEventDirect: an event flag from the parent.
pub fn signal_direct(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputSignalEventDirect = call.input();
    if !input.target_vtl.is_vtl0() {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let sint = Sint::new(input.target_sint.into()).ok_or(HvStatus::INVALID_PARAMETER)?;
    let (child, to) = receiver(call, input.target_partition, input.target_vp)?;
    let set = call
        .hv()
        .with_synic(to, |synic| synic.signal_event(sint, input.flag_number));
    drop(child);
    let (newly, signal) = set.ok_or(HvStatus::INVALID_VP_INDEX)??;
    call.cpu.signal(call.vp, to, signal);
    call.put(&HvOutputSignalEventDirect {
        newly_signaled: newly.into(),
        ..HvOutputSignalEventDirect::default()
    });
    Ok(())
}

/// A VP of a child that something is for, and the child, locked: so it is that child's while it is put there.
fn receiver(
    call: &Call<'_>,
    id: HvPartitionId,
    vp: HvVpIndex,
) -> Result<(PartitionGuard<'static>, VpRef), HvStatus> {
    let child = call.child(id)?;
    if child.state != PartitionState::Active {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    let to = call.vp_named(&child, vp)?;
    Ok((child, to))
}
