use std::collections::BTreeMap;

use super::super::Lines;
use super::{Limits, check};

const LIMITS: Limits = Limits {
    startup: 100,
    minimum: 50,
    maximum: 300,
};

/// A look of two lines: the machine's, and that of the VM `a`.
fn look(number: u64, memory: &str) -> String {
    format!(
        r#"{{"schema":1,"time":{number}0,"sample":{number},"dropped":0,"processors":[],"partitions":[],"balancers":[{{"name":"System Balancer","counters":{{"Available Memory":7}}}}]}}
{{"schema":1,"time":{number}5,"sample":{number},"dropped":0,"processors":[],"partitions":[{{"name":"a","root":false,"id":3,"counters":{{}},"memory":{{{memory}}},"vps":[]}}]}}
"#
    )
}

fn memory(physical: u64, visible: u64, added: u64, removed: u64) -> String {
    format!(
        r#""Physical Memory":{physical},"Guest Visible Physical Memory":{visible},"Added Memory":{added},"Removed Memory":{removed}"#
    )
}

fn lines(looks: &[String]) -> Lines {
    let mut lines = Lines::default();
    let looks = looks.iter().zip(1..);
    let text: String = looks.map(|(memory, number)| look(number, memory)).collect();
    lines.add(&text).unwrap();
    lines
}

fn verdict(looks: &[String]) -> Result<(), String> {
    let limits = BTreeMap::from([("a".to_owned(), LIMITS)]);
    check(&lines(looks).samples(), &limits).map_err(|error| error.to_string())
}

#[test]
fn a_sample_has_what_all_lines_of_a_look_tell() {
    let lines = lines(&[memory(100, 100, 0, 0), memory(80, 100, 0, 20)]);
    let samples = lines.samples();
    assert_eq!(samples.len(), 2);
    assert_eq!((samples[1].time, samples[1].number), (20, 2));
    assert_eq!(samples[1].balancer["Available Memory"], 7);
    assert_eq!(samples[1].vms["a"].physical(), 80);
    assert_eq!(samples[1].vms["a"].run, 3);
    assert_eq!(lines.newest("a", "Removed Memory"), Some(20));
    assert_eq!(lines.newest("a", "Memory Add Operations"), Some(0));
    assert_eq!(lines.newest("b", "Removed Memory"), None);
}

#[test]
fn what_comes_and_goes_adds_up_in_every_sample() {
    let good = [
        memory(100, 100, 0, 0),
        memory(50, 100, 0, 50),
        memory(300, 350, 250, 50),
    ];
    assert_eq!(verdict(&good), Ok(()));
    let lost = verdict(&[memory(90, 100, 0, 0)]).unwrap_err();
    assert!(lost.contains("startup + Added - Removed"), "{lost}");
    let much = verdict(&[memory(110, 105, 10, 0)]).unwrap_err();
    assert!(much.contains("more than it sees"), "{much}");
}

#[test]
fn limits_hold_in_every_sample() {
    for (physical, added, removed) in [(49, 0, 51), (301, 201, 0)] {
        let beyond = verdict(&[memory(physical, 400, added, removed)]).unwrap_err();
        assert!(beyond.contains("beyond its limits"), "{beyond}");
    }
    let shrunk = verdict(&[memory(100, 120, 0, 0), memory(100, 110, 0, 0)]).unwrap_err();
    assert!(shrunk.contains("became less"), "{shrunk}");
}
