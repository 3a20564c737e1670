//! Values of registers on the wire.

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::macros::wire_struct;
use crate::register::HvRegisterName;

wire_struct! {
    /// Value of a register, 128 bits (`HV_REGISTER_VALUE`). Most registers use the low 64 only.
    pub struct HvRegisterValue [16] {
        /// Bits 63:0.
        low @ 0: u64,
        /// Bits 127:64.
        high @ 8: u64,
    }
}

impl HvRegisterValue {
    /// Value of a register of at most 64 bits.
    pub const fn from_u64(value: u64) -> Self {
        Self {
            low: value,
            high: 0,
        }
    }

    /// Value of a 128-bit register.
    pub const fn from_u128(value: u128) -> Self {
        Self {
            low: value as u64,
            high: (value >> 64) as u64,
        }
    }

    /// All 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.low as u128 | (self.high as u128) << 64
    }

    /// As a segment register.
    pub fn as_segment(self) -> HvX64SegmentRegister {
        zerocopy::transmute!(self)
    }

    /// As IDTR or GDTR.
    pub fn as_table(self) -> HvX64TableRegister {
        zerocopy::transmute!(self)
    }

    /// As the x87 control and status register.
    pub fn as_fp_control_status(self) -> HvX64FpControlStatusRegister {
        zerocopy::transmute!(self)
    }

    /// As the SSE control and status register.
    pub fn as_xmm_control_status(self) -> HvX64XmmControlStatusRegister {
        zerocopy::transmute!(self)
    }
}

impl From<u64> for HvRegisterValue {
    fn from(value: u64) -> Self {
        Self::from_u64(value)
    }
}

impl From<u128> for HvRegisterValue {
    fn from(value: u128) -> Self {
        Self::from_u128(value)
    }
}

/// Structured registers become values byte for byte.
macro_rules! value_from {
    ($($ty:ty),*) => {
        $(
            impl From<$ty> for HvRegisterValue {
                fn from(register: $ty) -> Self {
                    zerocopy::transmute!(register)
                }
            }
        )*
    };
}
value_from!(
    HvX64SegmentRegister,
    HvX64TableRegister,
    HvX64FpControlStatusRegister,
    HvX64XmmControlStatusRegister
);

/// Attributes of a segment: those of its descriptor, without the limit (root sheet D.3). A segment that is not
/// present is unusable; there is no separate bit for that.
#[bitfield(u16)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvX64SegmentAttributes {
    /// Type.
    #[bits(4)]
    pub segment_type: u8,
    /// Code or data rather than system.
    pub non_system_segment: bool,
    /// Descriptor privilege level.
    #[bits(2)]
    pub descriptor_privilege_level: u8,
    /// Present.
    pub present: bool,
    /// Zero.
    #[bits(4)]
    pub reserved: u8,
    /// For software.
    pub available: bool,
    /// 64-bit code.
    pub long: bool,
    /// 32-bit default size.
    pub default: bool,
    /// The limit counted in pages.
    pub granularity: bool,
}

wire_struct! {
    /// A segment register (`HV_X64_SEGMENT_REGISTER`).
    pub struct HvX64SegmentRegister [16] {
        /// Base.
        base @ 0: u64,
        /// Limit in bytes, the last valid offset.
        limit @ 8: u32,
        /// Selector.
        selector @ 12: u16,
        /// Attributes.
        attributes @ 14: HvX64SegmentAttributes,
    }
}

wire_struct! {
    /// IDTR or GDTR (`HV_X64_TABLE_REGISTER`).
    pub struct HvX64TableRegister [16] {
        /// Zero.
        pad @ 0: [u16; 3],
        /// Limit in bytes, the last valid offset.
        limit @ 6: u16,
        /// Base.
        base @ 8: u64,
    }
}

wire_struct! {
    /// x87 control and status (`HV_X64_FP_CONTROL_STATUS_REGISTER`).
    pub struct HvX64FpControlStatusRegister [16] {
        /// FCW.
        fp_control @ 0: u16,
        /// FSW.
        fp_status @ 2: u16,
        /// Abridged tag word.
        fp_tag @ 4: u8,
        /// Zero.
        reserved @ 5: u8,
        /// Last opcode.
        last_fp_op @ 6: u16,
        /// Last instruction pointer: RIP, or EIP with CS in bits 47:32.
        last_fp_rip @ 8: u64,
    }
}

wire_struct! {
    /// SSE control and status (`HV_X64_XMM_CONTROL_STATUS_REGISTER`).
    pub struct HvX64XmmControlStatusRegister [16] {
        /// Last x87 data pointer: 64 bits, or offset with DS in bits 47:32.
        last_fp_rdp @ 0: u64,
        /// MXCSR.
        xmm_status_control @ 8: u32,
        /// Which MXCSR bits may be set.
        xmm_status_control_mask @ 12: u32,
    }
}

wire_struct! {
    /// A register's name with its value, the list element of SetVpRegisters (`HV_REGISTER_ASSOC`).
    pub struct HvRegisterAssoc [32] {
        /// Name.
        name @ 0: HvRegisterName,
        /// Not checked: root user space leaves garbage here.
        pad @ 4: [u32; 3],
        /// Value.
        value @ 16: HvRegisterValue,
    }
}

impl HvRegisterAssoc {
    /// The pair of `name` and `value`.
    pub fn new(name: HvRegisterName, value: impl Into<HvRegisterValue>) -> Self {
        Self {
            name,
            pad: [0; 3],
            value: value.into(),
        }
    }
}
