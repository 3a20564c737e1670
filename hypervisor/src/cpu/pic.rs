//! The two 8259s, which nobody here uses.

use x86_64::instructions::port::Port;

/// Moves their vectors out of the exceptions' way and masks every line, so that not even a spurious one comes.
///
/// # Safety
/// Ring 0; nothing else programs them at this time.
pub unsafe fn mask_all() {
    const SEQUENCE: [(u16, u8); 10] = [
        (0x20, 0x11),
        (0xA0, 0x11),
        (0x21, 0x20),
        (0xA1, 0x28),
        (0x21, 0x04),
        (0xA1, 0x02),
        (0x21, 0x01),
        (0xA1, 0x01),
        (0x21, 0xFF),
        (0xA1, 0xFF),
    ];
    for (port, value) in SEQUENCE {
        // SAFETY: the standard initialization of the standard ports, which the caller allows.
        unsafe {
            Port::new(port).write(value);
            // Old controllers want a pause; a write to the unused port 0x80 is one.
            Port::new(0x80_u16).write(0_u8);
        }
    }
}
