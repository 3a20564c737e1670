//! Making and ending ports and connections (root sheet A.3.7 and C.1). What goes through them: `message.rs`.

use tlfs::{
    HvInputConnectPort, HvInputCreatePort, HvInputDeletePort, HvInputDisconnectPort, HvPortInfo,
    HvPortType, HvProximityDomainInfo, HvStatus, HvVpIndex,
};

use zerocopy::FromZeros;

use super::Call;
use crate::hv::Hypervisor;
use crate::mem::frames::PartitionSlot;
use crate::partition::table::PartitionGuard;
use crate::partition::{Partition, PartitionState};
use crate::port::{Connection, Kind, MessageQueue, Objects, Port, Room, Target};
use crate::synic::Sint;

/// Ports and connections that FinalizePartition ends before it looks at the clock.
const END_STEP: usize = 8;

/// HvCallCreatePort. Doorbells and monitor ports are not offered.
pub fn create(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputCreatePort = call.input();
    let vtls = input.port_vtl.is_vtl0() && input.min_connection_vtl == 0;
    if !vtls || input.padding != 0 {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    no_domain(&input.proximity_domain_info)?;
    let sender = call.target(input.connection_partition)?.id;
    let owner = active(call.target(input.port_partition)?)?;
    let target = target(call, &owner, &input.port_info)?;
    input.port_id.id().ok_or(HvStatus::INVALID_PORT_ID)?;

    let hv = call.hv();
    let slot = owner.slot;
    let mut ports = hv.partitions.entry(slot).ports.lock();
    if ports.find(owner.id, input.port_id).is_some() {
        return Err(HvStatus::INVALID_PORT_ID);
    }
    // Its room comes last: a page without a port in it would be released by nobody.
    let kind = kind(hv, slot, &input.port_info)?;
    if let Err(status) = make_room(hv, slot, &mut ports.all) {
        release(hv, slot, kind);
        return Err(status);
    }
    let port = Port::new(owner.id, input.port_id, sender, target, kind);
    ports.all.insert(port).map_err(|_| HvStatus::NO_RESOURCES)
}

/// HvCallDeletePort. Its messages are dropped; its connection leads nowhere then.
pub fn delete(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputDeletePort = call.input();
    if input.reserved != 0 {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let owner = call.target(input.port_partition)?;
    let named = |port: &Port| port.id == input.port_id;
    if remove_port(call.hv(), owner.slot, named) {
        Ok(())
    } else {
        Err(HvStatus::INVALID_PORT_ID)
    }
}

/// HvCallConnectPort.
pub fn connect(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputConnectPort = call.input();
    let reserved = input.reserved_13 != [0; 3] || input.reserved_28 != 0;
    if reserved || !input.connection_vtl.is_vtl0() {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    no_domain(&input.proximity_domain_info)?;
    // One after the other: it may be the same, and two calls may name the same two.
    let port_owner = call.target(input.port_partition)?.id;
    let sender = active(call.target(input.connection_partition)?)?;
    let id = input.connection_id;
    id.id().ok_or(HvStatus::INVALID_CONNECTION_ID)?;

    let hv = call.hv();
    let mut ports = hv.partitions.entry_of(port_owner)?.ports.lock();
    let port = ports.find(port_owner, input.port_id);
    let port = port.filter(|port| port.sender == sender.id && port.connection.is_none());
    let port = port.ok_or(HvStatus::INVALID_PORT_ID)?;
    if port.kind.port_type() != input.connection_info.port_type {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let mut connections = hv.partitions.entry(sender.slot).connections.lock();
    if connections.iter().any(|other| other.id == id) {
        return Err(HvStatus::INVALID_CONNECTION_ID);
    }
    make_room(hv, sender.slot, &mut connections)?;
    let connection = Connection {
        id,
        port_owner,
        port: port.id,
    };
    let inserted = connections.insert(connection);
    inserted.map_err(|_| HvStatus::NO_RESOURCES)?;
    port.connection = Some(id);
    Ok(())
}

/// HvCallDisconnectPort. The port can be connected again.
pub fn disconnect(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputDisconnectPort = call.input();
    if input.is_doorbell != 0 {
        // There are none.
        return Err(HvStatus::INVALID_CONNECTION_ID);
    }
    let sender = call.target(input.connection_partition)?;
    let named = |connection: &Connection| connection.id == input.connection_id;
    if remove_connection(call.hv(), &sender, named) {
        Ok(())
    } else {
        Err(HvStatus::INVALID_CONNECTION_ID)
    }
}

/// Ends some of the ports and connections of a partition; true if none is left.
pub(super) fn end_some(call: &Call<'_>, child: &Partition) -> bool {
    let (clock, hv) = (call.clock(), call.hv());
    loop {
        for _ in 0..END_STEP {
            let port = remove_port(hv, child.slot, |_| true);
            let connection = remove_connection(hv, child, |_| true);
            if !port && !connection {
                return true;
            }
        }
        if !clock.has_time() {
            return false;
        }
    }
}

fn active(partition: PartitionGuard<'static>) -> Result<PartitionGuard<'static>, HvStatus> {
    if partition.state == PartitionState::Active {
        Ok(partition)
    } else {
        Err(HvStatus::INVALID_PARTITION_STATE)
    }
}

/// There is one proximity domain.
const fn no_domain(info: &HvProximityDomainInfo) -> Result<(), HvStatus> {
    match info.domain_id {
        0 => Ok(()),
        _ => Err(HvStatus::INVALID_PROXIMITY_DOMAIN_INFO),
    }
}

/// Where things that come through a port are to go.
///
/// # Errors
/// INVALID_PARAMETER for a SINT that is none, or is that of the intercepts; INVALID_VP_INDEX for a VP that there is not.
fn target(call: &Call<'_>, owner: &Partition, info: &HvPortInfo) -> Result<Target, HvStatus> {
    let sint = Sint::new(info.target_sint).filter(|sint| *sint != Sint::INTERCEPTS);
    let sint = sint.ok_or(HvStatus::INVALID_PARAMETER)?;
    let vp = match info.target_vp {
        HvVpIndex::ANY => None,
        index => Some(call.vp_of(owner, index)?.index),
    };
    Ok(Target { sint, vp })
}

/// What a port is to do. The buffers of its messages come from its partition's pool.
fn kind(hv: &Hypervisor, slot: PartitionSlot, info: &HvPortInfo) -> Result<Kind, HvStatus> {
    let plain = info.padding == 0 && info.reserved == 0;
    match info.port_type {
        HvPortType::EVENT if plain => Kind::event(info),
        HvPortType::MESSAGE if plain && info.base_flag_number == 0 && info.flag_count == 0 => {
            let buffers = hv.place(slot, FromZeros::new_zeroed())?;
            Ok(Kind::Message(MessageQueue::new(buffers)))
        }
        _ => Err(HvStatus::INVALID_PARAMETER),
    }
}

/// Gives back what a port's kind has from its partition's pool.
fn release(hv: &Hypervisor, slot: PartitionSlot, kind: Kind) {
    if let Kind::Message(queue) = kind {
        hv.release(slot, queue.into_frame());
    }
}

/// Room for one more, in a page from a pool if need be.
///
/// # Errors
/// INSUFFICIENT_MEMORY; NO_RESOURCES if there are as many as there can be.
fn make_room<T, const N: usize>(
    hv: &Hypervisor,
    slot: PartitionSlot,
    objects: &mut Objects<T, N>,
) -> Result<(), HvStatus> {
    match objects.room() {
        Room::Here => Ok(()),
        Room::None => Err(HvStatus::NO_RESOURCES),
        Room::InNewPage => {
            let page = hv.place(slot, Objects::EMPTY_PAGE)?;
            objects.add_page(page).map_err(|page| {
                hv.release(slot, page.into_frame());
                HvStatus::NO_RESOURCES
            })
        }
    }
}

/// Ends the first port of a partition for which `wanted` holds; whether there is one.
fn remove_port(hv: &Hypervisor, slot: PartitionSlot, wanted: impl Fn(&Port) -> bool) -> bool {
    let mut ports = hv.partitions.entry(slot).ports.lock();
    let Some((port, page)) = ports.all.remove(wanted) else {
        return false;
    };
    release(hv, slot, port.kind);
    if let Some(page) = page {
        hv.release(slot, page);
    }
    true
}

/// Ends the first connection of a partition for which `wanted` holds; whether there is one.
fn remove_connection(
    hv: &Hypervisor,
    sender: &Partition,
    wanted: impl Fn(&Connection) -> bool,
) -> bool {
    let mut connections = hv.partitions.entry(sender.slot).connections.lock();
    let Some((connection, page)) = connections.remove(wanted) else {
        return false;
    };
    if let Some(page) = page {
        hv.release(sender.slot, page);
    }
    // The ports' lock is outside that of the connections. Until it is taken the port has a connection that is no more.
    drop(connections);
    if let Ok(entry) = hv.partitions.entry_of(connection.port_owner) {
        entry.ports.lock().disconnect(sender.id, &connection);
    }
    true
}
