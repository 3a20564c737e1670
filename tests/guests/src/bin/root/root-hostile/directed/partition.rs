//! Partitions: life, properties, and malformed calls.

use guests::root::child::{Child, VMM_FLAGS, creation};
use guests::root::{Root, report};
use guests::{check, ok};
use tlfs::{
    HvCallCode, HvHypercallInput, HvInputCreatePartition, HvInputGetNextChildPartition,
    HvInputGetPartitionProperty, HvInputGetPartitionPropertyEx, HvInputGetSystemProperty,
    HvInputPartition, HvInputSetPartitionProperty, HvOutputGetNextChildPartition,
    HvOutputGetPartitionProperty, HvOutputGetSystemProperty, HvOutputPartitionId,
    HvPartitionCreationFlags, HvPartitionId, HvPartitionPropertyCode,
    HvPartitionPropertyVmmCapabilities, HvStatus, HvSystemPropertyCode,
};
use zerocopy::IntoBytes;

/// An id that no partition has.
pub const NOBODY: HvPartitionId = HvPartitionId(0x0BAD_0BAD_0BAD);

fn create(root: &Root, input: &HvInputCreatePartition) -> Result<HvPartitionId, HvStatus> {
    let call = HvCallCode::CREATE_PARTITION;
    let output: Result<HvOutputPartitionId, _> = root.calls.ask(call, input);
    output.map(|output| output.partition_id)
}

#[track_caller]
fn order(root: &Root, code: HvCallCode, id: HvPartitionId, wanted: HvStatus) {
    let input = HvInputPartition { partition_id: id };
    for status in [
        root.calls.order(code, &input),
        // What fails has changed nothing, so it fails again, in registers.
        if wanted.is_success() {
            wanted
        } else {
            root.calls.fast(code, id.0, 0)
        },
    ] {
        report::status(status, wanted, "a call on a partition");
    }
}

/// Created, initialized, finalized, drained, deleted; and every step at the wrong time.
pub fn life(root: &mut Root) {
    const INITIALIZE: HvCallCode = HvCallCode::INITIALIZE_PARTITION;
    const FINALIZE: HvCallCode = HvCallCode::FINALIZE_PARTITION;
    const DELETE: HvCallCode = HvCallCode::DELETE_PARTITION;
    for code in [INITIALIZE, FINALIZE, DELETE] {
        order(root, code, NOBODY, HvStatus::INVALID_PARTITION_ID);
        order(
            root,
            code,
            HvPartitionId::INVALID,
            HvStatus::INVALID_PARTITION_ID,
        );
        order(root, code, HvPartitionId::SELF, HvStatus::ACCESS_DENIED);
        order(root, code, root.id, HvStatus::ACCESS_DENIED);
    }
    root.withdraw_all(HvPartitionId::SELF);
    let short = Err(HvStatus::INSUFFICIENT_MEMORY);
    report::same(create(root, &creation(VMM_FLAGS)), short, "CreatePartition");
    let unknown = HvPartitionCreationFlags(VMM_FLAGS.0 | 1 << 40);
    let bad = Err(HvStatus::INVALID_PARAMETER);
    report::same(create(root, &creation(unknown)), bad, "CreatePartition");

    let child = Child::create(root, VMM_FLAGS);
    let (id, own) = (child.id, root.id);
    next(root, own, id);
    order(root, FINALIZE, id, HvStatus::INVALID_PARTITION_STATE);
    order(root, INITIALIZE, id, HvStatus::INSUFFICIENT_MEMORY);
    child.initialize(root);
    order(root, INITIALIZE, id, HvStatus::INVALID_PARTITION_STATE);
    order(root, DELETE, id, HvStatus::INVALID_PARTITION_STATE);
    order(root, FINALIZE, id, HvStatus::SUCCESS);
    order(root, FINALIZE, id, HvStatus::INVALID_PARTITION_STATE);
    order(root, INITIALIZE, id, HvStatus::INVALID_PARTITION_STATE);
    order(root, DELETE, id, HvStatus::OPERATION_DENIED);
    child.bury(root);
    order(root, DELETE, id, HvStatus::INVALID_PARTITION_ID);
    ok!("life of a partition");
}

fn next(root: &Root, own: HvPartitionId, only: HvPartitionId) {
    let ask = |parent_id, previous_child_id| {
        let input = HvInputGetNextChildPartition {
            parent_id,
            previous_child_id,
        };
        let call = HvCallCode::GET_NEXT_CHILD_PARTITION;
        let output: Result<HvOutputGetNextChildPartition, _> = root.calls.ask(call, &input);
        output.map(|output| output.next_child_id)
    };
    let none = HvPartitionId::INVALID;
    report::same(ask(own, none), Ok(only), "the first child");
    report::same(ask(HvPartitionId::SELF, only), Ok(none), "no second child");
    let bad = Err(HvStatus::INVALID_PARTITION_ID);
    report::same(ask(NOBODY, none), bad, "children of nobody");
}

fn set(root: &Root, id: HvPartitionId, code: HvPartitionPropertyCode, value: u64) -> HvStatus {
    let input = HvInputSetPartitionProperty {
        partition_id: id,
        property_code: code,
        padding: 0,
        property_value: value,
    };
    root.calls.order(HvCallCode::SET_PARTITION_PROPERTY, &input)
}

fn get(root: &Root, id: HvPartitionId, code: HvPartitionPropertyCode) -> Result<u64, HvStatus> {
    let input = HvInputGetPartitionProperty {
        partition_id: id,
        property_code: code,
        padding: 0,
    };
    let call = HvCallCode::GET_PARTITION_PROPERTY;
    let output: Result<HvOutputGetPartitionProperty, _> = root.calls.ask(call, &input);
    output.map(|output| output.property_value)
}

fn get_ex(root: &Root, id: HvPartitionId, code: HvPartitionPropertyCode) -> HvStatus {
    let input = HvInputGetPartitionPropertyEx {
        partition_id: id,
        property_code: code,
        ..HvInputGetPartitionPropertyEx::default()
    };
    let call = HvCallCode::GET_PARTITION_PROPERTY_EX;
    let output: Result<HvPartitionPropertyVmmCapabilities, _> = root.calls.ask(call, &input);
    output.err().unwrap_or(HvStatus::SUCCESS)
}

/// Properties of partitions and of the system.
pub fn properties(root: &mut Root) {
    use HvPartitionPropertyCode as Property;
    let unknown = Property(0x00AB_CDEF);
    let child = Child::active(root, VMM_FLAGS);
    let id = child.id;
    let is = |status, wanted, what| report::status(status, wanted, what);
    is(
        set(root, id, Property::CPU_WEIGHT, 200),
        HvStatus::SUCCESS,
        "a weight",
    );
    report::same(get(root, id, Property::CPU_WEIGHT), Ok(200), "the weight");
    let range = HvStatus::PROPERTY_VALUE_OUT_OF_RANGE;
    is(
        set(root, id, Property::CPU_WEIGHT, u64::MAX),
        range,
        "a weight",
    );
    report::same(
        get(root, id, Property::CPU_WEIGHT),
        Ok(200),
        "the weight after that",
    );
    is(set(root, id, Property::SUSPEND, 7), range, "Suspend");
    is(
        set(root, id, unknown, 1),
        HvStatus::UNKNOWN_PROPERTY,
        "an unknown property",
    );
    let early = set(root, id, Property::PRIVILEGE_FLAGS, 0);
    is(
        early,
        HvStatus::INVALID_PARTITION_STATE,
        "an early property",
    );
    let nobody = HvStatus::INVALID_PARTITION_ID;
    is(
        set(root, NOBODY, Property::SUSPEND, 1),
        nobody,
        "a property of nobody",
    );
    let own = set(root, HvPartitionId::SELF, Property::SUSPEND, 1);
    is(own, HvStatus::ACCESS_DENIED, "a property of the root");
    report::same(
        get(root, id, unknown),
        Err(HvStatus::UNKNOWN_PROPERTY),
        "unknown",
    );
    report::same(get(root, NOBODY, Property::SUSPEND), Err(nobody), "nobody");
    is(
        get_ex(root, id, Property::VMM_CAPABILITIES),
        HvStatus::SUCCESS,
        "capabilities",
    );
    is(
        get_ex(root, id, unknown),
        HvStatus::UNKNOWN_PROPERTY,
        "unknown",
    );
    is(
        get_ex(root, NOBODY, Property::VMM_CAPABILITIES),
        nobody,
        "nobody",
    );
    child.end(root);

    let own: Result<HvOutputPartitionId, _> =
        root.calls.ask(HvCallCode::GET_PARTITION_ID, &[0u8; 0]);
    let own = own.map(|own| own.partition_id);
    report::same(own, Ok(root.id), "GetPartitionId");
    let input = HvInputGetSystemProperty {
        property_id: HvSystemPropertyCode::SCHEDULER_TYPE,
        ..HvInputGetSystemProperty::default()
    };
    let call = HvCallCode::GET_SYSTEM_PROPERTY;
    let output: Result<HvOutputGetSystemProperty, _> = root.calls.ask(call, &input);
    check!(output.is_ok(), "GetSystemProperty: {output:?}");
    ok!("properties");
}

/// Control words and blocks that no call can have.
pub fn control_words(root: &mut Root) {
    let calls = &root.calls;
    let unknown = HvHypercallInput::simple(HvCallCode(0x01FF));
    let status = calls.raw(unknown, calls.input, calls.output).call_status();
    report::status(status, HvStatus::INVALID_HYPERCALL_CODE, "an unknown call");
    let simple = HvHypercallInput::simple(HvCallCode::CREATE_PARTITION);
    let deposit = HvHypercallInput::simple(HvCallCode::DEPOSIT_MEMORY);
    let withdraw = HvHypercallInput::simple(HvCallCode::WITHDRAW_MEMORY);
    let bad = HvInputPartition {
        partition_id: HvPartitionId::SELF,
    };
    calls.fill_input(&[bad.as_bytes()]);
    for control in [
        simple.with_reserved_27(1),
        simple.with_reserved_44(8),
        simple.with_reserved_60(2),
        simple.with_nested(true),
        simple.with_rep_count(1),
        simple.with_rep_start(1),
        simple.with_fast(true),
        simple.with_variable_header_size(1),
        deposit,
        deposit.with_rep_count(2).with_rep_start(2),
        deposit.with_rep_count(2).with_rep_start(3),
        withdraw,
        withdraw.with_rep_count(1).with_fast(true),
    ] {
        let status = calls.raw(control, calls.input, calls.output).call_status();
        report::status(status, HvStatus::INVALID_HYPERCALL_INPUT, "a control word");
    }
    let one = |control: HvHypercallInput| control.with_rep_count(1);
    let many = |control: HvHypercallInput| control.with_rep_count(0xFFF);
    for (control, input, output) in [
        (simple, calls.input + 4, calls.output),
        (simple, calls.input, calls.output + 1),
        (simple, calls.input + 4088, calls.output),
        (one(deposit), calls.input + 2, 0),
        (many(deposit), calls.input, 0),
        (one(withdraw), calls.input, calls.output + 4),
        (many(withdraw), calls.input, calls.output),
    ] {
        let status = calls.raw(control, input, output).call_status();
        report::status(status, HvStatus::INVALID_ALIGNMENT, "a block's place");
    }
    ok!("control words and blocks");
}
