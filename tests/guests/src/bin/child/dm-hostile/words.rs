//! Messages that cannot be, and messages at the wrong time.

use guests::dm::{Message, Run, VERSION_2, kind};
use guests::metal::balloon::Driver;
use guests::metal::vmbus;
use guests::println;

use crate::pause;

/// What is said of one kind of mistake, by a driver of a VM with RAM up to a page.
type Act = fn(&mut Driver, u64);

/// Seconds after which the host tells a line more of what a guest does.
const LINES: u64 = 6;
/// What a driver sends, with the bytes that it has at least.
const KINDS: [(u16, usize); 6] = [
    (kind::VERSION_REQUEST, 16),
    (kind::CAPABILITIES_REPORT, 32),
    (kind::STATUS_REPORT, 48),
    (kind::BALLOON_RESPONSE, 16),
    (kind::UNBALLOON_RESPONSE, 8),
    (kind::HOT_ADD_RESPONSE, 16),
];
/// Reports and requests of a flood.
const FLOOD: u64 = 20_000;
/// Units of new memory: 4 MiB.
const UNIT: u32 = 2;

/// Says all of it. After each the driver is another one, which behaves: the host has to talk to it. `rest` is how many seconds go
/// by in between: after 40 the host tells a few lines more of what a guest does.
pub fn say_all(driver: &mut Driver, top: u64, rest: u64) {
    let acts: [(&str, Act); 10] = [
        ("truncated", truncated),
        ("oversized", oversized),
        ("unknown", unknown),
        ("disorder", disorder),
        ("versions", versions),
        ("absurd", absurd),
        ("unasked", unasked),
        ("flood", flood),
        ("unread", unread),
        ("rings", rings),
    ];
    for (name, act) in acts {
        act(driver, top);
        driver.renew();
        driver.shake_hands(UNIT);
        driver.say(|id| Message::report(id, 0, top / 2));
        println!("ok {name}");
        pause(rest);
        driver.renew();
    }
    driver.shake_hands(UNIT);
}

/// Each message with a size that it cannot have, in as many bytes and in all of its own.
fn truncated(driver: &mut Driver, _: u64) {
    for round in 0..2 {
        for (kind, least) in KINDS {
            for size in (0..least).step_by(8) {
                let message = Message::new(kind, 7).resized(least);
                let message = message.with_size(size as u16);
                driver.send_bytes(message.resized(size).bytes());
                let message = Message::new(kind, 7).resized(least);
                driver.send(&message.with_size(size as u16));
                let message = Message::new(kind, 7).resized(size);
                driver.send(&message.with_size(least as u16));
            }
        }
        if round == 0 {
            driver.renew();
            driver.shake_hands(UNIT);
        }
    }
}

/// More than there is, in the header and in the counts, and more than a message has.
fn oversized(driver: &mut Driver, _: u64) {
    static ZEROS: [u8; 15 * 1024] = [0; 15 * 1024];
    driver.shake_hands(UNIT);
    for (kind, least) in KINDS {
        let message = Message::new(kind, 7).resized(least);
        for size in [least as u16 + 1, 4096, u16::MAX] {
            driver.send(&message.clone().with_size(size));
        }
    }
    for count in [1, 511, 1 << 30, u32::MAX >> 1] {
        let message = Message::new(kind::BALLOON_RESPONSE, 7);
        driver.send(&message.word(0).word(count << 1));
    }
    for length in [4096, 4104, 8192, 15 * 1024] {
        driver.send_bytes(&ZEROS[..length]);
    }
    // An empty packet.
    driver.send_bytes(&[]);
}

/// Types that are none, or the host's.
fn unknown(driver: &mut Driver, _: u64) {
    for round in 0..2 {
        for kind in [0, 2, 4, 6, 8, 10, 12, 13, 14, 15, 99, u16::MAX] {
            driver.send(&Message::new(kind, 7).resized(48).with_size(48));
        }
        if round == 0 {
            driver.shake_hands(UNIT);
        }
    }
}

/// What a driver says only later.
fn disorder(driver: &mut Driver, top: u64) {
    let later = |driver: &Driver| {
        driver.send(&Message::report(7, 1, 1));
        driver.send(&Message::balloon(7, false, &[Run::new(top - 8, 8)]));
        driver.send(&Message::unballoon(7));
        driver.send(&Message::hot_add(7, 1024, 1));
    };
    later(driver);
    driver.send(&Message::capabilities(1, UNIT));
    driver.send(&Message::version(1, VERSION_2));
    later(driver);
    driver.send(&Message::version(1, VERSION_2));
    driver.send(&Message::capabilities(1, UNIT));
    driver.send(&Message::capabilities(1, UNIT));
    driver.send(&Message::version(1, VERSION_2));
}

/// Versions that nobody speaks, and answers that nobody reads.
fn versions(driver: &mut Driver, _: u64) {
    for version in [0, 1, 0x0001_0001, 0x0003_0000, u32::MAX] {
        driver.send(&Message::version(2, version));
    }
}

/// Numbers that cannot be.
fn absurd(driver: &mut Driver, top: u64) {
    driver.shake_hands(UNIT);
    for committed in [0, 1 << 63, u64::MAX, 65 * top] {
        driver.say(|id| Message::report(id, u64::MAX, committed));
        pause(1);
    }
}

/// Answers to what was not asked, each twice, with pages that are the guest's, and others.
fn unasked(driver: &mut Driver, top: u64) {
    driver.shake_hands(UNIT);
    let runs = [
        Run::new(top - 8, 8),
        Run::new(top, 1),
        Run::new(0, 0),
        Run::new((1 << 40) - 1, 0xFF_FFFF),
    ];
    for _ in 0..2 {
        driver.send(&Message::balloon(7, true, &runs));
        driver.send(&Message::balloon(7, false, &runs));
        driver.send(&Message::unballoon(7));
        driver.send(&Message::hot_add(7, u32::MAX, 1));
        driver.send(&Message::hot_add(7, 0, 0));
    }
}

/// As many reports as there is room for, and more.
fn flood(driver: &mut Driver, top: u64) {
    driver.shake_hands(UNIT);
    for committed in 0..FLOOD {
        driver.send(&Message::report(7, 0, committed % top));
    }
}

/// Questions whose answers are never read: the ring to the guest fills up.
fn unread(driver: &mut Driver, _: u64) {
    for _ in 0..FLOOD / 10 {
        driver.send(&Message::version(2, 0));
    }
    // A line more about that.
    pause(LINES);
    driver.send(&Message::version(2, 0));
}

/// Rings that are none any more: the host gives the channel up, and opens it again.
fn rings(driver: &mut Driver, _: u64) {
    for wrong in 0..4 {
        let channel = driver.channel();
        let write = channel.outgoing.write_index();
        match wrong {
            0 => channel.outgoing.set_write_index(u32::MAX),
            1 => channel.outgoing.set_write_index(write ^ 1),
            2 => {
                channel.incoming.set_read_index(0x7FFF_FFF8);
                // The answer makes the host look.
                driver.send(&Message::version(2, 0));
            }
            _ => {
                // A packet that is longer than what there is.
                channel.outgoing.put(write, &[6, 0, 2, 0, 0xFF, 0xFF, 0, 0]);
                channel.outgoing.set_write_index((write + 32) % (4 * 4096));
            }
        }
        // It may have looked already.
        let _ = driver.channel().try_signal();
        vmbus::sleep();
        vmbus::sleep();
        driver.renew();
    }
}
