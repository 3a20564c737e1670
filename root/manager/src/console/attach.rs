//! The keys of an attached console: everything is the guest's, but for what follows Ctrl-].

use alloc::vec::Vec;

/// Ctrl-].
const ESCAPE: u8 = 0x1D;

/// What typed bytes mean while a VM is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// All for the guest.
    Input(Vec<u8>),
    /// Detach. The first bytes are still the guest's, the last ones are for the command line.
    Detach(Vec<u8>, Vec<u8>),
    /// As `Input`, and an unknown key followed Ctrl-]: say which ones there are.
    Help(Vec<u8>),
}

/// Whether the last byte was Ctrl-].
#[derive(Clone, Copy, Debug, Default)]
pub struct Escape(bool);

impl Escape {
    /// Sorts typed bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Typed {
        let mut input = Vec::new();
        let mut help = false;
        let mut rest = bytes.iter();
        while let Some(&byte) = rest.next() {
            match (core::mem::take(&mut self.0), byte) {
                (false, ESCAPE) => self.0 = true,
                (true, b'd' | b'.') => return Typed::Detach(input, rest.as_slice().to_vec()),
                // Twice is once for the guest.
                (true, ESCAPE) | (false, _) => input.push(byte),
                (true, _) => help = true,
            }
        }
        if help {
            Typed::Help(input)
        } else {
            Typed::Input(input)
        }
    }
}
