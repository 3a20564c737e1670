//! What random calls are about: partitions in all states, frames that may be lost for a while, addresses that are not
//! the root's.

use guests::metal::memory::virtual_address;
use guests::rng::Rng;
use guests::root::interrupts::hypervisor_pages;
use guests::root::memory::{self, LARGE_PAGE, PAGE};
use guests::root::{Root, report};
use guests::{check, probe, say};
use tlfs::{
    HvCallCode, HvHypercallInput, HvHypercallResult, HvInputGetNextChildPartition,
    HvInputPartition, HvInputWithdrawMemory, HvOutputGetNextChildPartition, HvPartitionId,
    HvProximityDomainInfo, HvStatus, HvVpIndex,
};
use zerocopy::{Immutable, IntoBytes};

use crate::random::ports::Own;

/// Frames that the calls play with.
const FRAMES: usize = 4096;
/// Large pages that they play with.
const LARGE_PAGES: u64 = 4;
/// Partitions kept track of.
const MAX_PARTITIONS: usize = 20;
/// Pages of the hypervisor's that sources and blocks are tried at.
const FORBIDDEN: usize = 8;

/// The state of the game.
pub struct World {
    /// Random numbers.
    pub rng: Rng,
    partitions: [HvPartitionId; MAX_PARTITIONS],
    count: usize,
    frames: [u64; FRAMES],
    large: u64,
    forbidden: [u64; FORBIDDEN],
    /// Where the last call was told to put its output.
    pub output: u64,
    /// Calls made.
    pub calls: u32,
    deposited: u64,
    withdrawn: u64,
    /// Ports and connections of the root's.
    pub own: Own,
}

/// An input block under construction.
#[derive(Clone)]
pub struct Block {
    bytes: [u8; PAGE as usize],
    len: usize,
    header: usize,
}

impl Block {
    /// Begins with a header.
    pub fn new<T: IntoBytes + Immutable>(header: &T) -> Self {
        let mut block = Self {
            bytes: [0; PAGE as usize],
            len: 0,
            header: size_of::<T>(),
        };
        block.push(header);
        block
    }

    /// Appends; what is past the page is dropped.
    pub fn push<T: IntoBytes + Immutable>(&mut self, value: &T) {
        for byte in value.as_bytes() {
            if let Some(place) = self.bytes.get_mut(self.len) {
                *place = *byte;
                self.len += 1;
            }
        }
    }

    /// Changes a bit of the header. Lists are left alone: another page number may be the payload's own.
    pub fn flip(&mut self, rng: &mut Rng) {
        let bit = rng.below(8 * self.header as u64);
        if let Some(byte) = self.bytes[..self.len].get_mut(bit as usize / 8) {
            *byte ^= 1 << (bit % 8);
        }
    }

    /// What is in it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl World {
    /// No partitions, all frames.
    pub fn new(root: &mut Root, seed: u64) -> Self {
        let mut frames = [0; FRAMES];
        for frame in &mut frames {
            *frame = root.memory.zeroed();
        }
        Self {
            rng: Rng::new(seed),
            partitions: [HvPartitionId::INVALID; MAX_PARTITIONS],
            count: 0,
            frames,
            large: root.memory.large(LARGE_PAGES),
            forbidden: hypervisor_pages(&root.memory),
            output: 0,
            calls: 0,
            deposited: 0,
            withdrawn: 0,
            own: Own::new(),
        }
    }

    /// Whether more partitions are not wanted.
    pub fn is_full(&self) -> bool {
        self.count == MAX_PARTITIONS
    }

    /// A partition was created.
    pub fn add(&mut self, id: HvPartitionId) {
        check!(
            !self.partitions[..self.count].contains(&id),
            "the id {id:?} is given twice"
        );
        if let Some(place) = self.partitions.get_mut(self.count) {
            *place = id;
            self.count += 1;
        }
    }

    /// A partition was deleted; its id stays in the place behind, to be tried again.
    pub fn remove(&mut self, id: HvPartitionId) {
        if let Some(at) = self.partitions[..self.count]
            .iter()
            .position(|known| *known == id)
        {
            self.count -= 1;
            self.partitions.swap(at, self.count);
        }
    }

    /// A child, if there is one.
    pub fn child(&mut self) -> HvPartitionId {
        match self.count as u64 {
            0 => HvPartitionId::INVALID,
            count => self.partitions[self.rng.below(count) as usize],
        }
    }

    /// Mostly a child.
    pub fn partition(&mut self, root: &Root) -> HvPartitionId {
        match self.rng.below(24) {
            0 => HvPartitionId::SELF,
            1 => root.id,
            2 => HvPartitionId(self.rng.odd_value()),
            3 => self.partitions[self.rng.below(MAX_PARTITIONS as u64) as usize],
            _ => self.child(),
        }
    }

    /// Mostly a VP that may exist.
    pub fn vp(&mut self) -> HvVpIndex {
        match self.rng.below(16) {
            0 => HvVpIndex::SELF,
            1 => HvVpIndex::ANY,
            2 => HvVpIndex(self.rng.next_u64() as u32),
            3 => HvVpIndex(self.rng.below(18) as u32),
            4..8 => HvVpIndex(1),
            _ => HvVpIndex(0),
        }
    }

    /// Number of a page that may be lost, or of one that is not the root's. Never one of the payload's own.
    pub fn pfn(&mut self) -> u64 {
        let page = match self.rng.below(16) {
            0 => self.rng.pick(&self.forbidden),
            1 => 0xFEE0_0000,
            2 => (1 << 44) + self.rng.below(1 << 30) * PAGE,
            3 => return u64::MAX - self.rng.below(1024),
            4 => self.large + self.rng.below(LARGE_PAGES * LARGE_PAGE / PAGE) * PAGE,
            _ => self.frame(),
        };
        page / PAGE
    }

    /// A frame that may be lost, maybe already.
    pub fn frame(&mut self) -> u64 {
        self.rng.pick(&self.frames)
    }

    /// Number of the first page of a large page.
    pub fn large_pfn(&mut self) -> u64 {
        (self.large + self.rng.below(LARGE_PAGES) * LARGE_PAGE) / PAGE
    }

    /// A call: mostly as it is, sometimes with its control word, its block or the places of its blocks spoiled.
    pub fn issue(
        &mut self,
        root: &mut Root,
        control: HvHypercallInput,
        block: &mut Block,
    ) -> HvHypercallResult {
        let mut control = control;
        let (mut input, mut output) = (root.calls.input, root.calls.output);
        if self.rng.one_in(24) {
            for _ in 0..=self.rng.below(3) {
                block.flip(&mut self.rng);
            }
        }
        match self.rng.below(64) {
            0 => {
                // Not the call code: that one is chosen with care.
                let bit = 16 + self.rng.below(48);
                control = HvHypercallInput::from_bits(control.into_bits() ^ 1 << bit);
            }
            1 => input += self.rng.below(4096),
            2 => output += self.rng.below(4096),
            3 => input = self.rng.pick(&self.forbidden),
            4 => output = self.rng.pick(&self.forbidden),
            5 => input = 1 << self.rng.below(20) << 40,
            6 => output = 1 << self.rng.below(20) << 40,
            _ => {}
        }
        root.calls.fill_input(&[block.bytes()]);
        if control.call_code() == HvCallCode::SET_VP_REGISTERS {
            spare_root(root, input);
        }
        let result = root.calls.raw(control, input, output);
        self.calls += 1;
        self.output = output;
        self.note(root, control, block, &result);
        while root.messages.poll().is_some() {}
        result
    }

    /// Keeps count of pages and partitions.
    fn note(
        &mut self,
        root: &Root,
        control: HvHypercallInput,
        block: &Block,
        result: &HvHypercallResult,
    ) {
        let done = result.reps_completed().saturating_sub(control.rep_start()) as u64;
        match control.call_code() {
            HvCallCode::DEPOSIT_MEMORY => self.deposited += done,
            HvCallCode::WITHDRAW_MEMORY => self.withdrawn += done,
            HvCallCode::DELETE_PARTITION if result.call_status().is_success() => {
                if let Some(id) = block.bytes().first_chunk::<8>() {
                    self.remove(HvPartitionId(u64::from_le_bytes(*id)));
                }
            }
            code if result.call_status().is_success() => {
                self.own.note(root.id, code, block.bytes());
            }
            _ => {}
        }
    }

    /// Ends a partition from whatever state it is in: finalize, withdraw all, delete.
    pub fn bury(&mut self, root: &mut Root, id: HvPartitionId) {
        let input = HvInputPartition { partition_id: id };
        let _ = root.calls.order(HvCallCode::FINALIZE_PARTITION, &input);
        self.drain(root, id);
        let status = root.calls.order(HvCallCode::DELETE_PARTITION, &input);
        report::status(status, HvStatus::SUCCESS, "DeletePartition");
        self.remove(id);
        self.calls += 2;
    }

    /// Withdraws until nothing is left.
    pub fn drain(&mut self, root: &mut Root, id: HvPartitionId) {
        let input = HvInputWithdrawMemory {
            partition_id: id,
            proximity_domain_info: HvProximityDomainInfo::default(),
        };
        let code = HvCallCode::WITHDRAW_MEMORY;
        loop {
            let parts = [input.as_bytes()];
            let (status, done) = root.calls.rep(code, (0, 512), &parts, &mut []);
            self.withdrawn += done as u64;
            self.calls += 1;
            match status {
                HvStatus::SUCCESS => check!(done > 0, "WithdrawMemory makes no progress"),
                HvStatus::NO_RESOURCES => return,
                status => report::status(status, HvStatus::NO_RESOURCES, "WithdrawMemory"),
            }
        }
    }

    /// Ends all partitions; all pages must come back, and all frames must be the root's again.
    pub fn end(mut self, root: &mut Root) {
        let mut ended = 0;
        loop {
            let input = HvInputGetNextChildPartition {
                parent_id: HvPartitionId::SELF,
                previous_child_id: HvPartitionId::INVALID,
            };
            let call = HvCallCode::GET_NEXT_CHILD_PARTITION;
            let next: HvOutputGetNextChildPartition =
                report::value(root.calls.ask(call, &input), "GetNextChildPartition");
            if next.next_child_id == HvPartitionId::INVALID {
                break;
            }
            self.bury(root, next.next_child_id);
            ended += 1;
        }
        self.drain(root, HvPartitionId::SELF);
        say!(
            "   {ended} partitions ended, {} pages deposited and withdrawn",
            self.deposited
        );
        report::same(self.withdrawn, self.deposited, "pages withdrawn");
        let large = (0..LARGE_PAGES * LARGE_PAGE / PAGE).map(|page| self.large + page * PAGE);
        for frame in self.frames.iter().copied().chain(large) {
            let address = virtual_address(frame);
            let result = probe!("lock add dword ptr [{address}], 0", address = in(reg) address);
            check!(
                result.is_ok(),
                "frame {frame:#x} is not the root's: {result:x?}"
            );
        }
        for frame in self.frames {
            root.memory.give_back(frame);
        }
    }
}

/// A root may break itself by setting its own registers; that shows nothing. Looks at the block as the hypervisor will read
/// it: a spoiled id, or a block that begins elsewhere, can name the root too.
fn spare_root(root: &Root, input: u64) {
    let mut id = [0; size_of::<HvPartitionId>()];
    let last = root.calls.input + PAGE - id.len() as u64;
    if !(root.calls.input..=last).contains(&input) {
        return;
    }
    memory::copy_from(input, &mut id);
    if [HvPartitionId::SELF, root.id].contains(&HvPartitionId(u64::from_le_bytes(id))) {
        memory::copy_to(input, HvPartitionId::INVALID.as_bytes());
    }
}
