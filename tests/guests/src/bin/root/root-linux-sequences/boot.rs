//! What Linux does at boot and when `mshv_root` loads (root sheet F.2, F.3, G.3 step 2).

use guests::metal::Boot;
use guests::metal::cpu::rdmsr;
use guests::root::memory::{Memory, PAGE};
use guests::root::stats;
use guests::root::{Root, memory, report};
use guests::{check, fail, ok};
use tlfs::{
    HV_X64_MSR_HYPERCALL, HV_X64_MSR_REFERENCE_TSC, HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP,
    HV_X64_MSR_SIRBP, HV_X64_MSR_VP_ASSIST_PAGE, HvCallCode, HvInputGetLogicalProcessorRunTime,
    HvInputGetPartitionProperty, HvInputGetPartitionPropertyEx, HvInputGetSystemProperty,
    HvOutputGetLogicalProcessorRunTime, HvOutputGetPartitionProperty, HvOutputGetSystemProperty,
    HvPageMsr, HvPartitionId, HvPartitionPropertyCode, HvPartitionPropertyVmmCapabilities,
    HvSchedulerType, HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType, HvStatus,
    HvSystemPropertyCode, HvVpIndex,
};

const RAM: u32 = 1;

/// F.3: before anything is enabled, the MSRs name the pages that the hypervisor provides: distinct, reserved, not page 0.
pub fn provided_pages(start: &Boot) {
    let memory = Memory::new(start);
    let msrs = [
        HV_X64_MSR_HYPERCALL,
        HV_X64_MSR_REFERENCE_TSC,
        HV_X64_MSR_VP_ASSIST_PAGE,
        HV_X64_MSR_SIMP,
        HV_X64_MSR_SIEFP,
        HV_X64_MSR_SIRBP,
    ];
    let mut pages = [0; 6];
    for (index, msr) in msrs.into_iter().enumerate() {
        let value = rdmsr(msr).unwrap_or_else(|fault| fail!("MSR {msr:#x}: {fault:x?}"));
        let value = HvPageMsr::from_bits(value);
        let frame = value.gpfn();
        check!(!value.enabled(), "MSR {msr:#x} is enabled at the start");
        check!(frame != 0, "MSR {msr:#x} names page 0");
        check!(
            memory.kind_of(frame * PAGE) != Some(RAM),
            "the page of MSR {msr:#x} is RAM in the memory map"
        );
        check!(
            !pages[..index].contains(&frame),
            "two MSRs name page {frame:#x}"
        );
        pages[index] = frame;
    }
    ok!("the MSRs name the hypervisor's pages before they are enabled");
}

fn property(root: &Root, code: HvPartitionPropertyCode) -> Result<u64, HvStatus> {
    let input = HvInputGetPartitionProperty {
        partition_id: HvPartitionId::SELF,
        property_code: code,
        padding: 0,
    };
    let call = HvCallCode::GET_PARTITION_PROPERTY;
    let output: Result<HvOutputGetPartitionProperty, _> = root.calls.ask(call, &input);
    output.map(|output| output.property_value)
}

fn run_time(root: &Root, lp_index: u32) -> Result<HvOutputGetLogicalProcessorRunTime, HvStatus> {
    let input = HvInputGetLogicalProcessorRunTime { lp_index };
    let call = HvCallCode::GET_LOGICAL_PROCESSOR_RUN_TIME;
    root.calls.ask(call, &input)
}

/// What Linux asks while `mshv_root` loads, and the crates while a VM is created.
pub fn module_load(root: &mut Root) {
    report::value(run_time(root, 0), "GetLogicalProcessorRunTime of LP 0");
    report::same(
        run_time(root, 0xFFFF).err(),
        Some(HvStatus::INVALID_LP_INDEX),
        "GetLogicalProcessorRunTime of an LP that does not exist",
    );
    ok!("GetLogicalProcessorRunTime tells LPs that run from others");

    let input = HvInputGetSystemProperty {
        property_id: HvSystemPropertyCode::SCHEDULER_TYPE,
        ..HvInputGetSystemProperty::default()
    };
    let call = HvCallCode::GET_SYSTEM_PROPERTY;
    let output: HvOutputGetSystemProperty =
        report::value(root.calls.ask(call, &input), "GetSystemProperty");
    let scheduler = HvSchedulerType(output.value);
    check!(
        HvSchedulerType::NAMED.contains(&scheduler) && scheduler != HvSchedulerType::ROOT,
        "Linux refuses scheduler {scheduler:?}, or would have to schedule itself"
    );
    ok!("the scheduler is {scheduler:?}");

    let bank0 = property(root, HvPartitionPropertyCode::PROCESSOR_FEATURES0);
    let bank1 = property(root, HvPartitionPropertyCode::PROCESSOR_FEATURES1);
    report::value(bank0, "property 0x6000A of SELF");
    report::value(bank1, "property 0x6000B of SELF");
    report::same(
        property(root, HvPartitionPropertyCode(0x00EE_EEEE)),
        Err(HvStatus::UNKNOWN_PROPERTY),
        "a property that does not exist",
    );
    vmm_capabilities(root);
    ok!("the crates get the properties that they ask SELF for");

    stats_pages(root);
}

fn vmm_capabilities(root: &Root) {
    let input = HvInputGetPartitionPropertyEx {
        partition_id: HvPartitionId::SELF,
        property_code: HvPartitionPropertyCode::VMM_CAPABILITIES,
        ..HvInputGetPartitionPropertyEx::default()
    };
    let call = HvCallCode::GET_PARTITION_PROPERTY_EX;
    let output: Result<HvPartitionPropertyVmmCapabilities, _> = root.calls.ask(call, &input);
    match output {
        Ok(capabilities) => {
            report::same(capabilities.bank_count, 1, "banks of VmmCapabilities");
            report::same(capabilities.bits.0 & 0x28, 0, "reserved VmmCapabilities");
        }
        // Safe with Linux and the crates; any other status makes them panic.
        Err(HvStatus::UNKNOWN_PROPERTY | HvStatus::ACCESS_DENIED) => {}
        Err(status) => fail!("property 0x90007 of SELF: {status}"),
    }
}

/// The pages that a kernel with DEBUG_FS maps; PARENT may be refused with INVALID_PARAMETER only.
fn stats_pages(root: &mut Root) {
    let id = root.id;
    let area = [HvStatsAreaType::SELF, HvStatsAreaType::PARENT];
    let objects = area.map(|area| {
        [
            stats::object(
                HvStatsObjectType::HYPERVISOR,
                HvStatsObjectIdentity::hypervisor(area),
            ),
            stats::object(
                HvStatsObjectType::LOGICAL_PROCESSOR,
                HvStatsObjectIdentity::logical_processor(0, area),
            ),
            stats::object(
                HvStatsObjectType::PARTITION,
                HvStatsObjectIdentity::partition(id, area),
            ),
            stats::object(
                HvStatsObjectType::VP,
                HvStatsObjectIdentity::vp(id, HvVpIndex(0), area),
            ),
        ]
    });
    let mut pages = [0; 4];
    for (page, input) in pages.iter_mut().zip(&objects[0]) {
        *page = stats::map(root, input);
        report::same(
            root.memory.kind_of(*page),
            Some(RAM),
            "a stats page is RAM of the root's memory map",
        );
    }
    let counter = |index: u64| memory::read(pages[0] + 8 * index);
    check!(counter(1) >= 1, "the hypervisor counts no processor");
    check!(counter(2) >= 1, "the hypervisor counts no partition");
    for input in &objects[1][2..] {
        let status = root.calls.order(HvCallCode::MAP_STATS_PAGE, input);
        match status {
            HvStatus::SUCCESS => stats::unmap(root, input),
            status => report::status(status, HvStatus::INVALID_PARAMETER, "area PARENT"),
        }
    }
    for input in &objects[0] {
        stats::unmap(root, input);
    }
    ok!("the stats pages of DEBUG_FS map and unmap");
}

/// A page that lies between RAM and is not RAM in the map: the hypervisor's block is reserved there.
pub fn reserved_ram(root: &Root) -> u64 {
    const RESERVED: u32 = 2;
    let provided = root.messages.page();
    let largest = root
        .memory
        .map()
        .filter(|entry| entry.kind == RESERVED && entry.addr + entry.size <= 2 << 30)
        .filter(|entry| provided < entry.addr || provided >= entry.addr + entry.size)
        .max_by_key(|entry| entry.size);
    match largest {
        Some(entry) => (entry.addr + entry.size / 2) & !(PAGE - 1),
        None => fail!("the memory map reserves nothing for the hypervisor"),
    }
}
