//! Partition properties (root sheet D.1).

use tlfs::{
    HvPartitionPrivilegeMask, HvPartitionPropertyCode as Code,
    HvPartitionSyntheticProcessorFeatures, HvStatus, HvUnimplementedMsrAction,
};

use super::clock::PartitionClock;
use super::{Partition, PartitionState};
use crate::apic::TIMER_FREQUENCY;
use crate::hv::Hypervisor;
use crate::sched::{self, Shares, SharesCell, TooMuch};
use crate::time::RefTime;

/// Properties that have no home elsewhere. Those that only parents interpret are kept and given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Scheduling group.
    pub cpu_group: u64,
    /// Topology.
    pub processors_per_socket: u64,
    /// Accessed and dirty bits are reported page by page.
    pub access_tracking: bool,
    /// What an MSR that nobody knows does.
    pub unimplemented_msr: HvUnimplementedMsrAction,
    /// Guest physical address bits, if set.
    pub physical_width: u64,
}

/// What setting a property asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyEffect {
    /// Nothing.
    None,
    /// The VPs run, or stop, by [`Partition::suspended`].
    Suspend,
    /// The partition's time stands still, or goes on: the VPs' timers are due at another time of the machine's.
    Time,
}

/// What a child is given when its parent sets these features: what is offered to guests so far. `invariant` says whether the
/// machine's TSCs are one clock of a constant rate ([`Hypervisor::tsc_is_invariant`]).
pub fn child_privileges(
    features: HvPartitionSyntheticProcessorFeatures,
    invariant: bool,
) -> HvPartitionPrivilegeMask {
    use HvPartitionPrivilegeMask as P;
    use HvPartitionSyntheticProcessorFeatures as F;
    // Not ACCESS_PARTITION_ID: a Linux guest that finds it takes itself for a root (`hv_get_partition_id`), and crashes.
    let mut privileges = P::empty();
    for (feature, privilege) in [
        (
            F::ACCESS_PARTITION_REFERENCE_COUNTER,
            P::ACCESS_PARTITION_REFERENCE_COUNTER,
        ),
        (F::ACCESS_HYPERCALL_REGS, P::ACCESS_HYPERCALL_MSRS),
        (F::ACCESS_VP_INDEX, P::ACCESS_VP_INDEX),
        (
            F::ACCESS_PARTITION_REFERENCE_TSC,
            P::ACCESS_PARTITION_REFERENCE_TSC,
        ),
        (F::ACCESS_FREQUENCY_REGS, P::ACCESS_FREQUENCY_MSRS),
        (F::ACCESS_GUEST_IDLE_REG, P::ACCESS_GUEST_IDLE_MSR),
        (F::ACCESS_SYNIC_REGS, P::ACCESS_SYNIC_MSRS),
        (
            F::ACCESS_SYNTHETIC_TIMER_REGS,
            P::ACCESS_SYNTHETIC_TIMER_MSRS,
        ),
        (F::ACCESS_INTR_CTRL_REGS, P::ACCESS_APIC_MSRS),
    ] {
        privileges.set(privilege, features.contains(feature));
    }
    // Who has a SynIC may also send; there is no feature for messages.
    let sends = P::POST_MESSAGES | P::SIGNAL_EVENTS;
    privileges.set(sends, features.contains(F::ACCESS_SYNIC_REGS));
    // Nor for this: who may compute with the TSC may rely on it, on a machine where that is true.
    let computes = features.contains(F::ACCESS_PARTITION_REFERENCE_TSC);
    privileges.set(P::ACCESS_TSC_INVARIANT_CONTROLS, computes && invariant);
    privileges
}

impl Hypervisor {
    /// What a child has whose parent has not said what it is to have.
    pub fn all_child_privileges(&self) -> HvPartitionPrivilegeMask {
        let all = HvPartitionSyntheticProcessorFeatures(u64::MAX);
        child_privileges(all, self.tsc_is_invariant())
    }

    /// HvCallGetPartitionProperty.
    ///
    /// # Errors
    /// UNKNOWN_PROPERTY.
    pub fn property(&self, partition: &Partition, code: Code) -> Result<u64, HvStatus> {
        let kept = &partition.properties;
        Ok(match code {
            Code::PRIVILEGE_FLAGS => partition.privileges.0,
            Code::SYNTHETIC_PROC_FEATURES => partition.features.0,
            Code::SUSPEND => partition.suspended.into(),
            Code::CPU_RESERVE => self.shares(partition).get().reserve.into(),
            Code::CPU_CAP => self.shares(partition).get().cap.into(),
            Code::CPU_WEIGHT => self.shares(partition).get().weight.into(),
            Code::CPU_GROUP_ID => kept.cpu_group,
            Code::TIME_FREEZE => self.clock_of(partition).frozen().is_some().into(),
            Code::APIC_FREQUENCY => TIMER_FREQUENCY,
            Code::REFERENCE_TIME => self.clock_of(partition).time(self.now()).units(),
            Code::PROCESSORS_PER_SOCKET => kept.processors_per_socket,
            Code::GPA_PAGE_ACCESS_TRACKING => kept.access_tracking.into(),
            Code::HYPERCALL_DOORBELL_PAGE => 0,
            Code::UNIMPLEMENTED_MSR_ACTION => u64::from(kept.unimplemented_msr.0),
            Code::PROCESSOR_VENDOR => u64::from(self.capabilities.vendor().0),
            Code::PHYSICAL_ADDRESS_WIDTH | Code::IMPLEMENTED_PHYSICAL_ADDRESS_BITS => {
                match kept.physical_width {
                    0 => u64::from(self.physical_bits),
                    width => width,
                }
            }
            // Beyond x87 and SSE, which every VP has.
            Code::XSAVE_STATES => self.fpu_format.components & !3,
            Code::MAX_XSAVE_DATA_SIZE => self.fpu_format.size as u64,
            Code::PROCESSOR_CLOCK_FREQUENCY => self.tsc_hz,
            // A set bit would say that the machine has a feature and that it can be hidden one by one, which is not
            // offered: children see the list that the CPUID policy has.
            Code::PROCESSOR_FEATURES0 | Code::PROCESSOR_FEATURES1 => 0,
            Code::PROCESSOR_XSAVE_FEATURES => 0,
            Code::PROCESSOR_CL_FLUSH_SIZE => 6,
            Code::COMPATIBILITY_VERSION => u64::from(tlfs::HvCompatibilityVersion::V_21_H2.0),
            Code::GUEST_OS_ID => partition.msrs.guest_os_id,
            _ => return Err(HvStatus::UNKNOWN_PROPERTY),
        })
    }

    /// HvCallSetPartitionProperty on a child.
    ///
    /// # Errors
    /// UNKNOWN_PROPERTY, also for what can only be read; PROPERTY_VALUE_OUT_OF_RANGE; INVALID_PARTITION_STATE for an early
    /// property later than that, and for any once the partition is finalized.
    pub fn set_property(
        &self,
        partition: &mut Partition,
        code: Code,
        value: u64,
    ) -> Result<PropertyEffect, HvStatus> {
        let early = matches!(
            code,
            Code::PRIVILEGE_FLAGS
                | Code::SYNTHETIC_PROC_FEATURES
                | Code::PHYSICAL_ADDRESS_WIDTH
                | Code::HYPERCALL_DOORBELL_PAGE
        );
        let allowed = match partition.state {
            PartitionState::Uninitialized => true,
            PartitionState::Active => !early,
            PartitionState::Finalizing | PartitionState::Finalized => false,
        };
        if !allowed {
            return Err(HvStatus::INVALID_PARTITION_STATE);
        }
        let flag = || in_range(value, 0..=1).map(|value| value != 0);
        match code {
            Code::PRIVILEGE_FLAGS => {
                let all = self.all_child_privileges();
                let asked_for = HvPartitionPrivilegeMask::ACCESS_PARTITION_ID
                    | HvPartitionPrivilegeMask::CREATE_PARTITIONS
                    | HvPartitionPrivilegeMask::ACCESS_RESET_MSR;
                if value & !(all | asked_for).0 != 0 {
                    return Err(HvStatus::PROPERTY_VALUE_OUT_OF_RANGE);
                }
                partition.privileges = HvPartitionPrivilegeMask(value);
            }
            Code::SYNTHETIC_PROC_FEATURES => {
                partition.features = HvPartitionSyntheticProcessorFeatures(value);
                let invariant = self.tsc_is_invariant();
                partition.privileges = child_privileges(partition.features, invariant);
            }
            Code::SUSPEND => {
                partition.suspended = flag()?;
                return Ok(PropertyEffect::Suspend);
            }
            Code::CPU_RESERVE | Code::CPU_CAP | Code::CPU_WEIGHT => {
                self.set_share(partition, code, value)?;
            }
            Code::CPU_GROUP_ID => partition.properties.cpu_group = in_range(value, 0..=0)?,
            Code::TIME_FREEZE => {
                self.freeze(partition, flag()?);
                return Ok(PropertyEffect::Time);
            }
            Code::REFERENCE_TIME => {
                let clock = self.clock_of(partition);
                if clock.frozen().is_none() {
                    return Err(HvStatus::INVALID_PARTITION_STATE);
                }
                // Beyond this a deadline would not be before the end of time.
                let value = in_range(value, 0..=i64::MAX as u64)?;
                clock.freeze(RefTime::from_units(value));
            }
            Code::PROCESSORS_PER_SOCKET => {
                partition.properties.processors_per_socket = in_range(value, 0..=256)?;
            }
            Code::GPA_PAGE_ACCESS_TRACKING => {
                partition.properties.access_tracking = flag()?;
                if let Some(table) = partition.memory.as_mut() {
                    table.set_join(value == 0);
                }
            }
            Code::UNIMPLEMENTED_MSR_ACTION => {
                let action = in_range(value, 0..=1)?;
                partition.properties.unimplemented_msr = HvUnimplementedMsrAction(action as u32);
            }
            Code::PHYSICAL_ADDRESS_WIDTH => {
                let width = in_range(value, 32..=u64::from(self.physical_bits))?;
                partition.properties.physical_width = width;
            }
            _ => return Err(HvStatus::UNKNOWN_PROPERTY),
        }
        Ok(PropertyEffect::None)
    }

    /// What each VP of a partition gets of a processor.
    fn shares(&self, partition: &Partition) -> &SharesCell {
        &self.partitions.entry(partition.slot).shares
    }

    /// CpuWeight, CpuCap and CpuReserve: for all VPs at once, from the next time on that their processors choose.
    ///
    /// # Errors
    /// PROPERTY_VALUE_OUT_OF_RANGE, also for a reserve above the cap, and for one that, with those of all other VPs, is more
    /// than the processors are (ff538568, ff539146).
    fn set_share(&self, partition: &Partition, code: Code, value: u64) -> Result<(), HvStatus> {
        const WHOLE: u64 = sched::WHOLE as u64;
        let cell = self.shares(partition);
        let old = cell.get();
        let mut shares = old;
        match code {
            Code::CPU_WEIGHT => {
                shares.weight = in_range(value, 1..=Shares::MAX_WEIGHT.into())? as u16;
            }
            Code::CPU_CAP => shares.cap = in_range(value, old.reserve.into()..=WHOLE)? as u32,
            _ => {
                shares.reserve = in_range(value, 0..=old.cap.into())? as u32;
                let vps = u64::from(partition.vp_count);
                let [less, more] = [old, shares].map(|shares| vps * u64::from(shares.reserve));
                let changed = self.reserves.change(less, more);
                changed.map_err(|TooMuch| HvStatus::PROPERTY_VALUE_OUT_OF_RANGE)?;
            }
        }
        cell.set(shares);
        Ok(())
    }

    /// A partition's reference time.
    fn clock_of(&self, partition: &Partition) -> &PartitionClock {
        &self.partitions.entry(partition.slot).clock
    }

    /// Stops a partition's reference time, or lets it go on from where it is.
    fn freeze(&self, partition: &mut Partition, freeze: bool) {
        let (clock, now) = (self.clock_of(partition), self.now());
        if freeze {
            clock.freeze(clock.time(now));
        } else {
            clock.resume(now);
        }
        self.publish_clock(partition);
    }
}

fn in_range(value: u64, range: core::ops::RangeInclusive<u64>) -> Result<u64, HvStatus> {
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(HvStatus::PROPERTY_VALUE_OUT_OF_RANGE)
    }
}
