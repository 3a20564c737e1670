//! The root itself, and the pools that it pays into.

use spin::Mutex;
use tlfs::{
    HvCallCode, HvHypercallInput, HvInputDepositMemory, HvInputGetMemoryBalance,
    HvInputWithdrawMemory, HvOutputGetMemoryBalance, HvOutputPartitionId, HvPartitionId,
    HvProximityDomainInfo, HvStatus,
};
use zerocopy::IntoBytes;

use super::call::Calls;
use super::interrupts::Messages;
use super::memory::{self, Memory, PAGE};
use super::report;
use crate::metal::Boot;

/// Most list elements of a deposit: the rest of the page behind the header.
pub const DEPOSIT_REPS: usize = 511;
/// List elements of a withdrawal.
pub const WITHDRAW_REPS: usize = 512;

const MAX_POOLS: usize = 80;

/// More deposits for one call than any can need here.
const PATIENCE: u32 = 16_384;

/// A payload root.
pub struct Root {
    /// Frames.
    pub memory: Memory,
    /// Hypercalls.
    pub calls: Calls,
    /// Messages of SINT0.
    pub messages: Messages,
    /// Own partition id.
    pub id: HvPartitionId,
}

/// What was paid into which pool, by whichever VP.
static POOLS: Mutex<[(HvPartitionId, u64); MAX_POOLS]> =
    Mutex::new([(HvPartitionId::INVALID, 0); MAX_POOLS]);

impl Root {
    /// Establishes hypercalls, SynIC, and the own id.
    pub fn start(boot: &Boot) -> Self {
        let mut memory = Memory::new(boot);
        let calls = Calls::new(&mut memory);
        let messages = Messages::new();
        // As Linux asks: no input, and the input page takes the output.
        memory::fill(calls.input, 0xA5, PAGE);
        let control = HvHypercallInput::simple(HvCallCode::GET_PARTITION_ID);
        let status = calls.raw(control, 0, calls.input).call_status();
        report::status(status, HvStatus::SUCCESS, "GetPartitionId");
        let mut own = HvOutputPartitionId::default();
        memory::copy_from(calls.input, own.as_mut_bytes());
        let id = own.partition_id;
        check!(
            id != HvPartitionId::INVALID && id != HvPartitionId::SELF,
            "the root's id is {id:?}"
        );
        Self {
            memory,
            calls,
            messages,
            id,
        }
    }

    /// The same root as another of its VPs sees it, with two pages in a row for its hypercalls. That VP switches its messages on.
    pub fn on_another_vp(&self, pages: u64) -> Self {
        Self {
            memory: self.memory,
            calls: self.calls.with_pages(pages),
            messages: self.messages.of_another_vp(),
            id: self.id,
        }
    }

    /// Changes what is known of a pool.
    fn pool<R>(&self, of: HvPartitionId, change: impl FnOnce(&mut u64) -> R) -> R {
        let of = if of == self.id {
            HvPartitionId::SELF
        } else {
            of
        };
        let mut pools = POOLS.lock();
        let known = pools.iter().position(|pool| pool.0 == of);
        let free = pools.iter().position(|pool| pool.1 == 0);
        let Some(place) = known.or(free) else {
            fail!("the payload knows only {MAX_POOLS} pools")
        };
        pools[place].0 = of;
        change(&mut pools[place].1)
    }

    /// Pages paid into a partition's pool and not withdrawn.
    pub fn paid(&self, to: HvPartitionId) -> u64 {
        self.pool(to, |pages| *pages)
    }

    /// One DepositMemory of these pages (physical addresses), at most [`DEPOSIT_REPS`]. What is accepted is booked.
    pub fn try_deposit(&mut self, to: HvPartitionId, pages: &[u64]) -> (HvStatus, usize) {
        let mut list = [0u64; DEPOSIT_REPS];
        for (element, page) in list.iter_mut().zip(pages) {
            *element = page / PAGE;
        }
        let header = HvInputDepositMemory { partition_id: to };
        let parts = [header.as_bytes(), list[..pages.len()].as_bytes()];
        let code = HvCallCode::DEPOSIT_MEMORY;
        let (status, done) = self.calls.reps(code, pages.len(), &parts, &mut []);
        self.pool(to, |pages| *pages += done as u64);
        (status, done)
    }

    /// Deposits `count` pages, in blocks as large as one call takes.
    pub fn deposit(&mut self, to: HvPartitionId, count: u64) {
        let mut left = count;
        while left > 0 {
            let mut pages = [0; DEPOSIT_REPS];
            let batch = left.min(DEPOSIT_REPS as u64) as usize;
            for page in &mut pages[..batch] {
                *page = self.memory.frame();
            }
            let (status, done) = self.try_deposit(to, &pages[..batch]);
            report::status(status, HvStatus::SUCCESS, "DepositMemory");
            report::same(done, batch, "pages deposited");
            left -= batch as u64;
        }
    }

    /// One WithdrawMemory of up to `count` pages, which come back to the allocator. Each must be zeroed and the root's.
    pub fn withdraw(&mut self, from: HvPartitionId, count: usize) -> (HvStatus, usize) {
        let header = HvInputWithdrawMemory {
            partition_id: from,
            proximity_domain_info: HvProximityDomainInfo::default(),
        };
        let mut list = [0u64; WITHDRAW_REPS];
        let code = HvCallCode::WITHDRAW_MEMORY;
        let parts = [header.as_bytes()];
        let (status, done) = self
            .calls
            .rep(code, (0, count), &parts, list[..count].as_mut_bytes());
        for page in &list[..done] {
            let frame = page * PAGE;
            check!(
                memory::is_zero(frame),
                "withdrawn page {frame:#x} is not zeroed"
            );
            self.memory.give_back(frame);
        }
        // The root's own pool has pages that the hypervisor put there before the root started.
        self.pool(from, |paid| *paid = paid.saturating_sub(done as u64));
        (status, done)
    }

    /// Withdraws 512 at a time until NO_RESOURCES, as Linux does; returns how many pages came.
    pub fn withdraw_all(&mut self, from: HvPartitionId) -> u64 {
        let mut total = 0;
        loop {
            let (status, done) = self.withdraw(from, WITHDRAW_REPS);
            total += done as u64;
            match status {
                HvStatus::SUCCESS => check!(done > 0, "WithdrawMemory: SUCCESS without a page"),
                HvStatus::NO_RESOURCES => return total,
                other => fail!("WithdrawMemory: {other}"),
            }
        }
    }

    /// GetMemoryBalance.
    pub fn balance(&self, of: HvPartitionId) -> HvOutputGetMemoryBalance {
        let input = HvInputGetMemoryBalance {
            partition_id: of,
            proximity_domain_info: HvProximityDomainInfo::default(),
        };
        let code = HvCallCode::GET_MEMORY_BALANCE;
        report::value(self.calls.ask(code, &input), "GetMemoryBalance")
    }

    /// Repeats a call with one deposit for each shortage, as Linux does: to the pool of `child`, or to the root's own.
    pub fn pay<T>(
        &mut self,
        child: HvPartitionId,
        what: &str,
        mut call: impl FnMut(&Calls) -> Result<T, HvStatus>,
    ) -> T {
        for _ in 0..PATIENCE {
            match call(&self.calls) {
                Ok(value) => return value,
                Err(status) => match status.memory_shortage() {
                    Some(shortage) if shortage.own_pool => {
                        self.deposit(HvPartitionId::SELF, shortage.pages as u64);
                    }
                    Some(shortage) => self.deposit(child, shortage.pages as u64),
                    None => report::value(Err(status), what),
                },
            }
        }
        fail!("{what}: {PATIENCE} deposits do not cure the shortage of memory")
    }
}
