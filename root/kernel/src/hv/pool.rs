//! Memory pools: deposits, withdrawals, and calls that need them (root sheet A.4).

use alloc::vec::Vec;

use tlfs::{
    HV_LARGE_PAGE_PAGES, HvCallCode, HvHypercallResult, HvInputDepositMemory,
    HvInputWithdrawMemory, HvPartitionId, HvProximityDomainInfo, HvStatus,
};
use zerocopy::IntoBytes;

use super::{HvError, Hypercalls, Progress, check, rep_control};
use crate::addr::Pfn;
use crate::frames::{Class, Frames, Owner, Slot};

/// List elements of a deposit: the header takes the first 8 bytes of the page.
const DEPOSIT_REPS: u64 = 511;
/// List elements of a withdrawal.
const WITHDRAW_REPS: usize = 512;
/// Deposits for one call before it is given up. Far more than any call can need: 1 GiB.
const MOST_PAGES: u64 = 512 * HV_LARGE_PAGE_PAGES;

/// The hypervisor and the memory to pay it with.
pub struct Hv<'a, 't> {
    /// Makes the calls.
    pub calls: &'a mut dyn Hypercalls,
    /// Pays.
    pub frames: &'a mut Frames<'t>,
}

/// Whose pool a call draws on, and how generously.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The partition to deposit to.
    pub target: HvPartitionId,
    /// In whose name the deposit is booked.
    pub slot: Slot,
    /// Pages for each retry, instead of what the status asks for.
    pub pages: Option<u64>,
}

impl Retry {
    /// The root's own pool.
    pub const ROOT: Self = Self {
        target: HvPartitionId::SELF,
        slot: Slot::KERNEL,
        pages: None,
    };

    /// The pool of a process's partition.
    pub fn child(target: HvPartitionId, slot: Slot) -> Self {
        Self {
            target,
            slot,
            pages: None,
        }
    }
}

impl Hv<'_, '_> {
    /// Gives frames to a partition's pool. Frames are taken in blocks as large as possible, so that a contiguous need
    /// is met when memory is not too fragmented.
    ///
    /// # Errors
    /// [`HvError::NoMemory`], or the hypervisor's refusal. What it has taken stays deposited, the rest is kept.
    pub fn deposit(
        &mut self,
        target: HvPartitionId,
        slot: Slot,
        pages: u64,
    ) -> Result<(), HvError> {
        let mut left = pages;
        while left > 0 {
            let batch = left.min(DEPOSIT_REPS);
            self.deposit_batch(target, slot, batch)?;
            left = left.saturating_sub(batch);
        }
        Ok(())
    }

    fn deposit_batch(
        &mut self,
        target: HvPartitionId,
        slot: Slot,
        pages: u64,
    ) -> Result<(), HvError> {
        let call = HvCallCode::DEPOSIT_MEMORY;
        let owner = Owner::new(slot, Class::Deposit);
        let list = self.take(pages, owner).ok_or(HvError::NoMemory(call))?;
        let mut input = Vec::from(
            HvInputDepositMemory {
                partition_id: target,
            }
            .as_bytes(),
        );
        list.iter()
            .for_each(|pfn| input.extend_from_slice(pfn.0.as_bytes()));
        let progress = self.rep(call, list.len(), &input);
        for pfn in list.iter().skip(progress.done) {
            self.frames.release(*pfn, 0, owner)?;
        }
        progress.complete()
    }

    /// Takes single frames, consecutive ones as far as possible; all or none.
    fn take(&mut self, pages: u64, owner: Owner) -> Option<Vec<Pfn>> {
        let mut list = Vec::new();
        let mut left = pages;
        while left > 0 {
            let best = left.ilog2() as u8;
            let block = (0..=best)
                .rev()
                .find_map(|order| Some((self.frames.allocate(order, owner)?, order)));
            let Some((first, order)) = block else {
                for pfn in list {
                    // They were taken a moment ago with this owner, so this cannot fail.
                    let _ = self.frames.release(pfn, 0, owner);
                }
                return None;
            };
            let count = 1u64 << order;
            list.extend((0..count).map(|at| first.plus(at)));
            left = left.saturating_sub(count);
        }
        Some(list)
    }

    /// Takes back everything that a pool does not use; returns the number of frames.
    ///
    /// # Errors
    /// A status other than NO_RESOURCES, or [`HvError::Books`] if a frame comes that was never deposited.
    pub fn withdraw(&mut self, target: HvPartitionId, slot: Slot) -> Result<u64, HvError> {
        let call = HvCallCode::WITHDRAW_MEMORY;
        let owner = Owner::new(slot, Class::Deposit);
        let proximity_domain_info = HvProximityDomainInfo::default();
        let input = HvInputWithdrawMemory {
            partition_id: target,
            proximity_domain_info,
        };
        let mut output = [0u64; WITHDRAW_REPS];
        let mut total = 0u64;
        loop {
            let control = rep_control(call, WITHDRAW_REPS, 0);
            let result = self
                .calls
                .call(control, input.as_bytes(), output.as_mut_bytes());
            for pfn in output.iter().take(result.reps_completed()) {
                self.frames.release(Pfn(*pfn), 0, owner)?;
                total = total.saturating_add(1);
            }
            match result.call_status() {
                HvStatus::SUCCESS if result.reps_completed() > 0 => {}
                HvStatus::SUCCESS => return Err(HvError::NoProgress(call)),
                HvStatus::NO_RESOURCES => return Ok(total),
                status => return Err(HvError::Status { call, status }),
            }
        }
    }

    /// Makes a call, and repeats it with deposits as long as it says that it needs memory. `attempt` gets the number
    /// of reps done so far and must continue from there (simple calls ignore it).
    ///
    /// # Errors
    /// Any other status; [`HvError::NoMemory`] when there is nothing left to deposit.
    pub fn with_deposits(
        &mut self,
        call: HvCallCode,
        retry: Retry,
        mut attempt: impl FnMut(&mut dyn Hypercalls, usize) -> HvHypercallResult,
    ) -> Result<HvHypercallResult, HvError> {
        let (mut deposited, mut done) = (0u64, 0usize);
        loop {
            let result = attempt(self.calls, done);
            let status = result.call_status();
            let Some(shortage) = status.memory_shortage() else {
                return if status.is_success() {
                    Ok(result)
                } else {
                    Err(HvError::Status { call, status })
                };
            };
            done = result.reps_completed().max(done);
            let pages = retry.pages.unwrap_or(shortage.pages as u64);
            let to = if shortage.own_pool {
                Retry::ROOT
            } else {
                retry
            };
            deposited = deposited.saturating_add(pages);
            if deposited > MOST_PAGES {
                return Err(HvError::NoProgress(call));
            }
            match self.deposit(to.target, to.slot, pages) {
                Err(HvError::NoMemory(_)) => return Err(HvError::NoMemory(call)),
                other => other?,
            }
        }
    }

    /// A rep call without output from its first to its last element.
    fn rep(&mut self, call: HvCallCode, count: usize, input: &[u8]) -> Progress {
        let mut done = 0;
        while done < count {
            let result = self
                .calls
                .call(rep_control(call, count, done), input, &mut []);
            let before = done;
            done = result.reps_completed().clamp(before, count);
            let error = match check(call, result) {
                Ok(()) if done > before => continue,
                Ok(()) => HvError::NoProgress(call),
                Err(error) => error,
            };
            let error = Some(error);
            return Progress { done, error };
        }
        Progress { done, error: None }
    }
}
