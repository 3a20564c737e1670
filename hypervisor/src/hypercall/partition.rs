//! Life cycle and properties of partitions (root sheet A.3.1).

use tlfs::stats::hypervisor as counter;
use tlfs::{
    HvInputCreatePartition, HvInputGetNextChildPartition, HvInputGetPartitionProperty,
    HvInputGetPartitionPropertyEx, HvInputPartition, HvInputSetPartitionProperty,
    HvOutputGetNextChildPartition, HvOutputGetPartitionProperty, HvOutputPartitionId,
    HvPartitionCreationFlags as Flags, HvPartitionId, HvPartitionPropertyCode,
    HvPartitionPropertyVmmCapabilities, HvStatus,
};

use super::Call;
use super::vp::remove_vp;
use crate::intercept::{PORT_MAP_PAGES, PortMap};
use crate::log::events::{Event, record};
use crate::mem::frames::PartitionSlot;
use crate::mem::page_box::PageBox;
use crate::mem::table::SecondLevelTable;
use crate::partition::overlay::{Overlay, Overlays};
use crate::partition::properties::PropertyEffect;
use crate::partition::table::PartitionGuard;
use crate::partition::vp::in_page;
use crate::partition::{MAX_PARTITIONS, Partition, PartitionState, VpRef};
use crate::stats::StatsPage;

/// Pages of the root's pool that a partition takes.
const PARTITION_PAGES: u64 = 2;
/// Table entries that FinalizePartition looks at before it looks at the clock: each may be a page whose owner has to be told.
const TEARDOWN_STEP: u64 = 128;

/// Flags that a partition can be created with.
const OFFERED: Flags = Flags::SMT_ENABLED_GUEST
    .union(Flags::GPA_SUPER_PAGES_ENABLED)
    .union(Flags::EXO_PARTITION)
    .union(Flags::LAPIC_ENABLED)
    .union(Flags::INTERCEPT_MESSAGE_PAGE_ENABLED)
    .union(Flags::X2APIC_CAPABLE);
/// Flags that it must be created with: there is one way to deliver intercepts.
const REQUIRED: Flags = Flags::EXO_PARTITION.union(Flags::INTERCEPT_MESSAGE_PAGE_ENABLED);

/// HvCallCreatePartition.
pub fn create(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputCreatePartition = call.input();
    if !call.is_root() {
        return Err(HvStatus::PARTITION_TOO_DEEP);
    }
    let flags = input.flags;
    let offered = flags.0 & !OFFERED.0 == 0 && flags.contains(REQUIRED);
    if !offered || input.isolation_properties != 0 {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    if input.proximity_domain_info.domain_id != 0 {
        return Err(HvStatus::INVALID_PROXIMITY_DOMAIN_INFO);
    }
    let hv = call.hv();
    let (slot, place) = (1..MAX_PARTITIONS as u16)
        .map(PartitionSlot)
        .find_map(|slot| Some((slot, hv.partitions.entry(slot).claim()?)))
        .ok_or(HvStatus::NO_RESOURCES)?;
    hv.require(PartitionSlot::ROOT, PARTITION_PAGES)?;
    let id = hv.new_id(slot);
    // Another processor may be faster with the pages that were there.
    let object = hv.allocate(PartitionSlot::ROOT)?;
    let stats = match hv.place(PartitionSlot::ROOT, StatsPage::new()) {
        Ok(stats) => stats,
        Err(status) => {
            hv.release(PartitionSlot::ROOT, object);
            return Err(status);
        }
    };
    stats.set(tlfs::stats::partition::PARTITION_ID, id.0);
    let partition = Partition::new(id, slot, flags, hv.all_child_privileges(), stats);
    place.put(in_page(hv, object, partition), hv.now());
    hv.stats.add(counter::PARTITIONS, 1);
    record(
        hv.now().units(),
        Event::PartitionCreated { partition: id.0 },
    );
    call.put(&HvOutputPartitionId { partition_id: id });
    Ok(())
}

/// HvCallInitializePartition.
pub fn initialize(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputPartition = call.input();
    let mut child = call.child(input.partition_id)?;
    if child.state != PartitionState::Uninitialized {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    let hv = call.hv();
    let slot = child.slot;
    hv.require(slot, 1 + PORT_MAP_PAGES as u64 + Overlays::PAGES)?;
    let table = hv.with_child_source(slot, |source| {
        SecondLevelTable::new(hv.child_format, hv.phys, source)
    });
    child.memory = Some(table.map_err(|_| HvStatus::INSUFFICIENT_MEMORY)?);
    let ports = [
        hv.allocate(slot)?,
        hv.allocate(slot)?,
        hv.allocate(slot)?,
        hv.allocate(slot)?,
    ];
    child.intercepts.ports = Some(PortMap::new(hv.phys, ports));
    child.overlays = Overlays::new(hv, slot)?;
    hv.publish_clock(&mut child);
    child.state = PartitionState::Active;
    Ok(())
}

/// HvCallFinalizePartition: at first the VPs, then the memory, a part at each execution.
pub fn finalize(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputPartition = call.input();
    let mut child = call.child(input.partition_id)?;
    match child.state {
        // From now on no overlay is laid anywhere.
        PartitionState::Active => child.state = PartitionState::Finalizing,
        PartitionState::Finalizing => {}
        PartitionState::Uninitialized | PartitionState::Finalized => {
            return Err(HvStatus::INVALID_PARTITION_STATE);
        }
    }
    call.again = true;
    if child.overlays.any() {
        // What is left in the tables then is the root's memory. Taking the overlays away needs none.
        remove_overlays(call, &mut child);
    } else if child.vp_count != 0 {
        // Other processors may have to let some go first.
        remove_vps(call, &mut child);
    } else {
        let ended = super::port::end_some(call, &child);
        call.again = !(ended && free_memory(call, &mut child));
    }
    Ok(())
}

/// Takes overlays away while there is time. Nobody uses those that are gone when this returns, so their pages can be freed.
fn remove_overlays(call: &Call<'_>, child: &mut Partition) {
    let (clock, hv) = (call.clock(), call.hv());
    for overlay in Overlay::all() {
        hv.remove_overlay(child, overlay);
        if !clock.has_time() {
            break;
        }
    }
    hv.shoot_down(child.slot);
}

fn remove_vps(call: &mut Call<'_>, child: &mut Partition) {
    for who in VpRef::all(child.slot) {
        remove_vp(call, child, who);
    }
}

/// Frees a part of a partition's memory; true at the end, when all its pool is available.
fn free_memory(call: &Call<'_>, child: &mut Partition) -> bool {
    let clock = call.clock();
    let hv = call.hv();
    let slot = child.slot;
    let done = match child.memory.as_mut() {
        Some(table) => hv.with_child_source(slot, |source| {
            loop {
                let done = table.free_some(source, TEARDOWN_STEP);
                if done || !clock.has_time() {
                    return done;
                }
            }
        }),
        None => true,
    };
    if done {
        child.overlays.release(hv, slot);
        if let Some(ports) = child.intercepts.ports.take() {
            for frame in ports.into_frames() {
                hv.release(slot, frame);
            }
        }
        if let Some(table) = child.memory.take() {
            hv.with_child_source(slot, |source| table.release_root(source));
        }
        child.state = PartitionState::Finalized;
    }
    hv.shoot_down(slot);
    done
}

/// HvCallDeletePartition.
pub fn delete(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputPartition = call.input();
    let child = call.child(input.partition_id)?;
    let deletable = [PartitionState::Uninitialized, PartitionState::Finalized];
    if !deletable.contains(&child.state) {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    let hv = call.hv();
    let counts = hv.frames.lock().slot_counts(child.slot);
    if counts.is_ok_and(|counts| counts.total() != 0) {
        return Err(HvStatus::OPERATION_DENIED);
    }
    let id = child.id;
    if child.stats_mapped {
        super::stats::unshare(hv, Some(PartitionSlot::ROOT), child.stats.spfn());
    }
    if let Some(partition) = child.take() {
        let (partition, frame) = PageBox::into_parts(partition);
        hv.release(PartitionSlot::ROOT, partition.stats.into_frame());
        hv.release(PartitionSlot::ROOT, frame);
    }
    hv.stats.add(counter::PARTITIONS, 1_u64.wrapping_neg());
    record(
        hv.now().units(),
        Event::PartitionDeleted { partition: id.0 },
    );
    Ok(())
}

/// HvCallGetPartitionId.
pub fn get_id(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let partition_id = call.caller;
    call.put(&HvOutputPartitionId { partition_id });
    Ok(())
}

/// HvCallGetNextChildPartition: in the order of the places, which a partition keeps.
pub fn get_next_child(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputGetNextChildPartition = call.input();
    if !call.is_root() {
        // Only the root can have children.
        return Err(HvStatus::ACCESS_DENIED);
    }
    if call.target(input.parent_id)?.is_root() {
        let hv = call.hv();
        let after = match input.previous_child_id {
            HvPartitionId::INVALID => 0,
            previous => hv.partitions.lookup(previous)?.slot.0,
        };
        let next = (after + 1..MAX_PARTITIONS as u16)
            .map(PartitionSlot)
            .find_map(|slot| {
                let entry = hv.partitions.entry(slot);
                PartitionGuard::lock(entry).map(|partition| partition.id)
            });
        let next_child_id = next.unwrap_or(HvPartitionId::INVALID);
        call.put(&HvOutputGetNextChildPartition { next_child_id });
    } else {
        call.put(&HvOutputGetNextChildPartition::default());
    }
    Ok(())
}

/// HvCallGetPartitionProperty.
pub fn get_property(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputGetPartitionProperty = call.input();
    let target = call.target(input.partition_id)?;
    let property_value = call.hv().property(&target, input.property_code)?;
    call.put(&HvOutputGetPartitionProperty { property_value });
    Ok(())
}

/// HvCallGetPartitionPropertyEx.
pub fn get_property_ex(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputGetPartitionPropertyEx = call.input();
    let target = call.target(input.partition_id)?;
    if input.property_code == HvPartitionPropertyCode::VMM_CAPABILITIES {
        // None of the capabilities is offered (root sheet D.1).
        call.put(&HvPartitionPropertyVmmCapabilities {
            bank_count: 1,
            ..Default::default()
        });
        return Ok(());
    }
    let property_value = call.hv().property(&target, input.property_code)?;
    call.put(&HvOutputGetPartitionProperty { property_value });
    Ok(())
}

/// HvCallSetPartitionProperty.
pub fn set_property(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputSetPartitionProperty = call.input();
    let mut child = call.child(input.partition_id)?;
    let hv = call.hv();
    let effect = hv.set_property(&mut child, input.property_code, input.property_value)?;
    let (slot, suspended) = (child.slot, child.suspended);
    drop(child);
    if effect == PropertyEffect::Time {
        VpRef::all(slot).for_each(|who| call.cpu.retime(who));
    }
    if effect == PropertyEffect::Suspend {
        for who in VpRef::all(slot) {
            let found = call.with_vp(who, |vp| {
                vp.suspend.partition = suspended;
                (vp.turns(), vp.wanted())
            });
            match found {
                Ok((turns, _)) if suspended => call.cpu.park(turns),
                Ok((_, wanted)) => call.cpu.wake_wanted(wanted),
                Err(_) => {}
            }
        }
    }
    Ok(())
}
