//! Whatever a guest or the root writes, the APIC stays an APIC.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Read(u32),
    Write(u32, u64),
    ReadPage(u32),
    WritePage(u32, u32),
    Synthetic(u32, u64),
    Request(u32, bool, bool, u64, u32),
    Base(u64),
    Enter,
    Restore(Box<[u8; LapicState::SIZE]>),
}

fn msr() -> impl Strategy<Value = u32> {
    prop_oneof![20 => 0x800u32..0x840, 1 => Just(0x1B), 1 => any::<u32>()]
}

/// Values near those that mean something, and any.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..0x2000,
        Just(0),
        Just(0x1FF),
        (0u64..0x100).prop_map(|v| 0xFEE0_0000 | v << 8),
        (any::<u32>(), 0u64..0x10_0000).prop_map(|(d, low)| u64::from(d) << 32 | low),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => msr().prop_map(Step::Read),
        10 => (msr(), value()).prop_map(|(m, v)| Step::Write(m, v)),
        2 => (0u32..0x100).prop_map(Step::ReadPage),
        6 => (0u32..0x40, value()).prop_map(|(i, v)| Step::WritePage(i, v as u32)),
        1 => (0x4000_0070u32..0x4000_0073, value()).prop_map(|(m, v)| Step::Synthetic(m, v)),
        3 => (0u32..12, any::<bool>(), any::<bool>(), value(), 0u32..0x110)
            .prop_map(|(k, l, d, id, v)| Step::Request(k, l, d, id, v)),
        1 => value().prop_map(Step::Base),
        3 => Just(Step::Enter),
        1 => prop::array::uniform32(any::<u8>()).prop_map(|seed| {
            Step::Restore(Box::new(core::array::from_fn(|i| seed[i % 32] ^ i as u8)))
        }),
    ]
}

/// What the entry path of a VP does.
fn enter(apic: &mut LocalApic) {
    if apic.take_init() {
        assert!(!apic.nmi_pending());
    }
    if apic.is_waiting_for_startup() {
        apic.take_startup();
        return;
    }
    apic.take_nmi();
    if apic.take_ext_int().is_none()
        && let Some(vector) = apic.next_interrupt()
    {
        assert!(vector >= 16);
        assert!(apic.begin(vector));
        assert_ne!(apic.next_interrupt(), Some(vector));
    }
}

fn run(apic: &mut LocalApic, step: Step, now: RefTime) {
    match step {
        Step::Read(msr) => {
            let _ = apic.read(msr, || now);
        }
        Step::Write(msr, value) => {
            let before = apic.clone();
            if let Err(GeneralProtection) = apic.write(msr, value, now) {
                assert_eq!(apic.save(now), before.save(now), "a fault has no effect");
            }
        }
        Step::ReadPage(index) if apic.is_in_page() => {
            apic.read_page(index, || now);
        }
        Step::WritePage(index, value) if apic.is_in_page() => {
            let _ = apic.write_page(index, value, now);
        }
        Step::ReadPage(_) | Step::WritePage(..) => {}
        Step::Synthetic(msr, value) => {
            let _ = apic.read_synthetic(msr);
            let _ = apic.write_synthetic(msr, value);
        }
        Step::Request(kind, level, logical, id, vector) => {
            if let Ok(message) = InterruptMessage::from_request(kind, level, logical, id, vector)
                && apic.matches(message.destination, false)
            {
                apic.accept(message.delivery);
            }
        }
        Step::Base(value) => {
            let _ = apic.set_base(value);
        }
        Step::Enter => enter(apic),
        Step::Restore(bytes) => apic.restore(&LapicState::from_bytes(&bytes), now),
    }
}

/// What holds in every reachable state.
fn check(apic: &LocalApic, now: RefTime) {
    if let Some(vector) = apic.next_interrupt() {
        assert!(vector >= 16);
    }
    if !apic.is_software_enabled() {
        assert_eq!(apic.next_deadline(), None);
        assert_eq!(apic.arbitration_priority(), None);
    }
    let saved = apic.save(now);
    let mut copy = apic.clone();
    copy.restore(&saved, now);
    assert_eq!(copy.save(now), saved, "what is saved can be restored");
    assert_eq!(copy.next_interrupt(), apic.next_interrupt());
}

proptest! {
    #[test]
    fn nothing_panics_and_the_invariants_hold(
        id in any::<u32>(),
        bsp in any::<bool>(),
        steps in prop::collection::vec((step(), 0u64..100_000), 1..100),
    ) {
        let mut apic = LocalApic::new(id, bsp);
        let mut now = RefTime::ZERO;
        for (step, delay) in steps {
            now = now.saturating_add(RefTime::from_units(delay));
            run(&mut apic, step, now);
            apic.tick(now);
            check(&apic, now);
        }
    }
}
