//! IN and OUT: the path that is taken most often, so it allocates nothing and decodes nothing.

use tlfs::{HvInterceptAccessType, HvX64IoPortInterceptMessage};

use super::{Bus, Fault, Guest, Handled, Machine, Outcome};

/// RAX.
const RAX: usize = 0;

impl<B: Bus, G: Guest> Machine<'_, '_, B, G> {
    /// A single access to a port.
    #[inline]
    pub(super) fn port(&mut self, intercept: &HvX64IoPortInterceptMessage) -> Handled {
        let size = intercept.access_info.access_size();
        if !matches!(size, 1 | 2 | 4) {
            return Err(self.wrong_instruction(&intercept.header, &[]));
        }
        let length = match usize::from(intercept.header.instruction_length()) {
            0 => self.fetch_length(intercept)?,
            known => known,
        };
        let port = intercept.port_number;
        if intercept.header.intercept_access_type == HvInterceptAccessType::READ {
            let value = self.bus.port_read(port, size, self.now);
            self.registers.set_sized(RAX, size, u64::from(value));
        } else {
            let value = truncate(self.registers.get(RAX), size);
            self.bus.port_write(port, size, value as u32, self.now);
        }
        self.advance(&intercept.header, length)
    }

    /// Length of an instruction that the hypervisor did not measure.
    #[cold]
    fn fetch_length(&mut self, intercept: &HvX64IoPortInterceptMessage) -> Result<usize, Outcome> {
        let given = intercept
            .instruction_bytes
            .get(..usize::from(intercept.instruction_byte_count))
            .unwrap_or_default();
        Ok(self.fetch(&intercept.header, given)?.len())
    }

    pub(super) fn wrong_instruction(
        &self,
        header: &tlfs::HvX64InterceptMessageHeader,
        bytes: &[u8],
    ) -> Outcome {
        Outcome::Fault(Fault::WrongInstruction {
            rip: header.rip,
            bytes: super::InstructionBytes::new(bytes),
        })
    }
}

/// The low `size` bytes of a value.
#[inline]
pub(super) fn truncate(value: u64, size: u8) -> u64 {
    match size {
        1 => value & 0xFF,
        2 => value & 0xFFFF,
        4 => value & 0xFFFF_FFFF,
        _ => value,
    }
}
