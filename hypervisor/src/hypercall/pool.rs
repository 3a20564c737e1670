//! The memory pool of a partition (root sheet A.3.2, A.4).

use tlfs::{
    HvInputDepositMemory, HvInputGetMemoryBalance, HvInputWithdrawMemory, HvOutputGetMemoryBalance,
    HvStatus,
};

use super::Call;
use crate::hv::Hypervisor;
use crate::mem::addr::Spfn;
use crate::mem::format::Rights;
use crate::mem::frames::PartitionSlot;
use crate::partition::PartitionState;
use crate::partition::memory::frame_status;
use crate::partition::table::PartitionGuard;

/// Most pages of one deposit: what fits in the input page.
const MAX_PAGES: usize = 511;

/// A pool that a call is about.
struct Pool {
    slot: PartitionSlot,
    /// It takes deposits.
    open: bool,
    /// Whose it is, unless it is the root's.
    owner: Option<PartitionGuard<'static>>,
}

fn pool(call: &Call<'_>, id: tlfs::HvPartitionId) -> Result<Pool, HvStatus> {
    let target = call.target(id)?;
    let open = matches!(
        target.state,
        PartitionState::Uninitialized | PartitionState::Active
    );
    Ok(Pool {
        slot: target.slot,
        open,
        owner: Call::hold(target),
    })
}

/// HvCallDepositMemory. The whole list is checked before its first page moves: Linux frees all pages of a list that is
/// refused (root sheet A.4).
pub fn deposit(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let clock = call.clock();
    let input: HvInputDepositMemory = call.input();
    let pool = pool(call, input.partition_id)?;
    let slot = pool.slot;
    if !call.is_root() {
        // Only the root has memory to give.
        return Err(HvStatus::ACCESS_DENIED);
    }
    if !pool.open {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    let hv = call.hv();
    let mut pages = [Spfn(0); MAX_PAGES];
    let count = call.reps().end.min(MAX_PAGES);
    for (index, page) in pages.iter_mut().enumerate().take(count) {
        *page = Spfn(call.element(index));
    }
    let all = pages.get(..count).unwrap_or(&[]);
    if call.done == 0 {
        let mut frames = hv.frames.lock();
        frames.begin_deposit(slot, all).map_err(frame_status)?;
        let undone = frames.cancel_deposit(slot, all);
        debug_assert_eq!(undone, Ok(()), "deposited a moment ago");
    }
    let first = call.done;
    let mut result = Ok(());
    for &page in all.get(first..).unwrap_or(&[]) {
        result = take_away(call, slot, page);
        if result.is_err() {
            break;
        }
        call.done += 1;
        if !clock.has_time() {
            break;
        }
    }
    hv.shoot_down(PartitionSlot::ROOT);
    let taken = all.get(first..call.done).unwrap_or(&[]);
    let finished = hv.frames.lock().finish_deposit(slot, taken);
    assert_eq!(finished, Ok(()), "begun by `take_away`");
    count_pool(call, &pool);
    result
}

/// Takes a page from the root, for a pool that has it after the shootdown.
fn take_away(call: &Call<'_>, slot: PartitionSlot, page: Spfn) -> Result<(), HvStatus> {
    let hv = call.hv();
    let begun = hv.frames.lock().begin_deposit(slot, &[page]);
    begun.map_err(frame_status)?;
    hv.set_root_rights(page, 1, None)
}

/// HvCallWithdrawMemory.
pub fn withdraw(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let clock = call.clock();
    let input: HvInputWithdrawMemory = call.input();
    let pool = pool(call, input.partition_id)?;
    if !call.is_root() {
        return Err(HvStatus::ACCESS_DENIED);
    }
    let hv = call.hv();
    for index in call.reps() {
        let Some(page) = give_back(hv, pool.slot)? else {
            count_pool(call, &pool);
            return Err(HvStatus::NO_RESOURCES);
        };
        call.put_element(index, &page.0);
        call.done += 1;
        if !clock.has_time() {
            break;
        }
    }
    hv.shoot_down(PartitionSlot::ROOT);
    count_pool(call, &pool);
    Ok(())
}

/// Gives an unused page of a pool back to the root. Until the root has its translation again the page counts as in use, so
/// that another processor neither allocates it nor gives it away.
fn give_back(hv: &Hypervisor, slot: PartitionSlot) -> Result<Option<Spfn>, HvStatus> {
    let taken = hv.frames.lock().allocate(slot).map_err(frame_status)?;
    let Some(frame) = taken else {
        return Ok(None);
    };
    // A frame of a pool lies in the direct map.
    let _ = hv.phys.zero_page(frame.spfn());
    if let Err(status) = hv.set_root_rights(frame.spfn(), 1, Some(Rights::RWX)) {
        hv.release(slot, frame);
        return Err(status);
    }
    let page = hv.frames.lock().finish_withdraw(slot, frame);
    page.map(Some).map_err(frame_status)
}

/// Keeps the partition's gauge of deposited pages.
fn count_pool(call: &Call<'_>, pool: &Pool) {
    let hv = call.hv();
    let counts = hv.frames.lock().slot_counts(pool.slot);
    let root = match pool.owner {
        Some(_) => None,
        None => PartitionGuard::lock(hv.partitions.entry(pool.slot)),
    };
    if let (Ok(counts), Some(partition)) = (counts, pool.owner.as_ref().or(root.as_ref())) {
        partition
            .stats
            .set(tlfs::stats::partition::DEPOSITED_PAGES, counts.pool());
    }
}

/// HvCallGetMemoryBalance.
pub fn balance(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputGetMemoryBalance = call.input();
    let pool = pool(call, input.partition_id)?;
    let counts = call.hv().frames.lock().slot_counts(pool.slot);
    let counts = counts.map_err(frame_status)?;
    call.put(&HvOutputGetMemoryBalance {
        pages_available: counts.available,
        pages_in_use: counts.in_use + counts.shared + counts.retired_pool,
    });
    Ok(())
}
