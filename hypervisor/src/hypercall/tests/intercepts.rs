//! From a stopped VP to its parent, and back.

use tlfs::HvCallCode as C;
use tlfs::*;

use crate::run::testing::{Bench, Outcome};

const UNKNOWN: u64 = 0x1FF;
const VECTOR: u8 = 0x40;

/// A root that listens at SINT0, and children with VPs 0 to 2 whose unknown calls it wants to see: on a machine of each
/// vendor.
fn scenes(children: usize) -> impl Iterator<Item = (Bench, Vec<HvPartitionId>)> {
    Bench::each().map(move |bench| scene(bench, children))
}

fn scene(mut bench: Bench, children: usize) -> (Bench, Vec<HvPartitionId>) {
    let sint = HvSynicSint::new().with_vector(VECTOR).into_bits();
    let values = [
        (HvRegisterName::SCONTROL, 1),
        (HvRegisterName::SIMP, 1),
        (HvRegisterName::SINT0, sint),
    ];
    let set = bench.set_registers(HvPartitionId::SELF, HvVpIndex::SELF, &values);
    assert_eq!(set, (HvStatus::SUCCESS, 3));
    let ids: Vec<_> = (0..children)
        .map(|_| {
            let id = bench.child_with_vp();
            bench.add_vp(id, 1);
            bench.add_vp(id, 2);
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
            id
        })
        .collect();
    (bench, ids)
}

fn stop(bench: &mut Bench, id: HvPartitionId, index: u16) {
    bench.switch_to_child(id, index);
    assert_eq!(bench.run(UNKNOWN, 0, 0), Outcome::Intercepted);
    bench.switch_to_root();
}

/// What is in the slot of SINT0: whose VP, and whether there is more. The slot is empty afterwards, and EOM is written.
fn taken(bench: &mut Bench) -> Option<(HvPartitionId, u32, bool)> {
    let slot = bench.hv.lp(0).root.messages.spfn().address();
    let message: HvMessage = bench.read_machine(slot);
    if message.header.message_type == HvMessageType::NONE {
        return None;
    }
    assert_eq!(message.header.message_type, HvMessageType::OPAQUE_INTERCEPT);
    let payload: HvOpaqueInterceptMessage = message.payload_as().unwrap();
    let more = message.header.flags.message_pending();
    bench.hv.phys.copy_to(slot, &[0; 4]).unwrap();
    let eom = [(HvRegisterName::EOM, 0)];
    let set = bench.set_registers(HvPartitionId::SELF, HvVpIndex::SELF, &eom);
    assert_eq!(set, (HvStatus::SUCCESS, 1));
    Some((
        HvPartitionId(message.header.sender),
        payload.vp_index.0,
        more,
    ))
}

#[test]
fn a_stopped_vp_is_told_through_sint0_and_goes_on_when_its_suspend_bit_is_cleared() {
    for (mut bench, ids) in scenes(1) {
        let started = [(HvRegisterName::EXPLICIT_SUSPEND, 0)];
        bench.set_registers(ids[0], HvVpIndex(0), &started);
        stop(&mut bench, ids[0], 0);
        let suspended = bench.register(ids[0], HvVpIndex(0), HvRegisterName::INTERCEPT_SUSPEND);
        assert_eq!(suspended, Ok(1));
        assert!(!bench.with_vp(ids[0], 0, |vp| vp.is_runnable()).unwrap());
        let pending = bench.hand().apic.next_interrupt();
        // The root's APIC has it, whether or not the root takes interrupts yet.
        assert!(pending.is_none_or(|vector| vector == VECTOR));
        assert_eq!(taken(&mut bench), Some((ids[0], 0, false)));
        // Registers first, then the suspend bit, in one call.
        let values = [
            (HvRegisterName::RAX, 5),
            (HvRegisterName::INTERCEPT_SUSPEND, 0),
        ];
        let set = bench.set_registers(ids[0], HvVpIndex(0), &values);
        assert_eq!(set, (HvStatus::SUCCESS, 2));
        let vp = bench.with_vp(ids[0], 0, |vp| (vp.is_runnable(), vp.hw.gprs().rax));
        assert_eq!(vp, Some((true, 5)));
        bench.tear_down();
    }
}

#[test]
fn registers_behind_the_suspend_bit_are_not_set_any_more() {
    for (mut bench, ids) in scenes(1) {
        bench.set_registers(
            ids[0],
            HvVpIndex(0),
            &[(HvRegisterName::EXPLICIT_SUSPEND, 0)],
        );
        stop(&mut bench, ids[0], 0);
        let values = [
            (HvRegisterName::RAX, 5),
            (HvRegisterName::INTERCEPT_SUSPEND, 0),
            (HvRegisterName::RBX, 6),
        ];
        let set = bench.set_registers(ids[0], HvVpIndex(0), &values);
        assert_eq!(set, (HvStatus::INVALID_VP_STATE, 2));
        bench.tear_down();
    }
}

#[test]
fn notices_come_one_by_one_in_their_order_and_say_that_there_are_more() {
    for (mut bench, ids) in scenes(2) {
        for (id, index) in [(ids[0], 2), (ids[1], 0), (ids[0], 1)] {
            stop(&mut bench, id, index);
        }
        // The first was alone when it came; a later one marks the slot.
        assert_eq!(taken(&mut bench), Some((ids[0], 2, true)));
        assert_eq!(taken(&mut bench), Some((ids[1], 0, true)));
        assert_eq!(taken(&mut bench), Some((ids[0], 1, false)));
        assert_eq!(taken(&mut bench), None);
        bench.tear_down();
    }
}

#[test]
fn what_ends_is_not_told_any_more() {
    for (mut bench, ids) in scenes(2) {
        for (id, index) in [
            (ids[0], 0),
            (ids[1], 0),
            (ids[0], 1),
            (ids[1], 1),
            (ids[1], 2),
        ] {
            stop(&mut bench, id, index);
        }
        assert_eq!(bench.finalize(ids[0]), HvStatus::SUCCESS);
        let input = HvInputDeleteVp {
            partition_id: ids[1],
            vp_index: HvVpIndex(1),
            ..Default::default()
        };
        assert_eq!(bench.simple(C::DELETE_VP, &input), HvStatus::SUCCESS);
        // This one was in the slot before.
        assert_eq!(taken(&mut bench).map(|notice| notice.0), Some(ids[0]));
        assert_eq!(taken(&mut bench), Some((ids[1], 0, true)));
        assert_eq!(taken(&mut bench), Some((ids[1], 2, false)));
        assert_eq!(taken(&mut bench), None);
        bench.tear_down();
    }
}

#[test]
fn an_intercept_has_to_be_one_that_there_is() {
    for (mut bench, ids) in scenes(1) {
        let input = |intercept_type, access_type| HvInputInstallIntercept {
            partition_id: ids[0],
            access_type,
            intercept_type,
            ..Default::default()
        };
        let (read, execute) = (HvInterceptAccessMask::READ, HvInterceptAccessMask::EXECUTE);
        for (kind, access) in [
            (HvInterceptType::X64_IO_PORT, execute),
            (HvInterceptType::HYPERCALL, read),
            (HvInterceptType(0x55), execute),
        ] {
            let refused = bench.simple(C::INSTALL_INTERCEPT, &input(kind, access));
            assert_eq!(refused, HvStatus::INVALID_PARAMETER, "{kind:?}");
        }
        bench.tear_down();
    }
}
