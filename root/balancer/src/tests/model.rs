//! Sections 4.3 to 4.5 of the sheet once more, word by word and without a thought of speed: every sum is made anew wherever
//! the sheet names it, and numbers are wide and signed. Nothing of the crate's own steps is used, only its types.

use proptest::prelude::*;

use super::strategy::{Case, case};
use crate::{Action, Input, Operation, PendingStart, Vm, round};

const FP: i128 = 1 << 20;

/// A live VM.
#[derive(Clone)]
struct Row<'a> {
    vm: &'a Vm,
    n: i128,
    m: i128,
    lo: i128,
    hi: i128,
    goal: i128,
    operation: bool,
}

fn up(a: i128, b: i128) -> i128 {
    (a + b - 1) / b
}

fn wide(size: u64) -> i128 {
    size.into()
}

fn narrow(size: i128) -> u64 {
    size.try_into().expect("a size of the model")
}

fn live(vm: &Vm) -> bool {
    vm.reporting && !vm.in_flight && vm.report_age <= 5
}

fn may_be_asked(vm: &Vm) -> bool {
    vm.can_balloon && vm.since_refusal >= 60
}

fn pressure(demand: u64, assigned: u64) -> u64 {
    (100 * demand).checked_div(assigned).unwrap_or(0)
}

/// Section 4.3.
fn row(vm: &Vm) -> Row<'_> {
    let (d, a, buffer) = (
        wide(vm.settled),
        wide(vm.smoothed),
        wide(vm.buffer.percent()),
    );
    let (assigned, ballooned) = (wide(vm.assigned), wide(vm.ballooned));
    let n = up(a * (100 + buffer), 100).max(d);
    let m = n.max(up(a * 100, 75));
    let mut hi = wide(vm.maximum);
    if vm.is_32_bit {
        hi = hi.min(4096);
    }
    if !vm.can_hot_add {
        hi = hi.min(assigned + ballooned);
    }
    let mut lo = wide(vm.minimum);
    if !may_be_asked(vm) {
        lo = lo.max(assigned);
    }
    let lo = lo.min(hi);
    Row {
        vm,
        n,
        m,
        lo,
        hi,
        goal: 0,
        operation: false,
    }
}

/// Section 4.4.
fn goal(row: &Row<'_>, k: i128) -> i128 {
    let weight = wide(row.vm.weight.get());
    let wanted = if k <= FP {
        row.n + (row.m - row.n) * (FP - k) / FP
    } else {
        let bracket = weight * FP - 5000 * (k - FP);
        if bracket <= 0 {
            0
        } else {
            row.n * bracket / (weight * FP)
        }
    };
    wanted.clamp(row.lo, row.hi)
}

fn goals(rows: &[Row<'_>], k: i128) -> i128 {
    rows.iter().map(|row| goal(row, k)).sum()
}

fn floor(row: &Row<'_>, start: &PendingStart) -> i128 {
    if row.vm.weight > start.weight {
        row.lo.max(row.n.min(wide(row.vm.assigned)).min(row.hi))
    } else {
        row.lo
    }
}

/// Section 4.5. `k` is what the crate found; that it is the least (I6) is checked.
fn model(input: &Input<'_>, k: i128, over_commit: bool) -> (Vec<(u64, i128)>, Vec<Operation>) {
    let mut operations = Vec::new();
    let mut order = |vm, action| operations.push(Operation { vm, action });
    let (mut rows, mut capacity, free) = tables(input);

    // 1
    let mut starts: Vec<&PendingStart> = input.starts.iter().collect();
    starts.sort_by_key(|start| (-wide(start.weight.get()), start.id));
    let mut accepted: Vec<&PendingStart> = Vec::new();
    for start in starts {
        let floors: i128 = rows.iter().map(|row| floor(row, start)).sum();
        let so_far: i128 = accepted.iter().map(|start| wide(start.startup)).sum();
        if floors + so_far + wide(start.startup) <= capacity {
            accepted.push(start);
        } else {
            let startup = start.startup;
            order(start.id, Action::Reject { startup });
        }
    }
    if let Some(last) = accepted.last() {
        rows.iter_mut().for_each(|row| row.lo = floor(row, last));
    }
    capacity -= accepted
        .iter()
        .map(|start| wide(start.startup))
        .sum::<i128>();

    // 2
    assert_eq!(over_commit, goals(&rows, 3 * FP) > capacity);
    assert!(over_commit || goals(&rows, k) <= capacity);
    assert!(
        over_commit || k == 0 || goals(&rows, k - 1) > capacity,
        "{k} is not the least"
    );
    for row in &mut rows {
        row.goal = if over_commit { row.lo } else { goal(row, k) };
    }

    // 3
    let assigned = |row: &Row<'_>| wide(row.vm.assigned);
    let mut requests: Vec<(i128, u8, i128, u64, usize)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let cool_down = if row.vm.settled > row.vm.assigned {
            5
        } else {
            30
        };
        if row.goal - assigned(row) > assigned(row) * 5 / 100 && row.vm.since_add >= cool_down {
            let pressure = wide(pressure(row.vm.settled, row.vm.assigned));
            requests.push((-wide(row.vm.weight.get()), 0, -pressure, row.vm.id.0, index));
        }
    }
    for (index, start) in accepted.iter().enumerate() {
        requests.push((-wide(start.weight.get()), 1, 0, start.id.0, index));
    }
    requests.sort_unstable();

    // 4
    let (mut l, mut shortage) = (free.max(0), (-free).max(0));
    for (_, kind, _, _, index) in requests {
        if kind == 1 {
            let PendingStart { id, startup, .. } = *accepted[index];
            if wide(startup) <= l {
                order(id, Action::Start { startup });
                l -= wide(startup);
            } else {
                order(
                    id,
                    Action::Hold {
                        set_aside: narrow(l),
                    },
                );
                shortage += wide(startup) - l;
                l = 0;
            }
            continue;
        }
        let row = &mut rows[index];
        let (vm, balloon) = (row.vm, wide(row.vm.ballooned));
        let w = row.goal - assigned(row);
        let u1 = w.min(balloon);
        let rest = w - u1;
        let alignment = wide(vm.alignment.max(1));
        let mut h1 = up(rest, alignment) * alignment;
        if assigned(row) + balloon + h1 > row.hi {
            h1 = rest / alignment * alignment;
        }
        shortage += (u1 + h1 - l).max(0);
        let partial = u1 + h1 > l;
        let mut u = u1.min(l);
        if u != balloon {
            u -= u % 2;
        }
        let h = if u != balloon {
            0
        } else if u + h1 <= l {
            h1
        } else {
            (l - u) / alignment * alignment
        };
        l -= u + h;
        if u + h > 0 {
            row.operation = true;
            let (unballoon, hot_add) = (narrow(u), narrow(h));
            order(
                vm.id,
                Action::Add {
                    unballoon,
                    hot_add,
                    partial,
                },
            );
        }
    }

    // 5
    let mut donors: Vec<usize> = (0..rows.len()).collect();
    donors.retain(|index| {
        let row = &rows[*index];
        let quiet = row.vm.since_add >= 30 || free < 0;
        !row.operation && may_be_asked(row.vm) && assigned(row) > row.goal && quiet
    });
    donors.sort_by_key(|index| {
        let row = &rows[*index];
        (
            -(assigned(row) * FP / row.n.max(1)),
            row.vm.weight,
            row.vm.id,
        )
    });
    for index in donors {
        let row = &mut rows[index];
        let size = ((assigned(row) - row.goal) / 2 * 2).min(up(shortage, 2) * 2);
        if shortage > 0 && size > 0 {
            shortage -= size;
            row.operation = true;
            order(row.vm.id, Action::Remove { size: narrow(size) });
        }
    }

    // 6
    for row in rows.iter().filter(|_| input.trim_tick) {
        let vm = row.vm;
        let low = pressure(vm.smoothed, vm.assigned) <= 50 && vm.low_for >= 180;
        let size = (assigned(row) - row.m.clamp(row.lo, row.hi)) / 2 * 2;
        if !row.operation && may_be_asked(vm) && low && size > 0 {
            order(vm.id, Action::Trim { size: narrow(size) });
        }
    }
    (
        rows.iter().map(|row| (row.vm.id.0, row.goal)).collect(),
        operations,
    )
}

/// The live VMs by id, `C` and `F`.
fn tables<'a>(input: &Input<'a>) -> (Vec<Row<'a>>, i128, i128) {
    let mut rows: Vec<Row<'_>> = input.vms.iter().filter(|vm| live(vm)).map(row).collect();
    rows.sort_by_key(|row| row.vm.id);
    let all: i128 = input.vms.iter().map(|vm| wide(vm.assigned)).sum();
    let node = input.node;
    let free = wide(node.total) - wide(node.reserve) - wide(node.fixed) - all;
    let of_live: i128 = rows.iter().map(|row| wide(row.vm.assigned)).sum();
    (rows, free + of_live, free)
}

/// Compares goals and operations of a round with the model's.
fn compare(case: &Case) -> Result<(), TestCaseError> {
    let round = round(&case.input());
    let target = round.target;
    let (goals, operations) = model(&case.input(), target.k.into(), target.over_commit);
    let found = round.goals.iter().map(|goal| (goal.vm.0, wide(goal.size)));
    prop_assert_eq!(found.collect::<Vec<_>>(), goals);
    prop_assert_eq!(round.operations, operations);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Also I6: `k` is the least that fits.
    #[test]
    fn a_round_is_what_the_sheet_says(case in case()) {
        compare(&case)?;
    }
}
