//! All VPs of the root at once make, run, balloon and end children that check what they read.
//!
//! A frame holds the pattern of the child that it is mapped to. Before a frame moves, its new owner's pattern is written, as
//! soon as the call that unmapped it has come back: a VP that then reads (or writes) through the translation that was
//! removed finds, or leaves, a pattern that is not its child's.
#![no_std]
#![no_main]

mod checker;
mod frames;
mod guest;
mod progress;

use core::sync::atomic::{AtomicU64, Ordering};

use boot_archive::Archive;
use guest::{COUNTS, Guest};
use guests::metal::{Boot, time};
use guests::rng::Rng;
use guests::root;
use guests::root::stats::Holdings;
use guests::root::{Root, processors, report};
use guests::{check, ok, say};
use spin::Mutex;
use tlfs::{HvMessageType, HvVpIndex};

root!(main);

/// Children at a time.
const CHILDREN: usize = 8;

static GUESTS: [Mutex<Option<Guest>>; CHILDREN] = [const { Mutex::new(None) }; CHILDREN];
/// When it is over, in reference time.
static END: AtomicU64 = AtomicU64::new(0);
/// For how long it goes on after that if not enough has happened: an emulator on a busy host does little in a second.
const GRACE: u64 = 60 * time::SECOND;
static SEED: AtomicU64 = AtomicU64::new(0);

fn main(boot: &Boot) {
    let parameter = |name, default| parameter(boot, name).unwrap_or(default);
    let (count, seconds) = (parameter("processors", 4), parameter("seconds", 20));
    let seed = parameter("seed", 0x05EE_D0FA_110F_1E55 ^ time::reference());
    let mut root = Root::start(boot);
    say!("{count} processors, {seconds} s, seed {seed:#x}");
    SEED.store(seed, Ordering::Relaxed);
    END.store(
        time::reference() + seconds * time::SECOND,
        Ordering::Relaxed,
    );
    let before = Holdings::look(&mut root);
    frames::fill(&mut root);
    processors::start(&mut root, count, work);
    work(0, &mut root);
    let all = time::wait(60_000_000, || processors::done() == count - 1);
    check!(
        all,
        "not all VPs of the root come to their end: {}",
        progress::Report(count)
    );
    for place in &GUESTS {
        if let Some(guest) = place.lock().take() {
            guest.end(&mut root);
        }
    }
    frames::empty(&mut root);
    say!("{COUNTS}");
    let (micros, what) = progress::longest();
    say!("longest: {micros} us for a VP that {what}");
    COUNTS.check();
    ok!("no VP read through a translation that was removed");
    let after = Holdings::look(&mut root);
    report::same(after, before, "partitions, VPs, pages and frames");
    ok!("everything is as before: {after:?}");
    report::done()
}

/// The value of `name=NUMBER`, as the test prints it or decimal, in the archive's member `parameters`.
fn parameter(boot: &Boot, name: &str) -> Option<u64> {
    let archive = Archive::open(boot.module(0)?).ok()?;
    let text = core::str::from_utf8(archive.member("parameters")?.content()).ok()?;
    let mut words = text.split_whitespace();
    let value = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

fn is_over() -> bool {
    let (now, end) = (time::reference(), END.load(Ordering::Relaxed));
    now >= end && (COUNTS.suffice() || now >= end + GRACE)
}

/// What each VP of the root does until the end.
fn work(number: u64, root: &mut Root) {
    let mut rng = Rng::new(SEED.load(Ordering::Relaxed).wrapping_add(number));
    while !is_over() {
        answer(number, root);
        let index = rng.below(CHILDREN as u64) as usize;
        if let Some(mut place) = GUESTS[index].try_lock() {
            act(root, &mut rng, &mut place, |what| {
                progress::note(number, what, Some(index));
            });
        }
        if rng.one_in(2) {
            // Children of this processor run.
            progress::note(number, "naps", None);
            root.messages.nap(500 + rng.below(4000));
        }
    }
    answer(number, root);
    progress::note(number, "has come to its end", None);
}

fn act(root: &mut Root, rng: &mut Rng, place: &mut Option<Guest>, note: impl Fn(&'static str)) {
    let Some(guest) = place else {
        note("starts");
        *place = Some(Guest::start(root));
        return;
    };
    match rng.below(200) {
        0 => {
            note("ends");
            if let Some(guest) = place.take() {
                guest.end(root);
            }
        }
        1..=120 => {
            note("takes pages from");
            guest.count();
            guest.balloon(root, rng);
        }
        121..=150 => {
            note("gives a page to");
            guest.deflate(root, rng);
        }
        151..=165 => {
            note("looks at");
            guest.look(root, rng);
        }
        166..=180 => {
            note("stops or resumes a VP of");
            guest.pause(root, rng);
        }
        _ => {
            note("interrupts");
            guest.interrupt(root, rng);
        }
    }
}

/// Deals with all intercepts that this VP of the root is told of.
fn answer(number: u64, root: &mut Root) {
    while let Some(notice) = root.messages.poll() {
        let kind = notice.header.message_type;
        report::same(kind, HvMessageType::OPAQUE_INTERCEPT, "message of SINT0");
        let Some(HvVpIndex(vp)) = notice.payload_as() else {
            continue;
        };
        for (index, place) in GUESTS.iter().enumerate() {
            progress::note(number, "waits for its turn with", Some(index));
            let mut place = place.lock();
            progress::note(number, "answers an intercept of", Some(index));
            if let Some(guest) = &mut *place
                && guest.id().0 == notice.header.sender
            {
                guest.answer(root, vp as usize);
                break;
            }
        }
    }
}
