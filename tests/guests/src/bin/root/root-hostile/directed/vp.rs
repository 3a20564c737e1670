//! Virtual processors: life, registers, interrupts, pages, state.

use guests::ok;
use guests::root::child::{Child, VMM_FLAGS};
use guests::root::memory::PAGE;
use guests::root::vp::{creation, state_page};
use guests::root::{Root, Vp, report, stats};
use tlfs::{
    HvCallCode, HvGetSetVpStateType, HvHypercallInput, HvInputAssertVirtualInterrupt,
    HvInputGetVpCpuidValues, HvInputRegisterInterceptResult, HvInputTranslateVirtualAddress,
    HvInputUnmapVpStatePage, HvInputVpState, HvInterceptAccessMask, HvInterceptParameters,
    HvInterceptType, HvInterruptControl, HvInterruptType, HvOutputTranslateVirtualAddress,
    HvPartitionId, HvRegisterName, HvRegisterX64CpuidResultParameters,
    HvRegisterX64MsrResultParameters, HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType,
    HvStatus, HvUnimplementedMsrAction, HvVpIndex, HvVpStateData, HvVpStatePageType,
};
use zerocopy::IntoBytes;

use super::partition::NOBODY;

/// A VP that is not there.
const ABSENT: HvVpIndex = HvVpIndex(9);

/// A child that loops with its interrupts on, and takes every vector to the loop.
pub fn looping(root: &mut Root) -> (Child, Vp) {
    let child = Child::with_ram(root, VMM_FLAGS);
    let vp = Vp::create(root, &child, 0);
    child.load(0x1000, &[0xEB, 0xFE]);
    vp.enter_flat(root, 0x1000);
    (child, vp)
}

#[track_caller]
fn is(status: HvStatus, wanted: HvStatus, what: &str) {
    report::status(status, wanted, what);
}

/// CreateVp, DeleteVp.
pub fn life(root: &mut Root) {
    const CREATE: HvCallCode = HvCallCode::CREATE_VP;
    let child = Child::active(root, VMM_FLAGS);
    let fresh = Child::create(root, VMM_FLAGS);
    root.withdraw_all(child.id);
    let first = HvVpIndex(0);
    let create = |root: &Root, id, index| root.calls.order(CREATE, &creation(id, index));
    let short = HvStatus::INSUFFICIENT_MEMORY;
    is(create(root, child.id, first), short, "CreateVp");
    let vp = Vp::create(root, &child, 0);
    is(
        create(root, child.id, first),
        HvStatus::INVALID_VP_INDEX,
        "CreateVp",
    );
    let huge = HvVpIndex(0xFFFF_0000);
    is(
        create(root, child.id, huge),
        HvStatus::INVALID_VP_INDEX,
        "CreateVp",
    );
    let state = HvStatus::INVALID_PARTITION_STATE;
    is(create(root, fresh.id, first), state, "CreateVp");
    is(
        create(root, NOBODY, first),
        HvStatus::INVALID_PARTITION_ID,
        "CreateVp",
    );
    let denied = create(root, HvPartitionId::SELF, HvVpIndex(5));
    is(denied, HvStatus::OPERATION_DENIED, "CreateVp of the root");
    // A VP that is not suspended cannot be deleted; with nothing mapped it stops at its first fetch.
    vp.resume(root);
    is(
        child.delete_vp(root, first, false),
        HvStatus::INVALID_VP_STATE,
        "DeleteVp",
    );
    let _ = vp.wait(root);
    is(
        child.delete_vp(root, ABSENT, true),
        HvStatus::INVALID_VP_INDEX,
        "DeleteVp",
    );
    let status = root.calls.fast(HvCallCode::DELETE_VP, NOBODY.0, 0);
    is(status, HvStatus::INVALID_PARTITION_ID, "DeleteVp");
    is(
        child.delete_vp(root, first, true),
        HvStatus::SUCCESS,
        "DeleteVp",
    );
    fresh.bury(root);
    child.end(root);
    ok!("life of a VP");
}

/// GetVpRegisters, SetVpRegisters, TranslateVirtualAddress, GetVpCpuidValues.
pub fn registers(root: &mut Root) {
    let (child, vp) = looping(root);
    let absent = Vp {
        index: ABSENT,
        ..vp
    };
    let nobody = Vp {
        partition: NOBODY,
        ..vp
    };
    let known = HvRegisterName::RIP;
    let get =
        |root: &Root, vp: &Vp, name| vp.try_get(root, name).err().unwrap_or(HvStatus::SUCCESS);
    is(get(root, &vp, known), HvStatus::SUCCESS, "GetVpRegisters");
    is(
        get(root, &absent, known),
        HvStatus::INVALID_VP_INDEX,
        "GetVpRegisters",
    );
    is(
        get(root, &nobody, known),
        HvStatus::INVALID_PARTITION_ID,
        "GetVpRegisters",
    );
    let strange = HvRegisterName(0x00F0_0000);
    is(
        get(root, &vp, strange),
        HvStatus::INVALID_PARAMETER,
        "GetVpRegisters",
    );
    let absent_name = HvRegisterName::VSM_VP_STATUS;
    let unknown = HvStatus::UNKNOWN_REGISTER_NAME;
    is(get(root, &vp, absent_name), unknown, "GetVpRegisters");
    let set = |root: &Root, vp: &Vp, name, value: u64| vp.try_set(root, &[(name, value.into())]).0;
    is(
        set(root, &vp, known, 0x1000),
        HvStatus::SUCCESS,
        "SetVpRegisters",
    );
    let value = HvStatus::INVALID_REGISTER_VALUE;
    is(
        set(root, &vp, HvRegisterName::CR4, 1 << 63),
        value,
        "SetVpRegisters",
    );
    let read_only = HvRegisterName::VP_INDEX;
    is(
        set(root, &vp, read_only, 1),
        HvStatus::INVALID_PARAMETER,
        "SetVpRegisters",
    );
    is(
        set(root, &absent, known, 0),
        HvStatus::INVALID_VP_INDEX,
        "SetVpRegisters",
    );
    is(
        set(root, &nobody, known, 0),
        HvStatus::INVALID_PARTITION_ID,
        "SetVpRegisters",
    );
    vp.resume(root);
    is(
        set(root, &vp, known, 0),
        HvStatus::INVALID_VP_STATE,
        "SetVpRegisters",
    );
    is(
        get(root, &vp, known),
        HvStatus::SUCCESS,
        "GetVpRegisters of a running VP",
    );
    vp.stop(root);

    for (vp, wanted) in [
        (&vp, HvStatus::SUCCESS),
        (&absent, HvStatus::INVALID_VP_INDEX),
        (&nobody, HvStatus::INVALID_PARTITION_ID),
    ] {
        let input = HvInputTranslateVirtualAddress {
            partition_id: vp.partition,
            vp_index: vp.index,
            gva_page: 1,
            ..HvInputTranslateVirtualAddress::default()
        };
        let call = HvCallCode::TRANSLATE_VIRTUAL_ADDRESS;
        let output: Result<HvOutputTranslateVirtualAddress, _> = root.calls.ask(call, &input);
        let status = output.err().unwrap_or(HvStatus::SUCCESS);
        is(status, wanted, "TranslateVirtualAddress");
        let input = HvInputGetVpCpuidValues {
            partition_id: vp.partition,
            vp_index: vp.index,
            ..HvInputGetVpCpuidValues::default()
        };
        let leaf = tlfs::HvCpuidLeafInfo::default();
        let parts = [input.as_bytes(), leaf.as_bytes()];
        let call = HvCallCode::GET_VP_CPUID_VALUES;
        let (status, _) = root.calls.rep(call, (0, 1), &parts, &mut []);
        is(status, wanted, "GetVpCpuidValues");
    }
    child.end(root);
    ok!("registers, translations, CPUID values");
}

/// InstallIntercept, RegisterInterceptResult, UnregisterInterceptResult.
pub fn intercepts(root: &mut Root) {
    let child = Child::active(root, VMM_FLAGS);
    let fresh = Child::create(root, VMM_FLAGS);
    let nobody = Child::named(NOBODY);
    let (kind, execute) = (HvInterceptType::X64_CPUID, HvInterceptAccessMask::EXECUTE);
    let leaf = HvInterceptParameters::cpuid(1);
    for (child, kind, wanted) in [
        (&child, kind, HvStatus::SUCCESS),
        (&child, HvInterceptType(99), HvStatus::INVALID_PARAMETER),
        (&fresh, kind, HvStatus::INVALID_PARTITION_STATE),
        (&nobody, kind, HvStatus::INVALID_PARTITION_ID),
    ] {
        let status = child.try_intercept(root, kind, execute, leaf);
        is(status, wanted, "InstallIntercept");
    }
    let cpuid = HvRegisterX64CpuidResultParameters::default();
    let msr = HvRegisterX64MsrResultParameters {
        action: HvUnimplementedMsrAction(9),
        ..HvRegisterX64MsrResultParameters::default()
    };
    let cpuid = |id, vp| HvInputRegisterInterceptResult::new(id, vp, kind, &cpuid);
    let (any, msrs) = (HvVpIndex::ANY, HvInterceptType::X64_MSR);
    let exception = HvInterceptType::EXCEPTION;
    let register = HvCallCode::REGISTER_INTERCEPT_RESULT;
    let unregister = HvCallCode::UNREGISTER_INTERCEPT_RESULT;
    let bad = HvInputRegisterInterceptResult::new(child.id, any, msrs, &msr);
    let odd = HvInputRegisterInterceptResult::new(child.id, any, exception, &msr);
    for (code, input, wanted) in [
        (register, cpuid(child.id, any), HvStatus::SUCCESS),
        (register, bad, HvStatus::INVALID_PARAMETER),
        (
            register,
            cpuid(child.id, ABSENT),
            HvStatus::INVALID_VP_INDEX,
        ),
        (register, cpuid(NOBODY, any), HvStatus::INVALID_PARTITION_ID),
        (unregister, cpuid(child.id, any), HvStatus::SUCCESS),
        (unregister, odd, HvStatus::INVALID_PARAMETER),
        (
            unregister,
            cpuid(NOBODY, any),
            HvStatus::INVALID_PARTITION_ID,
        ),
    ] {
        let status = root.calls.order(code, &input.unwrap_or_default());
        is(status, wanted, "a registered result");
    }
    fresh.bury(root);
    child.end(root);
    ok!("intercepts and their results");
}

/// AssertVirtualInterrupt, ClearVirtualInterrupt.
pub fn interrupts(root: &mut Root) {
    const CLEAR: HvCallCode = HvCallCode::CLEAR_VIRTUAL_INTERRUPT;
    let (child, vp) = looping(root);
    // A gate of vector 0x40 that leads back to the loop, with interrupts off.
    child.poke(0x6008, 0x00CF_9B00_0000_FFFF);
    child.poke(0x7000 + 8 * 0x40, 0x1000 | 0x08 << 16 | 0x8E00 << 32);
    vp.set_tables(root, (0x6000, 0xF), (0x7000, 0x7FF));
    // ExtINT comes through LINT0.
    vp.set64(
        root,
        &[
            (HvRegisterName::RFLAGS, 0x202),
            (HvRegisterName::APIC_SPURIOUS, 0x1FF),
            (HvRegisterName::APIC_LVT_LINT0, 0x700),
        ],
    );
    let assert = |root: &Root, id, kind, vector| {
        let input = HvInputAssertVirtualInterrupt {
            partition_id: id,
            control: HvInterruptControl::new().with_interrupt_type(kind),
            vector,
            ..HvInputAssertVirtualInterrupt::default()
        };
        root.calls
            .order(HvCallCode::ASSERT_VIRTUAL_INTERRUPT, &input)
    };
    let clear = |root: &Root, id: HvPartitionId| root.calls.fast(CLEAR, id.0, 0);
    let external = HvInterruptType::EXT_INT;
    is(clear(root, child.id), HvStatus::SUCCESS, "nothing to clear");
    is(
        assert(root, child.id, external, 0x40),
        HvStatus::SUCCESS,
        "ExtINT",
    );
    is(
        clear(root, child.id),
        HvStatus::NOT_ACKNOWLEDGED,
        "a pending ExtINT",
    );
    // An emulator may stand still for as long as the child has.
    let mut taken = HvStatus::NOT_ACKNOWLEDGED;
    for _ in 0..50 {
        is(
            assert(root, child.id, external, 0x40),
            HvStatus::SUCCESS,
            "ExtINT",
        );
        vp.resume(root);
        root.messages.sleep(20_000);
        let waits = vp.stop(root);
        report::same(waits, false, "an intercept of the loop");
        taken = clear(root, child.id);
        if taken != HvStatus::NOT_ACKNOWLEDGED {
            break;
        }
    }
    is(taken, HvStatus::ACKNOWLEDGED, "a taken ExtINT");
    let nobody = HvStatus::INVALID_PARTITION_ID;
    is(clear(root, NOBODY), nobody, "ClearVirtualInterrupt");
    is(
        assert(root, NOBODY, external, 0x40),
        nobody,
        "AssertVirtualInterrupt",
    );
    let bad = assert(root, child.id, HvInterruptType(50), 0x40);
    is(bad, HvStatus::INVALID_PARAMETER, "AssertVirtualInterrupt");
    child.end(root);
    ok!("interrupts");
}

/// MapVpStatePage, UnmapVpStatePage, MapStatsPage, UnmapStatsPage.
pub fn pages(root: &mut Root) {
    const MAP: HvCallCode = HvCallCode::MAP_VP_STATE_PAGE;
    const UNMAP: HvCallCode = HvCallCode::UNMAP_VP_STATE_PAGE;
    let (child, vp) = looping(root);
    let (id, index) = (child.id, vp.index);
    let ghcb = HvVpStatePageType::GHCB;
    let page_type = HvVpStatePageType::REGISTERS;
    let unmap = |id, index, page_type| HvInputUnmapVpStatePage {
        partition_id: id,
        vp_index: index,
        page_type,
        ..HvInputUnmapVpStatePage::default()
    };
    let (nobody, absent) = (HvStatus::INVALID_PARTITION_ID, HvStatus::INVALID_VP_INDEX);
    let invalid = HvStatus::INVALID_PARAMETER;
    for (input, wanted) in [
        (state_page(id, index, ghcb), invalid),
        (state_page(id, ABSENT, page_type), absent),
        (state_page(NOBODY, index, page_type), nobody),
    ] {
        is(root.calls.order(MAP, &input), wanted, "MapVpStatePage");
    }
    for (input, wanted) in [
        (unmap(id, index, ghcb), invalid),
        (unmap(id, ABSENT, page_type), absent),
        (unmap(NOBODY, index, page_type), nobody),
        (unmap(id, index, page_type), HvStatus::SUCCESS),
    ] {
        is(root.calls.order(UNMAP, &input), wanted, "UnmapVpStatePage");
    }
    let again = root.calls.order(MAP, &state_page(id, index, page_type));
    is(again, HvStatus::SUCCESS, "MapVpStatePage again");
    stats_pages(root, &vp);
    child.end(root);
    ok!("state pages and stats pages");
}

fn stats_pages(root: &Root, vp: &Vp) {
    const MAP: HvCallCode = HvCallCode::MAP_STATS_PAGE;
    const UNMAP: HvCallCode = HvCallCode::UNMAP_STATS_PAGE;
    let of = |id, index, area| {
        let identity = HvStatsObjectIdentity::vp(id, index, area);
        stats::object(HvStatsObjectType::VP, identity)
    };
    let own = HvStatsAreaType::SELF;
    let this = of(vp.partition, vp.index, own);
    let odd = stats::object(HvStatsObjectType(0x55), this.identity);
    for (input, map, unmap) in [
        (
            odd,
            HvStatus::INVALID_PARAMETER,
            HvStatus::INVALID_PARAMETER,
        ),
        (
            of(vp.partition, ABSENT, own),
            HvStatus::INVALID_VP_INDEX,
            HvStatus::INVALID_VP_INDEX,
        ),
        (
            of(NOBODY, vp.index, own),
            HvStatus::INVALID_PARTITION_ID,
            HvStatus::INVALID_PARTITION_ID,
        ),
        (this, HvStatus::SUCCESS, HvStatus::SUCCESS),
    ] {
        is(root.calls.order(MAP, &input), map, "MapStatsPage");
        if map.is_success() {
            let twice = root.calls.order(MAP, &input);
            is(twice, HvStatus::OPERATION_DENIED, "MapStatsPage twice");
        }
        is(root.calls.order(UNMAP, &input), unmap, "UnmapStatsPage");
    }
    let twice = root.calls.order(UNMAP, &this);
    is(twice, HvStatus::OPERATION_DENIED, "UnmapStatsPage twice");
}

/// GetVpState, SetVpState.
pub fn state(root: &mut Root) {
    let (child, vp) = looping(root);
    let page = root.memory.zeroed();
    let call = |root: &Root, code, id, index, state_type| {
        let header = HvInputVpState {
            partition_id: id,
            vp_index: index,
            state_data: HvVpStateData {
                state_type,
                ..HvVpStateData::default()
            },
            ..HvInputVpState::default()
        };
        let list = page / PAGE;
        let control = HvHypercallInput::simple(code).with_variable_header_size(1);
        let parts = [header.as_bytes(), list.as_bytes()];
        root.calls.call(control, &parts, &mut []).call_status()
    };
    let apic = HvGetSetVpStateType::LOCAL_INTERRUPT_CONTROLLER_STATE;
    let strange = HvGetSetVpStateType(0x8000_0077);
    for code in [HvCallCode::GET_VP_STATE, HvCallCode::SET_VP_STATE] {
        let (id, index) = (vp.partition, vp.index);
        for (id, index, kind, wanted) in [
            (id, index, apic, HvStatus::SUCCESS),
            (id, index, strange, HvStatus::INVALID_PARAMETER),
            (id, ABSENT, apic, HvStatus::INVALID_VP_INDEX),
            (NOBODY, index, apic, HvStatus::INVALID_PARTITION_ID),
        ] {
            is(
                call(root, code, id, index, kind),
                wanted,
                "the state of a VP",
            );
        }
        vp.resume(root);
        let running = call(root, code, id, index, apic);
        is(
            running,
            HvStatus::INVALID_VP_STATE,
            "the state of a running VP",
        );
        vp.stop(root);
    }
    root.memory.give_back(page);
    child.end(root);
    ok!("bulk state");
}
