//! The vectors of section 4.8, and what sections 3.2 and 4.2 to 4.4 say of single numbers.

use super::guest::answer;
use crate::pressure::smooth;
use crate::target::{FP, K_MAX, Target};
use crate::{
    Alert, Buffer, Demand, Dwell, HostReserve, Levels, Settings, SettingsError, Weight, demand,
    pressure,
};

#[test]
fn pressure_is_demand_in_per_cent_of_what_is_assigned() {
    let rows = [
        // demand, assigned → pressure
        (6144, 4096, 150),
        (6144, 8192, 75),
        (1000, 1000, 100),
        (1000, 1200, 83),
        (800, 1000, 80),
        (1333, 1000, 133),
        (0, 512, 0),
        (7, 0, 0),
    ];
    for (demand, assigned, expected) in rows {
        assert_eq!(pressure(demand, assigned), expected, "{demand}, {assigned}");
    }
}

#[test]
fn demand_is_what_is_committed_without_the_balloon() {
    assert_eq!(demand(2980, 1980), 1000);
    assert_eq!(demand(500, 600), 0);
}

#[test]
fn the_host_reserve_grows_with_the_machine() {
    let rows = [
        // total → reserve
        (2048, 460),
        (4096, 520),
        (6000, 575),
        (8192, 640),
        (12288, 760),
        (16384, 880),
        (32768, 1360),
        (65536, 2320),
        (98304, 3280),
        (131_072, 4240),
        (262_144, 8080),
        (1_048_576, 31120),
    ];
    for (total, expected) in rows {
        assert_eq!(
            HostReserve::default().of_machine(total),
            expected,
            "{total}"
        );
    }
    let extra = HostReserve {
        extra: 100,
        ..HostReserve::default()
    };
    assert_eq!(extra.of_machine(4096), 620);
}

#[test]
fn a_node_bears_its_share_of_the_reserve() {
    let rows = [
        // node, total → reserve
        (8192, 16384, 440),
        (32768, 98304, 1094),
        (65536, 98304, 2187),
    ];
    for (node, total, expected) in rows {
        assert_eq!(
            HostReserve::default().of_node(node, total),
            expected,
            "{node}"
        );
    }
    assert_eq!(HostReserve::default().of_node(0, 0), 0);
}

#[test]
fn smoothing_goes_an_eighth_of_the_way() {
    let mut reports = vec![500, 500];
    reports.extend([1500; 8]);
    let expected = [500, 500, 625, 734, 829, 912, 985, 1049, 1105, 1154];
    assert_eq!(smoothed(&reports), expected);
}

#[test]
fn smoothing_down_goes_likewise() {
    let mut reports = vec![1500];
    reports.extend([500; 12]);
    let expected = [
        1375, 1265, 1169, 1085, 1011, 947, 891, 842, 799, 761, 728, 699,
    ];
    assert_eq!(smoothed(&reports)[1..], expected);
}

/// The smoothed demand after each one.
fn smoothed(demands: &[u64]) -> Vec<u64> {
    let mut a = demands[0];
    let after = demands.iter().map(|d| {
        a = smooth(a, *d);
        a
    });
    after.collect()
}

#[test]
fn smoothing_arrives_from_above_and_nearly_from_below() {
    let (mut down, mut up) = (1500, 500);
    for _ in 0..200 {
        down = smooth(down, 1000);
        up = smooth(up, 1000);
    }
    assert_eq!((down, up), (1000, 993));
    assert_eq!(smooth(u64::MAX, 0), u64::MAX - (1 << 61));
    assert_eq!(smooth(0, u64::MAX), u64::MAX / 8);
}

#[test]
fn a_spike_of_two_reports_is_no_demand() {
    let mut demand = Demand::default();
    assert!(!demand.is_known());
    assert_eq!((demand.settled(), demand.smoothed()), (0, 0));
    for report in [500, 900, 2000, 2000, 500] {
        demand.report(report);
        assert_eq!(demand.newest(), report);
    }
    assert!(demand.is_known());
    assert_eq!(demand.settled(), 500);
    // The lowest of three: 500, 500, 500, 900, 500.
    assert_eq!(demand.smoothed(), smooth(smooth(500, 900), 500));
}

#[test]
fn the_first_reports_settle_at_the_lowest_of_them() {
    let mut demand = Demand::default();
    demand.report(700);
    assert_eq!((demand.settled(), demand.smoothed()), (700, 700));
    demand.report(600);
    assert_eq!((demand.settled(), demand.smoothed()), (600, 687));
    demand.report(800);
    assert_eq!(demand.settled(), 600);
}

#[test]
fn a_jump_that_has_just_settled_has_moved_the_average_by_one_step() {
    // As B15 has it.
    let mut demand = Demand::default();
    for report in [500, 500, 500, 1500, 1500, 1500] {
        demand.report(report);
    }
    assert_eq!((demand.settled(), demand.smoothed()), (1500, 625));
}

#[test]
fn buffer_and_ample_level() {
    let rows = [
        // d = a, buffer → n, m
        (1000, 5, 1050, 1334),
        (1000, 20, 1200, 1334),
        (1000, 50, 1500, 1500),
        (1000, 100, 2000, 2000),
        (1000, 2000, 21000, 21000),
        (6144, 20, 7373, 8192),
        (512, 20, 615, 683),
        (1, 20, 2, 2),
        (0, 20, 0, 0),
    ];
    for (demand, buffer, n, m) in rows {
        let levels = Levels::of(demand, demand, Buffer::new(buffer).unwrap());
        assert_eq!(
            (levels.buffer, levels.ample),
            (n, m),
            "{demand}, {buffer} %"
        );
    }
}

#[test]
fn levels_of_an_absurd_demand_are_the_largest_number() {
    let levels = Levels::of(u64::MAX, u64::MAX, Buffer::DEFAULT);
    assert_eq!((levels.buffer, levels.ample), (u64::MAX, u64::MAX));
}

#[test]
fn an_alert_is_a_share_of_the_total() {
    let rows = [
        (615, Alert::None),
        (614, Alert::Warning),
        (369, Alert::Warning),
        (368, Alert::Critical),
    ];
    for (available, expected) in rows {
        assert_eq!(Alert::of(available, 12288), expected, "{available}");
    }
    assert!(Alert::Critical > Alert::Warning && Alert::Warning > Alert::None);
}

#[test]
fn a_guest_answers_down_to_its_floor() {
    let rows = [
        // total, available, request → answer
        (1024, 900, 600, 600),
        (1024, 700, 600, 468),
        (1024, 200, 100, 0),
        (4096, 3500, 3000, 3000),
    ];
    for (total, available, request, expected) in rows {
        assert_eq!(
            answer(total, available, request),
            expected,
            "{total}, {request}"
        );
    }
}

#[test]
fn the_target_pressure_never_falls_with_k() {
    let shown = |k| {
        let over_commit = false;
        Target { k, over_commit }.pressure()
    };
    let rows = [
        (0, 75),
        (FP, 83),
        (FP + FP / 4, 111),
        (FP + FP / 2, 166),
        (2 * FP, 65_535),
        (K_MAX, 65_535),
    ];
    for (k, expected) in rows {
        assert_eq!(shown(k), expected, "{k}");
    }
    let steps = (0..=K_MAX).step_by(61);
    let near_no_limit = 2 * FP - 100..2 * FP + 100;
    for pressures in [
        steps.map(shown).collect::<Vec<_>>(),
        near_no_limit.map(shown).collect(),
    ] {
        assert!(pressures.is_sorted());
    }
}

#[test]
fn low_pressure_is_timed_from_when_it_came() {
    let mut dwell = Dwell::default();
    let mut low_for = |now, smoothed, assigned| {
        dwell.note(now, smoothed, assigned);
        dwell.low_for(now)
    };
    assert_eq!(low_for(10, 511, 1000), 0);
    // 50.9 per cent, rounded down.
    assert_eq!(low_for(11, 509, 1000), 0);
    assert_eq!(low_for(191, 500, 1000), 180);
    assert_eq!(low_for(192, 510, 1000), 0);
    assert_eq!(low_for(193, 0, 1000), 0);
    assert_eq!(low_for(200, 0, 0), 7);
    // A clock that goes backwards.
    assert_eq!(low_for(5, 0, 1000), 0);
    assert_eq!(low_for(15, 0, 1000), 10);
}

#[test]
fn weights_and_buffers_have_ranges() {
    assert_eq!(Weight::new(0).unwrap(), Weight::MIN);
    assert_eq!(Weight::new(10_000).unwrap(), Weight::MAX);
    assert_eq!(Weight::new(10_001), Err(SettingsError::Weight(10_001)));
    assert_eq!(Weight::default().get(), 5000);
    assert_eq!(Buffer::new(4), Err(SettingsError::Buffer(4)));
    assert_eq!(Buffer::new(2001), Err(SettingsError::Buffer(2001)));
    assert_eq!(
        [5, 2000].map(|percent| Buffer::new(percent).unwrap().percent()),
        [5, 2000]
    );
    assert_eq!(Buffer::default().percent(), 20);
}

#[test]
fn settings_are_in_order() {
    let good = Settings::default();
    assert_eq!(good.check(), Ok(()));
    let bad = |change: fn(&mut Settings)| {
        let mut settings = good;
        change(&mut settings);
        settings.check().unwrap_err()
    };
    assert_eq!(bad(|s| s.minimum = 31), SettingsError::MinimumTooSmall(31));
    assert_eq!(
        bad(|s| s.minimum = 1025),
        SettingsError::MinimumAboveStartup
    );
    assert_eq!(
        bad(|s| s.maximum = 1023),
        SettingsError::StartupAboveMaximum
    );
}

#[test]
fn limits_of_a_running_vm_only_move_apart() {
    let running = Settings::default();
    let changed = |change: fn(&mut Settings)| {
        let mut settings = running;
        change(&mut settings);
        running.check_change(&settings)
    };
    assert_eq!(changed(|s| s.minimum = 32), Ok(()));
    assert_eq!(changed(|s| s.maximum += 1), Ok(()));
    assert_eq!(changed(|s| s.weight = Weight::MIN), Ok(()));
    assert_eq!(changed(|s| s.buffer = Buffer::new(2000).unwrap()), Ok(()));
    for refused in [
        (|s| s.startup += 1) as fn(&mut Settings),
        |s| s.minimum += 1,
        |s| s.maximum -= 1,
    ] {
        assert!(matches!(changed(refused), Err(SettingsError::Running(_))));
    }
    assert_eq!(
        changed(|s| s.minimum = 31),
        Err(SettingsError::MinimumTooSmall(31))
    );
}
