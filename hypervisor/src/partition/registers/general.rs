//! General registers, RIP, RFLAGS, debug registers, segments and tables: 0x20000, 0x50000, 0x60000, 0x70000.

use tlfs::{
    HvRegisterName as Name, HvRegisterValue, HvX64SegmentAttributes, HvX64SegmentRegister,
    HvX64TableRegister,
};

use super::{Done, Got, INVALID_VALUE, SetEffect, Source, Target, got, unknown};
use crate::arch::state::{Segment, SegmentName, TableRegister, rflags};
use crate::partition::pending::set_rip;
use crate::partition::validate::{canonical, dr6_dr7_ok, rflags_ok, segment_ok, table_ok};

/// Number of a general register.
fn gpr(name: Name) -> Option<usize> {
    numbered(name, Name::RAX, Name::R15)
}

/// Number of an address breakpoint.
fn breakpoint(name: Name) -> Option<usize> {
    numbered(name, Name::DR0, Name::DR3)
}

fn segment_name(name: Name) -> Option<SegmentName> {
    let number = numbered(name, Name::ES, Name::TR)?;
    SegmentName::ALL.get(number).copied()
}

pub(super) fn numbered(name: Name, first: Name, last: Name) -> Option<usize> {
    (first..=last)
        .contains(&name)
        .then(|| (name.0 - first.0) as usize)
}

/// A segment register on the wire.
pub(super) fn segment_value(segment: &Segment) -> HvX64SegmentRegister {
    HvX64SegmentRegister {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        attributes: HvX64SegmentAttributes::from_bits(segment.attributes),
    }
}

fn table_value(table: TableRegister) -> HvX64TableRegister {
    HvX64TableRegister {
        pad: [0; 3],
        limit: table.limit,
        base: table.base,
    }
}

pub(super) fn get(source: Source<'_>, name: Name) -> Got {
    let hw = &source.vp.hw;
    if let Some(value) = gpr(name).and_then(|number| hw.gprs().get(number)) {
        return got(value);
    }
    if let Some(number) = breakpoint(name) {
        return got(hw.dr(number));
    }
    if let Some(segment) = segment_name(name) {
        return got(segment_value(&hw.segment(segment)));
    }
    match name {
        Name::RIP => got(hw.rip()),
        Name::RFLAGS => got(hw.rflags()),
        Name::DR6 => got(hw.dr6()),
        Name::DR7 => got(hw.dr7()),
        Name::IDTR => got(table_value(hw.idtr())),
        Name::GDTR => got(table_value(hw.gdtr())),
        _ => Err(unknown(name)),
    }
}

pub(super) fn set(target: Target<'_>, name: Name, value: HvRegisterValue) -> Done {
    let hw = &mut target.vp.hw;
    let low = value.low;
    if let Some(number) = gpr(name) {
        // There are sixteen.
        let _ = hw.gprs_mut().set(number, low);
        return Ok(SetEffect::None);
    }
    if let Some(number) = breakpoint(name) {
        hw.set_dr(number, low);
        return Ok(SetEffect::None);
    }
    if let Some(which) = segment_name(name) {
        let value = value.as_segment();
        let segment = Segment {
            base: value.base,
            limit: value.limit,
            selector: value.selector,
            attributes: value.attributes.into_bits(),
        };
        if !segment_ok(&segment) {
            return Err(INVALID_VALUE);
        }
        hw.set_segment(which, &segment);
        return Ok(SetEffect::None);
    }
    match name {
        Name::RIP if canonical(low) => set_rip(hw, low),
        Name::RFLAGS if rflags_ok(low) => hw.set_rflags(low | rflags::FIXED),
        Name::DR6 if dr6_dr7_ok(low) => hw.set_dr6(low),
        Name::DR7 if dr6_dr7_ok(low) => hw.set_dr7(low),
        Name::IDTR => hw.set_idtr(table(value)?),
        Name::GDTR => hw.set_gdtr(table(value)?),
        _ => return Err(INVALID_VALUE),
    }
    Ok(SetEffect::None)
}

fn table(value: HvRegisterValue) -> Result<TableRegister, tlfs::HvStatus> {
    let value = value.as_table();
    let table = TableRegister {
        base: value.base,
        limit: value.limit,
    };
    if table_ok(&table) {
        Ok(table)
    } else {
        Err(INVALID_VALUE)
    }
}
