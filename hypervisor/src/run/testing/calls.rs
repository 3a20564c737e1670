//! Calls as a root makes them: what is short of memory is paid for, a page at a time, and asked again.

use alloc::vec::Vec;

use tlfs::*;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::{Bench, ROOT_FRAMES, alloc};
use crate::hv::ROOT_ID;
use crate::hv::testing::LINUX_CHILD;
use crate::mem::addr::{Gpfn, Spfn};
use crate::mem::format::Rights;
use crate::mem::frames::{Owner, SlotCounts};
use crate::partition::PartitionState;
use crate::partition::table::slot_of;

/// How Linux creates partitions.
pub const LINUX_FLAGS: HvPartitionCreationFlags = LINUX_CHILD;
/// How Linux maps RAM.
pub const FULL_ACCESS: HvMapGpaFlags =
    HvMapGpaFlags::PERMISSIONS_MASK.union(HvMapGpaFlags::ADJUSTABLE);
/// Pages after which a call that asks for more makes no progress.
const MAX_PAID: usize = 64;

impl Bench {
    /// Takes frames that the root has no use for.
    ///
    /// # Panics
    /// When there are no more.
    pub fn frames(&mut self, count: usize) -> Vec<u64> {
        let from = self.free.len().checked_sub(count).expect("enough memory");
        let mut frames = self.free.split_off(from);
        frames.reverse();
        frames
    }

    /// Takes a 2 MiB page that the root has no use for.
    ///
    /// # Panics
    /// When there is none.
    pub fn large_frame(&mut self) -> u64 {
        let whole = |first: &u64| (*first..first + 512).all(|frame| self.free.contains(&frame));
        let mut starts = ROOT_FRAMES.rev().filter(|frame| frame.is_multiple_of(512));
        let first = starts.find(whole).expect("enough memory");
        self.free
            .retain(|frame| !(first..first + 512).contains(frame));
        first
    }

    /// Gives them back.
    pub fn put_back(&mut self, frames: &[u64]) {
        self.free.extend_from_slice(frames);
    }

    /// Pays a list of frames into a pool.
    pub fn deposit_list(&mut self, id: HvPartitionId, frames: &[u64]) -> (HvStatus, usize) {
        let header = HvInputDepositMemory { partition_id: id };
        self.rep(
            HvCallCode::DEPOSIT_MEMORY,
            &header,
            frames.as_bytes(),
            frames.len(),
        )
    }

    /// Pays free frames into a pool.
    ///
    /// # Panics
    /// When they are refused.
    pub fn deposit(&mut self, id: HvPartitionId, count: usize) {
        let frames = self.frames(count);
        assert_eq!(self.deposit_list(id, &frames), (HvStatus::SUCCESS, count));
    }

    /// Makes a call until it has the memory that it needs, paying a page each time it asks; how many it took.
    ///
    /// # Errors
    /// What it ends with.
    ///
    /// # Panics
    /// When it never has enough.
    pub fn paid<T: FromBytes + FromZeros + IntoBytes>(
        &mut self,
        pool: HvPartitionId,
        code: HvCallCode,
        input: &(impl IntoBytes + Immutable),
    ) -> Result<(T, usize), HvStatus> {
        for pages in 0..MAX_PAID {
            match self.ask(code, input) {
                Err(HvStatus::INSUFFICIENT_MEMORY) => self.deposit(pool, 1),
                other => return other.map(|answer| (answer, pages)),
            }
        }
        panic!("{code:?} makes no progress");
    }

    /// Creates a partition.
    ///
    /// # Panics
    /// When that is refused.
    pub fn create(&mut self, flags: HvPartitionCreationFlags) -> HvPartitionId {
        let input = HvInputCreatePartition {
            flags,
            compatibility_version: HvCompatibilityVersion::V_21_H2,
            ..Default::default()
        };
        let code = HvCallCode::CREATE_PARTITION;
        let (answer, _) = self
            .paid::<HvOutputPartitionId>(HvPartitionId::SELF, code, &input)
            .expect("created");
        answer.partition_id
    }

    /// Creates and initializes a partition as Linux does, but for the pages in advance.
    ///
    /// # Panics
    /// When that is refused.
    pub fn child(&mut self) -> HvPartitionId {
        let id = self.create(LINUX_FLAGS);
        let input = HvInputPartition { partition_id: id };
        self.paid::<[u8; 0]>(id, HvCallCode::INITIALIZE_PARTITION, &input)
            .expect("initialized");
        id
    }

    /// Creates a VP.
    ///
    /// # Panics
    /// When that is refused.
    pub fn add_vp(&mut self, id: HvPartitionId, index: u32) {
        let input = HvInputCreateVp {
            partition_id: id,
            vp_index: HvVpIndex(index),
            ..Default::default()
        };
        self.paid::<[u8; 0]>(id, HvCallCode::CREATE_VP, &input)
            .expect("created");
    }

    /// Maps frames, or whatever `list` has for the flags, once.
    pub fn map_once(
        &mut self,
        id: HvPartitionId,
        base: u64,
        flags: HvMapGpaFlags,
        list: &[u64],
    ) -> (HvStatus, usize) {
        let header = HvInputMapGpaPages {
            target_partition_id: id,
            target_gpa_base: base,
            map_flags: flags,
            padding: 0,
        };
        self.rep(
            HvCallCode::MAP_GPA_PAGES,
            &header,
            list.as_bytes(),
            list.len(),
        )
    }

    /// Maps frames. What is short of memory goes on from where it stopped, with a page more.
    ///
    /// # Panics
    /// When that is refused, or when a page more makes no difference.
    pub fn map(&mut self, id: HvPartitionId, base: u64, flags: HvMapGpaFlags, list: &[u64]) {
        let step = if flags.contains(HvMapGpaFlags::LARGE_PAGE) {
            512
        } else {
            1
        };
        let mut done = 0;
        for _ in 0..MAX_PAID {
            let rest = &list[done..];
            let (status, now) = self.map_once(id, base + done as u64 * step, flags, rest);
            done += now;
            match status {
                HvStatus::SUCCESS => return assert_eq!(done, list.len()),
                HvStatus::INSUFFICIENT_MEMORY => self.deposit(id, 1),
                other => panic!("{other:?} after {done}"),
            }
        }
        panic!("mapping makes no progress");
    }

    /// Unmaps pages, once.
    pub fn unmap_once(
        &mut self,
        id: HvPartitionId,
        base: u64,
        flags: HvUnmapGpaFlags,
        count: usize,
    ) -> (HvStatus, usize) {
        let header = HvInputUnmapGpaPages {
            target_partition_id: id,
            target_gpa_base: base,
            unmap_flags: flags,
            padding: 0,
        };
        self.rep(HvCallCode::UNMAP_GPA_PAGES, &header, &[], count)
    }

    /// A child with 16 pages of memory from GPA 0 on and its VP 0.
    ///
    /// # Panics
    /// When that is refused.
    pub fn child_with_vp(&mut self) -> HvPartitionId {
        let id = self.child();
        let frames = self.frames(16);
        self.map(id, 0, FULL_ACCESS, &frames);
        self.add_vp(id, 0);
        id
    }

    /// Sets registers of a VP.
    pub fn set_registers(
        &mut self,
        id: HvPartitionId,
        vp: HvVpIndex,
        values: &[(HvRegisterName, u64)],
    ) -> (HvStatus, usize) {
        let header = HvInputVpRegisters {
            partition_id: id,
            vp_index: vp,
            ..Default::default()
        };
        let list: Vec<HvRegisterAssoc> = values
            .iter()
            .map(|&(name, value)| HvRegisterAssoc {
                name,
                value: value.into(),
                ..Default::default()
            })
            .collect();
        let code = HvCallCode::SET_VP_REGISTERS;
        self.rep(code, &header, list.as_bytes(), list.len())
    }

    /// Reads a register of a VP.
    ///
    /// # Errors
    /// What the call ends with.
    pub fn register(
        &mut self,
        id: HvPartitionId,
        vp: HvVpIndex,
        name: HvRegisterName,
    ) -> Result<u64, HvStatus> {
        let header = HvInputVpRegisters {
            partition_id: id,
            vp_index: vp,
            ..Default::default()
        };
        let code = HvCallCode::GET_VP_REGISTERS;
        match self.rep(code, &header, name.as_bytes(), 1) {
            (HvStatus::SUCCESS, 1) => Ok(self.read(self.output())),
            (status, _) => Err(status),
        }
    }

    /// Finalizes a partition that is initialized.
    pub fn finalize(&mut self, id: HvPartitionId) -> HvStatus {
        let input = HvInputPartition { partition_id: id };
        self.simple(HvCallCode::FINALIZE_PARTITION, &input)
    }

    /// Withdraws all of a pool that is unused, 512 pages at a time.
    ///
    /// # Panics
    /// When that ends otherwise than with NO_RESOURCES, or a page is not the root's afterwards.
    pub fn withdraw(&mut self, id: HvPartitionId) -> Vec<u64> {
        let header = HvInputWithdrawMemory {
            partition_id: id,
            ..Default::default()
        };
        let mut all = Vec::new();
        loop {
            let (status, done) = self.rep(HvCallCode::WITHDRAW_MEMORY, &header, &[], 512);
            let list: [u64; 512] = self.read(self.output());
            for &frame in &list[..done] {
                assert_eq!(self.hv.frames.lock().owner(Spfn(frame)), Owner::Root);
                assert_eq!(
                    self.read_machine::<[u64; 512]>(Spfn(frame).address()),
                    [0; 512]
                );
                all.push(frame);
            }
            match status {
                HvStatus::SUCCESS => assert_eq!(done, 512),
                HvStatus::NO_RESOURCES => return all,
                other => panic!("{other:?}"),
            }
        }
    }

    /// The counts of a partition's frames.
    ///
    /// # Panics
    /// For an id that is none.
    pub fn pool(&self, id: HvPartitionId) -> SlotCounts {
        let slot = slot_of(id).expect("an id");
        self.hv.frames.lock().slot_counts(slot).expect("a slot")
    }

    /// Ends a partition as Linux does.
    ///
    /// # Panics
    /// When a step is refused.
    pub fn destroy(&mut self, id: HvPartitionId) {
        let state = self.with_partition(id, |child| child.state);
        if matches!(state, PartitionState::Active | PartitionState::Finalizing) {
            assert_eq!(self.finalize(id), HvStatus::SUCCESS);
        }
        self.withdraw(id);
        let input = HvInputPartition { partition_id: id };
        let deleted = self.simple(HvCallCode::DELETE_PARTITION, &input);
        assert_eq!(deleted, HvStatus::SUCCESS);
    }

    /// Ends everything that the root has made, and checks that nothing is left of it.
    ///
    /// # Panics
    /// When something is.
    pub fn tear_down(&mut self) {
        self.switch_to_root();
        self.restore();
        for id in self.children() {
            self.destroy(id);
        }
        self.unmap_own_stats();
        // Event logs are paid by the root; most have few buffers.
        self.withdraw(ROOT_ID);
        for most in [4, HV_EVENTLOG_MAX_BUFFERS] {
            if self.counts().partitions != 0 {
                self.end_event_log(most);
                self.withdraw(ROOT_ID);
            }
        }
        assert_eq!(self.counts().partitions, 0);
        let root_frames = ROOT_FRAMES.end - ROOT_FRAMES.start;
        assert_eq!(self.counts().root, root_frames);
        self.with_partition(ROOT_ID, |root| {
            for frame in ROOT_FRAMES {
                let reached = root.resolve(Gpfn(frame).address(), Rights::RWX);
                assert_eq!(reached, Ok(Spfn(frame).address()));
            }
        });
        self.audit();
        assert_eq!(self.hv.reserves.sum(), 0, "reserved by nobody");
        assert!(self.cpu.notices.is_empty() && self.cpu.timers.first().is_none());
        self.free = ROOT_FRAMES.rev().collect();
    }

    fn unmap_own_stats(&mut self) {
        for stats_type in [
            HvStatsObjectType::HYPERVISOR,
            HvStatsObjectType::LOGICAL_PROCESSOR,
            HvStatsObjectType::PARTITION,
            HvStatsObjectType::VP,
        ] {
            let identity = HvStatsObjectIdentity {
                id: HvPartitionId::SELF.0,
                ..Default::default()
            };
            let input = HvInputStatsPage {
                stats_type,
                padding: 0,
                identity,
            };
            self.simple(HvCallCode::UNMAP_STATS_PAGE, &input);
        }
    }

    fn end_event_log(&mut self, most: u32) {
        for &event_log_type in HvEventLogType::NAMED {
            let none = HvInputSetEventLogGroupSources {
                event_log_type,
                ..Default::default()
            };
            self.simple(HvCallCode::SET_EVENT_LOG_GROUP_SOURCES, &none);
            for index in 0..most {
                let input = HvInputEventLogBuffer {
                    event_log_type,
                    buffer_index: HvEventLogBufferIndex(index),
                };
                self.simple(HvCallCode::RELEASE_EVENT_LOG_BUFFER, &input);
                self.simple(HvCallCode::UNMAP_EVENT_LOG_BUFFER, &input);
                self.simple(HvCallCode::DELETE_EVENT_LOG_BUFFER, &input);
            }
            let input = HvInputFinalizeEventLogBufferGroup {
                event_log_type,
                padding: 0,
            };
            self.simple(HvCallCode::FINALIZE_EVENT_LOG_BUFFER_GROUP, &input);
        }
    }
}
