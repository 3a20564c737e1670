//! Hypercall codes (root sheet A.3, guest sheet 6).

use crate::macros::wire_enum;

wire_enum! {
    /// Hypercall code, bits 15:0 of the control word.
    ///
    /// Codes from [`HvCallCode::EXTENDED_FIRST`] on are extended calls, which the root side serves.
    pub struct HvCallCode(u16);
    SWITCH_VIRTUAL_ADDRESS_SPACE = 0x0001, "HvCallSwitchVirtualAddressSpace";
    FLUSH_VIRTUAL_ADDRESS_SPACE = 0x0002, "HvCallFlushVirtualAddressSpace";
    FLUSH_VIRTUAL_ADDRESS_LIST = 0x0003, "HvCallFlushVirtualAddressList";
    GET_LOGICAL_PROCESSOR_RUN_TIME = 0x0004, "HvCallGetLogicalProcessorRunTime";
    NOTIFY_LONG_SPIN_WAIT = 0x0008, "HvCallNotifyLongSpinWait";
    INVOKE_HYPERVISOR_DEBUGGER = 0x000A, "HvCallInvokeHypervisorDebugger";
    SEND_SYNTHETIC_CLUSTER_IPI = 0x000B, "HvCallSendSyntheticClusterIpi";
    MODIFY_VTL_PROTECTION_MASK = 0x000C, "HvCallModifyVtlProtectionMask";
    ENABLE_PARTITION_VTL = 0x000D, "HvCallEnablePartitionVtl";
    ENABLE_VP_VTL = 0x000F, "HvCallEnableVpVtl";
    VTL_CALL = 0x0011, "HvCallVtlCall";
    VTL_RETURN = 0x0012, "HvCallVtlReturn";
    FLUSH_VIRTUAL_ADDRESS_SPACE_EX = 0x0013, "HvCallFlushVirtualAddressSpaceEx";
    FLUSH_VIRTUAL_ADDRESS_LIST_EX = 0x0014, "HvCallFlushVirtualAddressListEx";
    SEND_SYNTHETIC_CLUSTER_IPI_EX = 0x0015, "HvCallSendSyntheticClusterIpiEx";
    CREATE_PARTITION = 0x0040, "HvCallCreatePartition";
    INITIALIZE_PARTITION = 0x0041, "HvCallInitializePartition";
    FINALIZE_PARTITION = 0x0042, "HvCallFinalizePartition";
    DELETE_PARTITION = 0x0043, "HvCallDeletePartition";
    GET_PARTITION_PROPERTY = 0x0044, "HvCallGetPartitionProperty";
    SET_PARTITION_PROPERTY = 0x0045, "HvCallSetPartitionProperty";
    GET_PARTITION_ID = 0x0046, "HvCallGetPartitionId";
    GET_NEXT_CHILD_PARTITION = 0x0047, "HvCallGetNextChildPartition";
    DEPOSIT_MEMORY = 0x0048, "HvCallDepositMemory";
    WITHDRAW_MEMORY = 0x0049, "HvCallWithdrawMemory";
    GET_MEMORY_BALANCE = 0x004A, "HvCallGetMemoryBalance";
    MAP_GPA_PAGES = 0x004B, "HvCallMapGpaPages";
    UNMAP_GPA_PAGES = 0x004C, "HvCallUnmapGpaPages";
    INSTALL_INTERCEPT = 0x004D, "HvCallInstallIntercept";
    CREATE_VP = 0x004E, "HvCallCreateVp";
    DELETE_VP = 0x004F, "HvCallDeleteVp";
    GET_VP_REGISTERS = 0x0050, "HvCallGetVpRegisters";
    SET_VP_REGISTERS = 0x0051, "HvCallSetVpRegisters";
    TRANSLATE_VIRTUAL_ADDRESS = 0x0052, "HvCallTranslateVirtualAddress";
    READ_GPA = 0x0053, "HvCallReadGpa";
    WRITE_GPA = 0x0054, "HvCallWriteGpa";
    /// Retired before virtual trust levels: answer INVALID_HYPERCALL_CODE.
    ASSERT_VIRTUAL_INTERRUPT_V1 = 0x0055, "HvCallAssertVirtualInterruptV1";
    CLEAR_VIRTUAL_INTERRUPT = 0x0056, "HvCallClearVirtualInterrupt";
    /// Retired before virtual trust levels: answer INVALID_HYPERCALL_CODE.
    CREATE_PORT_V1 = 0x0057, "HvCallCreatePortV1";
    DELETE_PORT = 0x0058, "HvCallDeletePort";
    /// Retired before virtual trust levels: answer INVALID_HYPERCALL_CODE.
    CONNECT_PORT_V1 = 0x0059, "HvCallConnectPortV1";
    GET_PORT_PROPERTY = 0x005A, "HvCallGetPortProperty";
    DISCONNECT_PORT = 0x005B, "HvCallDisconnectPort";
    POST_MESSAGE = 0x005C, "HvCallPostMessage";
    SIGNAL_EVENT = 0x005D, "HvCallSignalEvent";
    SAVE_PARTITION_STATE = 0x005E, "HvCallSavePartitionState";
    RESTORE_PARTITION_STATE = 0x005F, "HvCallRestorePartitionState";
    INITIALIZE_EVENT_LOG_BUFFER_GROUP = 0x0060, "HvCallInitializeEventLogBufferGroup";
    FINALIZE_EVENT_LOG_BUFFER_GROUP = 0x0061, "HvCallFinalizeEventLogBufferGroup";
    CREATE_EVENT_LOG_BUFFER = 0x0062, "HvCallCreateEventLogBuffer";
    DELETE_EVENT_LOG_BUFFER = 0x0063, "HvCallDeleteEventLogBuffer";
    MAP_EVENT_LOG_BUFFER = 0x0064, "HvCallMapEventLogBuffer";
    UNMAP_EVENT_LOG_BUFFER = 0x0065, "HvCallUnmapEventLogBuffer";
    SET_EVENT_LOG_GROUP_SOURCES = 0x0066, "HvCallSetEventLogGroupSources";
    RELEASE_EVENT_LOG_BUFFER = 0x0067, "HvCallReleaseEventLogBuffer";
    FLUSH_EVENT_LOG_BUFFER = 0x0068, "HvCallFlushEventLogBuffer";
    POST_DEBUG_DATA = 0x0069, "HvCallPostDebugData";
    RETRIEVE_DEBUG_DATA = 0x006A, "HvCallRetrieveDebugData";
    RESET_DEBUG_SESSION = 0x006B, "HvCallResetDebugSession";
    MAP_STATS_PAGE = 0x006C, "HvCallMapStatsPage";
    UNMAP_STATS_PAGE = 0x006D, "HvCallUnmapStatsPage";
    MAP_SPARSE_GPA_PAGES = 0x006E, "HvCallMapSparseGpaPages";
    SET_SYSTEM_PROPERTY = 0x006F, "HvCallSetSystemProperty";
    SET_PORT_PROPERTY = 0x0070, "HvCallSetPortProperty";
    OUTPUT_DEBUG_CHARACTER = 0x0071, "HvCallOutputDebugCharacter";
    ADD_LOGICAL_PROCESSOR = 0x0076, "HvCallAddLogicalProcessor";
    REMOVE_LOGICAL_PROCESSOR = 0x0077, "HvCallRemoveLogicalProcessor";
    QUERY_NUMA_DISTANCE = 0x0078, "HvCallQueryNumaDistance";
    SET_LOGICAL_PROCESSOR_PROPERTY = 0x0079, "HvCallSetLogicalProcessorProperty";
    GET_LOGICAL_PROCESSOR_PROPERTY = 0x007A, "HvCallGetLogicalProcessorProperty";
    GET_SYSTEM_PROPERTY = 0x007B, "HvCallGetSystemProperty";
    MAP_DEVICE_INTERRUPT = 0x007C, "HvCallMapDeviceInterrupt";
    UNMAP_DEVICE_INTERRUPT = 0x007D, "HvCallUnmapDeviceInterrupt";
    RETARGET_DEVICE_INTERRUPT = 0x007E, "HvCallRetargetDeviceInterrupt";
    ATTACH_DEVICE = 0x0082, "HvCallAttachDevice";
    DETACH_DEVICE = 0x0083, "HvCallDetachDevice";
    ENTER_SLEEP_STATE = 0x0084, "HvCallEnterSleepState";
    NOTIFY_PARTITION_EVENT = 0x0087, "HvCallNotifyPartitionEvent";
    NOTIFY_PORT_RING_EMPTY = 0x008B, "HvCallNotifyPortRingEmpty";
    MODIFY_SPARSE_GPA_PAGES = 0x0090, "HvCallModifySparseGpaPages";
    REGISTER_INTERCEPT_RESULT = 0x0091, "HvCallRegisterInterceptResult";
    UNREGISTER_INTERCEPT_RESULT = 0x0092, "HvCallUnregisterInterceptResult";
    ASSERT_VIRTUAL_INTERRUPT = 0x0094, "HvCallAssertVirtualInterrupt";
    CREATE_PORT = 0x0095, "HvCallCreatePort";
    CONNECT_PORT = 0x0096, "HvCallConnectPort";
    START_VIRTUAL_PROCESSOR = 0x0099, "HvCallStartVirtualProcessor";
    GET_VP_INDEX_FROM_APIC_ID = 0x009A, "HvCallGetVpIndexFromApicId";
    TRANSLATE_VIRTUAL_ADDRESS_EX = 0x00AC, "HvCallTranslateVirtualAddressEx";
    CHECK_FOR_IO_INTERCEPT = 0x00AD, "HvCallCheckForIoIntercept";
    FLUSH_GUEST_PHYSICAL_ADDRESS_SPACE = 0x00AF, "HvCallFlushGuestPhysicalAddressSpace";
    FLUSH_GUEST_PHYSICAL_ADDRESS_LIST = 0x00B0, "HvCallFlushGuestPhysicalAddressList";
    SIGNAL_EVENT_DIRECT = 0x00C0, "HvCallSignalEventDirect";
    POST_MESSAGE_DIRECT = 0x00C1, "HvCallPostMessageDirect";
    DISPATCH_VP = 0x00C2, "HvCallDispatchVp";
    GET_GPA_PAGES_ACCESS_STATES = 0x00C9, "HvCallGetGpaPagesAccessStates";
    CHECK_SPARSE_GPA_PAGE_VTL_ACCESS = 0x00D4, "HvCallCheckSparseGpaPageVtlAccess";
    ACQUIRE_SPARSE_SPA_PAGE_HOST_ACCESS = 0x00D7, "HvCallAcquireSparseSpaPageHostAccess";
    RELEASE_SPARSE_SPA_PAGE_HOST_ACCESS = 0x00D8, "HvCallReleaseSparseSpaPageHostAccess";
    ACCEPT_GPA_PAGES = 0x00D9, "HvCallAcceptGpaPages";
    MODIFY_SPARSE_GPA_PAGE_HOST_VISIBILITY = 0x00DB, "HvCallModifySparseGpaPageHostVisibility";
    MAP_VP_STATE_PAGE = 0x00E1, "HvCallMapVpStatePage";
    UNMAP_VP_STATE_PAGE = 0x00E2, "HvCallUnmapVpStatePage";
    GET_VP_STATE = 0x00E3, "HvCallGetVpState";
    SET_VP_STATE = 0x00E4, "HvCallSetVpState";
    GET_VP_SET_FROM_MDA = 0x00E5, "HvCallGetVpSetFromMda";
    GET_VP_CPUID_VALUES = 0x00F4, "HvCallGetVpCpuidValues";
    GET_PARTITION_PROPERTY_EX = 0x0101, "HvCallGetPartitionPropertyEx";
    RESTORE_PARTITION_TIME = 0x0103, "HvCallRestorePartitionTime";
    MEMORY_MAPPED_IO_READ = 0x0106, "HvCallMemoryMappedIoRead";
    MEMORY_MAPPED_IO_WRITE = 0x0107, "HvCallMemoryMappedIoWrite";
    SET_PARTITION_PROPERTY_EX = 0x010A, "HvCallSetPartitionPropertyEx";
    DISABLE_HYPERVISOR_EX = 0x010F, "HvCallDisableHypervisorEx";
    PIN_GPA_PAGE_RANGES = 0x0112, "HvCallPinGpaPageRanges";
    UNPIN_GPA_PAGE_RANGES = 0x0113, "HvCallUnpinGpaPageRanges";
    QUERY_SPARSE_GPA_PAGE_HOST_VISIBILITY = 0x011C, "HvCallQuerySparseGpaPageHostVisibility";
    /// As MAP_STATS_PAGE with a page of the caller's choice; nested hosts only.
    MAP_STATS_PAGE_2 = 0x0131, "HvCallMapStatsPage2";
    EXT_QUERY_CAPABILITIES = 0x8001, "HvExtCallQueryCapabilities";
    EXT_GET_BOOT_ZEROED_MEMORY = 0x8002, "HvExtCallGetBootZeroedMemory";
    EXT_MEMORY_HEAT_HINT = 0x8003, "HvExtCallMemoryHeatHint";
}

impl HvCallCode {
    /// First code of the extended calls.
    pub const EXTENDED_FIRST: Self = Self(0x8000);

    /// Whether this is an extended call, served by the root side.
    pub const fn is_extended(self) -> bool {
        self.0 >= Self::EXTENDED_FIRST.0
    }
}
