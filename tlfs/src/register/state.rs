//! Registers that say why a VP does not run and what is about to happen to it (root sheet B.4, D.3).

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::register::HvRegisterValue;

/// HvRegisterExplicitSuspend. Set at creation and by the root; cleared by the root.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvExplicitSuspendRegister {
    /// Suspended.
    pub suspended: bool,
    /// Zero.
    #[bits(63)]
    pub reserved: u64,
}

/// HvRegisterInterceptSuspend. Set by the hypervisor only; cleared by the root, or by DispatchVp.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvInterceptSuspendRegister {
    /// Suspended.
    pub suspended: bool,
    /// TLB flushes that would reach this VP wait until it is resumed.
    pub tlb_locked: bool,
    /// Zero.
    #[bits(62)]
    pub reserved: u64,
}

/// HvRegisterDispatchSuspend. Set and cleared by the root (teardown under the root scheduler).
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvDispatchSuspendRegister {
    /// Suspended.
    pub suspended: bool,
    /// Zero.
    #[bits(63)]
    pub reserved: u64,
}

/// HvRegisterInternalActivityState. Set by the hypervisor, cleared by the event that the VP waits for.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvInternalActivityRegister {
    /// Waits for a SIPI.
    pub startup_suspend: bool,
    /// Waits in HLT.
    pub halt_suspend: bool,
    /// Waits in guest idle: wakes even with RFLAGS.IF = 0.
    pub idle_suspend: bool,
    /// Zero.
    #[bits(61)]
    pub reserved: u64,
}

/// HvRegisterPendingInterruption: an event whose delivery has begun.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64PendingInterruptionRegister {
    /// There is one.
    pub interruption_pending: bool,
    /// [`HvX64PendingInterruptionType`](crate::HvX64PendingInterruptionType).
    #[bits(3)]
    pub interruption_type: u8,
    /// `error_code` is to be pushed.
    pub deliver_error_code: bool,
    /// Length of the instruction that caused it, for software interrupts.
    #[bits(4)]
    pub instruction_length: u8,
    /// For the nested guest.
    pub nested_event: bool,
    /// Zero.
    #[bits(6)]
    pub reserved: u8,
    /// Vector.
    pub interruption_vector: u16,
    /// Error code.
    pub error_code: u32,
}

/// HvRegisterInterruptState.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64InterruptStateRegister {
    /// In an interrupt shadow.
    pub interrupt_shadow: bool,
    /// NMIs are masked until IRET.
    pub nmi_masked: bool,
    /// Zero.
    #[bits(62)]
    pub reserved: u64,
}

/// HvRegisterDeliverabilityNotifications: what to report once when it becomes deliverable. Each bit is cleared when
/// it is reported.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvDeliverabilityNotificationsRegister {
    /// An NMI.
    pub nmi_notification: bool,
    /// An interrupt.
    pub interrupt_notification: bool,
    /// Of at least this priority class.
    #[bits(4)]
    pub interrupt_priority: u8,
    /// Zero.
    #[bits(42)]
    pub reserved: u64,
    /// Bit n: a message on SINTn.
    pub sints: u16,
}

/// Type of a pending event: exception.
pub const HV_X64_PENDING_EVENT_EXCEPTION: u8 = 0;
/// Type of a pending event: memory intercept.
pub const HV_X64_PENDING_EVENT_MEMORY_INTERCEPT: u8 = 1;
/// Type of a pending event: hypercall output.
pub const HV_X64_PENDING_EVENT_HYPERCALL_OUTPUT: u8 = 4;
/// Type of a pending event: external interrupt (ExtINT).
pub const HV_X64_PENDING_EVENT_EXT_INT: u8 = 5;

/// HvRegisterPendingEvent0, the part that all events share.
#[bitfield(u128)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64PendingEvent {
    /// There is one.
    pub event_pending: bool,
    /// `HV_X64_PENDING_EVENT_*`.
    #[bits(3)]
    pub event_type: u8,
    /// Zero.
    #[bits(4)]
    pub reserved: u8,
    /// Depends on the type.
    #[bits(120)]
    pub data: u128,
}

/// HvRegisterPendingEvent0 for an exception.
#[bitfield(u128)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64PendingExceptionEvent {
    /// There is one.
    pub event_pending: bool,
    /// [`HV_X64_PENDING_EVENT_EXCEPTION`].
    #[bits(3)]
    pub event_type: u8,
    /// Zero.
    #[bits(4)]
    pub reserved_4: u8,
    /// `error_code` is to be pushed.
    pub deliver_error_code: bool,
    /// Zero.
    #[bits(7)]
    pub reserved_9: u8,
    /// Vector.
    pub vector: u16,
    /// Error code.
    pub error_code: u32,
    /// CR2 for a page fault, DR6 for a debug exception.
    pub exception_parameter: u64,
}

/// HvRegisterPendingEvent0 for an external interrupt.
#[bitfield(u128)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64PendingExtIntEvent {
    /// There is one.
    pub event_pending: bool,
    /// [`HV_X64_PENDING_EVENT_EXT_INT`].
    #[bits(3)]
    pub event_type: u8,
    /// Zero.
    #[bits(4)]
    pub reserved_4: u8,
    /// Vector.
    pub vector: u8,
    /// Zero.
    #[bits(48)]
    pub reserved_16: u64,
    /// Zero.
    pub reserved_64: u64,
}

/// 64-bit registers of this module as register values.
macro_rules! value_from_bits {
    ($($ty:ty),*) => {
        $(
            impl From<$ty> for HvRegisterValue {
                fn from(register: $ty) -> Self {
                    Self::from(register.into_bits())
                }
            }
        )*
    };
}
value_from_bits!(
    HvExplicitSuspendRegister,
    HvInterceptSuspendRegister,
    HvDispatchSuspendRegister,
    HvInternalActivityRegister,
    HvX64PendingInterruptionRegister,
    HvX64InterruptStateRegister,
    HvDeliverabilityNotificationsRegister,
    HvX64PendingEvent,
    HvX64PendingExceptionEvent,
    HvX64PendingExtIntEvent
);
