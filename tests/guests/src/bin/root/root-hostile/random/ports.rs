//! Ports and connections, messages and events: mostly between the root and its children, by few numbers, so that they meet.

use guests::check;
use guests::root::Root;
use guests::root::way::{Way, direct_event, direct_message, event, message};
use tlfs::HvCallCode as Code;
use tlfs::*;
use zerocopy::{FromBytes, FromZeros};

use super::calls::{deposit, rep, simple};
use crate::world::{Block, World};

/// Numbers of ports and connections.
const NUMBERS: u64 = 8;
/// What a SINT of a child's is set to: a vector, not masked.
const VECTOR: u64 = 0x41;

/// One call, or a few.
pub fn one(root: &mut Root, world: &mut World) {
    match world.rng.below(16) {
        0..3 => way(root, world),
        3 => {
            create(root, world);
        }
        4 | 5 => connect(root, world),
        6 => delete(root, world),
        7 => disconnect(root, world),
        8 => post(root, world),
        9 => signal(root, world),
        10 => {
            let (partition, vp, sint) = (world.partition(root), world.vp(), sint(world));
            post_direct(root, world, partition, vp, sint);
        }
        11 => {
            let (partition, vp, sint) = (world.partition(root), world.vp(), sint(world));
            signal_direct(root, world, partition, vp, sint);
        }
        _ => hear(root, world),
    }
}

fn number(world: &mut World) -> u32 {
    match world.rng.below(16) {
        0 => world.rng.odd_value() as u32,
        _ => world.rng.below(NUMBERS) as u32,
    }
}

/// Mostly the root, which is the one that can send here.
fn sender(root: &Root, world: &mut World) -> HvPartitionId {
    match world.rng.below(4) {
        0 => world.partition(root),
        _ => root.id,
    }
}

fn sint(world: &mut World) -> u32 {
    world.rng.below(18) as u32
}

/// All of a way, and something through it.
fn way(root: &mut Root, world: &mut World) {
    let Some(input) = create(root, world) else {
        return;
    };
    let connection = HvConnectionId::from_bits(number(world));
    let block = Block::new(&HvInputConnectPort {
        connection_partition: input.connection_partition,
        connection_id: connection,
        port_partition: input.port_partition,
        port_id: input.port_id,
        connection_info: HvConnectionInfo::plain(input.port_info.port_type),
        ..HvInputConnectPort::new_zeroed()
    });
    let pool = input.connection_partition;
    if pay(root, world, Code::CONNECT_PORT, pool, &block) != HvStatus::SUCCESS {
        return;
    }
    if world.rng.one_in(2) {
        let info = input.port_info;
        listen(
            root,
            world,
            input.port_partition,
            info.target_vp,
            info.target_sint,
        );
    }
    for _ in 0..world.rng.below(20) {
        send(root, world, connection, input.port_info.port_type);
    }
}

fn send(root: &mut Root, world: &mut World, to: HvConnectionId, kind: HvPortType) {
    if kind == HvPortType::EVENT {
        let input = event(to, world.rng.below(9) as u16);
        simple(root, world, Code::SIGNAL_EVENT, Block::new(&input));
    } else {
        let mut input = message(to, 1 + world.rng.below(4) as u32, &[0x5A; 240]);
        input.payload_size = world.rng.below(250) as u32;
        simple(root, world, Code::POST_MESSAGE, Block::new(&input));
    }
}

/// A port, if it could be made.
fn create(root: &mut Root, world: &mut World) -> Option<HvInputCreatePort> {
    let (vp, sint) = (world.vp(), sint(world));
    let port_info = match world.rng.below(8) {
        0 => HvPortInfo::doorbell(sint, vp),
        1 => HvPortInfo::monitor(world.rng.odd_value()),
        2..4 => {
            let (base, count) = (world.rng.below(2100), world.rng.below(9));
            HvPortInfo::event(sint, vp, base as u16, count as u16)
        }
        _ => HvPortInfo::message(sint, vp),
    };
    let port_partition = world.partition(root);
    let input = HvInputCreatePort {
        port_partition,
        port_id: HvPortId::from_bits(number(world)),
        connection_partition: sender(root, world),
        port_info,
        ..HvInputCreatePort::new_zeroed()
    };
    let block = Block::new(&input);
    let status = pay(root, world, Code::CREATE_PORT, port_partition, &block);
    (status == HvStatus::SUCCESS).then_some(input)
}

fn connect(root: &mut Root, world: &mut World) {
    let connection_partition = sender(root, world);
    let kind = world.rng.pick(&[
        HvPortType::MESSAGE,
        HvPortType::MESSAGE,
        HvPortType::EVENT,
        HvPortType::DOORBELL,
    ]);
    let input = HvInputConnectPort {
        connection_partition,
        connection_id: HvConnectionId::from_bits(number(world)),
        port_partition: world.partition(root),
        port_id: HvPortId::from_bits(number(world)),
        connection_info: HvConnectionInfo::plain(kind),
        ..HvInputConnectPort::new_zeroed()
    };
    let block = Block::new(&input);
    pay(
        root,
        world,
        Code::CONNECT_PORT,
        connection_partition,
        &block,
    );
}

/// A call that may need memory of a partition's pool: mostly it gets some then.
fn pay(
    root: &mut Root,
    world: &mut World,
    code: Code,
    pool: HvPartitionId,
    block: &Block,
) -> HvStatus {
    let status = simple(root, world, code, block.clone());
    if status != HvStatus::INSUFFICIENT_MEMORY || world.rng.one_in(4) {
        return status;
    }
    deposit(root, world, pool, 4);
    simple(root, world, code, block.clone())
}

fn delete(root: &mut Root, world: &mut World) {
    let block = Block::new(&HvInputDeletePort {
        port_partition: world.partition(root),
        port_id: HvPortId::from_bits(number(world)),
        reserved: 0,
    });
    simple(root, world, Code::DELETE_PORT, block);
}

fn disconnect(root: &mut Root, world: &mut World) {
    let block = Block::new(&HvInputDisconnectPort {
        connection_partition: sender(root, world),
        connection_id: HvConnectionId::from_bits(number(world)),
        is_doorbell: world.rng.one_in(16).into(),
    });
    simple(root, world, Code::DISCONNECT_PORT, block);
}

fn post(root: &mut Root, world: &mut World) {
    let to = HvConnectionId::from_bits(number(world));
    send(root, world, to, HvPortType::MESSAGE);
}

fn signal(root: &mut Root, world: &mut World) {
    let to = HvConnectionId::from_bits(number(world));
    send(root, world, to, HvPortType::EVENT);
}

fn post_direct(
    root: &mut Root,
    world: &mut World,
    partition: HvPartitionId,
    vp: HvVpIndex,
    sint: u32,
) {
    let kind = HvMessageType(world.rng.pick(&[1, 0x8000_0010, 0]));
    let input = direct_message(partition, vp, sint, kind);
    simple(root, world, Code::POST_MESSAGE_DIRECT, Block::new(&input));
}

fn signal_direct(
    root: &mut Root,
    world: &mut World,
    partition: HvPartitionId,
    vp: HvVpIndex,
    sint: u32,
) {
    let flag = world.rng.below(2100) as u16;
    let input = direct_event(partition, vp, sint, flag);
    simple(root, world, Code::SIGNAL_EVENT_DIRECT, Block::new(&input));
}

/// A child's VP gets a SynIC that takes something.
fn listen(root: &mut Root, world: &mut World, partition: HvPartitionId, vp: HvVpIndex, sint: u32) {
    let mut block = Block::new(&HvInputVpRegisters {
        partition_id: partition,
        vp_index: vp,
        ..HvInputVpRegisters::default()
    });
    for (name, value) in [
        (HvRegisterName::SCONTROL, 1),
        (HvRegisterName(HvRegisterName::SINT0.0 + sint), VECTOR),
        (HvRegisterName::SIMP, 0x3001),
        (HvRegisterName::SIEFP, 0x4001),
    ] {
        block.push(&HvRegisterAssoc::new(name, value));
    }
    for _ in 0..2 {
        let status = rep(root, world, Code::SET_VP_REGISTERS, 4, block.clone());
        if status == HvStatus::INSUFFICIENT_MEMORY {
            deposit(root, world, partition, 4);
        }
    }
}

/// A VP listens, and gets something to hear.
fn hear(root: &mut Root, world: &mut World) {
    let (partition, vp, sint) = (world.child(), world.vp(), 1 + world.rng.below(15) as u32);
    listen(root, world, partition, vp, sint);
    for _ in 0..world.rng.below(4) {
        post_direct(root, world, partition, vp, sint);
        signal_direct(root, world, partition, vp, sint);
    }
}

/// Most ports and connections of the root's that are made in a run.
const OWN: usize = 512;

/// What the root has of its own: children's ends with them.
pub struct Own {
    ports: [HvPortId; OWN],
    connections: [HvConnectionId; OWN],
    made: (usize, usize),
}

impl Own {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            ports: [HvPortId(0); OWN],
            connections: [HvConnectionId(0); OWN],
            made: (0, 0),
        }
    }

    /// A call was made with this input: as it was, with what may have been spoiled in it.
    pub fn note(&mut self, root: HvPartitionId, code: Code, input: &[u8]) {
        let is_own = |id| id == root || id == HvPartitionId::SELF;
        if code == Code::CREATE_PORT
            && let Ok((port, _)) = HvInputCreatePort::read_from_prefix(input)
            && is_own(port.port_partition)
        {
            check!(self.made.0 < OWN, "more than {OWN} ports of the root's");
            self.ports[self.made.0] = port.port_id;
            self.made.0 += 1;
        } else if code == Code::CONNECT_PORT
            && let Ok((connection, _)) = HvInputConnectPort::read_from_prefix(input)
            && is_own(connection.connection_partition)
        {
            check!(
                self.made.1 < OWN,
                "more than {OWN} connections of the root's"
            );
            self.connections[self.made.1] = connection.connection_id;
            self.made.1 += 1;
        }
    }

    /// Ends all of them, those that there are no more included.
    pub fn end(&self, root: &Root) {
        for id in &self.connections[..self.made.1] {
            let _ = Way::new(root.id, root.id, id.0).disconnect(root);
        }
        for id in &self.ports[..self.made.0] {
            let _ = Way::new(root.id, root.id, id.0).delete(root);
        }
    }
}
