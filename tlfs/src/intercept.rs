//! Installing intercepts (root sheet B.1).

use crate::macros::{wire_enum, wire_flags};

wire_enum! {
    /// What InstallIntercept and RegisterInterceptResult are about.
    pub struct HvInterceptType(u32);
    /// Parameter: the port, 16 bits.
    X64_IO_PORT = 0x0000_0000, "HvInterceptTypeX64IoPort";
    /// Every MSR that the hypervisor does not virtualize itself.
    X64_MSR = 0x0000_0001, "HvInterceptTypeX64Msr";
    /// Parameter: the leaf, 32 bits.
    X64_CPUID = 0x0000_0002, "HvInterceptTypeX64Cpuid";
    /// Parameter: the vector. Fires before delivery.
    EXCEPTION = 0x0000_0003, "HvInterceptTypeException";
    RESERVED = 0x0000_0004, "HvInterceptTypeReserved0";
    MMIO = 0x0000_0005, "HvInterceptTypeMmio";
    X64_GLOBAL_CPUID = 0x0000_0006, "HvInterceptTypeX64GlobalCpuid";
    X64_APIC_SMI = 0x0000_0007, "HvInterceptTypeX64ApicSmi";
    /// Hypercalls that the hypervisor does not handle for the child.
    HYPERCALL = 0x0000_0008, "HvInterceptTypeHypercall";
    X64_APIC_INIT_SIPI = 0x0000_0009, "HvInterceptTypeX64ApicInitSipi";
    MC_UPDATE_PATCH_LEVEL_MSR_READ = 0x0000_000A, "HvInterceptMcUpdatePatchLevelMsrRead";
    X64_APIC_WRITE = 0x0000_000B, "HvInterceptTypeX64ApicWrite";
    /// Parameter: the MSR, 32 bits.
    X64_MSR_INDEX = 0x0000_000C, "HvInterceptTypeX64MsrIndex";
    /// PostMessage and SignalEvent to an id without a connection.
    UNKNOWN_SYNIC_CONNECTION = 0x0000_000D, "HvInterceptTypeUnknownSynicConnection";
    /// EOI of level interrupts.
    X64_APIC_EOI = 0x0000_000E, "HvInterceptTypeX64ApicEoi";
    RETARGET_INTERRUPT_WITH_UNKNOWN_DEVICE_ID = 0x0000_000F, "HvInterceptTypeRetargetInterruptWithUnknownDeviceId";
    /// Parameter: the vector. Fires after the exception.
    X64_EXCEPTION_TRAP = 0x0000_0010, "HvInterceptTypeX64ExceptionTrap";
    /// Parameter: first port in bits 15:0, last port in bits 31:16.
    X64_IO_PORT_RANGE = 0x0000_0011, "HvInterceptTypeX64IoPortRange";
    INVALID = 0xFFFF_FFFF, "HvInterceptTypeInvalid";
}

wire_flags! {
    /// Accesses to intercept. Empty removes the intercept. Messages carry an enumeration instead,
    /// [`HvInterceptAccessType`](crate::HvInterceptAccessType).
    pub struct HvInterceptAccessMask(u32);
    /// Reads.
    READ = 1;
    /// Writes.
    WRITE = 2;
    /// Execution.
    EXECUTE = 4;
}

/// Parameter of an intercept, read according to its type.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(transparent)]
pub struct HvInterceptParameters(pub u64);

impl HvInterceptParameters {
    /// For X64_IO_PORT.
    pub const fn io_port(port: u16) -> Self {
        Self(port as u64)
    }

    /// For X64_IO_PORT_RANGE: `first` to `last`, both included.
    pub const fn io_port_range(first: u16, last: u16) -> Self {
        Self(first as u64 | (last as u64) << 16)
    }

    /// For X64_CPUID.
    pub const fn cpuid(leaf: u32) -> Self {
        Self(leaf as u64)
    }

    /// For X64_MSR_INDEX.
    pub const fn msr_index(msr: u32) -> Self {
        Self(msr as u64)
    }

    /// For EXCEPTION and X64_EXCEPTION_TRAP.
    pub const fn exception(vector: u16) -> Self {
        Self(vector as u64)
    }

    /// Low 16 bits: port, first port, vector.
    pub const fn low16(self) -> u16 {
        self.0 as u16
    }

    /// Bits 31:16: last port of a range.
    pub const fn second16(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Low 32 bits: leaf, MSR.
    pub const fn low32(self) -> u32 {
        self.0 as u32
    }
}
