//! Data accesses by linear address: through the guest's page tables, to RAM or to a device.

use tlfs::HvTranslateGvaResultCode;

use super::port::truncate;
use super::{
    Access, Bus, Exception, Fault, Guest, Handled, Machine, Outcome, Touched, TranslateError,
};
use crate::layout::PAGE;
use crate::ram::OutOfRam;

const PAGE_FAULT: u8 = 14;
// Page fault error code.
const PRESENT: u32 = 1 << 0;
const WRITE: u32 = 1 << 1;
const USER: u32 = 1 << 2;
const RESERVED: u32 = 1 << 3;
const FETCH: u32 = 1 << 4;

impl From<OutOfRam> for Outcome {
    fn from(error: OutOfRam) -> Self {
        Self::Fault(Fault::OutOfRam(error))
    }
}

/// The last translated page of a sequence of accesses of one kind.
#[derive(Default)]
pub(super) struct PageCache(Option<(u64, u64)>);

impl<B: Bus, G: Guest> Machine<'_, '_, B, G> {
    /// Translates a linear address. The guest's own faults become exceptions for it. What is there then is RAM, or will not be.
    pub(super) fn translate(&mut self, linear: u64, access: Access) -> Result<u64, Outcome> {
        let gpa = if self.registers.paging() {
            self.walk(linear, access)?
        } else {
            linear
        };
        if !self.guest.is_ram(gpa, 1) {
            self.wait_for_page(gpa)?;
        }
        Ok(gpa)
    }

    /// Nothing is mapped at this address. If it is RAM that has been away, or will be there later, the VP executes its
    /// instruction again: whatever was done of it is in the registers.
    pub(super) fn wait_for_page(&mut self, gpa: u64) -> Handled {
        match self.guest.touched(gpa) {
            Touched::NotRam => Ok(()),
            Touched::Backed => Err(Outcome::Resume),
            Touched::Waits => Err(Outcome::Wait),
        }
    }

    fn walk(&mut self, linear: u64, access: Access) -> Result<u64, Outcome> {
        let translated = self.guest.translate(linear, access);
        if let Err(TranslateError::Unmapped(table)) = translated {
            self.wait_for_page(table)?;
        }
        translated.map_err(|error| {
            let cause = match error {
                TranslateError::NotPresent => 0,
                TranslateError::Protection => PRESENT,
                TranslateError::ReservedBits => PRESENT | RESERVED,
                TranslateError::Unmapped(_) => {
                    return Fault::Translation {
                        gva: linear,
                        result: HvTranslateGvaResultCode::GPA_UNMAPPED.0,
                    }
                    .into();
                }
                TranslateError::Failed(result) => {
                    return Fault::Translation {
                        gva: linear,
                        result,
                    }
                    .into();
                }
            };
            let kind = match access {
                Access::Read => 0,
                Access::Write => WRITE,
                Access::Execute => FETCH,
            };
            let user = if self.registers.user() { USER } else { 0 };
            Outcome::Inject(Exception {
                vector: PAGE_FAULT,
                error_code: cause | kind | user,
                parameter: linear,
            })
        })
    }

    fn translate_cached(
        &mut self,
        linear: u64,
        access: Access,
        cache: &mut PageCache,
    ) -> Result<u64, Outcome> {
        let (page, offset) = (linear & !(PAGE - 1), linear & (PAGE - 1));
        if let Some((_, gpa)) = cache.0.filter(|(cached, _)| *cached == page) {
            return Ok(gpa + offset);
        }
        // The address itself and not its page: a page fault tells it.
        let gpa = self.translate(linear, access)? & !(PAGE - 1);
        cache.0 = Some((page, gpa));
        Ok(gpa + offset)
    }

    /// Reads `size` (1 to 8) bytes.
    pub(super) fn read_linear(
        &mut self,
        linear: u64,
        size: u8,
        cache: &mut PageCache,
    ) -> Result<u64, Outcome> {
        if crosses(linear, size) {
            let mut value = 0;
            for index in 0..size {
                let at = linear.wrapping_add(u64::from(index));
                let gpa = self.translate_cached(at, Access::Read, cache)?;
                value |= self.read_physical(gpa, 1) << (index * 8);
            }
            return Ok(value);
        }
        let gpa = self.translate_cached(linear, Access::Read, cache)?;
        Ok(self.read_physical(gpa, size))
    }

    /// Writes `size` (1 to 8) bytes. Nothing is written if one of two pages is missing.
    pub(super) fn write_linear(
        &mut self,
        linear: u64,
        size: u8,
        value: u64,
        cache: &mut PageCache,
    ) -> Result<(), Outcome> {
        let value = truncate(value, size);
        self.probe_write(linear, size, cache)?;
        if crosses(linear, size) {
            for index in 0..size {
                let at = linear.wrapping_add(u64::from(index));
                let gpa = self.translate_cached(at, Access::Write, cache)?;
                self.write_physical(gpa, 1, value >> (index * 8) & 0xFF);
            }
            return Ok(());
        }
        let gpa = self.translate_cached(linear, Access::Write, cache)?;
        self.write_physical(gpa, size, value);
        Ok(())
    }

    /// Makes sure that a read would find all of its pages.
    pub(super) fn probe_read(
        &mut self,
        linear: u64,
        size: u8,
        cache: &mut PageCache,
    ) -> Result<(), Outcome> {
        self.probe(linear, size, Access::Read, cache)
    }

    /// Makes sure that a write would find all of its pages.
    pub(super) fn probe_write(
        &mut self,
        linear: u64,
        size: u8,
        cache: &mut PageCache,
    ) -> Result<(), Outcome> {
        self.probe(linear, size, Access::Write, cache)
    }

    fn probe(
        &mut self,
        linear: u64,
        size: u8,
        access: Access,
        cache: &mut PageCache,
    ) -> Result<(), Outcome> {
        if crosses(linear, size) {
            let last = linear.wrapping_add(u64::from(size) - 1);
            self.translate(last & !(PAGE - 1), access)?;
        }
        self.translate_cached(linear, access, cache)?;
        Ok(())
    }

    fn read_physical(&mut self, gpa: u64, size: u8) -> u64 {
        let mut bytes = [0; 8];
        let wanted = bytes.get_mut(..usize::from(size)).unwrap_or_default();
        match self.guest.read(gpa, wanted) {
            Ok(()) => u64::from_le_bytes(bytes),
            Err(_) => truncate(self.bus.memory_read(gpa, size, self.now), size),
        }
    }

    fn write_physical(&mut self, gpa: u64, size: u8, value: u64) {
        let bytes = value.to_le_bytes();
        let data = bytes.get(..usize::from(size)).unwrap_or(&bytes);
        if self.guest.write(gpa, data).is_err() {
            self.bus.memory_write(gpa, size, value, self.now);
        }
    }
}

fn crosses(linear: u64, size: u8) -> bool {
    (linear & (PAGE - 1)) + u64::from(size) > PAGE
}
