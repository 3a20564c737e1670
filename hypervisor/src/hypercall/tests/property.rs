//! Whatever is called, the hypervisor stays in order, and everything can be ended.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::run::testing::Stage;

thread_local! {
    /// The machines after plays that went well: like new ones.
    static STAGE: Cell<Option<Stage>> = const { Cell::new(None) };
}

fn played(bytes: &[u8]) {
    let mut stage = STAGE.take().unwrap_or_default();
    stage.play(bytes);
    STAGE.set(Some(stage));
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
