//! Bits and codes of the control area: AMD64 manual volume 2, appendices B and C.

/// Bits of `intercept_misc1`.
pub mod misc1 {
    /// Physical interrupts.
    pub const INTR: u32 = 1 << 0;
    /// NMIs.
    pub const NMI: u32 = 1 << 1;
    /// INIT.
    pub const INIT: u32 = 1 << 3;
    /// The guest could take a virtual interrupt.
    pub const VINTR: u32 = 1 << 4;
    /// RDPMC.
    pub const RDPMC: u32 = 1 << 15;
    /// CPUID.
    pub const CPUID: u32 = 1 << 18;
    /// RSM.
    pub const RSM: u32 = 1 << 19;
    /// IRET.
    pub const IRET: u32 = 1 << 20;
    /// INVD.
    pub const INVD: u32 = 1 << 22;
    /// PAUSE, subject to the filter.
    pub const PAUSE: u32 = 1 << 23;
    /// HLT.
    pub const HLT: u32 = 1 << 24;
    /// INVLPGA.
    pub const INVLPGA: u32 = 1 << 26;
    /// Ports, by the permission map.
    pub const IOIO_PROT: u32 = 1 << 27;
    /// MSRs, by the permission map.
    pub const MSR_PROT: u32 = 1 << 28;
    /// Task switches.
    pub const TASK_SWITCH: u32 = 1 << 29;
    /// Triple fault.
    pub const SHUTDOWN: u32 = 1 << 31;
}

/// Bits of `intercept_misc2`.
pub mod misc2 {
    /// VMRUN; must be set.
    pub const VMRUN: u32 = 1 << 0;
    /// VMMCALL.
    pub const VMMCALL: u32 = 1 << 1;
    /// VMLOAD.
    pub const VMLOAD: u32 = 1 << 2;
    /// VMSAVE.
    pub const VMSAVE: u32 = 1 << 3;
    /// STGI.
    pub const STGI: u32 = 1 << 4;
    /// CLGI.
    pub const CLGI: u32 = 1 << 5;
    /// SKINIT.
    pub const SKINIT: u32 = 1 << 6;
    /// RDTSCP.
    pub const RDTSCP: u32 = 1 << 7;
    /// WBINVD.
    pub const WBINVD: u32 = 1 << 9;
    /// MONITOR.
    pub const MONITOR: u32 = 1 << 10;
    /// MWAIT.
    pub const MWAIT: u32 = 1 << 11;
    /// MWAIT that would wait.
    pub const MWAIT_ARMED: u32 = 1 << 12;
    /// XSETBV.
    pub const XSETBV: u32 = 1 << 13;
    /// RDPRU.
    pub const RDPRU: u32 = 1 << 14;
}

/// Bits of `intercept_misc3`.
pub mod misc3 {
    /// Every INVLPGB.
    pub const INVLPGB: u32 = 1 << 0;
    /// INVLPGB that is not allowed.
    pub const INVLPGB_ILLEGAL: u32 = 1 << 1;
    /// TLBSYNC.
    pub const TLBSYNC: u32 = 1 << 4;
}

/// Values of `tlb_control`.
pub mod tlb_control {
    /// No flush.
    pub const NONE: u8 = 0;
    /// Everything, of every tag.
    pub const ALL: u8 = 1;
    /// Everything of this guest's tag.
    pub const THIS_GUEST: u8 = 3;
}

/// Bits of `vintr`.
pub mod vintr {
    /// The guest's task priority.
    pub const TPR_MASK: u64 = 0xF;
    /// A virtual interrupt is pending.
    pub const IRQ: u64 = 1 << 8;
    /// Priority of the virtual interrupt.
    pub const PRIORITY_HIGHEST: u64 = 0xF << 16;
    /// The virtual interrupt ignores the task priority.
    pub const IGNORE_TPR: u64 = 1 << 20;
    /// Where the virtual interrupt's vector is.
    pub const VECTOR_SHIFT: u32 = 32;
    /// The virtual interrupt's vector.
    pub const VECTOR_MASK: u64 = 0xFF << VECTOR_SHIFT;
    /// RFLAGS.IF and CR8 of the guest mask virtual interrupts only.
    pub const MASKING: u64 = 1 << 24;
}

/// Bits of `clean_bits`: a set bit says that software changed nothing there since the last #VMEXIT on this processor.
pub mod clean {
    /// Intercepts, TSC offset, pause filter.
    pub const INTERCEPTS: u32 = 1 << 0;
    /// Permission map addresses.
    pub const PERMISSION_MAPS: u32 = 1 << 1;
    /// ASID.
    pub const ASID: u32 = 1 << 2;
    /// Virtual interrupt state.
    pub const TPR: u32 = 1 << 3;
    /// Nested paging: N_CR3, G_PAT.
    pub const NESTED: u32 = 1 << 4;
    /// CR0, CR3, CR4, EFER.
    pub const CR: u32 = 1 << 5;
    /// DR6, DR7.
    pub const DR: u32 = 1 << 6;
    /// GDTR, IDTR.
    pub const TABLES: u32 = 1 << 7;
    /// CS, DS, SS, ES, CPL.
    pub const SEGMENTS: u32 = 1 << 8;
    /// CR2.
    pub const CR2: u32 = 1 << 9;
    /// All that are defined and used.
    pub const ALL: u32 = (1 << 10) - 1;
}

/// `event_inj` and `exit_int_info`.
pub mod event {
    /// Vector, bits 7:0.
    pub const VECTOR_MASK: u64 = 0xFF;
    /// Type, bits 10:8.
    pub const TYPE_MASK: u64 = 7 << 8;
    /// External interrupt.
    pub const TYPE_INTERRUPT: u64 = 0 << 8;
    /// NMI.
    pub const TYPE_NMI: u64 = 2 << 8;
    /// Exception.
    pub const TYPE_EXCEPTION: u64 = 3 << 8;
    /// INT n.
    pub const TYPE_SOFTWARE: u64 = 4 << 8;
    /// The error code in bits 63:32 is pushed.
    pub const ERROR_CODE_VALID: u64 = 1 << 11;
    /// The field holds an event.
    pub const VALID: u64 = 1 << 31;
}

/// Exit codes.
pub mod exit_code {
    /// CR0 read; up to CR15.
    pub const CR0_READ: u64 = 0x00;
    /// CR15 write, the last of the control register codes.
    pub const CR15_WRITE: u64 = 0x1F;
    /// DR0 read; up to DR15 write at 0x3F.
    pub const DR0_READ: u64 = 0x20;
    /// DR15 write.
    pub const DR15_WRITE: u64 = 0x3F;
    /// Exception 0.
    pub const EXCEPTION_0: u64 = 0x40;
    /// Exception 31.
    pub const EXCEPTION_31: u64 = 0x5F;
    /// Physical interrupt.
    pub const INTR: u64 = 0x60;
    /// NMI.
    pub const NMI: u64 = 0x61;
    /// INIT.
    pub const INIT: u64 = 0x63;
    /// Interrupt window.
    pub const VINTR: u64 = 0x64;
    /// Write of CR0 bits other than TS and MP.
    pub const CR0_SEL_WRITE: u64 = 0x65;
    /// RDPMC.
    pub const RDPMC: u64 = 0x6F;
    /// CPUID.
    pub const CPUID: u64 = 0x72;
    /// RSM.
    pub const RSM: u64 = 0x73;
    /// IRET.
    pub const IRET: u64 = 0x74;
    /// INVD.
    pub const INVD: u64 = 0x76;
    /// PAUSE.
    pub const PAUSE: u64 = 0x77;
    /// HLT.
    pub const HLT: u64 = 0x78;
    /// INVLPGA.
    pub const INVLPGA: u64 = 0x7A;
    /// Port access.
    pub const IOIO: u64 = 0x7B;
    /// MSR access; EXITINFO1 = 1 for WRMSR.
    pub const MSR: u64 = 0x7C;
    /// Task switch.
    pub const TASK_SWITCH: u64 = 0x7D;
    /// Triple fault.
    pub const SHUTDOWN: u64 = 0x7F;
    /// VMRUN.
    pub const VMRUN: u64 = 0x80;
    /// VMMCALL.
    pub const VMMCALL: u64 = 0x81;
    /// VMLOAD.
    pub const VMLOAD: u64 = 0x82;
    /// SKINIT.
    pub const SKINIT: u64 = 0x86;
    /// RDTSCP.
    pub const RDTSCP: u64 = 0x87;
    /// WBINVD.
    pub const WBINVD: u64 = 0x89;
    /// MONITOR.
    pub const MONITOR: u64 = 0x8A;
    /// MWAIT.
    pub const MWAIT: u64 = 0x8B;
    /// MWAIT that would wait.
    pub const MWAIT_ARMED: u64 = 0x8C;
    /// XSETBV.
    pub const XSETBV: u64 = 0x8D;
    /// RDPRU.
    pub const RDPRU: u64 = 0x8E;
    /// INVLPGB.
    pub const INVLPGB: u64 = 0xA0;
    /// INVLPGB that is not allowed.
    pub const INVLPGB_ILLEGAL: u64 = 0xA1;
    /// TLBSYNC.
    pub const TLBSYNC: u64 = 0xA4;
    /// Nested page fault.
    pub const NPF: u64 = 0x400;
    /// The block holds a state that VMRUN refuses.
    pub const INVALID: u64 = u64::MAX;
}
