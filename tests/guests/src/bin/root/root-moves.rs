//! VPs that want to run find the processors that have nothing to do.
#![no_std]
#![no_main]

use guests::metal::{Boot, time};
use guests::root::busy::{Busy, Worker};
use guests::root::stats::Holdings;
use guests::root::{Root, processors, report};
use guests::{check, ok, root};

root!(main);

const PROCESSORS: usize = 4;
const CHILDREN: usize = 2 * PROCESSORS;
const MILLISECOND: u64 = 1_000;
/// For how long shares are measured, in microseconds.
const LONG: u64 = 1_000_000;
/// How often at most.
const TRIES: usize = 5;

/// A child with one VP that always wants to run.
struct Spinner {
    busy: Busy,
    worker: Worker,
}

impl Spinner {
    fn new(root: &mut Root) -> Self {
        let busy = Busy::spinning(root);
        let worker = busy.worker(root, 0);
        Self { busy, worker }
    }
}

fn main(boot: &Boot) {
    let mut root = Root::start(boot);
    let before = Holdings::look(&mut root);
    processors::start(&mut root, PROCESSORS as u64, |_, _| {});
    let all: [_; CHILDREN] = core::array::from_fn(|_| Spinner::new(&mut root));
    all.iter().for_each(|one| one.worker.vp.resume(&root));
    let is_half = |share: &u64| (380..620).contains(share);
    let shares = shares_like(&root, &all, is_half);
    check!(
        shares.iter().all(is_half),
        "of two for each processor they have {shares:?}"
    );
    ok!("two for each processor have half of it: {shares:?}");

    // They were spread in turn, so these leave two processors without any.
    let mut all = all.map(Some);
    for (index, place) in all.iter_mut().enumerate() {
        if index % PROCESSORS >= PROCESSORS / 2
            && let Some(one) = place.take()
        {
            one.busy.child.end(&mut root);
        }
    }
    let mut left = all.into_iter().flatten();
    let left: [_; PROCESSORS] = core::array::from_fn(|_| match left.next() {
        Some(one) => one,
        None => guests::fail!("fewer are left than there are processors"),
    });
    root.messages.sleep(200 * MILLISECOND);
    let is_all = |share: &u64| *share >= 800;
    let shares = shares_like(&root, &left, is_all);
    check!(
        shares.iter().all(is_all),
        "of one for each processor they have {shares:?}"
    );
    ok!("one for each processor has all of it: {shares:?}");
    for one in left {
        one.busy.child.end(&mut root);
    }
    let after = Holdings::look(&mut root);
    report::same(after.partitions, before.partitions, "partitions");
    report::done()
}

/// What part of a processor each had, in thousandths. If some are not as they should be, it is measured again: the host of an
/// emulated machine may stand still, at the cost of whoever runs.
fn shares_like<const N: usize>(
    root: &Root,
    all: &[Spinner; N],
    is_right: impl Fn(&u64) -> bool,
) -> [u64; N] {
    let mut found = shares(root, all);
    for _ in 1..TRIES {
        if found.iter().all(&is_right) {
            break;
        }
        found = shares(root, all);
    }
    found
}

/// What part of a processor each had, in thousandths.
fn shares<const N: usize>(root: &Root, all: &[Spinner; N]) -> [u64; N] {
    let look = || {
        (
            all.each_ref().map(|one| one.worker.ran()),
            time::reference(),
        )
    };
    root.messages.sleep(50 * MILLISECOND);
    let (first, since) = look();
    root.messages.sleep(LONG);
    let (last, until) = look();
    core::array::from_fn(|index| 1000 * (last[index] - first[index]) / (until - since))
}
