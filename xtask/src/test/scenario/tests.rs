//! How scenarios are read.

use std::path::Path;

use super::{Action, Scenario};

#[test]
fn a_step_does_exactly_one_thing() {
    let both = "about = \"\"\n[[step]]\nexpect = \"a\"\nsend = \"b\"\n";
    assert!(toml::from_str::<Scenario>(both).is_err());
    let one = "about = \"\"\n[[step]]\nexpect = \"a\"\nseconds = 1.5\n";
    let scenario: Scenario = toml::from_str(one).unwrap();
    assert_eq!(scenario.steps[0].action, Action::Expect("a".into()));
    assert_eq!(scenario.steps[0].wait.as_millis(), 1500);
    let nothing = "about = \"\"\n[[step]]\nchoose = []\n";
    assert!(toml::from_str::<Scenario>(nothing).is_err());
}

#[test]
fn what_is_typed_can_have_a_seed() {
    let random = |step: &str| {
        let text = format!("about = \"\"\nstep = []\n[[cycle]]\n{step}");
        toml::from_str::<Scenario>(&text).unwrap().is_random()
    };
    assert!(random("send = \"cmdline = \\\"seed=SEED\\\"\\r\""));
    assert!(random("point = 3"));
    assert!(random("choose = [\"a\", \"b\"]"));
    assert!(!random("send = \"seed\\r\""));
    assert!(!random("expect = \"SEED\""));
}

#[test]
fn a_scenario_about_a_model_keeps_it() {
    let usual = |on: &str| {
        let text = format!("about = \"\"\nstep = []\non = {on}");
        let mut scenario: Scenario = toml::from_str(&text).unwrap();
        scenario.only_usual();
        scenario.on.len()
    };
    assert_eq!(usual("[\"amd\", \"ryzen\", \"tigerlake\", \"intel\"]"), 2);
    assert_eq!(usual("[\"core2_penryn_t9600\"]"), 1);
}

#[test]
fn a_long_run_takes_the_long_text_and_waits_longer_for_it() {
    let text = "about = \"\"\n[[member]]\nname = \"a\"\ntext = \"5\"\nlong_text = \"600\"\n\
                [[member]]\nname = \"b\"\ntext = \"x\"\n\
                [[step]]\nexpect = \"c\"\nseconds = 10\nlong_seconds = 700\n\
                [[step]]\nexpect = \"d\"\nseconds = 20\n";
    let mut scenario: Scenario = toml::from_str(text).unwrap();
    let seen = |scenario: &Scenario| {
        let texts = scenario.member.iter().filter_map(|m| m.text.clone());
        let waits = scenario.steps.iter().map(|step| step.wait.as_secs());
        (
            texts.collect::<Vec<_>>().join(" "),
            waits.collect::<Vec<_>>(),
        )
    };
    assert_eq!(seen(&scenario), ("5 x".into(), vec![10, 20]));
    scenario.lengthen();
    assert_eq!(seen(&scenario), ("600 x".into(), vec![700, 20]));
}

#[test]
fn a_file_makes_a_scenario_of_each_variant() {
    let text = "about = \"of ${name}\"\non = [\"amd\", \"intel\"]\n\
                [[variant]]\nname = \"old\"\ncolour = \"blue\"\nlayers = 3\n\
                [[variant]]\nname = \"new\"\ncolour = \"green\"\nlayers = 4\nshort_on = [\"amd\"]\n\
                [[step]]\nexpect = \"$((1)) ${colour}\"\nonly_long_in = [\"old\"]\n\
                seconds = \"${layers}\"\n";
    let mut all = Scenario::parse(text, Path::new("tests/paint.toml")).unwrap();
    let expected = [
        ("paint-old", "of old", "blue", 3, true),
        ("paint-new", "of new", "green", 4, false),
    ];
    for (scenario, (name, about, colour, layers, only_long)) in all.iter().zip(expected) {
        assert_eq!(
            (scenario.name.as_str(), scenario.about.as_str()),
            (name, about)
        );
        let step = &scenario.steps[0];
        assert_eq!(step.action, Action::Expect(format!("$((1)) {colour}")));
        assert_eq!(step.only_long, only_long);
        assert_eq!(step.wait.as_secs(), layers);
        assert_eq!(scenario.on.len(), 2);
    }
    all.iter_mut().for_each(Scenario::shorten);
    assert_eq!(
        all.iter().map(|one| one.on.len()).collect::<Vec<_>>(),
        [2, 1]
    );
}

#[test]
fn a_text_without_a_value_is_an_error() {
    let text = "about = \"${colour}\"\nstep = []\n[[variant]]\nname = \"old\"\n";
    assert!(Scenario::parse(text, Path::new("paint.toml")).is_err());
}

#[test]
fn unknown_keys_are_errors() {
    assert!(toml::from_str::<Scenario>("about = \"\"\nstep = []\nfsat = true\n").is_err());
}
