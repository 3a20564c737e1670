//! The calling convention: registers, parameters, privileges.

use tlfs::HvCallCode as C;
use tlfs::*;
use zerocopy::IntoBytes;

use crate::arch::exit::Event;
use crate::arch::state::{Segment, SegmentName};
use crate::hv::ROOT_ID;
use crate::hypercall::CALLS;
use crate::mem::addr::{Gpa, Gpfn, Spfn};
use crate::mem::format::Rights;
use crate::run::testing::{Bench, CHILD_BASE, DEVICE_PAGES, Outcome, UNTOUCHED};

fn control(code: HvCallCode) -> u64 {
    HvHypercallInput::simple(code).into_bits()
}

fn status(outcome: Outcome) -> HvStatus {
    match outcome {
        Outcome::Result(result, _) => result.call_status(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_root_is_told_its_id_and_nothing_else_of_its_page_changes() {
    for mut bench in Bench::each() {
        let answer: HvOutputPartitionId = bench.ask(C::GET_PARTITION_ID, &[0_u8; 0]).unwrap();
        assert_eq!(answer.partition_id, ROOT_ID);
        let rest: [u8; 4088] = bench.read(Gpa(bench.output().0 + 8));
        assert_eq!(rest, [UNTOUCHED; 4088]);
    }
}

#[test]
fn a_call_without_privilege_level_0_is_an_undefined_instruction() {
    for mut bench in Bench::each() {
        let user = Segment {
            attributes: 0xF3,
            ..Segment::default()
        };
        bench.hand().hw.set_segment(SegmentName::Ss, &user);
        let outcome = bench.run(control(C::GET_PARTITION_ID), 0, bench.output().0);
        let undefined = Event::Exception {
            vector: 6,
            error_code: None,
        };
        assert_eq!(outcome, Outcome::Exception(undefined));
    }
}

#[test]
fn a_call_may_have_its_input_in_registers() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let fast = control(C::FINALIZE_PARTITION) | 1 << 16;
        assert_eq!(status(bench.run(fast, id.0, 0)), HvStatus::SUCCESS);
        bench.withdraw(id);
        let fast = control(C::DELETE_PARTITION) | 1 << 16;
        assert_eq!(status(bench.run(fast, id.0, 7)), HvStatus::SUCCESS);
        // DeleteVp takes both registers.
        let id = bench.child_with_vp();
        let fast = control(C::DELETE_VP) | 1 << 16;
        assert_eq!(status(bench.run(fast, id.0, 0)), HvStatus::SUCCESS);
        assert!(bench.vps(id).is_empty());
    }
}

#[test]
fn a_caller_in_32_bit_code_uses_pairs_of_registers() {
    for mut bench in Bench::each() {
        let (input, output) = (bench.input(), bench.output());
        let hw = &mut bench.hand().hw;
        hw.set_efer(0);
        hw.set_cr0(1);
        let flat = |kind: u16| Segment {
            attributes: 0xC090 | kind,
            limit: u32::MAX,
            ..Segment::default()
        };
        hw.set_segment(SegmentName::Cs, &flat(0xB));
        hw.set_segment(SegmentName::Ss, &flat(0x3));
        let gprs = hw.gprs_mut();
        let high = 0xFFFF_FFFF_0000_0000;
        (gprs.rdx, gprs.rax) = (high, high | u64::from(C::GET_PARTITION_ID.0));
        (gprs.rbx, gprs.rcx) = (high, high | input.0);
        (gprs.rdi, gprs.rsi) = (high, high | output.0);
        assert!(matches!(bench.execute(), Some(Outcome::Result(..))));
        let gprs = bench.hand().hw.gprs();
        assert_eq!((gprs.rdx, gprs.rax), (0, 0));
        assert_eq!(bench.read::<u64>(output), ROOT_ID.0);
    }
}

#[test]
fn parameters_of_the_root_are_in_its_memory() {
    for mut bench in Bench::each() {
        let (input, output) = (bench.input().0, bench.output().0);
        let call = control(C::GET_PARTITION_PROPERTY);
        for bad in [DEVICE_PAGES.start << 12, DEVICE_PAGES.end << 12, 0, 1 << 50] {
            let of_input = bench.run(call, bad, output);
            assert_eq!(status(of_input), HvStatus::INVALID_PARAMETER, "{bad:#x}");
            let of_output = bench.run(call, input, bad);
            assert_eq!(status(of_output), HvStatus::INVALID_PARAMETER, "{bad:#x}");
        }
        for bad in [input + 4, input + 0xFF8, u64::MAX] {
            let crossing = bench.run(call, bad, output);
            assert_eq!(status(crossing), HvStatus::INVALID_ALIGNMENT, "{bad:#x}");
        }
        // Of a call that gives nothing back the output is not looked at.
        let nothing = control(C::FINALIZE_PARTITION);
        bench.write(Gpa(input), &ROOT_ID.0.to_le_bytes());
        let outcome = bench.run(nothing, input, u64::MAX);
        assert_eq!(status(outcome), HvStatus::ACCESS_DENIED);
    }
}

#[test]
fn a_page_that_the_root_gave_away_holds_no_parameters() {
    for mut bench in Bench::each() {
        let frame = bench.frames(1)[0];
        bench.deposit_list(ROOT_ID, &[frame]);
        let call = control(C::GET_PARTITION_ID);
        let outcome = bench.run(call, 0, frame << 12);
        assert_eq!(status(outcome), HvStatus::INVALID_PARAMETER);
    }
}

#[test]
fn a_shown_counters_page_takes_no_output() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let input = HvInputStatsPage {
            stats_type: HvStatsObjectType::PARTITION,
            identity: HvStatsObjectIdentity {
                id: id.0,
                ..Default::default()
            },
            ..Default::default()
        };
        let page: HvOutputMapStatsPage = bench.ask(C::MAP_STATS_PAGE, &input).unwrap();
        let outcome = bench.run(control(C::GET_PARTITION_ID), 0, page.map_location << 12);
        assert_eq!(status(outcome), HvStatus::INVALID_PARAMETER);
    }
}

/// GetPartitionProperty is a child's too, for itself: it reads and writes memory.
fn property_call(bench: &Bench) -> u64 {
    let input = HvInputGetPartitionProperty {
        partition_id: HvPartitionId::SELF,
        property_code: HvPartitionPropertyCode::PRIVILEGE_FLAGS,
        padding: 0,
    };
    bench.write(bench.input(), input.as_bytes());
    control(C::GET_PARTITION_PROPERTY)
}

#[test]
fn parameters_where_a_child_can_have_no_memory_are_refused() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        bench.switch_to_child(id, 0);
        let call = property_call(&bench);
        let (input, output) = (bench.input().0, bench.output().0);
        for bad in [crate::apic::PAGE.address().0, 1 << 48, 1 << 51] {
            let of_input = bench.run(call, bad, output);
            assert_eq!(status(of_input), HvStatus::INVALID_PARAMETER);
            let of_output = bench.run(call, input, bad);
            assert_eq!(status(of_output), HvStatus::INVALID_PARAMETER);
        }
        assert_eq!(status(bench.run(call, input, output)), HvStatus::SUCCESS);
    }
}

#[test]
fn parameters_that_are_not_mapped_are_the_parents_to_map_and_the_call_goes_on_then() {
    for mut bench in Bench::each() {
        for is_output in [false, true] {
            let id = bench.child_with_vp();
            bench.switch_to_child(id, 0);
            let call = property_call(&bench);
            let (there, away) = (bench.input().0, 16 << 12);
            let go = |bench: &mut Bench| match is_output {
                true => bench.run(call, there, away),
                false => bench.run(call, away, bench.output().0),
            };
            assert_eq!(go(&mut bench), Outcome::Intercepted);
            assert_eq!(bench.hand().hw.gprs().rcx, call);
            let page = bench.hand().intercept_page.frame.spfn().address();
            let message: HvMessage = bench.read_machine(page);
            assert_eq!(message.header.message_type, HvMessageType::UNMAPPED_GPA);
            let payload: HvX64MemoryInterceptMessage = message.payload_as().unwrap();
            assert_eq!(payload.guest_physical_address, away);
            let kind = payload.header.intercept_access_type.0;
            assert_eq!(kind, u8::from(is_output));
            bench.switch_to_root();
            let new = bench.frames(1);
            bench.map(id, away >> 12, crate::run::testing::FULL_ACCESS, &new);
            if !is_output {
                let from = bench
                    .with_partition(id, |child| child.resolve(Gpa(there), Rights::READ).unwrap());
                let bytes: [u8; 64] = bench.read_machine(from);
                let to = Spfn(new[0]).address();
                bench.hv.phys.copy_to(to, &bytes).unwrap();
            }
            let resume = [(HvRegisterName::INTERCEPT_SUSPEND, 0)];
            let done = bench.set_registers(id, HvVpIndex(0), &resume);
            assert_eq!(done, (HvStatus::SUCCESS, 1));
            bench.switch_to_child(id, 0);
            assert_eq!(status(go(&mut bench)), HvStatus::SUCCESS);
            bench.switch_to_root();
        }
    }
}

#[test]
fn memory_that_the_parent_has_forbidden_is_the_parents_to_allow_and_the_call_goes_on_then() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let frames = bench.frames(1);
        bench.map(id, CHILD_BASE.0 + 4, HvMapGpaFlags::READABLE, &frames);
        // To write its tables the VP needs only the other pages.
        bench.switch_to_child(id, 0);
        let call = property_call(&bench);
        let (input, output) = (bench.input().0, bench.output().0);
        assert_eq!(bench.run(call, input, output), Outcome::Intercepted);
        assert_eq!(bench.hand().hw.gprs().rcx, call);
        let page = bench.hand().intercept_page.frame.spfn().address();
        let message: HvMessage = bench.read_machine(page);
        assert_eq!(message.header.message_type, HvMessageType::GPA_INTERCEPT);
        let payload: HvX64MemoryInterceptMessage = message.payload_as().unwrap();
        assert_eq!(payload.guest_physical_address, output);
        assert_eq!(payload.header.intercept_access_type.0, 1);
        bench.switch_to_root();
        bench.map(
            id,
            CHILD_BASE.0 + 4,
            crate::run::testing::FULL_ACCESS,
            &frames,
        );
        let done = bench.set_registers(id, HvVpIndex(0), &[(HvRegisterName::INTERCEPT_SUSPEND, 0)]);
        assert_eq!(done, (HvStatus::SUCCESS, 1));
        bench.switch_to_child(id, 0);
        assert_eq!(status(bench.run(call, input, output)), HvStatus::SUCCESS);
    }
}

#[test]
fn a_page_without_access_asks_the_parent_as_well() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        bench.switch_to_child(id, 0);
        let call = property_call(&bench);
        bench.switch_to_root();
        bench.map(id, CHILD_BASE.0 + 3, HvMapGpaFlags::NO_ACCESS, &[0]);
        bench.switch_to(id, 0);
        let (input, output) = (bench.input().0, bench.output().0);
        assert_eq!(bench.run(call, input, output), Outcome::Intercepted);
    }
}

#[test]
fn the_hypercall_page_holds_no_output() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let page = HvPageMsr::new().with_enabled(true).with_gpfn(2).into_bits();
        let values = [
            (HvRegisterName::GUEST_OS_ID, 1),
            (HvRegisterName::HYPERCALL, page),
        ];
        let set = bench.set_registers(id, HvVpIndex(0), &values);
        assert_eq!(set, (HvStatus::SUCCESS, 2));
        bench.switch_to_child(id, 0);
        let call = property_call(&bench);
        let input = bench.input().0;
        let outcome = bench.run(call, input, Gpfn(2).address().0);
        assert_eq!(status(outcome), HvStatus::INVALID_PARAMETER);
    }
}

#[test]
fn a_child_can_ask_for_its_own_properties_and_for_nothing_else() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let other = bench.child_with_vp();
        let own = [C::GET_PARTITION_PROPERTY, C::GET_PARTITION_PROPERTY_EX];
        // These name no partition: they are about the caller's own.
        let unnamed = [
            C::FLUSH_VIRTUAL_ADDRESS_SPACE,
            C::FLUSH_VIRTUAL_ADDRESS_LIST,
            C::FLUSH_VIRTUAL_ADDRESS_SPACE_EX,
            C::FLUSH_VIRTUAL_ADDRESS_LIST_EX,
            C::SEND_SYNTHETIC_CLUSTER_IPI,
            C::SEND_SYNTHETIC_CLUSTER_IPI_EX,
            C::NOTIFY_LONG_SPIN_WAIT,
            C::POST_MESSAGE,
            C::SIGNAL_EVENT,
        ];
        bench.switch_to_child(id, 0);
        let named = CALLS.iter().filter(|(code, _)| !unnamed.contains(code));
        for &(code, is_list) in named {
            for target in [HvPartitionId::SELF, id, other, ROOT_ID] {
                let mut word = HvHypercallInput::simple(code);
                if is_list {
                    word.set_rep_count(1);
                }
                let mut input = [0_u8; 128];
                input[..8].copy_from_slice(&target.0.to_le_bytes());
                let property = HvPartitionPropertyCode::PRIVILEGE_FLAGS.0;
                if own.contains(&code) {
                    input[8..12].copy_from_slice(&property.to_le_bytes());
                }
                if matches!(
                    code,
                    C::REGISTER_INTERCEPT_RESULT | C::UNREGISTER_INTERCEPT_RESULT
                ) {
                    input[8..12].copy_from_slice(&HvVpIndex::ANY.0.to_le_bytes());
                    input[12] = 2;
                }
                let result = bench.call(word, &input).call_status();
                let itself = target == HvPartitionId::SELF || target == id;
                let expected = if own.contains(&code) && itself {
                    HvStatus::SUCCESS
                } else {
                    HvStatus::ACCESS_DENIED
                };
                if code == C::CREATE_PARTITION {
                    let refusals = [HvStatus::ACCESS_DENIED, HvStatus::PARTITION_TOO_DEEP];
                    assert!(refusals.contains(&result), "{result:?}");
                } else {
                    assert_eq!(result, expected, "{code:?} for {target:?}");
                }
            }
        }
        assert_eq!(bench.vps(id).len() + bench.vps(other).len(), 2);
        bench.tear_down();
    }
}

#[test]
fn what_is_no_call_is_an_invalid_code_unless_the_parent_wants_it() {
    for mut bench in Bench::each() {
        let id = bench.child_with_vp();
        let unknown = control(HvCallCode(0x1FF));
        assert_eq!(
            status(bench.run(unknown, 0, 0)),
            HvStatus::INVALID_HYPERCALL_CODE
        );
        bench.switch_to_child(id, 0);
        assert_eq!(
            status(bench.run(unknown, 1, 2)),
            HvStatus::INVALID_HYPERCALL_CODE
        );
        bench.switch_to_root();
        let input = HvInputInstallIntercept {
            partition_id: id,
            access_type: HvInterceptAccessMask::EXECUTE,
            intercept_type: HvInterceptType::HYPERCALL,
            ..Default::default()
        };
        assert_eq!(
            bench.simple(C::INSTALL_INTERCEPT, &input),
            HvStatus::SUCCESS
        );
        bench.switch_to_child(id, 0);
        assert_eq!(bench.run(unknown, 1, 2), Outcome::Intercepted);
        let page = bench.hand().intercept_page.frame.spfn().address();
        let message: HvMessage = bench.read_machine(page);
        assert_eq!(
            message.header.message_type,
            HvMessageType::HYPERCALL_INTERCEPT
        );
        let payload: HvX64HypercallInterceptMessage = message.payload_as().unwrap();
        assert_eq!((payload.rcx, payload.rdx, payload.r8), (unknown, 1, 2));
    }
}
