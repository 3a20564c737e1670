//! Type 0: system events.

use guests::ok;
use guests::root::child::{Child, VMM_FLAGS, creation};
use guests::root::{Root, report};
use tlfs::{
    HvCallCode, HvEventLogBufferState, HvEventLogEntryType, HvEventLogSystemSources,
    HvEventLogType, HvOutputPartitionId, HvPartitionId, HvStatus,
};

use crate::log::{Log, SMALL, count, state};
use crate::order::{end, ready};

const LOG: Log = Log(HvEventLogType::GLOBAL_SYSTEM_EVENTS);

/// Partitions that are created, deleted, and not created; and the test entry.
pub fn events(root: &mut Root) {
    let pages = ready(root, LOG, &SMALL);
    let sources = HvEventLogSystemSources::PARTITION
        | HvEventLogSystemSources::AUDIT_SUCCESS
        | HvEventLogSystemSources::AUDIT_FAILURE
        | HvEventLogSystemSources::TEST;
    let status = LOG.sources(root, sources.0);
    report::status(status, HvStatus::SUCCESS, "0x66");
    root.withdraw_all(HvPartitionId::SELF);
    let input = creation(VMM_FLAGS);
    let call = HvCallCode::CREATE_PARTITION;
    let failed: Result<HvOutputPartitionId, _> = root.calls.ask(call, &input);
    let wanted = Err(HvStatus::INSUFFICIENT_MEMORY);
    report::same(failed.map(|_| ()), wanted, "CreatePartition without memory");
    let child = Child::create(root, VMM_FLAGS);
    let id = child.id;
    child.bury(root);
    report::status(LOG.flush(root, 0), HvStatus::SUCCESS, "0x68");
    report::same(
        LOG.reported(root.messages.wait(100_000)),
        0,
        "the buffer reported",
    );
    state(pages[0], HvEventLogBufferState::READY);
    let shortage = u64::from(HvStatus::INSUFFICIENT_MEMORY.0);
    type Kind = HvEventLogEntryType;
    for (kind, parameters, least) in [
        (Kind::ADMIN_TEST, None, 1),
        (
            Kind::OPERATIONAL_PARTITION_CREATION_FAILED,
            Some(shortage),
            1,
        ),
        (Kind::OPERATIONAL_PARTITION_CREATED, Some(id.0), 1),
        (Kind::OPERATIONAL_PARTITION_DELETED, Some(id.0), 1),
    ] {
        let found = count(pages[0], kind, parameters.as_slice());
        guests::check!(found >= least, "{found} entries {kind:?}");
    }
    end(root, LOG, &pages);
    ok!("system events: test, partition created, deleted, not created");
}
