//! Rounds as the sheet's tables write them.

use crate::{Action, Alert, Buffer, LONG_AGO, Operation, PendingStart, Round, Vm, VmId, Weight};

/// A VM with the defaults of the sheet's section 4.9.
pub(super) fn default_vm(id: u64) -> Vm {
    Vm {
        id: VmId(id),
        weight: Weight::DEFAULT,
        buffer: Buffer::DEFAULT,
        minimum: 512,
        maximum: 8192,
        is_32_bit: false,
        alignment: 128,
        can_balloon: true,
        can_hot_add: true,
        assigned: 0,
        ballooned: 0,
        settled: 0,
        smoothed: 0,
        reporting: true,
        in_flight: false,
        report_age: 0,
        since_add: LONG_AGO,
        since_refusal: LONG_AGO,
        low_for: 0,
    }
}

/// What the column "VMs and starts" says.
#[derive(Default)]
pub(super) struct Machines {
    pub(super) vms: Vec<Vm>,
    pub(super) starts: Vec<PendingStart>,
    pub(super) trim_tick: bool,
}

impl Machines {
    pub(super) fn parse(text: &str) -> Self {
        let mut machines = Self::default();
        for item in text.split(';').map(str::trim) {
            let words: Vec<&str> = item.split_whitespace().collect();
            match words.as_slice() {
                ["-"] => {}
                ["TICK"] => machines.trim_tick = true,
                ["start", id, weight, startup] => machines.starts.push(PendingStart {
                    id: VmId(number(id)),
                    weight: parse_weight(weight.strip_prefix("w=").expect("a weight")),
                    startup: number(startup),
                }),
                [id, fields @ ..] => {
                    let id = id.strip_suffix(':').expect("the VM's number");
                    machines.vms.push(parse_vm(id, fields));
                }
                [] => panic!("an empty item in {text:?}"),
            }
        }
        machines
    }
}

fn parse_vm(id: &str, fields: &[&str]) -> Vm {
    let mut vm = default_vm(number(id));
    for field in fields {
        let (name, value) = field.split_once('=').unwrap_or((field, "1"));
        let value = number(value);
        let seconds = u32::try_from(value).expect("32 bits of seconds");
        match name {
            "A" => vm.assigned = value,
            "B" => vm.ballooned = value,
            "D" => (vm.settled, vm.smoothed) = (value, value),
            "avg" => vm.smoothed = value,
            "min" => vm.minimum = value,
            "max" => vm.maximum = value,
            "w" => vm.weight = Weight::new(value).expect("a weight"),
            "b" => vm.buffer = Buffer::new(value).expect("a buffer"),
            "al" => vm.alignment = value,
            "no-hot-add" => vm.can_hot_add = false,
            "32-bit" => vm.is_32_bit = true,
            "in-flight" => vm.in_flight = true,
            "no-report" => vm.reporting = false,
            "age" => vm.report_age = seconds,
            "low" => vm.low_for = seconds,
            "since_add" => vm.since_add = seconds,
            "refused" => vm.since_refusal = seconds,
            _ => panic!("what is {field:?}?"),
        }
    }
    vm
}

fn parse_weight(text: &str) -> Weight {
    Weight::new(number(text)).expect("a weight")
}

pub(super) fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// The column "operations, in order".
pub(super) fn operations(round: &Round) -> String {
    let all: Vec<String> = round.operations.iter().map(operation).collect();
    if all.is_empty() {
        return "none".into();
    }
    all.join("; ")
}

fn operation(operation: &Operation) -> String {
    let id = operation.vm.0;
    match operation.action {
        Action::Start { startup } => format!("start {id} ({startup})"),
        Action::Hold { set_aside } => format!("hold {id} ({set_aside})"),
        Action::Reject { startup } => format!("reject {id} ({startup})"),
        action => format!("VM {id}: {}", change(action)),
    }
}

/// What is done to a VM that runs.
pub(super) fn change(action: Action) -> String {
    match action {
        Action::Add {
            unballoon,
            hot_add: 0,
            ..
        } => format!("unballoon {unballoon}"),
        Action::Add {
            unballoon: 0,
            hot_add,
            ..
        } => format!("hot-add {hot_add}"),
        Action::Add {
            unballoon, hot_add, ..
        } => format!("unballoon {unballoon} + hot-add {hot_add}"),
        Action::Remove { size } => format!("remove {size}"),
        Action::Trim { size } => format!("trim {size}"),
        other => panic!("{other:?} is nothing for a VM that runs"),
    }
}

/// The column "goals".
pub(super) fn goals(round: &Round) -> String {
    let goals = round.goals.iter();
    let all: Vec<String> = goals
        .map(|goal| format!("{}:{}", goal.vm.0, goal.size))
        .collect();
    if all.is_empty() {
        return "-".into();
    }
    all.join(", ")
}

/// The column "alert".
pub(super) fn alert(round: &Round) -> String {
    let alert = match round.alert {
        Alert::None => "none",
        Alert::Warning => "warning",
        Alert::Critical => "critical",
    };
    let over_commit = if round.target.over_commit {
        " over-commit"
    } else {
        ""
    };
    format!("{alert}{over_commit}")
}
