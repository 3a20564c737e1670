//! Events through ports.

use guests::ok;
use guests::root::Root;
use guests::root::report::{same, status};
use tlfs::{HvPortInfo, HvStatus, HvVpIndex};

use crate::servant::{EVENTS, Servant};
use guests::root::way::{Way, signal};

/// A port's flags are these, by the numbers of the page.
const BASE: u16 = 60;
const COUNT: u16 = 10;

pub fn tests(root: &mut Root, one: &Servant, two: &Servant) {
    flags(root, one);
    between_children(root, one, two);
    masked(root, one);
}

fn info() -> HvPortInfo {
    HvPortInfo::event(EVENTS, HvVpIndex(0), BASE, COUNT)
}

/// Waits for exactly these flags: words 0 and 1.
#[track_caller]
fn await_flags(root: &Root, servant: &Servant, wanted: u128) {
    let seen = || u128::from(servant.flags(0, 0)) | u128::from(servant.flags(0, 1)) << 64;
    let _ = servant.until(root, || seen() == wanted);
    root.messages.nap(1_000);
    same(seen(), wanted, "event flags");
    servant.forget();
}

fn flags(root: &mut Root, one: &Servant) {
    let way = Way::new(root.id, one.child.id, 0x21);
    way.open(root, info());
    for flag in [0, 3, 4, COUNT - 1] {
        status(signal(root, &way, flag), HvStatus::SUCCESS, "SignalEvent");
        await_flags(root, one, 1 << (BASE + flag));
    }
    status(
        signal(root, &way, COUNT),
        HvStatus::INVALID_PARAMETER,
        "a flag that is not the port's",
    );
    await_flags(root, one, 0);
    way.close(root);
    ok!("events set the flags of their port, and no others");
}

fn between_children(root: &mut Root, one: &Servant, two: &Servant) {
    let way = Way::new(two.child.id, one.child.id, 0x22);
    way.open(root, info());
    let sent = two.signal(root, &way, 1);
    status(sent, HvStatus::SUCCESS, "a child's SignalEvent");
    await_flags(root, one, 1 << (BASE + 1));
    way.close(root);
    ok!("events of a child reach another one");
}

/// Nobody listens, so nothing is set, and the sender hears of it.
fn masked(root: &mut Root, one: &Servant) {
    let way = Way::new(root.id, one.child.id, 0x23);
    way.open(root, info());
    one.listen(root, 0, false);
    let refused = signal(root, &way, 2);
    status(
        refused,
        HvStatus::INVALID_SYNIC_STATE,
        "SignalEvent to a masked SINT",
    );
    one.listen(root, 0, true);
    let sent = signal(root, &way, 3);
    status(sent, HvStatus::SUCCESS, "SignalEvent");
    await_flags(root, one, 1 << (BASE + 3));
    way.close(root);
    ok!("events of a masked sint are refused");
}
