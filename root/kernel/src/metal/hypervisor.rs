//! The hypervisor below: features, hypercall page, SynIC.

use core::arch::asm;
use core::arch::x86_64::__cpuid;

use root_kernel::addr::{PAGE_SIZE, Pfn};
use root_kernel::frames::Owner;
use root_kernel::hv::{Hypercalls, simple};
use root_kernel::paging::{Attributes, Rights};
use tlfs::{
    HV_X64_MSR_CRASH_CTL, HV_X64_MSR_CRASH_P0, HV_X64_MSR_EOM, HV_X64_MSR_GUEST_OS_ID,
    HV_X64_MSR_HYPERCALL, HV_X64_MSR_SCONTROL, HV_X64_MSR_SIMP, HV_X64_MSR_SINT0, HvCallCode,
    HvCrashCtl, HvHypercallInput, HvHypercallMsr, HvHypercallResult, HvMessageType,
    HvOutputPartitionId, HvPageMsr, HvPartitionId, HvStatus, HvSynicScontrol, HvSynicSint,
};

use super::cell::Global;
use super::cpu::{read_msr, write_msr};
use super::memory::{self, FRAMES};
use super::{apic, block, console, layout, process};

/// Open-source operating system, of no registered kind (guest sheet 4.1), version 0.1.
const GUEST_OS_ID: u64 = 1 << 63 | 0x50 << 56 | 0x0000_0100 << 16;

/// What the CPUID leaves offer (root sheet F.1).
#[derive(Clone, Copy, Debug, Default)]
pub struct Features {
    /// There is a hypervisor with this interface at all.
    pub present: bool,
    /// Hypercalls.
    pub hypercalls: bool,
    /// SynIC MSRs.
    pub synic: bool,
    /// Reference counter MSR.
    pub reference_counter: bool,
    /// Reference TSC page.
    pub reference_tsc: bool,
    /// Frequency MSRs.
    pub frequencies: bool,
    /// Crash MSRs.
    pub crash: bool,
    /// May create partitions.
    pub root: bool,
}

/// Where the hypervisor's and the kernel's pages for each other are; physical and in the kernel's space. One pair for
/// parameters is enough: hypercalls are made with the kernel's lock.
#[derive(Clone, Copy)]
struct Pages {
    /// Address of the hypercall page, 0 without a hypervisor.
    code: u64,
    input: Pfn,
    output: Pfn,
}

static FEATURES: Global<Features> = Global::empty();
static PAGES: Global<Pages> = Global::empty();
static OWN_ID: Global<HvPartitionId> = Global::new(HvPartitionId::SELF);

/// Asks CPUID.
pub fn features() -> Features {
    let leaf = __cpuid(0x4000_0000);
    let vendor = (leaf.ebx, leaf.ecx, leaf.edx) == (0x7263_694D, 0x666F_736F, 0x7648_2074);
    let announced = __cpuid(1).ecx & (1 << 31) != 0;
    if !announced || !vendor || leaf.eax < 0x4000_0005 {
        return Features::default();
    }
    let features = __cpuid(0x4000_0003);
    let bit = |word: u32, bit: u32| word & (1 << bit) != 0;
    Features {
        present: true,
        hypercalls: bit(features.eax, 5),
        synic: bit(features.eax, 2),
        reference_counter: bit(features.eax, 1),
        reference_tsc: bit(features.eax, 9),
        frequencies: bit(features.eax, 11) && bit(features.edx, 8),
        crash: bit(features.edx, 10),
        root: bit(features.ebx, 0),
    }
}

/// Establishes hypercalls and the SynIC.
pub fn init(features: &Features) {
    FEATURES.set(*features);
    let frame = || FRAMES.with(|frames| frames.allocate(0, Owner::KERNEL));
    let (Some(input), Some(output)) = (frame(), frame()) else {
        panic!("no memory for hypercall pages")
    };
    PAGES.set(Pages {
        code: 0,
        input,
        output,
    });
    if !features.present || !features.hypercalls {
        console::line(format_args!(
            "no hypervisor with the Hyper-V interface below; no VM can run"
        ));
        return;
    }
    init_hypercalls();
    let own: Result<HvOutputPartitionId, _> =
        simple(&mut Metal, HvCallCode::GET_PARTITION_ID, &[0u8; 0]);
    match own {
        Ok(own) => OWN_ID.with(|id| *id = own.partition_id),
        Err(error) => console::line(format_args!("own partition id not known: {error}")),
    }
    init_processor();
}

/// Establishes the SynIC of this processor.
pub fn init_processor() {
    if known_features().synic {
        init_synic();
    }
}

/// The root's own partition id.
pub fn own_id() -> HvPartitionId {
    OWN_ID.with(|id| *id)
}

/// The features found at the start.
pub fn known_features() -> Features {
    FEATURES.try_with(|features| *features).unwrap_or_default()
}

fn init_hypercalls() {
    // SAFETY: the features say that both MSRs exist. The hypervisor chooses the page: what is read is written back
    // with the enable bit.
    let msr = unsafe {
        write_msr(HV_X64_MSR_GUEST_OS_ID, GUEST_OS_ID);
        let msr = HvHypercallMsr::from_bits(read_msr(HV_X64_MSR_HYPERCALL)).with_enabled(true);
        write_msr(HV_X64_MSR_HYPERCALL, msr.into_bits());
        HvHypercallMsr::from_bits(read_msr(HV_X64_MSR_HYPERCALL))
    };
    assert!(
        msr.enabled(),
        "the hypervisor does not enable its hypercall page"
    );
    let code = layout::HYPERCALL_PAGE;
    memory::with_kernel_tables(|tables| {
        tables.map(
            code,
            Pfn(msr.gpfn()),
            Attributes::kernel(Rights::ReadExecute),
        )
    })
    .unwrap_or_else(|error| panic!("hypercall page: {error}"));
    PAGES.with(|pages| pages.code = code);
}

fn init_synic() {
    // SAFETY: the features say that these MSRs exist. Pages are where the hypervisor says.
    unsafe {
        let simp = HvPageMsr::from_bits(read_msr(HV_X64_MSR_SIMP)).with_enabled(true);
        write_msr(HV_X64_MSR_SIMP, simp.into_bits());
        // An EOI of its own would be an exit for each intercept. The hint against this is for handlers that let others of
        // their priority in: ours runs with interrupts off to its end.
        let sint = HvSynicSint::new()
            .with_vector(apic::SYNIC_VECTOR)
            .with_auto_eoi(true);
        write_msr(HV_X64_MSR_SINT0, sint.into_bits());
        write_msr(
            HV_X64_MSR_SCONTROL,
            HvSynicScontrol::new().with_enabled(true).into_bits(),
        );
        block::set_messages(provided(simp));
    }
}

/// Address of a page that the hypervisor provides.
fn provided(msr: HvPageMsr) -> u64 {
    let place = memory::map_provided(Pfn(msr.gpfn()));
    place.unwrap_or_else(|error| panic!("the hypervisor's page: {error}")) as u64
}

/// Makes real hypercalls, through the kernel's pages.
pub struct Metal;

impl Hypercalls for Metal {
    fn call(
        &mut self,
        control: HvHypercallInput,
        input: &[u8],
        output: &mut [u8],
    ) -> HvHypercallResult {
        let (code, to, from) = PAGES.with(|pages| (pages.code, pages.input, pages.output));
        memory::write_frame(to, 0, input);
        // What the call does not write stays the caller's, and is not what a call for somebody else left there.
        memory::write_frame(from, 0, output);
        let result = raw(code, control.into_bits(), to.address(), from.address());
        memory::read_frame(from, 0, output);
        result
    }
}

/// A hypercall whose input block is prepared at that physical address, without output.
pub fn prepared(control: HvHypercallInput, input: u64) -> HvStatus {
    let code = PAGES.with(|pages| pages.code);
    raw(code, control.into_bits(), input, 0).call_status()
}

fn raw(code: u64, control: u64, input: u64, output: u64) -> HvHypercallResult {
    if code == 0 {
        return HvHypercallResult::simple(HvStatus::INVALID_HYPERCALL_CODE);
    }
    let result: u64;
    // SAFETY: the page holds the hypervisor's call sequence. It changes only the registers named here (guest sheet
    // 5.1) and the output block, whose frame is the kernel's and has no Rust reference to it.
    unsafe {
        asm!(
            "call {code}",
            code = in(reg) code,
            inout("rcx") control => _,
            inout("rdx") input => _,
            inout("r8") output => _,
            out("rax") result,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    HvHypercallResult::from_bits(result)
}

/// Offsets in a message.
const MESSAGE_FLAGS: u64 = 5;
const MESSAGE_SENDER: u64 = 8;
const MESSAGE_PAYLOAD: u64 = 16;
const MORE_PENDING: u8 = 1;

/// SINT0's interrupt: hands each message of this processor to whom it concerns. This is on the path of every intercept.
pub fn messages() {
    let slot = block::messages();
    if slot == 0 {
        return;
    }
    loop {
        // SAFETY: the slot of SINT0 is at the start of the SIM page, which is in the direct map; the hypervisor writes it
        // only while its type is 0. Volatile, and in this order: copy, free, then look whether more wait.
        let (kind, flags, sender, payload) = unsafe {
            let kind = HvMessageType((slot as *const u32).read_volatile());
            if kind == HvMessageType::NONE {
                return;
            }
            let sender = ((slot + MESSAGE_SENDER) as *const u64).read_volatile();
            let payload = ((slot + MESSAGE_PAYLOAD) as *const u32).read_volatile();
            (slot as *mut u32).write_volatile(0);
            // The pending bit is set before the hypervisor looks at the type again, so it is read after freeing.
            core::sync::atomic::fence(core::sync::atomic::Ordering::SeqCst);
            let flags = ((slot + MESSAGE_FLAGS) as *const u8).read_volatile();
            (kind, flags, sender, payload)
        };
        if flags & MORE_PENDING != 0 {
            // SAFETY: the SynIC is on, so the MSR exists.
            unsafe { write_msr(HV_X64_MSR_EOM, 0) };
        }
        match kind {
            HvMessageType::OPAQUE_INTERCEPT => process::intercept(HvPartitionId(sender), payload),
            other => process::note_unknown_message(other),
        }
    }
}

/// Tells the hypervisor that the root ends in a panic, if it wants to know.
pub fn report_crash(code: u64, parameters: [u64; 4]) {
    if !known_features().crash {
        return;
    }
    // SAFETY: the feature says that the crash MSRs exist; they are only recorded.
    unsafe {
        write_msr(HV_X64_MSR_CRASH_P0, code);
        for (index, parameter) in (1..).zip(parameters) {
            write_msr(HV_X64_MSR_CRASH_P0 + index, parameter);
        }
        write_msr(
            HV_X64_MSR_CRASH_CTL,
            HvCrashCtl::new().with_crash_notify(true).into_bits(),
        );
    }
}

const _: () = assert!(PAGE_SIZE == tlfs::HV_PAGE_SIZE as u64);
