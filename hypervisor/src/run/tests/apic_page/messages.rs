//! Messages between local APICs in xAPIC mode.

use tlfs::HvPartitionId;

use super::{BASE, Touch, XAPIC, at, index, let_in, paged};
use crate::apic::Effect;
use crate::arch::testing::Cause;
use crate::partition::VpRef;
use crate::partition::table::{VpPlace, slot_of};
use crate::run::testing::Bench;
use crate::run::tests::{Asked, Mode, Scene, gprs};
use crate::time::RefTime;

/// The lower half of the interrupt command.
const ICR: u64 = BASE + 0x300;

/// Gives each of a child's VPs a logical id, and takes VP 0 in hand.
fn group(bench: &mut Bench, format: u32, ids: [u8; 3]) -> HvPartitionId {
    let id = bench.caller();
    bench.switch_to_root();
    for index in 1..3 {
        bench.add_vp(id, index);
    }
    for (vp, logical) in (0..).zip(ids) {
        bench.with_vp(id, vp, |vp| {
            let bsp = u64::from(vp.who.index == 0) << 8;
            vp.apic.set_base(XAPIC & !0x100 | bsp).unwrap();
            vp.apic.set_waiting_for_startup(false);
            let_in(vp);
            let now = RefTime::ZERO;
            let _ = vp.apic.write_page(index::DFR, format, now);
            let _ = vp
                .apic
                .write_page(index::LDR, u32::from(logical) << 24, now);
        });
    }
    bench.switch_to_child(id, 0);
    id
}

/// Sends a command, whose lower half is written by an instruction of VP 0.
fn send(bench: &mut Bench, destination: u8, command: u64) {
    let high = u32::from(destination) << 24;
    let apic = &mut bench.hand().apic;
    assert_eq!(
        apic.write_page(index::DESTINATION, high, RefTime::ZERO),
        Effect::None
    );
    let after = Touch::write(ICR, at(ICR, command)).act(bench);
    assert_eq!(after.message, None);
}

#[test]
fn logical_destinations_reach_the_vps_that_have_such_ids() {
    let flat: [(u8, [bool; 3]); 4] = [
        (0x06, [false, true, true]),
        (0x01, [true, false, false]),
        (0x08, [false, false, false]),
        (0xFF, [true, true, true]),
    ];
    let cluster: [(u8, [bool; 3]); 4] = [
        (0x13, [true, true, false]),
        (0x2F, [false, false, true]),
        (0x31, [false, false, false]),
        (0xFF, [true, true, true]),
    ];
    let cases = [
        (u32::MAX, [1, 2, 4], flat),
        (0x0FFF_FFFF, [0x11, 0x12, 0x21], cluster),
    ];
    for (format, ids, table) in cases {
        for mut bench in paged() {
            let id = group(&mut bench, format, ids);
            for (vector, (destination, expected)) in (0x41_u8..).zip(table) {
                send(&mut bench, destination, 0x800 | u64::from(vector));
                let got = [0, 1, 2].map(|index| {
                    let asked = bench.with_vp(id, index, |vp| vp.apic.next_interrupt());
                    asked.flatten() == Some(vector)
                });
                assert_eq!(got, expected, "{destination:#x}");
            }
        }
    }
}

#[test]
fn a_vp_that_another_processor_has_in_hand_is_found_by_its_logical_id() {
    for mut bench in paged() {
        let id = group(&mut bench, u32::MAX, [1, 2, 4]);
        let slot = slot_of(id).unwrap();
        let hv = bench.hv;
        let place = hv.partitions.vp(VpRef { slot, index: 1 });
        let taken = core::mem::replace(&mut *place.lock(), VpPlace::running(1));
        let VpPlace::Home(mut vp) = taken else {
            panic!("at home");
        };
        hv.show_addressing(&vp);
        send(&mut bench, 4, 0x841);
        assert_eq!(hv.lp(1).mailbox.take_deliveries(&mut vp.apic), 0);
        send(&mut bench, 2, 0x842);
        assert_eq!(hv.lp(1).mailbox.take_deliveries(&mut vp.apic), 1);
        assert_eq!(vp.apic.next_interrupt(), Some(0x42));
        // It gets another id in that processor's hands.
        let effect = vp.apic.write_page(index::LDR, 0x4000_0000, RefTime::ZERO);
        assert_eq!(effect, Effect::Readdressed);
        hv.show_addressing(&vp);
        send(&mut bench, 2, 0x843);
        assert_eq!(hv.lp(1).mailbox.take_deliveries(&mut vp.apic), 0);
        send(&mut bench, 0x40, 0x844);
        assert_eq!(hv.lp(1).mailbox.take_deliveries(&mut vp.apic), 1);
        *place.lock() = VpPlace::Home(vp);
    }
}

#[test]
fn what_the_guest_writes_is_shown_to_other_processors() {
    for mut bench in paged() {
        let who = bench.hand().who;
        let hv = bench.hv;
        let shown = || hv.partitions.addressing(who).get();
        for (offset, value) in [(0xD0, 0x1200_0000), (0xE0, 0), (0xD0, 0x3400_0000)] {
            let touch = Touch::write(BASE + offset, at(BASE + offset, value));
            assert_eq!(touch.act(&mut bench).message, None);
            assert_eq!(shown(), bench.hand().apic.addressing());
        }
        let x2apic = Scene {
            asked: Asked::Nothing,
            mode: Mode::Long,
            stepping: false,
            code: &[0x0F, 0x30],
            cause: Cause::Wrmsr,
            gprs: gprs(|gprs| (gprs.rcx, gprs.rax) = (0x1B, 0xFEE0_0D00)),
        };
        let before = shown();
        assert_eq!(x2apic.act(&mut bench).event, None);
        assert_eq!(shown(), bench.hand().apic.addressing());
        assert_ne!(shown(), before);
    }
}

#[test]
fn a_processor_is_started_through_the_page() {
    for mut bench in paged() {
        let id = group(&mut bench, u32::MAX, [1, 2, 4]);
        send(&mut bench, 2, 0x4500);
        send(&mut bench, 2, 0x4608);
        let started = bench.with_vp(id, 2, |vp| (vp.apic.take_init(), vp.apic.take_startup()));
        assert_eq!(started, Some((true, Some(8))));
        let untouched = bench.with_vp(id, 1, |vp| vp.apic.has_unmaskable());
        assert_eq!(untouched, Some(false));
    }
}
