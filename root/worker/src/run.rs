//! The life of a running VM: events in, VPs resumed.

use alloc::vec::Vec;

use board::device::ioapic::InterruptRequest;
use board::device::testdev::SintTarget;
use board::exit::{Access, Completion, Guest, GuestCrash, PostedMessage, Touched, TranslateError};
use board::layout::RamLayout;
use board::ram::{GuestRam, OutOfRam};
use board::{Board, Exception, Outcome, Registers};
use dynamic_memory::Touch;
use root_abi::{ExitReason, event};
use tlfs::{
    HV_PAGE_SHIFT, HV_X64_PENDING_EVENT_EXCEPTION, HvCallCode, HvConnectionId,
    HvInputAssertVirtualInterrupt, HvInputTranslateVirtualAddress, HvInterruptControl,
    HvInterruptType, HvOutputTranslateVirtualAddress, HvRegisterAssoc, HvRegisterName, HvStatus,
    HvTranslateGvaControlFlags, HvTranslateGvaResultCode as Code, HvVpIndex,
    HvX64PendingExceptionEvent,
};
use utilities::shutdown::ShutdownKind;
use zerocopy::IntoBytes;

use crate::crash::Crashes;
use crate::exit::Exit;
use crate::setup::{get_register, set_registers};
use crate::system::{CallError, System, VpState};
use crate::testdev::{self, Echoes};
use crate::vmbus::Vmbus;

/// Exceptions that push an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC, #SX.
const WITH_ERROR_CODE: u32 = 0x6022_7D00;

/// Vector of #DB, whose parameter is what DR6 becomes.
const DEBUG: u8 = 1;
/// DR6.BS.
const DR6_SINGLE_STEP: u64 = 1 << 14;

/// A VM that is set up.
pub struct Worker<S: System> {
    system: S,
    ram: S::Ram,
    board: Board,
    vmbus: Option<Vmbus<S::Ram>>,
    echoes: Echoes,
    crashes: Crashes,
    vps: Vec<S::Vp>,
    /// VPs to let run on, one bit each. Normally at most one; all of them at the start.
    resume: u64,
    /// The last that was.
    resumed: u32,
    /// VPs that need memory which is short, one bit each.
    waiting: u64,
    /// When they try again; reference time.
    wait_ends: u64,
    /// How often each VP has touched memory in a row that was there already.
    in_vain: Vec<u32>,
}

/// Most touches in vain in a row. A VP can find that another has just been quicker; one that never finds what is there is at
/// something that cannot be mended, and would be at it for ever.
const MOST_IN_VAIN: u32 = 64;

/// Between two tries of a VP that needs memory which is short, 100 ns.
const MEMORY_PAUSE: u64 = 10_000_000;

impl<S: System> Worker<S> {
    /// A VM whose VPs have not run yet.
    pub(crate) fn new(
        system: S,
        ram: S::Ram,
        board: Board,
        vps: Vec<S::Vp>,
        vmbus: Option<Vmbus<S::Ram>>,
    ) -> Self {
        // Each VP is resumed once: VP 0 starts, the others then wait for their SIPI in the hypervisor.
        let resume = (0..vps.len() as u32).fold(0, |all, vp| all | bit(vp));
        Self {
            in_vain: alloc::vec![0; vps.len()],
            system,
            ram,
            board,
            vmbus,
            echoes: Echoes::default(),
            crashes: Crashes::default(),
            vps,
            resume,
            resumed: u32::MAX,
            waiting: 0,
            wait_ends: u64::MAX,
        }
    }

    /// Runs the VM to its end. What the guest printed is printed then.
    pub fn run(&mut self) -> Exit {
        let exit = loop {
            match self.step() {
                Ok(()) => {}
                Err(exit) => break exit,
            }
        };
        let system = &mut self.system;
        self.board
            .due_output(u64::MAX, |bytes| system.console_write(bytes));
        exit
    }

    /// Resumes a VP, waits for an event and serves it.
    fn step(&mut self) -> Result<(), Exit> {
        let resume = self.next_to_resume();
        let deadline = if self.resume == 0 {
            self.next_deadline()
        } else {
            // More VPs wait: look for events, but do not wait for them.
            0
        };
        let event = self.system.wait(deadline, resume)?;
        match event.kind {
            event::INTERCEPT => self.intercept(event.vp, event.now)?,
            event::TIMEOUT => {}
            event::CONSOLE => self.console_input(event.now),
            event::STOP => return Err(Exit::new(ExitReason::Stopped, "stopped")),
            event::SHUTDOWN => self.shut_down(event.vp, event.now),
            event::MEMORY => {
                if let Some(vmbus) = &mut self.vmbus {
                    vmbus.order_memory(&mut self.system, &self.ram, event.now);
                }
            }
            event::DEBUG => self.system.misbehave(event.vp),
            // A kind of event from a later kernel.
            _ => {}
        }
        // Other events come before a timeout, so time is looked at after each.
        if event.now >= deadline {
            self.board.tick(event.now);
            self.try_again(event.now);
        }
        if let Some(vmbus) = &mut self.vmbus {
            vmbus.run(&mut self.system, &self.ram, event.now)?;
        }
        self.serve_testdev()?;
        while let Some(request) = self.board.take_interrupt() {
            assert_interrupt(&mut self.system, &request)?;
        }
        let system = &mut self.system;
        self.board
            .due_output(event.now, |bytes| system.console_write(bytes));
        Ok(())
    }

    /// When there is something to do although nothing happens.
    #[inline]
    fn next_deadline(&self) -> u64 {
        let board = self.board.next_deadline().unwrap_or(u64::MAX);
        let vmbus = self.vmbus.as_ref().map_or(u64::MAX, Vmbus::deadline);
        board.min(vmbus).min(self.wait_ends)
    }

    /// Lets VPs that need memory execute their instructions again.
    #[inline]
    fn try_again(&mut self, now: u64) {
        if now >= self.wait_ends {
            self.resume |= core::mem::take(&mut self.waiting);
            self.wait_ends = u64::MAX;
        }
    }

    /// The VP whose turn it is to be resumed: the one behind the last, so that none is left behind for ever.
    #[inline]
    fn next_to_resume(&mut self) -> Option<u32> {
        let behind = self.resume & u64::MAX.wrapping_shl(self.resumed).wrapping_shl(1);
        let next = if behind == 0 { self.resume } else { behind };
        let vp = (next != 0).then(|| next.trailing_zeros())?;
        self.resume &= !bit(vp);
        self.resumed = vp;
        Some(vp)
    }

    fn intercept(&mut self, vp: u32, now: u64) -> Result<(), Exit> {
        let Some(state) = self.vps.get_mut(vp as usize) else {
            return Err(Exit::new(
                ExitReason::WorkerFault,
                alloc::format!("intercept of VP {vp}, which does not exist"),
            ));
        };
        let (page, message) = state.pages();
        let Some(mut registers) = Registers::new(page) else {
            return Err(Exit::new(
                ExitReason::WorkerFault,
                "the register page is not valid",
            ));
        };
        let mut touches = Touches {
            before: self.in_vain.get(vp as usize).copied().unwrap_or_default(),
            in_vain: false,
        };
        let mut guest = VpMemory {
            touches: &mut touches,
            ram: &mut self.ram,
            system: &mut self.system,
            vmbus: self.vmbus.as_mut(),
            echoes: &mut self.echoes,
            crashes: &mut self.crashes,
            vp,
            now,
        };
        let outcome = self.board.handle(message, &mut registers, &mut guest, now);
        if let Some(count) = self.in_vain.get_mut(vp as usize) {
            *count = touches.after();
        }
        match outcome {
            Outcome::Resume => {}
            Outcome::Wait => {
                self.waiting |= bit(vp);
                self.wait_ends = self.wait_ends.min(now.saturating_add(MEMORY_PAUSE));
                return Ok(());
            }
            Outcome::Complete(completion) => complete(&mut self.system, vp, &completion)?,
            Outcome::Inject(exception) => inject(&mut self.system, vp, &exception)?,
            end => {
                if let Some(exit) = Exit::from_outcome(end) {
                    return Err(exit);
                }
            }
        }
        self.resume |= bit(vp);
        Ok(())
    }

    /// Asks the guest to end by itself.
    fn shut_down(&mut self, how: u32, now: u64) {
        let kind = match how {
            event::REBOOT => ShutdownKind::Reboot,
            _ => ShutdownKind::PowerOff,
        };
        match &mut self.vmbus {
            Some(vmbus) => vmbus.shut_down(&mut self.system, kind, now),
            None => self.system.log("cannot be shut down: it has no VMBus"),
        }
    }

    /// Does what the device of the Hyper-V guest tests wants, if there is one.
    #[inline]
    fn serve_testdev(&mut self) -> Result<(), CallError> {
        let Some(device) = self.board.testdev() else {
            return Ok(());
        };
        if let Some(word) = device.take_ignored() {
            let text =
                alloc::format!("hyperv-testdev: no meaning in the control word {word:#010x}");
            self.system.log(&text);
        }
        while let Some(target) = device.take_raised() {
            testdev::raise(&mut self.system, target)?;
        }
        Ok(())
    }

    /// Takes all input there is. What the serial line has no room for is dropped: a guest that does not read has
    /// thousands of characters waiting already, and left unread they would be reported for ever.
    fn console_input(&mut self, now: u64) {
        let mut buffer = [0; 256];
        loop {
            let typed = self.system.console_read(&mut buffer);
            if typed.is_empty() {
                break;
            }
            self.board.console_input(typed, now);
        }
    }
}

/// Asserts an interrupt.
///
/// # Errors
/// The system failed.
pub(crate) fn assert_interrupt<S: System>(
    system: &mut S,
    request: &InterruptRequest,
) -> Result<(), CallError> {
    let control = HvInterruptControl::new()
        .with_interrupt_type(HvInterruptType(request.delivery as u32))
        .with_level_triggered(request.level)
        .with_logical_dest_mode(request.logical);
    let mut input = HvInputAssertVirtualInterrupt {
        control,
        dest_addr: u64::from(request.destination),
        vector: u32::from(request.vector),
        ..Default::default()
    };
    let code = HvCallCode::ASSERT_VIRTUAL_INTERRUPT;
    match system.hypercall(code, 0, input.as_mut_bytes(), &mut []) {
        // The guest programs vector and destination, so a refusal is its own mistake: the interrupt is lost, as it
        // would be on a bus without such a destination.
        Err(CallError::Hypercall { .. }) | Ok(()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Raises an exception in a suspended VP.
fn inject<S: System>(system: &mut S, vp: u32, exception: &Exception) -> Result<(), CallError> {
    let event = HvX64PendingExceptionEvent::new()
        .with_event_pending(true)
        .with_event_type(HV_X64_PENDING_EVENT_EXCEPTION)
        .with_deliver_error_code(WITH_ERROR_CODE >> (exception.vector & 31) & 1 != 0)
        .with_vector(u16::from(exception.vector))
        .with_error_code(exception.error_code)
        .with_exception_parameter(exception.parameter);
    let register = HvRegisterAssoc::new(HvRegisterName::PENDING_EVENT0, event);
    set_registers(system, vp, &[register])
}

/// The bit of a VP; none for an index that no VP has.
fn bit(vp: u32) -> u64 {
    1_u64.checked_shl(vp).unwrap_or(0)
}

/// Does what an instruction of a suspended VP brings about beside its registers.
#[cold]
fn complete<S: System>(system: &mut S, vp: u32, completion: &Completion) -> Result<(), CallError> {
    if let Some(state) = completion.interrupt_state {
        let register = HvRegisterAssoc::new(HvRegisterName::INTERRUPT_STATE, state);
        set_registers(system, vp, &[register])?;
    }
    if completion.single_step {
        let dr6 = get_register(system, vp, HvRegisterName::DR6)?.low;
        let exception = Exception {
            vector: DEBUG,
            error_code: 0,
            parameter: dr6 | DR6_SINGLE_STEP,
        };
        inject(system, vp, &exception)?;
    }
    Ok(())
}

/// Touches of one VP in vain.
struct Touches {
    /// In a row, before this intercept.
    before: u32,
    /// This intercept has one.
    in_vain: bool,
}

impl Touches {
    /// In a row, with this intercept.
    fn after(&self) -> u32 {
        if self.in_vain {
            self.before.saturating_add(1)
        } else {
            0
        }
    }
}

/// Guest memory as one VP sees it: its page tables are walked by the hypervisor.
struct VpMemory<'a, S: System> {
    ram: &'a mut S::Ram,
    system: &'a mut S,
    vmbus: Option<&'a mut Vmbus<S::Ram>>,
    echoes: &'a mut Echoes,
    crashes: &'a mut Crashes,
    vp: u32,
    now: u64,
    touches: &'a mut Touches,
}

impl<S: System> GuestRam for VpMemory<'_, S> {
    fn layout(&self) -> RamLayout {
        self.ram.layout()
    }

    fn is_ram(&self, gpa: u64, len: u64) -> bool {
        self.ram.is_ram(gpa, len)
    }

    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRam> {
        self.ram.read(gpa, buf)
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam> {
        self.ram.write(gpa, data)
    }
}

impl<S: System> VpMemory<'_, S> {
    fn ask_for_translation(
        &mut self,
        gva: u64,
        control_flags: HvTranslateGvaControlFlags,
    ) -> Result<HvOutputTranslateVirtualAddress, TranslateError> {
        let mut input = HvInputTranslateVirtualAddress {
            vp_index: HvVpIndex(self.vp),
            control_flags,
            gva_page: gva >> HV_PAGE_SHIFT,
            ..Default::default()
        };
        let mut output = HvOutputTranslateVirtualAddress::default();
        let code = HvCallCode::TRANSLATE_VIRTUAL_ADDRESS;
        self.system
            .hypercall(code, 0, input.as_mut_bytes(), output.as_mut_bytes())
            .map_err(|_| TranslateError::Failed(u32::MAX))?;
        Ok(output)
    }
}

/// Where a translated address is.
fn address(output: &HvOutputTranslateVirtualAddress, gva: u64) -> u64 {
    output.gpa_page << HV_PAGE_SHIFT | gva & (tlfs::HV_PAGE_SIZE as u64 - 1)
}

impl<S: System> Guest for VpMemory<'_, S> {
    #[inline]
    fn touched(&mut self, gpa: u64) -> Touched {
        let Some(vmbus) = &mut self.vmbus else {
            return Touched::NotRam;
        };
        match vmbus.touched(self.system, self.ram, gpa, self.now) {
            Touch::NotRam => Touched::NotRam,
            Touch::Waits => Touched::Waits,
            Touch::Backed => Touched::Backed,
            Touch::There => {
                self.touches.in_vain = true;
                if self.touches.after() > MOST_IN_VAIN {
                    Touched::NotRam
                } else {
                    Touched::Backed
                }
            }
        }
    }

    fn translate(&mut self, gva: u64, access: Access) -> Result<u64, TranslateError> {
        let flags = HvTranslateGvaControlFlags::new().with_set_page_table_bits(true);
        let checked = flags
            .with_validate_read(access == Access::Read)
            .with_validate_write(access == Access::Write)
            .with_validate_execute(access == Access::Execute);
        let output = self.ask_for_translation(gva, checked)?;
        match output.result_code {
            Code::SUCCESS => Ok(address(&output, gva)),
            Code::PAGE_NOT_PRESENT => Err(TranslateError::NotPresent),
            Code::PRIVILEGE_VIOLATION => Err(TranslateError::Protection),
            Code::INVALID_PAGE_TABLE_FLAGS => Err(TranslateError::ReservedBits),
            Code::GPA_UNMAPPED => {
                // Either the page itself, which only a checked translation looks at, or one of a table.
                let walked = self.ask_for_translation(gva, flags)?;
                if walked.result_code == Code::SUCCESS {
                    Ok(address(&walked, gva))
                } else {
                    Err(TranslateError::Unmapped(output.gpa_page << HV_PAGE_SHIFT))
                }
            }
            other => Err(TranslateError::Failed(other.0)),
        }
    }

    fn post_message(&mut self, message: &PostedMessage<'_>) -> Result<(), HvStatus> {
        let vmbus = self.vmbus.as_mut();
        let vmbus = vmbus.ok_or(HvStatus::INVALID_CONNECTION_ID)?;
        vmbus.post_message(self.ram, message)
    }

    fn signal_event(&mut self, to: HvConnectionId, flag: u16) -> Result<(), HvStatus> {
        let vmbus = self.vmbus.as_mut();
        let vmbus = vmbus.ok_or(HvStatus::INVALID_CONNECTION_ID)?;
        vmbus.signal_event(to, flag)
    }

    fn echo_message(
        &mut self,
        to: SintTarget,
        message: &PostedMessage<'_>,
    ) -> Result<(), HvStatus> {
        self.echoes.message(self.system, to, message)
    }

    fn echo_event(&mut self, to: SintTarget, flag: u16) -> Result<(), HvStatus> {
        testdev::event(self.system, to, flag)
    }

    fn slots_free(&mut self, sints: u16) {
        self.echoes.slots_free(self.system, self.vp, sints);
        if let Some(vmbus) = &mut self.vmbus {
            vmbus.slots_free(self.vp);
        }
    }

    fn crashed(&mut self, crash: &GuestCrash) {
        self.crashes.tell(self.system, self.ram, self.vp, crash);
    }
}
