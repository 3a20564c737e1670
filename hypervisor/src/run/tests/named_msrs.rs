//! MSRs that the hypervisor has, and that a parent wants to see all the same.

use tlfs::*;
use zerocopy::FromBytes;

use super::msrs::{faulted, read, write};
use super::{Asked, enter};
use crate::run::testing::{Bench, LINUX_FLAGS};

const WRITE: HvInterceptAccessMask = HvInterceptAccessMask::WRITE;
const NONE: HvInterceptAccessMask = HvInterceptAccessMask(0);
const NOTIFY: u64 = 1 << 63;

/// Asks for accesses to an MSR of the child in hand.
fn watch(bench: &mut Bench, msr: u32, access_type: HvInterceptAccessMask) {
    let id = bench.caller();
    bench.switch_to_root();
    let input = HvInputInstallIntercept {
        partition_id: id,
        access_type,
        intercept_type: HvInterceptType::X64_MSR_INDEX,
        intercept_parameter: HvInterceptParameters::msr_index(msr),
    };
    let done = bench.simple(HvCallCode::INSTALL_INTERCEPT, &input);
    assert_eq!(done, HvStatus::SUCCESS);
    bench.switch_to_child(id, 0);
}

#[test]
fn the_parent_sees_a_write_that_it_named_and_nothing_else() {
    for mut bench in Bench::each() {
        enter(&mut bench, Asked::Nothing);
        let id = bench.caller();
        // The VP remembers that nothing is named, which is not so for long.
        assert_eq!(write(&mut bench, HV_X64_MSR_CRASH_P0, 1).message, None);
        watch(&mut bench, HV_X64_MSR_CRASH_CTL, WRITE);
        for msr in HV_X64_MSR_CRASH_P0..=HV_X64_MSR_CRASH_P4 {
            let after = write(&mut bench, msr, u64::from(msr));
            assert!(after.message.is_none() && !faulted(&after), "{msr:#x}");
        }
        let after = read(&mut bench, HV_X64_MSR_CRASH_CTL);
        assert_eq!((after.message, after.gprs[2]), (None, 0xC000_0000));
        let after = write(&mut bench, HV_X64_MSR_CRASH_CTL, NOTIFY);
        let (kind, payload) = after.message.expect("told");
        assert_eq!(kind, HvMessageType::X64_MSR_INTERCEPT);
        let message = HvX64MsrInterceptMessage::read_from_bytes(&payload).unwrap();
        assert_eq!(message.msr_number, HV_X64_MSR_CRASH_CTL);
        assert_eq!((message.rdx, message.rax), (NOTIFY >> 32, 0));
        // What the guest says is there; the write itself is the parent's to complete.
        let msrs = bench.with_partition(id, |partition| partition.msrs);
        let said = (HV_X64_MSR_CRASH_P0..=HV_X64_MSR_CRASH_P4).map(u64::from);
        assert!(msrs.crash.into_iter().eq(said));
        assert_eq!(msrs.crash_control, 0);
        bench.switch_to_root();
        bench.tear_down();
    }
}

#[test]
fn an_msr_that_is_named_no_more_is_the_hypervisors_again() {
    for mut bench in Bench::each() {
        enter(&mut bench, Asked::Nothing);
        let id = bench.caller();
        watch(&mut bench, HV_X64_MSR_CRASH_CTL, WRITE);
        // The VP remembers what is named.
        assert_eq!(write(&mut bench, HV_X64_MSR_CRASH_P0, 1).message, None);
        watch(&mut bench, HV_X64_MSR_CRASH_CTL, NONE);
        assert_eq!(
            write(&mut bench, HV_X64_MSR_CRASH_CTL, NOTIFY).message,
            None
        );
        let control = bench.with_partition(id, |partition| partition.msrs.crash_control);
        assert_eq!(control, NOTIFY);
        bench.switch_to_root();
        bench.tear_down();
    }
}

#[test]
fn the_reset_msr_is_there_if_the_parent_gives_it_and_resets_nothing_by_itself() {
    for mut bench in Bench::each() {
        enter(&mut bench, Asked::Nothing);
        assert!(faulted(&read(&mut bench, HV_X64_MSR_RESET)));
        assert!(faulted(&write(&mut bench, HV_X64_MSR_RESET, 1)));
        // A partition with VPs cannot get it any more; this is how one that got it before looks.
        bench.hand().privileges |= HvPartitionPrivilegeMask::ACCESS_RESET_MSR;
        let after = read(&mut bench, HV_X64_MSR_RESET);
        assert_eq!(
            (faulted(&after), after.gprs[0], after.gprs[2]),
            (false, 0, 0)
        );
        assert!(!faulted(&write(&mut bench, HV_X64_MSR_RESET, 2)));
        assert!(faulted(&write(&mut bench, HV_X64_MSR_RESET, 1)));
        watch(&mut bench, HV_X64_MSR_RESET, WRITE);
        assert!(write(&mut bench, HV_X64_MSR_RESET, 1).message.is_some());
        bench.switch_to_root();
        bench.tear_down();
    }
}

#[test]
fn access_to_the_reset_msr_is_a_privilege_that_only_its_own_property_gives() {
    for mut bench in Bench::each() {
        let id = bench.create(LINUX_FLAGS);
        let mut set = |property_code, property_value| {
            let input = HvInputSetPartitionProperty {
                partition_id: id,
                property_code,
                property_value,
                ..Default::default()
            };
            let done = bench.simple(HvCallCode::SET_PARTITION_PROPERTY, &input);
            assert_eq!(done, HvStatus::SUCCESS);
            bench.with_partition(id, |partition| partition.privileges)
        };
        let reset = HvPartitionPrivilegeMask::ACCESS_RESET_MSR;
        let all = set(HvPartitionPropertyCode::SYNTHETIC_PROC_FEATURES, u64::MAX);
        assert!(!all.contains(reset));
        let more = set(HvPartitionPropertyCode::PRIVILEGE_FLAGS, (all | reset).0);
        assert!(more.contains(reset));
        bench.tear_down();
    }
}
