//! Messages and events between a child and its parent.

use tlfs::HvCallCode as C;
use tlfs::*;

use crate::mem::addr::{Gpfn, Spa};
use crate::mem::format::Rights;
use crate::run::testing::{Bench, Outcome};

pub(super) const VP: HvVpIndex = HvVpIndex(0);
/// Where the guest has its pages.
const MESSAGES: u64 = 6;
const EVENTS: u64 = 7;
pub(super) const SINT: u32 = 2;
pub(super) const VECTOR: u8 = 0xF3;
pub(super) const TYPE: HvMessageType = HvMessageType(1);

/// A child whose VP 0 takes messages and events at SINT2, as Linux sets it up.
pub(super) fn scenes() -> impl Iterator<Item = (Bench, HvPartitionId)> {
    Bench::each().map(|mut bench| {
        let id = bench.child_with_vp();
        let page = |gpfn| HvPageMsr::new().with_enabled(true).with_gpfn(gpfn);
        let sint = HvSynicSint::new().with_vector(VECTOR).into_bits();
        let values = [
            (HvRegisterName::SIMP, page(MESSAGES).into_bits()),
            (HvRegisterName::SIEFP, page(EVENTS).into_bits()),
            (HvRegisterName::SINT2, sint),
            (HvRegisterName::SCONTROL, 1),
        ];
        assert_eq!(bench.set_registers(id, VP, &values).0, HvStatus::SUCCESS);
        bench.with_vp(id, 0, |vp| vp.apic.switch_on());
        (bench, id)
    })
}

fn post(bench: &mut Bench, id: HvPartitionId, text: &[u8]) -> HvStatus {
    let mut message = HvMessage::default();
    message.header.message_type = TYPE;
    message.header.payload_size = text.len() as u8;
    message.payload[..text.len()].copy_from_slice(text);
    let input = HvInputPostMessageDirect::new(id, VP, SINT, &message);
    bench.simple(C::POST_MESSAGE_DIRECT, &input)
}

fn signal(bench: &mut Bench, id: HvPartitionId, flag: u16) -> Result<u8, HvStatus> {
    let input = HvInputSignalEventDirect {
        target_partition: id,
        target_vp: VP,
        target_sint: SINT as u8,
        flag_number: flag,
        ..Default::default()
    };
    let answer = bench.ask::<HvOutputSignalEventDirect>(C::SIGNAL_EVENT_DIRECT, &input);
    answer.map(|answer| answer.newly_signaled)
}

/// Where the guest finds a page of its own in machine memory.
fn page(bench: &Bench, id: HvPartitionId, gpfn: u64) -> Spa {
    let found = bench.with_partition(id, |child| child.resolve(Gpfn(gpfn).address(), Rights::RW));
    found.expect("the guest can use it")
}

fn slot(bench: &Bench, id: HvPartitionId) -> (Spa, HvMessage) {
    let at = Spa(page(bench, id, MESSAGES).0 + u64::from(SINT) * HV_MESSAGE_SIZE as u64);
    (at, bench.read_machine(at))
}

/// The guest takes the message; whether it has to write EOM.
pub(super) fn take(bench: &mut Bench, id: HvPartitionId) -> (HvMessage, bool) {
    let (at, message) = slot(bench, id);
    bench.hv.phys.copy_to(at, &[0; 4]).unwrap();
    let (_, emptied) = slot(bench, id);
    (message, emptied.header.flags.message_pending())
}

/// Takes the interrupt that VP 0 is to get.
pub(super) fn interrupt(bench: &mut Bench, id: HvPartitionId) -> Option<u8> {
    let taken = bench.with_vp(id, 0, |vp| {
        let vector = vp.apic.next_interrupt()?;
        vp.apic.begin_auto_eoi(vector);
        Some(vector)
    });
    taken.flatten()
}

#[test]
fn a_message_comes_to_its_slot_with_an_interrupt() {
    for (mut bench, id) in scenes() {
        assert_eq!(post(&mut bench, id, b"hello"), HvStatus::SUCCESS);
        assert_eq!(interrupt(&mut bench, id), Some(VECTOR));
        let (message, eom) = take(&mut bench, id);
        assert_eq!(message.header.message_type, TYPE);
        assert_eq!(message.payload_bytes(), b"hello");
        assert!(!eom);
        bench.tear_down();
    }
}

#[test]
fn a_full_slot_is_left_alone_and_its_guest_is_asked_to_say_when_it_is_free() {
    for (mut bench, id) in scenes() {
        assert_eq!(post(&mut bench, id, b"one"), HvStatus::SUCCESS);
        assert_eq!(post(&mut bench, id, b"two"), HvStatus::OBJECT_IN_USE);
        let (message, eom) = take(&mut bench, id);
        assert_eq!(message.payload_bytes(), b"one");
        assert!(eom);
        assert_eq!(post(&mut bench, id, b"two"), HvStatus::SUCCESS);
        bench.tear_down();
    }
}

/// The SINTs that the VP's intercept message says are free, if it has one.
fn told(bench: &mut Bench, id: HvPartitionId) -> Option<u16> {
    let (stopped, at) = bench.with_vp(id, 0, |vp| {
        let at = vp.intercept_page.frame.spfn().address();
        (vp.suspend.intercept.suspended(), at)
    })?;
    let message: HvMessage = bench.read_machine(at);
    let deliverable = message.header.message_type == HvMessageType::SYNIC_SINT_DELIVERABLE;
    (stopped && deliverable).then(|| u16::from_le_bytes([message.payload[40], message.payload[41]]))
}

#[test]
fn a_parent_that_waits_for_a_slot_is_told_once_when_it_is_free() {
    const SINTS: u64 = 1 << (48 + SINT);
    const EOM: u32 = HV_X64_MSR_EOM;
    for (mut bench, id) in scenes() {
        let notify = [(HvRegisterName::DELIVERABILITY_NOTIFICATIONS, SINTS)];
        assert_eq!(post(&mut bench, id, b"one"), HvStatus::SUCCESS);
        assert_eq!(post(&mut bench, id, b"two"), HvStatus::OBJECT_IN_USE);
        assert_eq!(bench.set_registers(id, VP, &notify).0, HvStatus::SUCCESS);
        assert_eq!(bench.with_vp(id, 0, |vp| vp.sint_due), Some(false));
        assert!(take(&mut bench, id).1);
        bench.switch_to_child(id, 0);
        bench.hand().suspend.explicit = false;
        let (cpu, vp) = bench.parts();
        let effect = cpu.hv.with_synic(vp.who, |synic| synic.write(EOM, 0));
        cpu.synic_written(vp, effect.unwrap().unwrap());
        bench.switch_to_root();
        assert_eq!(told(&mut bench, id), Some(1 << SINT));
        let left = bench.with_vp(id, 0, |vp| vp.notifications.sints());
        assert_eq!(left, Some(0));
        bench.tear_down();
    }
}

#[test]
fn a_parent_that_asks_when_the_slot_is_free_already_is_told_at_the_next_turn() {
    const SINTS: u64 = 1 << (48 + SINT);
    for (mut bench, id) in scenes() {
        let notify = [(HvRegisterName::DELIVERABILITY_NOTIFICATIONS, SINTS)];
        assert_eq!(bench.set_registers(id, VP, &notify).0, HvStatus::SUCCESS);
        // A VP that sleeps gets a turn for it, and sleeps on.
        bench.with_vp(id, 0, |vp| {
            vp.halted = true;
            vp.suspend.explicit = false;
            assert!(vp.is_runnable());
        });
        bench.switch_to(id, 0);
        let (cpu, vp) = bench.parts();
        cpu.report_free_slots(vp);
        assert!(vp.halted);
        bench.switch_to_root();
        assert_eq!(told(&mut bench, id), Some(1 << SINT));
        bench.tear_down();
    }
}

#[test]
fn an_event_is_new_until_its_guest_has_taken_it() {
    for (mut bench, id) in scenes() {
        assert_eq!(signal(&mut bench, id, 77), Ok(1));
        assert_eq!(interrupt(&mut bench, id), Some(VECTOR));
        assert_eq!(event_flags(&bench, id), [0, 1 << 13]);
        assert_eq!(signal(&mut bench, id, 77), Ok(0));
        assert_eq!(interrupt(&mut bench, id), None, "it has one for it");
        assert_eq!(signal(&mut bench, id, 2047), Ok(1));
        let refused = signal(&mut bench, id, 2048);
        assert_eq!(refused, Err(HvStatus::INVALID_PARAMETER));
        bench.tear_down();
    }
}

#[test]
fn what_is_off_takes_nothing() {
    for (mut bench, id) in scenes() {
        let masked = HvSynicSint::RESET.into_bits();
        for (register, off, on) in [
            (HvRegisterName::SINT2, masked, u64::from(VECTOR)),
            (HvRegisterName::SCONTROL, 0, 1),
            (HvRegisterName::SIMP, 0, MESSAGES << 12 | 1),
            (HvRegisterName::SIEFP, 0, EVENTS << 12 | 1),
        ] {
            bench.set_registers(id, VP, &[(register, off)]);
            let inactive = HvStatus::INVALID_SYNIC_STATE;
            if register != HvRegisterName::SIEFP {
                assert_eq!(post(&mut bench, id, b""), inactive, "{register:?}");
            }
            if register != HvRegisterName::SIMP {
                assert_eq!(signal(&mut bench, id, 1), Err(inactive), "{register:?}");
            }
            bench.set_registers(id, VP, &[(register, on)]);
        }
        assert_eq!(post(&mut bench, id, b""), HvStatus::SUCCESS);
        assert_eq!(signal(&mut bench, id, 1), Ok(1));
        bench.tear_down();
    }
}

#[test]
fn a_page_that_is_switched_on_again_is_empty() {
    for (mut bench, id) in scenes() {
        post(&mut bench, id, b"old");
        assert_eq!(signal(&mut bench, id, 5), Ok(1));
        for (register, gpfn) in [(HvRegisterName::SIMP, 9), (HvRegisterName::SIEFP, 10)] {
            bench.set_registers(id, VP, &[(register, 0)]);
            bench.set_registers(id, VP, &[(register, gpfn << 12 | 1)]);
            let bytes: [u8; 4096] = bench.read_machine(page(&bench, id, gpfn));
            assert_eq!(bytes, [0; 4096]);
        }
        bench.tear_down();
    }
}

/// The first event flags of the SINT.
pub(super) fn event_flags(bench: &Bench, id: HvPartitionId) -> [u64; 2] {
    bench.read_machine(Spa(page(bench, id, EVENTS).0 + u64::from(SINT) * 256))
}

/// A call by the child itself, with the parameters in its memory.
pub(super) fn from_child(bench: &mut Bench, id: HvPartitionId, code: C, bytes: &[u8]) -> Outcome {
    bench.switch_to_child(id, 0);
    bench.write(bench.input(), bytes);
    let outcome = bench.run(u64::from(code.0), bench.input().0, 0);
    bench.switch_to_root();
    outcome
}

#[test]
fn a_connection_that_does_not_exist_is_the_parents_if_it_asks() {
    for (mut bench, id) in scenes() {
        let post = [
            [4_u8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0].as_slice(),
            &[0; 240],
        ];
        let post = post.concat();
        let signal = [7, 0, 0, 0, 0, 0, 0, 0];
        let unknown = HvHypercallResult::simple(HvStatus::INVALID_CONNECTION_ID);
        for (code, bytes) in [(C::POST_MESSAGE, &post[..]), (C::SIGNAL_EVENT, &signal)] {
            let outcome = from_child(&mut bench, id, code, bytes);
            assert_eq!(outcome, Outcome::Result(unknown, 1), "{code:?}");
        }
        let input = HvInputInstallIntercept {
            partition_id: id,
            access_type: HvInterceptAccessMask::EXECUTE,
            intercept_type: HvInterceptType::UNKNOWN_SYNIC_CONNECTION,
            ..Default::default()
        };
        let installed = bench.simple(C::INSTALL_INTERCEPT, &input);
        assert_eq!(installed, HvStatus::SUCCESS);
        let outcome = from_child(&mut bench, id, C::POST_MESSAGE, &post);
        assert_eq!(outcome, Outcome::Intercepted);
        bench.tear_down();
    }
}

#[test]
fn a_message_that_no_port_could_carry_is_refused_before_anybody_sees_it() {
    for (mut bench, id) in scenes() {
        let refused = HvHypercallResult::simple(HvStatus::INVALID_PARAMETER);
        for (at, value) in [(4, 1), (8, 0), (11, 0x80), (12, 241)] {
            let mut bytes = [0_u8; 256];
            bytes[8] = 1;
            bytes[at] = value;
            let outcome = from_child(&mut bench, id, C::POST_MESSAGE, &bytes);
            assert_eq!(outcome, Outcome::Result(refused, 1), "byte {at}");
        }
        bench.tear_down();
    }
}
