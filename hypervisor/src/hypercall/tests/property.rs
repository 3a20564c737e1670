//! Whatever is called, the hypervisor stays in order, and everything can be ended.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::run::testing::Stage;

thread_local! {
    /// The machines after plays that went well: like new ones.
    static STAGE: Cell<Option<Stage>> = const { Cell::new(None) };
}

fn on_stage(play: impl FnOnce(&mut Stage)) {
    let mut stage = STAGE.take().unwrap_or_default();
    play(&mut stage);
    STAGE.set(Some(stage));
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        // Each machine that fails is lost, with its memory.
        max_shrink_iters: 100,
        // The same sequences every time; the fuzz target has others.
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600)
}

proptest! {
    #![proptest_config(config(1_600))]
    #[test]
    fn any_sequence_of_calls_leaves_a_machine_that_gives_all_memory_back(bytes in bytes()) {
        on_stage(|stage| stage.play(&bytes));
    }
}

proptest! {
    #![proptest_config(config(200))]
    #[test]
    fn whose_machine_it_is_does_not_show_in_how_calls_end(bytes in bytes()) {
        on_stage(|stage| stage.play_on_each(&bytes));
    }
}
