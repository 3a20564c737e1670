//! VPs: registers, whole states, interrupts.

use tlfs::HvCallCode as C;
use tlfs::*;
use zerocopy::IntoBytes;

use crate::mem::addr::Gpfn;
use crate::run::testing::{Bench, Outcome};

const VP: HvVpIndex = HvVpIndex(0);

#[test]
fn registers_are_set_up_to_the_first_that_is_refused() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let values = [
            (HvRegisterName::RAX, 1),
            (HvRegisterName::RIP, 0x1000),
            (HvRegisterName::EFER, u64::MAX),
            (HvRegisterName::RBX, 2),
        ];
        let set = bench.set_registers(id, VP, &values);
        assert_eq!(set, (HvStatus::INVALID_REGISTER_VALUE, 2));
        assert_eq!(bench.register(id, VP, HvRegisterName::RAX), Ok(1));
        assert_eq!(bench.register(id, VP, HvRegisterName::RIP), Ok(0x1000));
        assert_eq!(bench.register(id, VP, HvRegisterName::RBX), Ok(0));
        bench.tear_down();
    }
}

#[test]
fn a_long_list_of_registers_is_set_in_parts() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let values: Vec<_> = (0..127).map(|value| (HvRegisterName::RAX, value)).collect();
        assert_eq!(
            bench.set_registers(id, VP, &values),
            (HvStatus::SUCCESS, 127)
        );
        assert_eq!(bench.register(id, VP, HvRegisterName::RAX), Ok(126));
        bench.tear_down();
    }
}

#[test]
fn a_vp_is_created_once_and_deleted_only_while_it_is_stopped() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let create = |index| HvInputCreateVp {
            partition_id: id,
            vp_index: HvVpIndex(index),
            ..Default::default()
        };
        for index in [0, 16, u32::MAX] {
            let refused = bench.simple(C::CREATE_VP, &create(index));
            assert_eq!(refused, HvStatus::INVALID_VP_INDEX);
        }
        let delete = HvInputDeleteVp {
            partition_id: id,
            ..Default::default()
        };
        bench.set_registers(id, VP, &[(HvRegisterName::EXPLICIT_SUSPEND, 0)]);
        assert_eq!(
            bench.simple(C::DELETE_VP, &delete),
            HvStatus::INVALID_VP_STATE
        );
        bench.set_registers(id, VP, &[(HvRegisterName::EXPLICIT_SUSPEND, 1)]);
        assert_eq!(bench.simple(C::DELETE_VP, &delete), HvStatus::SUCCESS);
        assert_eq!(
            bench.simple(C::DELETE_VP, &delete),
            HvStatus::INVALID_VP_INDEX
        );
        bench.add_vp(id, 0);
        bench.tear_down();
    }
}

#[test]
fn whole_states_come_back_as_they_were_given() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        for state_type in [
            HvGetSetVpStateType::LOCAL_INTERRUPT_CONTROLLER_STATE,
            HvGetSetVpStateType::XSAVE,
        ] {
            let page = bench.frames(1)[0];
            let input = HvInputVpState {
                partition_id: id,
                state_data: HvVpStateData {
                    state_type,
                    xsave_states: u64::MAX,
                    ..Default::default()
                },
                ..Default::default()
            };
            let mut block = input.as_bytes().to_vec();
            block.extend_from_slice(&page.to_le_bytes());
            let word = |code| HvHypercallInput::simple(code).with_variable_header_size(1);
            let mut call = |code| bench.call(word(code), &block).call_status();
            assert_eq!(call(C::GET_VP_STATE), HvStatus::SUCCESS, "{state_type:?}");
            let first: [u8; 4096] = bench.read(Gpfn(page).address());
            let mut call = |code| bench.call(word(code), &block).call_status();
            assert_eq!(call(C::SET_VP_STATE), HvStatus::SUCCESS, "{state_type:?}");
            assert_eq!(call(C::GET_VP_STATE), HvStatus::SUCCESS);
            let second: [u8; 4096] = bench.read(Gpfn(page).address());
            assert_eq!(first, second, "{state_type:?}");
            // A page that is no memory of the root's.
            let mut block = input.as_bytes().to_vec();
            block.extend_from_slice(&u64::MAX.to_le_bytes());
            let refused = bench.call(word(C::GET_VP_STATE), &block).call_status();
            assert_eq!(refused, HvStatus::INVALID_PARAMETER);
        }
        bench.tear_down();
    }
}

fn assert_interrupt(
    bench: &mut Bench,
    id: HvPartitionId,
    kind: HvInterruptType,
    logical: bool,
    to: u64,
    vector: u32,
) -> HvStatus {
    let input = HvInputAssertVirtualInterrupt {
        partition_id: id,
        control: HvInterruptControl::new()
            .with_interrupt_type(kind)
            .with_logical_dest_mode(logical),
        dest_addr: to,
        vector,
        ..Default::default()
    };
    bench.simple(C::ASSERT_VIRTUAL_INTERRUPT, &input)
}

#[test]
fn an_interrupt_goes_to_the_vps_that_its_destination_names() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        bench.add_vp(id, 1);
        for index in 0..2 {
            bench.with_vp(id, index, |vp| vp.apic.switch_on());
        }
        let fixed = HvInterruptType::FIXED;
        let requested = |bench: &mut Bench| {
            [0, 1].map(|index| {
                bench
                    .with_vp(id, index, |vp| vp.apic.next_interrupt())
                    .flatten()
            })
        };
        assert_eq!(
            assert_interrupt(&mut bench, id, fixed, false, 1, 0x41),
            HvStatus::SUCCESS
        );
        assert_eq!(requested(&mut bench), [None, Some(0x41)]);
        // Nobody has this id: it is lost, as on a bus.
        assert_eq!(
            assert_interrupt(&mut bench, id, fixed, false, 9, 0x42),
            HvStatus::SUCCESS
        );
        assert_eq!(requested(&mut bench), [None, Some(0x41)]);
        // All, as x2APICs spell it.
        assert_eq!(
            assert_interrupt(&mut bench, id, fixed, false, u32::MAX.into(), 0x43),
            HvStatus::SUCCESS
        );
        assert_eq!(requested(&mut bench), [Some(0x43), Some(0x43)]);
        for (kind, vector) in [(fixed, 0x100), (fixed, 3), (HvInterruptType(77), 0x41)] {
            let refused = assert_interrupt(&mut bench, id, kind, false, 0, vector);
            assert_eq!(refused, HvStatus::INVALID_PARAMETER);
        }
        bench.tear_down();
    }
}

#[test]
fn answers_to_cpuid_are_kept_until_they_are_taken_back() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let parameters = HvRegisterX64CpuidResultParameters {
            eax: 0x4000_0100,
            ..Default::default()
        };
        let kind = HvInterceptType::X64_CPUID;
        let input =
            HvInputRegisterInterceptResult::new(id, HvVpIndex::ANY, kind, &parameters).unwrap();
        assert_eq!(
            bench.simple(C::REGISTER_INTERCEPT_RESULT, &input),
            HvStatus::SUCCESS
        );
        assert_eq!(
            bench.simple(C::UNREGISTER_INTERCEPT_RESULT, &input),
            HvStatus::SUCCESS
        );
        assert_eq!(
            bench.simple(C::UNREGISTER_INTERCEPT_RESULT, &input),
            HvStatus::NOT_FOUND
        );
        bench.tear_down();
    }
}

#[test]
fn a_root_that_takes_itself_out_of_its_mode_leaves_the_hypervisor_in_order() {
    for mut bench in Bench::each() {
        let mut list = Vec::new();
        for _ in 0..100 {
            list.extend_from_slice(
                HvRegisterAssoc {
                    name: HvRegisterName::EFER,
                    ..Default::default()
                }
                .as_bytes(),
            );
        }
        let header = HvInputVpRegisters {
            partition_id: HvPartitionId::SELF,
            vp_index: HvVpIndex::SELF,
            ..Default::default()
        };
        let input = [header.as_bytes(), &list].concat();
        bench.write(bench.input(), &input);
        let word = HvHypercallInput::rep(C::SET_VP_REGISTERS, 100).unwrap();
        let (rdx, r8) = (bench.input().0, bench.output().0);
        assert_eq!(bench.run(word.into_bits(), rdx, r8), Outcome::Elsewhere);
        assert_eq!(bench.hand().hw.efer(), 0);
        bench.tear_down();
    }
}
