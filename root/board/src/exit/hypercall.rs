//! Hypercalls that the hypervisor leaves to the parent: messages and events to connections that it does not know (root
//! sheet C.4, guest sheet 5 and 6). A device of the board may have such a connection; the others are the worker's.
//!
//! The hypervisor has checked the call before it stopped the VP, but a parameter block in memory is read here again, and may
//! have changed meanwhile: the copy that is acted on is the one that is checked.

use iced_x86::Mnemonic;
use tlfs::{
    HV_MESSAGE_PAYLOAD_BYTE_COUNT, HvCallCode, HvConnectionId, HvHypercallInput, HvHypercallResult,
    HvInputPostMessage, HvInputSignalEvent, HvMessageType, HvStatus,
    HvX64HypercallInterceptMessage, HvX64InterceptMessageHeader, HvX64SynicSintDeliverableMessage,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::fetch::Fetched;
use super::{Bus, Guest, Handled, Machine, is_wide};

/// RAX.
const RAX: usize = 0;
/// RDX.
const RDX: usize = 2;
/// A connection id has 24 bits.
const CONNECTION_RESERVED: u32 = 0xFF00_0000;
/// Types with this bit are the hypervisor's own.
const TYPE_RESERVED: u32 = 1 << 31;

/// A message that the guest posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PostedMessage<'a> {
    /// Where to: 24 bits.
    pub connection: HvConnectionId,
    /// Its type: the guest's own choice, but bit 31 is clear and it is not 0.
    pub kind: HvMessageType,
    /// Its payload, at most 240 bytes; a copy.
    pub payload: &'a [u8],
}

/// Parameters of a call, from whichever registers the caller's mode has them in.
struct Parameters {
    control: HvHypercallInput,
    /// GPA of the input, or the input itself.
    input: u64,
}

impl Parameters {
    fn new(intercept: &HvX64HypercallInterceptMessage) -> Self {
        let pair = |high: u64, low: u64| high << 32 | low & 0xFFFF_FFFF;
        let (control, input) = if is_wide(&intercept.header) {
            (intercept.rcx, intercept.rdx)
        } else {
            (
                pair(intercept.rdx, intercept.rax),
                pair(intercept.rbx, intercept.rcx),
            )
        };
        Self {
            control: HvHypercallInput::from_bits(control),
            input,
        }
    }
}

impl<B: Bus, G: Guest> Machine<'_, '_, B, G> {
    /// Carries out the call, writes its result and goes on behind it.
    pub(super) fn hypercall(&mut self, intercept: &HvX64HypercallInterceptMessage) -> Handled {
        let parameters = Parameters::new(intercept);
        let status = match parameters.control.call_code() {
            HvCallCode::POST_MESSAGE => self.post_message(&parameters),
            HvCallCode::SIGNAL_EVENT => self.signal_event(&parameters),
            _ => Err(HvStatus::INVALID_HYPERCALL_CODE),
        };
        let length = usize::from(intercept.header.instruction_length());
        self.end_hypercall(&intercept.header, status, length)
    }

    /// The guest gets the result of a call, and goes on behind its instruction of `length` bytes.
    fn end_hypercall(
        &mut self,
        header: &HvX64InterceptMessageHeader,
        status: Result<(), HvStatus>,
        length: usize,
    ) -> Handled {
        let status = status.err().unwrap_or(HvStatus::SUCCESS);
        let result = HvHypercallResult::simple(status).into_bits();
        if is_wide(header) {
            self.registers.set(RAX, result);
        } else {
            self.registers.set_sized(RAX, 4, result & 0xFFFF_FFFF);
            self.registers.set_sized(RDX, 4, result >> 32);
        }
        self.advance(header, length)
    }

    /// A hypercall whose parameters are where there is no RAM. The hypervisor has done nothing: there might have been RAM to come.
    /// `None` if the instruction is another.
    pub(super) fn bad_parameters(
        &mut self,
        header: &HvX64InterceptMessageHeader,
        fetched: &Fetched,
    ) -> Option<Handled> {
        let is_call = matches!(
            fetched.instruction.mnemonic(),
            Mnemonic::Vmcall | Mnemonic::Vmmcall
        );
        let status = Err(HvStatus::INVALID_PARAMETER);
        is_call.then(|| self.end_hypercall(header, status, fetched.len()))
    }

    /// Slots of messages have become free: of the SINTs whose bits are set. The VP goes on where it was.
    pub(super) fn slots_free(&mut self, intercept: &HvX64SynicSintDeliverableMessage) -> Handled {
        self.guest.slots_free(intercept.deliverable_sints);
        Ok(())
    }

    fn post_message(&mut self, parameters: &Parameters) -> Result<(), HvStatus> {
        // With 256 bytes it fits no set of registers.
        if parameters.control.fast() {
            return Err(HvStatus::INVALID_HYPERCALL_INPUT);
        }
        let mut input = HvInputPostMessage::new_zeroed();
        self.read_input(parameters, input.as_mut_bytes())?;
        let size = input.payload_size as usize;
        let well_formed = input.reserved == 0
            && input.message_type.0 & TYPE_RESERVED == 0
            && input.message_type != HvMessageType::NONE
            && size <= HV_MESSAGE_PAYLOAD_BYTE_COUNT;
        let payload = input.payload.get(..size).filter(|_| well_formed);
        let message = PostedMessage {
            connection: connection(input.connection_id)?,
            kind: input.message_type,
            payload: payload.ok_or(HvStatus::INVALID_PARAMETER)?,
        };
        match self.bus.message_connection(message.connection) {
            Some(target) => self.guest.echo_message(target, &message),
            None => self.guest.post_message(&message),
        }
    }

    fn signal_event(&mut self, parameters: &Parameters) -> Result<(), HvStatus> {
        let mut bytes = [0; size_of::<HvInputSignalEvent>()];
        if parameters.control.fast() {
            bytes = parameters.input.to_le_bytes();
        } else {
            self.read_input(parameters, &mut bytes)?;
        }
        let input =
            HvInputSignalEvent::read_from_bytes(&bytes).map_err(|_| HvStatus::INVALID_PARAMETER)?;
        if input.reserved != 0 {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let to = connection(input.connection_id)?;
        let Some(target) = self.bus.event_connection(to) else {
            return self.guest.signal_event(to, input.flag_number);
        };
        // The device's connections have one flag each, whose number in the page is the connection's id, below 256.
        if input.flag_number != 0 {
            return Err(HvStatus::INVALID_PORT_ID);
        }
        let flag = u16::try_from(to.0).map_err(|_| HvStatus::INVALID_CONNECTION_ID)?;
        self.guest.echo_event(target, flag)
    }

    fn read_input(&mut self, parameters: &Parameters, into: &mut [u8]) -> Result<(), HvStatus> {
        if !parameters.input.is_multiple_of(8) {
            return Err(HvStatus::INVALID_ALIGNMENT);
        }
        let read = self.guest.read(parameters.input, into);
        read.map_err(|_| HvStatus::INVALID_PARAMETER)
    }
}

fn connection(id: HvConnectionId) -> Result<HvConnectionId, HvStatus> {
    if id.0 & CONNECTION_RESERVED == 0 {
        Ok(id)
    } else {
        Err(HvStatus::INVALID_CONNECTION_ID)
    }
}
