//! The root's local APIC and SINT0: how a payload root waits without spinning, so that its children run.

use core::ptr;
use core::sync::atomic::{Ordering, fence};

use tlfs::{
    HV_X64_MSR_EOM, HV_X64_MSR_HYPERCALL, HV_X64_MSR_REFERENCE_TSC, HV_X64_MSR_SCONTROL,
    HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0, HV_X64_MSR_SIRBP,
    HV_X64_MSR_VP_ASSIST_PAGE, HvMessage, HvMessageType, HvPageMsr, HvSynicScontrol, HvSynicSint,
};
use zerocopy::{FromZeros, IntoBytes};

use super::memory::{self, Memory, PAGE};
use crate::metal::cpu::{rdmsr, tsc, wait_for_interrupt, wrmsr};
use crate::metal::memory::virtual_address;
use crate::metal::time::{apic_hz, tsc_hz, tsc_of_micros};
use crate::metal::trap::{self, Frame};

/// Vector of SINT0.
pub const SINT0_VECTOR: u8 = 0x50;
/// Vector of the local APIC's timer.
pub const TIMER_VECTOR: u8 = 0x40;
const SPURIOUS_VECTOR: u8 = 0xFF;

const APIC_BASE: u32 = 0x1B;
const APIC_ON: u64 = 1 << 11;
const X2APIC_ON: u64 = 1 << 10;
const TASK_PRIORITY: u32 = 0x808;
const EOI: u32 = 0x80B;
const SPURIOUS: u32 = 0x80F;
const LVT_TIMER: u32 = 0x832;
const INITIAL_COUNT: u32 = 0x838;
const DIVIDE: u32 = 0x83E;
const SOFTWARE_ENABLE: u64 = 1 << 8;
const DIVIDE_BY_1: u64 = 0b1011;

/// Offset of a message's flags.
const FLAGS: u64 = 5;
const MESSAGE_PENDING: u8 = 1;

/// Longest sleep between two looks at the slot.
const NAP_MICROS: u64 = 5_000;

/// MSRs that name the pages which the hypervisor provides to the root (root sheet F.3).
pub const PROVIDED: [u32; 6] = [
    HV_X64_MSR_HYPERCALL,
    HV_X64_MSR_REFERENCE_TSC,
    HV_X64_MSR_VP_ASSIST_PAGE,
    HV_X64_MSR_SIMP,
    HV_X64_MSR_SIEFP,
    HV_X64_MSR_SIRBP,
];

/// The page that such an MSR names.
pub fn provided_page(msr: u32) -> HvPageMsr {
    match rdmsr(msr) {
        Ok(value) => HvPageMsr::from_bits(value),
        Err(fault) => fail!("MSR {msr:#x}: {fault:x?}"),
    }
}

/// Some pages of the hypervisor's own memory: the reserved range that the provided pages lie in, without these.
pub fn hypervisor_pages<const N: usize>(memory: &Memory) -> [u64; N] {
    let provided = PROVIDED.map(|msr| provided_page(msr).gpfn() * PAGE);
    let Some((start, len)) = memory.entry_of(provided[0]) else {
        fail!("the memory map does not have the hypervisor's pages")
    };
    let step = (len / PAGE).saturating_sub(1) / (N as u64).max(1);
    check!(step > 8, "the hypervisor's memory is only {len} bytes");
    core::array::from_fn(|index| {
        let pages = (0..8).map(|more| start + (index as u64 * step + more) * PAGE);
        match pages.into_iter().find(|page| !provided.contains(page)) {
            Some(page) => page,
            None => fail!("all pages around {start:#x} are provided"),
        }
    })
}

/// The virtual address of SINT0's slot, and what the timer needs.
pub struct Messages {
    slot: u64,
    apic_hz: u64,
    /// Messages taken.
    pub taken: u64,
}

fn must(result: Result<(), trap::Fault>, what: &str) {
    if let Err(fault) = result {
        fail!("{what}: {fault:x?}");
    }
}

fn end_of_interrupt(_: &mut Frame) {
    must(wrmsr(EOI, 0), "EOI of the local APIC");
}

impl Messages {
    /// Switches on the local APIC and the SynIC with SINT0.
    pub fn new() -> Self {
        trap::set_handler(SINT0_VECTOR, Some(end_of_interrupt));
        trap::set_handler(TIMER_VECTOR, Some(end_of_interrupt));
        trap::set_handler(SPURIOUS_VECTOR, Some(|_| ()));
        let mut messages = Self {
            slot: 0,
            apic_hz: apic_hz(),
            taken: 0,
        };
        messages.switch_on();
        messages
    }

    /// Those of another VP, off.
    pub const fn of_another_vp(&self) -> Self {
        Self {
            slot: 0,
            apic_hz: self.apic_hz,
            taken: 0,
        }
    }

    /// Switches the local APIC and the SynIC of the VP that this runs on on.
    pub fn switch_on(&mut self) {
        let base = rdmsr(APIC_BASE).unwrap_or_else(|fault| fail!("APIC base: {fault:x?}"));
        must(wrmsr(APIC_BASE, base | APIC_ON), "APIC on");
        must(wrmsr(APIC_BASE, base | APIC_ON | X2APIC_ON), "x2APIC on");
        let registers = [
            (SPURIOUS, SOFTWARE_ENABLE | u64::from(SPURIOUS_VECTOR)),
            (TASK_PRIORITY, 0),
            (DIVIDE, DIVIDE_BY_1),
            (LVT_TIMER, u64::from(TIMER_VECTOR)),
        ];
        for (register, value) in registers {
            must(wrmsr(register, value), "register of the local APIC");
        }
        let page = provided_page(HV_X64_MSR_SIMP);
        check!(page.gpfn() != 0, "SIMP names page 0 before it is enabled");
        let sint = HvSynicSint::new().with_vector(SINT0_VECTOR).into_bits();
        let on = HvSynicScontrol::new().with_enabled(true).into_bits();
        let simp = page.with_enabled(true).into_bits();
        must(wrmsr(HV_X64_MSR_SIMP, simp), "SIMP");
        must(wrmsr(HV_X64_MSR_SINT0, sint), "SINT0");
        must(wrmsr(HV_X64_MSR_SCONTROL, on), "SCONTROL");
        self.slot = page.gpfn() * PAGE;
    }

    /// Physical address of the SIM page.
    pub fn page(&self) -> u64 {
        self.slot
    }

    /// Takes the message in the slot of SINT0, if there is one, as a Linux root does.
    pub fn poll(&mut self) -> Option<HvMessage> {
        let message = self.take(0)?;
        self.taken += 1;
        Some(message)
    }

    /// Takes the message in the slot of a SINT, if there is one.
    pub fn take(&self, sint: u32) -> Option<HvMessage> {
        let at = self.slot + u64::from(sint) * size_of::<HvMessage>() as u64;
        if memory::read(at) as u32 == HvMessageType::NONE.0 {
            return None;
        }
        let mut message = HvMessage::new_zeroed();
        memory::copy_from(at, message.as_mut_bytes());
        let slot = virtual_address(at);
        // SAFETY: a slot in the SIM page; the hypervisor writes to it only while its type is 0.
        let flags = unsafe {
            ptr::write_volatile(slot as *mut u32, HvMessageType::NONE.0);
            // The hypervisor sets the flag before it looks at the type again, so it is read after freeing.
            fence(Ordering::SeqCst);
            ptr::read_volatile((slot + FLAGS) as *const u8)
        };
        if flags & MESSAGE_PENDING != 0 {
            must(wrmsr(HV_X64_MSR_EOM, 0), "EOM");
        }
        Some(message)
    }

    /// Sleeps until an interrupt comes, for at most that long: other VPs run meanwhile.
    pub fn nap(&self, micros: u64) {
        let ticks = (self.apic_hz / 1000 * micros / 1000).clamp(1, u64::from(u32::MAX));
        must(wrmsr(INITIAL_COUNT, ticks), "timer of the local APIC");
        wait_for_interrupt();
    }

    /// Lets other VPs run for that long.
    pub fn sleep(&self, micros: u64) {
        let (start, ticks) = (tsc(), tsc_of_micros(micros));
        while tsc().wrapping_sub(start) < ticks {
            self.nap(NAP_MICROS.min(micros));
        }
    }

    /// As [`Messages::sleep`], and wakes as rarely as it can.
    pub fn sleep_through(&self, micros: u64) {
        let (start, hz) = (tsc(), tsc_hz());
        loop {
            let passed = u128::from(tsc().wrapping_sub(start)) * 1_000_000 / u128::from(hz);
            match micros.checked_sub(passed as u64) {
                None | Some(0) => return,
                Some(left) => self.nap(left),
            }
        }
    }

    /// The next message, for which other VPs run meanwhile; `None` after that long without one.
    pub fn wait(&mut self, micros: u64) -> Option<HvMessage> {
        let (start, ticks) = (tsc(), tsc_of_micros(micros));
        loop {
            if let Some(message) = self.poll() {
                return Some(message);
            }
            if tsc().wrapping_sub(start) > ticks {
                return None;
            }
            self.nap(NAP_MICROS);
        }
    }
}

impl Default for Messages {
    fn default() -> Self {
        Self::new()
    }
}
