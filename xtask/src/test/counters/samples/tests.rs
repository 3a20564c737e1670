use std::collections::BTreeMap;

use super::super::Lines;
use super::{Limits, UNSETTLED, check, operations};

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

/// Looks at a VM with 100 MiB, of which the kernel has booked so many pages.
fn booked(count: usize, pages: u64) -> Vec<super::Sample> {
    let looks = vec![memory(100, 100, 0, 0); count];
    let mut samples = lines(&looks).samples();
    for sample in &mut samples {
        sample.guest_ram = Some(pages);
    }
    samples
}

#[test]
fn while_nothing_changes_a_vm_has_what_is_booked() {
    let limits = BTreeMap::new();
    check(&booked(UNSETTLED + 5, 100 * 256), &limits).unwrap();
    check(&booked(UNSETTLED + 5, 101 * 256), &limits).unwrap();
    for pages in [0, 98 * 256, 102 * 256] {
        check(&booked(UNSETTLED, pages), &limits).unwrap();
        let mut samples = booked(UNSETTLED + 1, pages);
        let error = check(&samples, &limits).unwrap_err();
        assert!(error.to_string().contains("booked"), "{error}");
        samples[7].guest_ram = Some(100 * 256);
        check(&samples, &limits).unwrap();
        let mut samples = booked(UNSETTLED + 1, pages);
        samples
            .iter_mut()
            .for_each(|sample| sample.has_others = true);
        check(&samples, &limits).unwrap();
    }
}

#[test]
fn operations_are_those_of_all_runs() {
    let told = |added, removed| {
        let counters = memory(100, 100, 0, 0);
        format!(
            r#"{counters},"Memory Add Operations":{added},"Memory Remove Operations":{removed}"#
        )
    };
    let mut samples = lines(&[told(1, 0), told(2, 3), told(1, 1)]).samples();
    samples[2].vms.get_mut("a").unwrap().run = 4;
    assert_eq!(operations(&samples), 5 + 2);
}
