//! Numbers of the synthetic MSRs (guest sheet 4).

/// First synthetic MSR.
pub const HV_X64_MSR_FIRST: u32 = 0x4000_0000;
/// Last MSR of the range that is the hypervisor's.
pub const HV_X64_MSR_LAST: u32 = 0x4000_01FF;

/// Guest OS id; partition.
pub const HV_X64_MSR_GUEST_OS_ID: u32 = 0x4000_0000;
/// Hypercall page, [`HvHypercallMsr`](crate::HvHypercallMsr); partition.
pub const HV_X64_MSR_HYPERCALL: u32 = 0x4000_0001;
/// Index of the VP; read only.
pub const HV_X64_MSR_VP_INDEX: u32 = 0x4000_0002;
/// Bit 0 resets the partition.
pub const HV_X64_MSR_RESET: u32 = 0x4000_0003;
/// Run time of the VP, 100 ns; read only.
pub const HV_X64_MSR_VP_RUNTIME: u32 = 0x4000_0010;
/// Reference time of the partition, 100 ns; read only.
pub const HV_X64_MSR_TIME_REF_COUNT: u32 = 0x4000_0020;
/// Reference TSC page, [`HvPageMsr`](crate::HvPageMsr); partition.
pub const HV_X64_MSR_REFERENCE_TSC: u32 = 0x4000_0021;
/// Hz; read only.
pub const HV_X64_MSR_TSC_FREQUENCY: u32 = 0x4000_0022;
/// Hz; read only.
pub const HV_X64_MSR_APIC_FREQUENCY: u32 = 0x4000_0023;
/// End of interrupt; write only.
pub const HV_X64_MSR_EOI: u32 = 0x4000_0070;
/// Interrupt command, destination in the xAPIC's format.
pub const HV_X64_MSR_ICR: u32 = 0x4000_0071;
/// Task priority.
pub const HV_X64_MSR_TPR: u32 = 0x4000_0072;
/// VP assist page, [`HvPageMsr`](crate::HvPageMsr).
pub const HV_X64_MSR_VP_ASSIST_PAGE: u32 = 0x4000_0073;
/// SynIC enable, [`HvSynicScontrol`](crate::HvSynicScontrol).
pub const HV_X64_MSR_SCONTROL: u32 = 0x4000_0080;
/// SynIC version; read only.
pub const HV_X64_MSR_SVERSION: u32 = 0x4000_0081;
/// Event flags page, [`HvPageMsr`](crate::HvPageMsr).
pub const HV_X64_MSR_SIEFP: u32 = 0x4000_0082;
/// Message page, [`HvPageMsr`](crate::HvPageMsr).
pub const HV_X64_MSR_SIMP: u32 = 0x4000_0083;
/// A write says that a slot has been emptied.
pub const HV_X64_MSR_EOM: u32 = 0x4000_0084;
/// Event ring page, [`HvPageMsr`](crate::HvPageMsr); root.
pub const HV_X64_MSR_SIRBP: u32 = 0x4000_0085;
/// SINT0, [`HvSynicSint`](crate::HvSynicSint); the others follow.
pub const HV_X64_MSR_SINT0: u32 = 0x4000_0090;
/// SINT15.
pub const HV_X64_MSR_SINT15: u32 = 0x4000_009F;
/// Synthetic timer 0, [`HvStimerConfig`](crate::HvStimerConfig); then count 0, config 1 and so on.
pub const HV_X64_MSR_STIMER0_CONFIG: u32 = 0x4000_00B0;
/// Synthetic timer 0, count.
pub const HV_X64_MSR_STIMER0_COUNT: u32 = 0x4000_00B1;
/// Synthetic timer 3, count.
pub const HV_X64_MSR_STIMER3_COUNT: u32 = 0x4000_00B7;
/// A read waits for an interrupt.
pub const HV_X64_MSR_GUEST_IDLE: u32 = 0x4000_00F0;
/// Crash parameter 0; the others follow.
pub const HV_X64_MSR_CRASH_P0: u32 = 0x4000_0100;
/// Crash parameter 4.
pub const HV_X64_MSR_CRASH_P4: u32 = 0x4000_0104;
/// Crash control, [`HvCrashCtl`](crate::HvCrashCtl).
pub const HV_X64_MSR_CRASH_CTL: u32 = 0x4000_0105;
/// Reenlightenment control.
pub const HV_X64_MSR_REENLIGHTENMENT_CONTROL: u32 = 0x4000_0106;
/// TSC emulation control.
pub const HV_X64_MSR_TSC_EMULATION_CONTROL: u32 = 0x4000_0107;
/// TSC emulation status.
pub const HV_X64_MSR_TSC_EMULATION_STATUS: u32 = 0x4000_0108;
/// Time-unhalted timer, configuration.
pub const HV_X64_MSR_STIME_UNHALTED_TIMER_CONFIG: u32 = 0x4000_0114;
/// Time-unhalted timer, count.
pub const HV_X64_MSR_STIME_UNHALTED_TIMER_COUNT: u32 = 0x4000_0115;
/// Bit 0 exposes the invariant TSC.
pub const HV_X64_MSR_TSC_INVARIANT_CONTROL: u32 = 0x4000_0118;

/// How many SINTs a VP has.
pub const HV_SYNIC_SINT_COUNT: usize = 16;
/// How many synthetic timers a VP has.
pub const HV_SYNIC_STIMER_COUNT: usize = 4;
/// How many crash parameters there are.
pub const HV_CRASH_PARAMETER_COUNT: usize = 5;

/// Which SINT an MSR is, `None` if it is none.
pub const fn sint_of_msr(msr: u32) -> Option<usize> {
    if msr >= HV_X64_MSR_SINT0 && msr <= HV_X64_MSR_SINT15 {
        Some((msr - HV_X64_MSR_SINT0) as usize)
    } else {
        None
    }
}

/// Register of a synthetic timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StimerRegister {
    /// Configuration of the timer with this number.
    Config(usize),
    /// Count of the timer with this number.
    Count(usize),
}

/// Which synthetic timer register an MSR is, `None` if it is none.
pub const fn stimer_of_msr(msr: u32) -> Option<StimerRegister> {
    if msr < HV_X64_MSR_STIMER0_CONFIG || msr > HV_X64_MSR_STIMER3_COUNT {
        return None;
    }
    let offset = msr - HV_X64_MSR_STIMER0_CONFIG;
    let timer = (offset / 2) as usize;
    Some(if offset.is_multiple_of(2) {
        StimerRegister::Config(timer)
    } else {
        StimerRegister::Count(timer)
    })
}

/// Which crash parameter an MSR is, `None` if it is none.
pub const fn crash_parameter_of_msr(msr: u32) -> Option<usize> {
    if msr >= HV_X64_MSR_CRASH_P0 && msr <= HV_X64_MSR_CRASH_P4 {
        Some((msr - HV_X64_MSR_CRASH_P0) as usize)
    } else {
        None
    }
}
