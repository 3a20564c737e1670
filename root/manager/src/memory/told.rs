//! One VM: what its worker tells of its memory, and what has been ordered.
//!
//! A worker may be in its guest's hands, so nothing that it tells is believed where others could be harmed by a lie:
//!
//! * What it has (`assigned`) and what is free comes from the kernel's books, never from here.
//! * Its maximum counts only as far as the definition's allows it, less the balloon that it says is lost, and never below the
//!   minimum.
//! * Demand is what a guest says anyway. A lie about it gets the VM what weight and maximum let it have, or loses it what is
//!   above its minimum.
//! * Capabilities, ages and alignment decide what its own VM is asked for, and when.
//! * A state that crossed an order on its way has an older order's number, and is no answer to it. A worker that claims to have
//!   seen what it has not gets a second order; the kernel gives nobody what is not free.
//! * A worker that never says that an order is over, or that it has seen it, keeps its own VM frozen, and holds at most what the order was to give.

use root_abi::MemoryOrder;
use root_abi::news::{self, MemoryState};

use balancer::LONG_AGO;

use crate::definition::DynamicMemory;
use crate::host::VmId;
use crate::life::SECOND;
use crate::memory::pages;
use crate::memory::watch::History;

/// Demand of more than this many times the maximum is a counter that wrapped (sheet 2.4).
const ABSURD: u64 = 64;

/// How long after its start a guest may take until its driver says what it can. D: Debian takes 20 s; four times that on a slow
/// machine, and some more.
pub const BOOT_TIME: u64 = 120 * SECOND;
/// How long after that it may not be asked for anything yet: 50 s of quiet (sheet 2.8), and some for its first reports. D.
pub const QUIET_TIME: u64 = 60 * SECOND;

/// A VM's memory as its worker tells it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// When, reference time.
    at: u64,
    /// What.
    pub state: MemoryState,
}

/// What is known of the memory of one VM that runs.
#[derive(Clone, Debug, Default)]
pub struct VmMemory {
    /// `None` while the worker has said nothing.
    told: Option<Told>,
    /// What the VM has once the order is carried out for which its worker has not answered yet; 0 for one that takes memory.
    ordered: Option<u64>,
    /// Number of the last order.
    number: u32,
    /// While it waits to start: pages that it is owed of what is free or will be.
    pub(super) claim: u64,
    /// What the last round in which it was live wanted it to have, pages.
    pub goal: Option<u64>,
    /// Its pressures of the last rounds.
    pub history: History,
    /// Since when its average pressure has been so high that an administrator should know.
    pub(super) high_since: Option<u64>,
    /// It has been told that it is.
    pub(super) high_told: bool,
}

/// What is to be seen of a VM's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Orders can go to it.
    Live,
    /// It does not report yet: it boots, or its guest has no driver.
    Quiet,
    /// It has reported, and does so no more.
    Frozen,
    /// An order is under way.
    Order,
}

impl Condition {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Condition::Live => "live",
            Condition::Quiet => "quiet",
            Condition::Frozen => "frozen",
            Condition::Order => "order",
        }
    }
}

impl VmMemory {
    /// The worker tells how things are. If it has seen the last order and does not say that one is under way, that is over:
    /// done, refused or replaced.
    pub fn tell(&mut self, now: u64, state: MemoryState) {
        self.told = Some(Told { at: now, state });
        if state.flags & news::MEMORY_IN_FLIGHT == 0 && state.order == self.number {
            self.ordered = None;
        }
    }

    /// An order goes out, to a VM that is `assigned` so many pages. Returns it with its number.
    pub fn order(&mut self, order: MemoryOrder, assigned: u64) -> MemoryOrder {
        self.number = self.number.wrapping_add(1);
        let given = order.unballoon.saturating_add(order.hot_add);
        self.ordered = Some(if given == 0 {
            0
        } else {
            assigned.saturating_add(given)
        });
        MemoryOrder {
            number: self.number,
            ..order
        }
    }

    /// What the worker told last.
    pub fn state(&self) -> Option<&MemoryState> {
        self.told.as_ref().map(|told| &told.state)
    }

    /// Whether it reports, and the quiet time after its start is over.
    pub fn is_reporting(&self) -> bool {
        self.state()
            .is_some_and(|state| state.flags & news::MEMORY_LIVE != 0)
    }

    /// Demand of the newest report, pages.
    pub fn newest(&self) -> u64 {
        self.state().map_or(0, |state| state.newest)
    }

    /// What counts as the VM's if it has `ram` pages: with what an order is still giving to it.
    pub fn assigned(&self, ram: u64) -> u64 {
        ram.max(self.ordered.unwrap_or(0))
    }

    fn in_flight(&self) -> bool {
        let says_so = |state: &MemoryState| state.flags & news::MEMORY_IN_FLIGHT != 0;
        self.ordered.is_some() || self.state().is_some_and(says_so)
    }

    /// Whether it cannot be asked yet, and may be soon: its guest boots, or its driver has said that it gives pages, and is in
    /// the quiet time. `uptime` is of its worker, so whatever the worker tells this comes to an end.
    pub fn is_coming(&self, uptime: u64) -> bool {
        let flags = self.state().map_or(0, |state| state.flags);
        let limit = if flags & news::MEMORY_CAN_BALLOON == 0 {
            BOOT_TIME
        } else {
            BOOT_TIME + QUIET_TIME
        };
        flags & news::MEMORY_LIVE == 0 && uptime < limit
    }

    /// The VM as the balancer sees it. `assigned` is what counts as its, in pages.
    pub fn vm(&self, id: VmId, settings: &DynamicMemory, assigned: u64, now: u64) -> balancer::Vm {
        let Told { at, state } = self.told.unwrap_or_default();
        let elapsed = now.saturating_sub(at);
        let age = |time| seconds(time, elapsed);
        let flag = |flag| self.told.is_some() && state.flags & flag != 0;
        let (minimum, maximum) = (pages(settings.minimum), pages(settings.maximum));
        let most = maximum.saturating_mul(ABSURD);
        // What the guest has lost of its balloon it believes it has: it is no room to grow (sheet 2.5).
        let lost = state.ballooned.saturating_sub(state.returnable);
        let room = state.maximum.min(maximum).saturating_sub(lost);
        balancer::Vm {
            id: id.into(),
            weight: settings.weight,
            buffer: settings.buffer,
            minimum,
            maximum: room.max(minimum),
            // The worker's maximum has it in it.
            is_32_bit: false,
            alignment: state.alignment,
            can_balloon: flag(news::MEMORY_CAN_BALLOON),
            can_hot_add: flag(news::MEMORY_CAN_HOT_ADD),
            assigned,
            ballooned: state.returnable,
            settled: state.settled.min(most),
            smoothed: state.smoothed.min(most),
            reporting: flag(news::MEMORY_LIVE),
            in_flight: self.in_flight(),
            report_age: age(state.report_age),
            since_add: age(state.since_add),
            since_refusal: age(state.since_refusal),
            low_for: match state.low_for {
                0 => 0,
                low_for => age(low_for),
            },
        }
    }

    /// What is to be seen of it.
    pub fn condition(&self, id: VmId, settings: &DynamicMemory, now: u64) -> Condition {
        let vm = self.vm(id, settings, 0, now);
        if vm.in_flight {
            Condition::Order
        } else if vm.is_live() {
            Condition::Live
        } else if vm.reporting {
            Condition::Frozen
        } else {
            Condition::Quiet
        }
    }
}

/// A time of [`MemoryState`], which was told `elapsed` ago, in whole seconds.
fn seconds(time: u64, elapsed: u64) -> u32 {
    if time == news::NEVER {
        return LONG_AGO;
    }
    let seconds = time.saturating_add(elapsed) / SECOND;
    u32::try_from(seconds).unwrap_or(LONG_AGO)
}
