//! What VPs get of the processors, and what these did.

use tlfs::HvCallCode as C;
use tlfs::HvPartitionPropertyCode as P;
use tlfs::*;

use crate::run::testing::Bench;
use crate::time::RefTime;

const WHOLE: u64 = 1 << 16;
const TOO_MUCH: HvStatus = HvStatus::PROPERTY_VALUE_OUT_OF_RANGE;

fn set(bench: &mut Bench, partition_id: HvPartitionId, code: P, value: u64) -> HvStatus {
    let input = HvInputSetPartitionProperty {
        partition_id,
        property_code: code,
        padding: 0,
        property_value: value,
    };
    bench.simple(C::SET_PARTITION_PROPERTY, &input)
}

fn get(bench: &mut Bench, partition_id: HvPartitionId, code: P) -> u64 {
    let input = HvInputGetPartitionProperty {
        partition_id,
        property_code: code,
        padding: 0,
    };
    let answer = bench.ask::<HvOutputGetPartitionProperty>(C::GET_PARTITION_PROPERTY, &input);
    answer.unwrap().property_value
}

#[test]
fn weight_cap_and_reserve_have_their_ranges_and_defaults() {
    let mut bench = Bench::each().next().unwrap();
    let id = bench.child();
    let three = [P::CPU_WEIGHT, P::CPU_CAP, P::CPU_RESERVE];
    let defaults = three.map(|code| get(&mut bench, id, code));
    assert_eq!(defaults, [100, WHOLE, 0]);
    for (code, value, status) in [
        (P::CPU_WEIGHT, 0, TOO_MUCH),
        (P::CPU_WEIGHT, 10_001, TOO_MUCH),
        (P::CPU_WEIGHT, 10_000, HvStatus::SUCCESS),
        (P::CPU_CAP, WHOLE + 1, TOO_MUCH),
        (P::CPU_CAP, WHOLE / 4, HvStatus::SUCCESS),
        (P::CPU_RESERVE, WHOLE / 4 + 1, TOO_MUCH),
        (P::CPU_RESERVE, WHOLE / 8, HvStatus::SUCCESS),
        (P::CPU_CAP, WHOLE / 8 - 1, TOO_MUCH),
        (P::CPU_CAP, WHOLE / 8, HvStatus::SUCCESS),
        (P::CPU_WEIGHT, u64::MAX, TOO_MUCH),
    ] {
        assert_eq!(set(&mut bench, id, code, value), status, "{code:?} {value}");
    }
    let kept = three.map(|code| get(&mut bench, id, code));
    assert_eq!(kept, [10_000, WHOLE / 8, WHOLE / 8]);
    // Another partition in the same place starts anew.
    bench.tear_down();
    let id = bench.child();
    let defaults = three.map(|code| get(&mut bench, id, code));
    assert_eq!(defaults, [100, WHOLE, 0]);
    bench.tear_down();
}

#[test]
fn no_more_is_reserved_than_the_processors_are() {
    let mut bench = Bench::each().next().unwrap();
    let [one, other] = [(); 2].map(|()| bench.child());
    bench.add_vp(one, 0);
    bench.add_vp(one, 1);
    // For each of the two, of one processor.
    assert_eq!(
        set(&mut bench, one, P::CPU_RESERVE, WHOLE / 2 + 1),
        TOO_MUCH
    );
    assert!(set(&mut bench, one, P::CPU_RESERVE, WHOLE / 4).is_success());
    // A partition without VPs may reserve anything; its VPs may not be made then.
    assert!(set(&mut bench, other, P::CPU_RESERVE, WHOLE).is_success());
    let create = HvInputCreateVp {
        partition_id: other,
        ..Default::default()
    };
    let create = |bench: &mut Bench| bench.paid::<[u8; 0]>(other, C::CREATE_VP, &create);
    assert_eq!(create(&mut bench).unwrap_err(), HvStatus::OPERATION_DENIED);
    assert!(set(&mut bench, other, P::CPU_RESERVE, WHOLE / 2).is_success());
    // It is paid for page by page: what fails on the way reserves nothing.
    create(&mut bench).unwrap();
    assert_eq!(
        set(&mut bench, one, P::CPU_RESERVE, WHOLE / 4 + 1),
        TOO_MUCH
    );
    let delete = HvInputDeleteVp {
        partition_id: one,
        vp_index: HvVpIndex(1),
        ..Default::default()
    };
    assert!(bench.simple(C::DELETE_VP, &delete).is_success());
    assert!(set(&mut bench, one, P::CPU_RESERVE, WHOLE / 2).is_success());
    bench.tear_down();
}

#[test]
fn run_times_of_processors_that_run() {
    for mut bench in Bench::each() {
        let mut ask = |lp_index| {
            let input = HvInputGetLogicalProcessorRunTime { lp_index };
            let code = C::GET_LOGICAL_PROCESSOR_RUN_TIME;
            bench.ask::<HvOutputGetLogicalProcessorRunTime>(code, &input)
        };
        let first = ask(0).unwrap();
        assert!(first.local_run_time <= first.global_time);
        let second = ask(0).unwrap();
        assert!(second.global_time > first.global_time);
        let ran = second.local_run_time - first.local_run_time;
        assert_eq!(
            ran,
            second.global_time - first.global_time,
            "it never idles"
        );
        // The root has been in hand all the time.
        assert_eq!(second.hypervisor_time, first.hypervisor_time);
        assert_eq!(second.reserved, 0);
        for absent in [1, 16, u32::MAX] {
            assert_eq!(ask(absent).unwrap_err(), HvStatus::INVALID_LP_INDEX);
        }
        let id = bench.child_with_vp();
        bench.switch_to_child(id, 0);
        let input = HvInputGetLogicalProcessorRunTime { lp_index: 0 };
        let refused = bench.simple(C::GET_LOGICAL_PROCESSOR_RUN_TIME, &input);
        assert_eq!(refused, HvStatus::ACCESS_DENIED);
        bench.tear_down();
    }
}

#[test]
fn a_processor_that_idles_does_not_run() {
    let mut bench = Bench::each().next().unwrap();
    let clock = &bench.hv.lp(0).run_clock;
    let before = clock.run_time(bench.hv.now());
    clock.rest(RefTime::from_units(before.units() + 1));
    let input = HvInputGetLogicalProcessorRunTime { lp_index: 0 };
    let code = C::GET_LOGICAL_PROCESSOR_RUN_TIME;
    let found = bench.ask::<HvOutputGetLogicalProcessorRunTime>(code, &input);
    assert_eq!(found.unwrap().local_run_time, before.units() + 1);
    bench.tear_down();
}
