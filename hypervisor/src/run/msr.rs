//! RDMSR and WRMSR.
//!
//! A child has the MSRs that are named here and no others: what nobody knows is the parent's if it asked, and else a
//! #GP. The root has the machine's, but for those on which the hypervisor stands, which its permission map intercepts.

use tlfs::HvUnimplementedMsrAction as Unimplemented;
use tlfs::*;

use super::Cpu;
use crate::apic::{Effect, GeneralProtection, is_x2apic_msr};
use crate::arch::Backend;
use crate::arch::cpuid::ThisProcessor;
use crate::arch::msr::MSR_EFER;
use crate::arch::state::SystemRegister;
use crate::insn::Instruction;
use crate::intercept::{NamedMsrs, message};
use crate::partition::table::PartitionGuard;
use crate::partition::{CRASH_SUPPORT, Vp, cpuid, validate};
use crate::synic::{SynicEffect, is_synic_msr};
use crate::time::RefTime;

const TSC: u32 = 0x10;
const FEATURE_CONTROL: u32 = 0x3A;
/// FEATURE_CONTROL: locked, with nothing allowed. A kernel that finds it unlocked would write it.
const LOCKED: u64 = 1;
/// x2APIC registers whose value depends on the time: initial and current count, divide, timer LVT.
const APIC_TIMED: [u32; 4] = [0x832, 0x838, 0x839, 0x83E];

/// What becomes of an access.
enum Outcome<T> {
    /// Done.
    Done(T),
    /// #GP(0).
    Fault,
    /// The parent's.
    Intercept,
}

/// What a write causes, once the instruction is complete.
#[derive(Default)]
enum After {
    #[default]
    Nothing,
    Apic(Effect),
    Synic(SynicEffect),
    /// A synthetic timer has been set anew.
    Timer,
}

impl<T> From<Result<T, GeneralProtection>> for Outcome<T> {
    fn from(result: Result<T, GeneralProtection>) -> Self {
        result.map_or(Self::Fault, Self::Done)
    }
}

impl Cpu {
    /// RDMSR.
    #[inline(always)]
    pub(super) fn rdmsr<B: Backend>(&mut self, vp: &mut Vp) {
        vp.hw.is_of::<B>();
        let Some(length) = self.length(vp, Instruction::Rdmsr) else {
            return;
        };
        let msr = vp.hw.gprs().rcx as u32;
        match self.read_msr(vp, msr) {
            Outcome::Done(value) => {
                let gprs = vp.hw.gprs_mut();
                gprs.rax = value & 0xFFFF_FFFF;
                gprs.rdx = value >> 32;
                vp.hw.advance_rip(length);
                if msr == HV_X64_MSR_GUEST_IDLE && !vp.is_root() {
                    self.guest_idle(vp);
                }
            }
            Outcome::Fault => self.inject_gp(vp),
            Outcome::Intercept => {
                let seen = vp.hw.snapshot();
                let message = message::msr(vp, &seen, false, length);
                self.intercept(vp, &seen, &message);
            }
        }
    }

    /// WRMSR.
    pub(super) fn wrmsr<B: Backend>(&mut self, vp: &mut Vp) {
        vp.hw.is_of::<B>();
        let Some(length) = self.length(vp, Instruction::Wrmsr) else {
            return;
        };
        let gprs = vp.hw.gprs();
        let msr = gprs.rcx as u32;
        let value = gprs.rdx << 32 | gprs.rax & 0xFFFF_FFFF;
        match self.write_msr(vp, msr, value) {
            Outcome::Done(after) => {
                // What follows may stop the VP with a message: it stops behind the instruction.
                vp.hw.advance_rip(length);
                match after {
                    After::Nothing => {}
                    After::Apic(effect) => {
                        vp.hw.set_cr8(vp.apic.cr8());
                        self.apply(vp, effect);
                    }
                    After::Synic(effect) => self.synic_written(vp, effect),
                    After::Timer => self.set_timer(vp),
                }
            }
            Outcome::Fault => self.inject_gp(vp),
            Outcome::Intercept => {
                let seen = vp.hw.snapshot();
                let message = message::msr(vp, &seen, true, length);
                self.intercept(vp, &seen, &message);
            }
        }
    }

    /// Whether the parent has asked for this very MSR.
    #[inline]
    fn is_named(&self, vp: &mut Vp, msr: u32, write: bool) -> bool {
        let known = vp.named_msrs.at == vp.home.changes.count();
        let cannot_be = known && !vp.named_msrs.filter.may_have(msr);
        !(cannot_be || vp.is_root()) && self.look_for_named(vp, msr, write)
    }

    #[inline(never)]
    fn look_for_named(&self, vp: &mut Vp, msr: u32, write: bool) -> bool {
        let at = vp.home.changes.count();
        let (named, filter) = self.partition(vp, |_, partition| {
            let intercepts = &partition.intercepts;
            (intercepts.names_msr(msr, write), intercepts.msr_filter())
        });
        vp.named_msrs = NamedMsrs { at, filter };
        named
    }

    /// The time, for a register of the APIC that depends on it.
    fn apic_time(&self, msr: u32) -> RefTime {
        if APIC_TIMED.contains(&msr) {
            self.hv.now()
        } else {
            RefTime::ZERO
        }
    }

    #[inline(always)]
    fn read_msr(&mut self, vp: &mut Vp, msr: u32) -> Outcome<u64> {
        let root = vp.is_root();
        if self.is_named(vp, msr, false) {
            return Outcome::Intercept;
        }
        match msr {
            _ if is_x2apic_msr(msr) => vp.apic.read(msr, || self.hv.now()).into(),
            HV_X64_MSR_FIRST..=HV_X64_MSR_LAST => self.read_synthetic(vp, msr).into(),
            TSC => Outcome::Done(crate::cpu::tsc()),
            MSR_EFER => Outcome::Done(vp.hw.efer()),
            FEATURE_CONTROL if root => Outcome::Done(LOCKED),
            _ => match SystemRegister::from_msr(msr).filter(|_| has_register(vp, msr)) {
                Some(register) => Outcome::Done(vp.hw.system_register(register)),
                None => match self.constant(vp, msr) {
                    Some(value) => Outcome::Done(value),
                    None => self.unknown(vp, msr, false),
                },
            },
        }
    }

    fn write_msr(&mut self, vp: &mut Vp, msr: u32, value: u64) -> Outcome<After> {
        let root = vp.is_root();
        if self.is_named(vp, msr, true) {
            return Outcome::Intercept;
        }
        match msr {
            _ if is_x2apic_msr(msr) => {
                let effect = vp.apic.write(msr, value, self.apic_time(msr));
                effect.map(After::Apic).into()
            }
            HV_X64_MSR_FIRST..=HV_X64_MSR_LAST => self.write_synthetic(vp, msr, value).into(),
            MSR_EFER => self.write_efer(vp, value),
            _ if root && self.hv.capabilities.root_ignores(msr) => Outcome::Done(After::Nothing),
            _ => match SystemRegister::from_msr(msr).filter(|_| has_register(vp, msr)) {
                Some(register) if register_ok(register, value) => {
                    vp.hw.set_system_register(register, value);
                    Outcome::Done(After::Nothing)
                }
                Some(_) => Outcome::Fault,
                None if self.constant(vp, msr).is_some() => Outcome::Done(After::Nothing),
                None => self.unknown(vp, msr, true),
            },
        }
    }

    /// EFER: LMA is the processor's, and LME does not change while paging is on.
    fn write_efer(&mut self, vp: &mut Vp, value: u64) -> Outcome<After> {
        let features = self.partition(vp, |hv, partition| {
            cpuid::answer(hv, partition, vp, 0x8000_0001, 0)
        });
        let allowed = validate::efer_allowed(&features);
        match validate::efer_written(vp.hw.efer(), value, vp.hw.cr0(), allowed) {
            Some(new) => {
                vp.hw.set_efer(new);
                vp.tag.invalidate();
                Outcome::Done(After::Nothing)
            }
            None => Outcome::Fault,
        }
    }

    /// What an MSR of a child always reads, if it is one of those.
    fn constant(&self, vp: &Vp, msr: u32) -> Option<u64> {
        let value = self.hv.capabilities.constant_msr(msr);
        value.filter(|_| !vp.is_root())
    }

    /// An MSR that the hypervisor does not virtualize.
    fn unknown<T: Default>(&self, vp: &Vp, msr: u32, write: bool) -> Outcome<T> {
        if vp.is_root() {
            return Outcome::Fault;
        }
        self.partition(vp, |_, partition| {
            if partition.intercepts.wants_msr(msr, write, false) {
                return Outcome::Intercept;
            }
            let registered = partition.results.msr(msr, write);
            match registered.unwrap_or(partition.properties.unimplemented_msr) {
                Unimplemented::IGNORE_WRITE_READ_ZERO => Outcome::Done(T::default()),
                _ => Outcome::Fault,
            }
        })
    }

    fn read_synthetic(&mut self, vp: &mut Vp, msr: u32) -> Result<u64, GeneralProtection> {
        check_privilege(vp, msr)?;
        let hv = self.hv;
        Ok(match msr {
            HV_X64_MSR_GUEST_OS_ID => self.partition(vp, |_, it| it.msrs.guest_os_id),
            HV_X64_MSR_HYPERCALL => self.partition(vp, |_, it| it.msrs.hypercall),
            HV_X64_MSR_REFERENCE_TSC => self.partition(vp, |_, it| it.msrs.reference_tsc),
            HV_X64_MSR_VP_INDEX => vp.who.index.into(),
            HV_X64_MSR_RESET => 0,
            // The wait is behind the instruction.
            HV_X64_MSR_GUEST_IDLE => 0,
            HV_X64_MSR_VP_RUNTIME => self
                .queue
                .run_time(vp.queue_slot, hv.now())
                .map_or(0, RefTime::units),
            HV_X64_MSR_TIME_REF_COUNT => vp.home.clock.time(hv.now()).units(),
            HV_X64_MSR_TSC_FREQUENCY => hv.tsc_hz,
            HV_X64_MSR_APIC_FREQUENCY => crate::apic::TIMER_FREQUENCY,
            HV_X64_MSR_EOI | HV_X64_MSR_ICR | HV_X64_MSR_TPR => {
                return vp.apic.read_synthetic(msr);
            }
            HV_X64_MSR_VP_ASSIST_PAGE => vp.assist_page,
            HV_X64_MSR_STIMER0_CONFIG..=HV_X64_MSR_STIMER3_COUNT => return vp.stimers.read(msr),
            HV_X64_MSR_CRASH_P0..=HV_X64_MSR_CRASH_P4 => {
                self.partition(vp, |_, it| it.msrs.crash(msr)).unwrap_or(0)
            }
            HV_X64_MSR_CRASH_CTL => CRASH_SUPPORT.into_bits(),
            HV_X64_MSR_TSC_INVARIANT_CONTROL => {
                self.partition(vp, |_, it| it.msrs.tsc_invariant).into()
            }
            _ if is_synic_msr(msr) => {
                let read = hv.with_synic(vp.who, |synic| synic.registers().read(msr));
                return read.unwrap_or(Err(GeneralProtection));
            }
            _ => return Err(GeneralProtection),
        })
    }

    fn write_synthetic(
        &mut self,
        vp: &mut Vp,
        msr: u32,
        value: u64,
    ) -> Result<After, GeneralProtection> {
        check_privilege(vp, msr)?;
        match msr {
            HV_X64_MSR_GUEST_OS_ID | HV_X64_MSR_HYPERCALL | HV_X64_MSR_REFERENCE_TSC => {
                let mut partition = PartitionGuard::lock(vp.home.0).ok_or(GeneralProtection)?;
                let done = match msr {
                    HV_X64_MSR_GUEST_OS_ID => {
                        self.hv.set_guest_os_id(&mut partition, value);
                        Ok(())
                    }
                    HV_X64_MSR_HYPERCALL => self.hv.set_hypercall_msr(&mut partition, value),
                    _ => self.hv.set_reference_tsc(&mut partition, value),
                };
                done.map_err(|_| GeneralProtection)?;
                self.hv.shoot_down(vp.who.slot);
            }
            HV_X64_MSR_EOI | HV_X64_MSR_ICR | HV_X64_MSR_TPR => {
                return vp.apic.write_synthetic(msr, value).map(After::Apic);
            }
            // Only a parent can reset a partition, and this one does not intercept the write.
            HV_X64_MSR_RESET if value & 1 == 0 => {}
            HV_X64_MSR_VP_ASSIST_PAGE if vp.is_root() => {
                let frame = self.lp().root.assist.spfn();
                vp.assist_page = frame.address().0 | value & 1;
            }
            HV_X64_MSR_STIMER0_CONFIG..=HV_X64_MSR_STIMER3_COUNT => {
                let now = vp.home.clock.time(self.hv.now());
                vp.stimers.write(msr, value, now)?;
                return Ok(After::Timer);
            }
            HV_X64_MSR_CRASH_P0..=HV_X64_MSR_CRASH_CTL => {
                let mut partition = PartitionGuard::lock(vp.home.0).ok_or(GeneralProtection)?;
                partition.msrs.set_crash(msr, value);
            }
            HV_X64_MSR_TSC_INVARIANT_CONTROL => {
                let mut partition = PartitionGuard::lock(vp.home.0).ok_or(GeneralProtection)?;
                // What was shown stays (guest sheet 4.13).
                match value {
                    0 if !partition.msrs.tsc_invariant => {}
                    1 => partition.msrs.tsc_invariant = true,
                    _ => return Err(GeneralProtection),
                }
            }
            HV_X64_MSR_VP_ASSIST_PAGE => return self.write_synic(vp, msr, value).map(After::Synic),
            _ if is_synic_msr(msr) => return self.write_synic(vp, msr, value).map(After::Synic),
            _ => return Err(GeneralProtection),
        }
        Ok(After::Nothing)
    }
}

/// Whether a register of those that exit can have this value.
fn register_ok(register: SystemRegister, value: u64) -> bool {
    match register {
        SystemRegister::Pat => validate::pat_ok(value),
        SystemRegister::DebugCtl => validate::debug_ctl_ok(value),
        SystemRegister::SpecCtrl => value & !validate::spec_ctrl_allowed(&ThisProcessor) == 0,
        SystemRegister::TscAux | SystemRegister::Sfmask => value >> 32 == 0,
        SystemRegister::Lstar
        | SystemRegister::Cstar
        | SystemRegister::KernelGsBase
        | SystemRegister::FsBase
        | SystemRegister::GsBase
        | SystemRegister::SysenterEsp
        | SystemRegister::SysenterEip => validate::canonical(value),
        SystemRegister::Star | SystemRegister::SysenterCs => true,
    }
}

/// Whether a VP has a register that the processor keeps for it.
fn has_register(vp: &Vp, msr: u32) -> bool {
    const SPEC_CTRL: u32 = 0x48;
    const TSC_AUX: u32 = 0xC000_0103;
    // A child's CPUID has neither RDTSCP nor speculation controls.
    vp.is_root() || !matches!(msr, TSC_AUX | SPEC_CTRL)
}

/// The privilege that a synthetic MSR needs (guest sheet 2.4).
fn check_privilege(vp: &Vp, msr: u32) -> Result<(), GeneralProtection> {
    use HvPartitionPrivilegeMask as P;
    let needed = match msr {
        HV_X64_MSR_GUEST_OS_ID | HV_X64_MSR_HYPERCALL => P::ACCESS_HYPERCALL_MSRS,
        HV_X64_MSR_VP_INDEX => P::ACCESS_VP_INDEX,
        HV_X64_MSR_RESET if !vp.is_root() => P::ACCESS_RESET_MSR,
        HV_X64_MSR_VP_RUNTIME => P::ACCESS_VP_RUNTIME_MSR,
        HV_X64_MSR_TIME_REF_COUNT => P::ACCESS_PARTITION_REFERENCE_COUNTER,
        HV_X64_MSR_REFERENCE_TSC => P::ACCESS_PARTITION_REFERENCE_TSC,
        HV_X64_MSR_TSC_FREQUENCY | HV_X64_MSR_APIC_FREQUENCY => P::ACCESS_FREQUENCY_MSRS,
        HV_X64_MSR_EOI | HV_X64_MSR_ICR | HV_X64_MSR_TPR => P::ACCESS_APIC_MSRS,
        // Linux writes it whatever its privileges are (guest sheet 4.8).
        HV_X64_MSR_VP_ASSIST_PAGE => P::empty(),
        HV_X64_MSR_GUEST_IDLE => P::ACCESS_GUEST_IDLE_MSR,
        HV_X64_MSR_CRASH_P0..=HV_X64_MSR_CRASH_CTL if !vp.is_root() => P::empty(),
        HV_X64_MSR_STIMER0_CONFIG..=HV_X64_MSR_STIMER3_COUNT => P::ACCESS_SYNTHETIC_TIMER_MSRS,
        HV_X64_MSR_TSC_INVARIANT_CONTROL if !vp.is_root() => P::ACCESS_TSC_INVARIANT_CONTROLS,
        _ if is_synic_msr(msr) => P::ACCESS_SYNIC_MSRS,
        _ => return Err(GeneralProtection),
    };
    if vp.privileges.contains(needed) {
        Ok(())
    } else {
        Err(GeneralProtection)
    }
}
