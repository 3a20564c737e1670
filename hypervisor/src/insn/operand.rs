//! Memory operands: what a ModRM byte and its company name.

use super::decode::{Cursor, Prefixes};
use super::{CodeMode, LengthError};
use crate::arch::state::{Gprs, SegmentName};

/// How wide addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSize {
    /// 16 bits.
    Bits16,
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

impl AddressSize {
    /// Bits of an offset.
    const fn mask(self) -> u64 {
        match self {
            Self::Bits16 => 0xFFFF,
            Self::Bits32 => 0xFFFF_FFFF,
            Self::Bits64 => u64::MAX,
        }
    }
}

/// What is added to the displacement first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    None,
    /// A general register, 0 to 15.
    Register(u8),
    /// RIP of the next instruction.
    NextInstruction,
}

/// Where a memory operand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// In which segment. In 64-bit code only FS and GS have a base.
    pub segment: SegmentName,
    /// What is added first.
    pub base: Base,
    /// Number of the general register that is added next, and by how many bits it is shifted before.
    pub index: Option<(u8, u8)>,
    /// What is added last, with its sign extended.
    pub displacement: u64,
    /// Width of the sum.
    pub size: AddressSize,
}

impl Operand {
    /// The offset in the segment, for an instruction behind which RIP is `next_rip`.
    pub fn offset(&self, gprs: &Gprs, next_rip: u64) -> u64 {
        let register = |number: u8| gprs.get(usize::from(number)).unwrap_or(0);
        let base = match self.base {
            Base::None => 0,
            Base::Register(number) => register(number),
            Base::NextInstruction => next_rip,
        };
        let index = self.index.map_or(0, |(number, shift)| {
            register(number).wrapping_shl(shift.into())
        });
        base.wrapping_add(index).wrapping_add(self.displacement) & self.size.mask()
    }

    /// An offset that is part of the instruction, as some forms of MOV have it.
    pub(super) fn absolute(
        cursor: &mut Cursor,
        prefixes: &Prefixes,
        mode: CodeMode,
    ) -> Result<Self, LengthError> {
        let size = prefixes.address_size(mode);
        let bytes = match size {
            AddressSize::Bits16 => 2,
            AddressSize::Bits32 => 4,
            AddressSize::Bits64 => 8,
        };
        Ok(Self {
            segment: prefixes.segment.unwrap_or(SegmentName::Ds),
            base: Base::None,
            index: None,
            displacement: cursor.number(bytes)?,
            size,
        })
    }

    /// Reads what follows a ModRM byte: the SIB byte and the displacement. `None` for a register.
    pub(super) fn read(
        cursor: &mut Cursor,
        prefixes: &Prefixes,
        mode: CodeMode,
        modrm: u8,
    ) -> Result<Option<Self>, LengthError> {
        if modrm >> 6 == 3 {
            return Ok(None);
        }
        let size = prefixes.address_size(mode);
        let mut found = if size == AddressSize::Bits16 {
            read_16(cursor, modrm)?
        } else {
            read_32(cursor, prefixes, mode, modrm, size)?
        };
        found.segment = prefixes.segment.unwrap_or(found.segment);
        Ok(Some(found))
    }
}

const BX: u8 = 3;
const SP: u8 = 4;
const BP: u8 = 5;
const SI: u8 = 6;
const DI: u8 = 7;

/// The segment of an address with this base.
const fn segment_of(base: Base) -> SegmentName {
    match base {
        Base::Register(SP | BP) => SegmentName::Ss,
        _ => SegmentName::Ds,
    }
}

/// The displacement by ModRM's upper field: none but for a bare address, one byte, or the full number of them. Its sign is
/// extended; what is beyond the size of an address falls away with the sum.
fn read_displacement(
    cursor: &mut Cursor,
    kind: u8,
    bare: bool,
    full: u32,
) -> Result<u64, LengthError> {
    match kind {
        0 if !bare => Ok(0),
        1 => cursor.signed(1),
        _ => cursor.signed(full),
    }
}

fn read_16(cursor: &mut Cursor, modrm: u8) -> Result<Operand, LengthError> {
    let (kind, rm) = (modrm >> 6, modrm & 7);
    let (base, index) = match rm {
        0 => (BX, Some(SI)),
        1 => (BX, Some(DI)),
        2 => (BP, Some(SI)),
        3 => (BP, Some(DI)),
        4 => (SI, None),
        5 => (DI, None),
        6 => (BP, None),
        _ => (BX, None),
    };
    let bare = kind == 0 && rm == 6;
    let base = if bare {
        Base::None
    } else {
        Base::Register(base)
    };
    let displacement = read_displacement(cursor, kind, bare, 2)?;
    Ok(Operand {
        segment: segment_of(base),
        base,
        index: index.map(|number| (number, 0)),
        displacement,
        size: AddressSize::Bits16,
    })
}

fn read_32(
    cursor: &mut Cursor,
    prefixes: &Prefixes,
    mode: CodeMode,
    modrm: u8,
    size: AddressSize,
) -> Result<Operand, LengthError> {
    /// A register field that says that another byte follows, and as an index that there is none.
    const SIB: u8 = 4;
    /// A base field that without a displacement of its own means four bytes of it and no base.
    const NO_BASE: u8 = 5;
    let (kind, rm) = (modrm >> 6, modrm & 7);
    let (field, index) = if rm == SIB {
        let sib = cursor.next()?;
        let index = sib >> 3 & 7 | (prefixes.rex & 2) << 2;
        (sib & 7, (index != SIB).then_some((index, sib >> 6)))
    } else {
        (rm, None)
    };
    let bare = kind == 0 && field == NO_BASE;
    let base = match (bare, rm) {
        (false, _) => Base::Register(field | (prefixes.rex & 1) << 3),
        (true, NO_BASE) if mode == CodeMode::Code64 => Base::NextInstruction,
        (true, _) => Base::None,
    };
    let displacement = read_displacement(cursor, kind, bare, 4)?;
    Ok(Operand {
        segment: segment_of(base),
        base,
        index,
        displacement,
        size,
    })
}
