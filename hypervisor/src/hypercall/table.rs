//! The calls: their parameters, the privilege that each needs, and the code behind it.

use tlfs::stats::vp as counter;
use tlfs::*;

use super::decode::{Kind, Shape};
use super::{
    Call, bulk, event_log, flush, gpa, intercept, interrupt, message, partition, pool, port,
    registers, state, stats, system, vp,
};
use HvCallCode as Code;
use HvPartitionPrivilegeMask as Privilege;

/// A call.
pub struct Entry {
    /// Code.
    pub code: HvCallCode,
    /// Parameters.
    pub shape: Shape,
    /// Needed privilege; empty if being the parent is what counts.
    pub privilege: HvPartitionPrivilegeMask,
    /// Counter of its group.
    pub counter: u32,
    /// Does it.
    pub handler: fn(&mut Call<'_>) -> Result<(), HvStatus>,
}

const NONE: Privilege = Privilege::empty();

macro_rules! size {
    (()) => {
        0
    };
    ($ty:ty) => {
        size_of::<$ty>()
    };
}

/// One line a call: code, input, output (with the elements of lists in brackets), privilege, counter, code behind it.
macro_rules! calls {
    ($($code:ident: $input:tt $(+ $more:tt)? $([$($element:tt)+])? => $output:tt $([$($result:tt)+])?, $privilege:expr, $counter:ident, $handler:path;)+) => {
        &[$(Entry {
            code: Code::$code,
            shape: Shape {
                input: size!($input),
                output: size!($output),
                kind: calls!(@kind $(+ $more)? $([$($element)+])? $([$($result)+])?),
            },
            privilege: $privilege,
            counter: counter::$counter,
            handler: $handler,
        }),+]
    };
    (@kind) => { Kind::Simple };
    (@kind + variable) => { Kind::Variable };
    (@kind [$element:tt => $result:tt]) => {
        Kind::Rep { input: size!($element), output: size!($result), variable: false }
    };
    (@kind + variable [$element:tt => $result:tt]) => {
        Kind::Rep { input: size!($element), output: size!($result), variable: true }
    };
}

/// All of them, by code.
static TABLE: &[Entry] = calls! {
    FLUSH_VIRTUAL_ADDRESS_SPACE: HvInputFlushVirtualAddressSpace => (), NONE, VIRTUAL_MMU_HYPERCALLS, flush::address_space;
    FLUSH_VIRTUAL_ADDRESS_LIST: HvInputFlushVirtualAddressSpace [HvGvaRange => ()] => (), NONE, VIRTUAL_MMU_HYPERCALLS, flush::address_space;
    GET_LOGICAL_PROCESSOR_RUN_TIME: HvInputGetLogicalProcessorRunTime => HvOutputGetLogicalProcessorRunTime, Privilege::CPU_MANAGEMENT, LOGICAL_PROCESSOR_HYPERCALLS, system::run_time;
    NOTIFY_LONG_SPIN_WAIT: HvInputNotifyLongSpinWait => (), NONE, LONG_SPIN_WAIT_HYPERCALLS, flush::long_spin_wait;
    SEND_SYNTHETIC_CLUSTER_IPI: HvInputSendSyntheticClusterIpi => (), NONE, SYNTHETIC_INTERRUPT_HYPERCALLS, flush::send_ipi;
    FLUSH_VIRTUAL_ADDRESS_SPACE_EX: HvInputFlushVirtualAddressSpaceEx + variable => (), NONE, VIRTUAL_MMU_HYPERCALLS, flush::address_space_ex;
    FLUSH_VIRTUAL_ADDRESS_LIST_EX: HvInputFlushVirtualAddressSpaceEx + variable [HvGvaRange => ()] => (), NONE, VIRTUAL_MMU_HYPERCALLS, flush::address_space_ex;
    SEND_SYNTHETIC_CLUSTER_IPI_EX: HvInputSendSyntheticClusterIpiEx + variable => (), NONE, SYNTHETIC_INTERRUPT_HYPERCALLS, flush::send_ipi_ex;
    CREATE_PARTITION: HvInputCreatePartition => HvOutputPartitionId, Privilege::CREATE_PARTITIONS, OTHER_HYPERCALLS, partition::create;
    INITIALIZE_PARTITION: HvInputPartition => (), NONE, OTHER_HYPERCALLS, partition::initialize;
    FINALIZE_PARTITION: HvInputPartition => (), NONE, OTHER_HYPERCALLS, partition::finalize;
    DELETE_PARTITION: HvInputPartition => (), NONE, OTHER_HYPERCALLS, partition::delete;
    GET_PARTITION_PROPERTY: HvInputGetPartitionProperty => HvOutputGetPartitionProperty, NONE, OTHER_HYPERCALLS, partition::get_property;
    SET_PARTITION_PROPERTY: HvInputSetPartitionProperty => (), NONE, OTHER_HYPERCALLS, partition::set_property;
    GET_PARTITION_ID: () => HvOutputPartitionId, Privilege::ACCESS_PARTITION_ID, OTHER_HYPERCALLS, partition::get_id;
    GET_NEXT_CHILD_PARTITION: HvInputGetNextChildPartition => HvOutputGetNextChildPartition, NONE, OTHER_HYPERCALLS, partition::get_next_child;
    DEPOSIT_MEMORY: HvInputDepositMemory [u64 => ()] => (), Privilege::ACCESS_MEMORY_POOL, OTHER_HYPERCALLS, pool::deposit;
    WITHDRAW_MEMORY: HvInputWithdrawMemory [() => u64] => (), Privilege::ACCESS_MEMORY_POOL, OTHER_HYPERCALLS, pool::withdraw;
    GET_MEMORY_BALANCE: HvInputGetMemoryBalance => HvOutputGetMemoryBalance, Privilege::ACCESS_MEMORY_POOL, OTHER_HYPERCALLS, pool::balance;
    MAP_GPA_PAGES: HvInputMapGpaPages [u64 => ()] => (), NONE, GPA_SPACE_HYPERCALLS, gpa::map;
    UNMAP_GPA_PAGES: HvInputUnmapGpaPages [() => ()] => (), NONE, GPA_SPACE_HYPERCALLS, gpa::unmap;
    INSTALL_INTERCEPT: HvInputInstallIntercept => (), NONE, OTHER_HYPERCALLS, intercept::install;
    CREATE_VP: HvInputCreateVp => (), NONE, VIRTUAL_PROCESSOR_HYPERCALLS, vp::create;
    DELETE_VP: HvInputDeleteVp => (), NONE, VIRTUAL_PROCESSOR_HYPERCALLS, vp::delete;
    GET_VP_REGISTERS: HvInputVpRegisters [HvRegisterName => HvRegisterValue] => (), NONE, VIRTUAL_PROCESSOR_HYPERCALLS, registers::get;
    SET_VP_REGISTERS: HvInputVpRegisters [HvRegisterAssoc => ()] => (), NONE, VIRTUAL_PROCESSOR_HYPERCALLS, registers::set;
    TRANSLATE_VIRTUAL_ADDRESS: HvInputTranslateVirtualAddress => HvOutputTranslateVirtualAddress, NONE, VIRTUAL_MMU_HYPERCALLS, vp::translate;
    CLEAR_VIRTUAL_INTERRUPT: HvInputPartition => (), NONE, VIRTUAL_INTERRUPT_HYPERCALLS, interrupt::clear;
    DELETE_PORT: HvInputDeletePort => (), Privilege::CREATE_PORT, OTHER_HYPERCALLS, port::delete;
    DISCONNECT_PORT: HvInputDisconnectPort => (), Privilege::CONNECT_PORT, OTHER_HYPERCALLS, port::disconnect;
    POST_MESSAGE: HvInputPostMessage => (), Privilege::POST_MESSAGES, SYNTHETIC_INTERRUPT_HYPERCALLS, message::post;
    SIGNAL_EVENT: HvInputSignalEvent => (), Privilege::SIGNAL_EVENTS, SYNTHETIC_INTERRUPT_HYPERCALLS, message::signal;
    INITIALIZE_EVENT_LOG_BUFFER_GROUP: HvInputInitializeEventLogBufferGroup => (), NONE, OTHER_HYPERCALLS, event_log::initialize_group;
    FINALIZE_EVENT_LOG_BUFFER_GROUP: HvInputFinalizeEventLogBufferGroup => (), NONE, OTHER_HYPERCALLS, event_log::finalize_group;
    CREATE_EVENT_LOG_BUFFER: HvInputCreateEventLogBuffer => (), NONE, OTHER_HYPERCALLS, event_log::create_buffer;
    DELETE_EVENT_LOG_BUFFER: HvInputEventLogBuffer => (), NONE, OTHER_HYPERCALLS, event_log::delete_buffer;
    MAP_EVENT_LOG_BUFFER: HvInputEventLogBuffer => HvOutputMapEventLogBuffer, NONE, OTHER_HYPERCALLS, event_log::map_buffer;
    UNMAP_EVENT_LOG_BUFFER: HvInputEventLogBuffer => (), NONE, OTHER_HYPERCALLS, event_log::unmap_buffer;
    SET_EVENT_LOG_GROUP_SOURCES: HvInputSetEventLogGroupSources => (), NONE, OTHER_HYPERCALLS, event_log::set_sources;
    RELEASE_EVENT_LOG_BUFFER: HvInputEventLogBuffer => (), NONE, OTHER_HYPERCALLS, event_log::release_buffer;
    FLUSH_EVENT_LOG_BUFFER: HvInputEventLogBuffer => (), NONE, OTHER_HYPERCALLS, event_log::flush_buffer;
    MAP_STATS_PAGE: HvInputStatsPage => HvOutputMapStatsPage, NONE, OTHER_HYPERCALLS, stats::map;
    UNMAP_STATS_PAGE: HvInputStatsPage => (), NONE, OTHER_HYPERCALLS, stats::unmap;
    GET_SYSTEM_PROPERTY: HvInputGetSystemProperty => HvOutputGetSystemProperty, NONE, OTHER_HYPERCALLS, system::get_property;
    REGISTER_INTERCEPT_RESULT: HvInputRegisterInterceptResult => (), NONE, OTHER_HYPERCALLS, intercept::register_result;
    UNREGISTER_INTERCEPT_RESULT: HvInputRegisterInterceptResult => (), NONE, OTHER_HYPERCALLS, intercept::unregister_result;
    ASSERT_VIRTUAL_INTERRUPT: HvInputAssertVirtualInterrupt => (), NONE, VIRTUAL_INTERRUPT_HYPERCALLS, interrupt::assert;
    CREATE_PORT: HvInputCreatePort => (), Privilege::CREATE_PORT, OTHER_HYPERCALLS, port::create;
    CONNECT_PORT: HvInputConnectPort => (), Privilege::CONNECT_PORT, OTHER_HYPERCALLS, port::connect;
    MAP_VP_STATE_PAGE: HvInputMapVpStatePage => HvOutputMapVpStatePage, NONE, VIRTUAL_PROCESSOR_HYPERCALLS, state::map_page;
    UNMAP_VP_STATE_PAGE: HvInputUnmapVpStatePage => (), NONE, VIRTUAL_PROCESSOR_HYPERCALLS, state::unmap_page;
    SIGNAL_EVENT_DIRECT: HvInputSignalEventDirect => HvOutputSignalEventDirect, NONE, SYNTHETIC_INTERRUPT_HYPERCALLS, message::signal_direct;
    POST_MESSAGE_DIRECT: HvInputPostMessageDirect => (), NONE, SYNTHETIC_INTERRUPT_HYPERCALLS, message::post_direct;
    GET_VP_STATE: HvInputVpState + variable => [u8; 4096], NONE, VIRTUAL_PROCESSOR_HYPERCALLS, bulk::get;
    SET_VP_STATE: HvInputVpState + variable => (), NONE, VIRTUAL_PROCESSOR_HYPERCALLS, bulk::set;
    GET_VP_CPUID_VALUES: HvInputGetVpCpuidValues [HvCpuidLeafInfo => HvCpuidResult] => (), NONE, VIRTUAL_PROCESSOR_HYPERCALLS, vp::cpuid_values;
    GET_PARTITION_PROPERTY_EX: HvInputGetPartitionPropertyEx => HvPartitionPropertyVmmCapabilities, NONE, OTHER_HYPERCALLS, partition::get_property_ex;
};

/// Extended calls, with codes far behind those.
static EXTENDED: &[Entry] = calls! {
    EXT_QUERY_CAPABILITIES: () => HvOutputQueryCapabilities, Privilege::ENABLE_EXTENDED_HYPERCALLS, EXTENDED_HYPERCALLS, flush::query_capabilities;
};

/// One past the highest code in the table.
const CODES: usize = 0x110;
const ABSENT: u8 = u8::MAX;

/// Place in the table by code: one load instead of a search, on the way of every call.
static PLACES: [u8; CODES] = {
    let mut places = [ABSENT; CODES];
    let mut at = 0;
    while at < TABLE.len() {
        places[TABLE[at].code.0 as usize] = at as u8;
        at += 1;
    }
    places
};

/// The call with this code.
#[inline]
pub fn find(code: HvCallCode) -> Option<&'static Entry> {
    match PLACES.get(usize::from(code.0)) {
        Some(place) => TABLE.get(usize::from(*place)),
        None => EXTENDED.iter().find(|entry| entry.code == code),
    }
}

/// The calls that there are, and whether they have a list.
#[cfg(any(test, feature = "test-support"))]
pub const CALLS: &[(HvCallCode, bool)] = {
    const LIST: [(HvCallCode, bool); TABLE.len()] = {
        let mut list = [(HvCallCode(0), false); TABLE.len()];
        let mut at = 0;
        while at < list.len() {
            list[at] = (
                TABLE[at].code,
                matches!(TABLE[at].shape.kind, Kind::Rep { .. }),
            );
            at += 1;
        }
        list
    };
    &LIST
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_found_by_its_code_and_named_by_the_tlfs() {
        for entry in TABLE.iter().chain(EXTENDED) {
            let found = find(entry.code).map(|found| found.code);
            assert_eq!(found, Some(entry.code));
            assert!(entry.code.name().is_some());
        }
        assert!(find(HvCallCode(0x1FF)).is_none() && find(HvCallCode(0)).is_none());
    }
}
