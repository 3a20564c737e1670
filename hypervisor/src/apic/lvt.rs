//! The local vector table.

use super::icr::Trigger;

/// An entry of the local vector table, in the order of the save format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LvtEntry {
    /// APIC timer.
    Timer,
    /// Thermal monitor.
    Thermal,
    /// Performance counters.
    Performance,
    /// LINT0 pin, where a PIC is.
    Lint0,
    /// LINT1 pin, where the NMI is.
    Lint1,
    /// Errors of the APIC itself.
    Error,
    /// Corrected machine checks.
    Cmci,
}

/// Number of entries.
pub(super) const ENTRIES: usize = 7;

/// What an entry delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LvtMode {
    Fixed,
    Smi,
    Nmi,
    Init,
    ExtInt,
    Reserved,
}

const VECTOR: u32 = 0xFF;
const MODE: u32 = 7 << 8;
/// Delivery status and remote IRR: read-only.
const DELIVERY_STATUS: u32 = 1 << 12;
const POLARITY: u32 = 1 << 13;
const REMOTE_IRR: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const PERIODIC: u32 = 1 << 17;

impl LvtEntry {
    pub(super) const ALL: [Self; ENTRIES] = [
        Self::Timer,
        Self::Thermal,
        Self::Performance,
        Self::Lint0,
        Self::Lint1,
        Self::Error,
        Self::Cmci,
    ];

    /// Bits that a guest can set.
    const fn writable(self) -> u32 {
        match self {
            // The timer's TSC-deadline mode (bit 18) is not offered.
            Self::Timer => VECTOR | MASKED | PERIODIC,
            Self::Error => VECTOR | MASKED,
            Self::Thermal | Self::Performance | Self::Cmci => VECTOR | MODE | MASKED,
            Self::Lint0 | Self::Lint1 => VECTOR | MODE | POLARITY | LEVEL | MASKED,
        }
    }

    /// Bits that a guest may write as ones although nothing changes them.
    const fn read_only(self) -> u32 {
        match self {
            Self::Lint0 | Self::Lint1 => DELIVERY_STATUS | REMOTE_IRR,
            _ => DELIVERY_STATUS,
        }
    }

    /// Bits that fault when a guest sets them in x2APIC mode.
    pub(super) const fn reserved(self) -> u32 {
        !(self.writable() | self.read_only())
    }

    const fn has_mode(self) -> bool {
        self.writable() & MODE != 0
    }
}

/// The table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lvt([u32; ENTRIES]);

impl Lvt {
    /// After reset and INIT: all masked.
    pub(super) const RESET: Self = Self([MASKED; ENTRIES]);

    pub(super) const fn value(&self, entry: LvtEntry) -> u32 {
        self.0[entry as usize]
    }

    /// A guest's write: read-only bits keep their state, bits that do not exist are dropped.
    pub(super) fn write(&mut self, entry: LvtEntry, value: u32) {
        let kept = self.value(entry) & entry.read_only();
        self.0[entry as usize] = kept | value & entry.writable();
    }

    /// A saved state's value, with its remote IRR.
    pub(super) fn restore(&mut self, entry: LvtEntry, value: u32) {
        let remote_irr = REMOTE_IRR & entry.read_only();
        self.0[entry as usize] = value & (entry.writable() | remote_irr);
    }

    pub(super) fn mask(&mut self, entry: LvtEntry) {
        self.0[entry as usize] |= MASKED;
    }

    pub(super) const fn is_masked(&self, entry: LvtEntry) -> bool {
        self.value(entry) & MASKED != 0
    }

    pub(super) const fn vector(&self, entry: LvtEntry) -> u8 {
        self.value(entry) as u8
    }

    pub(super) const fn is_periodic(&self) -> bool {
        self.value(LvtEntry::Timer) & PERIODIC != 0
    }

    pub(super) const fn mode(&self, entry: LvtEntry) -> LvtMode {
        if !entry.has_mode() {
            return LvtMode::Fixed;
        }
        match self.value(entry) >> 8 & 7 {
            0 => LvtMode::Fixed,
            2 => LvtMode::Smi,
            4 => LvtMode::Nmi,
            5 => LvtMode::Init,
            7 => LvtMode::ExtInt,
            _ => LvtMode::Reserved,
        }
    }

    /// Trigger of a fixed interrupt. LINT1 has no level mode (SDM, "Local Vector Table").
    pub(super) const fn trigger(&self, entry: LvtEntry) -> Trigger {
        match entry {
            LvtEntry::Lint0 if self.value(entry) & LEVEL != 0 => Trigger::Level,
            _ => Trigger::Edge,
        }
    }

    pub(super) const fn remote_irr(&self, entry: LvtEntry) -> bool {
        self.value(entry) & REMOTE_IRR != 0
    }

    /// LINT0 delivered a level interrupt: it delivers no other one until the guest ends it.
    pub(super) fn set_remote_irr(&mut self, entry: LvtEntry) {
        self.0[entry as usize] |= REMOTE_IRR & entry.read_only();
    }

    /// The guest ended a level interrupt with this vector.
    pub(super) fn end_of_level(&mut self, vector: u8) {
        let lint0 = &mut self.0[LvtEntry::Lint0 as usize];
        if *lint0 as u8 == vector {
            *lint0 &= !REMOTE_IRR;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_defined_bits_are_kept() {
        let mut lvt = Lvt::RESET;
        for entry in LvtEntry::ALL {
            lvt.write(entry, u32::MAX);
            assert_eq!(lvt.value(entry), entry.writable());
            assert_eq!(entry.writable() & entry.reserved(), 0);
        }
    }

    #[test]
    fn remote_irr_is_the_apics() {
        let mut lvt = Lvt::RESET;
        lvt.write(LvtEntry::Lint0, LEVEL | REMOTE_IRR | 0x40);
        assert!(!lvt.remote_irr(LvtEntry::Lint0));
        lvt.set_remote_irr(LvtEntry::Lint0);
        lvt.write(LvtEntry::Lint0, LEVEL | 0x40);
        assert!(lvt.remote_irr(LvtEntry::Lint0));
        lvt.end_of_level(0x41);
        assert!(lvt.remote_irr(LvtEntry::Lint0));
        lvt.end_of_level(0x40);
        assert!(!lvt.remote_irr(LvtEntry::Lint0));
        lvt.set_remote_irr(LvtEntry::Timer);
        assert!(!lvt.remote_irr(LvtEntry::Timer));
    }

    #[test]
    fn entries_without_a_mode_field_are_fixed() {
        let mut lvt = Lvt::RESET;
        lvt.write(LvtEntry::Error, 0x7FF);
        assert_eq!(lvt.mode(LvtEntry::Error), LvtMode::Fixed);
        lvt.write(LvtEntry::Lint1, 0x400);
        assert_eq!(lvt.mode(LvtEntry::Lint1), LvtMode::Nmi);
    }
}
