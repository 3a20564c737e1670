//! The register page of a VP (root sheet B.7): current whenever the VP is suspended, and the worker's way to change
//! registers without a hypercall.
//!
//! One copy of the truth: the VP's registers. [`load`] takes what the worker changed out of the page, so whoever reads or
//! sets registers of a VP at rest (before it runs, before Get and SetVpRegisters) loads first; [`publish`] writes the page anew
//! whenever the VP has stopped or its registers were set. A register that was set later than the page was loaded is so
//! never overwritten by an older value (root sheet, traps 32 to 34).

use core::mem::offset_of;

use tlfs::{
    HV_VP_REGISTER_PAGE_VERSION_1, HvStatus, HvX64RegisterPage as Page,
    HvX64RegisterPageDirtyFlags as Dirty,
};
use zerocopy::IntoBytes;

use super::Vp;
use super::pending::{pending_interruption, set_rip};
use super::validate::{canonical, rflags_ok, segment_ok};
use crate::arch::Snapshot;
use crate::arch::state::{Gprs, Segment, rflags};
use crate::hv::Hypervisor;
use crate::mem::addr::Spa;
use crate::mem::phys::PhysMap;

/// Words that [`publish`] writes: all but what is zero for ever.
const WORDS: usize = offset_of!(Page, reserved_432) / 8;

/// Number of the word that holds a field.
macro_rules! word {
    ($field:ident) => {
        const {
            assert!(offset_of!(Page, $field) % 8 == 0);
            offset_of!(Page, $field) / 8
        }
    };
}

const GPRS: usize = word!(gp_registers);
const XMM: usize = word!(xmm);
const SEGMENTS: usize = word!(segment);

/// Version, validity and dirty bits of a page that is as it was published.
const CLEAN: u64 = HV_VP_REGISTER_PAGE_VERSION_1 as u64 | 1 << (8 * offset_of!(Page, is_valid));
const DIRTY_SHIFT: usize = 8 * offset_of!(Page, dirty);

/// [`publish`] for a VP whose floating point state is in memory.
pub fn publish_stored(hypervisor: &Hypervisor, vp: &Vp) {
    let xmm = core::array::from_fn(|number| vp.fpu.xmm(number).unwrap_or(0));
    publish(hypervisor, vp, &vp.hw.snapshot(), &xmm);
}

/// Writes the page: all registers that it has, nothing dirty. `seen` are the VP's of this moment, `xmm` XMM0 to XMM5, which
/// may still be in the processor.
///
/// It lies on the way of every intercept: some 430 bytes, those that lie in memory as the page has them copied from
/// there; the rest of the page is zero since its creation.
pub fn publish(hypervisor: &Hypervisor, vp: &Vp, seen: &Snapshot, xmm: &[u128; 6]) {
    let [es, cs, ss, ds, fs, gs] = seen.segments.each_ref().map(segment_words);
    // The tests hold the places against the layout.
    #[rustfmt::skip]
    let behind_xmm: [u64; WORDS - SEGMENTS] = [
        es[0], es[1], cs[0], cs[1], ss[0], ss[1], ds[0], ds[1], fs[0], fs[1], gs[0], gs[1],
        seen.cr0, seen.cr3, seen.cr4, u64::from(vp.apic.cr8()), seen.efer, seen.dr7,
        pending_interruption(seen.pending_event).into_bits(),
        super::registers::interrupt_state(seen.interrupt_shadow, seen.nmi_masked).into_bits(),
        0,
        vp.fpu.xcr0(),
    ];
    let put = |word: usize, bytes: &[u8]| {
        // A frame of a pool, which the direct map covers.
        let at = Spa(start(vp).0 + 8 * word as u64);
        let _ = hypervisor.phys.copy_to(at, bytes);
    };
    put(GPRS, vp.hw.gprs().as_bytes());
    put(word!(rip), [seen.rip, seen.rflags, 0].as_bytes());
    put(XMM, xmm.as_bytes());
    put(SEGMENTS, behind_xmm.as_bytes());
    put(0, CLEAN.as_bytes());
}

/// A segment register in the layout of HV_X64_SEGMENT_REGISTER.
#[inline]
fn segment_words(segment: &Segment) -> [u64; 2] {
    let rest = u64::from(segment.limit)
        | u64::from(segment.selector) << 32
        | u64::from(segment.attributes) << 48;
    [segment.base, rest]
}

fn start(vp: &Vp) -> Spa {
    vp.register_page.frame.spfn().address()
}

/// Which groups of registers the worker has changed in the page and nobody has loaded yet.
pub fn dirty(hypervisor: &Hypervisor, vp: &Vp) -> Dirty {
    dirty_of(hypervisor.phys.read_u64(start(vp)).unwrap_or(0))
}

/// None in a page of another version.
const fn dirty_of(head: u64) -> Dirty {
    if head as u16 == HV_VP_REGISTER_PAGE_VERSION_1 {
        Dirty((head >> DIRTY_SHIFT) as u32)
    } else {
        Dirty(0)
    }
}

/// Takes over what the worker changed in the page, and clears its dirty bits. Costs one read if there is nothing. The
/// VP's floating point state must be in memory if [`dirty`] says XMM.
///
/// The worker may write the page all the while. The bits are taken first, so that a change that comes too late for this
/// time is marked for the next.
///
/// # Errors
/// INVALID_REGISTER_VALUE if a marked group holds a value that no register can have: no group is loaded then, and the
/// parent should be told (INVALID_VP_REGISTER_VALUE).
pub fn load(hypervisor: &Hypervisor, vp: &mut Vp) -> Result<(), HvStatus> {
    let at = start(vp);
    let phys = hypervisor.phys;
    let mut head = phys.read_u64(at).unwrap_or(CLEAN);
    if head >> DIRTY_SHIFT == 0 {
        return Ok(());
    }
    loop {
        let found = phys.compare_exchange_u64(at, head, CLEAN).unwrap_or(head);
        if found == head {
            break;
        }
        head = found;
    }
    apply(phys, at, vp, dirty_of(head))
}

/// Loads the marked groups of the page: all or none. Each word is read once.
fn apply(phys: PhysMap, page: Spa, vp: &mut Vp, dirty: Dirty) -> Result<(), HvStatus> {
    let word = |group, number| {
        let marked = dirty.contains(group);
        marked.then(|| phys.read_u64(place(page, number)).unwrap_or(0))
    };
    let rip = word(Dirty::INSTRUCTION_POINTER, word!(rip));
    let flags = word(Dirty::FLAGS, word!(rflags));
    let segments = dirty
        .contains(Dirty::SEGMENTS)
        .then(|| segments_of(&words(phys, page, SEGMENTS)));
    let bad = rip.is_some_and(|rip| !canonical(rip))
        || flags.is_some_and(|flags| !rflags_ok(flags))
        || segments
            .as_ref()
            .is_some_and(|segments| !segments.iter().all(segment_ok));
    if bad {
        return Err(HvStatus::INVALID_REGISTER_VALUE);
    }
    if dirty.contains(Dirty::GENERAL_PURPOSE) {
        *vp.hw.gprs_mut() = Gprs::from_array(words(phys, page, GPRS));
    }
    if let Some(rip) = rip {
        set_rip(&mut vp.hw, rip);
    }
    if let Some(flags) = flags {
        vp.hw.set_rflags(flags | rflags::FIXED);
    }
    if dirty.contains(Dirty::XMM) {
        let halves: [u64; 12] = words(phys, page, XMM);
        for (number, half) in halves.as_chunks::<2>().0.iter().enumerate() {
            // There are sixteen registers.
            let value = u128::from(half[1]) << 64 | u128::from(half[0]);
            let _ = vp.fpu.set_xmm(number, value);
        }
    }
    if let Some(segments) = segments {
        for (name, segment) in Snapshot::SEGMENTS.into_iter().zip(&segments) {
            vp.hw.set_segment(name, segment);
        }
    }
    Ok(())
}

const fn place(page: Spa, word: usize) -> Spa {
    Spa(page.0 + 8 * word as u64)
}

/// Words of the page from `first` on. It is a frame of a pool, which the direct map covers.
fn words<const COUNT: usize>(phys: PhysMap, page: Spa, first: usize) -> [u64; COUNT] {
    let mut words = [0; COUNT];
    let _ = phys.copy_from(place(page, first), words.as_mut_bytes());
    words
}

fn segments_of(words: &[u64; 12]) -> [Segment; 6] {
    core::array::from_fn(|number| {
        let rest = words[2 * number + 1];
        Segment {
            base: words[2 * number],
            limit: rest as u32,
            selector: (rest >> 32) as u16,
            attributes: (rest >> 48) as u16,
        }
    })
}

/// The page as the root sees it, for tests.
#[cfg(test)]
pub(super) fn contents(hypervisor: &Hypervisor, vp: &Vp) -> Page {
    let mut page = <Page as zerocopy::FromZeros>::new_zeroed();
    hypervisor
        .phys
        .copy_from(start(vp), page.as_mut_bytes())
        .unwrap();
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::state::SegmentName;
    use crate::arch::testing::Vendor;
    use crate::hv::testing::Machine;
    use proptest::prelude::*;
    use tlfs::HvPartitionId;

    fn edit(machine: &Machine, vp: &Vp, change: impl FnOnce(&mut Page)) {
        let mut page = contents(machine, vp);
        change(&mut page);
        machine.phys.copy_to(start(vp), page.as_bytes()).unwrap();
    }

    /// A child with a VP on a machine of each vendor.
    fn machines() -> impl Iterator<Item = (Machine, HvPartitionId)> {
        Vendor::each().map(machine)
    }

    fn machine(vendor: Vendor) -> (Machine, HvPartitionId) {
        let mut machine = Machine::of(vendor);
        let (id, _) = machine.child_with_vp();
        (machine, id)
    }

    #[test]
    fn the_page_of_a_new_processor_shows_its_reset_state() {
        for (machine, id) in machines() {
            machine.with_vp(id, 0, |_, vp| {
                let page = contents(&machine, vp);
                assert_eq!((page.version, page.is_valid, page.dirty.0), (1, 1, 0));
                assert_eq!((page.rip, page.rflags), (0xFFF0, 2));
                let cs = page.segment[1];
                assert_eq!(
                    (cs.selector, cs.base, cs.limit),
                    (0xF000, 0xFFFF_0000, 0xFFFF)
                );
                assert_eq!((page.cr0, page.xfem), (0x6000_0010, 1));
                assert_eq!(page.gp_registers[2], u64::from(machine.signature));
                assert_eq!(page.unused, [0; 3400]);
            });
        }
    }

    #[test]
    fn every_register_is_in_its_place() {
        for (machine, id) in machines() {
            machine.with_vp(id, 0, |_, vp| {
                *vp.hw.gprs_mut() = Gprs::from_array(core::array::from_fn(|n| 100 + n as u64));
                for (number, name) in Snapshot::SEGMENTS.into_iter().enumerate() {
                    let segment = Segment {
                        base: 0x1000 * number as u64,
                        limit: 0xFFFF,
                        selector: 8 * number as u16,
                        attributes: 0x93,
                    };
                    vp.hw.set_segment(name, &segment);
                }
                vp.hw.set_rip(1);
                vp.hw.set_rflags(0x246);
                vp.hw.set_cr0(0x8000_0011);
                vp.hw.set_cr3(0x3000);
                vp.hw.set_cr4(0x20);
                vp.apic.set_cr8(5);
                vp.hw.set_efer(0x500);
                vp.hw.set_dr7(0x401);
                vp.hw.set_interrupt_shadow(true);
                vp.hw
                    .set_pending_event(Some(crate::arch::exit::Event::Interrupt(0x30)));
                assert!(vp.fpu.set_xcr0(3));
                let xmm = core::array::from_fn(|n| 7 << 64 | n as u128);
                publish(&machine, vp, &vp.hw.snapshot(), &xmm);
                let page = contents(&machine, vp);
                assert_eq!(page.gp_registers, core::array::from_fn(|n| 100 + n as u64));
                assert_eq!(page.xmm, core::array::from_fn(|n| [n as u64, 7]));
                for (number, segment) in page.segment.iter().enumerate() {
                    assert_eq!(segment.base, 0x1000 * number as u64);
                    assert_eq!(segment.selector, 8 * number as u16);
                    assert_eq!(segment.attributes.into_bits(), 0x93);
                }
                assert_eq!((page.rip, page.rflags), (1, 0x246));
                assert_eq!((page.cr0, page.cr3, page.cr4), (0x8000_0011, 0x3000, 0x20));
                assert_eq!((page.cr8, page.efer, page.dr7), (5, 0x500, 0x401));
                assert_eq!(page.pending_interruption.interruption_vector(), 0x30);
                assert!(page.interrupt_state.interrupt_shadow());
                assert_eq!((page.instruction_emulation_hints, page.xfem), (0, 3));
            });
        }
    }

    #[test]
    fn changes_are_taken_by_group_and_once() {
        for (machine, id) in machines() {
            machine.with_vp(id, 0, |_, vp| {
                edit(&machine, vp, |page| {
                    page.gp_registers[0] = 0x1234;
                    page.rip = 0x8000;
                    page.rflags = 0x202;
                    page.xmm[5] = [1, 2];
                    page.segment[3].selector = 0x18;
                    page.cr3 = 0x5000;
                    page.dirty = Dirty::GENERAL_PURPOSE | Dirty::XMM;
                });
                assert_eq!(dirty(&machine, vp), Dirty::GENERAL_PURPOSE | Dirty::XMM);
                assert_eq!(load(&machine, vp), Ok(()));
                assert_eq!(vp.hw.gprs().rax, 0x1234);
                assert_eq!(vp.fpu.xmm(5), Some(2 << 64 | 1));
                assert_eq!((vp.hw.rip(), vp.hw.rflags()), (0xFFF0, 2));
                assert_eq!(vp.hw.segment(SegmentName::Ds).selector, 0);
                assert_eq!(vp.hw.cr3(), 0, "read-only for the worker");
                assert_eq!(dirty(&machine, vp), Dirty(0));
                vp.hw.gprs_mut().rax = 7;
                assert_eq!(load(&machine, vp), Ok(()));
                assert_eq!(vp.hw.gprs().rax, 7, "an older value does not come back");
            });
        }
    }

    #[test]
    fn a_value_that_no_register_can_have_is_refused_with_all_others() {
        for (machine, id) in machines() {
            type Change = fn(&mut Page);
            let spoil: [(Dirty, Change); 3] = [
                (Dirty::INSTRUCTION_POINTER, |page| page.rip = 1 << 60),
                (Dirty::FLAGS, |page| page.rflags = 1 << 40),
                (Dirty::SEGMENTS, |page| page.segment[0].base = 1 << 50),
            ];
            machine.with_vp(id, 0, |_, vp| {
                for (group, change) in spoil {
                    edit(&machine, vp, |page| {
                        change(page);
                        page.gp_registers[0] = 9;
                        page.dirty = group | Dirty::GENERAL_PURPOSE;
                    });
                    assert_eq!(load(&machine, vp), Err(HvStatus::INVALID_REGISTER_VALUE));
                    assert_eq!(vp.hw.gprs().rax, 0);
                    publish_stored(&machine, vp);
                }
            });
        }
    }

    #[test]
    fn a_page_of_another_version_is_not_read() {
        for (machine, id) in machines() {
            machine.with_vp(id, 0, |_, vp| {
                edit(&machine, vp, |page| {
                    page.version = 2;
                    page.rip = 0x1000;
                    page.dirty = Dirty::INSTRUCTION_POINTER;
                });
                assert_eq!(load(&machine, vp), Ok(()));
                assert_eq!(vp.hw.rip(), 0xFFF0);
                assert_eq!(contents(&machine, vp).version, 1);
            });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_the_worker_writes_is_loaded_or_refused(
            vendor in Vendor::any(),
            bytes in proptest::collection::vec(any::<u8>(), 352),
            marks: u32,
            tame: bool,
        ) {
            let (machine, id) = machine(vendor);
            machine.with_vp(id, 0, |_, vp| {
                let before = contents(&machine, vp);
                edit(&machine, vp, |page| {
                    page.as_mut_bytes()[..352].copy_from_slice(&bytes);
                    page.version = 1;
                    page.dirty = Dirty(marks);
                    if tame {
                        page.rip &= 0xFFFF_FFFF;
                        page.rflags &= 0xCD5;
                        page.segment.iter_mut().for_each(|segment| {
                            segment.base &= 0xFFFF_FFFF;
                            segment.attributes.set_reserved(0);
                        });
                    }
                });
                let written = contents(&machine, vp);
                let loaded = load(&machine, vp);
                publish_stored(&machine, vp);
                let after = contents(&machine, vp);
                prop_assert!(loaded.is_ok() || !tame);
                let took = |group| loaded.is_ok() && Dirty(marks).contains(group);
                let gprs = if took(Dirty::GENERAL_PURPOSE) { &written } else { &before };
                prop_assert_eq!(after.gp_registers, gprs.gp_registers);
                let ip = if took(Dirty::INSTRUCTION_POINTER) { &written } else { &before };
                prop_assert_eq!(after.rip, ip.rip);
                let flags = if took(Dirty::FLAGS) { written.rflags | 2 } else { before.rflags };
                prop_assert_eq!(after.rflags, flags);
                let xmm = if took(Dirty::XMM) { &written } else { &before };
                prop_assert_eq!(after.xmm, xmm.xmm);
                prop_assert_eq!(after.cr0, before.cr0);
                Ok(())
            })?;
        }
    }
}
