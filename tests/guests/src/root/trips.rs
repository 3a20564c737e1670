//! Children that make round trips when they are told to, and note how long each of them took.
//!
//! Their VPs sleep in HLT until the root interrupts them, so nothing else runs beside what is measured.

use tlfs::{HvPortInfo, HvRegisterName, HvSynicSint, HvVpIndex};
use zerocopy::IntoBytes;

use super::child::VMM_FLAGS;
use super::way::{self, Way};
use super::{Child, Root, Vp};
use crate::statistics::Summary;

/// Where the code of the first and of the second VP is.
const CODES: [u64; 2] = [0x1000, 0x1800];
const HANDLER: u64 = 0x2000;
/// How many round trips to make; and whether they are made.
const WANTED: u64 = 0x3000;
const MADE: u64 = 0x3008;
const HYPERCALL_PAGE: u64 = 0x4000;
/// PostMessage's input.
const INPUT: u64 = 0x5000;
const GDT: u64 = 0x6000;
const IDT: u64 = 0x7000;
/// Top of the first VP's stack.
const STACKS: u64 = 0x8800;
/// Page tables, of three pages.
const TABLES: u64 = 0xA000;
const MESSAGE_PAGE: u64 = 0xD000;
const EVENT_PAGE: u64 = 0xE000;
/// What they note: 32 bits for each round trip.
const SAMPLES: u64 = 0x1_0000;
/// The only vector of these children.
const VECTOR: u8 = 0x40;
/// SINTs at which a child takes its own messages and events. It looks there by itself, so they interrupt nobody.
const MESSAGE_SINT: u32 = 5;
const EVENT_SINT: u32 = 6;
/// The ports for these, and the connections to them.
const MESSAGE_PORT: u32 = 1;
const EVENT_PORT: u32 = 2;

/// Instructions between two looks at the TSC besides what is between them: MOV, JMP, RDTSC.
const LOOK: u64 = 3;
/// Most round trips that are made at once.
pub const MOST: usize = 1000;
/// How long the root sleeps at a time while they are made.
const NAP_MICROS: u64 = 20_000;
/// How often it does before it gives up.
const PATIENCE: u32 = 500;

/// Code that turns its APIC on, and does `line` whenever an interrupt has ended its HLT.
macro_rules! waiting_code {
    ($(#[$outer:meta])* $name:ident, $($line:literal),+ $(,)?) => {
        child_code!(
            $(#[$outer])*
            $name,
            "64",
            "mov ecx, 0x80f",
            "mov eax, 0x1ff",
            "xor edx, edx",
            "wrmsr",
            "2: sti",
            "hlt",
            "cli",
            $($line,)+
            "jmp 2b",
        );
    };
}

/// Code that makes round trips of `trip` when it is told to, and notes how long each took.
macro_rules! trips_code {
    ($(#[$outer:meta])* $name:ident, $($trip:literal),+ $(,)?) => {
        waiting_code!(
            $(#[$outer])*
            $name,
            "mov esi, dword ptr [0x3000]",
            "test esi, esi",
            "jz 2b",
            "mov dword ptr [0x3000], 0",
            "mov edi, 0x10000",
            "4: jmp 5f",
            "5: rdtsc",
            "mov ebp, eax",
            $($trip,)+
            "jmp 6f",
            "6: rdtsc",
            "sub eax, ebp",
            "mov dword ptr [edi], eax",
            "add edi, 4",
            "dec esi",
            "jnz 4b",
            "mov dword ptr [0x3008], 1",
        );
    };
}

trips_code!(
    /// CPUID leaf 1.
    trips_cpuid,
    "mov eax, 1",
    "cpuid",
);

trips_code!(
    /// An interrupt for the other VP, and HLT until its answer comes.
    trips_ask,
    "mov ecx, 0x830",
    "mov eax, 0x4040",
    "mov edx, 1",
    "wrmsr",
    "sti",
    "hlt",
    "cli",
);

waiting_code!(
    /// HLT until an interrupt of the other VP comes, and one back.
    trips_answer,
    "mov ecx, 0x830",
    "mov eax, 0x4040",
    "xor edx, edx",
    "wrmsr",
);

trips_code!(
    /// As `trips_ask`, by SendSyntheticClusterIpi, fast.
    trips_ask_by_call,
    "mov ecx, 0x1000b",
    "mov edx, 0x40",
    "mov r8d, 2",
    "mov eax, 0x4000",
    "call rax",
    "sti",
    "hlt",
    "cli",
);

waiting_code!(
    /// As `trips_answer`, by SendSyntheticClusterIpi.
    trips_answer_by_call,
    "mov ecx, 0x1000b",
    "mov edx, 0x40",
    "mov r8d, 1",
    "mov eax, 0x4000",
    "call rax",
);

trips_code!(
    /// PostMessage; takes the message out of its slot. Dies if there is none.
    trips_post,
    "mov ecx, 0x5c",
    "mov edx, 0x5000",
    "xor r8d, r8d",
    "mov eax, 0x4000",
    "call rax",
    "cmp dword ptr [0xd500], 0",
    "jne 7f",
    "ud2",
    "7: mov dword ptr [0xd500], 0",
);

trips_code!(
    /// SignalEvent, fast; takes the flag. Dies if it is not set.
    trips_signal,
    "mov ecx, 0x1005d",
    "mov edx, 2",
    "mov eax, 0x4000",
    "call rax",
    "btr dword ptr [0xe600], 0",
    "jc 7f",
    "ud2",
    "7:",
);

handler_code!(
    /// Ends the interrupt.
    trips_handler,
);

child_code!(
    /// Sleeps for ever.
    trips_never,
    "64",
    "2: cli",
    "hlt",
    "jmp 2b",
);

/// What a child is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its VP makes round trips of CPUID.
    Cpuid,
    /// Its first VP sends the second one an interrupt, and that sends one back.
    Ipi,
    /// The same by hypercalls.
    SyntheticIpi,
    /// Its VP posts messages to itself.
    Post,
    /// Its VP signals events to itself.
    Signal,
    /// Its VP sleeps for ever.
    Never,
}

/// A child. Its VPs are suspended at first.
pub struct Traveller {
    /// The partition.
    pub child: Child,
    kind: Kind,
}

impl Traveller {
    /// Makes one, without VPs.
    pub fn new(root: &mut Root, kind: Kind) -> Self {
        let child = if kind == Kind::Never {
            let mut child = Child::active(root, VMM_FLAGS);
            let frames = [0, 1].map(|_| child.new_frame(root));
            child.map(root, 0, &frames, super::child::RWX);
            child.load(CODES[0], trips_never());
            return Self { child, kind };
        } else {
            Child::with_ram(root, VMM_FLAGS)
        };
        let codes = match kind {
            Kind::Cpuid => [trips_cpuid(), trips_never()],
            Kind::SyntheticIpi => [trips_ask_by_call(), trips_answer_by_call()],
            Kind::Post => [trips_post(), trips_never()],
            Kind::Signal => [trips_signal(), trips_never()],
            Kind::Ipi | Kind::Never => [trips_ask(), trips_answer()],
        };
        for (at, code) in CODES.into_iter().zip(codes) {
            child.load(at, code);
        }
        child.load(HANDLER, trips_handler());
        child.put_long_segments(GDT);
        child.put_long_gate(IDT, VECTOR, HANDLER);
        // Paging as a kernel has it: where instructions have to be read, the hypervisor keeps the walk to them.
        child.put_page_tables(TABLES);
        Self { child, kind }
    }

    /// The port and the connection of one that sends to itself, to its first VP.
    fn open_way(&self, root: &mut Root) {
        let way = |id| Way::new(self.child.id, self.child.id, id);
        match self.kind {
            Kind::Post => {
                let info = HvPortInfo::message(MESSAGE_SINT, HvVpIndex(0));
                let way = way(MESSAGE_PORT).open(root, info);
                let input = way::message(way.connection(), 1, &[7; 16]);
                self.child.load(INPUT, input.as_bytes());
            }
            Kind::Signal => {
                let info = HvPortInfo::event(EVENT_SINT, HvVpIndex(0), 0, 1);
                way(EVENT_PORT).open(root, info);
            }
            Kind::Cpuid | Kind::Ipi | Kind::SyntheticIpi | Kind::Never => {}
        }
    }

    /// Hypercall page, and SINTs that are polled.
    fn prepare_calls(vp: &Vp, root: &Root) {
        use HvRegisterName as Name;
        vp.set64(
            root,
            &[
                (Name::GUEST_OS_ID, 0x8100 << 48),
                (Name::HYPERCALL, HYPERCALL_PAGE | 1),
                (Name::SIMP, MESSAGE_PAGE | 1),
                (Name::SIEFP, EVENT_PAGE | 1),
                (Name::SCONTROL, 1),
            ],
        );
        let polled = HvSynicSint::new().with_vector(VECTOR).with_polling(true);
        for name in [MESSAGE_SINT, EVENT_SINT].map(HvRegisterName::sint) {
            match name {
                Some(name) => vp.set64(root, &[(name, polled.into_bits())]),
                None => fail!("a SINT has no name"),
            }
        }
    }

    /// Makes its first or its second VP, on whose processor the hypervisor thinks best.
    pub fn vp(&self, root: &mut Root, index: u32) -> Vp {
        let vp = Vp::create(root, &self.child, index);
        let code = CODES[index as usize % CODES.len()];
        match self.kind {
            Kind::Never => vp.enter_flat(root, code),
            Kind::Cpuid | Kind::Ipi => vp.enter_long(root, code, TABLES),
            Kind::SyntheticIpi | Kind::Post | Kind::Signal => {
                vp.enter_long(root, code, TABLES);
                // Each VP has pages of its own; only the first one's are used.
                if index == 0 {
                    Self::prepare_calls(&vp, root);
                    self.open_way(root);
                }
            }
        }
        vp.set_tables(root, (GDT, 0x17), (IDT, 0xFFF));
        // Those behind the first wait for a startup IPI otherwise.
        vp.set64(
            root,
            &[
                (HvRegisterName::RSP, STACKS + 0x100 * u64::from(index)),
                (HvRegisterName::INTERNAL_ACTIVITY_STATE, 0),
            ],
        );
        vp
    }

    /// Lets its VPs, which run, make so many round trips, at most [`MOST`]; sleeps until these are made.
    pub fn make(&self, root: &Root, trips: u64) {
        check!(trips <= MOST as u64, "too many round trips");
        if trips == 0 {
            return;
        }
        self.child.poke(MADE, 0);
        self.child.poke(WANTED, trips);
        self.child.interrupt(root, 0, VECTOR);
        for _ in 0..PATIENCE {
            root.messages.nap(NAP_MICROS);
            if self.child.peek(MADE) & 0xFFFF_FFFF != 0 {
                return;
            }
        }
        fail!("a child does not make {trips} round trips")
    }

    /// How long the last [`MOST`] round trips took.
    pub fn took(&self) -> Summary {
        let mut samples: [u64; MOST] = core::array::from_fn(|index| {
            let at = SAMPLES + 4 * (index as u64 & !1);
            (self.child.peek(at) >> (32 * (index & 1))) & 0xFFFF_FFFF
        });
        match Summary::of(&mut samples) {
            Some(summary) => summary.less(LOOK),
            None => fail!("no samples"),
        }
    }
}
