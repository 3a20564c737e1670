//! From a definition to a VM that can run.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use board::load::Protocol;
use board::{Board, BoardKind, Options, Start, StartError};
use dynamic_memory::BookError;
use manager::definition::{ApicMode, Cpu};
use manager::{Boot, Definition, DefinitionError};
use tlfs::{
    HV_X64_MSR_CRASH_CTL, HV_X64_MSR_RESET, HvCallCode, HvInputGetPartitionProperty,
    HvInputInstallIntercept, HvInputSetPartitionProperty, HvInputVpRegisters,
    HvInterceptAccessMask, HvInterceptParameters, HvInterceptType, HvOutputGetPartitionProperty,
    HvPartitionCreationFlags as Flags, HvPartitionPrivilegeMask,
    HvPartitionPropertyCode as Property, HvRegisterAssoc, HvRegisterName, HvRegisterValue,
    HvVpIndex,
};
use zerocopy::IntoBytes;

use crate::run::Worker;
use crate::system::{CallError, Files, System};
use crate::vmbus::{Limits, TooLarge, Vmbus};

/// Why a VM cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// The definition is not UTF-8.
    #[error("the definition is not text")]
    NotText,
    /// The definition is wrong.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// A file that the definition names is not there.
    #[error("there is no file {0:?}")]
    NoFile(String),
    /// There is not enough memory, or it cannot be given to the guest.
    #[error("{size} MiB of guest memory: {error}")]
    Memory {
        /// MiB.
        size: u64,
        /// What failed.
        error: CallError,
    },
    /// The guest may have more memory than it can address.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// There is no book of the memory that it starts with.
    #[error("Dynamic Memory: {0}")]
    Book(#[from] BookError),
    /// The board cannot start the kernel.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system or the hypervisor refused a call.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Creates the partition, fills its memory, creates its VPs and installs the intercepts.
pub fn set_up<S: System>(
    mut system: S,
    vm: &Definition,
    files: &impl Files,
) -> Result<Worker<S>, SetupError> {
    let file = |name: &str| files.get(name).ok_or(SetupError::NoFile(name.into()));
    let kernel = file(&vm.kernel)?;
    // A payload's module and Linux' initrd are the same thing to a loader; a definition has only one of them.
    let initrd = vm.initrd.as_deref().or(vm.module.as_deref());
    let initrd = initrd.map(file).transpose()?;
    // Large second-level pages, and a local APIC in the hypervisor.
    let flags = Flags::LAPIC_ENABLED | Flags::X2APIC_CAPABLE | Flags::GPA_SUPER_PAGES_ENABLED;
    system.create_partition(flags)?;
    offer_reset(&mut system)?;
    system.initialize_partition()?;
    set_share(&mut system, &vm.cpu)?;
    let limits = vm.dynamic.map(|dynamic| {
        let width = get_property(&mut system, Property::PHYSICAL_ADDRESS_WIDTH);
        Limits::new(vm.memory, &dynamic, width)
    });
    let limits = limits.transpose()?;
    let reach = limits.map_or(vm.memory, |limits| limits.reach());
    let mut ram = system
        .create_ram(vm.memory, reach)
        .map_err(|error| SetupError::Memory {
            size: vm.memory >> 20,
            error,
        })?;
    let options = Options {
        now: system.reference_time(),
        wall_clock: system.wall_clock(),
        debug_exit: vm.debug_exit,
        hyperv_testdev: vm.hyperv_testdev.then_some(vm.processors),
    };
    let kind = match vm.board {
        manager::definition::Board::Direct => BoardKind::Direct,
    };
    let board = Board::new(kind, &options);
    let start = Start {
        kernel,
        initrd,
        command_line: &vm.cmdline,
        rng_seed: system.random(),
        processors: vm.processors,
        vmbus: vm.vmbus,
        protocol: match vm.boot {
            Boot::Auto => None,
            Boot::Linux => Some(Protocol::Linux64),
            Boot::Pvh => Some(Protocol::Pvh),
            Boot::Multiboot => Some(Protocol::Multiboot),
        },
    };
    let state = board.start(&mut ram, &start)?;
    let vps = (0..vm.processors)
        .map(|index| system.create_vp(index))
        .collect::<Result<Vec<_>, _>>()?;
    set_registers(&mut system, 0, &state.registers)?;
    if vm.apic == ApicMode::XApic {
        start_in_xapic_mode(&mut system, vm.processors)?;
    }
    install_intercepts(&mut system)?;
    let vmbus = vm
        .vmbus
        .then(|| Vmbus::new(&mut system, &ram, vm.processors, limits.as_ref()))
        .transpose()?;
    if vmbus.is_some() || vm.hyperv_testdev {
        intercept_connections(&mut system)?;
    }
    system.log(&format!(
        "{}: {} MiB, {} VP, {}",
        vm.name,
        vm.memory >> 20,
        vm.processors,
        state.protocol
    ));
    Ok(Worker::new(system, ram, board, vps, vmbus))
}

/// Gives all VPs the APIC base that hardware has after reset. Without that they start in x2APIC mode.
fn start_in_xapic_mode<S: System>(system: &mut S, processors: u32) -> Result<(), CallError> {
    const ENABLED: u64 = 1 << 11;
    const BOOTSTRAP: u64 = 1 << 8;
    let base = u64::from(board::layout::LOCAL_APIC_BASE) | ENABLED;
    (0..processors).try_for_each(|vp| {
        let value = if vp == 0 { base | BOOTSTRAP } else { base };
        let register = HvRegisterAssoc::new(HvRegisterName::APIC_BASE, value);
        set_registers(system, vp, &[register])
    })
}

/// Says what share of the processors the partition gets, as far as the definition does.
fn set_share<S: System>(system: &mut S, cpu: &Cpu) -> Result<(), CallError> {
    let properties = [
        (Property::CPU_WEIGHT, cpu.weight),
        (Property::CPU_CAP, cpu.cap),
        (Property::CPU_RESERVE, cpu.reserve),
    ];
    for (property_code, value) in properties {
        if let Some(value) = value {
            set_property(system, property_code, value.into())?;
        }
    }
    Ok(())
}

/// Reads a property of the partition; `None` if the hypervisor does not tell.
pub fn get_property<S: System>(system: &mut S, property_code: Property) -> Option<u64> {
    let mut input = HvInputGetPartitionProperty {
        property_code,
        ..Default::default()
    };
    let mut output = HvOutputGetPartitionProperty::default();
    let code = HvCallCode::GET_PARTITION_PROPERTY;
    let read = system.hypercall(code, 0, input.as_mut_bytes(), output.as_mut_bytes());
    read.ok().map(|()| output.property_value)
}

/// Sets a property of the partition.
fn set_property<S: System>(
    system: &mut S,
    property_code: Property,
    property_value: u64,
) -> Result<(), CallError> {
    let mut input = HvInputSetPartitionProperty {
        property_code,
        property_value,
        ..Default::default()
    };
    let code = HvCallCode::SET_PARTITION_PROPERTY;
    system.hypercall(code, 0, input.as_mut_bytes(), &mut [])
}

/// Sets registers of a suspended VP (SetVpRegisters), in batches that fit a page.
pub fn set_registers<S: System>(
    system: &mut S,
    vp: u32,
    registers: &[HvRegisterAssoc],
) -> Result<(), CallError> {
    const BATCH: usize =
        (tlfs::HV_PAGE_SIZE - size_of::<HvInputVpRegisters>()) / size_of::<HvRegisterAssoc>();
    for batch in registers.chunks(BATCH) {
        let header = HvInputVpRegisters {
            vp_index: HvVpIndex(vp),
            ..Default::default()
        };
        let mut input = vec![];
        input.extend_from_slice(header.as_bytes());
        input.extend_from_slice(batch.as_bytes());
        let reps = batch.len() as u16;
        system.hypercall(HvCallCode::SET_VP_REGISTERS, reps, &mut input, &mut [])?;
    }
    Ok(())
}

/// Reads a register of a suspended VP (GetVpRegisters).
pub fn get_register<S: System>(
    system: &mut S,
    vp: u32,
    name: HvRegisterName,
) -> Result<HvRegisterValue, CallError> {
    get_registers(system, vp, [name]).map(|[value]| value)
}

/// Reads registers of a suspended VP in one call. They fit a page.
pub fn get_registers<S: System, const N: usize>(
    system: &mut S,
    vp: u32,
    names: [HvRegisterName; N],
) -> Result<[HvRegisterValue; N], CallError> {
    const { assert!(N * size_of::<HvRegisterValue>() <= tlfs::HV_PAGE_SIZE) };
    let header = HvInputVpRegisters {
        vp_index: HvVpIndex(vp),
        ..Default::default()
    };
    let mut input = vec![];
    input.extend_from_slice(header.as_bytes());
    input.extend_from_slice(names.as_bytes());
    let mut values = [HvRegisterValue::default(); N];
    let code = HvCallCode::GET_VP_REGISTERS;
    system.hypercall(code, N as u16, &mut input, values.as_mut_bytes())?;
    Ok(values)
}

/// Gives the partition, which is not initialized yet, the reset MSR: a privilege, but no feature. A hypervisor that does not tell
/// the privileges keeps it.
fn offer_reset<S: System>(system: &mut S) -> Result<(), CallError> {
    let Some(given) = get_property(system, Property::PRIVILEGE_FLAGS) else {
        return Ok(());
    };
    let all = HvPartitionPrivilegeMask(given) | HvPartitionPrivilegeMask::ACCESS_RESET_MSR;
    set_property(system, Property::PRIVILEGE_FLAGS, all.0)
}

/// Every port, the end of level interrupts, and writes of the MSRs by which a guest reports its crash and resets its machine.
/// Memory without RAM behind it is intercepted anyway.
fn install_intercepts<S: System>(system: &mut S) -> Result<(), CallError> {
    let ports = HvInputInstallIntercept {
        access_type: HvInterceptAccessMask::READ | HvInterceptAccessMask::WRITE,
        intercept_type: HvInterceptType::X64_IO_PORT_RANGE,
        intercept_parameter: HvInterceptParameters::io_port_range(0, u16::MAX),
        ..Default::default()
    };
    let eoi = HvInputInstallIntercept {
        access_type: HvInterceptAccessMask::WRITE,
        intercept_type: HvInterceptType::X64_APIC_EOI,
        ..Default::default()
    };
    let msr = |msr| HvInputInstallIntercept {
        access_type: HvInterceptAccessMask::WRITE,
        intercept_type: HvInterceptType::X64_MSR_INDEX,
        intercept_parameter: HvInterceptParameters::msr_index(msr),
        ..Default::default()
    };
    let (crash, reset) = (msr(HV_X64_MSR_CRASH_CTL), msr(HV_X64_MSR_RESET));
    for mut input in [ports, eoi, crash, reset] {
        let code = HvCallCode::INSTALL_INTERCEPT;
        system.hypercall(code, 0, input.as_mut_bytes(), &mut [])?;
    }
    Ok(())
}

/// Messages and events to connections that the hypervisor does not know: all of VMBus' are, and those of the device of the Hyper-V
/// guest tests.
fn intercept_connections<S: System>(system: &mut S) -> Result<(), CallError> {
    let mut input = HvInputInstallIntercept {
        access_type: HvInterceptAccessMask::EXECUTE,
        intercept_type: HvInterceptType::UNKNOWN_SYNIC_CONNECTION,
        ..Default::default()
    };
    let code = HvCallCode::INSTALL_INTERCEPT;
    system.hypercall(code, 0, input.as_mut_bytes(), &mut [])
}
