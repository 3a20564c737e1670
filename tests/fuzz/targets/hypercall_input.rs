//! What a caller puts into a hypercall: its control word, its sets of processors, and whole sequences of calls to the
//! dispatcher, from the root and from its children, on a processor of either vendor.
#![no_main]

use std::cell::Cell;

use hypervisor::run::testing::Stage;
use tlfs::{HV_HYPERCALL_MAX_REPS, HvGenericSetFormat, HvHypercallInput, HvVpSetHeader};
use zerocopy::FromBytes;

thread_local! {
    /// The machines, which are like new ones after each play. The input says on which it is.
    static STAGE: Cell<Option<Stage>> = const { Cell::new(None) };
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    check_words(data);
    let mut stage = STAGE.take().unwrap_or_default();
    // Bounded: so many calls at most, and each in so many executions.
    stage.play(data);
    STAGE.set(Some(stage));
});

fn check_words(data: &[u8]) {
    let Ok((control, rest)) = HvHypercallInput::read_from_prefix(data) else {
        return;
    };
    if let Some(left) = control.reps_left() {
        assert!((1..=usize::from(HV_HYPERCALL_MAX_REPS)).contains(&left));
        assert_eq!(left + control.rep_start(), control.rep_count());
    }
    let Ok((set, rest)) = HvVpSetHeader::read_from_prefix(rest) else {
        return;
    };
    let banks: Vec<u64> = rest
        .chunks_exact(8)
        .filter_map(|word| word.try_into().ok())
        .map(u64::from_le_bytes)
        .collect();
    let vps: Vec<u32> = set.sparse_vps(&banks).collect();
    assert!(vps.is_sorted_by(|one, next| one < next) && vps.iter().all(|vp| *vp < 4096));
    let named: u32 = banks
        .iter()
        .take(set.bank_count())
        .map(|word| word.count_ones())
        .sum();
    if set.format != HvGenericSetFormat::ALL {
        assert_eq!(vps.len(), named as usize);
    }
    for nth in 0..set.bank_count() {
        let bank = set.nth_bank(nth).expect("a bank that was counted");
        assert_ne!(set.valid_bank_mask >> bank & 1, 0);
    }
    assert_eq!(set.nth_bank(set.bank_count()), None);
}
