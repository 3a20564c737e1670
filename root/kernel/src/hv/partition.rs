//! The life of a partition: create, initialize, add VPs, take everything down again (root sheet A.3.1, A.5, G.3).

use tlfs::{
    HvCallCode, HvCompatibilityVersion, HvHypercallInput, HvInputCreatePartition, HvInputCreateVp,
    HvInputDeleteVp, HvInputMapVpStatePage, HvInputPartition, HvInputSetPartitionProperty,
    HvInputStatsPage, HvInputUnmapVpStatePage, HvInputVtl, HvMapVpStatePageFlags,
    HvOutputMapStatsPage, HvOutputMapVpStatePage, HvOutputPartitionId, HvPartitionCreationFlags,
    HvPartitionId, HvPartitionPropertyCode, HvPartitionSyntheticProcessorFeatures, HvStatsAreaType,
    HvStatsObjectIdentity, HvStatsObjectType, HvVpIndex, HvVpStatePageType,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::{Hv, HvError, Retry, simple};
use crate::addr::Pfn;
use crate::frames::Slot;

/// Most VPs of a partition: pending intercepts of a process are one word.
pub const MAX_VPS: usize = 64;
/// Deposited before InitializePartition, as Linux does.
const INITIALIZE_DEPOSIT: u64 = 208;
/// Deposited before CreateVp, as Linux does.
const CREATE_VP_DEPOSIT: u64 = 90;

/// How far a partition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Early properties can be set.
    Created,
    /// VPs and memory can be added.
    Active,
}

/// Frames of a VP's pages, for the process's eyes. They belong to the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpFrames {
    /// Register page.
    pub registers: Pfn,
    /// Intercept message page.
    pub intercept: Pfn,
    /// Stats page.
    pub stats: Pfn,
}

/// A child partition. It does not go by itself: [`destroy`](Self::destroy) takes it down.
#[derive(Clone, Debug)]
pub struct Partition {
    id: HvPartitionId,
    slot: Slot,
    phase: Phase,
    /// Its stats page.
    stats: Option<Pfn>,
    vps: [Option<VpFrames>; MAX_VPS],
}

/// How a partition came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Teardown {
    /// Frames that came back.
    pub withdrawn: u64,
    /// The first thing that went wrong, if anything.
    pub error: Option<HvError>,
    /// The hypervisor has let go of everything: guest memory may be used again.
    pub gone: bool,
}

impl Partition {
    /// Creates a partition for the process of `slot`. EXO and INTERCEPT_MESSAGE_PAGE are always set; features 0 means
    /// what the public VMM crates use.
    ///
    /// # Errors
    /// [`HvError`]; nothing is left behind.
    pub fn create(
        hv: &mut Hv<'_, '_>,
        slot: Slot,
        flags: u64,
        features: u64,
    ) -> Result<Self, HvError> {
        let always = HvPartitionCreationFlags::EXO_PARTITION
            | HvPartitionCreationFlags::INTERCEPT_MESSAGE_PAGE_ENABLED;
        let input = HvInputCreatePartition {
            flags: HvPartitionCreationFlags(flags) | always,
            compatibility_version: HvCompatibilityVersion::V_21_H2,
            ..Default::default()
        };
        let created = hv
            .paid(HvCallCode::CREATE_PARTITION, Retry::ROOT, &input)
            .inspect_err(|_| {
                // What was deposited in vain comes back; the first error is the one to report.
                let _ = hv.withdraw(HvPartitionId::SELF, Slot::KERNEL);
            });
        let output: HvOutputPartitionId = created?;
        let id = output.partition_id;
        let mut partition = Self {
            id,
            slot,
            phase: Phase::Created,
            stats: None,
            vps: [None; MAX_VPS],
        };
        if id == HvPartitionId::INVALID || id == HvPartitionId::SELF {
            return Err(HvError::NoProgress(HvCallCode::CREATE_PARTITION));
        }
        let property_value = match features {
            0 => HvPartitionSyntheticProcessorFeatures::VMM_DEFAULT.0,
            features => features,
        };
        let input = HvInputSetPartitionProperty {
            partition_id: id,
            property_code: HvPartitionPropertyCode::SYNTHETIC_PROC_FEATURES,
            property_value,
            ..Default::default()
        };
        if let Err(error) =
            simple::<_, [u8; 0]>(hv.calls, HvCallCode::SET_PARTITION_PROPERTY, &input)
        {
            partition.destroy(hv);
            return Err(error);
        }
        Ok(partition)
    }

    /// Its id.
    pub fn id(&self) -> HvPartitionId {
        self.id
    }

    /// How far it has come.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Its stats page, once it is active. It belongs to the hypervisor.
    pub fn stats_page(&self) -> Option<Pfn> {
        self.stats
    }

    /// The pages of a VP, `None` if there is no such VP.
    pub fn vp(&self, index: u32) -> Option<VpFrames> {
        self.vps
            .get(usize::try_from(index).ok()?)
            .copied()
            .flatten()
    }

    /// All VPs.
    pub fn vps(&self) -> impl Iterator<Item = (u32, VpFrames)> + '_ {
        (0..)
            .zip(&self.vps)
            .filter_map(|(index, vp)| Some((index, (*vp)?)))
    }

    /// Makes it active, and maps its counters.
    ///
    /// # Errors
    /// [`HvError`]; it is good for nothing but [`destroy`](Self::destroy) then.
    pub fn initialize(&mut self, hv: &mut Hv<'_, '_>) -> Result<(), HvError> {
        if self.phase != Phase::Created {
            return Err(HvError::State);
        }
        hv.deposit(self.id, self.slot, INITIALIZE_DEPOSIT)?;
        let retry = Retry::child(self.id, self.slot);
        hv.paid::<_, [u8; 0]>(
            HvCallCode::INITIALIZE_PARTITION,
            retry,
            &HvInputPartition {
                partition_id: self.id,
            },
        )?;
        self.phase = Phase::Active;
        let object = self.own_stats();
        let stats: HvOutputMapStatsPage =
            hv.paid(HvCallCode::MAP_STATS_PAGE, Retry::ROOT, &object)?;
        self.stats = Some(Pfn(stats.map_location));
        Ok(())
    }

    /// Adds a VP and maps its pages.
    ///
    /// # Errors
    /// [`HvError`]; there is no such VP then, and its pages are unmapped.
    pub fn create_vp(&mut self, hv: &mut Hv<'_, '_>, index: u32) -> Result<VpFrames, HvError> {
        let place = usize::try_from(index)
            .ok()
            .filter(|index| *index < MAX_VPS)
            .ok_or(HvError::Argument)?;
        if self.phase != Phase::Active || self.vp(index).is_some() {
            return Err(HvError::State);
        }
        hv.deposit(self.id, self.slot, CREATE_VP_DEPOSIT)?;
        let input = HvInputCreateVp {
            partition_id: self.id,
            vp_index: HvVpIndex(index),
            ..Default::default()
        };
        let retry = Retry::child(self.id, self.slot);
        hv.paid::<_, [u8; 0]>(HvCallCode::CREATE_VP, retry, &input)?;
        match self.map_pages(hv, index) {
            Ok(frames) => {
                if let Some(vp) = self.vps.get_mut(place) {
                    *vp = Some(frames);
                }
                Ok(frames)
            }
            Err(error) => {
                let input = HvInputDeleteVp {
                    partition_id: self.id,
                    vp_index: HvVpIndex(index),
                    reserved: 0,
                };
                // The first error is the one to report; a VP that stays goes with the partition.
                let _ = simple::<_, [u8; 0]>(hv.calls, HvCallCode::DELETE_VP, &input);
                Err(error)
            }
        }
    }

    fn map_pages(&self, hv: &mut Hv<'_, '_>, index: u32) -> Result<VpFrames, HvError> {
        let registers = self.map_state_page(hv, index, HvVpStatePageType::REGISTERS)?;
        // The first error is the one to report; a page that stays mapped goes with the partition.
        let unmap = |hv: &mut Hv<'_, '_>, kind| {
            let _ = self.unmap_state_page(hv, index, kind);
        };
        let intercept = self
            .map_state_page(hv, index, HvVpStatePageType::INTERCEPT_MESSAGE)
            .inspect_err(|_| unmap(hv, HvVpStatePageType::REGISTERS))?;
        let stats: HvOutputMapStatsPage = hv
            .paid(HvCallCode::MAP_STATS_PAGE, Retry::ROOT, &self.stats(index))
            .inspect_err(|_| {
                unmap(hv, HvVpStatePageType::INTERCEPT_MESSAGE);
                unmap(hv, HvVpStatePageType::REGISTERS);
            })?;
        Ok(VpFrames {
            registers,
            intercept,
            stats: Pfn(stats.map_location),
        })
    }

    fn map_state_page(
        &self,
        hv: &mut Hv<'_, '_>,
        index: u32,
        page_type: HvVpStatePageType,
    ) -> Result<Pfn, HvError> {
        let input = HvInputMapVpStatePage {
            partition_id: self.id,
            vp_index: HvVpIndex(index),
            page_type,
            input_vtl: HvInputVtl::new(),
            flags: HvMapVpStatePageFlags::new(),
            requested_page: 0,
        };
        let retry = Retry::child(self.id, self.slot);
        let output: HvOutputMapVpStatePage =
            hv.paid(HvCallCode::MAP_VP_STATE_PAGE, retry, &input)?;
        Ok(Pfn(output.map_location))
    }

    fn unmap_state_page(
        &self,
        hv: &mut Hv<'_, '_>,
        index: u32,
        page_type: HvVpStatePageType,
    ) -> Result<(), HvError> {
        let input = HvInputUnmapVpStatePage {
            partition_id: self.id,
            vp_index: HvVpIndex(index),
            page_type,
            ..Default::default()
        };
        simple::<_, [u8; 0]>(hv.calls, HvCallCode::UNMAP_VP_STATE_PAGE, &input).map(drop)
    }

    fn own_stats(&self) -> HvInputStatsPage {
        HvInputStatsPage {
            stats_type: HvStatsObjectType::PARTITION,
            padding: 0,
            identity: HvStatsObjectIdentity::partition(self.id, HvStatsAreaType::SELF),
        }
    }

    fn stats(&self, index: u32) -> HvInputStatsPage {
        let identity = HvStatsObjectIdentity::vp(self.id, HvVpIndex(index), HvStatsAreaType::SELF);
        HvInputStatsPage {
            stats_type: HvStatsObjectType::VP,
            padding: 0,
            identity,
        }
    }

    /// Takes the partition down in the order that the interface wants, as far as possible whatever fails on the way.
    /// Nobody may use its pages any more.
    pub fn destroy(&mut self, hv: &mut Hv<'_, '_>) -> Teardown {
        let mut error = None;
        let mut note = |result: Result<(), HvError>| error = error.or(result.err());
        for index in 0..MAX_VPS as u32 {
            if self.vp(index).is_some() {
                note(
                    simple::<_, [u8; 0]>(
                        hv.calls,
                        HvCallCode::UNMAP_STATS_PAGE,
                        &self.stats(index),
                    )
                    .map(drop),
                );
                note(self.unmap_state_page(hv, index, HvVpStatePageType::REGISTERS));
                note(self.unmap_state_page(hv, index, HvVpStatePageType::INTERCEPT_MESSAGE));
            }
        }
        self.vps = [None; MAX_VPS];
        if self.stats.take().is_some() {
            let object = self.own_stats();
            let unmapped = simple::<_, [u8; 0]>(hv.calls, HvCallCode::UNMAP_STATS_PAGE, &object);
            note(unmapped.map(drop));
        }
        let input = HvInputPartition {
            partition_id: self.id,
        };
        let mut gone = true;
        if self.phase == Phase::Active {
            let finalized = simple::<_, [u8; 0]>(hv.calls, HvCallCode::FINALIZE_PARTITION, &input);
            gone = finalized.is_ok();
            note(finalized.map(drop));
        }
        let mut withdrawn = 0;
        match hv.withdraw(self.id, self.slot) {
            Ok(count) => withdrawn = count,
            Err(failed) => note(Err(failed)),
        }
        note(simple::<_, [u8; 0]>(hv.calls, HvCallCode::DELETE_PARTITION, &input).map(drop));
        // What the hypervisor kept in the root's pool for this partition comes back too.
        note(hv.withdraw(HvPartitionId::SELF, Slot::KERNEL).map(drop));
        Teardown {
            withdrawn,
            error,
            gone,
        }
    }
}

impl Hv<'_, '_> {
    /// A call without a list that may need deposits.
    ///
    /// # Errors
    /// [`HvError`].
    pub fn paid<I, O>(&mut self, call: HvCallCode, retry: Retry, input: &I) -> Result<O, HvError>
    where
        I: IntoBytes + Immutable,
        O: FromZeros + FromBytes + IntoBytes,
    {
        let mut output = O::new_zeroed();
        self.with_deposits(call, retry, |calls, _| {
            calls.call(
                HvHypercallInput::simple(call),
                input.as_bytes(),
                output.as_mut_bytes(),
            )
        })?;
        Ok(output)
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
