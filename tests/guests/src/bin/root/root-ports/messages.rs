//! Messages through ports.

use guests::metal::apic;
use guests::metal::cpu::wrmsr;
use guests::metal::trap::set_handler;
use guests::ok;
use guests::root::Root;
use guests::root::report::{same, status};
use tlfs::{
    HV_X64_MSR_SINT0, HvMessage, HvMessageType, HvPortInfo, HvStatus, HvSynicSint, HvVpIndex,
};

use crate::servant::{MESSAGES, Servant};
use guests::root::way::{Way, post};

const KIND: u32 = 7;
/// Messages that wait in a port (root sheet C.4).
const BUFFERS: u64 = 16;
/// The root's SINT for messages of its children.
const ROOT_SINT: u32 = 4;
const ROOT_VECTOR: u8 = 0x58;

pub fn tests(root: &mut Root, one: &Servant, two: &Servant) {
    to_a_child(root, one);
    between_children(root, one, two);
    to_the_root(root, one);
    full(root, one);
    masked(root, one);
    for_any(root, one);
    of_two_ports(root, one, two);
}

fn port(vp: HvVpIndex) -> HvPortInfo {
    HvPortInfo::message(MESSAGES, vp)
}

#[track_caller]
fn is(message: &HvMessage, way: &Way, payload: &[u8]) {
    same(
        message.header.message_type,
        HvMessageType(KIND),
        "type of a message",
    );
    same(
        message.header.sender,
        u64::from(way.id),
        "port of a message",
    );
    same(message.payload_bytes(), payload, "payload of a message");
}

#[track_caller]
fn send(root: &Root, way: &Way, payload: &[u8]) {
    status(
        post(root, way, KIND, payload),
        HvStatus::SUCCESS,
        "PostMessage",
    );
}

fn to_a_child(root: &mut Root, one: &Servant) {
    let way = Way::new(root.id, one.child.id, 0x11);
    way.open(root, port(HvVpIndex(0)));
    let longest: [u8; 240] = core::array::from_fn(|index| index as u8);
    send(root, &way, &[]);
    send(root, &way, &longest);
    one.await_messages(root, 0, 2);
    is(&one.message(0, 0), &way, &[]);
    is(&one.message(0, 1), &way, &longest);
    one.forget();
    way.close(root);
    ok!("messages of the root reach a child");
}

fn between_children(root: &mut Root, one: &Servant, two: &Servant) {
    let way = Way::new(two.child.id, one.child.id, 0x12);
    way.open(root, port(HvVpIndex(0)));
    let sent = two.post(root, &way, KIND, b"from the other one");
    status(sent, HvStatus::SUCCESS, "a child's PostMessage");
    one.await_messages(root, 0, 1);
    is(&one.message(0, 0), &way, b"from the other one");
    one.forget();
    // The receiver cannot send through it, and the sender does not receive.
    let back = one.post(root, &way, KIND, b"from the other one");
    status(
        back,
        HvStatus::INVALID_CONNECTION_ID,
        "PostMessage the wrong way",
    );
    same(two.count(0), 0, "messages of the sender");
    way.close(root);
    ok!("messages of a child reach another one");
}

/// Writes a register of the root's own SynIC.
fn set(msr: u32, value: u64) {
    if let Err(fault) = wrmsr(msr, value) {
        guests::fail!("MSR {msr:#x}: {fault:x?}");
    }
}

fn to_the_root(root: &mut Root, one: &Servant) {
    set_handler(ROOT_VECTOR, Some(|_| apic::eoi()));
    let plain = HvSynicSint::new().with_vector(ROOT_VECTOR);
    let way = Way::new(one.child.id, root.id, 0x13);
    way.open(root, HvPortInfo::message(ROOT_SINT, HvVpIndex(0)));
    for sint in [plain, plain.with_as_intercept(true)] {
        set(HV_X64_MSR_SINT0 + ROOT_SINT, sint.into_bits());
        for number in 0..3_u8 {
            let sent = one.post(root, &way, KIND, &[number]);
            status(sent, HvStatus::SUCCESS, "a child's PostMessage");
        }
        if sint.as_intercept() {
            let notice = root
                .messages
                .wait(1_000_000)
                .unwrap_or_else(|| guests::fail!("no notice of a SINT"));
            let kind = notice.header.message_type;
            same(
                kind,
                HvMessageType::SYNIC_SINT_INTERCEPT,
                "message of SINT0",
            );
            same(
                notice.payload_as::<u32>(),
                Some(ROOT_SINT),
                "SINT of a notice",
            );
        }
        for number in 0..3_u8 {
            let Some(message) = root.messages.take(ROOT_SINT) else {
                guests::fail!("message {number} of a child does not come")
            };
            is(&message, &way, &[number]);
        }
        // The others' notices, if they came by themselves.
        while root.messages.poll().is_some() {}
    }
    way.close(root);
    set(HV_X64_MSR_SINT0 + ROOT_SINT, HvSynicSint::RESET.into_bits());
    ok!("messages of a child reach the root, also by a notice");
}

/// All that wait arrive, in their order, and one more than can wait is refused.
fn full(root: &mut Root, one: &Servant) {
    let way = Way::new(root.id, one.child.id, 0x14);
    way.open(root, port(HvVpIndex(0)));
    one.listen(root, 0, false);
    for number in 0..BUFFERS {
        send(root, &way, &number.to_le_bytes());
    }
    let refused = post(root, &way, KIND, b"one too many");
    status(
        refused,
        HvStatus::INSUFFICIENT_BUFFERS,
        "PostMessage to a full port",
    );
    one.listen(root, 0, true);
    one.await_messages(root, 0, BUFFERS);
    for number in 0..BUFFERS {
        is(&one.message(0, number), &way, &number.to_le_bytes());
    }
    send(root, &way, b"room again");
    one.await_messages(root, 0, BUFFERS + 1);
    one.forget();
    way.close(root);
    ok!("a full port refuses, and loses nothing");
}

fn masked(root: &mut Root, one: &Servant) {
    let way = Way::new(root.id, one.child.id, 0x15);
    way.open(root, port(HvVpIndex(0)));
    one.listen(root, 0, false);
    send(root, &way, b"later");
    root.messages.nap(5_000);
    same(one.count(0), 0, "messages of a masked SINT");
    one.listen(root, 0, true);
    one.await_messages(root, 0, 1);
    // What waits when its port ends is gone.
    one.listen(root, 0, false);
    send(root, &way, b"never");
    way.close(root);
    one.listen(root, 0, true);
    one.await_messages(root, 0, 1);
    one.forget();
    ok!("a masked sint's messages wait, and end with their port");
}

fn for_any(root: &mut Root, one: &Servant) {
    let way = Way::new(root.id, one.child.id, 0x16);
    way.open(root, port(HvVpIndex::ANY));
    one.listen(root, 0, false);
    one.listen(root, 1, true);
    send(root, &way, b"to the second");
    one.await_messages(root, 1, 1);
    is(&one.message(1, 0), &way, b"to the second");
    one.listen(root, 1, false);
    send(root, &way, b"to whom it may concern");
    root.messages.nap(5_000);
    same(
        (one.count(0), one.count(1)),
        (0, 1),
        "messages while nobody listens",
    );
    one.listen(root, 0, true);
    one.await_messages(root, 0, 1);
    one.forget();
    way.close(root);
    ok!("a port for any vp goes to one that listens");
}

/// Two senders share a slot: each one's messages come in their order, and neither waits for the other's end.
fn of_two_ports(root: &mut Root, one: &Servant, two: &Servant) {
    let ways = [(root.id, 0x17), (two.child.id, 0x18)];
    let ways = ways.map(|(from, id)| Way {
        from,
        to: one.child.id,
        id,
    });
    for way in &ways {
        way.open(root, port(HvVpIndex(0)));
    }
    one.listen(root, 0, false);
    for number in 0..8_u8 {
        send(root, &ways[0], &[number]);
        let sent = two.post(root, &ways[1], KIND, &[number]);
        status(sent, HvStatus::SUCCESS, "a child's PostMessage");
    }
    one.listen(root, 0, true);
    one.await_messages(root, 0, 16);
    for pair in 0..8 {
        let pair = [one.message(0, 2 * pair), one.message(0, 2 * pair + 1)];
        let [first, second] = pair.each_ref().map(|message| message.header.sender);
        guests::check!(first != second, "one port has two turns in a row");
    }
    for way in &ways {
        let of_it = (0..16).map(|number| one.message(0, number));
        let of_it = of_it.filter(|message| message.header.sender == u64::from(way.id));
        for (number, message) in (0..).zip(of_it) {
            is(&message, way, &[number]);
        }
        way.close(root);
    }
    one.forget();
    ok!("two ports of one sint take turns");
}
