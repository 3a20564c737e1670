//! Which of the processor's checks a guest's state fails: an entry that fails over the guest's state does not tell.
//!
//! The checks of SDM volume 3, 27.2.1.3 (the event to deliver) and 27.3.1 (the guest-state area), in the order of the manual,
//! as far as the state can be set from outside.

use crate::arch::state::{Segment, SegmentName, cr0, efer, rflags};

use super::events::{information, interruptibility};
use super::fields::{Control, Guest};
use super::registers::places;
use super::vcpu::Vcpu;

/// What has to be so, and its name.
type Check = (bool, &'static str);

const CR4_PAE: u64 = 1 << 5;
const CR4_PCIDE: u64 = 1 << 17;
const RFLAGS_VM: u64 = 1 << 17;
const RFLAGS_RESERVED: u64 = !0 << 22 | 1 << 15 | 1 << 5 | 1 << 3;
/// SCE, LME, LMA, NXE.
const EFER_BITS: u64 = 1 | efer::LME | efer::LMA | 1 << 11;
/// Access rights: bits of the type, and code or data rather than system.
const TYPE: u64 = 0xF;
const CODE_OR_DATA: u64 = 1 << 4;
const PRESENT: u64 = Segment::PRESENT as u64;
const LONG: u64 = Segment::LONG as u64;
const BIG: u64 = Segment::BIG as u64;
const GRANULAR: u64 = Segment::GRANULAR as u64;
const UNUSABLE: u64 = 1 << 16;
const RESERVED_RIGHTS: u64 = !0x1_F0FF;

const fn canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

/// One segment register as the VMCS has it.
#[derive(Clone, Copy)]
struct Raw {
    selector: u64,
    limit: u64,
    rights: u64,
    base: u64,
}

impl Raw {
    const fn usable(self) -> bool {
        self.rights & UNUSABLE == 0
    }

    const fn kind(self) -> u64 {
        self.rights & TYPE
    }

    const fn dpl(self) -> u64 {
        self.rights >> 5 & 3
    }

    /// The limit is one that a descriptor can have.
    const fn limit_fits(self) -> bool {
        if self.rights & GRANULAR != 0 {
            self.limit & 0xFFF == 0xFFF
        } else {
            self.limit >> 20 == 0
        }
    }

    const fn is_whole(self, code_or_data: bool) -> bool {
        self.rights & PRESENT != 0
            && (self.rights & CODE_OR_DATA != 0) == code_or_data
            && self.rights & RESERVED_RIGHTS == 0
    }
}

impl Vcpu {
    /// The first check that the guest's state fails. `None` if all of those here pass.
    pub fn refusal(&self) -> Option<&'static str> {
        [
            self.check_event(),
            self.check_control_registers(),
            self.check_segments(),
            self.check_rest(),
        ]
        .into_iter()
        .flatten()
        .next()
    }

    fn raw(&self, name: SegmentName) -> Raw {
        let [selector, limit, rights, base] = places(name);
        Raw {
            selector: self.field(selector),
            limit: self.field(limit),
            rights: self.field(rights),
            base: self.field(base),
        }
    }

    fn is_long(&self) -> bool {
        self.efer() & efer::LMA != 0
    }

    fn check_event(&self) -> Option<&'static str> {
        use information as i;
        let raw = self.control.get(Control::EntryInterruption);
        if raw & i::VALID == 0 {
            return None;
        }
        let (kind, vector) = (raw & i::TYPE_MASK, raw & i::VECTOR_MASK);
        let length = self.control.get(Control::EntryInstructionLength);
        let state = self.field(Guest::Interruptibility);
        let is_software = matches!(
            kind,
            i::SOFTWARE_INTERRUPT | i::PRIVILEGED_SOFTWARE_EXCEPTION | i::SOFTWARE_EXCEPTION
        );
        let has_code = matches!(vector, 8 | 10..=14 | 17 | 21);
        let code = raw & i::ERROR_CODE != 0;
        let protected = self.field(Guest::Cr0) & cr0::PE != 0;
        let interrupt = kind == i::EXTERNAL_INTERRUPT;
        first(&[
            (
                kind != i::NMI || vector == 2,
                "an NMI with another vector than 2",
            ),
            (
                kind != i::HARDWARE_EXCEPTION || vector < 32,
                "an exception with a vector above 31",
            ),
            (
                !code || kind == i::HARDWARE_EXCEPTION && has_code && protected,
                "an error code with an event that has none",
            ),
            (
                code || !(kind == i::HARDWARE_EXCEPTION && has_code && protected),
                "an exception without its error code",
            ),
            (
                !is_software || matches!(length, 1..=15),
                "a software interrupt with an impossible instruction length",
            ),
            (
                !interrupt || self.rflags() & rflags::IF != 0,
                "an external interrupt while RFLAGS.IF is 0",
            ),
            (
                !interrupt || state & interruptibility::SHADOW == 0,
                "an external interrupt in an interrupt shadow",
            ),
            (
                kind != i::NMI || state & (interruptibility::MOV_SS | interruptibility::NMI) == 0,
                "an NMI while NMIs are blocked",
            ),
        ])
    }

    fn check_control_registers(&self) -> Option<&'static str> {
        let (cr0, cr4) = (self.field(Guest::Cr0), self.field(Guest::Cr4));
        let efer = self.efer();
        let long = self.is_long();
        let (fixed0, fixed4) = (self.caps.cr0_fixed, self.caps.cr4_fixed);
        let paging = cr0 & cr0::PG != 0;
        // In unrestricted guest mode PE and PG may be 0.
        let needed = fixed0.ones & !(cr0::PE | cr0::PG);
        let pat = self.field(Guest::Pat).to_le_bytes();
        first(&[
            (
                cr0 & needed == needed && cr0 & !fixed0.may == 0,
                "a bit of CR0 that VMX does not allow",
            ),
            (!paging || cr0 & cr0::PE != 0, "CR0.PG without CR0.PE"),
            (
                cr4 & fixed4.ones == fixed4.ones && cr4 & !fixed4.may == 0,
                "a bit of CR4 that VMX does not allow",
            ),
            (
                !long || paging && cr4 & CR4_PAE != 0,
                "long mode without CR0.PG and CR4.PAE",
            ),
            (
                long || cr4 & CR4_PCIDE == 0,
                "CR4.PCIDE outside of long mode",
            ),
            (self.cr3() >> 52 == 0, "reserved bits of CR3"),
            (
                self.directory_pointers_fit(),
                "reserved bits of a page directory pointer that CR3 leads to",
            ),
            (self.dr7() >> 32 == 0, "the upper half of DR7"),
            (
                canonical(self.field(Guest::SysenterEsp))
                    && canonical(self.field(Guest::SysenterEip)),
                "a SYSENTER address that is not canonical",
            ),
            (
                pat.iter().all(|kind| matches!(kind, 0 | 1 | 4..=7)),
                "a memory type of PAT",
            ),
            (efer & !EFER_BITS == 0, "reserved bits of EFER"),
            (
                !paging || (efer & efer::LMA != 0) == (efer & efer::LME != 0),
                "EFER.LMA and EFER.LME disagree while paging is on",
            ),
        ])
    }

    fn check_segments(&self) -> Option<&'static str> {
        use SegmentName as S;
        let virtual_8086 = self.rflags() & RFLAGS_VM != 0;
        let [cs, ss, tr, ldtr] = [S::Cs, S::Ss, S::Tr, S::Ldtr].map(|name| self.raw(name));
        if virtual_8086 {
            let fits = |name| {
                let s = self.raw(name);
                s.base == s.selector << 4 && s.limit == 0xFFFF && s.rights == 0xF3
            };
            let all = [S::Es, S::Cs, S::Ss, S::Ds, S::Fs, S::Gs]
                .into_iter()
                .all(fits);
            return first(&[(all, "a segment that is not virtual-8086 mode's")]);
        }
        let long = self.is_long();
        let flat = self.field(Guest::Cr0) & cr0::PE == 0;
        let privilege = match cs.kind() {
            3 => cs.dpl() == 0,
            9 | 11 => cs.dpl() == ss.dpl(),
            13 | 15 => cs.dpl() <= ss.dpl(),
            _ => false,
        };
        let data = [S::Ss, S::Ds, S::Es, S::Fs, S::Gs].map(|name| (name, self.raw(name)));
        let usable = || data.iter().filter(|(_, segment)| segment.usable());
        first(&[
            (
                cs.usable() && cs.is_whole(true) && cs.limit_fits(),
                "the attributes or the limit of CS",
            ),
            (privilege, "the type or the privilege level of CS"),
            (
                !(long && cs.rights & LONG != 0 && cs.rights & BIG != 0),
                "CS of 64 and of 32 bits at once",
            ),
            (
                !ss.usable() || matches!(ss.kind(), 3 | 7),
                "SS that cannot be written",
            ),
            (
                !(flat || cs.kind() == 3) || ss.dpl() == 0,
                "the privilege level of SS",
            ),
            (
                usable().all(|(_, s)| s.is_whole(true) && s.limit_fits()),
                "the attributes or the limit of a data segment",
            ),
            (
                usable()
                    .all(|(_, s)| s.kind() & 1 != 0 && (s.kind() & 8 == 0 || s.kind() & 2 != 0)),
                "a data segment that cannot be read, or was never accessed",
            ),
            (
                cs.base >> 32 == 0
                    && usable().all(|(name, s)| {
                        matches!(name, S::Fs | S::Gs) && canonical(s.base) || s.base >> 32 == 0
                    }),
                "a segment base above 4 GiB",
            ),
            (
                tr.usable()
                    && tr.is_whole(false)
                    && tr.limit_fits()
                    && canonical(tr.base)
                    && tr.selector & 4 == 0
                    && (tr.kind() == 11 || tr.kind() == 3 && !long),
                "TR",
            ),
            (
                !ldtr.usable()
                    || ldtr.is_whole(false)
                        && ldtr.limit_fits()
                        && canonical(ldtr.base)
                        && ldtr.selector & 4 == 0
                        && ldtr.kind() == 2,
                "LDTR",
            ),
        ])
    }

    fn check_rest(&self) -> Option<&'static str> {
        let flags = self.rflags();
        let state = self.field(Guest::Interruptibility);
        let protected = self.field(Guest::Cr0) & cr0::PE != 0;
        let (rip, code64) = (self.rip(), self.in_64_bit_code());
        first(&[
            (
                canonical(self.field(Guest::GdtrBase)) && canonical(self.field(Guest::IdtrBase)),
                "the base of GDTR or IDTR",
            ),
            (
                if code64 {
                    canonical(rip)
                } else {
                    rip >> 32 == 0
                },
                "RIP that is not canonical",
            ),
            (
                flags & RFLAGS_RESERVED == 0 && flags & rflags::FIXED != 0,
                "reserved bits of RFLAGS",
            ),
            (
                flags & RFLAGS_VM == 0 || protected && !self.is_long(),
                "virtual-8086 mode where there is none",
            ),
            (
                state & interruptibility::SHADOW != interruptibility::SHADOW,
                "two interrupt shadows at once",
            ),
        ])
    }
}

fn first(checks: &[Check]) -> Option<&'static str> {
    let failed = checks.iter().find(|(holds, _)| !holds);
    failed.map(|(_, name)| *name)
}
