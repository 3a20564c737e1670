//! What is refused, and what ends what.

use guests::ok;
use guests::root::Root;
use guests::root::report::{same, status};
use tlfs::{HvCallCode, HvPartitionId, HvPortInfo, HvPortType, HvStatus, HvVpIndex};
use zerocopy::IntoBytes;

use crate::servant::{MESSAGES, Servant};
use guests::root::way::{Way, post};

/// Ports of a partition at most.
const PORTS: u32 = 200;
/// Of what ends with its partitions.
const LEFT: u32 = 0x41;
const BACK: u32 = 0x42;

pub fn tests(root: &mut Root, one: &Servant, two: &Servant) {
    wrong(root, one, two);
    by_a_child(root, one, two);
    ended(root, one);
    most(root, one);
    // These stay, and end with their partitions: see `after_the_end`.
    let info = HvPortInfo::message(MESSAGES, HvVpIndex(0));
    Way::new(two.child.id, one.child.id, LEFT).open(root, info);
    Way::new(one.child.id, two.child.id, BACK).open(root, info);
}

/// What the connection of an ended partition leads to, and what its sender finds.
pub fn after_the_end(root: &mut Root, two: &Servant) {
    let way = Way::new(two.child.id, HvPartitionId::INVALID, LEFT);
    let sent = two.post(root, &way, 1, b"to nobody");
    status(
        sent,
        HvStatus::INVALID_PORT_ID,
        "PostMessage to a partition that has ended",
    );
    ok!("a partition's end ends its ports");
}

fn wrong(root: &mut Root, one: &Servant, two: &Servant) {
    let way = Way::new(root.id, one.child.id, 0x31);
    let good = HvPortInfo::message(MESSAGES, HvVpIndex(0));
    for (info, wanted) in [
        (
            HvPortInfo::message(0, HvVpIndex(0)),
            HvStatus::INVALID_PARAMETER,
        ),
        (
            HvPortInfo::message(16, HvVpIndex(0)),
            HvStatus::INVALID_PARAMETER,
        ),
        (
            HvPortInfo::message(MESSAGES, HvVpIndex(9)),
            HvStatus::INVALID_VP_INDEX,
        ),
        (
            HvPortInfo { padding: 1, ..good },
            HvStatus::INVALID_PARAMETER,
        ),
        (
            HvPortInfo {
                flag_count: 1,
                ..good
            },
            HvStatus::INVALID_PARAMETER,
        ),
        (
            HvPortInfo::event(MESSAGES, HvVpIndex(0), 0, 0),
            HvStatus::INVALID_PARAMETER,
        ),
        (
            HvPortInfo::event(MESSAGES, HvVpIndex(0), 2047, 2),
            HvStatus::INVALID_PARAMETER,
        ),
        (
            HvPortInfo::doorbell(MESSAGES, HvVpIndex(0)),
            HvStatus::INVALID_PARAMETER,
        ),
        (HvPortInfo::monitor(0x1000), HvStatus::INVALID_PARAMETER),
    ] {
        status(way.create(root, info), wanted, "CreatePort");
    }
    status(
        way.connect(root, HvPortType::MESSAGE),
        HvStatus::INVALID_PORT_ID,
        "ConnectPort without a port",
    );
    status(way.create(root, good), HvStatus::SUCCESS, "CreatePort");
    status(
        way.create(root, good),
        HvStatus::INVALID_PORT_ID,
        "CreatePort of what there is",
    );
    let stranger = Way {
        from: two.child.id,
        ..way
    };
    status(
        stranger.connect(root, HvPortType::MESSAGE),
        HvStatus::INVALID_PORT_ID,
        "ConnectPort of a stranger",
    );
    status(
        way.connect(root, HvPortType::EVENT),
        HvStatus::INVALID_PARAMETER,
        "ConnectPort of another type",
    );
    status(
        way.connect(root, HvPortType::MESSAGE),
        HvStatus::SUCCESS,
        "ConnectPort",
    );
    status(
        way.connect(root, HvPortType::MESSAGE),
        HvStatus::INVALID_PORT_ID,
        "ConnectPort of a port in use",
    );
    for kind in [0, 1 << 31] {
        status(
            post(root, &way, kind, b""),
            HvStatus::INVALID_PARAMETER,
            "PostMessage of such a type",
        );
    }
    let crossed = guests::root::way::signal(root, &way, 0);
    status(
        crossed,
        HvStatus::INVALID_PORT_ID,
        "SignalEvent to a message port",
    );
    way.close(root);
    status(
        way.delete(root),
        HvStatus::INVALID_PORT_ID,
        "DeletePort of none",
    );
    status(
        way.disconnect(root),
        HvStatus::INVALID_CONNECTION_ID,
        "DisconnectPort of none",
    );
    ok!("what is wrong is refused");
}

/// Ports are the parent's affair.
fn by_a_child(root: &mut Root, one: &Servant, two: &Servant) {
    let calls = [
        HvCallCode::CREATE_PORT,
        HvCallCode::CONNECT_PORT,
        HvCallCode::DELETE_PORT,
        HvCallCode::DISCONNECT_PORT,
    ];
    for code in calls {
        let mut input = [0_u8; 72];
        input[..8].copy_from_slice(one.child.id.0.as_bytes());
        let refused = two.order(root, code, &input);
        guests::check!(!refused.is_success(), "{code:?} of a child: {refused}");
    }
    let unknown = two.signal(root, &Way::new(two.child.id, one.child.id, 0x99), 0);
    status(
        unknown,
        HvStatus::INVALID_CONNECTION_ID,
        "SignalEvent by no connection",
    );
    ok!("a child makes no ports");
}

fn ended(root: &mut Root, one: &Servant) {
    let way = Way::new(root.id, one.child.id, 0x32);
    let info = HvPortInfo::message(MESSAGES, HvVpIndex(0));
    way.open(root, info);
    status(
        way.delete(root),
        HvStatus::SUCCESS,
        "DeletePort of a port in use",
    );
    let lost = post(root, &way, 1, b"");
    status(
        lost,
        HvStatus::INVALID_PORT_ID,
        "PostMessage to a port that has ended",
    );
    // A port of the same number is another one: its connection has to be made anew.
    status(
        way.create(root, info),
        HvStatus::SUCCESS,
        "CreatePort again",
    );
    status(
        post(root, &way, 1, b""),
        HvStatus::INVALID_PORT_ID,
        "PostMessage by the old connection",
    );
    status(way.disconnect(root), HvStatus::SUCCESS, "DisconnectPort");
    status(
        way.connect(root, HvPortType::MESSAGE),
        HvStatus::SUCCESS,
        "ConnectPort",
    );
    status(
        post(root, &way, 1, b"anew"),
        HvStatus::SUCCESS,
        "PostMessage",
    );
    one.await_messages(root, 0, 1);
    one.forget();
    way.close(root);
    ok!("a connection does not outlive its port");
}

fn most(root: &mut Root, one: &Servant) {
    let info = HvPortInfo::event(MESSAGES, HvVpIndex(0), 0, 1);
    let way = |id| Way {
        from: one.child.id,
        to: one.child.id,
        id,
    };
    let mut made = 0;
    let end = loop {
        let status = way(0x1000 + made).create(root, info);
        if !status.is_success() || made > PORTS {
            break status;
        }
        made += 1;
    };
    status(end, HvStatus::NO_RESOURCES, "one port too many");
    same(made, PORTS, "ports of a partition");
    for id in 0..made {
        status(
            way(0x1000 + id).delete(root),
            HvStatus::SUCCESS,
            "DeletePort",
        );
    }
    ok!("a partition has {made} ports at most");
}
