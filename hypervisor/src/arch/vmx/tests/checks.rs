//! States that the processor refuses, each with its name.

use super::*;

/// The long-mode guest with one thing changed.
fn refused(change: impl FnOnce(&mut Vcpu)) -> Option<&'static str> {
    let mut v = long_mode();
    change(&mut v);
    v.refusal()
}

#[test]
fn good_states_pass() {
    assert_eq!(child().refusal(), None, "after reset");
    assert_eq!(long_mode().refusal(), None);
    assert_eq!(
        refused(|v| {
            v.set_rflags(rflags::FIXED | rflags::IF);
            v.set_pending_event(Some(Event::Interrupt(0x30)));
        }),
        None
    );
}

#[test]
fn each_bad_state_has_its_name() {
    let event = |event| refused(|v| v.set_pending_event(Some(event)));
    assert_eq!(
        event(Event::Interrupt(0x30)),
        Some("an external interrupt while RFLAGS.IF is 0")
    );
    assert_eq!(
        event(Event::Exception {
            vector: 13,
            error_code: None
        }),
        Some("an exception without its error code")
    );
    assert_eq!(
        event(Event::Software {
            vector: 0x80,
            length: 0
        }),
        Some("a software interrupt with an impossible instruction length")
    );
    assert_eq!(
        refused(|v| v.set_cr0(0x8000_0030)),
        Some("CR0.PG without CR0.PE")
    );
    assert_eq!(
        refused(|v| v.set_cr4(0)),
        Some("long mode without CR0.PG and CR4.PAE")
    );
    assert_eq!(
        refused(|v| v.set_cr3(1 << 60)),
        Some("reserved bits of CR3")
    );
    assert_eq!(
        refused(|v| v.set_efer(0x500)).or(refused(|v| v.set_efer(0x400))),
        Some("EFER.LMA and EFER.LME disagree while paging is on")
    );
    assert_eq!(
        refused(|v| v.set_rip(0x8000_0000_0000)),
        Some("RIP that is not canonical")
    );
    assert_eq!(
        refused(|v| v.set_rflags(rflags::FIXED | 1 << 15)),
        Some("reserved bits of RFLAGS")
    );
    assert_eq!(
        refused(|v| v.set_gdtr(crate::arch::state::TableRegister {
            base: 1 << 50,
            limit: 7
        })),
        Some("the base of GDTR or IDTR")
    );
}

#[test]
fn a_bad_segment_is_named() {
    let with = |name, attributes| {
        refused(|v| {
            let segment = Segment {
                attributes,
                ..v.segment(name)
            };
            v.set_segment(name, &segment);
        })
    };
    assert_eq!(
        with(SegmentName::Cs, 0xE09B),
        Some("CS of 64 and of 32 bits at once")
    );
    assert_eq!(
        with(SegmentName::Cs, 0xA0FB),
        Some("the type or the privilege level of CS")
    );
    assert_eq!(
        with(SegmentName::Ss, 0xC091),
        Some("SS that cannot be written")
    );
    assert_eq!(
        with(SegmentName::Ds, 0xC099),
        Some("a data segment that cannot be read, or was never accessed")
    );
}
