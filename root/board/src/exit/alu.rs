//! Arithmetic and its flags.

use super::port::truncate;

/// RFLAGS.CF.
pub const CF: u64 = 1 << 0;
/// RFLAGS.PF.
pub const PF: u64 = 1 << 2;
/// RFLAGS.AF.
pub const AF: u64 = 1 << 4;
/// RFLAGS.ZF.
pub const ZF: u64 = 1 << 6;
/// RFLAGS.SF.
pub const SF: u64 = 1 << 7;
/// RFLAGS.OF.
pub const OF: u64 = 1 << 11;
/// All flags that arithmetic sets.
pub const STATUS: u64 = CF | PF | AF | ZF | SF | OF;

/// An operation of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// ADD.
    Add,
    /// ADC.
    Adc,
    /// SUB, and CMP.
    Sub,
    /// SBB.
    Sbb,
    /// AND, and TEST.
    And,
    /// OR.
    Or,
    /// XOR.
    Xor,
}

/// Computes `left op right` on `size` bytes. Returns the result and RFLAGS with the status flags set accordingly.
pub fn compute(operation: Operation, left: u64, right: u64, size: u8, flags: u64) -> (u64, u64) {
    let (left, right) = (truncate(left, size), truncate(right, size));
    let carry = flags & CF;
    let wide = |value: u64| u128::from(value);
    let (result, carries) = match operation {
        Operation::And => (left & right, None),
        Operation::Or => (left | right, None),
        Operation::Xor => (left ^ right, None),
        Operation::Add => sum(wide(left) + wide(right), left, right, size),
        Operation::Adc => sum(wide(left) + wide(right) + wide(carry), left, right, size),
        Operation::Sub => difference(left, right, 0, size),
        Operation::Sbb => difference(left, right, carry, size),
    };
    // The logical operations clear CF and OF; AF is undefined, and clear on real processors.
    let set = carries.unwrap_or(0) | result_flags(result, size);
    (result, flags & !STATUS | set)
}

/// Flags that follow from the result alone.
fn result_flags(result: u64, size: u8) -> u64 {
    let mut flags = 0;
    if result == 0 {
        flags |= ZF;
    }
    if result & sign(size) != 0 {
        flags |= SF;
    }
    if (result as u8).count_ones().is_multiple_of(2) {
        flags |= PF;
    }
    flags
}

fn sum(exact: u128, left: u64, right: u64, size: u8) -> (u64, Option<u64>) {
    let result = truncate(exact as u64, size);
    let carry = exact >> (u32::from(size) * 8) != 0;
    // Overflow: operands of one sign, result of the other.
    let overflow = (left ^ result) & (right ^ result) & sign(size) != 0;
    (
        result,
        Some(carry_flags(left ^ right ^ result, carry, overflow)),
    )
}

fn difference(left: u64, right: u64, borrow: u64, size: u8) -> (u64, Option<u64>) {
    let result = truncate(left.wrapping_sub(right).wrapping_sub(borrow), size);
    let carry = u128::from(left) < u128::from(right) + u128::from(borrow);
    // Overflow: operands of different signs, result of the right one's.
    let overflow = (left ^ right) & (left ^ result) & sign(size) != 0;
    (
        result,
        Some(carry_flags(left ^ right ^ result, carry, overflow)),
    )
}

/// `half` has bit 4 set if there was a carry into it.
fn carry_flags(half: u64, carry: bool, overflow: bool) -> u64 {
    (half & AF) | if carry { CF } else { 0 } | if overflow { OF } else { 0 }
}

fn sign(size: u8) -> u64 {
    1 << (u32::from(size) * 8 - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_results_have_the_flags_of_the_manual() {
        let run = |operation, left, right, size, flags| {
            let (result, flags) = compute(operation, left, right, size, flags);
            (result, flags & STATUS)
        };
        assert_eq!(run(Operation::Add, 0x7F, 1, 1, 0), (0x80, SF | OF | AF));
        assert_eq!(run(Operation::Add, 0xFF, 1, 1, 0), (0, ZF | CF | PF | AF));
        assert_eq!(
            run(Operation::Sub, 0, 1, 4, 0),
            (0xFFFF_FFFF, CF | SF | PF | AF)
        );
        assert_eq!(run(Operation::Sub, 0x80, 1, 1, 0), (0x7F, OF | AF));
        assert_eq!(
            run(Operation::Adc, u64::MAX, 0, 8, CF),
            (0, CF | ZF | PF | AF)
        );
        assert_eq!(
            run(Operation::Sbb, 0, u64::MAX, 8, CF),
            (0, CF | ZF | PF | AF)
        );
        assert_eq!(run(Operation::And, 0xF0, 0x0F, 1, CF | OF), (0, ZF | PF));
        assert_eq!(run(Operation::Or, 0x8000, 1, 2, 0), (0x8001, SF));
        assert_eq!(run(Operation::Xor, 5, 5, 8, CF), (0, ZF | PF));
    }

    proptest! {
        #[test]
        fn carry_and_overflow_agree_with_wider_arithmetic(left: u16, right: u16, carry: bool) {
            let borrow = i64::from(carry);
            let flags = if carry { CF } else { 0 };
            let exact = i64::from(left) + i64::from(right) + borrow;
            let signed = i64::from(left as i16) + i64::from(right as i16) + borrow;
            let (result, flags_out) =
                compute(Operation::Adc, left.into(), right.into(), 2, flags);
            prop_assert_eq!(result, exact as u64 & 0xFFFF);
            prop_assert_eq!(flags_out & CF != 0, exact > 0xFFFF);
            prop_assert_eq!(flags_out & OF != 0, signed != i64::from(signed as i16));
            let exact = i64::from(left) - i64::from(right) - borrow;
            let signed = i64::from(left as i16) - i64::from(right as i16) - borrow;
            let (result, flags_out) =
                compute(Operation::Sbb, left.into(), right.into(), 2, flags);
            prop_assert_eq!(result, exact as u64 & 0xFFFF);
            prop_assert_eq!(flags_out & CF != 0, exact < 0);
            prop_assert_eq!(flags_out & OF != 0, signed != i64::from(signed as i16));
        }
    }
}
