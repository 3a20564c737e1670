//! Ports and connections: messages and events between partitions.

use tlfs::HvCallCode as C;
use tlfs::*;
use zerocopy::{Immutable, IntoBytes};

use super::messages::{SINT, TYPE, VECTOR, VP, event_flags, from_child, interrupt, scenes, take};
use crate::hv::ROOT_ID;
use crate::port::{HV_PORT_MESSAGE_BUFFERS, Ports};
use crate::run::testing::{Bench, Outcome};

const PORT: HvPortId = HvPortId(0x12_3456);
const CONNECTION: HvConnectionId = HvConnectionId(7);
const EOM: u32 = HV_X64_MSR_EOM;

fn create(owner: HvPartitionId, sender: HvPartitionId, port_info: HvPortInfo) -> HvInputCreatePort {
    HvInputCreatePort {
        port_partition: owner,
        port_id: PORT,
        connection_partition: sender,
        port_info,
        ..Default::default()
    }
}

fn connect(owner: HvPartitionId, sender: HvPartitionId, kind: HvPortType) -> HvInputConnectPort {
    HvInputConnectPort {
        connection_partition: sender,
        connection_id: CONNECTION,
        port_partition: owner,
        port_id: PORT,
        connection_info: HvConnectionInfo::plain(kind),
        ..Default::default()
    }
}

fn disconnect(sender: HvPartitionId) -> HvInputDisconnectPort {
    HvInputDisconnectPort {
        connection_partition: sender,
        connection_id: CONNECTION,
        is_doorbell: 0,
    }
}

fn delete(owner: HvPartitionId) -> HvInputDeletePort {
    HvInputDeletePort {
        port_partition: owner,
        port_id: PORT,
        reserved: 0,
    }
}

/// Creates or connects a port, with as many pages for the pool as it takes.
fn make(
    bench: &mut Bench,
    pool: HvPartitionId,
    code: HvCallCode,
    input: &(impl IntoBytes + Immutable),
) -> Result<(), HvStatus> {
    bench.paid::<[u8; 0]>(pool, code, input).map(|_| ())
}

/// An input with something changed, and the status that it is to be refused with.
fn changed<T>(mut input: T, status: HvStatus, change: fn(&mut T)) -> (T, HvStatus) {
    change(&mut input);
    (input, status)
}

/// Creates a port of the receiver's for the sender, and connects it.
fn link(bench: &mut Bench, port: &HvInputCreatePort, connection: &HvInputConnectPort) {
    let (owner, sender) = (port.port_partition, connection.connection_partition);
    make(bench, owner, C::CREATE_PORT, port).expect("created");
    make(bench, sender, C::CONNECT_PORT, connection).expect("connected");
}

/// A receiver whose VP 0 is set up, and a sender with a connection to a port of this kind.
fn linked(info: HvPortInfo) -> impl Iterator<Item = (Bench, HvPartitionId, HvPartitionId)> {
    scenes().map(move |(mut bench, receiver)| {
        let sender = bench.child_with_vp();
        let port = create(receiver, sender, info);
        let connection = connect(receiver, sender, info.port_type);
        link(&mut bench, &port, &connection);
        (bench, receiver, sender)
    })
}

fn post_as(bench: &mut Bench, sender: HvPartitionId, id: HvConnectionId, text: &[u8]) -> HvStatus {
    let mut input = HvInputPostMessage {
        connection_id: id,
        message_type: TYPE,
        payload_size: text.len() as u32,
        payload: [0; 240],
        reserved: 0,
    };
    input.payload[..text.len()].copy_from_slice(text);
    status(from_child(bench, sender, C::POST_MESSAGE, input.as_bytes()))
}

fn post(bench: &mut Bench, sender: HvPartitionId, text: &[u8]) -> HvStatus {
    post_as(bench, sender, CONNECTION, text)
}

fn signal(bench: &mut Bench, sender: HvPartitionId, flag_number: u16) -> HvStatus {
    let input = HvInputSignalEvent {
        connection_id: CONNECTION,
        flag_number,
        reserved: 0,
    };
    status(from_child(bench, sender, C::SIGNAL_EVENT, input.as_bytes()))
}

fn status(outcome: Outcome) -> HvStatus {
    match outcome {
        Outcome::Result(result, 1) => result.call_status(),
        other => panic!("{other:?}"),
    }
}

/// The guest writes a register of its SynIC.
fn write(bench: &mut Bench, id: HvPartitionId, msr: u32, value: u64) {
    bench.switch_to(id, 0);
    let (cpu, vp) = bench.parts();
    let effect = cpu.hv.with_synic(vp.who, |synic| synic.write(msr, value));
    cpu.synic_written(vp, effect.expect("a SynIC").expect("written"));
    bench.switch_to_root();
}

/// The guest takes all messages as it should: with EOM where it is asked for it.
fn take_all(bench: &mut Bench, id: HvPartitionId) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let (message, eom) = take(bench, id);
        if message.header.message_type == HvMessageType::NONE {
            return all;
        }
        all.push(message.payload_bytes().to_vec());
        if eom {
            write(bench, id, EOM, 0);
        }
    }
}

const MESSAGES: HvPortInfo = HvPortInfo::message(SINT, VP);

#[test]
fn a_message_comes_through_a_port_with_its_id_and_an_interrupt() {
    for (mut bench, receiver, sender) in linked(MESSAGES) {
        assert_eq!(post(&mut bench, sender, b"hello"), HvStatus::SUCCESS);
        assert_eq!(interrupt(&mut bench, receiver), Some(VECTOR));
        let (message, eom) = take(&mut bench, receiver);
        assert_eq!(message.header.message_type, TYPE);
        assert_eq!(message.header.sender, PORT.0.into());
        assert_eq!(message.payload_bytes(), b"hello");
        assert!(!eom);
        bench.tear_down();
    }
}

#[test]
fn messages_that_find_the_slot_full_wait_in_order_and_none_is_lost() {
    for (mut bench, receiver, sender) in linked(MESSAGES) {
        let texts: Vec<Vec<u8>> = (0..=HV_PORT_MESSAGE_BUFFERS)
            .map(|number| vec![number as u8; number])
            .collect();
        for text in &texts {
            assert_eq!(post(&mut bench, sender, text), HvStatus::SUCCESS);
        }
        let full = HvStatus::INSUFFICIENT_BUFFERS;
        assert_eq!(post(&mut bench, sender, b"too much"), full);
        assert_eq!(take_all(&mut bench, receiver), texts);
        assert_eq!(post(&mut bench, sender, b"more"), HvStatus::SUCCESS);
        assert_eq!(take_all(&mut bench, receiver), [b"more"]);
        bench.tear_down();
    }
}

#[test]
fn a_message_waits_for_a_synic_that_is_off() {
    for (mut bench, receiver, sender) in linked(MESSAGES) {
        let masked = HvSynicSint::RESET.into_bits();
        for (msr, off, on) in [
            (HV_X64_MSR_SINT0 + SINT, masked, u64::from(VECTOR)),
            (HV_X64_MSR_SCONTROL, 0, 1),
        ] {
            write(&mut bench, receiver, msr, off);
            assert_eq!(post(&mut bench, sender, b"patient"), HvStatus::SUCCESS);
            assert!(take_all(&mut bench, receiver).is_empty());
            assert_eq!(interrupt(&mut bench, receiver), None);
            write(&mut bench, receiver, msr, on);
            assert_eq!(interrupt(&mut bench, receiver), Some(VECTOR));
            assert_eq!(take_all(&mut bench, receiver), [b"patient"]);
        }
        bench.tear_down();
    }
}

#[test]
fn ports_of_one_sint_take_turns() {
    for (mut bench, receiver, sender) in linked(MESSAGES) {
        let other = HvConnectionId(8);
        let mut port = create(receiver, sender, MESSAGES);
        port.port_id = HvPortId(2);
        let mut connection = connect(receiver, sender, HvPortType::MESSAGE);
        (connection.port_id, connection.connection_id) = (HvPortId(2), other);
        link(&mut bench, &port, &connection);
        for _ in 0..3 {
            post(&mut bench, sender, b"a");
        }
        for _ in 0..2 {
            post_as(&mut bench, sender, other, b"b");
        }
        let got = take_all(&mut bench, receiver).concat();
        assert_eq!(got, b"ababa");
        bench.tear_down();
    }
}

#[test]
fn what_is_for_any_vp_goes_to_one_that_takes_it() {
    for (mut bench, receiver, sender) in linked(HvPortInfo::message(SINT, HvVpIndex::ANY)) {
        bench.add_vp(receiver, 1);
        write(&mut bench, receiver, HV_X64_MSR_SCONTROL, 0);
        assert_eq!(post(&mut bench, sender, b"nobody"), HvStatus::SUCCESS);
        assert_eq!(post(&mut bench, sender, b"listens"), HvStatus::SUCCESS);
        write(&mut bench, receiver, HV_X64_MSR_SCONTROL, 1);
        let expected: [&[u8]; 2] = [b"nobody", b"listens"];
        assert_eq!(take_all(&mut bench, receiver), expected);
        bench.tear_down();
    }
    for (mut bench, receiver, sender) in linked(HvPortInfo::event(SINT, HvVpIndex::ANY, 0, 1)) {
        assert_eq!(signal(&mut bench, sender, 0), HvStatus::SUCCESS);
        write(&mut bench, receiver, HV_X64_MSR_SCONTROL, 0);
        let off = HvStatus::INVALID_SYNIC_STATE;
        assert_eq!(signal(&mut bench, sender, 0), off);
        bench.tear_down();
    }
}

#[test]
fn events_of_a_port_are_its_part_of_the_flags() {
    for (mut bench, receiver, sender) in linked(HvPortInfo::event(SINT, VP, 60, 10)) {
        assert_eq!(signal(&mut bench, sender, 5), HvStatus::SUCCESS);
        assert_eq!(interrupt(&mut bench, receiver), Some(VECTOR));
        assert_eq!(event_flags(&bench, receiver), [0, 1 << 1]);
        assert_eq!(signal(&mut bench, sender, 5), HvStatus::SUCCESS);
        assert_eq!(interrupt(&mut bench, receiver), None, "it has one for it");
        assert_eq!(signal(&mut bench, sender, 0), HvStatus::SUCCESS);
        assert_eq!(event_flags(&bench, receiver), [1 << 60, 1 << 1]);
        let none = HvStatus::INVALID_PARAMETER;
        assert_eq!(signal(&mut bench, sender, 10), none);
        assert_eq!(post(&mut bench, sender, b""), HvStatus::INVALID_PORT_ID);
        bench.tear_down();
    }
}

#[test]
fn the_root_receives_as_a_child_does() {
    for mut bench in Bench::each() {
        let sender = bench.child_with_vp();
        let (messages, sint) = (bench.hv.lp(0).root.messages.spfn(), SINT);
        for (msr, value) in [
            (HV_X64_MSR_SIMP, 1),
            (HV_X64_MSR_SINT0 + sint, VECTOR.into()),
            (HV_X64_MSR_SCONTROL, 1),
        ] {
            write(&mut bench, ROOT_ID, msr, value);
        }
        let port = create(HvPartitionId::SELF, sender, MESSAGES);
        let connection = connect(HvPartitionId::SELF, sender, HvPortType::MESSAGE);
        link(&mut bench, &port, &connection);
        assert_eq!(post(&mut bench, sender, b"up"), HvStatus::SUCCESS);
        let at = messages.address().0 + u64::from(sint) * HV_MESSAGE_SIZE as u64;
        let message: HvMessage = bench.read_machine(crate::mem::addr::Spa(at));
        assert_eq!(message.payload_bytes(), b"up");
        // It is the root's own port: nobody else ends it.
        let deleted = bench.simple(C::DELETE_PORT, &delete(HvPartitionId::SELF));
        assert_eq!(deleted, HvStatus::SUCCESS);
        bench.tear_down();
    }
}

#[test]
fn ends_that_are_gone_are_told_apart_from_connections_that_never_were() {
    for (mut bench, receiver, sender) in linked(MESSAGES) {
        let unknown = HvStatus::INVALID_CONNECTION_ID;
        let other = HvConnectionId(1);
        assert_eq!(post_as(&mut bench, sender, other, b""), unknown);
        assert_eq!(post(&mut bench, receiver, b""), unknown);

        // Without its connection a port waits for another one.
        let disconnected = bench.simple(C::DISCONNECT_PORT, &disconnect(sender));
        assert_eq!(disconnected, HvStatus::SUCCESS);
        assert_eq!(post(&mut bench, sender, b""), unknown);
        let connection = connect(receiver, sender, HvPortType::MESSAGE);
        let made = make(&mut bench, sender, C::CONNECT_PORT, &connection);
        assert!(made.is_ok());
        assert_eq!(post(&mut bench, sender, b""), HvStatus::SUCCESS);

        // Without its port a connection leads nowhere, also if there is another one of that name.
        assert_eq!(
            bench.simple(C::DELETE_PORT, &delete(receiver)),
            HvStatus::SUCCESS
        );
        let gone = HvStatus::INVALID_PORT_ID;
        assert_eq!(post(&mut bench, sender, b""), gone);
        let port = create(receiver, sender, MESSAGES);
        let made = make(&mut bench, receiver, C::CREATE_PORT, &port);
        assert!(made.is_ok());
        assert_eq!(post(&mut bench, sender, b""), gone);
        bench.destroy(receiver);
        assert_eq!(post(&mut bench, sender, b""), gone);
        bench.tear_down();
    }
}

#[test]
fn a_sender_that_ends_leaves_the_port_without_a_connection() {
    for (mut bench, receiver, sender) in linked(MESSAGES) {
        bench.destroy(sender);
        let next = bench.child_with_vp();
        let connection = connect(receiver, next, HvPortType::MESSAGE);
        let refused = bench.simple(C::CONNECT_PORT, &connection);
        assert_eq!(refused, HvStatus::INVALID_PORT_ID, "it was for the other");
        assert_eq!(
            bench.simple(C::DELETE_PORT, &delete(receiver)),
            HvStatus::SUCCESS
        );
        bench.tear_down();
    }
}

#[test]
fn a_port_that_cannot_be_is_refused() {
    for (mut bench, owner) in scenes() {
        let sender = bench.child_with_vp();
        let good = create(owner, sender, MESSAGES);
        let mut calls = Vec::new();
        let mut refused = |status, change| calls.push(changed(good, status, change));
        use HvStatus as S;
        refused(S::INVALID_PORT_ID, |port| port.port_id.0 |= 1 << 24);
        refused(S::INVALID_PARAMETER, |port| port.port_info.target_sint = 0);
        refused(S::INVALID_PARAMETER, |port| port.port_info.target_sint = 16);
        refused(S::INVALID_PARAMETER, |port| port.port_info.padding = 1);
        refused(S::INVALID_PARAMETER, |port| port.port_info.flag_count = 1);
        refused(S::INVALID_PARAMETER, |port| port.min_connection_vtl = 1);
        refused(S::INVALID_PARAMETER, |port| {
            port.port_info = HvPortInfo::event(SINT, VP, 2048, 1);
        });
        refused(S::INVALID_PARAMETER, |port| {
            port.port_info = HvPortInfo::event(SINT, VP, u16::MAX, u16::MAX);
        });
        refused(S::INVALID_PARAMETER, |port| {
            port.port_info = HvPortInfo::event(SINT, VP, 0, 0);
        });
        refused(S::INVALID_PARAMETER, |port| {
            port.port_info = HvPortInfo::doorbell(SINT, VP);
        });
        refused(S::INVALID_PARAMETER, |port| {
            port.port_info = HvPortInfo::monitor(0x1000);
        });
        refused(S::INVALID_VP_INDEX, |port| {
            port.port_info.target_vp = HvVpIndex(1);
        });
        refused(S::INVALID_PARTITION_ID, |port| {
            port.connection_partition.0 += 1 << 20;
        });
        refused(S::INVALID_PARTITION_ID, |port| {
            port.port_partition.0 += 1 << 20;
        });
        refused(S::INVALID_PROXIMITY_DOMAIN_INFO, |port| {
            port.proximity_domain_info.domain_id = 1;
        });
        for (input, status) in calls {
            let refused = make(&mut bench, owner, C::CREATE_PORT, &input);
            assert_eq!(refused, Err(status), "{input:?}");
        }
        let made = make(&mut bench, owner, C::CREATE_PORT, &good);
        assert!(made.is_ok());
        let twice = bench.simple(C::CREATE_PORT, &good);
        assert_eq!(twice, HvStatus::INVALID_PORT_ID);
        bench.tear_down();
    }
}

#[test]
fn a_connection_that_cannot_be_is_refused() {
    for (mut bench, owner) in scenes() {
        let sender = bench.child_with_vp();
        let port = create(owner, sender, MESSAGES);
        let made = make(&mut bench, owner, C::CREATE_PORT, &port);
        assert!(made.is_ok());
        let good = connect(owner, sender, HvPortType::MESSAGE);
        let mut calls = Vec::new();
        let mut refused = |status, change| calls.push(changed(good, status, change));
        use HvStatus as S;
        refused(S::INVALID_CONNECTION_ID, |input| {
            input.connection_id.0 |= 1 << 31;
        });
        refused(S::INVALID_PORT_ID, |input| input.port_id.0 += 1);
        refused(S::INVALID_PORT_ID, |input| {
            input.connection_partition = input.port_partition;
        });
        refused(S::INVALID_PORT_ID, |input| {
            input.port_partition = input.connection_partition;
        });
        refused(S::INVALID_PARAMETER, |input| input.reserved_28 = 1);
        refused(S::INVALID_PARAMETER, |input| {
            input.connection_info.port_type = HvPortType::EVENT;
        });
        refused(S::INVALID_PROXIMITY_DOMAIN_INFO, |input| {
            input.proximity_domain_info.domain_id = 1;
        });
        for (input, status) in calls {
            let refused = make(&mut bench, sender, C::CONNECT_PORT, &input);
            assert_eq!(refused, Err(status), "{input:?}");
        }
        let made = make(&mut bench, sender, C::CONNECT_PORT, &good);
        assert!(made.is_ok());
        let taken = bench.simple(C::CONNECT_PORT, &good);
        assert_eq!(taken, S::INVALID_PORT_ID, "it has one");
        let mut second = port;
        second.port_id.0 += 1;
        assert_eq!(
            bench.simple(C::CREATE_PORT, &second),
            S::INSUFFICIENT_MEMORY
        );
        bench.deposit(owner, 1);
        assert_eq!(bench.simple(C::CREATE_PORT, &second), S::SUCCESS);
        let mut again = good;
        again.port_id.0 += 1;
        let taken = bench.simple(C::CONNECT_PORT, &again);
        assert_eq!(taken, S::INVALID_CONNECTION_ID, "it leads elsewhere");
        bench.tear_down();
    }
}

#[test]
fn children_make_no_ports() {
    for (mut bench, receiver, sender) in linked(MESSAGES) {
        let denied = HvStatus::ACCESS_DENIED;
        let port = create(HvPartitionId::SELF, HvPartitionId::SELF, MESSAGES);
        let made = from_child(&mut bench, sender, C::CREATE_PORT, port.as_bytes());
        assert_eq!(status(made), denied);
        let end = disconnect(sender);
        let ended = from_child(&mut bench, sender, C::DISCONNECT_PORT, end.as_bytes());
        assert_eq!(status(ended), denied);
        let _ = receiver;
        bench.tear_down();
    }
}

#[test]
fn a_port_that_is_refused_leaves_nothing_behind() {
    for (mut bench, owner) in scenes() {
        let sender = bench.child_with_vp();
        let wrong = HvPortInfo {
            padding: 1,
            ..MESSAGES
        };
        let monitor = HvPortInfo::monitor(0x1000);
        assert_eq!(bench.pool(owner).available, 0);
        // A page for what the port keeps, and none for the port itself; then one for each.
        for (pages, refused) in [(1, HvStatus::INSUFFICIENT_MEMORY), (2, HvStatus::SUCCESS)] {
            bench.deposit(owner, 1);
            let before = bench.pool(owner);
            assert_eq!(before.available, pages);
            for info in [wrong, monitor] {
                let input = create(owner, sender, info);
                let made = bench.simple(C::CREATE_PORT, &input);
                assert_eq!(made, HvStatus::INVALID_PARAMETER, "{info:?}");
                assert_eq!(bench.pool(owner), before, "{info:?}");
            }
            let input = create(owner, sender, MESSAGES);
            assert_eq!(bench.simple(C::CREATE_PORT, &input), refused);
            if refused != HvStatus::SUCCESS {
                assert_eq!(bench.pool(owner), before);
            }
        }
        bench.tear_down();
    }
}

#[test]
fn there_is_an_end_to_ports_and_their_pages_come_back() {
    for (mut bench, owner) in scenes() {
        let sender = bench.child_with_vp();
        let before = bench.pool(owner).available;
        let mut input = create(owner, sender, HvPortInfo::event(SINT, VP, 0, 1));
        for id in 0..Ports::CAPACITY as u32 {
            input.port_id = HvPortId(id);
            let made = make(&mut bench, owner, C::CREATE_PORT, &input);
            assert!(made.is_ok(), "{id}");
        }
        input.port_id = HvPortId(u32::MAX >> 8);
        let many = bench.simple(C::CREATE_PORT, &input);
        assert_eq!(many, HvStatus::NO_RESOURCES);
        for id in 0..Ports::CAPACITY as u32 {
            let mut end = delete(owner);
            end.port_id = HvPortId(id);
            assert_eq!(bench.simple(C::DELETE_PORT, &end), HvStatus::SUCCESS);
        }
        let total = bench.pool(owner);
        assert!(total.available >= before, "{total:?}");
        bench.tear_down();
    }
}
