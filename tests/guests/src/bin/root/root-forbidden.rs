//! What the root must not reach: each access is a #GP(0) of the root's, nothing changes, and the machine goes on.
#![no_std]
#![no_main]

use core::fmt::Debug;

use guests::metal::Boot;
use guests::metal::cpu::{rdmsr, wrmsr};
use guests::metal::memory::virtual_address;
use guests::metal::trap::{Fault, vector};
use guests::metal::vendor::{Vendor, vendor};
use guests::root::child::{RWX, VMM_FLAGS};
use guests::root::interrupts::{PROVIDED, hypervisor_pages, provided_page};
use guests::root::memory::{self, PAGE};
use guests::root::stats::{self, Holdings};
use guests::root::{Child, Root, Vp, report};
use guests::{check, fail, ok, probe, read_cr, root, write_cr};
use tlfs::{
    HvCallCode, HvHypercallInput, HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType,
    HvStatus,
};

root!(main);

const LOCAL_APIC: u64 = 0xFEE0_0000;

fn main(start: &Boot) {
    let mut root = Root::start(start);
    let before = Holdings::look(&mut root);
    hypervisor_memory(&root);
    page_tables(&mut root);
    provided_pages();
    deposited(&mut root);
    shared(&mut root);
    local_apic();
    processor_registers();
    ports();
    hypercall_blocks(&mut root);
    let after = Holdings::look(&mut root);
    report::same(after, before, "partitions, VPs, pages and frames");
    ok!("everything is as before: {after:?}");
    report::done()
}

#[track_caller]
fn general_protection<T: Debug>(result: Result<T, Fault>, what: &str) {
    match result {
        Err(Fault {
            vector: vector::PROTECTION,
            error: 0,
            ..
        }) => {}
        other => fail!("{what}: {other:x?} instead of #GP(0)"),
    }
}

fn read_at(address: u64) -> Result<u64, Fault> {
    let mut value = 0u64;
    probe!("mov {value}, [{address}]", value = inout(reg) value, address = in(reg) address)?;
    Ok(value)
}

fn write_at(address: u64, value: u64) -> Result<(), Fault> {
    probe!("mov [{address}], {value}", value = in(reg) value, address = in(reg) address)
}

fn jump_to(address: u64) -> Result<(), Fault> {
    probe!("jmp {address}", address = in(reg) address)
}

/// Read, written, exchanged, copied from and to: always #GP(0).
#[track_caller]
fn forbidden(gpa: u64, what: &str) {
    let address = virtual_address(gpa);
    general_protection(read_at(address), what);
    general_protection(write_at(address, 0), what);
    general_protection(
        probe!("lock xadd [{address}], {value}", address = in(reg) address, value = inout(reg) 1u64 => _),
        what,
    );
    let mut local = [0u64; 1];
    let here = local.as_mut_ptr() as u64;
    general_protection(
        probe!("movsq", inout("rsi") address => _, inout("rdi") here => _),
        what,
    );
    general_protection(
        probe!("movsq", inout("rsi") here => _, inout("rdi") address => _),
        what,
    );
}

/// The hypervisor's block, from end to end.
fn hypervisor_memory(root: &Root) {
    const PROBED: usize = 64;
    for page in hypervisor_pages::<PROBED>(&root.memory) {
        forbidden(page, "the hypervisor's memory");
        forbidden(page + PAGE - 8, "the hypervisor's memory");
    }
    ok!("the hypervisor's memory: {PROBED} pages");
    let [page] = hypervisor_pages(&root.memory);
    let address = virtual_address(page);
    memory::make_executable(address);
    general_protection(jump_to(address), "code in the hypervisor's memory");
    // The last bytes of the page before belong to the root or not: what crosses into the block is forbidden in any case.
    general_protection(read_at(address - 4), "a read that crosses into the block");
    ok!("the hypervisor's memory cannot be executed, nor be reached by crossing a page");
}

/// The root's page tables may name any address: the processor does not follow them there.
fn page_tables(root: &mut Root) {
    const SLOT: u64 = 300;
    const SLOT_ADDRESS: u64 = 0xFFFF_0000_0000_0000 | SLOT << 39;
    let [page] = hypervisor_pages(&root.memory);
    let tables = read_cr!(3) & !0xFFF;
    let old = memory::read(tables + 8 * SLOT);
    memory::write(tables + 8 * SLOT, page | 7);
    general_protection(
        read_at(SLOT_ADDRESS),
        "a page table in the hypervisor's memory",
    );
    let directory = root.memory.zeroed();
    memory::write(tables + 8 * SLOT, directory | 7);
    // A large page of which the hypervisor's block is a part.
    memory::write(directory, page & !((1 << 30) - 1) | 0x87);
    let offset = page & ((1 << 30) - 1);
    general_protection(
        read_at(SLOT_ADDRESS + offset),
        "the hypervisor's memory through another mapping",
    );
    memory::write(tables + 8 * SLOT, old);
    memory::forget_translations();
    root.memory.give_back(directory);
    ok!("page tables that lead to the hypervisor's memory lead nowhere");
}

/// Pages that the hypervisor provides are the root's to read, and to write where it must.
fn provided_pages() {
    for msr in PROVIDED {
        let gpa = provided_page(msr).gpfn() * PAGE;
        if let Err(fault) = read_at(virtual_address(gpa)) {
            fail!("the page of MSR {msr:#x} cannot be read: {fault:x?}");
        }
    }
    ok!("the pages that the MSRs name can be read");
}

/// Pages of a pool, until they come back.
fn deposited(root: &mut Root) {
    let child = Child::active(root, VMM_FLAGS);
    let mut pages = [0; 16];
    for page in &mut pages {
        *page = root.memory.frame();
        memory::fill(*page, 0x77, PAGE);
    }
    let (status, done) = root.try_deposit(child.id, &pages);
    report::same((status, done), (HvStatus::SUCCESS, 16), "DepositMemory");
    for page in pages {
        forbidden(page, "a deposited page");
    }
    // One that is in use now: VPs have objects.
    let vp = Vp::create(root, &child, 0);
    for page in pages {
        if page != vp.registers && page != vp.message {
            forbidden(page, "a page that an object is made of");
        }
    }
    let id = child.id;
    let status = child.order(root, HvCallCode::FINALIZE_PARTITION, true);
    report::status(status, HvStatus::SUCCESS, "FinalizePartition");
    for page in pages {
        forbidden(page, "a page of a finalized partition's pool");
    }
    forbidden(vp.registers, "a register page of a finalized partition");
    forbidden(vp.message, "an intercept page of a finalized partition");
    let _ = id;
    child.bury(root);
    // They are the allocator's again, which keeps a link in their first words.
    for page in pages {
        let address = virtual_address(page + 64);
        report::same(read_at(address), Ok(0), "a page that came back");
        report::same(write_at(address, 5), Ok(()), "a page that came back");
        report::same(write_at(address, 0), Ok(()), "a page that came back");
    }
    ok!("deposited pages are out of reach until they are withdrawn");
}

/// Pages that the root shares: state pages are writable, stats pages are not, child RAM is the root's.
fn shared(root: &mut Root) {
    let child = Child::with_ram(root, VMM_FLAGS);
    let vp = Vp::create(root, &child, 0);
    for page in [vp.registers, vp.message] {
        let address = virtual_address(page + PAGE - 8);
        report::same(write_at(address, 9), Ok(()), "a state page");
        report::same(read_at(address), Ok(9), "a state page");
    }
    let ram = virtual_address(child.ram(0x5000));
    report::same(write_at(ram, 11), Ok(()), "RAM of a child");
    report::same(read_at(ram), Ok(11), "RAM of a child");
    child.map(root, 0x5000, &[child.ram(0x5000)], RWX);
    let identity = HvStatsObjectIdentity::vp(child.id, vp.index, HvStatsAreaType::SELF);
    let input = stats::object(HvStatsObjectType::VP, identity);
    let page = stats::map(root, &input);
    readable(page);
    stats::unmap(root, &input);
    general_protection(read_at(virtual_address(page)), "an unmapped stats page");
    let input = stats::of_hypervisor();
    let page = stats::map(root, &input);
    readable(page);
    let twice = root.calls.order(HvCallCode::MAP_STATS_PAGE, &input);
    report::status(twice, HvStatus::OPERATION_DENIED, "MapStatsPage twice");
    stats::unmap(root, &input);
    general_protection(read_at(virtual_address(page)), "an unmapped stats page");
    child.end(root);
    ok!("state pages and child RAM are writable, stats pages only readable");
}

fn readable(stats_page: u64) {
    for offset in [0, 8, 16, PAGE - 8] {
        let address = virtual_address(stats_page + offset);
        let value = read_at(address);
        check!(value.is_ok(), "a stats page cannot be read: {value:x?}");
        general_protection(write_at(address, 0x1234), "a stats page");
        report::same(read_at(address), value, "a stats page after a write");
    }
}

/// The physical local APIC is the hypervisor's; the root has one of its own, in MSRs.
fn local_apic() {
    for offset in [0, 0x20, 0x30, 0xB0, 0x300, 0xFF8] {
        forbidden(LOCAL_APIC + offset, "the local APIC's page");
    }
    check!(rdmsr(0x802).is_ok(), "the root's own APIC has no id");
    ok!("the page of the local APIC");
}

/// What belongs to virtualization, by either vendor.
fn processor_registers() {
    const EFER: u32 = 0xC000_0080;
    const SVME: u64 = 1 << 12;
    const VMXE: u64 = 1 << 13;
    const UNKNOWN_SYNTHETIC: u32 = 0x4000_01FE;
    // VM_HSAVE_PA and VM_CR; VMX_BASIC and EPT_VPID_CAP.
    let registers = match vendor() {
        Vendor::Amd => [0xC001_0117, 0xC001_0114],
        Vendor::Intel => [0x480, 0x48C],
    };
    let efer = rdmsr(EFER).unwrap_or_else(|fault| fail!("EFER: {fault:x?}"));
    report::same(efer & SVME, 0, "EFER.SVME");
    general_protection(wrmsr(EFER, efer | SVME), "EFER.SVME");
    report::same(rdmsr(EFER), Ok(efer), "EFER after that");
    let cr4 = read_cr!(4);
    report::same(cr4 & VMXE, 0, "CR4.VMXE");
    // On AMD's the bit is reserved, but QEMU's software CPU takes it, and refuses to run the VP afterwards.
    if vendor() == Vendor::Intel {
        general_protection(write_cr!(4, cr4 | VMXE), "CR4.VMXE");
    }
    for msr in registers {
        general_protection(rdmsr(msr), "an MSR of virtualization");
        general_protection(wrmsr(msr, 0x1000), "an MSR of virtualization");
    }
    const FEATURE_CONTROL: u32 = 0x3A;
    report::same(rdmsr(FEATURE_CONTROL), Ok(1), "feature control: locked");
    general_protection(wrmsr(FEATURE_CONTROL, 5), "feature control");
    general_protection(rdmsr(UNKNOWN_SYNTHETIC), "an unknown synthetic MSR");
    general_protection(wrmsr(UNKNOWN_SYNTHETIC, 1), "an unknown synthetic MSR");
    for (name, result) in [
        ("VMRUN", probe!("vmrun rax", in("rax") 0x1000u64)),
        ("VMLOAD", probe!("vmload rax", in("rax") 0x1000u64)),
        ("VMSAVE", probe!("vmsave rax", in("rax") 0x1000u64)),
        ("CLGI", probe!("clgi")),
        ("STGI", probe!("stgi")),
        ("VMXOFF", probe!("vmxoff")),
        ("VMLAUNCH", probe!("vmlaunch")),
        (
            "VMREAD",
            probe!("vmread {v}, {f}", v = out(reg) _, f = in(reg) 0u64),
        ),
        ("INVEPT", probe!("invept {t}, [rsp]", t = in(reg) 2u64)),
    ] {
        match result {
            Err(fault) if fault.vector == vector::UNDEFINED => {}
            other => fail!("{name}: {other:x?} instead of #UD"),
        }
    }
    ok!("MSRs and instructions of virtualization");
}

/// All ports are the root's; what runs past the last one is nobody's.
fn ports() {
    general_protection(
        probe!("in eax, dx", in("dx") 0xFFFFu16, out("eax") _),
        "four ports from the last one on",
    );
    ok!("ports past the last one");
}

/// The root does not get the hypervisor to reach for it either.
fn hypercall_blocks(root: &mut Root) {
    let child = Child::with_ram(root, VMM_FLAGS);
    let deposited = root.memory.frame();
    let (status, _) = root.try_deposit(child.id, &[deposited]);
    report::status(status, HvStatus::SUCCESS, "DepositMemory");
    let [own] = hypervisor_pages(&root.memory);
    let control = HvHypercallInput::simple(HvCallCode::GET_PARTITION_PROPERTY);
    for (what, page) in [
        ("the hypervisor's memory", own),
        ("a deposited page", deposited),
        ("the local APIC", LOCAL_APIC),
        ("an address beyond all memory", 1 << 50),
    ] {
        for (input, output) in [
            (page, root.calls.output),
            (root.calls.input, page),
            (page, page),
        ] {
            root.calls
                .fill_input(&[&u64::MAX.to_le_bytes(), &[0, 0, 6, 0, 0, 0, 0, 0]]);
            let status = root.calls.raw(control, input, output).call_status();
            check!(!status.is_success(), "a hypercall block in {what} is taken");
        }
        let source = [page];
        let (status, done) = child.try_map(root, 0x20_0000, &source, RWX);
        check!(
            matches!(status, HvStatus::OPERATION_DENIED | HvStatus::OBJECT_IN_USE),
            "{what} as a child's RAM: {status}"
        );
        report::same(done, 0, "pages mapped");
        ok!("{what} is no hypercall block and no RAM of a child");
    }
    let status = root
        .calls
        .raw(control, root.calls.input + 4, root.calls.output);
    report::status(
        status.call_status(),
        HvStatus::INVALID_ALIGNMENT,
        "an input block that is not aligned",
    );
    child.end(root);
}
