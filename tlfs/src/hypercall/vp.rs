//! Virtual processors and their registers (root sheet A.3.4, A.3.5).

use crate::ids::{HvInputVtl, HvPartitionId, HvProximityDomainInfo, HvVpIndex};
use crate::macros::{wire_enum, wire_flags, wire_struct};
use crate::register::{HvX64SegmentRegister, HvX64TableRegister};

wire_struct! {
    /// Input of CreateVp. Padding and subnode id are not checked: Linux leaves garbage there.
    pub struct HvInputCreateVp [40] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// Index of the new VP.
        vp_index @ 8: HvVpIndex,
        /// Not checked.
        padding @ 12: [u8; 3],
        /// 0: any.
        subnode_type @ 15: u8,
        /// Not checked.
        subnode_id @ 16: u64,
        /// Where memory should come from.
        proximity_domain_info @ 24: HvProximityDomainInfo,
        /// For VPs of the root the LP to bind to (the published text says zero).
        flags @ 32: u64,
    }
}

wire_struct! {
    /// Input of DeleteVp. Linux passes it fast.
    pub struct HvInputDeleteVp [16] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// VP.
        vp_index @ 8: HvVpIndex,
        /// Zero.
        reserved @ 12: u32,
    }
}

wire_struct! {
    /// Input of GetVpRegisters (list: [`HvRegisterName`](crate::HvRegisterName); output list:
    /// [`HvRegisterValue`](crate::HvRegisterValue)) and SetVpRegisters (list:
    /// [`HvRegisterAssoc`](crate::HvRegisterAssoc), applied in order up to the first refusal).
    pub struct HvInputVpRegisters [16] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// VP.
        vp_index @ 8: HvVpIndex,
        /// Trust level.
        input_vtl @ 12: HvInputVtl,
        /// Zero.
        reserved @ 13: [u8; 3],
    }
}

wire_struct! {
    /// State in which a VP starts (`HV_INITIAL_VP_CONTEXT`).
    pub struct HvX64InitialVpContext [224] {
        /// RIP.
        rip @ 0: u64,
        /// RSP.
        rsp @ 8: u64,
        /// RFLAGS.
        rflags @ 16: u64,
        /// CS.
        cs @ 24: HvX64SegmentRegister,
        /// DS.
        ds @ 40: HvX64SegmentRegister,
        /// ES.
        es @ 56: HvX64SegmentRegister,
        /// FS.
        fs @ 72: HvX64SegmentRegister,
        /// GS.
        gs @ 88: HvX64SegmentRegister,
        /// SS.
        ss @ 104: HvX64SegmentRegister,
        /// TR.
        tr @ 120: HvX64SegmentRegister,
        /// LDTR.
        ldtr @ 136: HvX64SegmentRegister,
        /// IDTR.
        idtr @ 152: HvX64TableRegister,
        /// GDTR.
        gdtr @ 168: HvX64TableRegister,
        /// EFER.
        efer @ 184: u64,
        /// CR0.
        cr0 @ 192: u64,
        /// CR3.
        cr3 @ 200: u64,
        /// CR4.
        cr4 @ 208: u64,
        /// PAT.
        msr_cr_pat @ 216: u64,
    }
}

wire_struct! {
    /// Input of StartVirtualProcessor.
    pub struct HvInputStartVirtualProcessor [240] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// VP.
        vp_index @ 8: HvVpIndex,
        /// Trust level.
        target_vtl @ 12: HvInputVtl,
        /// Zero.
        reserved @ 13: [u8; 3],
        /// State.
        vp_context @ 16: HvX64InitialVpContext,
    }
}

wire_struct! {
    /// Input of GetVpIndexFromApicId. List: u32 APIC ids; output list: [`HvVpIndex`].
    pub struct HvInputGetVpIndexFromApicId [16] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// Trust level.
        target_vtl @ 8: HvInputVtl,
        /// Zero.
        reserved @ 9: [u8; 7],
    }
}

wire_flags! {
    /// Flags of GetVpCpuidValues.
    pub struct HvGetVpCpuidValuesFlags(u32);
    /// Use the VP's XFEM and XSS instead of the given ones.
    USE_VP_XFEM_XSS = 1 << 0;
    /// Apply registered results.
    APPLY_REGISTERED_VALUES = 1 << 1;
}

wire_struct! {
    /// Input of GetVpCpuidValues. List: [`HvCpuidLeafInfo`]; output list: [`HvCpuidResult`].
    pub struct HvInputGetVpCpuidValues [24] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// VP.
        vp_index @ 8: HvVpIndex,
        /// How.
        flags @ 12: HvGetVpCpuidValuesFlags,
        /// Zero.
        reserved @ 16: u64,
    }
}

wire_struct! {
    /// A leaf asked for.
    pub struct HvCpuidLeafInfo [24] {
        /// Leaf.
        eax @ 0: u32,
        /// Subleaf.
        ecx @ 4: u32,
        /// XFEM to assume.
        xfem @ 8: u64,
        /// XSS to assume.
        xss @ 16: u64,
    }
}

wire_struct! {
    /// The four registers of a leaf.
    pub struct HvCpuidResult [16] {
        /// EAX.
        eax @ 0: u32,
        /// EBX.
        ebx @ 4: u32,
        /// ECX.
        ecx @ 8: u32,
        /// EDX.
        edx @ 12: u32,
    }
}

wire_flags! {
    /// Flags of DispatchVp.
    pub struct HvDispatchVpFlags(u32);
    /// Clear the intercept suspend register first.
    CLEAR_INTERCEPT_SUSPEND = 0x01;
    /// Enable the caller's interrupts.
    ENABLE_CALLER_INTERRUPTS = 0x02;
    /// Set the caller's SPEC_CTRL.
    SET_CALLER_SPEC_CTRL = 0x04;
    /// Skip a flush of the VP's speculation.
    SKIP_VP_SPEC_FLUSH = 0x08;
    /// Skip a flush of the caller's speculation.
    SKIP_CALLER_SPEC_FLUSH = 0x10;
    /// Skip a flush of the caller's user space.
    SKIP_CALLER_USER_SPEC_FLUSH = 0x20;
    /// Inject the register page's vectors.
    SCAN_INTERRUPT_INJECTION = 0x40;
}

wire_struct! {
    /// Input of DispatchVp (root scheduler).
    pub struct HvInputDispatchVp [32] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// VP.
        vp_index @ 8: HvVpIndex,
        /// How.
        flags @ 12: HvDispatchVpFlags,
        /// Longest run, 100 ns; 0 without limit.
        time_slice @ 16: u64,
        /// Caller's SPEC_CTRL.
        spec_ctrl @ 24: u64,
    }
}

wire_enum! {
    /// State of the VP after DispatchVp.
    pub struct HvVpDispatchState(u32);
    BLOCKED = 1, "HvVpDispatchStateBlocked";
    READY = 2, "HvVpDispatchStateReady";
}

wire_enum! {
    /// Why DispatchVp came back.
    pub struct HvVpDispatchEvent(u32);
    NONE = 0, "HvVpDispatchEventNone";
    SUSPEND = 1, "HvVpDispatchEventSuspend";
    INTERCEPT = 2, "HvVpDispatchEventIntercept";
}

wire_struct! {
    /// Output of DispatchVp.
    pub struct HvOutputDispatchVp [8] {
        /// State.
        dispatch_state @ 0: HvVpDispatchState,
        /// Event.
        dispatch_event @ 4: HvVpDispatchEvent,
    }
}
