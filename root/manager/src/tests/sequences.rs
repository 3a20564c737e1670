//! Any sequence of events: one worker for each VM, and no call for a worker that is not there.

use proptest::prelude::*;
use root_abi::ExitReason;

use super::fake::{Effect, begun, exited, vm};
use super::memory::dynamic;
use crate::life::SECOND;
use crate::{State, VmId, WorkerEnd};

#[derive(Clone, Debug)]
enum Act {
    Type(Vec<u8>),
    Line(String),
    Output(u16, Vec<u8>),
    Running(u16),
    End(u16, u8),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Act> {
    let lines = [
        "vm start a",
        "vm stop a",
        "vm kill a",
        "vm restart b",
        "vm attach a",
        "vm list",
        "vm stop all",
        "vm start all",
        "vm define b",
        "restart = \"always\"",
        ".",
        "vm reload",
        "top",
        "counters",
        "registers a",
        "mem",
        "mem --watch",
        "events",
        "poweroff",
    ];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12).prop_map(Act::Type),
        prop::sample::select(lines.to_vec()).prop_map(|line| Act::Line(line.into())),
        (0..4u16, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(vm, bytes)| Act::Output(vm, bytes)),
        (0..4u16).prop_map(Act::Running),
        (0..4u16, 0..8u8).prop_map(|(vm, end)| Act::End(vm, end)),
        (0..12 * SECOND).prop_map(Act::Wait),
    ]
}

fn end(number: u8) -> WorkerEnd {
    let reasons = [
        ExitReason::PowerOff,
        ExitReason::Reset,
        ExitReason::GuestFault,
        ExitReason::BadDefinition,
        ExitReason::WorkerFault,
        ExitReason::Stopped,
    ];
    match reasons.get(usize::from(number)) {
        Some(reason) => exited(*reason),
        None if number == 6 => WorkerEnd::Killed,
        None => WorkerEnd::Crashed("oops".into()),
    }
}

proptest! {
    #[test]
    fn any_sequence_of_events_keeps_one_worker_for_each_vm(acts in prop::collection::vec(acts(), 0..60)) {
        let (mut manager, mut host) = begun(&[vm("a", "restart = \"always\""), dynamic("b", [64, 32, 128], "")]);
        let mut alive = [false; 2];
        for act in acts {
            match act {
                Act::Type(bytes) => manager.console_input(&mut host, &bytes),
                Act::Line(line) => manager.console_input(&mut host, format!("\x1dd\x03{line}\r").as_bytes()),
                Act::Output(vm, bytes) => manager.guest_output(&mut host, VmId(vm), &bytes),
                Act::Running(vm) => manager.worker_running(&mut host, VmId(vm)),
                Act::End(vm, number) => {
                    if let Some(alive) = alive.get_mut(usize::from(vm)).filter(|alive| **alive) {
                        *alive = false;
                        manager.worker_ended(&mut host, VmId(vm), &end(number));
                    }
                }
                Act::Wait(time) => {
                    host.now += time;
                    manager.tick(&mut host);
                }
            }
            for effect in host.done() {
                match effect {
                    Effect::Start(vm, _) => {
                        prop_assert!(!alive[usize::from(vm.0)], "a second worker");
                        alive[usize::from(vm.0)] = true;
                    }
                    Effect::Stop(vm) | Effect::ShutDown(vm) | Effect::Kill(vm) | Effect::Debug(vm, _) | Effect::Input(vm, _) | Effect::Memory(vm, _) => {
                        prop_assert!(alive[usize::from(vm.0)], "nobody there for {:?}", effect);
                    }
                    Effect::PowerOff | Effect::Reboot => prop_assert_eq!(alive, [false; 2]),
                }
            }
            for (index, alive) in alive.into_iter().enumerate() {
                let state = manager.state(VmId(index as u16)).expect("there");
                let off = matches!(state, State::Off(_) | State::Failed(_) | State::Resting(_) | State::Waiting(_));
                prop_assert_eq!(!off, alive);
            }
        }
    }
}
