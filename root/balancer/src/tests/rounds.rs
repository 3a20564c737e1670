//! The vectors B01 to B43. `rounds.txt` is the sheet's table, row by row; this writes each row anew from what a round says.

use super::text::{self, Machines, number};
use crate::{Input, Node, Round, Unit, round};

const ROWS: &str = include_str!("rounds.txt");

/// The columns of a row.
struct Row<'a> {
    number: &'a str,
    node: Node,
    machines: Machines,
    /// From the column "F" on.
    expected: Vec<&'a str>,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line
            .strip_prefix('|')
            .and_then(|line| line.strip_suffix('|'));
        let columns: Vec<&str> = line.expect("a row").split('|').map(str::trim).collect();
        let [number, _case, node, machines, expected @ ..] = columns.as_slice() else {
            panic!("{line:?} has too few columns");
        };
        Self {
            number,
            node: parse_node(node),
            machines: Machines::parse(machines),
            expected: expected.to_vec(),
        }
    }

    fn input(&self) -> Input<'_> {
        Input {
            unit: Unit::Mebibyte,
            node: self.node,
            vms: &self.machines.vms,
            starts: &self.machines.starts,
            trim_tick: self.machines.trim_tick,
        }
    }
}

fn parse_node(text: &str) -> Node {
    let sizes: Vec<u64> = text.split('/').map(|size| number(size.trim())).collect();
    let [total, reserve, fixed] = *sizes.as_slice() else {
        panic!("{text:?} is no node");
    };
    Node {
        total,
        reserve,
        fixed,
    }
}

/// The columns from "F" on.
fn columns(round: &Round) -> Vec<String> {
    vec![
        round.free.to_string(),
        format!("{} / {}", round.target.k, round.target.pressure()),
        text::goals(round),
        text::operations(round),
        round.free_after.to_string(),
        text::alert(round),
    ]
}

fn rows() -> impl Iterator<Item = Row<'static>> {
    ROWS.lines().skip(1).map(Row::parse)
}

#[test]
fn all_rounds_of_the_sheet_come_out() {
    let mut wrong = Vec::new();
    for row in rows() {
        let shown = columns(&round(&row.input()));
        if shown != row.expected {
            wrong.push(format!(
                "{}: {:?}\n     {shown:?}",
                row.number, row.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_row_is_missing() {
    let numbers: Vec<String> = rows().map(|row| row.number.to_owned()).collect();
    let all: Vec<String> = (1..=43).map(|number| format!("B{number:02}")).collect();
    assert_eq!(numbers, all);
}

#[test]
fn the_rounds_come_out_in_pages_too() {
    // What the sheet's columns round to MB is not compared: k depends on it. Operations do, where MB are whole granules.
    let pages = |size: u64| Unit::Page.of_mib(size);
    for row in rows().filter(|row| ["B02", "B05", "B08", "B31", "B36"].contains(&row.number)) {
        let mut machines = Machines::parse("-");
        for vm in &row.machines.vms {
            let mut vm = *vm;
            for size in [
                &mut vm.minimum,
                &mut vm.maximum,
                &mut vm.alignment,
                &mut vm.assigned,
                &mut vm.ballooned,
                &mut vm.settled,
                &mut vm.smoothed,
            ] {
                *size = pages(*size);
            }
            machines.vms.push(vm);
        }
        for start in &row.machines.starts {
            let mut start = *start;
            start.startup = pages(start.startup);
            machines.starts.push(start);
        }
        let node = Node {
            total: pages(row.node.total),
            reserve: pages(row.node.reserve),
            fixed: pages(row.node.fixed),
        };
        let in_pages = round(&Input {
            unit: Unit::Page,
            node,
            vms: &machines.vms,
            starts: &machines.starts,
            ..row.input()
        });
        let in_mib = round(&row.input());
        let taken = |round: &Round, unit: Unit| unit.mib(super::world::moved(round));
        assert_eq!(
            taken(&in_pages, Unit::Page),
            taken(&in_mib, Unit::Mebibyte),
            "{}",
            row.number
        );
    }
}
