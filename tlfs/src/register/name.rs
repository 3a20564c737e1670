//! Names of the registers of a virtual processor (TLFS `HV_REGISTER_NAME`; root sheet D.3).

use crate::macros::wire_enum;

wire_enum! {
    /// Name of a register in Get/SetVpRegisters. Values are 16 bytes, of which registers use the low part.
    ///
    /// Writing one has none of the side effects of the instruction that would write it (no TLB flush, no exception).
    pub struct HvRegisterName(u32);
    /// [`HvExplicitSuspendRegister`](crate::HvExplicitSuspendRegister).
    EXPLICIT_SUSPEND = 0x0000_0000, "HvRegisterExplicitSuspend";
    /// [`HvInterceptSuspendRegister`](crate::HvInterceptSuspendRegister).
    INTERCEPT_SUSPEND = 0x0000_0001, "HvRegisterInterceptSuspend";
    INSTRUCTION_EMULATION_HINTS = 0x0000_0002, "HvRegisterInstructionEmulationHints";
    /// [`HvDispatchSuspendRegister`](crate::HvDispatchSuspendRegister).
    DISPATCH_SUSPEND = 0x0000_0003, "HvRegisterDispatchSuspend";
    /// [`HvInternalActivityRegister`](crate::HvInternalActivityRegister).
    INTERNAL_ACTIVITY_STATE = 0x0000_0004, "HvRegisterInternalActivityState";
    /// 128 bits: CPUID 0x40000002.
    HYPERVISOR_VERSION = 0x0000_0100, "HvRegisterHypervisorVersion";
    /// 128 bits: CPUID 0x40000003.
    PRIVILEGES_AND_FEATURES_INFO = 0x0000_0200, "HvRegisterPrivilegesAndFeaturesInfo";
    /// 128 bits: CPUID 0x40000004.
    FEATURES_INFO = 0x0000_0201, "HvRegisterFeaturesInfo";
    /// 128 bits: CPUID 0x40000005.
    IMPLEMENTATION_LIMITS_INFO = 0x0000_0202, "HvRegisterImplementationLimitsInfo";
    /// 128 bits: CPUID 0x40000006.
    HARDWARE_FEATURES_INFO = 0x0000_0203, "HvRegisterHardwareFeaturesInfo";
    /// 128 bits: CPUID 0x40000007.
    CPU_MANAGEMENT_FEATURES_INFO = 0x0000_0204, "HvRegisterCpuManagementFeaturesInfo";
    /// 128 bits: CPUID 0x40000008.
    SVM_FEATURES_INFO = 0x0000_0205, "HvRegisterSvmFeaturesInfo";
    /// 128 bits: CPUID 0x40000009.
    SKIP_LEVEL_FEATURES_INFO = 0x0000_0206, "HvRegisterSkipLevelFeaturesInfo";
    /// 128 bits: CPUID 0x4000000A.
    NESTED_VIRT_FEATURES_INFO = 0x0000_0207, "HvRegisterNestedVirtFeaturesInfo";
    /// 128 bits: CPUID 0x4000000B.
    IPT_FEATURES_INFO = 0x0000_0208, "HvRegisterIptFeaturesInfo";
    GUEST_CRASH_P0 = 0x0000_0210, "HvRegisterGuestCrashP0";
    GUEST_CRASH_P1 = 0x0000_0211, "HvRegisterGuestCrashP1";
    GUEST_CRASH_P2 = 0x0000_0212, "HvRegisterGuestCrashP2";
    GUEST_CRASH_P3 = 0x0000_0213, "HvRegisterGuestCrashP3";
    GUEST_CRASH_P4 = 0x0000_0214, "HvRegisterGuestCrashP4";
    GUEST_CRASH_CTL = 0x0000_0215, "HvRegisterGuestCrashCtl";
    /// Hz.
    PROCESSOR_CLOCK_FREQUENCY = 0x0000_0240, "HvRegisterProcessorClockFrequency";
    /// Hz.
    INTERRUPT_CLOCK_FREQUENCY = 0x0000_0241, "HvRegisterInterruptClockFrequency";
    GUEST_IDLE = 0x0000_0250, "HvRegisterGuestIdle";
    /// [`HvX64PendingInterruptionRegister`](crate::HvX64PendingInterruptionRegister).
    PENDING_INTERRUPTION = 0x0001_0002, "HvRegisterPendingInterruption";
    /// [`HvX64InterruptStateRegister`](crate::HvX64InterruptStateRegister).
    INTERRUPT_STATE = 0x0001_0003, "HvRegisterInterruptState";
    /// [`HvX64PendingEvent`](crate::HvX64PendingEvent), low half.
    PENDING_EVENT0 = 0x0001_0004, "HvRegisterPendingEvent0";
    PENDING_EVENT1 = 0x0001_0005, "HvRegisterPendingEvent1";
    /// [`HvDeliverabilityNotificationsRegister`](crate::HvDeliverabilityNotificationsRegister).
    DELIVERABILITY_NOTIFICATIONS = 0x0001_0006, "HvRegisterDeliverabilityNotifications";
    PENDING_DEBUG_EXCEPTION = 0x0001_0007, "HvX64RegisterPendingDebugException";
    PENDING_EVENT2 = 0x0001_0008, "HvRegisterPendingEvent2";
    PENDING_EVENT3 = 0x0001_0009, "HvRegisterPendingEvent3";
    RAX = 0x0002_0000, "HvX64RegisterRax";
    RCX = 0x0002_0001, "HvX64RegisterRcx";
    RDX = 0x0002_0002, "HvX64RegisterRdx";
    RBX = 0x0002_0003, "HvX64RegisterRbx";
    RSP = 0x0002_0004, "HvX64RegisterRsp";
    RBP = 0x0002_0005, "HvX64RegisterRbp";
    RSI = 0x0002_0006, "HvX64RegisterRsi";
    RDI = 0x0002_0007, "HvX64RegisterRdi";
    R8 = 0x0002_0008, "HvX64RegisterR8";
    R9 = 0x0002_0009, "HvX64RegisterR9";
    R10 = 0x0002_000A, "HvX64RegisterR10";
    R11 = 0x0002_000B, "HvX64RegisterR11";
    R12 = 0x0002_000C, "HvX64RegisterR12";
    R13 = 0x0002_000D, "HvX64RegisterR13";
    R14 = 0x0002_000E, "HvX64RegisterR14";
    R15 = 0x0002_000F, "HvX64RegisterR15";
    RIP = 0x0002_0010, "HvX64RegisterRip";
    RFLAGS = 0x0002_0011, "HvX64RegisterRflags";
    XMM0 = 0x0003_0000, "HvX64RegisterXmm0";
    XMM1 = 0x0003_0001, "HvX64RegisterXmm1";
    XMM2 = 0x0003_0002, "HvX64RegisterXmm2";
    XMM3 = 0x0003_0003, "HvX64RegisterXmm3";
    XMM4 = 0x0003_0004, "HvX64RegisterXmm4";
    XMM5 = 0x0003_0005, "HvX64RegisterXmm5";
    XMM6 = 0x0003_0006, "HvX64RegisterXmm6";
    XMM7 = 0x0003_0007, "HvX64RegisterXmm7";
    XMM8 = 0x0003_0008, "HvX64RegisterXmm8";
    XMM9 = 0x0003_0009, "HvX64RegisterXmm9";
    XMM10 = 0x0003_000A, "HvX64RegisterXmm10";
    XMM11 = 0x0003_000B, "HvX64RegisterXmm11";
    XMM12 = 0x0003_000C, "HvX64RegisterXmm12";
    XMM13 = 0x0003_000D, "HvX64RegisterXmm13";
    XMM14 = 0x0003_000E, "HvX64RegisterXmm14";
    XMM15 = 0x0003_000F, "HvX64RegisterXmm15";
    FP_MMX0 = 0x0003_0010, "HvX64RegisterFpMmx0";
    FP_MMX1 = 0x0003_0011, "HvX64RegisterFpMmx1";
    FP_MMX2 = 0x0003_0012, "HvX64RegisterFpMmx2";
    FP_MMX3 = 0x0003_0013, "HvX64RegisterFpMmx3";
    FP_MMX4 = 0x0003_0014, "HvX64RegisterFpMmx4";
    FP_MMX5 = 0x0003_0015, "HvX64RegisterFpMmx5";
    FP_MMX6 = 0x0003_0016, "HvX64RegisterFpMmx6";
    FP_MMX7 = 0x0003_0017, "HvX64RegisterFpMmx7";
    /// [`HvX64FpControlStatusRegister`](crate::HvX64FpControlStatusRegister).
    FP_CONTROL_STATUS = 0x0003_0018, "HvX64RegisterFpControlStatus";
    /// [`HvX64XmmControlStatusRegister`](crate::HvX64XmmControlStatusRegister).
    XMM_CONTROL_STATUS = 0x0003_0019, "HvX64RegisterXmmControlStatus";
    CR0 = 0x0004_0000, "HvX64RegisterCr0";
    CR2 = 0x0004_0001, "HvX64RegisterCr2";
    CR3 = 0x0004_0002, "HvX64RegisterCr3";
    CR4 = 0x0004_0003, "HvX64RegisterCr4";
    /// The TLFS's table prints Cr5: misprint.
    CR8 = 0x0004_0004, "HvX64RegisterCr8";
    /// XCR0.
    XFEM = 0x0004_0005, "HvX64RegisterXfem";
    /// Value during an update of several registers: checks are deferred.
    INTERMEDIATE_CR0 = 0x0004_1000, "HvX64RegisterIntermediateCr0";
    /// Value during an update of several registers: checks are deferred.
    INTERMEDIATE_CR3 = 0x0004_1002, "HvX64RegisterIntermediateCr3";
    /// Value during an update of several registers: checks are deferred.
    INTERMEDIATE_CR4 = 0x0004_1003, "HvX64RegisterIntermediateCr4";
    /// Value during an update of several registers: checks are deferred.
    INTERMEDIATE_CR8 = 0x0004_1004, "HvX64RegisterIntermediateCr8";
    DR0 = 0x0005_0000, "HvX64RegisterDr0";
    DR1 = 0x0005_0001, "HvX64RegisterDr1";
    DR2 = 0x0005_0002, "HvX64RegisterDr2";
    DR3 = 0x0005_0003, "HvX64RegisterDr3";
    DR6 = 0x0005_0004, "HvX64RegisterDr6";
    DR7 = 0x0005_0005, "HvX64RegisterDr7";
    /// [`HvX64SegmentRegister`](crate::HvX64SegmentRegister).
    ES = 0x0006_0000, "HvX64RegisterEs";
    /// [`HvX64SegmentRegister`](crate::HvX64SegmentRegister).
    CS = 0x0006_0001, "HvX64RegisterCs";
    /// [`HvX64SegmentRegister`](crate::HvX64SegmentRegister).
    SS = 0x0006_0002, "HvX64RegisterSs";
    /// [`HvX64SegmentRegister`](crate::HvX64SegmentRegister).
    DS = 0x0006_0003, "HvX64RegisterDs";
    /// [`HvX64SegmentRegister`](crate::HvX64SegmentRegister).
    FS = 0x0006_0004, "HvX64RegisterFs";
    /// [`HvX64SegmentRegister`](crate::HvX64SegmentRegister).
    GS = 0x0006_0005, "HvX64RegisterGs";
    /// [`HvX64SegmentRegister`](crate::HvX64SegmentRegister).
    LDTR = 0x0006_0006, "HvX64RegisterLdtr";
    /// [`HvX64SegmentRegister`](crate::HvX64SegmentRegister).
    TR = 0x0006_0007, "HvX64RegisterTr";
    /// [`HvX64TableRegister`](crate::HvX64TableRegister).
    IDTR = 0x0007_0000, "HvX64RegisterIdtr";
    /// [`HvX64TableRegister`](crate::HvX64TableRegister).
    GDTR = 0x0007_0001, "HvX64RegisterGdtr";
    TSC = 0x0008_0000, "HvX64RegisterTsc";
    EFER = 0x0008_0001, "HvX64RegisterEfer";
    KERNEL_GS_BASE = 0x0008_0002, "HvX64RegisterKernelGsBase";
    APIC_BASE = 0x0008_0003, "HvX64RegisterApicBase";
    PAT = 0x0008_0004, "HvX64RegisterPat";
    SYSENTER_CS = 0x0008_0005, "HvX64RegisterSysenterCs";
    SYSENTER_EIP = 0x0008_0006, "HvX64RegisterSysenterEip";
    SYSENTER_ESP = 0x0008_0007, "HvX64RegisterSysenterEsp";
    STAR = 0x0008_0008, "HvX64RegisterStar";
    LSTAR = 0x0008_0009, "HvX64RegisterLstar";
    CSTAR = 0x0008_000A, "HvX64RegisterCstar";
    SFMASK = 0x0008_000B, "HvX64RegisterSfmask";
    INITIAL_APIC_ID = 0x0008_000C, "HvX64RegisterInitialApicId";
    MSR_MTRR_CAP = 0x0008_000D, "HvX64RegisterMtrrCap";
    MSR_MTRR_DEF_TYPE = 0x0008_000E, "HvX64RegisterMtrrDefType";
    MSR_MTRR_PHYS_BASE0 = 0x0008_0010, "HvX64RegisterMtrrPhysBase0";
    MSR_MTRR_PHYS_BASE1 = 0x0008_0011, "HvX64RegisterMtrrPhysBase1";
    MSR_MTRR_PHYS_BASE2 = 0x0008_0012, "HvX64RegisterMtrrPhysBase2";
    MSR_MTRR_PHYS_BASE3 = 0x0008_0013, "HvX64RegisterMtrrPhysBase3";
    MSR_MTRR_PHYS_BASE4 = 0x0008_0014, "HvX64RegisterMtrrPhysBase4";
    MSR_MTRR_PHYS_BASE5 = 0x0008_0015, "HvX64RegisterMtrrPhysBase5";
    MSR_MTRR_PHYS_BASE6 = 0x0008_0016, "HvX64RegisterMtrrPhysBase6";
    MSR_MTRR_PHYS_BASE7 = 0x0008_0017, "HvX64RegisterMtrrPhysBase7";
    MSR_MTRR_PHYS_BASE8 = 0x0008_0018, "HvX64RegisterMtrrPhysBase8";
    MSR_MTRR_PHYS_BASE9 = 0x0008_0019, "HvX64RegisterMtrrPhysBase9";
    MSR_MTRR_PHYS_BASEA = 0x0008_001A, "HvX64RegisterMtrrPhysBaseA";
    MSR_MTRR_PHYS_BASEB = 0x0008_001B, "HvX64RegisterMtrrPhysBaseB";
    MSR_MTRR_PHYS_BASEC = 0x0008_001C, "HvX64RegisterMtrrPhysBaseC";
    MSR_MTRR_PHYS_BASED = 0x0008_001D, "HvX64RegisterMtrrPhysBaseD";
    MSR_MTRR_PHYS_BASEE = 0x0008_001E, "HvX64RegisterMtrrPhysBaseE";
    MSR_MTRR_PHYS_BASEF = 0x0008_001F, "HvX64RegisterMtrrPhysBaseF";
    MSR_MTRR_PHYS_MASK0 = 0x0008_0040, "HvX64RegisterMtrrPhysMask0";
    MSR_MTRR_PHYS_MASK1 = 0x0008_0041, "HvX64RegisterMtrrPhysMask1";
    MSR_MTRR_PHYS_MASK2 = 0x0008_0042, "HvX64RegisterMtrrPhysMask2";
    MSR_MTRR_PHYS_MASK3 = 0x0008_0043, "HvX64RegisterMtrrPhysMask3";
    MSR_MTRR_PHYS_MASK4 = 0x0008_0044, "HvX64RegisterMtrrPhysMask4";
    MSR_MTRR_PHYS_MASK5 = 0x0008_0045, "HvX64RegisterMtrrPhysMask5";
    MSR_MTRR_PHYS_MASK6 = 0x0008_0046, "HvX64RegisterMtrrPhysMask6";
    MSR_MTRR_PHYS_MASK7 = 0x0008_0047, "HvX64RegisterMtrrPhysMask7";
    MSR_MTRR_PHYS_MASK8 = 0x0008_0048, "HvX64RegisterMtrrPhysMask8";
    MSR_MTRR_PHYS_MASK9 = 0x0008_0049, "HvX64RegisterMtrrPhysMask9";
    MSR_MTRR_PHYS_MASKA = 0x0008_004A, "HvX64RegisterMtrrPhysMaskA";
    MSR_MTRR_PHYS_MASKB = 0x0008_004B, "HvX64RegisterMtrrPhysMaskB";
    MSR_MTRR_PHYS_MASKC = 0x0008_004C, "HvX64RegisterMtrrPhysMaskC";
    MSR_MTRR_PHYS_MASKD = 0x0008_004D, "HvX64RegisterMtrrPhysMaskD";
    MSR_MTRR_PHYS_MASKE = 0x0008_004E, "HvX64RegisterMtrrPhysMaskE";
    MSR_MTRR_PHYS_MASKF = 0x0008_004F, "HvX64RegisterMtrrPhysMaskF";
    MSR_MTRR_FIX64K00000 = 0x0008_0070, "HvX64RegisterMtrrFix64k00000";
    MSR_MTRR_FIX16K80000 = 0x0008_0071, "HvX64RegisterMtrrFix16k80000";
    MSR_MTRR_FIX16KA0000 = 0x0008_0072, "HvX64RegisterMtrrFix16kA0000";
    MSR_MTRR_FIX4KC0000 = 0x0008_0073, "HvX64RegisterMtrrFix4kC0000";
    MSR_MTRR_FIX4KC8000 = 0x0008_0074, "HvX64RegisterMtrrFix4kC8000";
    MSR_MTRR_FIX4KD0000 = 0x0008_0075, "HvX64RegisterMtrrFix4kD0000";
    MSR_MTRR_FIX4KD8000 = 0x0008_0076, "HvX64RegisterMtrrFix4kD8000";
    MSR_MTRR_FIX4KE0000 = 0x0008_0077, "HvX64RegisterMtrrFix4kE0000";
    MSR_MTRR_FIX4KE8000 = 0x0008_0078, "HvX64RegisterMtrrFix4kE8000";
    MSR_MTRR_FIX4KF0000 = 0x0008_0079, "HvX64RegisterMtrrFix4kF0000";
    MSR_MTRR_FIX4KF8000 = 0x0008_007A, "HvX64RegisterMtrrFix4kF8000";
    TSC_AUX = 0x0008_007B, "HvX64RegisterTscAux";
    BNDCFGS = 0x0008_007C, "HvX64RegisterBndcfgs";
    DEBUG_CTL = 0x0008_007D, "HvX64RegisterDebugCtl";
    MCOUNT = 0x0008_007E, "HvX64RegisterMCount";
    ACOUNT = 0x0008_007F, "HvX64RegisterACount";
    SGX_LAUNCH_CONTROL0 = 0x0008_0080, "HvX64RegisterSgxLaunchControl0";
    SGX_LAUNCH_CONTROL1 = 0x0008_0081, "HvX64RegisterSgxLaunchControl1";
    SGX_LAUNCH_CONTROL2 = 0x0008_0082, "HvX64RegisterSgxLaunchControl2";
    SGX_LAUNCH_CONTROL3 = 0x0008_0083, "HvX64RegisterSgxLaunchControl3";
    SPEC_CTRL = 0x0008_0084, "HvX64RegisterSpecCtrl";
    PRED_CMD = 0x0008_0085, "HvX64RegisterPredCmd";
    VIRT_SPEC_CTRL = 0x0008_0086, "HvX64RegisterVirtSpecCtrl";
    XSS = 0x0008_008B, "HvX64RegisterXss";
    U_CET = 0x0008_008C, "HvX64RegisterUCet";
    S_CET = 0x0008_008D, "HvX64RegisterSCet";
    SSP = 0x0008_008E, "HvX64RegisterSsp";
    PL0_SSP = 0x0008_008F, "HvX64RegisterPl0Ssp";
    PL1_SSP = 0x0008_0090, "HvX64RegisterPl1Ssp";
    PL2_SSP = 0x0008_0091, "HvX64RegisterPl2Ssp";
    PL3_SSP = 0x0008_0092, "HvX64RegisterPl3Ssp";
    INTERRUPT_SSP_TABLE_ADDR = 0x0008_0093, "HvX64RegisterInterruptSspTableAddr";
    TSC_DEADLINE = 0x0008_0095, "HvX64RegisterTscDeadline";
    TSC_ADJUST = 0x0008_0096, "HvX64RegisterTscAdjust";
    XFD = 0x0008_0099, "HvX64RegisterXfd";
    XFD_ERR = 0x0008_009A, "HvX64RegisterXfdErr";
    MSR_IA32_MISC_ENABLE = 0x0008_00A0, "HvX64RegisterMsrIa32MiscEnable";
    APIC_ID = 0x0008_4802, "HvX64RegisterApicId";
    APIC_VERSION = 0x0008_4803, "HvX64RegisterApicVersion";
    APIC_TPR = 0x0008_4808, "HvX64RegisterApicTpr";
    APIC_PPR = 0x0008_480A, "HvX64RegisterApicPpr";
    APIC_EOI = 0x0008_480B, "HvX64RegisterApicEoi";
    APIC_LDR = 0x0008_480D, "HvX64RegisterApicLdr";
    APIC_SPURIOUS = 0x0008_480F, "HvX64RegisterApicSpurious";
    APIC_ISR0 = 0x0008_4810, "HvX64RegisterApicIsr0";
    APIC_ISR1 = 0x0008_4811, "HvX64RegisterApicIsr1";
    APIC_ISR2 = 0x0008_4812, "HvX64RegisterApicIsr2";
    APIC_ISR3 = 0x0008_4813, "HvX64RegisterApicIsr3";
    APIC_ISR4 = 0x0008_4814, "HvX64RegisterApicIsr4";
    APIC_ISR5 = 0x0008_4815, "HvX64RegisterApicIsr5";
    APIC_ISR6 = 0x0008_4816, "HvX64RegisterApicIsr6";
    APIC_ISR7 = 0x0008_4817, "HvX64RegisterApicIsr7";
    APIC_TMR0 = 0x0008_4818, "HvX64RegisterApicTmr0";
    APIC_TMR1 = 0x0008_4819, "HvX64RegisterApicTmr1";
    APIC_TMR2 = 0x0008_481A, "HvX64RegisterApicTmr2";
    APIC_TMR3 = 0x0008_481B, "HvX64RegisterApicTmr3";
    APIC_TMR4 = 0x0008_481C, "HvX64RegisterApicTmr4";
    APIC_TMR5 = 0x0008_481D, "HvX64RegisterApicTmr5";
    APIC_TMR6 = 0x0008_481E, "HvX64RegisterApicTmr6";
    APIC_TMR7 = 0x0008_481F, "HvX64RegisterApicTmr7";
    APIC_IRR0 = 0x0008_4820, "HvX64RegisterApicIrr0";
    APIC_IRR1 = 0x0008_4821, "HvX64RegisterApicIrr1";
    APIC_IRR2 = 0x0008_4822, "HvX64RegisterApicIrr2";
    APIC_IRR3 = 0x0008_4823, "HvX64RegisterApicIrr3";
    APIC_IRR4 = 0x0008_4824, "HvX64RegisterApicIrr4";
    APIC_IRR5 = 0x0008_4825, "HvX64RegisterApicIrr5";
    APIC_IRR6 = 0x0008_4826, "HvX64RegisterApicIrr6";
    APIC_IRR7 = 0x0008_4827, "HvX64RegisterApicIrr7";
    APIC_ESR = 0x0008_4828, "HvX64RegisterApicEsr";
    APIC_LVT_CMCI = 0x0008_482F, "HvX64RegisterApicLvtCmci";
    APIC_ICR = 0x0008_4830, "HvX64RegisterApicIcr";
    APIC_LVT_TIMER = 0x0008_4832, "HvX64RegisterApicLvtTimer";
    APIC_LVT_THERMAL = 0x0008_4833, "HvX64RegisterApicLvtThermal";
    APIC_LVT_PERFMON = 0x0008_4834, "HvX64RegisterApicLvtPerfmon";
    APIC_LVT_LINT0 = 0x0008_4835, "HvX64RegisterApicLvtLint0";
    APIC_LVT_LINT1 = 0x0008_4836, "HvX64RegisterApicLvtLint1";
    APIC_LVT_ERROR = 0x0008_4837, "HvX64RegisterApicLvtError";
    APIC_INIT_COUNT = 0x0008_4838, "HvX64RegisterApicInitCount";
    APIC_CURRENT_COUNT = 0x0008_4839, "HvX64RegisterApicCurrentCount";
    APIC_DIVIDE = 0x0008_483E, "HvX64RegisterApicDivide";
    APIC_SELF_IPI = 0x0008_483F, "HvX64RegisterApicSelfIpi";
    VP_RUNTIME = 0x0009_0000, "HvRegisterVpRuntime";
    HYPERCALL = 0x0009_0001, "HvX64RegisterHypercall";
    GUEST_OS_ID = 0x0009_0002, "HvRegisterGuestOsId";
    VP_INDEX = 0x0009_0003, "HvRegisterVpIndex";
    TIME_REF_COUNT = 0x0009_0004, "HvRegisterTimeRefCount";
    EOI = 0x0009_0010, "HvX64RegisterEoi";
    ICR = 0x0009_0011, "HvX64RegisterIcr";
    TPR = 0x0009_0012, "HvX64RegisterTpr";
    VP_ASSIST_PAGE = 0x0009_0013, "HvRegisterVpAssistPage";
    VP_ROOT_SIGNAL_COUNT = 0x0009_0014, "HvRegisterVpRootSignalCount";
    REFERENCE_TSC = 0x0009_0017, "HvRegisterReferenceTsc";
    REFERENCE_TSC_SEQUENCE = 0x0009_001A, "HvRegisterReferenceTscSequence";
    REG_PAGE = 0x0009_001C, "HvX64RegisterRegPage";
    SINT0 = 0x000A_0000, "HvRegisterSint0";
    SINT1 = 0x000A_0001, "HvRegisterSint1";
    SINT2 = 0x000A_0002, "HvRegisterSint2";
    SINT3 = 0x000A_0003, "HvRegisterSint3";
    SINT4 = 0x000A_0004, "HvRegisterSint4";
    SINT5 = 0x000A_0005, "HvRegisterSint5";
    SINT6 = 0x000A_0006, "HvRegisterSint6";
    SINT7 = 0x000A_0007, "HvRegisterSint7";
    SINT8 = 0x000A_0008, "HvRegisterSint8";
    SINT9 = 0x000A_0009, "HvRegisterSint9";
    SINT10 = 0x000A_000A, "HvRegisterSint10";
    SINT11 = 0x000A_000B, "HvRegisterSint11";
    SINT12 = 0x000A_000C, "HvRegisterSint12";
    SINT13 = 0x000A_000D, "HvRegisterSint13";
    SINT14 = 0x000A_000E, "HvRegisterSint14";
    SINT15 = 0x000A_000F, "HvRegisterSint15";
    SCONTROL = 0x000A_0010, "HvRegisterScontrol";
    SVERSION = 0x000A_0011, "HvRegisterSversion";
    SIEFP = 0x000A_0012, "HvRegisterSiefp";
    SIMP = 0x000A_0013, "HvRegisterSimp";
    EOM = 0x000A_0014, "HvRegisterEom";
    SIRBP = 0x000A_0015, "HvRegisterSirbp";
    STIMER0_CONFIG = 0x000B_0000, "HvRegisterStimer0Config";
    STIMER0_COUNT = 0x000B_0001, "HvRegisterStimer0Count";
    STIMER1_CONFIG = 0x000B_0002, "HvRegisterStimer1Config";
    STIMER1_COUNT = 0x000B_0003, "HvRegisterStimer1Count";
    STIMER2_CONFIG = 0x000B_0004, "HvRegisterStimer2Config";
    STIMER2_COUNT = 0x000B_0005, "HvRegisterStimer2Count";
    STIMER3_CONFIG = 0x000B_0006, "HvRegisterStimer3Config";
    STIMER3_COUNT = 0x000B_0007, "HvRegisterStimer3Count";
    VSM_CODE_PAGE_OFFSETS = 0x000D_0002, "HvRegisterVsmCodePageOffsets";
    VSM_VP_STATUS = 0x000D_0003, "HvRegisterVsmVpStatus";
    VSM_PARTITION_STATUS = 0x000D_0004, "HvRegisterVsmPartitionStatus";
    VSM_VINA = 0x000D_0005, "HvRegisterVsmVina";
    VSM_CAPABILITIES = 0x000D_0006, "HvRegisterVsmCapabilities";
    VSM_PARTITION_CONFIG = 0x000D_0007, "HvRegisterVsmPartitionConfig";
    CR_INTERCEPT_CONTROL = 0x000E_0000, "HvX64RegisterCrInterceptControl";
    CR_INTERCEPT_CR0_MASK = 0x000E_0001, "HvX64RegisterCrInterceptCr0Mask";
    CR_INTERCEPT_CR4_MASK = 0x000E_0002, "HvX64RegisterCrInterceptCr4Mask";
    CR_INTERCEPT_IA32_MISC_ENABLE_MASK = 0x000E_0003, "HvX64RegisterCrInterceptIa32MiscEnableMask";
}

impl HvRegisterName {
    /// SINTn, `None` for n above 15.
    pub const fn sint(n: u32) -> Option<Self> {
        if n < 16 {
            Some(Self(Self::SINT0.0 + n))
        } else {
            None
        }
    }

    /// XMMn, `None` for n above 15.
    pub const fn xmm(n: u32) -> Option<Self> {
        if n < 16 {
            Some(Self(Self::XMM0.0 + n))
        } else {
            None
        }
    }

    /// General purpose register by its number in instructions (RAX, RCX, RDX, RBX, RSP, ...), `None` for n above 15.
    pub const fn general_purpose(n: u32) -> Option<Self> {
        if n < 16 {
            Some(Self(Self::RAX.0 + n))
        } else {
            None
        }
    }

    /// Configuration of synthetic timer n, `None` for n above 3.
    pub const fn stimer_config(n: u32) -> Option<Self> {
        if n < 4 {
            Some(Self(Self::STIMER0_CONFIG.0 + 2 * n))
        } else {
            None
        }
    }

    /// Count of synthetic timer n, `None` for n above 3.
    pub const fn stimer_count(n: u32) -> Option<Self> {
        if n < 4 {
            Some(Self(Self::STIMER0_COUNT.0 + 2 * n))
        } else {
            None
        }
    }

    /// Register of the local APIC by its x2APIC MSR (0x800 to 0x83F), `None` for another MSR.
    pub const fn apic(msr: u32) -> Option<Self> {
        if msr >= 0x800 && msr < 0x840 {
            Some(Self(0x0008_4000 + msr))
        } else {
            None
        }
    }
}
