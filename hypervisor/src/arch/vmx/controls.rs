//! Bits of the VM-execution, VM-exit and VM-entry controls (Intel SDM vol. 3C, chapter 25), how a processor's capability
//! MSRs limit them (appendix A), and which of them the hypervisor uses.

use crate::arch::{Refusal, VcpuKind};

/// Pin-based VM-execution controls.
pub mod pin {
    /// Physical interrupts end the run.
    pub const EXTERNAL_INTERRUPT_EXITING: u32 = 1 << 0;
    /// NMIs end the run.
    pub const NMI_EXITING: u32 = 1 << 3;
    /// NMIs of the guest are masked from their delivery to IRET, apart from the host's.
    pub const VIRTUAL_NMIS: u32 = 1 << 5;
    /// The preemption timer counts while the guest runs.
    pub const ACTIVATE_PREEMPTION_TIMER: u32 = 1 << 6;
    /// Reserved bits that are 1 on all processors that do not say otherwise.
    pub const RESERVED_ONES: u32 = 1 << 1 | 1 << 2 | 1 << 4;
}

/// Primary processor-based VM-execution controls.
pub mod primary {
    /// Ends the run when the guest could take an interrupt.
    pub const INTERRUPT_WINDOW_EXITING: u32 = 1 << 2;
    /// RDTSC adds the TSC offset.
    pub const USE_TSC_OFFSETTING: u32 = 1 << 3;
    /// HLT.
    pub const HLT_EXITING: u32 = 1 << 7;
    /// INVLPG, and INVPCID.
    pub const INVLPG_EXITING: u32 = 1 << 9;
    /// MWAIT.
    pub const MWAIT_EXITING: u32 = 1 << 10;
    /// RDPMC.
    pub const RDPMC_EXITING: u32 = 1 << 11;
    /// RDTSC and RDTSCP.
    pub const RDTSC_EXITING: u32 = 1 << 12;
    /// MOV to CR3.
    pub const CR3_LOAD_EXITING: u32 = 1 << 15;
    /// MOV from CR3.
    pub const CR3_STORE_EXITING: u32 = 1 << 16;
    /// There are tertiary controls.
    pub const ACTIVATE_TERTIARY_CONTROLS: u32 = 1 << 17;
    /// MOV to CR8.
    pub const CR8_LOAD_EXITING: u32 = 1 << 19;
    /// MOV from CR8.
    pub const CR8_STORE_EXITING: u32 = 1 << 20;
    /// CR8 is the task priority of the virtual-APIC page.
    pub const USE_TPR_SHADOW: u32 = 1 << 21;
    /// Ends the run when the guest could take an NMI.
    pub const NMI_WINDOW_EXITING: u32 = 1 << 22;
    /// MOV to and from debug registers.
    pub const MOV_DR_EXITING: u32 = 1 << 23;
    /// All port instructions.
    pub const UNCONDITIONAL_IO_EXITING: u32 = 1 << 24;
    /// Port instructions by the bitmaps.
    pub const USE_IO_BITMAPS: u32 = 1 << 25;
    /// Each instruction.
    pub const MONITOR_TRAP_FLAG: u32 = 1 << 27;
    /// RDMSR and WRMSR by the bitmaps.
    pub const USE_MSR_BITMAPS: u32 = 1 << 28;
    /// MONITOR.
    pub const MONITOR_EXITING: u32 = 1 << 29;
    /// Each PAUSE.
    pub const PAUSE_EXITING: u32 = 1 << 30;
    /// There are secondary controls.
    pub const ACTIVATE_SECONDARY_CONTROLS: u32 = 1 << 31;
    /// Reserved bits that are 1 on all processors that do not say otherwise.
    pub const RESERVED_ONES: u32 =
        1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 13 | 1 << 14 | 1 << 26;
}

/// Secondary processor-based VM-execution controls.
pub mod secondary {
    /// Second-level page tables.
    pub const ENABLE_EPT: u32 = 1 << 1;
    /// RDTSCP and RDPID exist; otherwise they are #UD.
    pub const ENABLE_RDTSCP: u32 = 1 << 3;
    /// The TLB has tags.
    pub const ENABLE_VPID: u32 = 1 << 5;
    /// WBINVD and WBNOINVD.
    pub const WBINVD_EXITING: u32 = 1 << 6;
    /// Guests may turn paging and protection off.
    pub const UNRESTRICTED_GUEST: u32 = 1 << 7;
    /// PAUSE in a loop at privilege level 0.
    pub const PAUSE_LOOP_EXITING: u32 = 1 << 10;
    /// INVPCID exists; otherwise it is #UD.
    pub const ENABLE_INVPCID: u32 = 1 << 12;
    /// ENCLS, as a bitmap says.
    pub const ENCLS_EXITING: u32 = 1 << 15;
    /// TPAUSE, UMONITOR and UMWAIT exist; otherwise they are #UD.
    pub const ENABLE_USER_WAIT_AND_PAUSE: u32 = 1 << 26;
}

/// VM-exit controls.
pub mod exit {
    /// DR7 and IA32_DEBUGCTL of the guest are saved.
    pub const SAVE_DEBUG_CONTROLS: u32 = 1 << 2;
    /// The host is in 64-bit mode.
    pub const HOST_ADDRESS_SPACE_SIZE: u32 = 1 << 9;
    /// An interrupt that ends the run is acknowledged, and its vector told.
    pub const ACKNOWLEDGE_INTERRUPT: u32 = 1 << 15;
    /// IA32_PAT of the guest is saved.
    pub const SAVE_PAT: u32 = 1 << 18;
    /// IA32_PAT of the host is loaded.
    pub const LOAD_PAT: u32 = 1 << 19;
    /// IA32_EFER of the guest is saved.
    pub const SAVE_EFER: u32 = 1 << 20;
    /// IA32_EFER of the host is loaded.
    pub const LOAD_EFER: u32 = 1 << 21;
    /// Reserved bits that are 1 on all processors that do not say otherwise.
    pub const RESERVED_ONES: u32 = 0x0003_6DFF & !SAVE_DEBUG_CONTROLS;
}

/// VM-entry controls.
pub mod entry {
    /// DR7 and IA32_DEBUGCTL of the guest are loaded.
    pub const LOAD_DEBUG_CONTROLS: u32 = 1 << 2;
    /// The guest is in long mode.
    pub const IA32E_MODE_GUEST: u32 = 1 << 9;
    /// IA32_PAT of the guest is loaded.
    pub const LOAD_PAT: u32 = 1 << 14;
    /// IA32_EFER of the guest is loaded.
    pub const LOAD_EFER: u32 = 1 << 15;
    /// Reserved bits that are 1 on all processors that do not say otherwise.
    pub const RESERVED_ONES: u32 = 0x0000_11FF & !LOAD_DEBUG_CONTROLS;
}

/// One value of each control word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// Pin-based VM-execution controls.
    pub pin: u32,
    /// Primary processor-based VM-execution controls.
    pub primary: u32,
    /// Secondary processor-based VM-execution controls.
    pub secondary: u32,
    /// VM-exit controls.
    pub exit: u32,
    /// VM-entry controls.
    pub entry: u32,
}

/// What a capability MSR allows a control word to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Bits that must be 1.
    pub ones: u32,
    /// Bits that may be 1.
    pub may: u32,
}

impl Allowed {
    /// The value of one of the capability MSRs 0x481 to 0x484, 0x48B, and 0x48D to 0x490.
    pub const fn of_msr(value: u64) -> Self {
        Self {
            ones: value as u32,
            may: (value >> 32) as u32,
        }
    }
}

/// What the hypervisor wants of a control word.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Bits that must be 1, each with its name for a refusal, in the order in which they are asked for.
    required: &'static [(u32, Refusal)],
    /// Bits that are 1 if they may be.
    optional: u32,
    /// Bits that may have to be 0 and 1: they differ between VPs, or change while one runs.
    free: &'static [(u32, Refusal)],
    /// Which of them are 1 at first.
    initial: u32,
    /// Bits that may be 1 although nobody here wants them.
    tolerated: u32,
    /// Bits whose being 1 has a name in a refusal. All others that must be 1 get `unknown`.
    unwanted: &'static [(u32, Refusal)],
    /// A bit must be 1 that nobody here knows, or one that may not be 1.
    unknown: Refusal,
}

use Refusal::{Imposes, Lacks};

/// Pin-based controls.
pub const PIN: Wanted = Wanted {
    required: &[
        (
            pin::EXTERNAL_INTERRUPT_EXITING,
            Lacks("external-interrupt exiting"),
        ),
        (pin::NMI_EXITING, Lacks("NMI exiting")),
        (pin::VIRTUAL_NMIS, Lacks("virtual NMIs")),
    ],
    // A guest stays no longer than that, whatever becomes of an interrupt.
    optional: pin::ACTIVATE_PREEMPTION_TIMER,
    free: &[],
    initial: 0,
    tolerated: pin::RESERVED_ONES,
    unwanted: &[],
    unknown: Imposes("unknown pin-based controls"),
};

/// Primary controls of a VP.
pub const fn primary_of(kind: VcpuKind) -> Wanted {
    Wanted {
        required: &[
            (
                primary::ACTIVATE_SECONDARY_CONTROLS,
                Lacks("secondary processor-based controls"),
            ),
            (primary::HLT_EXITING, Lacks("HLT exiting")),
            (primary::MWAIT_EXITING, Lacks("MWAIT exiting")),
            (primary::MONITOR_EXITING, Lacks("MONITOR exiting")),
            (primary::USE_TPR_SHADOW, Lacks("TPR shadow")),
            (primary::USE_IO_BITMAPS, Lacks("I/O bitmaps")),
            (primary::USE_MSR_BITMAPS, Lacks("MSR bitmaps")),
        ],
        optional: 0,
        free: &[
            (
                primary::INTERRUPT_WINDOW_EXITING,
                Lacks("interrupt-window exiting"),
            ),
            (primary::NMI_WINDOW_EXITING, Lacks("NMI-window exiting")),
            (primary::MOV_DR_EXITING, Lacks("optional MOV-DR exiting")),
            (primary::RDPMC_EXITING, Lacks("optional RDPMC exiting")),
            (
                primary::CR3_LOAD_EXITING,
                Lacks("optional CR3-load exiting"),
            ),
            (
                primary::CR3_STORE_EXITING,
                Lacks("optional CR3-store exiting"),
            ),
            (
                primary::CR8_LOAD_EXITING,
                Lacks("optional CR8-load exiting"),
            ),
            (
                primary::CR8_STORE_EXITING,
                Lacks("optional CR8-store exiting"),
            ),
        ],
        initial: match kind {
            VcpuKind::Root => primary::MOV_DR_EXITING,
            // Performance counters are the machine's.
            VcpuKind::Child => primary::MOV_DR_EXITING | primary::RDPMC_EXITING,
        },
        tolerated: primary::RESERVED_ONES,
        unwanted: &[
            (primary::INVLPG_EXITING, Imposes("INVLPG exiting")),
            (primary::RDTSC_EXITING, Imposes("RDTSC exiting")),
            (primary::USE_TSC_OFFSETTING, Imposes("TSC offsetting")),
            (primary::PAUSE_EXITING, Imposes("PAUSE exiting")),
            (primary::MONITOR_TRAP_FLAG, Imposes("the monitor trap flag")),
            (
                primary::UNCONDITIONAL_IO_EXITING,
                Imposes("unconditional I/O exiting"),
            ),
            (
                primary::ACTIVATE_TERTIARY_CONTROLS,
                Imposes("tertiary processor-based controls"),
            ),
        ],
        unknown: Imposes("unknown primary processor-based controls"),
    }
}

/// Secondary controls of a VP. What CPUID hides is left off, so that it is #UD: RDTSCP and the user waits for a child,
/// XSAVES for all.
pub const fn secondary_of(kind: VcpuKind) -> Wanted {
    let both =
        secondary::WBINVD_EXITING | secondary::PAUSE_LOOP_EXITING | secondary::ENABLE_INVPCID;
    Wanted {
        required: &[
            (secondary::ENABLE_EPT, Refusal::NoNestedPaging),
            (secondary::ENABLE_VPID, Refusal::NoTlbTags),
            (
                secondary::UNRESTRICTED_GUEST,
                Lacks("unrestricted guest mode"),
            ),
        ],
        optional: match kind {
            VcpuKind::Child => both | secondary::ENCLS_EXITING,
            VcpuKind::Root => {
                both | secondary::ENABLE_RDTSCP | secondary::ENABLE_USER_WAIT_AND_PAUSE
            }
        },
        free: &[],
        initial: 0,
        tolerated: 0,
        unwanted: &[],
        unknown: Imposes("unwanted secondary processor-based controls"),
    }
}

/// VM-exit controls.
pub const EXIT: Wanted = Wanted {
    required: &[
        (
            exit::HOST_ADDRESS_SPACE_SIZE,
            Lacks("VM exits to 64-bit mode"),
        ),
        (
            exit::SAVE_DEBUG_CONTROLS,
            Lacks("saving of the debug controls"),
        ),
        (exit::SAVE_EFER, Lacks("saving of IA32_EFER")),
        (exit::LOAD_EFER, Lacks("loading of the host's IA32_EFER")),
        (exit::SAVE_PAT, Lacks("saving of IA32_PAT")),
        (exit::LOAD_PAT, Lacks("loading of the host's IA32_PAT")),
    ],
    optional: 0,
    free: &[],
    initial: 0,
    tolerated: exit::RESERVED_ONES,
    unwanted: &[(
        exit::ACKNOWLEDGE_INTERRUPT,
        Imposes("acknowledgement of interrupts on VM exit"),
    )],
    unknown: Imposes("unknown VM-exit controls"),
};

/// VM-entry controls.
pub const ENTRY: Wanted = Wanted {
    required: &[
        (
            entry::LOAD_DEBUG_CONTROLS,
            Lacks("loading of the debug controls"),
        ),
        (entry::LOAD_EFER, Lacks("loading of the guest's IA32_EFER")),
        (entry::LOAD_PAT, Lacks("loading of the guest's IA32_PAT")),
    ],
    optional: 0,
    free: &[(entry::IA32E_MODE_GUEST, Lacks("64-bit guests"))],
    initial: 0,
    tolerated: entry::RESERVED_ONES,
    unwanted: &[],
    unknown: Imposes("unknown VM-entry controls"),
};

impl Wanted {
    /// The value of the control word on a processor with these limits.
    ///
    /// # Errors
    /// The first bit that is needed and not to be had, or imposed and not to be borne.
    pub fn adjust(&self, allowed: Allowed) -> Result<u32, Refusal> {
        let Allowed { ones, may } = allowed;
        if let Some((_, refusal)) = self.required.iter().find(|(bit, _)| may & bit == 0) {
            return Err(*refusal);
        }
        let either = |bit: u32| may & bit != 0 && ones & bit == 0;
        if let Some((_, refusal)) = self.free.iter().find(|(bit, _)| !either(*bit)) {
            return Err(*refusal);
        }
        let required = self.required.iter().fold(0, |all, (bit, _)| all | bit);
        let borne = (required | self.optional | self.tolerated) & may;
        let imposed = ones & !borne;
        if imposed != 0 {
            let named = self.unwanted.iter().find(|(bit, _)| imposed & bit != 0);
            return Err(named.map_or(self.unknown, |(_, refusal)| *refusal));
        }
        Ok(ones | required | self.initial | (self.optional & may))
    }
}
