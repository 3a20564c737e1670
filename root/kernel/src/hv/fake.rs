//! A hypervisor for tests: pools, partitions and their needs, with refusals on request.

use std::collections::{BTreeMap, BTreeSet};

use tlfs::{HvCallCode, HvHypercallInput, HvHypercallResult, HvPartitionId, HvStatus};

use super::Hypercalls;

/// A partition's pool and what lives on it.
#[derive(Default, Debug)]
pub struct Pool {
    pub free: Vec<u64>,
    pub used: Vec<u64>,
    pub active: bool,
    pub finalized: bool,
    pub vps: Vec<u32>,
    /// State pages: VP, type.
    pub state_pages: Vec<(u32, u16)>,
    /// Guest page: frame.
    pub guest: BTreeMap<u64, u64>,
    /// First guest pages of large mappings.
    pub large: BTreeSet<u64>,
}

/// The fake. Partition id all-ones is the root's own pool.
pub struct Fake {
    pub pools: BTreeMap<u64, Pool>,
    pub log: Vec<u16>,
    /// Refuses the n-th call from now with this status.
    pub refuse: Option<(usize, HvStatus)>,
    /// Refuses every call.
    pub refuse_all: bool,
    /// At most that many reps a call.
    pub most_reps: usize,
    next: u64,
    stats: Vec<[u8; 24]>,
}

const ROOT: u64 = HvPartitionId::SELF.0;
/// Pages that a partition needs before it can be initialized, and that a VP needs.
const INITIALIZE_NEEDS: usize = 211;
const VP_NEEDS: usize = 93;

impl Fake {
    pub fn new() -> Self {
        let pools = BTreeMap::from([(ROOT, Pool::default())]);
        Self {
            pools,
            log: Vec::new(),
            refuse: None,
            refuse_all: false,
            most_reps: usize::MAX,
            next: 0x10,
            stats: Vec::new(),
        }
    }

    /// Frames that the hypervisor holds, of all pools.
    pub fn held(&self) -> usize {
        self.pools
            .values()
            .map(|pool| pool.free.len() + pool.used.len())
            .sum()
    }

    pub fn partitions(&self) -> usize {
        self.pools.len() - 1
    }

    pub fn pool(&self, id: HvPartitionId) -> &Pool {
        &self.pools[&id.0]
    }

    fn take(&mut self, id: u64, count: usize) -> HvStatus {
        let shortage = if id == ROOT {
            HvStatus::INSUFFICIENT_ROOT_MEMORY
        } else {
            HvStatus::INSUFFICIENT_MEMORY
        };
        let Some(pool) = self.pools.get_mut(&id) else {
            return HvStatus::INVALID_PARTITION_ID;
        };
        if pool.free.len() < count {
            return shortage;
        }
        let at = pool.free.len() - count;
        pool.used.extend(pool.free.drain(at..));
        HvStatus::SUCCESS
    }

    fn give_back(&mut self, id: u64, count: usize) {
        let pool = self.pools.get_mut(&id).unwrap();
        let at = pool.used.len() - count;
        pool.free.extend(pool.used.drain(at..));
    }

    fn simple(&mut self, code: HvCallCode, input: &[u8], output: &mut [u8]) -> HvStatus {
        let word = |at: usize| u64::from_le_bytes(input[at..at + 8].try_into().unwrap());
        let half = |at: usize| u32::from_le_bytes(input[at..at + 4].try_into().unwrap());
        let id = word(0);
        match code {
            HvCallCode::CREATE_PARTITION => {
                let status = self.take(ROOT, 1);
                if status.is_success() {
                    self.next += 1;
                    self.pools.insert(self.next, Pool::default());
                    output.copy_from_slice(&self.next.to_le_bytes());
                }
                status
            }
            HvCallCode::MAP_STATS_PAGE => {
                let status = self.take(ROOT, 1);
                if status.is_success() {
                    self.stats.push(input.try_into().unwrap());
                    output.copy_from_slice(&0x999u64.to_le_bytes());
                }
                status
            }
            HvCallCode::UNMAP_STATS_PAGE => {
                let at = self.stats.iter().position(|page| page == input);
                let Some(at) = at else {
                    return HvStatus::INVALID_PARAMETER;
                };
                self.stats.remove(at);
                self.give_back(ROOT, 1);
                HvStatus::SUCCESS
            }
            _ if !self.pools.contains_key(&id) => HvStatus::INVALID_PARTITION_ID,
            HvCallCode::SET_PARTITION_PROPERTY if self.pools[&id].active => {
                HvStatus::INVALID_PARTITION_STATE
            }
            HvCallCode::SET_PARTITION_PROPERTY => HvStatus::SUCCESS,
            HvCallCode::INITIALIZE_PARTITION => {
                let status = self.take(id, INITIALIZE_NEEDS);
                self.pools.get_mut(&id).unwrap().active = status.is_success();
                status
            }
            HvCallCode::CREATE_VP => {
                let status = self.take(id, VP_NEEDS);
                if status.is_success() {
                    self.pools.get_mut(&id).unwrap().vps.push(half(8));
                }
                status
            }
            HvCallCode::DELETE_VP => {
                self.pools
                    .get_mut(&id)
                    .unwrap()
                    .vps
                    .retain(|vp| *vp != half(8));
                self.give_back(id, VP_NEEDS);
                HvStatus::SUCCESS
            }
            HvCallCode::MAP_VP_STATE_PAGE => {
                let status = self.take(id, 1);
                if status.is_success() {
                    let page = (half(8), half(12) as u16);
                    let pool = self.pools.get_mut(&id).unwrap();
                    assert!(!pool.state_pages.contains(&page));
                    pool.state_pages.push(page);
                    output.copy_from_slice(&pool.used.last().unwrap().to_le_bytes());
                }
                status
            }
            HvCallCode::UNMAP_VP_STATE_PAGE => {
                let pool = self.pools.get_mut(&id).unwrap();
                let page = (half(8), half(12) as u16);
                let before = pool.state_pages.len();
                pool.state_pages.retain(|other| *other != page);
                if pool.state_pages.len() == before {
                    return HvStatus::INVALID_PARAMETER;
                }
                self.give_back(id, 1);
                HvStatus::SUCCESS
            }
            HvCallCode::FINALIZE_PARTITION => {
                let pool = self.pools.get_mut(&id).unwrap();
                pool.finalized = true;
                pool.guest.clear();
                pool.large.clear();
                let used = std::mem::take(&mut pool.used);
                pool.free.extend(used);
                HvStatus::SUCCESS
            }
            HvCallCode::DELETE_PARTITION => {
                let pool = &self.pools[&id];
                let drained = pool.free.is_empty() && pool.used.is_empty();
                if !drained || pool.active && !pool.finalized {
                    return HvStatus::OPERATION_DENIED;
                }
                self.pools.remove(&id);
                self.give_back(ROOT, 1);
                HvStatus::SUCCESS
            }
            other => panic!("unexpected {other:?}"),
        }
    }

    fn rep(
        &mut self,
        control: HvHypercallInput,
        input: &[u8],
        output: &mut [u8],
    ) -> HvHypercallResult {
        let (start, count) = (control.rep_start(), control.rep_count());
        let end = count.min(start.saturating_add(self.most_reps));
        let id = u64::from_le_bytes(input[..8].try_into().unwrap());
        let element = |header: usize, at: usize| {
            u64::from_le_bytes(
                input[header + at * 8..header + at * 8 + 8]
                    .try_into()
                    .unwrap(),
            )
        };
        let Some(pool) = self.pools.get_mut(&id) else {
            return HvHypercallResult::rep(HvStatus::INVALID_PARTITION_ID, start);
        };
        match control.call_code() {
            HvCallCode::DEPOSIT_MEMORY => {
                for at in start..end {
                    let pfn = element(8, at);
                    assert!(
                        !pool.free.contains(&pfn) && !pool.used.contains(&pfn),
                        "deposited twice"
                    );
                    pool.free.push(pfn);
                }
                HvHypercallResult::rep(HvStatus::SUCCESS, end)
            }
            HvCallCode::WITHDRAW_MEMORY => {
                let count = end.min(pool.free.len());
                for at in 0..count {
                    let pfn = pool.free.swap_remove(at * 7 % pool.free.len());
                    output[at * 8..at * 8 + 8].copy_from_slice(&pfn.to_le_bytes());
                }
                let status = if count == 0 {
                    HvStatus::NO_RESOURCES
                } else {
                    HvStatus::SUCCESS
                };
                HvHypercallResult::rep(status, count)
            }
            HvCallCode::MAP_GPA_PAGES => {
                let base = u64::from_le_bytes(input[8..16].try_into().unwrap());
                let size = if input[19] & 0x80 != 0 { 512 } else { 1 };
                for at in start..end {
                    // A second-level table for every 64 elements.
                    if at % 64 == 0 && pool.free.pop().map(|pfn| pool.used.push(pfn)).is_none() {
                        return HvHypercallResult::rep(HvStatus::INSUFFICIENT_MEMORY, at);
                    }
                    let first = base + at as u64 * size;
                    for page in 0..size {
                        pool.guest.insert(first + page, element(24, at) + page);
                    }
                    if size == 512 {
                        pool.large.insert(first);
                    }
                }
                HvHypercallResult::rep(HvStatus::SUCCESS, end)
            }
            HvCallCode::UNMAP_GPA_PAGES => {
                let base = u64::from_le_bytes(input[8..16].try_into().unwrap());
                let size = if input[16] & 2 != 0 { 512 } else { 1 };
                for at in start..end {
                    let first = base + at as u64 * size;
                    // A part of a large mapping goes: the rest needs a table.
                    if pool.large.remove(&(first & !511)) && size == 1 {
                        let Some(pfn) = pool.free.pop() else {
                            pool.large.insert(first & !511);
                            return HvHypercallResult::rep(HvStatus::INSUFFICIENT_MEMORY, at);
                        };
                        pool.used.push(pfn);
                    }
                    for page in first..first + size {
                        pool.guest.remove(&page);
                    }
                }
                HvHypercallResult::rep(HvStatus::SUCCESS, end)
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}

impl Hypercalls for Fake {
    fn call(
        &mut self,
        control: HvHypercallInput,
        input: &[u8],
        output: &mut [u8],
    ) -> HvHypercallResult {
        assert!(input.len() <= 4096 && output.len() <= 4096);
        self.log.push(control.call_code().0);
        if let Some((left, status)) = &mut self.refuse {
            if *left == 0 {
                let status = *status;
                self.refuse = None;
                return HvHypercallResult::rep(status, control.rep_start());
            }
            *left -= 1;
        }
        if self.refuse_all {
            return HvHypercallResult::rep(HvStatus::OPERATION_DENIED, control.rep_start());
        }
        match control.rep_count() {
            0 => HvHypercallResult::simple(self.simple(control.call_code(), input, output)),
            _ => self.rep(control, input, output),
        }
    }
}
