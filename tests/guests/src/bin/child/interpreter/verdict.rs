//! What random programs must have reached, so that they are a test: in each family some operations succeed, and some are
//! refused.

use guests::metal::test;
use guests::program::Family;

use crate::counts::Counts;
use crate::vmbus::kind;

/// Least of 1000 operations of a family that do what they are for, and that are refused: about half of what is usual. That a
/// message or a list of pages is taken says nothing; its answer does.
const FAMILIES: &[(Family, [u64; 2])] = &[
    (Family::Call, [150, 350]),
    (Family::Msr, [170, 320]),
    (Family::Port, [120, 350]),
    (Family::Synic, [500, 1]),
    (Family::Message, [500, 0]),
    (Family::Gpadl, [500, 0]),
    (Family::Channel, [400, 80]),
    (Family::Ring, [400, 100]),
    (Family::Answer, [250, 200]),
    (Family::Signal, [400, 100]),
    (Family::Take, [300, 150]),
];

/// Least of each kind of message in 10,000 operations: what says that something is so, and that it failed.
const MESSAGES: &[(u32, [u64; 2])] = &[
    (kind::VERSION, [60, 3]),
    (kind::GPADL_CREATED, [500, 150]),
    (kind::OPENED, [400, 4]),
    (kind::TORNDOWN, [300, 0]),
    (kind::MODIFIED, [25, 12]),
    (kind::TL_CONNECTED, [0, 25]),
    (kind::UNLOADED, [6, 0]),
];

/// Least of 10,000 operations: packets that the host took, that it sent, event flags.
const PACKETS: [u64; 3] = [400, 180, 350];

/// Panics if something was not reached in so many operations.
pub fn verdict(counts: &Counts, operations: u64) {
    test("each family succeeds and is refused", || {
        for (family, least) in FAMILIES {
            let [did, refused] = counts.family(*family);
            let all = did + refused;
            let enough = did * 1000 >= least[0] * all && refused * 1000 >= least[1] * all;
            assert!(all != 0 && enough, "{family:?}: {did} of {all}");
        }
    });
    let enough = |count: u64, least: u64| count * 10_000 >= least * operations;
    test("the host agrees and refuses", || {
        for (kind, least) in MESSAGES {
            let [good, bad] = counts.messages(*kind);
            let both = enough(good, least[0]) && enough(bad, least[1]);
            assert!(both, "messages of type {kind}: {good} good, {bad} bad");
        }
    });
    test("packets go both ways", || {
        let have = [counts.taken, counts.packets, counts.flags];
        let all = have
            .iter()
            .zip(PACKETS)
            .all(|(have, least)| enough(*have, least));
        assert!(all, "{have:?} of {PACKETS:?}");
    });
}
