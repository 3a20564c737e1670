//! Whatever is called, the hypervisor stays in order, and everything can be ended.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::run::testing::{Bench, play};

thread_local! {
    /// The machine after a play that went well: like a new one.
    static BENCH: Cell<Option<Bench>> = const { Cell::new(None) };
}

fn played(bytes: &[u8]) {
    let mut bench = BENCH.take().unwrap_or_default();
    play(&mut bench, bytes);
    BENCH.set(Some(bench));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        // Each machine that fails is lost, with its memory.
        max_shrink_iters: 100,
        // The same sequences every time; the fuzz target has others.
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]
    #[test]
    fn any_sequence_of_calls_leaves_a_machine_that_gives_all_memory_back(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
    ) {
        played(&bytes);
    }
}
