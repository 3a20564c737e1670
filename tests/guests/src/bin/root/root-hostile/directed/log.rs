//! The event log.

use guests::root::{Root, report};
use guests::{fail, ok};
use tlfs::{
    HV_PAGE_SIZE, HvCallCode, HvEventLogBufferIndex, HvEventLogType, HvInputCreateEventLogBuffer,
    HvInputInitializeEventLogBufferGroup, HvPartitionId, HvStatus, HvTraceGroups,
};
use zerocopy::FromZeros;

const KIND: HvEventLogType = HvEventLogType::LOCAL_DIAGNOSTICS;

/// Calls whose parameters fit into registers.
pub mod call {
    use super::*;

    /// A call whose parameters are the type, and one number more.
    pub fn short(root: &Root, kind: HvEventLogType, code: HvCallCode, index: u32) -> HvStatus {
        let first = u64::from(kind.0) | u64::from(index) << 32;
        root.calls.fast(code, first, HvPartitionId::SELF.0)
    }

    /// 0x66.
    pub fn sources(root: &Root, kind: HvEventLogType, flags: u64) -> HvStatus {
        let code = HvCallCode::SET_EVENT_LOG_GROUP_SOURCES;
        root.calls.fast(code, u64::from(kind.0), flags)
    }
}

fn short(root: &Root, code: HvCallCode, index: u32) -> HvStatus {
    call::short(root, KIND, code, index)
}

fn sources(root: &Root, flags: u64) -> HvStatus {
    call::sources(root, KIND, flags)
}

/// 0x60, with one page a buffer.
fn initialize(root: &Root, count: u32) -> HvStatus {
    let mut input = HvInputInitializeEventLogBufferGroup::new_zeroed();
    input.init.set_event_log_type(KIND.0 as u16);
    input.maximum_buffer_count = count;
    input.buffer_size_in_bytes = HV_PAGE_SIZE as u32;
    input.threshold = 1;
    root.calls
        .order(HvCallCode::INITIALIZE_EVENT_LOG_BUFFER_GROUP, &input)
}

fn create(root: &Root, index: u32) -> HvStatus {
    let mut input = HvInputCreateEventLogBuffer::new_zeroed();
    input.event_log_type = KIND;
    input.buffer_index = HvEventLogBufferIndex(index);
    root.calls
        .order(HvCallCode::CREATE_EVENT_LOG_BUFFER, &input)
}

/// 0x64.
fn map(root: &Root, index: u32) -> HvStatus {
    let input = tlfs::HvInputMapEventLogBuffer {
        event_log_type: KIND,
        buffer_index: HvEventLogBufferIndex(index),
        partition_id: HvPartitionId::SELF,
    };
    root.calls.order(HvCallCode::MAP_EVENT_LOG_BUFFER, &input)
}

fn pay(root: &mut Root, call: impl Fn(&Root) -> HvStatus) {
    for _ in 0..64 {
        match call(root) {
            HvStatus::SUCCESS => return,
            HvStatus::INSUFFICIENT_MEMORY => root.deposit(HvPartitionId::SELF, 1),
            other => fail!("a call of the event log: {other}"),
        }
    }
    fail!("memory does not help the event log")
}

/// 0x60 to 0x68.
pub fn all(root: &mut Root) {
    const FINALIZE: HvCallCode = HvCallCode::FINALIZE_EVENT_LOG_BUFFER_GROUP;
    const DELETE: HvCallCode = HvCallCode::DELETE_EVENT_LOG_BUFFER;
    const UNMAP: HvCallCode = HvCallCode::UNMAP_EVENT_LOG_BUFFER;
    const RELEASE: HvCallCode = HvCallCode::RELEASE_EVENT_LOG_BUFFER;
    const FLUSH: HvCallCode = HvCallCode::FLUSH_EVENT_LOG_BUFFER;
    let (success, denied) = (HvStatus::SUCCESS, HvStatus::OPERATION_DENIED);
    let (invalid, lack) = (HvStatus::INVALID_PARAMETER, HvStatus::INSUFFICIENT_MEMORY);
    let is = |status, wanted, what| report::status(status, wanted, what);
    is(short(root, FINALIZE, 0), denied, "0x61");
    is(create(root, 0), denied, "0x62");
    is(short(root, DELETE, 0), denied, "0x63");
    is(map(root, 0), denied, "0x64");
    is(sources(root, 0), denied, "0x66");
    is(short(root, RELEASE, 0), denied, "0x67");
    is(short(root, FLUSH, 0), denied, "0x68");
    is(initialize(root, 0), invalid, "0x60");
    root.withdraw_all(HvPartitionId::SELF);
    is(initialize(root, 2), lack, "0x60");
    pay(root, |root| initialize(root, 2));
    is(initialize(root, 2), HvStatus::OBJECT_IN_USE, "0x60");
    root.withdraw_all(HvPartitionId::SELF);
    is(create(root, 0), lack, "0x62");
    is(create(root, 2), invalid, "0x62");
    pay(root, |root| create(root, 0));
    is(short(root, DELETE, 1), invalid, "0x63");
    is(map(root, 1), invalid, "0x64");
    is(short(root, UNMAP, 1), invalid, "0x65");
    is(short(root, UNMAP, 0), HvStatus::ACCESS_DENIED, "0x65");
    is(short(root, FLUSH, 2), invalid, "0x68");
    is(map(root, 0), success, "0x64");
    is(sources(root, HvTraceGroups::HC.0), success, "0x66");
    is(sources(root, 0), success, "0x66");
    is(short(root, FLUSH, 0), success, "0x68");
    let Some(_) = root.messages.wait(100_000) else {
        fail!("no message of the event log")
    };
    is(short(root, RELEASE, 0), success, "0x67");
    is(short(root, UNMAP, 0), success, "0x65");
    is(short(root, DELETE, 0), success, "0x63");
    is(short(root, FINALIZE, 0), success, "0x61");
    ok!("event log");
}
