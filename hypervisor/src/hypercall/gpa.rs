//! The GPA space of a partition (root sheet A.3.3).

use tlfs::stats::partition as counter;
use tlfs::{
    HV_LARGE_PAGE_PAGES, HvInputMapGpaPages, HvInputUnmapGpaPages, HvMapGpaFlags as Flags,
    HvPartitionCreationFlags, HvStatus, HvUnmapGpaFlags,
};

use super::Call;
use crate::apic;
use crate::mem::addr::{Gpfn, Spfn};
use crate::mem::format::{MemoryType, Rights};
use crate::partition::memory::Mapping;
use crate::partition::{Partition, PartitionState};

/// Flags that have a meaning here. ADJUSTABLE is a promise that needs no keeping: rights can always change.
const KNOWN: u32 = Flags::PERMISSIONS_MASK.0
    | Flags::ADJUSTABLE.0
    | Flags::NO_ACCESS.0
    | Flags::NO_OVERLAY.0
    | Flags::NOT_CACHED.0
    | Flags::LARGE_PAGE.0;

/// Rights and memory type of a mapping. `None`: a page without access.
fn decode(flags: Flags) -> Result<Option<(Rights, MemoryType)>, HvStatus> {
    if flags.0 & !KNOWN != 0 {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    if flags.contains(Flags::NO_ACCESS) {
        return Ok(None);
    }
    let executable = flags & Flags::EXECUTABLE;
    let whole = executable.0 == 0 || executable == Flags::EXECUTABLE;
    if !flags.contains(Flags::READABLE) || !whole {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let mut rights = Rights::READ;
    rights.set(Rights::WRITE, flags.contains(Flags::WRITABLE));
    rights.set(Rights::EXECUTE, executable.0 != 0);
    let memory_type = if flags.contains(Flags::NOT_CACHED) {
        MemoryType::Uncacheable
    } else {
        MemoryType::WriteBack
    };
    Ok(Some((rights, memory_type)))
}

/// Pages of an element.
fn step(large: bool) -> u64 {
    if large { HV_LARGE_PAGE_PAGES } else { 1 }
}

/// Element `index` of a range that starts at `base`.
fn place(base: u64, index: usize, pages: u64) -> Result<Gpfn, HvStatus> {
    (index as u64)
        .checked_mul(pages)
        .and_then(|offset| base.checked_add(offset))
        .map(Gpfn)
        .ok_or(HvStatus::INVALID_PARAMETER)
}

/// HvCallMapGpaPages.
pub fn map(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let clock = call.clock();
    let input: HvInputMapGpaPages = call.input();
    let mut child = call.child(input.target_partition_id)?;
    if child.state != PartitionState::Active {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    let access = decode(input.map_flags)?;
    let large = input.map_flags.contains(Flags::LARGE_PAGE);
    let pages = step(large);
    let allowed = child
        .flags
        .contains(HvPartitionCreationFlags::GPA_SUPER_PAGES_ENABLED);
    if large && (!allowed || !input.target_gpa_base.is_multiple_of(pages)) {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let mut result = Ok(());
    for index in call.reps() {
        let time = || clock.has_time();
        let complete = map_element(call, &mut child, &input, access, index, time);
        result = complete.map(drop);
        if complete != Ok(true) {
            break;
        }
        call.done += 1;
        if !clock.has_time() {
            break;
        }
    }
    call.hv().shoot_down(child.slot);
    child.stats.count(counter::GPA_SPACE_MODIFICATIONS);
    count_pages(call, &child);
    result
}

/// False if a part of it is left.
fn map_element(
    call: &Call<'_>,
    child: &mut Partition,
    input: &HvInputMapGpaPages,
    access: Option<(Rights, MemoryType)>,
    index: usize,
    time: impl Fn() -> bool,
) -> Result<bool, HvStatus> {
    let large = input.map_flags.contains(Flags::LARGE_PAGE);
    let pages = step(large);
    let first = place(input.target_gpa_base, index, pages)?;
    // Else the page would show instead of the registers: the APIC goes before memory, as on hardware.
    let range = first.0..first.0.saturating_add(pages);
    if child.has_lapic() && range.contains(&apic::PAGE.0) {
        return Err(HvStatus::OPERATION_DENIED);
    }
    let source: u64 = call.element(index);
    let mapping = match access {
        Some((rights, memory_type)) => {
            // A multiple of the page's size, and the range it names ends somewhere.
            if !source.is_multiple_of(pages) || source.checked_add(pages).is_none() {
                return Err(HvStatus::INVALID_PARAMETER);
            }
            Mapping {
                source: Some(Spfn(source)),
                rights,
                memory_type,
            }
        }
        None => Mapping {
            source: None,
            rights: Rights::empty(),
            memory_type: MemoryType::WriteBack,
        },
    };
    if large {
        call.hv().map_large(child, first, &mapping, time)
    } else {
        call.hv().map_child(child, first, pages, &mapping)?;
        Ok(true)
    }
}

/// HvCallUnmapGpaPages. Pages that are not mapped count as done.
pub fn unmap(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let clock = call.clock();
    let input: HvInputUnmapGpaPages = call.input();
    let mut child = call.child(input.target_partition_id)?;
    let known = HvUnmapGpaFlags::KEEP_PRECOMMITTED.0 | HvUnmapGpaFlags::LARGE_PAGE.0;
    let large = input.unmap_flags.contains(HvUnmapGpaFlags::LARGE_PAGE);
    let pages = step(large);
    let aligned = !large || input.target_gpa_base.is_multiple_of(pages);
    if input.unmap_flags.0 & !known != 0 || !aligned {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    if child.state == PartitionState::Uninitialized {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    let hv = call.hv();
    let mut result = Ok(());
    for index in call.reps() {
        let first = place(input.target_gpa_base, index, pages);
        result = first.and_then(|first| hv.unmap_child(&mut child, first, pages));
        if result.is_err() {
            break;
        }
        call.done += 1;
        if !clock.has_time() {
            break;
        }
    }
    hv.shoot_down(child.slot);
    child.stats.count(counter::GPA_SPACE_MODIFICATIONS);
    count_pages(call, &child);
    result
}

fn count_pages(call: &Call<'_>, child: &Partition) {
    if let Ok(counts) = call.hv().frames.lock().slot_counts(child.slot) {
        child.stats.set(counter::GPA_PAGES, counts.child_ram);
    }
    child.count_mappings();
}
