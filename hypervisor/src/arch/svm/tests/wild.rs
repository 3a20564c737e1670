//! Blocks that no processor would write: nothing in them makes the decoding panic, or leave its ranges.

use super::*;
use crate::insn::MAX_LENGTH;
use proptest::prelude::*;

/// An exit code that means something, or any.
fn code() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..0xA8_u64,
        Just(exit_code::NPF),
        Just(exit_code::INVALID),
        Just(exit_code::INVALID & 0xFFFF_FFFF),
        any::<u64>(),
    ]
}

fn caps() -> impl Strategy<Value = Capabilities> {
    any::<[bool; 5]>().prop_map(
        |[
            nrip_save,
            decode_assists,
            flush_by_asid,
            repeats_interrupts,
            forgets_shadow,
        ]| Capabilities {
            nrip_save,
            decode_assists,
            flush_by_asid,
            repeats_interrupts,
            forgets_shadow,
            ..RICH
        },
    )
}

proptest! {
    #[test]
    fn any_block_is_decoded_within_its_ranges(
        caps in caps(),
        kind in prop_oneof![Just(VcpuKind::Root), Just(VcpuKind::Child)],
        block in proptest::collection::vec(any::<u8>(), 4096),
        code in code(),
        near in any::<i8>(),
    ) {
        let mut v = vcpu(caps, kind);
        v.vmcb.bytes_mut().copy_from_slice(&block);
        v.control_mut().exit_code = code;
        // Often close to an instruction's end.
        v.control_mut().next_rip = v.rip().wrapping_add_signed(near.into());
        let exit = decoded(&v);
        if let Some(length) = v.instruction_length() {
            prop_assert!((1..=MAX_LENGTH).contains(&usize::from(length)));
            prop_assert!(caps.nrip_save || exit == Exit::Io);
        }
        prop_assert!(v.instruction_bytes().len() <= MAX_LENGTH);
        if let Exit::ControlRegister(access) = exit {
            prop_assert!(access.register < 16 && access.gpr.is_none_or(|gpr| gpr < 16));
            prop_assert!(caps.decode_assists || access.gpr.is_none());
        }
        if let Exit::Exception(exception) = exit {
            prop_assert!(exception.vector < 32);
        }
        prop_assert!(v.port_access().size < 8);
        let _ = (v.nested_fault(), v.pending_event(), v.code_address());
        v.settle_events();
        let _ = v.rare_exit();
        let _ = v.inject(Event::Software { vector: 0x80, length: 2 });
        v.prepare_event();
        v.settle_events();
        v.advance_rip(MAX_LENGTH as u8);
    }
}
