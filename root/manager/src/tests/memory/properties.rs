//! Whatever workers tell: no order leads out of a VM's limits, and no round gives more than is free beyond the reserve.

use proptest::prelude::*;
use root_abi::news::{self, MemoryState};
use zerocopy::{FromBytes, IntoBytes};

use super::{MIB, Machine, dynamic};
use crate::VmId;
use crate::life::SECOND;
use crate::tests::fake::{Effect, exited};

const VMS: u16 = 5;
const TOTAL: u64 = 8192;
const RESERVE: u64 = 640;

/// Numbers that could be, and any others.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..4096 * MIB,
        1 => any::<u64>(),
        1 => Just(0),
        1 => Just(u64::MAX),
    ]
}

fn states() -> impl Strategy<Value = MemoryState> {
    let numbers = prop::collection::vec(number(), 18);
    let flags = prop_oneof![4 => Just(news::MEMORY_LIVE | 12), 1 => any::<u32>()];
    (numbers, flags, any::<bool>()).prop_map(|(numbers, flags, fresh)| {
        let mut bytes = [0; size_of::<MemoryState>()];
        bytes[..144].copy_from_slice(numbers.as_bytes());
        let mut state = MemoryState::read_from_bytes(&bytes).expect("its size");
        state.flags = flags;
        if fresh {
            state.report_age = 0;
            state.since_add = news::NEVER;
            state.since_refusal = news::NEVER;
            state.alignment = 128 * MIB;
        }
        state
    })
}

#[derive(Clone, Debug)]
enum Act {
    Tell(u16, MemoryState),
    Start(u16),
    End(u16),
    /// Its guest resets.
    Reset(u16),
    /// A VM has what it has been given; or less, if it is refusing.
    Obey(u16, bool),
    Second,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..VMS, states()).prop_map(|(vm, state)| Act::Tell(vm, state)),
        1 => (0..VMS).prop_map(Act::Start),
        1 => (0..VMS).prop_map(Act::End),
        1 => (0..VMS).prop_map(Act::Reset),
        2 => (0..VMS, any::<bool>()).prop_map(|(vm, well)| Act::Obey(vm, well)),
        4 => Just(Act::Second),
    ]
}

/// Startup, minimum and maximum of a VM.
fn limits(vm: u16) -> [u64; 3] {
    let vm = u64::from(vm);
    [1024 + vm * 256, 512 + vm * 64, 2048 + vm * 1024]
}

struct World {
    machine: Machine,
    /// How many nodes have TOTAL together.
    nodes: u16,
    /// What each VM has, pages.
    ram: [u64; VMS as usize],
    /// What the last order of each would make of that.
    wanted: [u64; VMS as usize],
    alive: [bool; VMS as usize],
    runs: [bool; VMS as usize],
}

impl World {
    /// With one node, or with several between which VMs do not span.
    fn new(nodes: u16) -> Self {
        let definitions: Vec<_> = (0..VMS)
            .map(|vm| {
                let weight = format!("weight = {}", 1 + vm * 2000);
                let order = format!("start_order = {vm}");
                let place = match nodes {
                    1 => String::new(),
                    nodes => format!("spanning = false\nnode = {}", vm % nodes),
                };
                dynamic(
                    &format!("vm{vm}"),
                    limits(vm),
                    &format!("{weight}\n{order}\n{place}"),
                )
            })
            .collect();
        let mut machine = Machine::new(TOTAL, &definitions);
        machine.host.nodes = nodes.into();
        let node = crate::NodeMemory {
            total: TOTAL * MIB / u64::from(nodes),
            root: machine.host.report.root_kernel / u64::from(nodes),
            ..crate::NodeMemory::default()
        };
        machine.host.report.nodes = vec![node; nodes.into()];
        machine.books();
        Self {
            machine,
            nodes,
            ram: [0; VMS as usize],
            wanted: [0; VMS as usize],
            alive: [false; VMS as usize],
            runs: [false; VMS as usize],
        }
    }

    fn show(&mut self) {
        let report = &mut self.machine.host.report;
        report.partitions.clear();
        for (vm, ram) in (0..).map(VmId).zip(self.ram) {
            let mut part = crate::PartitionMemory {
                vm,
                ram,
                ..crate::PartitionMemory::default()
            };
            part.ram_in[usize::from(vm.0 % self.nodes)] = ram;
            report.partitions.push(part);
        }
        self.machine.books();
    }

    /// What the VMs of a node have. What has been given counts, whether it has arrived or not.
    fn taken(&self, node: u16) -> u64 {
        let all = (0u16..).zip(self.ram.iter().zip(self.wanted));
        let here = all.filter(|(vm, _)| vm % self.nodes == node);
        here.map(|(_, (ram, wanted))| *ram.max(&wanted)).sum()
    }

    fn act(&mut self, act: &Act) -> Vec<Effect> {
        let (machine, ram) = (&mut self.machine, &mut self.ram);
        match *act {
            Act::Tell(vm, state) if self.alive[usize::from(vm)] => {
                let at = usize::from(vm);
                if !self.runs[at] {
                    // It has its memory before it runs.
                    ram[at] = self.wanted[at];
                    self.runs[at] = true;
                }
                if state.flags & news::MEMORY_IN_FLIGHT == 0 {
                    self.wanted[at] = ram[at];
                }
                self.show();
                let machine = &mut self.machine;
                machine.manager.worker_running(&mut machine.host, VmId(vm));
                machine.tell(VmId(vm), state);
            }
            Act::Start(vm) => {
                machine.type_in(&format!("vm start vm{vm}"));
            }
            Act::End(vm) | Act::Reset(vm) if self.alive[usize::from(vm)] => {
                self.alive[usize::from(vm)] = false;
                self.runs[usize::from(vm)] = false;
                ram[usize::from(vm)] = 0;
                self.wanted[usize::from(vm)] = 0;
                self.show();
                let machine = &mut self.machine;
                let end = match act {
                    Act::Reset(_) => exited(root_abi::ExitReason::Reset),
                    _ => exited(root_abi::ExitReason::PowerOff),
                };
                machine
                    .manager
                    .worker_ended(&mut machine.host, VmId(vm), &end);
            }
            Act::Obey(vm, well) => {
                let vm = usize::from(vm);
                if well {
                    ram[vm] = self.wanted[vm];
                } else {
                    ram[vm] = ram[vm].midpoint(self.wanted[vm]);
                }
                self.show();
            }
            Act::Second => {
                machine.host.now += SECOND;
                machine.manager.tick(&mut machine.host);
            }
            Act::Tell(..) | Act::End(_) | Act::Reset(_) => {}
        }
        self.machine.host.done()
    }
}

proptest! {
    #[test]
    fn no_lie_leads_out_of_limits_or_beyond_what_is_free(acts in prop::collection::vec(acts(), 0..120), nodes in 1u16..3) {
        let mut world = World::new(nodes);
        for act in acts {
            let second = matches!(act, Act::Second);
            let mut free = [0; 2];
            for (node, free) in (0..nodes).zip(&mut free) {
                let mut taken = world.taken(node);
                if let Act::Reset(vm) = act && vm % nodes == node {
                    // What it had is free again before it starts over.
                    let at = usize::from(vm);
                    taken -= world.ram[at].max(world.wanted[at]);
                }
                *free = ((TOTAL - RESERVE) * MIB / u64::from(nodes)).saturating_sub(taken);
            }
            let mut given = [0; 2];
            let was_alive = matches!(act, Act::Reset(vm) if world.alive[usize::from(vm)]);
            for effect in world.act(&act) {
                match effect {
                    Effect::Start(VmId(vm), _) => {
                        prop_assert!(!world.alive[usize::from(vm)]);
                        world.alive[usize::from(vm)] = true;
                        let startup = limits(vm)[0] * MIB;
                        world.wanted[usize::from(vm)] = startup;
                        given[usize::from(vm % nodes)] += startup;
                    }
                    Effect::Memory(VmId(vm), order) => {
                        prop_assert!(second && world.alive[usize::from(vm)]);
                        let [_, minimum, maximum] = limits(vm).map(|mib| mib * MIB);
                        let ram = world.ram[usize::from(vm)];
                        let add = order.unballoon + order.hot_add;
                        prop_assert!(add == 0 || order.remove == 0);
                        prop_assert!(add != 0 || order.remove != 0);
                        prop_assert!(ram + add <= maximum, "{ram} + {add}");
                        let removed = order.remove;
                        prop_assert!(removed == 0 || ram >= minimum + removed, "{ram} - {removed}");
                        given[usize::from(vm % nodes)] += add;
                        world.wanted[usize::from(vm)] = ram + add - order.remove;
                    }
                    other => prop_assert!(matches!(other, Effect::Input(..)), "{other:?}"),
                }
            }
            prop_assert!(given.iter().zip(free).all(|(given, free)| *given <= free), "{given:?} of {free:?}");
            if let Act::Reset(vm) = act {
                let state = world.machine.manager.state(VmId(vm)).expect("there");
                let refused = state.word() == "failed" && !state.reason().starts_with("it reset");
                prop_assert!(!refused || !was_alive, "{state:?}");
            }
        }
    }
}
