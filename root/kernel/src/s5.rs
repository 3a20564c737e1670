//! The values that switch a machine off, found in its AML without interpreting it.
//!
//! `\_S5` is a package of constants in every machine's DSDT, by rule of the ACPI specification (7.4.2.6), so its byte
//! pattern is fixed: NameOp, optional root prefix, `_S5_`, PackageOp, length, count, then the constants.

const NAME_OP: u8 = 0x08;
const ROOT: u8 = b'\\';
const PACKAGE_OP: u8 = 0x12;
const ZERO: u8 = 0x00;
const ONE: u8 = 0x01;
const BYTE: u8 = 0x0A;
const WORD: u8 = 0x0B;
const DWORD: u8 = 0x0C;

/// SLP_TYP values for PM1a and PM1b control, 3 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SleepTypes {
    /// For PM1a_CNT.
    pub a: u8,
    /// For PM1b_CNT.
    pub b: u8,
}

/// Searches a table's AML (the bytes after its header) for `\_S5`.
pub fn find(aml: &[u8]) -> Option<SleepTypes> {
    let mut at = 0;
    while let Some(rest) = aml.get(at..) {
        let found = at + rest.windows(4).position(|name| name == b"_S5_")?;
        if let Some(types) = decode(aml, found) {
            return Some(types);
        }
        at = found + 4;
    }
    None
}

fn decode(aml: &[u8], name: usize) -> Option<SleepTypes> {
    let before = |back: usize| name.checked_sub(back).and_then(|at| aml.get(at)).copied();
    let defined =
        before(1) == Some(NAME_OP) || (before(1) == Some(ROOT) && before(2) == Some(NAME_OP));
    let (package, rest) = aml.get(name + 4..)?.split_first()?;
    if !defined || *package != PACKAGE_OP {
        return None;
    }
    // The length's lead byte says in bits 7:6 how many bytes follow it.
    let lead = *rest.first()?;
    let (count, elements) = rest.get(1 + usize::from(lead >> 6)..)?.split_first()?;
    let (a, elements) = constant(elements)?;
    // A package of one combines both in one integer (some firmware).
    let b = if *count >= 2 {
        constant(elements)?.0
    } else {
        a >> 8
    };
    Some(SleepTypes {
        a: (a & 7) as u8,
        b: (b & 7) as u8,
    })
}

fn constant(aml: &[u8]) -> Option<(u32, &[u8])> {
    let (kind, rest) = aml.split_first()?;
    let size = match *kind {
        ZERO => return Some((0, rest)),
        ONE => return Some((1, rest)),
        BYTE => 1,
        WORD => 2,
        DWORD => 4,
        _ => return None,
    };
    let (bytes, rest) = rest.split_at_checked(size)?;
    Some((
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u32::from(*byte)),
        rest,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_encodings_are_understood() {
        let types = |a, b| Some(SleepTypes { a, b });
        assert_eq!(find(b"xx\x08_S5_\x12\x06\x04\x00\x00\x00\x00"), types(0, 0));
        assert_eq!(
            find(b"\x08\\_S5_\x12\x08\x04\x0A\x05\x01\x00\x00"),
            types(5, 1)
        );
        assert_eq!(
            find(b"\x08_S5_\x12\x40\x0A\x02\x0B\x07\x00\x0C\x03\x00\x00\x00"),
            types(7, 3)
        );
    }

    #[test]
    fn a_mere_mention_is_skipped() {
        let aml = b"_S5_\x08_S5_\x70\x08_S5_\x12\x06\x04\x01\x01\x00\x00";
        assert_eq!(find(aml), Some(SleepTypes { a: 1, b: 1 }));
        assert_eq!(find(b"\x08_S5_\x12\x06\x04"), None);
        assert_eq!(find(b"\x08_S5_"), None);
        assert_eq!(find(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(start in proptest::collection::vec(any::<u8>(), 0..20), tail in proptest::collection::vec(any::<u8>(), 0..20)) {
            let aml = [&start[..], b"\x08_S5_\x12", &tail[..]].concat();
            if let Some(types) = find(&aml) {
                prop_assert!(types.a < 8 && types.b < 8);
            }
        }
    }
}
