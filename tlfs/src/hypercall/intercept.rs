//! Installing intercepts and registering their results (root sheet A.3.4, B.1).

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::ids::{HvPartitionId, HvVpIndex};
use crate::intercept::{HvInterceptAccessMask, HvInterceptParameters, HvInterceptType};
use crate::macros::wire_struct;
use crate::partition::HvUnimplementedMsrAction;

wire_struct! {
    /// Input of InstallIntercept.
    pub struct HvInputInstallIntercept [24] {
        /// Child.
        partition_id @ 0: HvPartitionId,
        /// Accesses; empty removes.
        access_type @ 8: HvInterceptAccessMask,
        /// What.
        intercept_type @ 12: HvInterceptType,
        /// Which.
        intercept_parameter @ 16: HvInterceptParameters,
    }
}

wire_struct! {
    /// Parameters of RegisterInterceptResult for X64_CPUID.
    pub struct HvRegisterX64CpuidResultParameters [44] {
        /// Leaf.
        eax @ 0: u32,
        /// Subleaf.
        ecx @ 4: u32,
        /// 1: only for this subleaf.
        subleaf_specific @ 8: u8,
        /// 1: even if an intercept is installed.
        always_override @ 9: u8,
        /// Zero.
        padding @ 10: u16,
        /// What the VP reads, in the bits of the mask.
        result_eax @ 12: HvMaskedValue,
        /// What the VP reads, in the bits of the mask.
        result_ebx @ 20: HvMaskedValue,
        /// What the VP reads, in the bits of the mask.
        result_ecx @ 28: HvMaskedValue,
        /// What the VP reads, in the bits of the mask.
        result_edx @ 36: HvMaskedValue,
    }
}

wire_struct! {
    /// A value of which only some bits count.
    pub struct HvMaskedValue [8] {
        /// Value.
        value @ 0: u32,
        /// Which bits count.
        mask @ 4: u32,
    }
}

impl HvMaskedValue {
    /// `default` with the bits of the mask replaced.
    pub const fn apply(self, default: u32) -> u32 {
        default & !self.mask | self.value & self.mask
    }
}

wire_struct! {
    /// Parameters of RegisterInterceptResult for X64_MSR.
    pub struct HvRegisterX64MsrResultParameters [12] {
        /// MSR.
        msr_index @ 0: u32,
        /// Accesses.
        access_type @ 4: HvInterceptAccessMask,
        /// What to do.
        action @ 8: HvUnimplementedMsrAction,
    }
}

wire_struct! {
    /// Input of RegisterInterceptResult and UnregisterInterceptResult: 60 bytes, so that the partition id cannot be
    /// an aligned word.
    pub struct HvInputRegisterInterceptResult [60] {
        /// Child.
        partition_id_bytes @ 0: U64,
        /// VP, or ANY.
        vp_index @ 8: HvVpIndex,
        /// X64_CPUID or X64_MSR.
        intercept_type @ 12: HvInterceptType,
        /// Parameters according to the type.
        parameters @ 16: [u8; 44],
    }
}

impl HvInputRegisterInterceptResult {
    /// Input for `parameters` of the given type; `None` if they are larger than 44 bytes.
    pub fn new<T: IntoBytes + Immutable>(
        partition_id: HvPartitionId,
        vp_index: HvVpIndex,
        intercept_type: HvInterceptType,
        parameters: &T,
    ) -> Option<Self> {
        let mut input = Self::new_zeroed();
        input.partition_id_bytes = U64::new(partition_id.0);
        input.vp_index = vp_index;
        input.intercept_type = intercept_type;
        let bytes = parameters.as_bytes();
        input
            .parameters
            .get_mut(..bytes.len())?
            .copy_from_slice(bytes);
        Some(input)
    }

    /// Child.
    pub const fn partition_id(&self) -> HvPartitionId {
        HvPartitionId(self.partition_id_bytes.get())
    }

    /// The parameters of type X64_CPUID.
    pub fn cpuid(&self) -> HvRegisterX64CpuidResultParameters {
        zerocopy::transmute!(self.parameters)
    }

    /// The parameters of type X64_MSR.
    pub fn msr(&self) -> HvRegisterX64MsrResultParameters {
        HvRegisterX64MsrResultParameters::read_from_prefix(&self.parameters)
            .map(|(parameters, _)| parameters)
            .unwrap_or_default()
    }
}
