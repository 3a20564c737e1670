//! G.3: a minimal VMM, step by step, with the child's code of the crates' test.

use guests::root::child::{RWX, VMM_FLAGS};
use guests::root::memory::{self, PAGE};
use guests::root::stats;
use guests::root::vp::{self, gp, payload};
use guests::root::{Child, Root, Vp, report};
use guests::{check, child_code, fail, ok};
use tlfs::{
    HV_VP_REGISTER_PAGE_VERSION_1, HvCallCode, HvInputSetPartitionProperty, HvInterceptAccessType,
    HvMapGpaFlags, HvMessageType, HvOutputMapVpStatePage, HvPartitionPropertyCode,
    HvPartitionSyntheticProcessorFeatures, HvRegisterName, HvStatsAreaType, HvStatsObjectIdentity,
    HvStatsObjectType, HvStatus, HvUnmapGpaFlags, HvVpIndex, HvVpStatePageType,
    HvX64IoPortInterceptMessage, HvX64MemoryInterceptMessage, HvX64RegisterPageDirtyFlags,
    HvX64SegmentRegister,
};

use crate::teardown;

/// How the child's pool is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payment {
    /// As Linux: 208 pages for the partition, 90 for a VP, and what is asked for.
    InAdvance,
    /// Nothing in advance: every page after a refusal.
    PageByPage,
}

/// Guest pages of RAM: more than one batch of 509.
const GUEST_PAGES: usize = 600;
/// A page of the guest's that no RAM backs.
const MMIO: u64 = 0xF000_0000;
/// A large page of the guest's.
const LARGE: u64 = 0x4000_0000;
const CODE: u64 = 0x1000;
const FLAT_CODE: u64 = 0x2000;
/// Type of RAM in the memory map.
const RAM: u32 = 1;
/// Offset of the loop in `flat_code`.
const LOOP_AT: u64 = 23;
/// How Linux reserves a region.
const UNTOUCHABLE: HvMapGpaFlags =
    HvMapGpaFlags(HvMapGpaFlags::NO_ACCESS.0 | HvMapGpaFlags::ADJUSTABLE.0);

child_code!(
    /// The crates' `test_run_code`, and more: port output, port input, MMIO, a large page, a loop.
    guest_code,
    "16",
    "mov dx, 0x3f8",
    "mov al, bl",
    "add al, '0'",
    "out dx, al",
    "mov dx, 0x3fd",
    "in al, dx",
    "mov dx, 0x80",
    "out dx, al",
);

child_code!(
    /// From here in 32-bit mode: reads MMIO, fills the first word of the large page, counts for ever at 0x3000. With
    /// interrupts off nothing physical would end that in Bochs.
    flat_code,
    "32",
    "mov eax, dword ptr [0xF0000123]",
    "mov dword ptr [0x40000000], eax",
    "mov ecx, dword ptr [0x40000000]",
    "mov dx, 0x80",
    "mov eax, ecx",
    "out dx, eax",
    "sti",
    "2: inc dword ptr [0x3000]",
    "jmp 2b",
);

/// A VM under way.
struct Vmm {
    child: Child,
    vp: Vp,
    /// Pages deposited when MapGpaPages asks for memory.
    per_shortage: u64,
}

/// Runs the whole sequence, from CreatePartition to DeletePartition.
pub fn minimal_vmm(root: &mut Root, payment: Payment) {
    // Step 3 and 4.
    let child = Child::create(root, VMM_FLAGS);
    let features = HvPartitionSyntheticProcessorFeatures::VMM_DEFAULT.0;
    let property = HvPartitionPropertyCode::SYNTHETIC_PROC_FEATURES;
    child.set_property(root, property, features);
    // Step 5.
    if payment == Payment::InAdvance {
        root.deposit(child.id, 208);
    }
    child.initialize(root);
    refuse_early_calls(root, &child);
    ok!("{payment:?}: create, property, initialize");
    // Step 6.
    let per_shortage = match payment {
        Payment::InAdvance => 256,
        Payment::PageByPage => 1,
    };
    child.map_paying(root, 0, &[0; GUEST_PAGES], UNTOUCHABLE, per_shortage);
    ok!("{payment:?}: {GUEST_PAGES} pages without access");
    // Step 8.
    if payment == Payment::InAdvance {
        root.deposit(child.id, 90);
    }
    let vp = Vp::create(root, &child, 0);
    fresh_pages(root, &vp);
    vp_stats(root, &child);
    ok!("{payment:?}: VP with register page, intercept page and stats page");
    let mut vmm = Vmm {
        child,
        vp,
        per_shortage,
    };
    vmm.run_real_mode(root);
    let counter = vmm.run_flat(root);
    vmm.stop_and_start(root, counter);
    second_vp(root, &vmm.child);
    teardown::with_running_vp(root, vmm.child, &vmm.vp, counter);
    ok!("{payment:?}: the whole life of a VM");
}

fn refuse_early_calls(root: &Root, child: &Child) {
    let input = HvInputSetPartitionProperty {
        partition_id: child.id,
        property_code: HvPartitionPropertyCode::SYNTHETIC_PROC_FEATURES,
        padding: 0,
        property_value: 0,
    };
    let status = root.calls.order(HvCallCode::SET_PARTITION_PROPERTY, &input);
    report::status(
        status,
        HvStatus::INVALID_PARTITION_STATE,
        "an early property after InitializePartition",
    );
    let status = child.order(root, HvCallCode::INITIALIZE_PARTITION, true);
    report::status(
        status,
        HvStatus::INVALID_PARTITION_STATE,
        "InitializePartition twice",
    );
}

/// B.7: the register page holds the reset state before the first run; both pages are RAM of the root's map.
fn fresh_pages(root: &Root, vp: &Vp) {
    for page in [vp.registers, vp.message] {
        report::same(root.memory.kind_of(page), Some(RAM), "a state page is RAM");
    }
    let page = vp.page();
    report::same(
        page.is_valid,
        1,
        "validity of the page before the first run",
    );
    report::same(page.version, HV_VP_REGISTER_PAGE_VERSION_1, "version");
    report::same(page.dirty, HvX64RegisterPageDirtyFlags(0), "dirty bits");
    report::same(page.rip, 0xFFF0, "RIP after reset");
    report::same(page.rflags, 2, "RFLAGS after reset");
    let cs = page.segment[1];
    report::same(
        (cs.selector, cs.base),
        (0xF000, 0xFFFF_0000),
        "CS after reset",
    );
    report::same(page.cr0 & 0x8000_0001, 0, "CR0 after reset");
    let suspended = vp.get(root, HvRegisterName::EXPLICIT_SUSPEND);
    report::same(suspended, 1, "ExplicitSuspend of a new VP");
    let intercepted = vp.get(root, HvRegisterName::INTERCEPT_SUSPEND);
    report::same(intercepted, 0, "InterceptSuspend of a new VP");
}

/// Linux maps SELF and PARENT of every VP; PARENT may say INVALID_PARAMETER only (root sheet E.1).
fn vp_stats(root: &mut Root, child: &Child) {
    let [own, parent] = [HvStatsAreaType::SELF, HvStatsAreaType::PARENT].map(|area| {
        let identity = HvStatsObjectIdentity::vp(child.id, HvVpIndex(0), area);
        stats::object(HvStatsObjectType::VP, identity)
    });
    let page = stats::map(root, &own);
    report::same(root.memory.kind_of(page), Some(RAM), "a stats page is RAM");
    let map = |input| root.calls.order(HvCallCode::MAP_STATS_PAGE, input);
    match map(&parent) {
        HvStatus::SUCCESS => stats::unmap(root, &parent),
        status => report::status(status, HvStatus::INVALID_PARAMETER, "area PARENT"),
    }
    let again = map(&own);
    report::status(
        again,
        HvStatus::OPERATION_DENIED,
        "a stats page mapped twice",
    );
}

impl Vmm {
    /// An access to a page without access: GPA_INTERCEPT, as for every region that Linux manages. The page becomes RAM.
    fn fault_in(&self, root: &mut Root, gpa: u64, frame: u64) {
        let vp = self.vp;
        let message: HvX64MemoryInterceptMessage = vp.run_to(root, HvMessageType::GPA_INTERCEPT);
        report::same(
            message.guest_physical_address & !(PAGE - 1),
            gpa,
            "page of a GPA intercept",
        );
        self.child.map(root, gpa, &[frame], RWX);
    }

    /// Steps 9 to 13: the crates' `test_run_code`.
    fn run_real_mode(&mut self, root: &mut Root) {
        let vp = self.vp;
        let frame = self.child.new_frame(root);
        memory::copy_to(frame, guest_code());
        let real = HvX64SegmentRegister {
            limit: 0xFFFF,
            ..vp::flat(0, 0x9B)
        };
        vp.set(root, &[(HvRegisterName::CS, real.into())]);
        vp.set64(
            root,
            &[
                (HvRegisterName::RIP, CODE),
                (HvRegisterName::RAX, 2),
                (HvRegisterName::RBX, 3),
                (HvRegisterName::RFLAGS, 2),
            ],
        );
        report::same(
            vp.rip(),
            CODE,
            "RIP in the register page after SetVpRegisters",
        );
        report::same(vp.take(gp::RBX), 3, "RBX in the register page");
        self.fault_in(root, CODE, frame);

        let out = port(root, &vp, 0x3F8, HvInterceptAccessType::WRITE);
        report::same(out.rax as u8, b'3', "the byte written");
        report::same(out.header.instruction_length(), 1, "length of OUT DX, AL");
        report::same(out.header.rip, vp.rip(), "RIP of message and register page");
        let protected = out.header.execution_state.cr0_pe();
        check!(!protected, "real mode has CR0.PE");
        vp.skip(out.header.instruction_length());

        let input = port(root, &vp, 0x3FD, HvInterceptAccessType::READ);
        let dirty = vp.page().dirty;
        report::same(
            dirty,
            HvX64RegisterPageDirtyFlags(0),
            "dirty bits after a run",
        );
        vp.put(gp::RAX, input.rax & !0xFF | 0x60);
        vp.skip(input.header.instruction_length());

        let echo = port(root, &vp, 0x80, HvInterceptAccessType::WRITE);
        report::same(echo.rax as u8, 0x60, "the byte read");
        // The region is movable: back to no access and to RAM again (trap 14).
        self.child.map(root, CODE, &[0], UNTOUCHABLE);
        self.fault_in(root, CODE, frame);
        port(root, &vp, 0x80, HvInterceptAccessType::WRITE);
        ok!("first fetch, OUT, IN, remap as in the crates' test_run_code");
    }

    /// Step 14: MMIO as an unmapped page; a region of large pages. Returns where the child's counter is.
    fn run_flat(&mut self, root: &mut Root) -> u64 {
        let vp = self.vp;
        let code = self.child.new_frame(root);
        let data = self.child.new_frame(root);
        memory::copy_to(code, flat_code());
        let pages = [code, data];
        self.child
            .map_paying(root, FLAT_CODE, &pages, RWX, self.per_shortage);
        vp.enter_flat(root, FLAT_CODE);

        let mmio = unmapped(root, &vp, MMIO + 0x123, HvInterceptAccessType::READ);
        report::same(mmio.header.rip, FLAT_CODE, "RIP of an MMIO access");
        vp.put(gp::RAX, 0xC0FF_EE11);
        vp.skip(5);

        // Nobody has mapped the large region yet.
        unmapped(root, &vp, LARGE, HvInterceptAccessType::WRITE);
        let host = root.memory.large(1);
        memory::write(host, 0);
        let map = |root: &mut Root, list: &[u64], flags| {
            let flags = flags | HvMapGpaFlags::LARGE_PAGE;
            self.child
                .map_paying(root, LARGE, list, flags, self.per_shortage);
        };
        map(root, &[0, 0], UNTOUCHABLE);
        let denied: HvX64MemoryInterceptMessage = vp.run_to(root, HvMessageType::GPA_INTERCEPT);
        report::same(denied.guest_physical_address, LARGE, "address");
        map(root, &[host], RWX);
        let out = port(root, &vp, 0x80, HvInterceptAccessType::WRITE);
        report::same(
            out.rax as u32,
            0xC0FF_EE11,
            "what went through the large page",
        );
        report::same(out.access_info.access_size(), 4, "size of OUT DX, EAX");
        report::same(memory::read(host) as u32, 0xC0FF_EE11, "the large page");
        vp.skip(out.header.instruction_length());

        // The page goes; a run finds it unmapped, and it comes back.
        let rip = vp.rip();
        let unmapping = self
            .child
            .unmap(root, LARGE, 2, HvUnmapGpaFlags::LARGE_PAGE);
        report::same(
            unmapping,
            (HvStatus::SUCCESS, 2),
            "two large pages unmapped",
        );
        vp.jump(FLAT_CODE + 5);
        unmapped(root, &vp, LARGE, HvInterceptAccessType::WRITE);
        map(root, &[host], RWX);
        vp.jump(rip);
        ok!("MMIO, and a large page: absent, without access, mapped, unmapped, mapped");
        data
    }

    /// Step 16: a signal. ExplicitSuspend is synchronous, and no kick comes after it.
    fn stop_and_start(&self, root: &mut Root, counter: u64) {
        let vp = self.vp;
        for round in 0..8 {
            let before = memory::read(counter);
            vp.resume(root);
            root.messages.sleep(20_000);
            let waits = vp.stop(root);
            check!(!waits, "a loop without intercepts ends in one");
            let (rip, now) = (vp.get(root, HvRegisterName::RIP), memory::read(counter));
            check!(now > before, "the child did not run in round {round}");
            root.messages.sleep(5_000);
            report::same(memory::read(counter), now, "the counter of a suspended VP");
            let still = vp.get(root, HvRegisterName::RIP);
            report::same(still, rip, "RIP of a suspended VP");
            report::same(vp.rip(), rip, "RIP in the register page");
            let kick = root.messages.poll();
            check!(kick.is_none(), "a kick comes after ExplicitSuspend");
        }
        ok!("ExplicitSuspend is synchronous");
        // A stop while an intercept is under way: the bit says whether a kick comes. Now it surely does.
        vp.jump(FLAT_CODE);
        vp.resume(root);
        root.messages.sleep(20_000);
        check!(
            vp.stop(root),
            "InterceptSuspend does not show the intercept"
        );
        let message = vp.wait(root);
        let _: HvX64MemoryInterceptMessage = payload(&message, HvMessageType::UNMAPPED_GPA);
        // Only one of the two holds is lifted: the VP must stay where it is.
        vp.set64(root, &[(HvRegisterName::EXPLICIT_SUSPEND, 0)]);
        root.messages.sleep(10_000);
        check!(
            root.messages.poll().is_none(),
            "a VP in InterceptSuspend runs"
        );
        report::same(vp.rip(), FLAT_CODE, "RIP of a VP in InterceptSuspend");
        // Both in one call, in Linux's order: the same access again.
        unmapped(root, &vp, MMIO + 0x123, HvInterceptAccessType::READ);
        vp.jump(FLAT_CODE + LOOP_AT);
        ok!("a stop finds the intercept that was under way, and one hold is enough");
    }
}

fn port(
    root: &mut Root,
    vp: &Vp,
    number: u16,
    access: HvInterceptAccessType,
) -> HvX64IoPortInterceptMessage {
    let message: HvX64IoPortInterceptMessage =
        vp.run_to(root, HvMessageType::X64_IO_PORT_INTERCEPT);
    report::same(message.port_number, number, "port");
    report::same(
        message.header.intercept_access_type,
        access,
        "access to a port",
    );
    message
}

fn unmapped(
    root: &mut Root,
    vp: &Vp,
    gpa: u64,
    access: HvInterceptAccessType,
) -> HvX64MemoryInterceptMessage {
    let message: HvX64MemoryInterceptMessage = vp.run_to(root, HvMessageType::UNMAPPED_GPA);
    report::same(
        message.guest_physical_address,
        gpa,
        "address without a page",
    );
    report::same(
        message.header.intercept_access_type,
        access,
        "access to memory",
    );
    message
}

/// A VP whose creation is undone: DeleteVp in registers, as in Linux's error path.
fn second_vp(root: &mut Root, child: &Child) {
    let second = Vp::create(root, child, 1);
    for page_type in [
        HvVpStatePageType::REGISTERS,
        HvVpStatePageType::INTERCEPT_MESSAGE,
    ] {
        let status = second.unmap_page(root, page_type);
        report::status(status, HvStatus::SUCCESS, "UnmapVpStatePage");
    }
    let status = child.delete_vp(root, HvVpIndex(1), true);
    report::status(status, HvStatus::SUCCESS, "DeleteVp in registers");
    let status = child.delete_vp(root, HvVpIndex(1), true);
    report::status(status, HvStatus::INVALID_VP_INDEX, "DeleteVp twice");
    let input = vp::state_page(child.id, HvVpIndex(1), HvVpStatePageType::REGISTERS);
    let page: Result<HvOutputMapVpStatePage, _> =
        root.calls.ask(HvCallCode::MAP_VP_STATE_PAGE, &input);
    let wanted = Err(HvStatus::INVALID_VP_INDEX);
    report::same(page.map(|_| ()), wanted, "a page of a deleted VP");
    // The index can be used again.
    let again = Vp::create(root, child, 1);
    report::same(again.rip(), 0xFFF0, "RIP of a new VP with an old index");
    // ClearVirtualInterrupt in registers: nothing is asserted.
    let status = child.order(root, HvCallCode::CLEAR_VIRTUAL_INTERRUPT, true);
    match status {
        HvStatus::SUCCESS | HvStatus::ACKNOWLEDGED | HvStatus::NOT_ACKNOWLEDGED => {}
        other => fail!("ClearVirtualInterrupt: {other}"),
    }
    ok!("DeleteVp and ClearVirtualInterrupt in registers");
}
