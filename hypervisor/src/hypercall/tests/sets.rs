//! Flushes and interrupts for sets of a partition's own VPs.

use tlfs::HvCallCode as C;
use tlfs::*;
use zerocopy::{Immutable, IntoBytes};

use crate::run::testing::Bench;

const VECTOR: u32 = 0x45;
/// Number of 64-bit words of the variable header, in a control word.
const VARIABLE: u32 = 17;
const REP_COUNT: u32 = 32;

/// A child with VPs 0 to 2, whose APICs are on, and VP 0 in hand.
fn scenes() -> impl Iterator<Item = (Bench, HvPartitionId)> {
    Bench::each().map(|mut bench| {
        let id = bench.child_with_vp();
        (1..3).for_each(|index| bench.add_vp(id, index));
        for index in 0..3 {
            bench.with_vp(id, index, |vp| vp.apic.switch_on());
        }
        bench.switch_to_child(id, 0);
        (bench, id)
    })
}

/// A call of VP 0 with its input in memory: header, then words.
fn call(
    bench: &mut Bench,
    code: C,
    control: u64,
    header: &(impl IntoBytes + Immutable),
    words: &[u64],
) -> (HvStatus, usize) {
    let bytes = [header.as_bytes(), words.as_bytes()].concat();
    bench.restore();
    let control = HvHypercallInput::from_bits(u64::from(code.0) | control);
    let result = bench.call(control, &bytes);
    (result.call_status(), result.reps_completed())
}

/// Takes the interrupts that wait: which VPs have one.
fn interrupted(bench: &mut Bench, id: HvPartitionId) -> Vec<u16> {
    let waits = |index: &u16| {
        let taken = bench.with_vp(id, *index, |vp| {
            let vector = vp.apic.next_interrupt()?;
            vp.apic.begin_auto_eoi(vector);
            Some(u32::from(vector))
        });
        taken.flatten() == Some(VECTOR)
    };
    (0..3).filter(waits).collect()
}

fn ipi(mask: u64) -> HvInputSendSyntheticClusterIpi {
    HvInputSendSyntheticClusterIpi {
        vector: VECTOR,
        processor_mask: mask,
        ..Default::default()
    }
}

fn ipi_ex(format: HvGenericSetFormat, valid_bank_mask: u64) -> HvInputSendSyntheticClusterIpiEx {
    HvInputSendSyntheticClusterIpiEx {
        vector: VECTOR,
        processor_set: HvVpSetHeader {
            format,
            valid_bank_mask,
        },
        ..Default::default()
    }
}

const DONE: (HvStatus, usize) = (HvStatus::SUCCESS, 0);
const REFUSED: (HvStatus, usize) = (HvStatus::INVALID_PARAMETER, 0);

#[test]
fn an_interrupt_goes_to_the_vps_of_the_mask() {
    for (mut bench, id) in scenes() {
        let code = C::SEND_SYNTHETIC_CLUSTER_IPI;
        assert_eq!(call(&mut bench, code, 0, &ipi(0b101), &[]), DONE);
        assert_eq!(interrupted(&mut bench, id), [0, 2]);
        // One that is not there, or cannot be: nobody gets it.
        for mask in [0b1001, 1 << 16 | 1, 1 << 63] {
            assert_eq!(call(&mut bench, code, 0, &ipi(mask), &[]), REFUSED);
        }
        assert_eq!(interrupted(&mut bench, id), []);
        bench.switch_to_root();
        bench.tear_down();
    }
}

#[test]
fn vectors_of_exceptions_are_no_interrupts() {
    for (mut bench, id) in scenes() {
        for vector in [0, 0xF, 0x100] {
            let input = HvInputSendSyntheticClusterIpi { vector, ..ipi(7) };
            let code = C::SEND_SYNTHETIC_CLUSTER_IPI;
            assert_eq!(call(&mut bench, code, 0, &input, &[]), REFUSED);
        }
        assert_eq!(interrupted(&mut bench, id), []);
        bench.switch_to_root();
        bench.tear_down();
    }
}

#[test]
fn a_set_names_vps_by_banks_or_all_of_them() {
    use HvGenericSetFormat as F;
    for (mut bench, id) in scenes() {
        let code = C::SEND_SYNTHETIC_CLUSTER_IPI_EX;
        let mut send = |format, mask, banks: &[u64]| {
            let control = (banks.len() as u64) << VARIABLE;
            let ended = call(&mut bench, code, control, &ipi_ex(format, mask), banks);
            (ended.0, interrupted(&mut bench, id))
        };
        let ok = HvStatus::SUCCESS;
        assert_eq!(send(F::SPARSE_4K, 1, &[0b110]), (ok, vec![1, 2]));
        // Banks without VPs, and no bank at all: Linux sends both.
        assert_eq!(send(F::SPARSE_4K, 0b11, &[1, 0]), (ok, vec![0]));
        assert_eq!(send(F::SPARSE_4K, 0, &[]), (ok, vec![]));
        assert_eq!(send(F::ALL, 0, &[]), (ok, vec![0, 1, 2]));
        let refused = HvStatus::INVALID_PARAMETER;
        assert_eq!(send(F::SPARSE_4K, 0b10, &[1]), (refused, vec![]));
        assert_eq!(send(F(2), 1, &[1]), (refused, vec![]));
        let malformed = HvStatus::INVALID_HYPERCALL_INPUT;
        assert_eq!(send(F::SPARSE_4K, 0b11, &[1]), (malformed, vec![]));
        assert_eq!(send(F::SPARSE_4K, 1, &[1, 1]), (malformed, vec![]));
        bench.switch_to_root();
        bench.tear_down();
    }
}

fn generation(bench: &Bench, id: HvPartitionId) -> u64 {
    let slot = crate::partition::table::slot_of(id).unwrap();
    bench.hv.partitions.entry(slot).domain.generation()
}

#[test]
fn a_flush_for_others_makes_every_vp_flush_and_its_list_is_done_at_once() {
    for (mut bench, id) in scenes() {
        let space = |mask, flags| HvInputFlushVirtualAddressSpace {
            flags,
            processor_mask: mask,
            ..Default::default()
        };
        let none = HvFlushFlags::empty();
        let before = generation(&bench, id);
        let code = C::FLUSH_VIRTUAL_ADDRESS_SPACE;
        assert_eq!(call(&mut bench, code, 0, &space(0b10, none), &[]), DONE);
        assert_eq!(generation(&bench, id), before + 1);
        let all = HvFlushFlags::ALL_PROCESSORS;
        assert_eq!(call(&mut bench, code, 0, &space(0, all), &[]), DONE);
        assert_eq!(generation(&bench, id), before + 2);
        // Its own translations alone leave the others in peace.
        assert_eq!(call(&mut bench, code, 0, &space(1, none), &[]), DONE);
        assert_eq!(generation(&bench, id), before + 2);
        let code = C::FLUSH_VIRTUAL_ADDRESS_LIST;
        let control = 3 << REP_COUNT;
        let ended = call(
            &mut bench,
            code,
            control,
            &space(0b11, none),
            &[0x1000, 0x2003, 0x7000],
        );
        assert_eq!(ended, (HvStatus::SUCCESS, 3));
        assert_eq!(generation(&bench, id), before + 3);
        let extended = HvFlushFlags::USE_EXTENDED_RANGE_FORMAT;
        assert_eq!(
            call(
                &mut bench,
                C::FLUSH_VIRTUAL_ADDRESS_SPACE,
                0,
                &space(1, extended),
                &[]
            ),
            REFUSED
        );
        bench.switch_to_root();
        bench.tear_down();
    }
}

#[test]
fn a_list_with_a_set_before_it_is_done_at_once() {
    for (mut bench, id) in scenes() {
        let input = HvInputFlushVirtualAddressSpaceEx {
            processor_set: HvVpSetHeader {
                format: HvGenericSetFormat::SPARSE_4K,
                valid_bank_mask: 1,
            },
            ..Default::default()
        };
        let before = generation(&bench, id);
        let control = 2 << REP_COUNT | 1 << VARIABLE;
        let code = C::FLUSH_VIRTUAL_ADDRESS_LIST_EX;
        let ended = call(&mut bench, code, control, &input, &[0b111, 0x1000, 0x2000]);
        assert_eq!(ended, (HvStatus::SUCCESS, 2));
        assert_eq!(generation(&bench, id), before + 1);
        bench.switch_to_root();
        bench.tear_down();
    }
}

#[test]
fn a_flush_waits_for_a_vp_whose_parent_goes_by_its_translations() {
    for (mut bench, id) in scenes() {
        let locked = HvInterceptSuspendRegister::new()
            .with_suspended(true)
            .with_tlb_locked(true);
        bench.with_vp(id, 2, |vp| vp.set_intercept_suspend(locked));
        let input = |mask| HvInputFlushVirtualAddressSpace {
            processor_mask: mask,
            ..Default::default()
        };
        let code = C::FLUSH_VIRTUAL_ADDRESS_SPACE;
        let before = generation(&bench, id);
        assert_eq!(call(&mut bench, code, 0, &input(0b011), &[]), DONE);
        assert_eq!(generation(&bench, id), before + 1, "it is not asked");
        bench.restore();
        bench.write(bench.input(), input(0b111).as_bytes());
        let at = bench.input().0;
        let gprs = bench.hand().hw.gprs_mut();
        (gprs.rcx, gprs.rdx) = (code.0.into(), at);
        for _ in 0..3 {
            assert_eq!(bench.execute(), None, "again");
        }
        assert_eq!(generation(&bench, id), before + 1);
        let free = HvInterceptSuspendRegister::new();
        bench.with_vp(id, 2, |vp| vp.set_intercept_suspend(free));
        assert_eq!(call(&mut bench, code, 0, &input(0b111), &[]), DONE);
        assert_eq!(generation(&bench, id), before + 2);
        bench.switch_to_root();
        bench.tear_down();
    }
}
