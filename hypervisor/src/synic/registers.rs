//! SCONTROL, SVERSION, SIMP, SIEFP, SIRBP, EOM and the SINTs.

use tlfs::{
    HV_SYNIC_SINT_COUNT, HV_SYNIC_SINT_MIN_VECTOR, HV_SYNIC_VERSION, HV_X64_MSR_EOM,
    HV_X64_MSR_SCONTROL, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0, HV_X64_MSR_SINT15,
    HV_X64_MSR_SIRBP, HV_X64_MSR_SVERSION, HvPageMsr, HvSynicScontrol, HvSynicSint, sint_of_msr,
};

use super::{Signal, Sint, SintVectors};
use crate::apic::GeneralProtection;
use crate::mem::addr::Gpfn;

/// Whether the MSR is one of [`Synic`]'s.
pub const fn is_synic_msr(msr: u32) -> bool {
    matches!(
        msr,
        HV_X64_MSR_SCONTROL..=HV_X64_MSR_SIRBP | HV_X64_MSR_SINT0..=HV_X64_MSR_SINT15
    )
}

/// What the caller has to do after a register write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SynicEffect {
    /// Nothing.
    None,
    /// The message page is elsewhere, or is no more: resolve it anew, then look at the queues of all SINTs.
    MessagePage(Option<Gpfn>),
    /// The event flags page is elsewhere, or is no more.
    EventFlagsPage(Option<Gpfn>),
    /// The event ring page is elsewhere, or is no more.
    EventRingPage(Option<Gpfn>),
    /// Look at the queues of these SINTs (bit n: SINTn): a slot may have become free, or a message deliverable.
    Retry(u16),
}

const ALL_SINTS: u16 = u16::MAX;

/// A register that places a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PageRegister {
    value: HvPageMsr,
    /// The hypervisor has chosen the frame; the guest can only switch the page on and off.
    fixed: bool,
}

impl PageRegister {
    const MOVABLE: Self = Self {
        value: HvPageMsr::new(),
        fixed: false,
    };

    const fn fixed(page: Gpfn) -> Self {
        Self {
            value: HvPageMsr::new().with_gpfn(page.0 & (u64::MAX >> 12)),
            fixed: true,
        }
    }

    fn write(&mut self, value: u64) {
        let gpfn = self.value.gpfn();
        self.value = HvPageMsr::from_bits(value);
        if self.fixed {
            self.value.set_gpfn(gpfn);
        }
    }

    fn reset(&mut self) {
        self.write(0);
    }

    fn page(&self) -> Option<Gpfn> {
        self.value.enabled().then(|| Gpfn(self.value.gpfn()))
    }
}

/// The SynIC of one VP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synic {
    control: HvSynicScontrol,
    message_page: PageRegister,
    event_flags_page: PageRegister,
    /// Only a root has it.
    event_ring_page: Option<PageRegister>,
    sints: [HvSynicSint; HV_SYNIC_SINT_COUNT],
}

impl Synic {
    /// A child's, after reset: off, all SINTs masked. The guest chooses where its pages are.
    pub const fn new() -> Self {
        Self {
            control: HvSynicScontrol::new(),
            message_page: PageRegister::MOVABLE,
            event_flags_page: PageRegister::MOVABLE,
            event_ring_page: None,
            sints: [HvSynicSint::RESET; HV_SYNIC_SINT_COUNT],
        }
    }

    /// The root's. The hypervisor has chosen the pages: a read tells where they are even before they are enabled, and
    /// attempts to move them are ignored (root sheet F.3).
    pub const fn new_root(
        message_page: Gpfn,
        event_flags_page: Gpfn,
        event_ring_page: Gpfn,
    ) -> Self {
        Self {
            message_page: PageRegister::fixed(message_page),
            event_flags_page: PageRegister::fixed(event_flags_page),
            event_ring_page: Some(PageRegister::fixed(event_ring_page)),
            ..Self::new()
        }
    }

    /// Back to the state after reset; fixed pages stay where they are.
    pub fn reset(&mut self) {
        self.control = HvSynicScontrol::new();
        self.message_page.reset();
        self.event_flags_page.reset();
        if let Some(page) = &mut self.event_ring_page {
            page.reset();
        }
        self.sints = [HvSynicSint::RESET; HV_SYNIC_SINT_COUNT];
    }

    /// RDMSR of an MSR for which [`is_synic_msr`] holds.
    pub fn read(&self, msr: u32) -> Result<u64, GeneralProtection> {
        match msr {
            HV_X64_MSR_SCONTROL => Ok(self.control.into_bits()),
            HV_X64_MSR_SVERSION => Ok(HV_SYNIC_VERSION),
            HV_X64_MSR_SIEFP => Ok(self.event_flags_page.value.into_bits()),
            HV_X64_MSR_SIMP => Ok(self.message_page.value.into_bits()),
            HV_X64_MSR_EOM => Ok(0),
            HV_X64_MSR_SIRBP => {
                let page = self.event_ring_page.ok_or(GeneralProtection)?;
                Ok(page.value.into_bits())
            }
            _ => Ok(self.sint(sint(msr)?).into_bits()),
        }
    }

    /// WRMSR of an MSR for which [`is_synic_msr`] holds; #GP without any change. Bits that the guest has to preserve are
    /// kept as written.
    pub fn write(&mut self, msr: u32, value: u64) -> Result<SynicEffect, GeneralProtection> {
        Ok(match msr {
            HV_X64_MSR_SCONTROL => {
                self.control = HvSynicScontrol::from_bits(value);
                SynicEffect::Retry(ALL_SINTS)
            }
            HV_X64_MSR_SIEFP => {
                self.event_flags_page.write(value);
                SynicEffect::EventFlagsPage(self.event_flags_page.page())
            }
            HV_X64_MSR_SIMP => {
                self.message_page.write(value);
                SynicEffect::MessagePage(self.message_page.page())
            }
            HV_X64_MSR_EOM => SynicEffect::Retry(ALL_SINTS),
            HV_X64_MSR_SIRBP => {
                let page = self.event_ring_page.as_mut().ok_or(GeneralProtection)?;
                page.write(value);
                SynicEffect::EventRingPage(page.page())
            }
            // SVERSION, which is read-only, is no SINT either.
            _ => self.write_sint(sint(msr)?, HvSynicSint::from_bits(value))?,
        })
    }

    fn write_sint(
        &mut self,
        sint: Sint,
        value: HvSynicSint,
    ) -> Result<SynicEffect, GeneralProtection> {
        if !value.masked() && value.vector() < HV_SYNIC_SINT_MIN_VECTOR {
            return Err(GeneralProtection);
        }
        self.sints[sint.index()] = value;
        Ok(SynicEffect::Retry(sint.bit()))
    }

    /// The register of a SINT.
    pub const fn sint(&self, sint: Sint) -> HvSynicSint {
        self.sints[sint.index()]
    }

    const fn is_root(&self) -> bool {
        self.event_ring_page.is_some()
    }

    /// Where the message page is, if it is enabled.
    pub fn message_page(&self) -> Option<Gpfn> {
        self.message_page.page()
    }

    /// Where the event flags page is, if it is enabled.
    pub fn event_flags_page(&self) -> Option<Gpfn> {
        self.event_flags_page.page()
    }

    /// Where the event ring page is, if there is one and it is enabled.
    pub fn event_ring_page(&self) -> Option<Gpfn> {
        self.event_ring_page.and_then(|page| page.page())
    }

    /// Whether messages can be delivered to a SINT: the SynIC and its message page are on, and the SINT is not masked.
    /// Until then they stay queued (guest sheet 7.2).
    pub fn takes_messages(&self, sint: Sint) -> bool {
        self.control.enabled() && self.message_page.value.enabled() && !self.sint(sint).masked()
    }

    /// Whether event flags of a SINT can be set, with an interrupt: the SynIC and its flags page are on, and the SINT is not
    /// masked (guest sheet 7.3).
    pub fn takes_events(&self, sint: Sint) -> bool {
        let page = self.event_flags_page.value.enabled();
        self.control.enabled() && page && !self.sint(sint).masked()
    }

    /// How the VP is told that something arrived at a SINT.
    pub fn signal(&self, sint: Sint) -> Signal {
        let register = self.sint(sint);
        if register.masked() || register.polling() {
            Signal::None
        } else if register.as_intercept() && sint != Sint::INTERCEPTS && self.is_root() {
            // SINT0 carries the notices and cannot be announced by one. Children have no such notices.
            Signal::Notice(sint)
        } else {
            Signal::Interrupt {
                vector: register.vector(),
            }
        }
    }

    /// Which vectors its SINTs use.
    pub fn vectors(&self) -> SintVectors {
        SintVectors::of(self)
    }

    /// The SINTs with this vector that are not masked (bit n: SINTn): an EOI of the vector is a reason to look at their
    /// queues.
    pub fn sints_with_vector(&self, vector: u8) -> u16 {
        Sint::all()
            .filter(|&sint| !self.sint(sint).masked() && self.sint(sint).vector() == vector)
            .fold(0, |mask, sint| mask | sint.bit())
    }
}

impl Default for Synic {
    fn default() -> Self {
        Self::new()
    }
}

fn sint(msr: u32) -> Result<Sint, GeneralProtection> {
    sint_of_msr(msr)
        .and_then(|number| Sint::new(number as u32))
        .ok_or(GeneralProtection)
}
