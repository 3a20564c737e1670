use tlfs::{HvRegisterName, HvStatus, HvVpIndex};

use super::*;
use crate::apic::{Delivery, Trigger};
use crate::run::testing::Bench;

const VP: HvVpIndex = HvVpIndex(0);
const GPFN: u64 = 6;

/// A VP with its page switched on, in hand, whose APIC has just been given an interrupt that it takes.
fn scenes(vectors: &[u8]) -> impl Iterator<Item = Bench> {
    Bench::each().map(move |mut bench| {
        let id = bench.child_with_vp();
        let page = HvPageMsr::new().with_enabled(true).with_gpfn(GPFN);
        let values = [(HvRegisterName::VP_ASSIST_PAGE, page.into_bits())];
        assert_eq!(bench.set_registers(id, VP, &values).0, HvStatus::SUCCESS);
        bench.switch_to_child(id, 0);
        let vp = bench.hand();
        vp.apic.switch_on();
        for &vector in vectors {
            request(vp, vector, Trigger::Edge);
        }
        bench
    })
}

fn request(vp: &mut Vp, vector: u8, trigger: Trigger) {
    vp.apic.accept(Delivery::Fixed { vector, trigger });
}

fn begin(vp: &mut Vp) {
    let vector = vp.apic.next_interrupt().expect("requested");
    assert!(vp.apic.begin(vector));
    vp.offer_lazy_eoi();
}

/// The guest's end of an interrupt: whether it has to write an EOI.
fn end(vp: &Vp) -> bool {
    let page = vp.assist.as_ref().expect("a child's");
    page.apic_assist.swap(0, Ordering::SeqCst) == 0
}

#[test]
fn an_interrupt_that_nothing_waits_for_ends_without_an_exit() {
    for mut bench in scenes(&[0x40]) {
        let vp = bench.hand();
        begin(vp);
        assert_eq!(vp.end_lazily(), None, "it is not over");
        assert!(!end(vp));
        let over = Effect::EndOfInterrupt {
            vector: 0x40,
            level: false,
        };
        assert_eq!(vp.end_lazily(), Some(over));
        assert!(!vp.lazy_eoi && !vp.apic.ends_quietly());
    }
}

#[test]
fn an_interrupt_that_another_waits_for_is_ended_by_an_eoi() {
    for mut bench in scenes(&[0x40, 0x30]) {
        let vp = bench.hand();
        begin(vp);
        assert!(!vp.lazy_eoi && end(vp), "0x30 waits");
    }
    for mut bench in scenes(&[0x40]) {
        let (cpu, vp) = bench.parts();
        begin(vp);
        request(vp, 0x30, Trigger::Edge);
        cpu.deliver_events(vp);
        assert!(!vp.lazy_eoi && end(vp), "it came while 0x40 was served");
    }
}

#[test]
fn interrupts_that_interrupt_others_and_those_of_levels_are_ended_by_an_eoi() {
    for mut bench in scenes(&[0x40]) {
        let (cpu, vp) = bench.parts();
        begin(vp);
        request(vp, 0x50, Trigger::Edge);
        cpu.deliver_events(vp);
        vp.apic.begin(0x50);
        vp.offer_lazy_eoi();
        assert!(!vp.lazy_eoi && end(vp));
    }
    for mut bench in scenes(&[]) {
        let vp = bench.hand();
        request(vp, 0x40, Trigger::Level);
        begin(vp);
        assert!(!vp.lazy_eoi && end(vp));
    }
}

#[test]
fn a_page_that_is_off_offers_nothing_and_one_that_goes_away_takes_it_back() {
    for mut bench in scenes(&[0x40]) {
        let id = bench.caller();
        begin(bench.hand());
        bench.switch_to_root();
        let off = [(HvRegisterName::VP_ASSIST_PAGE, 0)];
        assert_eq!(bench.set_registers(id, VP, &off).0, HvStatus::SUCCESS);
        bench.with_vp(id, 0, |vp| {
            assert!(!vp.lazy_eoi && end(vp));
            let _ = vp.apic.end_of_interrupt();
            request(vp, 0x41, Trigger::Edge);
            begin(vp);
            assert!(!vp.lazy_eoi && end(vp));
        });
        bench.tear_down();
    }
}
