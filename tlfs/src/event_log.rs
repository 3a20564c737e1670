//! The event log: buffers that the hypervisor fills and the root reads (event log sheet).
//!
//! A group of buffers belongs to each event log type. The root gives it a geometry, creates buffers, maps them (which
//! frees them for the hypervisor), enables sources, and releases each buffer that a message reports as ready.

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ids::{HvPartitionId, HvProximityDomainInfo};
use crate::macros::{wire_enum, wire_flags, wire_struct};

/// Most pages of a buffer, and most buffers of a group.
pub const HV_EVENTLOG_MAX_BUFFER_PAGES: usize = 512;
/// Most buffers of a group.
pub const HV_EVENTLOG_MAX_BUFFERS: u32 = 512;

wire_enum! {
    /// Event log type; each has one group of buffers.
    pub struct HvEventLogType(u32);
    /// System events; buffers are shared by all logical processors (global class).
    GLOBAL_SYSTEM_EVENTS = 0, "HvEventLogTypeGlobalSystemEvents";
    /// Traces; each logical processor fills buffers of its own (local class).
    LOCAL_DIAGNOSTICS = 1, "HvEventLogTypeLocalDiagnostics";
    SYSTEM_DIAGNOSTICS = 2, "HvEventLogTypeSystemDiagnostics";
}

wire_enum! {
    /// Index of a buffer in its group, from 0; chosen by the root.
    pub struct HvEventLogBufferIndex(u32);
    /// End of a list of ready buffers.
    NONE = 0xFFFF_FFFF, "HV_EVENTLOG_BUFFER_INDEX_NONE";
}

wire_enum! {
    /// State of a buffer.
    pub struct HvEventLogBufferState(u32);
    /// Not mapped; neither the root nor the hypervisor uses it.
    STANDBY = 0, "HvEventLogBufferStateStandby";
    /// The hypervisor may begin to fill it.
    FREE = 1, "HvEventLogBufferStateFree";
    /// The hypervisor fills it.
    IN_USE = 2, "HvEventLogBufferStateInUse";
    /// Full or flushed; waits to be reported.
    COMPLETE = 3, "HvEventLogBufferStateComplete";
    /// Reported; the root's until it releases or unmaps it.
    READY = 4, "HvEventLogBufferStateReady";
}

wire_enum! {
    /// What the group does when no buffer is free. Not in the old headers, which have zeros here.
    pub struct HvEventLogMode(u16);
    /// Events are lost, and counted.
    REGULAR = 0, "HvEventLogModeRegular";
    /// The oldest are overwritten.
    CIRCULAR = 1, "HvEventLogModeCircular";
}

wire_enum! {
    /// Clock of the time stamps in entries.
    pub struct HvEventLogEntryTimeBasis(u32);
    /// Reference time, 100 ns since the hypervisor started.
    REFERENCE = 0, "HvEventLogEntryTimeReference";
    /// TSC of the logical processor that logs.
    TSC = 1, "HvEventLogEntryTimeTsc";
    /// Performance counter of the virtualization stack. Newer hypervisors only.
    QPC = 2, "HvEventLogEntryTimeQpc";
}

wire_flags! {
    /// Sources of LOCAL_DIAGNOSTICS: one bit for each group of events.
    pub struct HvTraceGroups(u64);
    /// Boot manager.
    BM = 0x0000_0100;
    /// Dispatch manager.
    DM = 0x0000_0200;
    /// Hypercalls.
    HC = 0x0000_0400;
    /// Intercepts.
    IM = 0x0000_0800;
    /// Instruction completion.
    IC = 0x0000_1000;
    /// Objects: partitions created, deleted.
    OB = 0x0000_2000;
    /// Partitions.
    PT = 0x0000_4000;
    /// Virtual processors.
    VP = 0x0000_8000;
    /// SynIC.
    SYNIC = 0x0001_0000;
    /// Synthetic timers.
    SYNIC_TI = 0x0002_0000;
    /// Guest virtual addresses.
    AM_GVA = 0x0004_0000;
    /// Addresses.
    AM = 0x0008_0000;
    /// Virtualization abstraction layer.
    VAL = 0x0010_0000;
    /// Virtualization manager.
    VM = 0x0020_0000;
    /// Scheduler.
    SCH = 0x0040_0000;
    /// Threads.
    TH = 0x0080_0000;
    /// Timers.
    TI = 0x0100_0000;
    /// Kernel.
    KE = 0x0200_0000;
    /// Memory.
    MM = 0x0400_0000;
    /// Profiler.
    PROFILER = 0x0800_0000;
    /// User scheduler. Newer hypervisors only.
    USCH = 0x1000_0000;
    /// Generic. Newer hypervisors only.
    GENERIC = 0x2000_0000;
}

wire_flags! {
    /// Sources of GLOBAL_SYSTEM_EVENTS.
    pub struct HvEventLogSystemSources(u64);
    /// Audit of successes.
    AUDIT_SUCCESS = 0x0000_0000_0000_0001;
    /// Audit of failures.
    AUDIT_FAILURE = 0x0000_0000_0000_0002;
    /// Partitions created, deleted, not created.
    PARTITION = 0x0000_0000_0000_0004;
    /// Test.
    TEST = 0x8000_0000_0000_0000;
}

wire_enum! {
    /// Type of an entry; what follows the entry's header depends on it. The documented ones, with what they carry as
    /// `u64` each. The types 0x1A to 0xF1 are of LOCAL_DIAGNOSTICS, the ones with 0x100 of GLOBAL_SYSTEM_EVENTS.
    pub struct HvEventLogEntryType(u16);
    /// Guest RIP, control word.
    HC_HYPERCALL = 0x001A, "HV_TR_HC_HYPERCALL";
    /// Guest RIP, type.
    IM_GUEST_EXCEPTION = 0x0020, "HV_TR_IM_GUEST_EXCEPTION";
    /// Guest RIP, index, value.
    IM_MSR_READ = 0x0021, "HV_TR_IM_MSR_READ";
    /// Guest RIP, index, value.
    IM_MSR_WRITE = 0x0022, "HV_TR_IM_MSR_WRITE";
    /// Guest RIP, index, value.
    IM_CR_READ = 0x0023, "HV_TR_IM_CR_READ";
    /// Guest RIP, index, value.
    IM_CR_WRITE = 0x0024, "HV_TR_IM_CR_WRITE";
    /// Guest RIP.
    IM_HLT_INSTRUCTION = 0x0025, "HV_TR_IM_HLT_INSTRUCTION";
    /// Guest RIP, extensions, hint.
    IM_MWAIT_INSTRUCTION = 0x0026, "HV_TR_IM_MWAIT_INSTRUCTION";
    /// Guest RIP, EAX, ECX.
    IM_CPUID_INSTRUCTION = 0x0027, "HV_TR_IM_CPUID_INSTRUCTION";
    /// Guest RIP, port, value.
    IM_IO_PORT_READ = 0x0028, "HV_TR_IM_IO_PORT_READ";
    /// Guest RIP, port, value.
    IM_IO_PORT_WRITE = 0x0029, "HV_TR_IM_IO_PORT_WRITE";
    /// Vector.
    IM_EXTERNAL_INTERRUPT = 0x002A, "HV_TR_IM_EXTERNAL_INTERRUPT";
    /// Guest RIP.
    IM_INTERRUPT_PENDING = 0x002B, "HV_TR_IM_INTERRUPT_PENDING";
    /// Guest RIP: triple fault.
    IM_GUEST_SHUTDOWN = 0x002C, "HV_TR_IM_GUEST_SHUTDOWN";
    /// Guest RIP.
    IM_EMULATED_INSTRUCTION = 0x002D, "HV_TR_IM_EMULATED_INSTRUCTION";
    /// Guest RIP.
    IM_NMI_INTERRUPT = 0x002E, "HV_TR_IM_NMI_INTERRUPT";
    /// Guest RIP, address.
    IM_INVLPG_INSTRUCTION = 0x002F, "HV_TR_IM_INVLPG_INSTRUCTION";
    /// Guest RIP.
    IM_IRET_INSTRUCTION = 0x0030, "HV_TR_IM_IRET_INSTRUCTION";
    /// Guest RIP.
    IM_TASK_SWITCH = 0x0031, "HV_TR_IM_TASK_SWITCH";
    /// Guest RIP.
    IM_INVD_INSTRUCTION = 0x0032, "HV_TR_IM_INVD_INSTRUCTION";
    /// Guest RIP.
    IM_DR_ACCESS = 0x0033, "HV_TR_IM_DR_ACCESS";
    /// Guest RIP.
    IM_FERR_FREEZE = 0x0034, "HV_TR_IM_FERR_FREEZE";
    /// Guest RIP.
    IM_REAL_MODE_INTERRUPT = 0x0035, "HV_TR_IM_REAL_MODE_INTERRUPT";
    /// Guest RIP, type.
    IM_MEMORY_INTERCEPT = 0x0036, "HV_TR_IM_MEMORY_INTERCEPT";
    /// Guest RIP, type.
    IM_REFLECTED_EXCEPTION = 0x0037, "HV_TR_IM_REFLECTED_EXCEPTION";
    /// Partition id, status.
    OB_CREATE_PARTITION = 0x0040, "HV_TR_OB_CREATE_PARTITION";
    /// Partition id, status.
    OB_DELETE_PARTITION = 0x0041, "HV_TR_OB_DELETE_PARTITION";
    /// TSC offset, reference time offset.
    PT_REFERENCE_TIME = 0x0046, "HV_TR_PT_REFERENCE_TIME";
    /// Partition id, thread id, status.
    VP_CREATE_VP = 0x004B, "HV_TR_VP_CREATE_VP";
    /// Partition id, thread id, status.
    VP_DELETE_VP = 0x004C, "HV_TR_VP_DELETE_VP";
    /// Old count, new count.
    AM_GVA_GROW_VIRTUAL_TLB = 0x0070, "HV_TR_AM_GVA_GROW_VIRTUAL_TLB";
    /// Old count, new count, free count.
    AM_GVA_SHRINK_VIRTUAL_TLB = 0x0071, "HV_TR_AM_GVA_SHRINK_VIRTUAL_TLB";
    /// Partition id.
    AM_GVA_FLUSH_VIRTUAL_TLB = 0x0072, "HV_TR_AM_GVA_FLUSH_VIRTUAL_TLB";
    /// Partition id, thread id, TSC offset.
    SCH_CONTEXT_SWITCH = 0x00B0, "HV_TR_SCH_CONTEXT_SWITCH";
    /// Run time, intercept state, entering guest, call code.
    KE_OVERRUN = 0x00E0, "HV_TR_KE_OVERRUN";
    /// Four parameters.
    KE_OVERRUN_PARAMS = 0x00E1, "HV_TR_KE_OVERRUN_PARAMS";
    /// Run time, intercept state, entering guest, call code.
    KE_OVERRUN500 = 0x00E2, "HV_TR_KE_OVERRUN500";
    /// Four parameters.
    KE_OVERRUN500_PARAMS = 0x00E3, "HV_TR_KE_OVERRUN500_PARAMS";
    /// Partition id, thread id, TSC offset.
    PROFILER_SAMPLE = 0x00F0, "HV_TR_SCH_PROFILER_SAMPLE";
    PROFILER_HV_MODULE = 0x00F1, "HV_TR_PROFILER_HV_MODULE";
    OPERATIONAL_PARTITION_CREATION_FAILED = 0x2103, "HV_EVENTLOG_OPERATIONAL_PARTITION_CREATION_FAILED";
    ADMIN_TEST = 0x4001, "HV_EVENTLOG_ADMIN_TEST";
    OPERATIONAL_PARTITION_CREATED = 0x4101, "HV_EVENTLOG_OPERATIONAL_PARTITION_CREATED";
    OPERATIONAL_PARTITION_DELETED = 0x4102, "HV_EVENTLOG_OPERATIONAL_PARTITION_DELETED";
}

wire_struct! {
    /// Start of a buffer (`HV_EVENTLOG_BUFFER_HEADER`). Entries follow it.
    pub struct HvEventLogBufferHeader [72] {
        /// Bytes of the buffer without this header, as Linux reads it.
        buffer_size @ 0: u32,
        /// Its index.
        buffer_index @ 4: HvEventLogBufferIndex,
        /// Events lost for want of a free buffer since the last buffer was completed; local types count for each LP.
        events_lost @ 8: u32,
        /// Writers at work.
        reference_counter @ 12: u32,
        /// When the buffer came into use: 100 ns since the hypervisor started.
        time_stamp @ 16: u64,
        /// Zero.
        reserved_24 @ 24: u64,
        /// Zero.
        reserved_32 @ 32: u64,
        /// LP that fills it; local types only. Old headers have 8 bits and a zero byte here.
        logical_processor @ 40: u16,
        /// Logger.
        logger_id @ 42: u16,
        /// State.
        buffer_state @ 44: HvEventLogBufferState,
        /// Where the next entry goes, counted from the start of the buffer. Entries before it are complete: it is
        /// written after them.
        next_buffer_offset @ 48: u32,
        /// Event log type.
        event_log_type @ 52: HvEventLogType,
        /// Next of the list of ready buffers; valid in state READY only.
        next_buffer_index @ 56: HvEventLogBufferIndex,
        /// How many buffers the LP has completed. Reserved in old headers.
        lp_sequence_number @ 60: u32,
        /// Zero.
        reserved_64 @ 64: [u32; 2],
    }
}

wire_struct! {
    /// Start of an entry (`HV_EVENTLOG_ENTRY_HEADER`). Entries are multiples of 8 bytes.
    pub struct HvEventLogEntryHeader [16] {
        /// Meaning depends on the event log type.
        context @ 0: u32,
        /// Bytes of the entry: this header, data and padding to 8.
        size @ 4: u16,
        /// Type.
        entry_type @ 6: HvEventLogEntryType,
        /// Time in the group's time basis.
        time_stamp @ 8: u64,
    }
}

wire_struct! {
    /// Payload of EVENT_LOG_BUFFER_COMPLETE, to SINT0 of a root VP: for local types the VP of the LP that filled the
    /// buffers.
    pub struct HvEventLogMessagePayload [8] {
        /// Event log type.
        event_log_type @ 0: HvEventLogType,
        /// First of a list linked by `next_buffer_index`, in the order of completion.
        buffer_index @ 4: HvEventLogBufferIndex,
    }
}

/// First word of InitializeEventLogBufferGroup. Old headers have the type in all 32 bits.
#[bitfield(u32)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvEventLogInitType {
    /// Event log type, 16 bits of it.
    pub event_log_type: u16,
    /// Mode.
    #[bits(16)]
    pub mode: HvEventLogMode,
}

wire_struct! {
    /// Input of InitializeEventLogBufferGroup.
    ///
    /// Old headers count `buffer_size` in pages; Linux's out-of-tree header counts bytes, which is followed here, but
    /// packs the time to offset 20. It is at its natural place here, as in the old headers.
    pub struct HvInputInitializeEventLogBufferGroup [32] {
        /// Type and mode.
        init @ 0: HvEventLogInitType,
        /// Indexes are below this; at most [`HV_EVENTLOG_MAX_BUFFERS`].
        maximum_buffer_count @ 4: u32,
        /// Bytes of a buffer with its header: 1 to [`HV_EVENTLOG_MAX_BUFFER_PAGES`] pages.
        buffer_size_in_bytes @ 8: u32,
        /// How many completed buffers bring a message.
        threshold @ 12: u32,
        /// Clock.
        time_basis @ 16: HvEventLogEntryTimeBasis,
        /// Padding.
        padding @ 20: u32,
        /// Time of day, 100 ns.
        system_time @ 24: u64,
    }
}

wire_struct! {
    /// Input of FinalizeEventLogBufferGroup. Fast.
    pub struct HvInputFinalizeEventLogBufferGroup [8] {
        /// Event log type.
        event_log_type @ 0: HvEventLogType,
        /// Padding.
        padding @ 4: u32,
    }
}

wire_struct! {
    /// Input of CreateEventLogBuffer. Fast.
    pub struct HvInputCreateEventLogBuffer [16] {
        /// Event log type.
        event_log_type @ 0: HvEventLogType,
        /// Index for it.
        buffer_index @ 4: HvEventLogBufferIndex,
        /// Where memory should come from.
        proximity_info @ 8: HvProximityDomainInfo,
    }
}

wire_struct! {
    /// Input of DeleteEventLogBuffer, ReleaseEventLogBuffer and FlushEventLogBuffer. Fast.
    pub struct HvInputEventLogBuffer [8] {
        /// Event log type.
        event_log_type @ 0: HvEventLogType,
        /// Which.
        buffer_index @ 4: HvEventLogBufferIndex,
    }
}

wire_struct! {
    /// Input of MapEventLogBuffer and UnmapEventLogBuffer. Old callers end after 8 bytes: what follows is then not
    /// theirs, and SELF must be assumed.
    pub struct HvInputMapEventLogBuffer [16] {
        /// Event log type.
        event_log_type @ 0: HvEventLogType,
        /// Which.
        buffer_index @ 4: HvEventLogBufferIndex,
        /// Whose log; SELF.
        partition_id @ 8: HvPartitionId,
    }
}

wire_struct! {
    /// Output of MapEventLogBuffer: read-only for the caller.
    pub struct HvOutputMapEventLogBuffer [4096] {
        /// Page numbers of the caller, as many as a buffer has.
        gpa_page_numbers @ 0: [u64; 512],
    }
}

wire_struct! {
    /// Start of the input of SetEventLogGroupSources: all of it for old callers (fast) and for a group count of 0.
    pub struct HvInputSetEventLogGroupSources [16] {
        /// Event log type.
        event_log_type @ 0: HvEventLogType,
        /// How many [`HvEventLogEventGroupConfiguration`] follow; old callers: padding.
        group_count @ 4: u32,
        /// Sources to enable, all others are disabled: [`HvTraceGroups`] or [`HvEventLogSystemSources`]; 0 ends
        /// logging. Bit 0 set means another meaning for LOCAL_DIAGNOSTICS on newer hypervisors.
        enable_flags @ 8: u64,
    }
}

wire_struct! {
    /// Events of a group to enable. Newer hypervisors only.
    pub struct HvEventLogEventGroupConfiguration [264] {
        /// Group.
        group_id @ 0: u32,
        /// Zero.
        padding @ 4: u16,
        /// How many ids count.
        event_count @ 6: u16,
        /// Events of the group.
        event_id @ 8: [u8; 256],
    }
}
