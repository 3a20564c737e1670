//! One random call: mostly almost right.

use guests::check;
use guests::root::Root;
use guests::root::child::{VMM_FLAGS, creation};
use guests::root::memory;
use guests::root::stats::object;
use guests::root::vp as vps;
use tlfs::HvCallCode as Code;
use tlfs::*;

use super::{lists, ports};
use crate::directed::log_call;
use crate::world::{Block, World};

pub fn simple(root: &mut Root, world: &mut World, code: Code, mut block: Block) -> HvStatus {
    let control = HvHypercallInput::simple(code);
    world.issue(root, control, &mut block).call_status()
}

pub fn rep(
    root: &mut Root,
    world: &mut World,
    code: Code,
    count: u64,
    mut block: Block,
) -> HvStatus {
    let control = HvHypercallInput::simple(code).with_rep_count(count as usize & 0xFFF);
    world.issue(root, control, &mut block).call_status()
}

/// Makes one call, or a few that belong together.
pub fn one(root: &mut Root, world: &mut World) {
    match world.rng.below(100) {
        0..2 => create(root, world),
        2..11 => {
            let id = world.child();
            grow(root, world, id);
        }
        11..12 => end(root, world),
        12..18 => life(root, world),
        18..22 => pool(root, world),
        22..25 => ports::one(root, world),
        25..37 => memory_map(root, world),
        37..43 => properties(root, world),
        43..50 => get_registers(root, world),
        50..64 => set_registers(root, world),
        64..70 => intercepts(root, world),
        70..75 => interrupts(root, world),
        75..83 => pages(root, world),
        83..88 => state(root, world),
        88..91 => questions(root, world),
        91..96 => log(root, world),
        96..98 => ports::one(root, world),
        _ => absent(root, world),
    }
}

fn create(root: &mut Root, world: &mut World) {
    if world.is_full() {
        return end(root, world);
    }
    let mut input = creation(VMM_FLAGS);
    if world.rng.one_in(8) {
        input.flags = HvPartitionCreationFlags(world.rng.odd_value());
    }
    let status = simple(root, world, Code::CREATE_PARTITION, Block::new(&input));
    match status {
        HvStatus::SUCCESS => {
            let id = HvPartitionId(memory::read(world.output));
            world.add(id);
            if !world.rng.one_in(4) {
                grow(root, world, id);
            }
        }
        HvStatus::INSUFFICIENT_MEMORY => deposit(root, world, HvPartitionId::SELF, 4),
        _ => {}
    }
}

/// What makes something of a partition: memory, initialization, RAM, a VP with registers, a run.
fn grow(root: &mut Root, world: &mut World, id: HvPartitionId) {
    let vp = HvVpIndex(world.rng.below(2) as u32);
    // A list with a page that is in use is refused as a whole, so small lists get further.
    for _ in 0..6 {
        deposit(root, world, id, 5);
    }
    let block = Block::new(&HvInputPartition { partition_id: id });
    simple(root, world, Code::INITIALIZE_PARTITION, block);
    let mut block = Block::new(&HvInputMapGpaPages {
        target_partition_id: id,
        target_gpa_base: 0,
        map_flags: HvMapGpaFlags(0x800F),
        padding: 0,
    });
    for _ in 0..16 {
        block.push(&(world.frame() / memory::PAGE));
    }
    rep(root, world, Code::MAP_GPA_PAGES, 16, block);
    let block = Block::new(&vps::creation(id, vp));
    simple(root, world, Code::CREATE_VP, block);
    let header = HvInputVpRegisters {
        partition_id: id,
        vp_index: vp,
        ..HvInputVpRegisters::default()
    };
    let mut block = Block::new(&header);
    let code = HvRegisterValue::from(vps::flat(8, 0xC09B));
    for (name, value) in [
        (HvRegisterName::CS, code),
        (HvRegisterName::CR0, 0x11u64.into()),
        (HvRegisterName::RIP, world.rng.below(0x8000).into()),
        (HvRegisterName::INTERCEPT_SUSPEND, 0u64.into()),
        (HvRegisterName::EXPLICIT_SUSPEND, 0u64.into()),
    ] {
        block.push(&HvRegisterAssoc::new(name, value));
    }
    rep(root, world, Code::SET_VP_REGISTERS, 5, block);
}

fn end(root: &mut Root, world: &mut World) {
    let id = world.child();
    if id != HvPartitionId::INVALID {
        world.bury(root, id);
    }
}

fn life(root: &mut Root, world: &mut World) {
    let code = world.rng.pick(&[
        Code::INITIALIZE_PARTITION,
        Code::FINALIZE_PARTITION,
        Code::DELETE_PARTITION,
        Code::CLEAR_VIRTUAL_INTERRUPT,
    ]);
    if code == Code::FINALIZE_PARTITION && !world.rng.one_in(4) {
        // Else nothing lives long.
        return;
    }
    let partition_id = world.partition(root);
    let block = Block::new(&HvInputPartition { partition_id });
    simple(root, world, code, block);
}

pub fn deposit(root: &mut Root, world: &mut World, to: HvPartitionId, count: u64) {
    let mut block = Block::new(&HvInputDepositMemory { partition_id: to });
    for _ in 0..count {
        block.push(&(world.frame() / memory::PAGE));
    }
    rep(root, world, Code::DEPOSIT_MEMORY, count, block);
}

fn pool(root: &mut Root, world: &mut World) {
    let partition_id = world.partition(root);
    let count = 1 + world.rng.below(24);
    match world.rng.below(4) {
        0 => deposit(root, world, partition_id, 1),
        1 => {
            let mut block = Block::new(&HvInputDepositMemory { partition_id });
            for _ in 0..count {
                let pfn = world.pfn();
                block.push(&pfn);
            }
            rep(root, world, Code::DEPOSIT_MEMORY, count, block);
        }
        2 => {
            let block = Block::new(&HvInputWithdrawMemory {
                partition_id,
                proximity_domain_info: HvProximityDomainInfo::default(),
            });
            rep(root, world, Code::WITHDRAW_MEMORY, count, block);
        }
        _ => {
            let block = Block::new(&HvInputGetMemoryBalance {
                partition_id,
                proximity_domain_info: HvProximityDomainInfo::default(),
            });
            simple(root, world, Code::GET_MEMORY_BALANCE, block);
        }
    }
}

fn memory_map(root: &mut Root, world: &mut World) {
    let target_partition_id = world.partition(root);
    let large = world.rng.one_in(4);
    let page = if world.rng.one_in(8) {
        world.rng.odd_value()
    } else {
        world.rng.below(4096)
    };
    let target_gpa_base = if large && !world.rng.one_in(8) {
        page & !511
    } else {
        page
    };
    let count = 1 + world.rng.below(if large { 3 } else { 40 });
    if world.rng.one_in(3) {
        let flags = if large { 2 } else { world.rng.below(2) as u32 };
        let block = Block::new(&HvInputUnmapGpaPages {
            target_partition_id,
            target_gpa_base,
            unmap_flags: HvUnmapGpaFlags(flags),
            padding: 0,
        });
        rep(root, world, Code::UNMAP_GPA_PAGES, count, block);
        return;
    }
    let flags = world.rng.pick(lists::MAPS);
    let size = if large {
        HvMapGpaFlags::LARGE_PAGE.0
    } else {
        0
    };
    let mut block = Block::new(&HvInputMapGpaPages {
        target_partition_id,
        target_gpa_base,
        map_flags: HvMapGpaFlags(flags | size),
        padding: 0,
    });
    for _ in 0..count {
        let pfn = if large && !world.rng.one_in(6) {
            world.large_pfn()
        } else {
            world.pfn()
        };
        block.push(&pfn);
    }
    let status = rep(root, world, Code::MAP_GPA_PAGES, count, block);
    if status == HvStatus::INSUFFICIENT_MEMORY {
        deposit(root, world, target_partition_id, 8);
    }
}

fn properties(root: &mut Root, world: &mut World) {
    let partition_id = world.partition(root);
    let mut property_code = world.rng.pick(lists::PROPERTIES);
    if world.rng.one_in(10) {
        property_code = HvPartitionPropertyCode(world.rng.odd_value() as u32);
    }
    match world.rng.below(4) {
        0 => {
            let block = Block::new(&HvInputGetPartitionProperty {
                partition_id,
                property_code,
                padding: 0,
            });
            simple(root, world, Code::GET_PARTITION_PROPERTY, block);
        }
        1 => {
            let block = Block::new(&HvInputGetPartitionPropertyEx {
                partition_id,
                property_code,
                ..HvInputGetPartitionPropertyEx::default()
            });
            simple(root, world, Code::GET_PARTITION_PROPERTY_EX, block);
        }
        _ => {
            let block = Block::new(&HvInputSetPartitionProperty {
                partition_id,
                property_code,
                padding: 0,
                property_value: world.rng.odd_value(),
            });
            simple(root, world, Code::SET_PARTITION_PROPERTY, block);
        }
    }
}

fn name(world: &mut World) -> HvRegisterName {
    match world.rng.below(12) {
        0 => HvRegisterName(world.rng.odd_value() as u32),
        1 => HvRegisterName(0x0002_0000 + world.rng.below(20) as u32),
        2 => HvRegisterName(0x0008_4800 + world.rng.below(64) as u32),
        _ => world.rng.pick(lists::REGISTERS),
    }
}

fn get_registers(root: &mut Root, world: &mut World) {
    let mut block = Block::new(&HvInputVpRegisters {
        partition_id: world.partition(root),
        vp_index: world.vp(),
        ..HvInputVpRegisters::default()
    });
    let count = 1 + world.rng.below(12);
    for _ in 0..count {
        let name = name(world);
        block.push(&name);
    }
    rep(root, world, Code::GET_VP_REGISTERS, count, block);
}

fn set_registers(root: &mut Root, world: &mut World) {
    let partition_id = world.partition(root);
    let mut block = Block::new(&HvInputVpRegisters {
        partition_id,
        vp_index: world.vp(),
        ..HvInputVpRegisters::default()
    });
    let count = 1 + world.rng.below(8);
    for _ in 0..count {
        let value = HvRegisterValue {
            low: world.rng.odd_value(),
            high: world.rng.odd_value(),
        };
        block.push(&HvRegisterAssoc::new(name(world), value));
    }
    rep(root, world, Code::SET_VP_REGISTERS, count, block);
}

fn intercepts(root: &mut Root, world: &mut World) {
    let partition_id = world.partition(root);
    let intercept_type = world.rng.pick(lists::INTERCEPTS);
    if world.rng.one_in(2) {
        let block = Block::new(&HvInputInstallIntercept {
            partition_id,
            access_type: HvInterceptAccessMask(world.rng.below(9) as u32),
            intercept_type,
            intercept_parameter: HvInterceptParameters(world.rng.odd_value()),
        });
        simple(root, world, Code::INSTALL_INTERCEPT, block);
        return;
    }
    let mut parameters = [0u8; 44];
    for byte in &mut parameters {
        *byte = world.rng.below(4) as u8;
    }
    let vp = world.vp();
    let kind = world
        .rng
        .pick(&[HvInterceptType::X64_CPUID, HvInterceptType::X64_MSR]);
    let input = HvInputRegisterInterceptResult::new(partition_id, vp, kind, &parameters);
    let code = world.rng.pick(&[
        Code::REGISTER_INTERCEPT_RESULT,
        Code::UNREGISTER_INTERCEPT_RESULT,
    ]);
    simple(root, world, code, Block::new(&input.unwrap_or_default()));
}

fn interrupts(root: &mut Root, world: &mut World) {
    let kind = HvInterruptType(world.rng.below(11) as u32);
    let block = Block::new(&HvInputAssertVirtualInterrupt {
        partition_id: world.partition(root),
        control: HvInterruptControl::new()
            .with_interrupt_type(kind)
            .with_level_triggered(world.rng.one_in(3))
            .with_logical_dest_mode(world.rng.one_in(3)),
        dest_addr: world.rng.below(4),
        vector: world.rng.below(260) as u32,
        ..HvInputAssertVirtualInterrupt::default()
    });
    simple(root, world, Code::ASSERT_VIRTUAL_INTERRUPT, block);
}

fn pages(root: &mut Root, world: &mut World) {
    let (partition_id, vp) = (world.partition(root), world.vp());
    let page_type = HvVpStatePageType(world.rng.below(4) as u16);
    match world.rng.below(5) {
        0 => {
            let block = Block::new(&vps::state_page(partition_id, vp, page_type));
            simple(root, world, Code::MAP_VP_STATE_PAGE, block);
        }
        1 => {
            let block = Block::new(&HvInputUnmapVpStatePage {
                partition_id,
                vp_index: vp,
                page_type,
                ..HvInputUnmapVpStatePage::default()
            });
            simple(root, world, Code::UNMAP_VP_STATE_PAGE, block);
        }
        2 | 3 => {
            let area = HvStatsAreaType(world.rng.below(3) as u8);
            let kind = world.rng.pick(HvStatsObjectType::NAMED);
            let identity = match kind {
                HvStatsObjectType::VP => HvStatsObjectIdentity::vp(partition_id, vp, area),
                HvStatsObjectType::PARTITION => {
                    HvStatsObjectIdentity::partition(partition_id, area)
                }
                _ => HvStatsObjectIdentity::logical_processor(vp.0, area),
            };
            let code = world
                .rng
                .pick(&[Code::MAP_STATS_PAGE, Code::UNMAP_STATS_PAGE]);
            simple(root, world, code, Block::new(&object(kind, identity)));
        }
        _ => {
            let vp_index = vp;
            let block = Block::new(&HvInputDeleteVp {
                partition_id,
                vp_index,
                reserved: 0,
            });
            simple(root, world, Code::DELETE_VP, block);
        }
    }
}

fn state(root: &mut Root, world: &mut World) {
    let kind = world.rng.pick(HvGetSetVpStateType::NAMED);
    let mut block = Block::new(&HvInputVpState {
        partition_id: world.partition(root),
        vp_index: world.vp(),
        state_data: HvVpStateData {
            state_type: kind,
            reserved: 0,
            xsave_flags: 0,
            xsave_states: world.rng.odd_value(),
        },
        ..HvInputVpState::default()
    });
    let pages = 1 + world.rng.below(3);
    for _ in 0..pages {
        // The page is written to: only one that may be lost.
        let pfn = match world.rng.below(8) {
            0 => world.pfn(),
            _ => world.frame() / memory::PAGE,
        };
        block.push(&pfn);
    }
    let code = world.rng.pick(&[Code::GET_VP_STATE, Code::SET_VP_STATE]);
    let control = HvHypercallInput::simple(code).with_variable_header_size(pages as usize);
    world.issue(root, control, &mut block);
}

fn questions(root: &mut Root, world: &mut World) {
    let (partition_id, vp_index) = (world.partition(root), world.vp());
    match world.rng.below(5) {
        0 => {
            let block = Block::new(&HvInputTranslateVirtualAddress {
                partition_id,
                vp_index,
                padding: 0,
                control_flags: HvTranslateGvaControlFlags::from_bits(world.rng.below(0x800)),
                gva_page: world.rng.odd_value() >> 12,
            });
            simple(root, world, Code::TRANSLATE_VIRTUAL_ADDRESS, block);
        }
        1 => {
            let mut block = Block::new(&HvInputGetVpCpuidValues {
                partition_id,
                vp_index,
                flags: HvGetVpCpuidValuesFlags(world.rng.below(5) as u32),
                reserved: 0,
            });
            for _ in 0..3 {
                block.push(&HvCpuidLeafInfo {
                    eax: world.rng.odd_value() as u32,
                    ecx: world.rng.below(4) as u32,
                    xfem: world.rng.below(16),
                    xss: 0,
                });
            }
            rep(root, world, Code::GET_VP_CPUID_VALUES, 3, block);
        }
        2 => {
            let block = Block::new(&HvInputGetNextChildPartition {
                parent_id: partition_id,
                previous_child_id: world.partition(root),
            });
            simple(root, world, Code::GET_NEXT_CHILD_PARTITION, block);
        }
        3 => {
            simple(root, world, Code::GET_PARTITION_ID, Block::new(&0u64));
        }
        _ => {
            let block = Block::new(&HvInputGetSystemProperty {
                property_id: HvSystemPropertyCode(world.rng.below(50) as u32),
                reserved: 0,
                argument: world.rng.odd_value(),
            });
            simple(root, world, Code::GET_SYSTEM_PROPERTY, block);
        }
    }
}

/// Indexes of buffers that are tried.
const BUFFERS: u32 = 6;

fn log(root: &mut Root, world: &mut World) {
    let kind = HvEventLogType(world.rng.below(4) as u32);
    let buffer_index = HvEventLogBufferIndex(world.rng.below(BUFFERS.into()) as u32);
    let code = Code(Code::INITIALIZE_EVENT_LOG_BUFFER_GROUP.0 + world.rng.below(9) as u16);
    let mut block = match code {
        Code::INITIALIZE_EVENT_LOG_BUFFER_GROUP => {
            Block::new(&HvInputInitializeEventLogBufferGroup {
                init: HvEventLogInitType::new().with_event_log_type(kind.0 as u16),
                maximum_buffer_count: BUFFERS,
                buffer_size_in_bytes: (1 + world.rng.below(4) as u32) * HV_PAGE_SIZE as u32,
                threshold: 1 + world.rng.below(3) as u32,
                ..HvInputInitializeEventLogBufferGroup::default()
            })
        }
        Code::SET_EVENT_LOG_GROUP_SOURCES => Block::new(&HvInputSetEventLogGroupSources {
            event_log_type: kind,
            group_count: 0,
            enable_flags: world.rng.next_u64() & !0xFF,
        }),
        Code::CREATE_EVENT_LOG_BUFFER => Block::new(&HvInputCreateEventLogBuffer {
            event_log_type: kind,
            buffer_index,
            proximity_info: HvProximityDomainInfo::default(),
        }),
        _ => Block::new(&HvInputEventLogBuffer {
            event_log_type: kind,
            buffer_index,
        }),
    };
    block.push(&HvPartitionId::SELF);
    let status = simple(root, world, code, block);
    if status == HvStatus::INSUFFICIENT_MEMORY {
        deposit(root, world, HvPartitionId::SELF, 4);
    }
}

/// Takes back the counters that are nobody's, if they are mapped.
pub fn unmap_own_counters(root: &Root) {
    let own = HvStatsAreaType::SELF;
    for (kind, identity) in [
        (
            HvStatsObjectType::HYPERVISOR,
            HvStatsObjectIdentity::hypervisor(own),
        ),
        (
            HvStatsObjectType::LOGICAL_PROCESSOR,
            HvStatsObjectIdentity::logical_processor(0, own),
        ),
    ] {
        let status = root
            .calls
            .order(Code::UNMAP_STATS_PAGE, &object(kind, identity));
        check!(
            matches!(status, HvStatus::SUCCESS | HvStatus::OPERATION_DENIED),
            "UnmapStatsPage: {status}"
        );
    }
}

/// Ends all groups of the event log, whatever state they are in.
pub fn end_logs(root: &mut Root) {
    for kind in HvEventLogType::NAMED {
        log_call::sources(root, *kind, 0);
        for code in [
            Code::FLUSH_EVENT_LOG_BUFFER,
            Code::RELEASE_EVENT_LOG_BUFFER,
            Code::UNMAP_EVENT_LOG_BUFFER,
            Code::DELETE_EVENT_LOG_BUFFER,
        ] {
            for index in 0..BUFFERS {
                log_call::short(root, *kind, code, index);
                while root.messages.poll().is_some() {}
            }
        }
        log_call::short(root, *kind, Code::FINALIZE_EVENT_LOG_BUFFER_GROUP, 0);
    }
}

fn absent(root: &mut Root, world: &mut World) {
    let code = Code(world.rng.pick(lists::ABSENT));
    let mut block = Block::new(&world.rng.next_u64());
    for _ in 0..8 {
        let word = world.rng.odd_value();
        block.push(&word);
    }
    let control = HvHypercallInput::from_bits(world.rng.next_u64() & !0xFFFF).with_call_code(code);
    world.issue(root, control, &mut block);
}
