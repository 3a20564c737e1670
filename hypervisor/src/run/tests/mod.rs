//! Exits of a child's VP: whose processor it left the guest on shows neither to the parent nor to the guest.

mod apic_page;
mod deliveries;
mod idle;
mod instructions;
mod msrs;
mod named_msrs;

use tlfs::*;

use crate::arch::exit::{Event, Exit};
use crate::arch::state::{Gprs, Segment, SegmentName, cr0, rflags};
use crate::arch::testing::{Cause, Vendor};
use crate::arch::with_backend;
use crate::mem::addr::Gpa;
use crate::partition::Vp;
use crate::run::testing::{Bench, CHILD_BASE};

/// A page of the child's that it may only read.
const READABLE: u64 = 0xE000;
/// How a VP stands after an exit was dealt with.
#[derive(Debug, PartialEq)]
struct After {
    /// What its parent was told: the kind, and the payload.
    message: Option<(HvMessageType, Vec<u8>)>,
    gprs: [u64; 16],
    rip: u64,
    rflags: u64,
    control: [u64; 4],
    dr6: u64,
    shadow: bool,
    event: Option<Event>,
    runnable: bool,
}

/// What the parent asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Nothing,
    Everything,
}

/// In which mode the code runs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Real,
    Protected,
    Long,
}

/// The instruction at which a run ends, and why.
#[derive(Clone, Copy, Debug)]
struct Scene {
    asked: Asked,
    mode: Mode,
    /// Single-stepping, and in the shadow of an STI.
    stepping: bool,
    code: &'static [u8],
    cause: Cause,
    gprs: Gprs,
}

/// One of each vendor, without children.
type Machines = [Bench; Vendor::ALL.len()];

fn machines() -> Machines {
    Vendor::ALL.map(|vendor| {
        let mut bench = Bench::of(vendor);
        bench.audit_rarely();
        bench
    })
}

impl Scene {
    fn play(&self, bench: &mut Bench) -> After {
        enter(bench, self.asked);
        let after = self.act(bench);
        bench.tear_down();
        after
    }

    /// The VP in hand is put into the scene, its run ends, and what there is to do is done.
    fn act(&self, bench: &mut Bench) -> After {
        let rip = CHILD_BASE.address().0;
        bench.restore();
        // Nothing of the vendor's hypercall instruction stays behind it.
        bench.write(Gpa(rip), &[0x90; 16]);
        bench.write(Gpa(rip), self.code);
        let (cpu, vp) = bench.parts();
        self.prepare(vp);
        let exit = vp.hw.exit_over(self.cause, self.code.len() as u8);
        match exit {
            // Dealt with: the window for interrupts would be opened, which a host test cannot do.
            Exit::Internal => {}
            exit => with_backend!(vp.hw, B => cpu.handle::<B>(vp, exit)),
        }
        after(bench)
    }

    fn prepare(&self, vp: &mut Vp) {
        let hw = &mut vp.hw;
        let flat = |attributes| Segment {
            attributes,
            limit: u32::MAX,
            ..Segment::default()
        };
        let real = |attributes| Segment {
            attributes,
            limit: 0xFFFF,
            ..Segment::default()
        };
        let (code, data) = match self.mode {
            Mode::Long => (flat(0xA09B), flat(0xC093)),
            Mode::Protected => (flat(0xC09B), flat(0xC093)),
            Mode::Real => (real(0x9B), real(0x93)),
        };
        match self.mode {
            Mode::Long => {}
            Mode::Protected => {
                hw.set_efer(0);
                hw.set_cr0(cr0::PE | cr0::ET);
            }
            Mode::Real => {
                hw.set_efer(0);
                hw.set_cr0(cr0::ET);
            }
        }
        hw.set_segment(SegmentName::Cs, &code);
        for name in [SegmentName::Ss, SegmentName::Ds, SegmentName::Es] {
            hw.set_segment(name, &data);
        }
        if self.stepping {
            hw.set_rflags(rflags::FIXED | rflags::TF | rflags::RF | rflags::IF);
            hw.set_interrupt_shadow(true);
        }
        *hw.gprs_mut() = self.gprs;
    }

    /// The same on a machine of each vendor, but for what `differs` makes alike.
    fn same(&self, machines: &mut Machines, differs: fn(&mut After)) -> After {
        let [amd, intel] = machines.each_mut().map(|bench| {
            let mut after = self.play(bench);
            differs(&mut after);
            after
        });
        assert_eq!(amd, intel, "{self:?}");
        amd
    }
}

/// A child whose VP 0 is taken in hand.
fn enter(bench: &mut Bench, asked: Asked) {
    let id = bench.child_with_vp();
    let page = bench.frames(1);
    bench.map(id, READABLE >> 12, HvMapGpaFlags::READABLE, &page);
    if asked == Asked::Everything {
        ask_for_everything(bench, id);
    }
    let running = [(HvRegisterName::EXPLICIT_SUSPEND, 0)];
    bench.set_registers(id, HvVpIndex(0), &running);
    bench.switch_to_child(id, 0);
}

fn ask_for_everything(bench: &mut Bench, id: HvPartitionId) {
    let ports = HvInterceptParameters(0xFFFF << 16);
    let exceptions = [1, 3, 6, 13, 14].map(|vector| {
        let parameter = HvInterceptParameters(vector);
        (
            HvInterceptType::EXCEPTION,
            HvInterceptAccessMask::EXECUTE,
            parameter,
        )
    });
    let none = HvInterceptParameters(0);
    let both = HvInterceptAccessMask::READ.union(HvInterceptAccessMask::WRITE);
    let execute = HvInterceptAccessMask::EXECUTE;
    let others = [
        (HvInterceptType::X64_IO_PORT_RANGE, both, ports),
        (HvInterceptType::X64_MSR, both, none),
        (HvInterceptType::X64_GLOBAL_CPUID, execute, none),
        (HvInterceptType::HYPERCALL, execute, none),
    ];
    for (intercept_type, access_type, intercept_parameter) in others.into_iter().chain(exceptions) {
        let input = HvInputInstallIntercept {
            partition_id: id,
            access_type,
            intercept_type,
            intercept_parameter,
        };
        let done = bench.simple(HvCallCode::INSTALL_INTERCEPT, &input);
        assert_eq!(done, HvStatus::SUCCESS, "{intercept_type:?}");
    }
    let values = [
        (HvRegisterName::CR_INTERCEPT_CR0_MASK, cr0::TS),
        (HvRegisterName::CR_INTERCEPT_CR4_MASK, 1 << 7),
        (HvRegisterName::CR_INTERCEPT_CONTROL, 0x7),
    ];
    let set = bench.set_registers(id, HvVpIndex(0), &values);
    assert_eq!(set, (HvStatus::SUCCESS, values.len()));
}

fn after(bench: &mut Bench) -> After {
    let page = bench.hand().intercept_page.frame.spfn().address();
    let told = bench.hand().suspend.intercept.suspended();
    let message = told.then(|| {
        let message: HvMessage = bench.read_machine(page);
        let length = usize::from(message.header.payload_size);
        let bytes: [u8; 256] = bench.read_machine(page);
        (message.header.message_type, bytes[16..16 + length].to_vec())
    });
    let vp = bench.hand();
    let hw = &vp.hw;
    After {
        message,
        gprs: hw.gprs().as_array(),
        rip: hw.rip(),
        rflags: hw.rflags(),
        control: [hw.cr0(), hw.cr3(), hw.cr4(), hw.efer()],
        dr6: hw.dr6(),
        shadow: hw.interrupt_shadow(),
        event: hw.pending_event(),
        runnable: vp.is_runnable(),
    }
}

fn gprs(set: impl FnOnce(&mut Gprs)) -> Gprs {
    let mut gprs = Gprs::default();
    set(&mut gprs);
    gprs
}
