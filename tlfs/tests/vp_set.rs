//! VP sets: what the header says and what the words say.

use proptest::prelude::*;
use tlfs::*;

fn sparse(mask: u64) -> HvVpSetHeader {
    HvVpSetHeader {
        format: HvGenericSetFormat::SPARSE_4K,
        valid_bank_mask: mask,
    }
}

#[test]
fn banks_need_not_be_contiguous() {
    let set = sparse(1 << 0 | 1 << 5);
    assert_eq!(set.bank_count(), 2);
    assert_eq!(
        (set.nth_bank(0), set.nth_bank(1), set.nth_bank(2)),
        (Some(0), Some(5), None)
    );
    assert_eq!(
        set.sparse_vps(&[0b101, 1 << 63]).collect::<Vec<_>>(),
        [0, 2, 5 * 64 + 63]
    );
}

#[test]
fn the_form_all_has_no_banks_whatever_the_mask() {
    let set = HvVpSetHeader {
        format: HvGenericSetFormat::ALL,
        valid_bank_mask: !0,
    };
    assert_eq!(set.bank_count(), 0);
    assert_eq!(set.nth_bank(0), None);
    assert_eq!(set.sparse_vps(&[!0]).count(), 0);
}

#[test]
fn missing_words_name_no_vp() {
    assert_eq!(sparse(0b11).sparse_vps(&[1]).collect::<Vec<_>>(), [0]);
    assert_eq!(sparse(0).sparse_vps(&[!0]).count(), 0);
}

proptest! {
    #[test]
    fn sparse_vps_are_the_bits_of_the_banks_named(mask: u64, words in prop::collection::vec(any::<u64>(), 64)) {
        let set = sparse(mask);
        let words = &words[..set.bank_count()];
        let mut expected = Vec::new();
        let mut rest = words.iter();
        for bank in (0..64).filter(|bank| mask & 1 << bank != 0) {
            let word = rest.next().unwrap();
            expected.extend((0..64).filter(|bit| word & 1 << bit != 0).map(|bit| bank * 64 + bit));
        }
        prop_assert_eq!(set.sparse_vps(words).collect::<Vec<u32>>(), expected);
        let numbers: Vec<u32> = (0..).map_while(|n| set.nth_bank(n)).collect();
        prop_assert_eq!(numbers.len(), words.len());
        prop_assert!(numbers.iter().all(|bank| mask & 1 << bank != 0));
    }

    #[test]
    fn any_control_word_can_be_taken_apart_and_put_together(bits: u64) {
        let word = HvHypercallInput::from_bits(bits);
        let again = HvHypercallInput::new()
            .with_call_code(word.call_code())
            .with_fast(word.fast())
            .with_variable_header_size(word.variable_header_size())
            .with_reserved_27(word.reserved_27())
            .with_nested(word.nested())
            .with_rep_count(word.rep_count())
            .with_reserved_44(word.reserved_44())
            .with_rep_start(word.rep_start())
            .with_reserved_60(word.reserved_60());
        prop_assert_eq!(again.into_bits(), bits);
        if let Some(left) = word.reps_left() {
            prop_assert!(left <= word.rep_count());
        }
    }
}
