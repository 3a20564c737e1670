use std::collections::BTreeMap;

use super::super::record::{Record, WATCHED};
use super::{SECOND, Verdict, growing, watching};
use crate::test::counters::samples::{Memory, Sample};

/// From a second on: visible, physical, pressure and what was added.
type Change = (u64, [u64; 4]);

/// A record of so many seconds in which the VM changes as is said.
fn record(seconds: u64, marks: &[(&str, u64)], changes: &[Change]) -> Record {
    let mut now = [0; 4];
    let mut samples = Vec::new();
    for second in 0..seconds {
        let change = changes.iter().find(|(time, _)| *time == second);
        now = change.map_or(now, |(_, values)| *values);
        let names = [
            "Guest Visible Physical Memory",
            "Physical Memory",
            "Current Pressure",
            "Added Memory",
        ];
        let counters = names.map(str::to_owned).into_iter().zip(now).collect();
        samples.push(Sample {
            time: second * SECOND,
            number: second,
            vms: BTreeMap::from([(WATCHED.to_owned(), Memory { run: 1, counters })]),
            ..Sample::default()
        });
    }
    let marks = marks.iter();
    Record {
        marks: marks
            .map(|(name, time)| ((*name).to_owned(), time * SECOND))
            .collect(),
        samples,
        ..Record::default()
    }
}

const WATCHING: [(&str, u64); 2] = [("commits", 100), ("let go", 400)];
const BEFORE: Change = (0, [1024, 512, 44, 0]);
const PRESSED: Change = (102, [1024, 512, 250, 0]);
const FIRST: Change = (104, [1280, 1280, 99, 768]);
const NEXT: Change = (135, [1664, 1664, 75, 1152]);
const RELEASED: Change = (402, [1664, 1664, 15, 1152]);
const TRIMMED: Change = (900, [1664, 512, 44, 1152]);

fn failed(verdicts: &[Verdict]) -> Vec<&str> {
    let failed = verdicts.iter().filter(|verdict| !verdict.good);
    failed.map(|verdict| verdict.expected.as_str()).collect()
}

fn watched(changes: &[Change]) -> Vec<Verdict> {
    watching(&record(1000, &WATCHING, changes)).unwrap()
}

#[test]
fn the_known_course_is_as_it_should_be() {
    let verdicts = watched(&[BEFORE, PRESSED, FIRST, NEXT, RELEASED, TRIMMED]);
    assert_eq!(verdicts.len(), 8);
    assert!(failed(&verdicts).is_empty(), "{verdicts:?}");
}

#[test]
fn each_part_that_is_missing_is_missed() {
    let small = |(time, [_, physical, rest @ ..]): Change| {
        let [pressure, added] = rest;
        (time, [1280, physical.min(1280), pressure, added])
    };
    let without_second = watched(&[BEFORE, PRESSED, FIRST, small(RELEASED), small(TRIMMED)]);
    assert_eq!(failed(&without_second), ["a second jump about 30 s later"]);
    let late: Change = (160, NEXT.1);
    let verdicts = watched(&[BEFORE, PRESSED, FIRST, late, RELEASED, TRIMMED]);
    assert_eq!(failed(&verdicts), ["a second jump about 30 s later"]);
    let verdicts = watched(&[BEFORE, PRESSED, FIRST, NEXT, RELEASED, (450, TRIMMED.1)]);
    assert_eq!(
        failed(&verdicts),
        ["both stay for minutes after the release"]
    );
    let shrunk: Change = (900, [1024, 512, 44, 1152]);
    let verdicts = watched(&[BEFORE, PRESSED, FIRST, NEXT, RELEASED, shrunk]);
    assert_eq!(failed(&verdicts), ["and what the guest sees stays"]);
    let whole: Change = (0, [1024, 1024, 22, 0]);
    let verdicts = watched(&[whole, PRESSED, FIRST, NEXT, RELEASED, TRIMMED]);
    assert!(failed(&verdicts).contains(&"before, the guest sees more than it has"));
    let nothing = watched(&[BEFORE, PRESSED]);
    assert!(failed(&nothing).contains(&"memory is added at once"));
}

#[test]
fn a_scene_that_marked_nothing_has_no_verdict() {
    assert!(watching(&record(10, &[], &[BEFORE])).is_err());
    assert!(growing(&record(10, &[], &[BEFORE])).is_err());
}

#[test]
fn a_guest_that_grows_when_others_end() {
    let marks = [("is short", 100), ("others end", 400)];
    let (short, grown): (Change, Change) =
        ((0, [1024, 1024, 150, 0]), (410, [2048, 2048, 80, 1024]));
    let good = growing(&record(700, &marks, &[short, grown])).unwrap();
    assert!(failed(&good).is_empty(), "{good:?}");
    let too_soon = growing(&record(700, &marks, &[short, (300, grown.1)])).unwrap();
    assert!(
        failed(&too_soon).contains(&"with the others, pressure stands at 150 and nothing is added")
    );
    let late = growing(&record(700, &marks, &[short, (470, grown.1)])).unwrap();
    assert_eq!(failed(&late), ["within a minute"]);
    let never = growing(&record(700, &marks, &[short])).unwrap();
    assert_eq!(failed(&never).len(), 3, "{never:?}");
}
