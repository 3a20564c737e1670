//! Bulk state of a VP: HvCallGetVpState and HvCallSetVpState (root sheet A.3.5).
//!
//! The caller moves the bytes, through the parent's pages or in the call itself; here they are one slice, which nobody else
//! changes. The VP's floating point state is in memory.

use tlfs::{HvGetSetVpStateType as Kind, HvStatus, HvSyntheticTimersState, HvVpStateData};
use zerocopy::{FromBytes, IntoBytes};

use super::registers::SetEffect;
use super::{Partition, Vp};
use crate::apic::LapicState;
use crate::hv::Hypervisor;
use crate::mem::addr::{PAGE_SIZE, Spa};
use crate::synic::SynicEffect;

/// Bytes of the state of all synthetic timers.
const TIMERS_SIZE: usize = size_of::<HvSyntheticTimersState>();
const PAGE: usize = PAGE_SIZE as usize;
/// SIM and SIEF page have to do with every SINT.
const ALL_SINTS: u16 = u16::MAX;

/// Saves a state into `out`, which may be longer. Returns how many bytes it takes.
///
/// # Errors
/// INVALID_VP_STATE for a VP that is not suspended; INVALID_PARAMETER for a state that there is not, here or at all;
/// INVALID_SYNIC_STATE for a page of a SynIC that is absent or off; INSUFFICIENT_BUFFER.
pub fn save(
    hypervisor: &Hypervisor,
    partition: &Partition,
    vp: &Vp,
    data: &HvVpStateData,
    out: &mut [u8],
) -> Result<usize, HvStatus> {
    require_stopped(partition, vp)?;
    match data.state_type {
        Kind::LOCAL_INTERRUPT_CONTROLLER_STATE => {
            require_lapic(partition)?;
            put(out, &vp.apic.save(hypervisor.now()).to_bytes())
        }
        Kind::XSAVE => {
            require_no_flags(data)?;
            vp.fpu
                .save_compacted(data.xsave_states, out)
                .ok_or(HvStatus::INSUFFICIENT_BUFFER)
        }
        Kind::SYNTHETIC_MESSAGE_PAGE | Kind::SYNTHETIC_EVENT_FLAGS_PAGE => {
            let page = synic_page(hypervisor, vp, data.state_type)?;
            let out = out.get_mut(..PAGE).ok_or(HvStatus::INSUFFICIENT_BUFFER)?;
            let copied = hypervisor.phys.copy_from(page, out);
            copied.map_err(|_| HvStatus::INVALID_SYNIC_STATE)?;
            Ok(PAGE)
        }
        Kind::SYNTHETIC_TIMERS => put(out, vp.stimers.save().as_bytes()),
        _ => Err(HvStatus::INVALID_PARAMETER),
    }
}

/// Loads a state. `bytes` may be longer than it. A register page is to be published after XSAVE.
///
/// # Errors
/// As [`save`]; INVALID_PARAMETER also for too few bytes, INVALID_REGISTER_VALUE for a state that no VP can have. Nothing
/// has changed then.
pub fn restore(
    hypervisor: &Hypervisor,
    partition: &Partition,
    vp: &mut Vp,
    data: &HvVpStateData,
    bytes: &[u8],
) -> Result<SetEffect, HvStatus> {
    require_stopped(partition, vp)?;
    match data.state_type {
        Kind::LOCAL_INTERRUPT_CONTROLLER_STATE => {
            require_lapic(partition)?;
            let bytes = bytes.first_chunk().ok_or(HvStatus::INVALID_PARAMETER)?;
            if !vp.apic.base().is_enabled() {
                // It has no state, and could not keep this one.
                return Err(HvStatus::INVALID_VP_STATE);
            }
            vp.require_eoi();
            vp.apic
                .restore(&LapicState::from_bytes(bytes), hypervisor.now());
            Ok(SetEffect::TimerChanged)
        }
        Kind::XSAVE => {
            require_no_flags(data)?;
            let size = vp.fpu.format().compacted_size(0);
            if bytes.len() < size {
                return Err(HvStatus::INVALID_PARAMETER);
            }
            let loaded = vp.fpu.load_compacted(bytes);
            loaded.map_err(|_| HvStatus::INVALID_REGISTER_VALUE)?;
            Ok(SetEffect::None)
        }
        Kind::SYNTHETIC_MESSAGE_PAGE | Kind::SYNTHETIC_EVENT_FLAGS_PAGE => {
            let page = synic_page(hypervisor, vp, data.state_type)?;
            let bytes = bytes.get(..PAGE).ok_or(HvStatus::INVALID_PARAMETER)?;
            let copied = hypervisor.phys.copy_to(page, bytes);
            copied.map_err(|_| HvStatus::INVALID_SYNIC_STATE)?;
            Ok(SetEffect::Synic(SynicEffect::Retry(ALL_SINTS)))
        }
        Kind::SYNTHETIC_TIMERS => {
            let bytes = bytes
                .get(..TIMERS_SIZE)
                .ok_or(HvStatus::INVALID_PARAMETER)?;
            let state = HvSyntheticTimersState::read_from_bytes(bytes);
            let state = state.map_err(|_| HvStatus::INVALID_PARAMETER)?;
            let restored = vp.stimers.restore(&state);
            restored.map_err(|_| HvStatus::INVALID_REGISTER_VALUE)?;
            Ok(SetEffect::TimerChanged)
        }
        _ => Err(HvStatus::INVALID_PARAMETER),
    }
}

fn require_stopped(partition: &Partition, vp: &Vp) -> Result<(), HvStatus> {
    if vp.is_suspended() || partition.suspended {
        Ok(())
    } else {
        Err(HvStatus::INVALID_VP_STATE)
    }
}

fn require_lapic(partition: &Partition) -> Result<(), HvStatus> {
    if partition.has_lapic() {
        Ok(())
    } else {
        Err(HvStatus::INVALID_PARAMETER)
    }
}

/// No flag is known: one that is set would be ignored to the caller's surprise.
fn require_no_flags(data: &HvVpStateData) -> Result<(), HvStatus> {
    if data.xsave_flags == 0 {
        Ok(())
    } else {
        Err(HvStatus::INVALID_PARAMETER)
    }
}

/// Copies a state to where it goes.
fn put(out: &mut [u8], state: &[u8]) -> Result<usize, HvStatus> {
    out.get_mut(..state.len())
        .ok_or(HvStatus::INSUFFICIENT_BUFFER)?
        .copy_from_slice(state);
    Ok(state.len())
}

/// Where a page of the VP's SynIC lies, if it is on.
fn synic_page(hypervisor: &Hypervisor, vp: &Vp, kind: Kind) -> Result<Spa, HvStatus> {
    let page = hypervisor.with_synic(vp.who, |synic| {
        let [messages, event_flags] = synic.frames();
        let registers = synic.registers();
        let (on, frame) = match kind {
            Kind::SYNTHETIC_MESSAGE_PAGE => (registers.message_page(), messages),
            _ => (registers.event_flags_page(), event_flags),
        };
        on.map(|_| frame.address())
    });
    page.flatten().ok_or(HvStatus::INVALID_SYNIC_STATE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apic::Register;
    use crate::hv::testing::{LINUX_CHILD, Machine};
    use crate::mem::addr::Gpfn;
    use tlfs::{HvPartitionCreationFlags, HvPartitionId};

    /// A child with a VP on a machine of each vendor.
    fn children() -> impl Iterator<Item = (Machine, HvPartitionId)> {
        Machine::each().map(|mut machine| {
            let (id, _) = machine.child_with_vp();
            (machine, id)
        })
    }

    fn data(state_type: Kind) -> HvVpStateData {
        HvVpStateData {
            state_type,
            xsave_states: u64::MAX,
            ..Default::default()
        }
    }

    const KINDS: [Kind; 5] = [
        Kind::LOCAL_INTERRUPT_CONTROLLER_STATE,
        Kind::XSAVE,
        Kind::SYNTHETIC_MESSAGE_PAGE,
        Kind::SYNTHETIC_EVENT_FLAGS_PAGE,
        Kind::SYNTHETIC_TIMERS,
    ];

    fn saved(machine: &Machine, id: HvPartitionId, kind: Kind) -> Vec<u8> {
        machine.with_vp(id, 0, |partition, vp| {
            let mut out = vec![0xEE; 4096];
            let length = save(machine, partition, vp, &data(kind), &mut out).unwrap();
            assert!(out[length..].iter().all(|&byte| byte == 0xEE));
            out.truncate(length);
            out
        })
    }

    fn load(
        machine: &Machine,
        id: HvPartitionId,
        kind: Kind,
        bytes: &[u8],
    ) -> Result<SetEffect, HvStatus> {
        machine.with_vp(id, 0, |partition, vp| {
            restore(machine, partition, vp, &data(kind), bytes)
        })
    }

    #[test]
    fn a_local_apic_moves_to_another_processor() {
        for (machine, id) in children() {
            machine.add_vp(id, 1);
            let kind = Kind::LOCAL_INTERRUPT_CONTROLLER_STATE;
            machine.with_vp(id, 0, |_, vp| {
                let now = machine.now();
                for (register, value) in [
                    (Register::SpuriousVector, 0x1FF),
                    (Register::InterruptRequest(2), 0x10),
                    (Register::DivideConfiguration, 0xB),
                ] {
                    vp.apic.set_register(register, value, now).unwrap();
                }
            });
            let state = saved(&machine, id, kind);
            assert_eq!(state.len(), 176);
            machine.with_vp(id, 1, |partition, vp| {
                let done = restore(&machine, partition, vp, &data(kind), &state);
                assert_eq!(done, Ok(SetEffect::TimerChanged));
                assert_eq!(vp.apic.highest_request(), Some(0x44));
                assert_eq!(vp.apic.id(), 1, "identity stays");
            });
        }
    }

    #[test]
    fn floating_point_state_comes_back() {
        for (machine, id) in children() {
            machine.with_vp(id, 0, |_, vp| assert!(vp.fpu.set_xmm(9, 0x1234)));
            let state = saved(&machine, id, Kind::XSAVE);
            assert_eq!(state[512], 3, "x87 and SSE are present");
            machine.with_vp(id, 0, |_, vp| vp.fpu.reset());
            assert_eq!(load(&machine, id, Kind::XSAVE, &state), Ok(SetEffect::None));
            machine.with_vp(id, 0, |_, vp| assert_eq!(vp.fpu.xmm(9), Some(0x1234)));
            let mut bad = state.clone();
            bad[527] = 0xFF;
            assert_eq!(
                load(&machine, id, Kind::XSAVE, &bad),
                Err(HvStatus::INVALID_REGISTER_VALUE)
            );
        }
    }

    #[test]
    fn synthetic_timers_come_back() {
        const CONFIG: u32 = tlfs::HV_X64_MSR_STIMER0_CONFIG;
        for (machine, id) in children() {
            let kind = Kind::SYNTHETIC_TIMERS;
            let reset = saved(&machine, id, kind);
            assert_eq!(reset, [0; 200]);
            machine.with_vp(id, 0, |_, vp| {
                vp.stimers.write(CONFIG, 0x1ED9, machine.now()).unwrap();
                let count = vp.stimers.write(CONFIG + 1, 1 << 40, machine.now());
                assert!(count.is_ok());
            });
            let mut state = saved(&machine, id, kind);
            let changed = Ok(SetEffect::TimerChanged);
            assert_eq!(load(&machine, id, kind, &reset), changed);
            assert_eq!(saved(&machine, id, kind), reset);
            assert_eq!(load(&machine, id, kind, &state), changed);
            assert_eq!(saved(&machine, id, kind), state);
            // A reserved bit of the configuration.
            state[15] = 1;
            let refused = load(&machine, id, kind, &state);
            assert_eq!(refused, Err(HvStatus::INVALID_REGISTER_VALUE));
        }
    }

    #[test]
    fn a_synic_page_is_saved_and_loaded_while_it_is_on() {
        for (machine, id) in children() {
            let kind = Kind::SYNTHETIC_MESSAGE_PAGE;
            let off = load(&machine, id, kind, &[0; 4096]);
            assert_eq!(off, Err(HvStatus::INVALID_SYNIC_STATE));
            machine.with_vp(id, 0, |child, vp| {
                let value = 9 << 12 | 1;
                let set = machine.set_vp_page(child, vp, tlfs::HV_X64_MSR_SIMP, value);
                assert!(set.is_ok());
            });
            // The guest finds the page where it wants it.
            machine.write(id, Gpfn(9).address(), b"message");
            let mut state = saved(&machine, id, kind);
            assert_eq!(&state[..7], b"message");
            state[0] = b'M';
            assert!(load(&machine, id, kind, &state).is_ok());
            let mut back = [0; 7];
            machine.read(id, Gpfn(9).address(), &mut back);
            assert_eq!(&back, b"Message");
        }
    }

    #[test]
    fn a_running_processor_and_short_buffers_are_refused() {
        for (machine, id) in children() {
            for kind in KINDS {
                let short = load(&machine, id, kind, &[0; 7]);
                assert!(matches!(
                    short,
                    Err(HvStatus::INVALID_PARAMETER | HvStatus::INVALID_SYNIC_STATE)
                ));
                let short = machine.with_vp(id, 0, |partition, vp| {
                    save(&machine, partition, vp, &data(kind), &mut [0; 7])
                });
                assert!(matches!(
                    short,
                    Err(HvStatus::INSUFFICIENT_BUFFER | HvStatus::INVALID_SYNIC_STATE)
                ));
                machine.with_vp(id, 0, |_, vp| vp.suspend.explicit = false);
                let running = load(&machine, id, kind, &[0; 4096]);
                assert_eq!(running, Err(HvStatus::INVALID_VP_STATE));
                machine.with_vp(id, 0, |_, vp| vp.suspend.explicit = true);
            }
            let unknown = load(&machine, id, Kind(5), &[0; 4096]);
            assert_eq!(unknown, Err(HvStatus::INVALID_PARAMETER));
        }
    }

    #[test]
    fn a_partition_without_local_apics_has_no_state_of_one() {
        for mut machine in Machine::each() {
            let flags = LINUX_CHILD.difference(HvPartitionCreationFlags::LAPIC_ENABLED);
            let id = machine.child_with(flags);
            machine.add_vp(id, 0);
            let kind = Kind::LOCAL_INTERRUPT_CONTROLLER_STATE;
            let result = load(&machine, id, kind, &[0; 176]);
            assert_eq!(result, Err(HvStatus::INVALID_PARAMETER));
        }
    }
}
