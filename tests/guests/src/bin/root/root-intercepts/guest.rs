//! A child with 1 MiB of RAM and one VP that runs a piece of code at 0x1000.

use guests::root::child::VMM_FLAGS;
use guests::root::vp::gp;
use guests::root::{Child, Root, Vp, memory, report};
use guests::{check, fail};
use tlfs::{
    HvInterceptAccessMask, HvInterceptAccessType, HvInterceptParameters, HvInterceptType,
    HvMessageType, HvRegisterName, HvX64InterceptMessageHeader, HvX64IoPortInterceptMessage,
};

/// Where the code lies.
pub const CODE: u64 = 0x1000;
/// The child's GDT.
pub const GDT: u64 = 0x6000;
/// The child's IDT.
pub const IDT: u64 = 0x7000;
/// The port at which the child says what it has: no intercept is ever taken off it.
pub const TELL: u16 = 0x80;

/// Reads and writes.
pub const RW: HvInterceptAccessMask = HvInterceptAccessMask(3);
/// None: removes.
pub const NONE: HvInterceptAccessMask = HvInterceptAccessMask(0);

/// A child at work.
pub struct Guest {
    /// Partition.
    pub child: Child,
    /// Its VP 0.
    pub vp: Vp,
    code: &'static [u8],
}

impl Guest {
    /// A child that is about to run `code` in 32-bit mode, with a GDT and an empty IDT of 256 gates.
    pub fn flat(root: &mut Root, code: &'static [u8]) -> Self {
        let guest = Self::new(root, code);
        guest.vp.enter_flat(root, CODE);
        guest.vp.set_tables(root, (GDT, 0x17), (IDT, 0x7FF));
        guest
    }

    /// A child that is about to run `code` in 64-bit mode, with page tables at `cr3`.
    pub fn long(root: &mut Root, code: &'static [u8], cr3: u64) -> Self {
        let guest = Self::new(root, code);
        guest.vp.enter_long(root, CODE, cr3);
        guest
    }

    fn new(root: &mut Root, code: &'static [u8]) -> Self {
        let child = Child::with_ram(root, VMM_FLAGS);
        let vp = Vp::create(root, &child, 0);
        child.load(CODE, code);
        child.put_segments(GDT);
        Self { child, vp, code }
    }

    /// Sets a 32-bit interrupt gate to an address in the code.
    pub fn gate(&self, vector: u64, address: u64) {
        self.child.put_gate(IDT, vector, address);
    }

    /// Installs an intercept, or removes it.
    #[track_caller]
    pub fn intercept(
        &self,
        root: &Root,
        kind: HvInterceptType,
        mask: HvInterceptAccessMask,
        parameter: HvInterceptParameters,
    ) {
        self.child.intercept(root, kind, mask, parameter);
    }

    /// Runs to the next intercept, which must be of this type.
    #[track_caller]
    pub fn run_to<T: zerocopy::FromBytes>(&self, root: &mut Root, kind: HvMessageType) -> T {
        self.vp.run_to(root, kind)
    }

    /// Runs to an access to this port.
    #[track_caller]
    pub fn run_to_port(&self, root: &mut Root, port: u16) -> HvX64IoPortInterceptMessage {
        let message: HvX64IoPortInterceptMessage =
            self.run_to(root, HvMessageType::X64_IO_PORT_INTERCEPT);
        report::same(message.port_number, port, "port");
        message
    }

    /// Runs to the child's next OUT of EAX to [`TELL`], and behind it; returns EAX.
    #[track_caller]
    pub fn hear(&self, root: &mut Root) -> u32 {
        let message = self.run_to_port(root, TELL);
        self.vp.skip(message.header.instruction_length());
        message.rax as u32
    }

    /// Checks a header in 32-bit mode against the register page: the state before the instruction, which is that long and
    /// lies at `offset` in the code.
    #[track_caller]
    pub fn check_header(
        &self,
        header: &HvX64InterceptMessageHeader,
        offset: u64,
        length: u8,
        access: HvInterceptAccessType,
    ) {
        let page = self.vp.page();
        report::same(header.vp_index, self.vp.index, "VP in a header");
        report::same(header.rip, CODE + offset, "RIP in a header");
        report::same(header.rip, page.rip, "RIP in header and register page");
        report::same(
            header.rflags,
            page.rflags,
            "RFLAGS in header and register page",
        );
        report::same(
            header.cs_segment,
            page.segment[1],
            "CS in header and register page",
        );
        report::same(header.instruction_length(), length, "instruction length");
        report::same(header.intercept_access_type, access, "access type");
        let state = header.execution_state;
        check!(state.cr0_pe(), "no CR0.PE in the execution state");
        report::same(state.cpl(), 0, "CPL");
        report::same(state.interruption_pending(), false, "interruption pending");
    }

    /// Checks instruction bytes of a message, of which there may be fewer than the instruction has.
    #[track_caller]
    pub fn check_bytes(&self, rip: u64, count: u8, bytes: &[u8; 16]) {
        let count = usize::from(count);
        check!(count <= 16, "a message has {count} instruction bytes");
        let offset = (rip - CODE) as usize;
        let code = self.code.get(offset..).unwrap_or(&[]);
        let common = count.min(code.len());
        if bytes[..common] != code[..common] {
            fail!("instruction bytes {:x?} instead of {:x?}", bytes, code);
        }
    }

    /// Gives EDX:EAX.
    pub fn answer(&self, value: u64) {
        self.vp.put(gp::RAX, value & 0xFFFF_FFFF);
        self.vp.put(gp::RDX, value >> 32);
    }

    /// Whether the VP stays silent for a while.
    pub fn is_silent(&self, root: &mut Root) -> bool {
        root.messages.sleep(20_000);
        root.messages.poll().is_none()
    }

    /// A register.
    #[track_caller]
    pub fn get(&self, root: &Root, name: HvRegisterName) -> u64 {
        self.vp.get(root, name)
    }

    /// Reads the child's RAM.
    pub fn peek(&self, gpa: u64) -> u64 {
        memory::read(self.child.ram(gpa))
    }

    /// Ends the child; everything must come back.
    #[track_caller]
    pub fn end(self, root: &mut Root) {
        self.child.end(root);
    }
}
