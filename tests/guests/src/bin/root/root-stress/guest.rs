//! A child with two VPs.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use guests::rng::Rng;
use guests::root::child::{RWX, VMM_FLAGS};
use guests::root::vp::{gp, payload};
use guests::root::{Child, Root, Vp, memory, report};
use guests::{check, fail};
use tlfs::{
    HvCallCode, HvMessage, HvMessageType, HvPartitionId, HvRegisterName, HvStatus, HvUnmapGpaFlags,
    HvX64MemoryInterceptMessage,
};
use zerocopy::{FromZeros, IntoBytes};

use super::checker::{
    CODE, COMPLAIN, COUNTERS, GDT, HANDLER, IDT, IPI, PAGES, RAM_PAGES, WINDOW, code, handler_code,
};
use super::frames;

const VPS: u32 = 2;

/// What happened, in all.
pub struct Counts {
    started: AtomicU64,
    ended: AtomicU64,
    moved: AtomicU64,
    faults: AtomicU64,
    looks: AtomicU64,
    pauses: AtomicU64,
    interrupts: AtomicU64,
    rounds: AtomicU64,
    ipis: AtomicU64,
}

/// What happened, in all.
pub static COUNTS: Counts = Counts {
    started: AtomicU64::new(0),
    ended: AtomicU64::new(0),
    moved: AtomicU64::new(0),
    faults: AtomicU64::new(0),
    looks: AtomicU64::new(0),
    pauses: AtomicU64::new(0),
    interrupts: AtomicU64::new(0),
    rounds: AtomicU64::new(0),
    ipis: AtomicU64::new(0),
};

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counts {
    fn list(&self) -> [(&'static str, u64, u64); 9] {
        [
            ("children started", value(&self.started), 4),
            // All of them, at the end.
            ("ended", value(&self.ended), 0),
            ("pages taken away while in use", value(&self.moved), 100),
            ("faults on them", value(&self.faults), 100),
            ("looks at registers", value(&self.looks), 10),
            ("pauses", value(&self.pauses), 10),
            ("interrupts asserted", value(&self.interrupts), 10),
            ("reads checked", value(&self.rounds), 10_000),
            ("interrupts taken", value(&self.ipis), 100),
        ]
    }

    /// Whether everything has happened often enough for a test.
    pub fn suffice(&self) -> bool {
        let mut list = self.list().into_iter();
        list.all(|(_, count, least)| count >= least)
    }

    /// Fails if something has hardly happened: then the test is none.
    pub fn check(&self) {
        for (what, count, least) in self.list() {
            check!(count >= least, "{what}: only {count}");
        }
        report::same(
            value(&self.ended),
            value(&self.started),
            "children that ended",
        );
    }
}

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = self.list().into_iter();
        list.try_for_each(|(what, count, _)| write!(f, "{what} {count}; "))
    }
}

/// A child at work.
pub struct Guest {
    child: Child,
    vps: [Vp; VPS as usize],
    /// Frames of the window, 0 where none is mapped.
    window: [u64; PAGES],
    pattern: u32,
    paused: [bool; VPS as usize],
    /// What its VPs' counters were when they were looked at last.
    counted: [u64; VPS as usize],
}

impl Guest {
    /// Makes one and lets it run. Its window is empty.
    pub fn start(root: &mut Root) -> Self {
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let mut child = Child::active(root, VMM_FLAGS);
        for page in 0..RAM_PAGES {
            let frame = child.new_frame(root);
            child.map(root, page * memory::PAGE, &[frame], RWX);
        }
        child.load(CODE, code());
        child.load(HANDLER, handler_code());
        child.put_segments(GDT);
        child.put_gate(IDT, IPI.into(), HANDLER);
        let vps = [0, 1].map(|index| Vp::create(root, &child, index));
        let mut guest = Self {
            child,
            vps,
            window: [0; PAGES],
            pattern: (serial as u32 % 0xDEAD) << 16,
            paused: [false; VPS as usize],
            counted: [0; VPS as usize],
        };
        for page in (0..PAGES).step_by(2) {
            guest.fill(root, page);
        }
        for (index, vp) in (0..).zip(&guest.vps) {
            guest.prepare(root, vp, index, serial);
            vp.resume(root);
        }
        add(&COUNTS.started, 1);
        guest
    }

    fn prepare(&self, root: &Root, vp: &Vp, index: u64, serial: u64) {
        use HvRegisterName as Name;
        vp.enter_flat(root, CODE);
        vp.set_tables(root, (GDT, 0x17), (IDT, 8 * u16::from(IPI) + 7));
        vp.set64(
            root,
            &[
                // No VP waits for a startup IPI.
                (Name::INTERNAL_ACTIVITY_STATE, 0),
                // The words above the stack are the counters.
                (Name::RSP, COUNTERS + 0x100 * (index + 1)),
                (Name::RBP, u64::from(self.pattern)),
                (Name::RDI, serial * 2 + index + 1),
                (Name::RSI, 1 - index),
            ],
        );
    }

    /// Its partition.
    pub fn id(&self) -> HvPartitionId {
        self.child.id
    }

    /// Takes some pages of the window away while the VPs may use them.
    pub fn balloon(&mut self, root: &Root, rng: &mut Rng) {
        let from = rng.below(PAGES as u64) as usize;
        let count = (1 + rng.below(4) as usize).min(PAGES - from);
        self.take(root, from, count);
    }

    fn take(&mut self, root: &Root, from: usize, count: usize) {
        let gpa = WINDOW + from as u64 * memory::PAGE;
        let (status, done) = self.child.unmap(root, gpa, count, HvUnmapGpaFlags(0));
        report::status(status, HvStatus::SUCCESS, "UnmapGpaPages");
        report::same(done, count, "pages unmapped");
        for frame in &mut self.window[from..from + count] {
            match core::mem::take(frame) {
                0 => {}
                frame => {
                    frames::give(frame);
                    add(&COUNTS.moved, 1);
                }
            }
        }
    }

    /// Gives a page that nobody has asked for.
    pub fn deflate(&mut self, root: &mut Root, rng: &mut Rng) {
        self.fill(root, rng.below(PAGES as u64) as usize);
    }

    /// Gives a page of the window a frame. False if none is free.
    fn fill(&mut self, root: &mut Root, page: usize) -> bool {
        if self.window[page] != 0 {
            return true;
        }
        let Some(frame) = frames::take() else {
            return false;
        };
        frames::pattern(frame, self.pattern | page as u32);
        self.child
            .map(root, WINDOW + page as u64 * memory::PAGE, &[frame], RWX);
        self.window[page] = frame;
        true
    }

    /// Looks at registers of a VP that may run.
    pub fn look(&mut self, root: &Root, rng: &mut Rng) {
        let vp = &self.vps[rng.below(u64::from(VPS)) as usize];
        let rip = vp.get(root, HvRegisterName::RIP);
        check!(
            (CODE..CODE + 0x300).contains(&rip),
            "RIP is {rip:#x} in {:?}",
            vp.index
        );
        let rbp = vp.get(root, HvRegisterName::RBP);
        report::same(rbp, u64::from(self.pattern), "RBP");
        add(&COUNTS.looks, 1);
    }

    /// Stops a VP, or lets it go on.
    pub fn pause(&mut self, root: &Root, rng: &mut Rng) {
        let index = rng.below(u64::from(VPS)) as usize;
        let pause = !self.paused[index];
        let vp = &self.vps[index];
        vp.set64(root, &[(HvRegisterName::EXPLICIT_SUSPEND, pause.into())]);
        if pause {
            let [first, second] = [(); 2].map(|()| vp.get(root, HvRegisterName::RDI));
            report::same(second, first, "RDI of a VP that is stopped");
        }
        self.paused[index] = pause;
        add(&COUNTS.pauses, 1);
    }

    /// Interrupts a VP from outside.
    pub fn interrupt(&mut self, root: &Root, rng: &mut Rng) {
        let vp = rng.below(u64::from(VPS));
        self.child.interrupt(root, vp, IPI);
        add(&COUNTS.interrupts, 1);
    }

    /// Answers the intercept of a VP.
    pub fn answer(&mut self, root: &mut Root, index: usize) {
        let vp = self.vps[index % VPS as usize];
        if vp.get(root, HvRegisterName::INTERCEPT_SUSPEND) & 1 == 0 {
            fail!("a notice of {:?}, which has no intercept", vp.index);
        }
        let mut message = HvMessage::new_zeroed();
        memory::copy_from(vp.message, message.as_mut_bytes());
        match message.header.message_type {
            HvMessageType::UNMAPPED_GPA | HvMessageType::GPA_INTERCEPT => {
                let kind = message.header.message_type;
                let fault: HvX64MemoryInterceptMessage = payload(&message, kind);
                self.fault(root, fault.guest_physical_address);
            }
            HvMessageType::X64_IO_PORT_INTERCEPT => {
                let (found, wanted) = (vp.take(gp::RAX), vp.take(gp::RBX));
                fail!(
                    "{:?} complains at {COMPLAIN:#x}: {found:#x}, not {wanted:#x}",
                    vp.index
                );
            }
            other => fail!("{:?} of {:?} at {:#x}", other, vp.index, vp.rip()),
        }
        vp.set64(root, &[(HvRegisterName::INTERCEPT_SUSPEND, 0)]);
    }

    fn fault(&mut self, root: &mut Root, gpa: u64) {
        let page = gpa.wrapping_sub(WINDOW) / memory::PAGE;
        check!(page < PAGES as u64, "an access at {gpa:#x}");
        add(&COUNTS.faults, 1);
        if !self.fill(root, page as usize) {
            // Somebody else's turn: one of its own moves.
            self.take(root, 0, PAGES / 2);
            self.fill(root, page as usize);
        }
    }

    /// Adds up what its VPs have done since it was called last.
    pub fn count(&mut self) {
        for (index, counted) in (1..).zip(&mut self.counted) {
            let both: u64 = self.child.peek(COUNTERS + 0x100 * index);
            let before = core::mem::replace(counted, both);
            let low = |both: u64| both as u32;
            add(&COUNTS.rounds, low(both).wrapping_sub(low(before)).into());
            add(
                &COUNTS.ipis,
                low(both >> 32).wrapping_sub(low(before >> 32)).into(),
            );
        }
    }

    /// Ends it while it runs.
    pub fn end(mut self, root: &mut Root) {
        self.count();
        let status = self.child.order(root, HvCallCode::FINALIZE_PARTITION, true);
        report::status(status, HvStatus::SUCCESS, "FinalizePartition");
        for frame in self.window.iter_mut().filter(|frame| **frame != 0) {
            frames::give(core::mem::take(frame));
        }
        self.child.bury(root);
        add(&COUNTS.ended, 1);
    }
}
