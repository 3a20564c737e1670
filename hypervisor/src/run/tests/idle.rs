//! What wakes a VP that sleeps.

use crate::apic::{Delivery, Trigger};
use crate::arch::state::rflags;
use crate::partition::Vp;
use crate::run::Cpu;
use crate::run::testing::Bench;

/// A child's VP in hand that takes no interrupts.
fn child(bench: &mut Bench) -> (&mut Cpu, &mut Vp) {
    let id = bench.child_with_vp();
    bench.switch_to(id, 0);
    let (cpu, vp) = bench.parts();
    vp.suspend.explicit = false;
    vp.hw.set_rflags(rflags::FIXED);
    vp.apic.switch_on();
    (cpu, vp)
}

fn give(vp: &mut Vp, vector: u8) -> bool {
    let trigger = Trigger::Edge;
    vp.apic.accept(Delivery::Fixed { vector, trigger })
}

/// Whether a VP that takes no interrupts runs on when one comes, after a HLT or after a read of GUEST_IDLE.
fn wakes(mut bench: Bench, idle: bool) -> bool {
    let (cpu, vp) = child(&mut bench);
    (vp.halted, vp.idle) = (true, false);
    if idle {
        cpu.guest_idle(vp);
    }
    assert!(vp.halted && !vp.is_runnable());
    assert!(give(vp, 0x41));
    vp.is_runnable()
}

#[test]
fn an_idle_guest_wakes_for_an_interrupt_that_it_does_not_take() {
    assert!(Bench::each().all(|bench| wakes(bench, true)));
}

#[test]
fn an_idle_guest_wakes_for_an_interrupt_of_the_class_that_it_serves() {
    // Linux waits for a spin lock in the handler of the SynIC's vector, which it ends last; who gives the lock up sends a
    // vector of the same class.
    let (in_service, kick) = (0xF3, 0xF7);
    for mut bench in Bench::each() {
        let (cpu, vp) = child(&mut bench);
        assert!(give(vp, in_service));
        vp.apic.begin(in_service);
        cpu.guest_idle(vp);
        assert!(vp.halted && !vp.is_runnable());
        assert!(give(vp, kick) && vp.is_runnable());
    }
}

#[test]
fn a_halted_guest_sleeps_on_while_it_takes_no_interrupts() {
    assert!(!Bench::each().any(|bench| wakes(bench, false)));
}

#[test]
fn a_guest_with_an_interrupt_pending_does_not_begin_to_idle() {
    for mut bench in Bench::each() {
        let (cpu, vp) = child(&mut bench);
        assert!(give(vp, 0x41));
        cpu.guest_idle(vp);
        assert!(!vp.halted && !vp.idle);
    }
}
