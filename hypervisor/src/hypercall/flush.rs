//! TLB flushes and interrupts for sets of VPs (guest sheet 6.3 to 6.5).
//!
//! A flush is made as a shootdown of the caller's whole partition: more is flushed than was asked for, which is always allowed,
//! and no address has to be looked at. One that concerns the caller alone leaves the others in peace.

use core::sync::atomic::Ordering;

use tlfs::{
    HV_GENERIC_SET_MAX_BANKS, HV_IPI_HIGH_VECTOR, HV_IPI_LOW_VECTOR, HvFlushFlags,
    HvGenericSetFormat, HvInputFlushVirtualAddressSpace, HvInputFlushVirtualAddressSpaceEx,
    HvInputNotifyLongSpinWait, HvInputSendSyntheticClusterIpi, HvInputSendSyntheticClusterIpiEx,
    HvOutputQueryCapabilities, HvStatus, HvVpSetHeader,
};

use super::Call;
use crate::apic::{Delivery, Trigger};
use crate::partition::table::VpPlace;
use crate::partition::{MAX_VPS, VpRef};

/// VPs of the caller's partition, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct VpMask(u64);

impl VpMask {
    const ALL: Self = Self((1 << MAX_VPS) - 1);

    /// A mask of VPs 0 to 63.
    ///
    /// # Errors
    /// INVALID_PARAMETER for a VP that no partition can have.
    const fn of(mask: u64) -> Result<Self, HvStatus> {
        if mask & !Self::ALL.0 == 0 {
            Ok(Self(mask))
        } else {
            Err(HvStatus::INVALID_PARAMETER)
        }
    }

    /// A set with its banks (guest sheet 6.3). A bank that is named and not there is an error, and so is a VP that no
    /// partition can have.
    fn of_set(header: &HvVpSetHeader, banks: &[u8]) -> Result<Self, HvStatus> {
        match header.format {
            HvGenericSetFormat::ALL => return Ok(Self::ALL),
            HvGenericSetFormat::SPARSE_4K => {}
            _ => return Err(HvStatus::INVALID_PARAMETER),
        }
        if banks.len() != 8 * header.bank_count() {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        let mut words = [0; HV_GENERIC_SET_MAX_BANKS];
        for (word, bytes) in words.iter_mut().zip(banks.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        header.sparse_vps(&words).try_fold(Self(0), |mask, vp| {
            let bit = 1_u64.checked_shl(vp).unwrap_or(!Self::ALL.0);
            Self::of(mask.0 | bit)
        })
    }

    const fn has(self, index: u16) -> bool {
        self.0 >> index & 1 != 0
    }
}

/// HvCallFlushVirtualAddressSpace, and HvCallFlushVirtualAddressList: what the list names is a part of what is flushed.
pub fn address_space(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputFlushVirtualAddressSpace = call.input();
    let mask = if input.flags.contains(HvFlushFlags::ALL_PROCESSORS) {
        VpMask::ALL
    } else {
        VpMask::of(input.processor_mask)?
    };
    flush(call, input.flags, mask)
}

/// The same with a set of VPs.
pub fn address_space_ex(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputFlushVirtualAddressSpaceEx = call.input();
    let set = VpMask::of_set(&input.processor_set, call.variable())?;
    let mask = if input.flags.contains(HvFlushFlags::ALL_PROCESSORS) {
        VpMask::ALL
    } else {
        set
    };
    flush(call, input.flags, mask)
}

fn flush(call: &mut Call<'_>, flags: HvFlushFlags, mask: VpMask) -> Result<(), HvStatus> {
    let known = HvFlushFlags::ALL_PROCESSORS
        | HvFlushFlags::ALL_VIRTUAL_ADDRESS_SPACES
        | HvFlushFlags::NON_GLOBAL_MAPPINGS_ONLY;
    if flags.0 & !known.0 != 0 {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let who = call.vp.who;
    let own = mask.has(who.index);
    let others = VpMask(mask.0 & !(1 << who.index));
    if others.0 != 0 {
        if is_locked(call, others) {
            return Ok(());
        }
        call.hv().flush(who.slot);
        // One that was locked meanwhile goes by what was true before; one that will be does not.
        if is_locked(call, others) {
            return Ok(());
        }
    } else if own {
        call.vp.tag.invalidate();
    }
    call.done = call.reps().end.max(call.done);
    Ok(())
}

/// Whether the parent of one of these VPs goes by its translations: then the caller waits, by executing the call again, and
/// whoever has something to do goes first.
fn is_locked(call: &mut Call<'_>, mask: VpMask) -> bool {
    let locked = call.vp.home.tlb_locked.load(Ordering::SeqCst);
    call.busy = mask.0 & u64::from(locked) != 0;
    call.cpu.reschedule |= call.busy;
    call.busy
}

/// HvCallSendSyntheticClusterIpi.
pub fn send_ipi(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputSendSyntheticClusterIpi = call.input();
    if !input.target_vtl.is_vtl0() || input.reserved != [0; 3] {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    send(call, input.vector, VpMask::of(input.processor_mask)?, false)
}

/// The same with a set of VPs.
pub fn send_ipi_ex(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputSendSyntheticClusterIpiEx = call.input();
    if !input.target_vtl.is_vtl0() || input.reserved != [0; 3] {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let mask = VpMask::of_set(&input.processor_set, call.variable())?;
    let all = input.processor_set.format == HvGenericSetFormat::ALL;
    send(call, input.vector, mask, all)
}

/// An interrupt for each VP of a mask. `all` means those that there are; else one that there is not fails the call before
/// any has got it.
fn send(call: &mut Call<'_>, vector: u32, mask: VpMask, all: bool) -> Result<(), HvStatus> {
    if !(HV_IPI_LOW_VECTOR..=HV_IPI_HIGH_VECTOR).contains(&vector) {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let (hv, slot) = (call.hv(), call.vp.who.slot);
    let named = || VpRef::all(slot).filter(|who| mask.has(who.index));
    let absent = |who: VpRef| matches!(*hv.partitions.vp(who).lock(), VpPlace::Absent);
    if !all && named().any(absent) {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let delivery = Delivery::Fixed {
        vector: vector as u8,
        trigger: Trigger::Edge,
    };
    for to in named() {
        // Of all, those that are there.
        call.cpu.deliver(call.vp, to, delivery);
    }
    Ok(())
}

/// HvCallNotifyLongSpinWait: whoever the caller waits for may need its processor.
pub fn long_spin_wait(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let _: HvInputNotifyLongSpinWait = call.input();
    call.cpu.reschedule = true;
    Ok(())
}

/// HvExtCallQueryCapabilities: there are none.
pub fn query_capabilities(call: &mut Call<'_>) -> Result<(), HvStatus> {
    call.put(&HvOutputQueryCapabilities::default());
    Ok(())
}
