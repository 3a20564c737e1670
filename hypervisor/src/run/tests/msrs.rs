//! Sequences of accesses to MSRs.

use std::cell::Cell;

use proptest::prelude::*;
use tlfs::{HV_X64_MSR_TSC_INVARIANT_CONTROL, HvPartitionPrivilegeMask};

use super::{After, Asked, Machines, Mode, Scene, enter, gprs, machines};
use crate::arch::exit::Event;
use crate::arch::state::vector;
use crate::arch::testing::Cause;
use crate::run::testing::{Bench, CHILD_BASE};

thread_local! {
    /// Machines after a case that went well: like new ones.
    static MACHINES: Cell<Option<Machines>> = const { Cell::new(None) };
}

/// An access to an MSR.
pub fn access(asked: Asked, msr: u32, write: bool, value: u64) -> Scene {
    Scene {
        asked,
        mode: Mode::Long,
        stepping: false,
        code: if write { &[0x0F, 0x30] } else { &[0x0F, 0x32] },
        cause: if write { Cause::Wrmsr } else { Cause::Rdmsr },
        gprs: gprs(|gprs| {
            gprs.rcx = msr.into();
            (gprs.rax, gprs.rdx) = (value & 0xFFFF_FFFF, value >> 32);
        }),
    }
}

/// MSRs: some that a guest has, and any.
fn any_msr() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![
            0x10,
            0x1B,
            0x3A,
            0x48,
            0x49,
            0x79,
            0x8B,
            0xFE,
            0x122,
            0x174,
            0x175,
            0x176,
            0x1D9,
            0x200,
            0x250,
            0x277,
            0x2FF,
            0x6E0,
            0xC000_0080,
            0xC000_0081,
            0xC000_0082,
            0xC000_0083,
            0xC000_0084,
            0xC000_0100,
            0xC000_0101,
            0xC000_0102,
            0xC000_0103,
            0x4000_0000,
            0x4000_0001,
            0x4000_0002,
            0x4000_0070,
            0x4000_0073,
        ]),
        0x800_u32..0x840,
        0..0x1000_u32,
        0x4000_0000..0x4000_0120_u32,
        0xC000_0000..0xC000_0110_u32,
        0xC001_0000..0xC001_0200_u32,
        any::<u32>(),
    ]
}

/// An access, at which nothing of an earlier one is pending.
pub fn write(bench: &mut Bench, msr: u32, value: u64) -> After {
    bench.hand().hw.set_pending_event(None);
    access(Asked::Nothing, msr, true, value).act(bench)
}

pub fn read(bench: &mut Bench, msr: u32) -> After {
    bench.hand().hw.set_pending_event(None);
    access(Asked::Nothing, msr, false, 0).act(bench)
}

pub fn faulted(after: &After) -> bool {
    matches!(
        after.event,
        Some(Event::Exception {
            vector: vector::GP,
            ..
        })
    )
}

#[test]
fn an_invariant_tsc_is_shown_for_good_once_the_guest_asks_for_it() {
    for mut bench in Bench::each() {
        enter(&mut bench, Asked::Nothing);
        let value = |bench: &mut Bench| {
            let after = read(bench, HV_X64_MSR_TSC_INVARIANT_CONTROL);
            (!faulted(&after)).then_some(after.gprs[0])
        };
        let accepts = |bench: &mut Bench, value| {
            !faulted(&write(bench, HV_X64_MSR_TSC_INVARIANT_CONTROL, value))
        };
        assert_eq!(value(&mut bench), Some(0));
        assert!(!accepts(&mut bench, 2) && !accepts(&mut bench, 3));
        assert!(accepts(&mut bench, 0));
        assert_eq!(value(&mut bench), Some(0));
        assert!(accepts(&mut bench, 1) && accepts(&mut bench, 1));
        assert_eq!(value(&mut bench), Some(1));
        assert!(!accepts(&mut bench, 0));
        assert_eq!(value(&mut bench), Some(1));
    }
}

#[test]
fn without_the_privilege_there_is_no_control_of_an_invariant_tsc() {
    for mut bench in Bench::each() {
        enter(&mut bench, Asked::Nothing);
        let offered = HvPartitionPrivilegeMask::ACCESS_TSC_INVARIANT_CONTROLS;
        assert!(bench.hand().privileges.contains(offered));
        bench.hand().privileges.set(offered, false);
        assert!(faulted(&read(&mut bench, HV_X64_MSR_TSC_INVARIANT_CONTROL)));
        assert!(faulted(&write(
            &mut bench,
            HV_X64_MSR_TSC_INVARIANT_CONTROL,
            1
        )));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        max_shrink_iters: 50,
        ..ProptestConfig::default()
    })]
    #[test]
    fn an_msr_is_the_same_on_either_vendors_processor(
        accesses in prop::collection::vec((any_msr(), any::<bool>(), any::<u64>(), 0..64_u32), 1..24),
        everything: bool,
    ) {
        let mut machines = MACHINES.take().unwrap_or_else(machines);
        let asked = if everything { Asked::Everything } else { Asked::Nothing };
        let scenes: Vec<Scene> = accesses
            .into_iter()
            .filter(|(msr, ..)| {
                let own = |bench: &Bench| bench.hv.capabilities.constant_msr(*msr).is_some();
                // What shows the time does not show the same twice.
                !machines.iter().any(own) && !matches!(msr, 0x10 | 0x839 | 0x4000_0010 | 0x4000_0020)
            })
            .map(|(msr, write, value, shift)| (msr, write, value >> shift))
            // Only SVM reads the instruction, whose place an overlay would take.
            .filter(|(_, write, value)| !write || *value >> 12 != CHILD_BASE.0)
            .map(|(msr, write, value)| access(asked, msr, write, value))
            .collect();
        let [amd, intel] = machines.each_mut().map(|bench| {
            enter(bench, asked);
            let mut all = Vec::new();
            for scene in &scenes {
                let after = scene.act(bench);
                let stopped = !after.runnable;
                all.push(after);
                if stopped {
                    break;
                }
            }
            bench.tear_down();
            all
        });
        for ((amd, intel), scene) in amd.iter().zip(&intel).zip(&scenes) {
            prop_assert_eq!(amd, intel, "{:?}", scene);
        }
        MACHINES.set(Some(machines));
    }
}
