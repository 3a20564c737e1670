//! What a round of the balancer costs. `cargo xtask bench` runs this under valgrind's callgrind, which counts what is executed
//! inside of [`one_round`].
//!
//! ```text
//! round N      one round for N VMs and N / 10 that wait to start
//! ```

use std::hint::black_box;

use balancer::{
    Buffer, HostReserve, Input, LONG_AGO, Node, PendingStart, Round, Unit, Vm, VmId, Weight,
};

const MIB_PER_GIB: u64 = 1024;

/// Numbers that are spread, and the same in each run.
struct Spread(u64);

impl Spread {
    fn below(&mut self, bound: u64) -> u64 {
        // A linear congruential generator; its upper bits are the better ones.
        const FACTOR: u64 = 6_364_136_223_846_793_005;
        const ADDEND: u64 = 1_442_695_040_888_963_407;
        self.0 = self.0.wrapping_mul(FACTOR).wrapping_add(ADDEND);
        (self.0 >> 33) % bound
    }
}

/// What callgrind counts.
#[inline(never)]
fn one_round(input: &Input<'_>) -> Round {
    balancer::round(input)
}

/// A VM in disorder: any weight, some with a balloon, half of them with less than they need, some frozen, many to be trimmed.
fn vm(id: u64, spread: &mut Spread) -> Vm {
    let pages = |mib| Unit::Page.of_mib(mib);
    let assigned = pages(2048) + spread.below(pages(2048));
    let settled = spread.below(2 * assigned);
    Vm {
        id: VmId(id),
        weight: Weight::new(1 + spread.below(10_000)).expect("a weight"),
        buffer: Buffer::new(5 + spread.below(100)).expect("a buffer"),
        minimum: pages(512),
        maximum: pages(16 * MIB_PER_GIB),
        is_32_bit: spread.below(10) == 0,
        alignment: pages(128),
        can_balloon: spread.below(20) != 0,
        can_hot_add: spread.below(20) != 0,
        assigned,
        ballooned: spread.below(2) * spread.below(pages(1024)),
        settled,
        smoothed: settled - spread.below(settled / 4 + 1),
        reporting: spread.below(50) != 0,
        in_flight: spread.below(50) == 0,
        report_age: 1,
        since_add: LONG_AGO,
        since_refusal: LONG_AGO,
        low_for: 900,
    }
}

fn start(id: u64, spread: &mut Spread) -> PendingStart {
    PendingStart {
        id: VmId(id),
        weight: Weight::new(1 + spread.below(10_000)).expect("a weight"),
        startup: Unit::Page.of_mib(512 + spread.below(1024)),
    }
}

/// A node with a little free memory, of which there is too little: every step of a round has something to do.
fn node(vms: &[Vm]) -> Node {
    let assigned: u64 = vms.iter().map(|vm| vm.assigned).sum();
    let total_mib = Unit::Page.mib(assigned) / 90 * 100 + 4 * MIB_PER_GIB;
    let total = Unit::Page.of_mib(total_mib);
    let reserve = Unit::Page.of_mib(HostReserve::default().of_machine(total_mib));
    let fixed = total - reserve - assigned - assigned / 200;
    Node {
        total,
        reserve,
        fixed,
    }
}

fn main() {
    let mut counts = std::env::args().filter_map(|word| word.parse::<u64>().ok());
    let count = counts.next_back().unwrap_or(1000);
    let mut spread = Spread(count);
    // Ids that are in no order: so sorting by them is work.
    let mut vms: Vec<Vm> = (0..count).map(|id| vm(id, &mut spread)).collect();
    vms.sort_by_key(|vm| (vm.settled, vm.id));
    let starts = count..count + count / 10;
    let starts: Vec<PendingStart> = starts.map(|id| start(id, &mut spread)).collect();
    let input = Input {
        unit: Unit::Page,
        node: node(&vms),
        vms: &vms,
        starts: &starts,
        trim_tick: true,
    };
    let round = one_round(black_box(&input));
    // The whole search, and something to do.
    assert!(round.target.k > 0 && !round.target.over_commit);
    assert!(!round.operations.is_empty());
    println!(
        "{} operations for {count} VMs",
        black_box(round).operations.len()
    );
}
