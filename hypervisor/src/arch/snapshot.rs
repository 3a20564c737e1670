//! The registers that whoever hears of an exit sees, read in one go.

use super::exit::Event;
use super::state::{Segment, SegmentName};

/// Registers of a VP that does not run: what intercept messages and the register page show of them, without the general
/// registers. Whose VP it is, is asked once for all.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The segment registers, in the order of [`Self::SEGMENTS`].
    pub segments: [Segment; 6],
    /// RIP.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER as the guest sees it.
    pub efer: u64,
    /// DR7.
    pub dr7: u64,
    /// Privilege level.
    pub cpl: u8,
    /// The event of the next entry.
    pub pending_event: Option<Event>,
    /// The interrupt shadow.
    pub interrupt_shadow: bool,
    /// NMIs wait for IRET.
    pub nmi_masked: bool,
}

impl Snapshot {
    /// The order of the segment registers: that of their numbers in instructions, and of the register page.
    pub const SEGMENTS: [SegmentName; 6] = [
        SegmentName::Es,
        SegmentName::Cs,
        SegmentName::Ss,
        SegmentName::Ds,
        SegmentName::Fs,
        SegmentName::Gs,
    ];

    /// ES.
    pub const fn es(&self) -> &Segment {
        &self.segments[0]
    }

    /// CS.
    pub const fn cs(&self) -> &Segment {
        &self.segments[1]
    }

    /// SS.
    pub const fn ss(&self) -> &Segment {
        &self.segments[2]
    }

    /// DS.
    pub const fn ds(&self) -> &Segment {
        &self.segments[3]
    }
}

/// Reads a [`Snapshot`] by the methods that both vendors' VPs have.
macro_rules! snapshot {
    ($vcpu:expr) => {
        Snapshot {
            segments: Snapshot::SEGMENTS.map(|name| $vcpu.segment(name)),
            rip: $vcpu.rip(),
            rflags: $vcpu.rflags(),
            cr0: $vcpu.cr0(),
            cr3: $vcpu.cr3(),
            cr4: $vcpu.cr4(),
            efer: $vcpu.efer(),
            dr7: $vcpu.dr7(),
            cpl: $vcpu.cpl(),
            pending_event: $vcpu.pending_event(),
            interrupt_shadow: $vcpu.interrupt_shadow(),
            nmi_masked: $vcpu.nmi_masked(),
        }
    };
}
pub(super) use snapshot;
