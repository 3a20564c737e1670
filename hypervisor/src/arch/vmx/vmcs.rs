//! A VMCS as memory: its fields are kept in banks, read from the processor when somebody asks, and written to it before
//! the next entry if they changed.
//!
//! So an exit costs only the fields that are needed for it, and everything but the run itself works on memory and can be
//! tested on the host: a bank begins complete, and only a run leaves holes in it.

use core::cell::Cell;
use core::fmt;

use crate::mem::addr::Spa;

use super::fields::Field;
use super::hardware;

/// Fields of one bank. `N` is their number, at most 64.
#[derive(Clone)]
pub(super) struct Bank<const N: usize> {
    values: [Cell<u64>; N],
    /// Bit by place: the value is the processor's.
    valid: Cell<u64>,
    /// Bit by place: the value has to be written before the next entry. Such a value is valid.
    dirty: u64,
}

const fn all(count: usize) -> u64 {
    if count == 64 {
        u64::MAX
    } else {
        (1 << count) - 1
    }
}

impl<const N: usize> Bank<N> {
    /// All zeros, all to be written.
    pub const fn new() -> Self {
        assert!(N <= 64);
        Self {
            values: [const { Cell::new(0) }; N],
            valid: Cell::new(all(N)),
            dirty: all(N),
        }
    }

    /// Of fields that only the processor writes: all zeros.
    pub const fn read_only() -> Self {
        let mut bank = Self::new();
        bank.dirty = 0;
        bank
    }

    /// Every value is known.
    pub fn is_complete(&self) -> bool {
        self.valid.get() == all(N)
    }

    /// Something has to be written before the next entry.
    #[inline(always)]
    pub const fn is_changed(&self) -> bool {
        self.dirty != 0
    }

    /// The value, if it is known.
    #[inline(always)]
    pub fn known(&self, field: impl Field) -> Option<u64> {
        let index = field.index();
        (self.valid.get() >> index & 1 != 0).then(|| self.value(index))
    }

    /// The value last known: for banks that have no holes, and for fields that are always known.
    #[inline(always)]
    pub fn get(&self, field: impl Field) -> u64 {
        self.value(field.index())
    }

    #[inline(always)]
    fn value(&self, index: usize) -> u64 {
        self.values.get(index).map_or(0, Cell::get)
    }

    /// Notes what the processor has.
    #[inline(always)]
    pub fn note(&self, field: impl Field, value: u64) {
        let index = field.index();
        if let Some(cell) = self.values.get(index) {
            cell.set(value);
            self.valid.set(self.valid.get() | 1 << index);
        }
    }

    /// Changes a value.
    #[inline(always)]
    pub fn set(&mut self, field: impl Field, value: u64) {
        self.note(field, value);
        self.dirty |= 1 << field.index();
    }

    /// Changes a value without telling the processor, which has it already.
    #[inline(always)]
    pub fn assume(&mut self, field: impl Field, value: u64) {
        self.note(field, value);
        self.dirty &= !(1 << field.index());
    }

    /// The value if it has to be written, which the caller does.
    #[inline(always)]
    pub fn take_change(&mut self, field: impl Field) -> Option<u64> {
        if !self.is_dirty(field) {
            return None;
        }
        self.dirty &= !(1 << field.index());
        Some(self.get(field))
    }

    /// The value has to be written before the next entry.
    #[inline(always)]
    pub fn is_dirty(&self, field: impl Field) -> bool {
        self.dirty >> field.index() & 1 != 0
    }

    /// After an exit: nothing is known.
    #[inline(always)]
    pub fn forget(&mut self) {
        self.valid.set(0);
        debug_assert!(
            self.dirty == 0,
            "a change that was not written before the entry"
        );
    }

    /// All fields have to be written: the processor's are undefined. Every value must be known.
    pub fn write_all(&mut self) {
        debug_assert!(self.valid.get() == all(N));
        self.dirty = all(N);
    }

    /// Hands all changes to `write`, with encodings.
    #[inline(always)]
    pub fn flush<F: Field>(&mut self, _of: F, mut write: impl FnMut(u32, u64)) {
        while self.dirty != 0 {
            let index = self.dirty.trailing_zeros() as usize;
            self.dirty &= self.dirty - 1;
            if let (Some(&encoding), Some(value)) =
                (F::ENCODINGS.get(index), self.values.get(index))
            {
                write(encoding, value.get());
            }
        }
    }
}

impl<const N: usize> fmt::Debug for Bank<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Bank({N} fields, valid {:#x}, dirty {:#x})",
            self.valid.get(),
            self.dirty
        )
    }
}

/// Reads a field of the VMCS at `vmcs`, which this processor has active. It is the current one while its VP is in hand;
/// otherwise another is, which is made current again.
pub(super) fn read(vmcs: Spa, current: bool, encoding: u32) -> u64 {
    if current {
        // SAFETY: only a run makes fields unknown, so this processor is in VMX operation, and the VMCS is current.
        return unsafe { hardware::vmread(encoding) };
    }
    read_other(vmcs, encoding)
}

#[cold]
fn read_other(vmcs: Spa, encoding: u32) -> u64 {
    // SAFETY: as in `read`, but for the VMCS being current, which this sees to. Both are initialized ones of this
    // processor's: the VP has run here (it would know all its fields otherwise), and the current one is in use.
    unsafe {
        let other = hardware::vmptrst();
        hardware::vmptrld(vmcs.0);
        let value = hardware::vmread(encoding);
        if other != u64::MAX {
            hardware::vmptrld(other);
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::Guest;
    use super::*;
    use proptest::prelude::*;

    type GuestBank = Bank<{ Guest::COUNT }>;

    fn written(bank: &mut GuestBank) -> Vec<(u32, u64)> {
        let mut all = Vec::new();
        bank.flush(Guest::Rip, |encoding, value| all.push((encoding, value)));
        all
    }

    #[test]
    fn a_new_bank_writes_every_field_once() {
        let mut bank = GuestBank::new();
        assert_eq!(written(&mut bank).len(), Guest::COUNT);
        assert!(written(&mut bank).is_empty());
    }

    #[test]
    fn only_changes_are_written_and_only_what_was_read_is_known() {
        let mut bank = GuestBank::new();
        written(&mut bank);
        bank.forget();
        assert_eq!(bank.known(Guest::Rip), None);
        bank.note(Guest::Rip, 0x1000);
        bank.set(Guest::Rflags, 2);
        assert_eq!(bank.known(Guest::Rip), Some(0x1000));
        assert_eq!(written(&mut bank), [(0x6820, 2)]);
    }

    proptest! {
        /// A processor with registers of its own, and a bank in front of it: what is read is always what was set last.
        #[test]
        fn a_bank_never_shows_a_stale_value(steps in prop::collection::vec((0..Guest::COUNT, 0..3u8, any::<u64>()), 0..200)) {
            let mut processor = [0_u64; Guest::COUNT];
            let mut truth = [0_u64; Guest::COUNT];
            let mut bank = GuestBank::new();
            let place = |encoding: u32| Guest::ENCODINGS.iter().position(|e| *e == encoding).unwrap();
            for (index, what, value) in steps {
                let field = Guest::ALL[index];
                match what {
                    0 => {
                        bank.set(field, value);
                        truth[index] = value;
                    }
                    1 => {
                        let seen = bank.known(field).unwrap_or_else(|| {
                            bank.note(field, processor[index]);
                            processor[index]
                        });
                        prop_assert_eq!(seen, truth[index]);
                    }
                    _ => {
                        // A run in which the guest changes one register.
                        bank.flush(Guest::Rip, |encoding, value| processor[place(encoding)] = value);
                        processor[index] = value;
                        truth[index] = value;
                        bank.forget();
                    }
                }
            }
        }
    }
}
