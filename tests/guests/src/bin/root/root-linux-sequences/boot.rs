//! What Linux does at boot and when `mshv_root` loads (root sheet F.2, F.3, G.3 step 2).

use guests::metal::Boot;
use guests::root::interrupts::{PROVIDED, provided_page};
use guests::root::memory::{Memory, PAGE};
use guests::root::stats;
use guests::root::{Root, memory, report};
use guests::{check, fail, ok};
use tlfs::{
    HvCallCode, HvInputGetPartitionProperty, HvInputGetPartitionPropertyEx,
    HvInputGetSystemProperty, HvOutputGetPartitionProperty, HvOutputGetSystemProperty,
    HvPartitionId, HvPartitionPropertyCode, HvPartitionPropertyVmmCapabilities, HvSchedulerType,
    HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType, HvStatus, HvSystemPropertyCode,
    HvVpIndex,
};

const RAM: u32 = 1;

/// F.3: before anything is enabled, the MSRs name the pages that the hypervisor provides: distinct, reserved, not page 0.
pub fn provided_pages(start: &Boot) {
    let memory = Memory::new(start);
    let mut pages = [0; 6];
    for (index, msr) in PROVIDED.into_iter().enumerate() {
        let value = provided_page(msr);
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

/// What Linux asks while `mshv_root` loads, and the crates while a VM is created.
pub fn module_load(root: &mut Root) {
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
        check!(*page != 0, "a stats page is page 0");
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
