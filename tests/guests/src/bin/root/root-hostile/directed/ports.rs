//! Ports and connections, and what is sent through them or past them.

use guests::ok;
use guests::root::child::{Child, VMM_FLAGS};
use guests::root::way::{Way, direct_event, direct_message, post, signal};
use guests::root::{Root, Vp, report};
use tlfs::{
    HvCallCode, HvInputCreatePort, HvMessageType, HvPartitionId, HvPortInfo, HvPortType,
    HvRegisterName, HvStatus, HvVpIndex,
};
use zerocopy::FromZeros;

use super::partition::NOBODY;

const SINT: u32 = 2;
/// Another one, for what comes past ports.
const DIRECT: u32 = 3;
const NO_SINT: u32 = 16;
const VP: HvVpIndex = HvVpIndex(0);
/// Of both: not masked.
const VECTOR: u64 = 0x41;
/// A VP that is not there.
const ABSENT: HvVpIndex = HvVpIndex(9);
/// Messages that wait in a port.
const WAITING: u32 = 16;
/// Flags of the event port.
const FLAGS: u16 = 8;

#[track_caller]
fn is(status: HvStatus, wanted: HvStatus, what: &str) {
    report::status(status, wanted, what);
}

/// CreatePort to DeletePort, PostMessage and SignalEvent, and their direct forms.
pub fn all(root: &mut Root) {
    let child = Child::with_ram(root, VMM_FLAGS);
    let vp = Vp::create(root, &child, VP.0);
    direct(root, child.id, HvStatus::INVALID_SYNIC_STATE);
    vp.set64(
        root,
        &[
            (HvRegisterName::SCONTROL, 1),
            (HvRegisterName::SINT2, VECTOR),
            (HvRegisterName::SINT3, VECTOR),
            (HvRegisterName::SIMP, 0x3001),
            (HvRegisterName::SIEFP, 0x4001),
        ],
    );
    made(root, child.id);
    sent(root, child.id);
    direct(root, child.id, HvStatus::SUCCESS);
    is(
        post_direct(root, child.id, VP, DIRECT),
        HvStatus::OBJECT_IN_USE,
        "PostMessageDirect into a full slot",
    );
    child.end(root);
    ok!("ports and what goes through them");
}

fn made(root: &mut Root, child: HvPartitionId) {
    const CREATE: HvCallCode = HvCallCode::CREATE_PORT;
    let message = |sint, vp| HvPortInfo::message(sint, vp);
    let input = |port_partition, port_info| HvInputCreatePort {
        port_partition,
        connection_partition: HvPartitionId::SELF,
        port_info,
        ..HvInputCreatePort::new_zeroed()
    };
    root.withdraw_all(child);
    for (partition, info, wanted) in [
        (child, message(SINT, VP), HvStatus::INSUFFICIENT_MEMORY),
        (child, message(0, VP), HvStatus::INVALID_PARAMETER),
        (child, message(SINT, ABSENT), HvStatus::INVALID_VP_INDEX),
        (NOBODY, message(SINT, VP), HvStatus::INVALID_PARTITION_ID),
    ] {
        let status = root.calls.order(CREATE, &input(partition, info));
        is(status, wanted, "CreatePort");
    }
    let (kind, good) = (HvPortType::MESSAGE, message(SINT, VP));
    let way = Way::new(root.id, child, 1).open(root, good);
    is(
        way.create(root, good),
        HvStatus::INVALID_PORT_ID,
        "a port in use",
    );
    is(
        way.connect(root, kind),
        HvStatus::INVALID_PORT_ID,
        "a port in use",
    );
    let nobody = Way::new(NOBODY, NOBODY, 1);
    let nowhere = HvStatus::INVALID_PARTITION_ID;
    is(nobody.connect(root, kind), nowhere, "ConnectPort");
    is(nobody.disconnect(root), nowhere, "DisconnectPort");
    is(nobody.delete(root), nowhere, "DeletePort");

    // Another port by the number of a connection that there is, and by another type.
    is(way.disconnect(root), HvStatus::SUCCESS, "DisconnectPort");
    is(
        way.connect(root, HvPortType::EVENT),
        HvStatus::INVALID_PARAMETER,
        "a message port for events",
    );
    is(way.connect(root, kind), HvStatus::SUCCESS, "ConnectPort");
    let own = Way::new(root.id, root.id, 1);
    is(own.create(root, good), HvStatus::SUCCESS, "CreatePort");
    is(
        own.connect(root, kind),
        HvStatus::INVALID_CONNECTION_ID,
        "a connection in use",
    );
    is(own.delete(root), HvStatus::SUCCESS, "DeletePort");
    way.close(root);
    let (connection, port) = (HvStatus::INVALID_CONNECTION_ID, HvStatus::INVALID_PORT_ID);
    is(way.disconnect(root), connection, "DisconnectPort again");
    is(way.delete(root), port, "DeletePort again");
}

fn sent(root: &mut Root, child: HvPartitionId) {
    let message = Way::new(root.id, child, 1).open(root, HvPortInfo::message(SINT, VP));
    // One in the slot, the others in the port.
    for _ in 0..=WAITING {
        is(
            post(root, &message, 1, b"one"),
            HvStatus::SUCCESS,
            "PostMessage",
        );
    }
    is(
        post(root, &message, 1, b"too many"),
        HvStatus::INSUFFICIENT_BUFFERS,
        "PostMessage",
    );
    is(
        post(root, &message, 1 << 31, b"one of the hypervisor's"),
        HvStatus::INVALID_PARAMETER,
        "PostMessage",
    );
    message.close(root);
    let nowhere = HvStatus::INVALID_CONNECTION_ID;
    is(post(root, &message, 1, b"gone"), nowhere, "PostMessage");

    let info = HvPortInfo::event(SINT, VP, 0, FLAGS);
    let event = Way::new(root.id, child, 1).open(root, info);
    is(
        signal(root, &event, FLAGS - 1),
        HvStatus::SUCCESS,
        "SignalEvent",
    );
    is(
        signal(root, &event, FLAGS),
        HvStatus::INVALID_PARAMETER,
        "SignalEvent",
    );
    event.close(root);
    is(signal(root, &event, 0), nowhere, "SignalEvent");
}

fn post_direct(root: &Root, child: HvPartitionId, vp: HvVpIndex, sint: u32) -> HvStatus {
    let input = direct_message(child, vp, sint, HvMessageType(1));
    root.calls.order(HvCallCode::POST_MESSAGE_DIRECT, &input)
}

fn signal_direct(root: &Root, child: HvPartitionId, vp: HvVpIndex, sint: u32) -> HvStatus {
    let input = direct_event(child, vp, sint, 0);
    root.calls.order(HvCallCode::SIGNAL_EVENT_DIRECT, &input)
}

/// The direct forms, which end like this if nothing is wrong with what they name.
fn direct(root: &Root, child: HvPartitionId, wanted: HvStatus) {
    for (partition, vp, sint, wanted) in [
        (child, VP, DIRECT, wanted),
        (child, VP, NO_SINT, HvStatus::INVALID_PARAMETER),
        (child, ABSENT, DIRECT, HvStatus::INVALID_VP_INDEX),
        (NOBODY, VP, DIRECT, HvStatus::INVALID_PARTITION_ID),
    ] {
        let posted = post_direct(root, partition, vp, sint);
        is(posted, wanted, "PostMessageDirect");
        let signalled = signal_direct(root, partition, vp, sint);
        is(signalled, wanted, "SignalEventDirect");
    }
}
