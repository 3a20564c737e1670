//! Life cycle and properties of partitions (root sheet A.3.1).

use crate::ids::{HvPartitionId, HvProximityDomainInfo, HvVpIndex};
use crate::macros::wire_struct;
use crate::partition::{HvCompatibilityVersion, HvPartitionCreationFlags, HvPartitionPropertyCode};

wire_struct! {
    /// Input of CreatePartition.
    pub struct HvInputCreatePartition [56] {
        /// Flags.
        flags @ 0: HvPartitionCreationFlags,
        /// Where memory should come from.
        proximity_domain_info @ 8: HvProximityDomainInfo,
        /// Linux: [`HvCompatibilityVersion::V_21_H2`].
        compatibility_version @ 16: HvCompatibilityVersion,
        /// Padding.
        padding @ 20: u32,
        /// Processor features to hide from the child; 1 hides. Undefined bits may be set.
        disabled_processor_features @ 24: [u64; 2],
        /// XSAVE features to hide from the child; 1 hides.
        disabled_processor_xsave_features @ 40: u64,
        /// Isolation; 0 none.
        isolation_properties @ 48: u64,
    }
}

wire_struct! {
    /// Output of CreatePartition and GetPartitionId.
    pub struct HvOutputPartitionId [8] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
    }
}

wire_struct! {
    /// Input of InitializePartition, FinalizePartition, DeletePartition, ClearVirtualInterrupt. Linux passes it fast.
    pub struct HvInputPartition [8] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
    }
}

wire_struct! {
    /// Input of GetPartitionProperty.
    pub struct HvInputGetPartitionProperty [16] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// Property.
        property_code @ 8: HvPartitionPropertyCode,
        /// Zero.
        padding @ 12: u32,
    }
}

wire_struct! {
    /// Output of GetPartitionProperty.
    pub struct HvOutputGetPartitionProperty [8] {
        /// Value.
        property_value @ 0: u64,
    }
}

wire_struct! {
    /// Input of SetPartitionProperty.
    pub struct HvInputSetPartitionProperty [24] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// Property.
        property_code @ 8: HvPartitionPropertyCode,
        /// Zero.
        padding @ 12: u32,
        /// Value.
        property_value @ 16: u64,
    }
}

wire_struct! {
    /// Argument of properties that have one.
    pub struct HvPartitionPropertyArg [8] {
        /// VP, or another number, according to the type.
        arg @ 0: HvVpIndex,
        /// Zero.
        reserved @ 4: [u8; 3],
        /// What the argument names; 0 nothing.
        object_type @ 7: u8,
    }
}

wire_struct! {
    /// Input of GetPartitionPropertyEx. Output: the property, at most [`HV_PARTITION_PROPERTY_EX_MAX`] bytes.
    pub struct HvInputGetPartitionPropertyEx [24] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// Property.
        property_code @ 8: HvPartitionPropertyCode,
        /// Zero.
        padding @ 12: u32,
        /// Argument.
        arg @ 16: HvPartitionPropertyArg,
    }
}

wire_struct! {
    /// Input of SetPartitionPropertyEx before the value, which is at most [`HV_PARTITION_PROPERTY_EX_MAX`] bytes.
    pub struct HvInputSetPartitionPropertyEx [24] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// Property.
        property_code @ 8: HvPartitionPropertyCode,
        /// Zero.
        padding @ 12: u32,
        /// Argument.
        arg @ 16: HvPartitionPropertyArg,
    }
}

/// Most bytes of a property of the Ex calls.
pub const HV_PARTITION_PROPERTY_EX_MAX: usize = 4072;

wire_struct! {
    /// Input of GetNextChildPartition.
    pub struct HvInputGetNextChildPartition [16] {
        /// Whose children.
        parent_id @ 0: HvPartitionId,
        /// The one before; INVALID for the first.
        previous_child_id @ 8: HvPartitionId,
    }
}

wire_struct! {
    /// Output of GetNextChildPartition.
    pub struct HvOutputGetNextChildPartition [8] {
        /// The next; INVALID past the last.
        next_child_id @ 0: HvPartitionId,
    }
}
