//! The control word and the parameters' places: what is wrong with a call before it is looked at closer.

use core::ops::Range;

use tlfs::{HvHypercallInput, HvStatus};

use crate::mem::addr::PAGE_SIZE;

/// What kind of call it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Done once.
    Simple,
    /// Done once; the header may be longer, by a number of 8-byte words that the control word tells.
    Variable,
    /// Done for each element of a list.
    Rep {
        /// Bytes of an element of the input list, 0 if there is none.
        input: usize,
        /// Bytes of an element of the output list, 0 if there is none.
        output: usize,
        /// The header may be longer, as of [`Kind::Variable`].
        variable: bool,
    },
}

/// The parameters of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of the fixed header.
    pub input: usize,
    /// Bytes of the output; of a rep call the list is the output. A variable header says where the output goes instead.
    pub output: usize,
    /// Kind.
    pub kind: Kind,
}

/// A call that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Parameters are in registers.
    pub fast: bool,
    /// GPA of the input, or its first 8 bytes.
    pub input: u64,
    /// GPA of the output, or the second 8 bytes of the input.
    pub output: u64,
    /// Bytes of the input.
    pub input_bytes: usize,
    /// Bytes of the output.
    pub output_bytes: usize,
    /// Bytes of the header: the fixed one, rounded up to 8 if a list or a variable header follows.
    pub header_bytes: usize,
    /// Bytes of the variable header.
    pub variable_bytes: usize,
    /// Elements to do; empty for a call that has no list.
    pub reps: Range<usize>,
}

/// Most bytes of input in registers.
const FAST_BYTES: usize = 16;

/// Checks a control word and the places of the parameters (guest sheet 5.1 to 5.3).
///
/// # Errors
/// INVALID_HYPERCALL_INPUT for a control word that the call cannot have; INVALID_ALIGNMENT for parameters that are not
/// 8-aligned or cross a page.
pub fn decode(
    shape: &Shape,
    control: HvHypercallInput,
    input: u64,
    output: u64,
) -> Result<Request, HvStatus> {
    if control.is_code_alone() && shape.kind == Kind::Simple {
        return decode_plain(shape, input, output);
    }
    let malformed = Err(HvStatus::INVALID_HYPERCALL_INPUT);
    let (count, start) = (control.rep_count(), control.rep_start());
    if control.has_reserved_bits() || control.nested() {
        return malformed;
    }
    let variable_bytes = 8 * control.variable_header_size();
    let takes_more = matches!(
        shape.kind,
        Kind::Variable | Kind::Rep { variable: true, .. }
    );
    if variable_bytes != 0 && !takes_more {
        return malformed;
    }
    let (element_in, element_out) = match shape.kind {
        Kind::Rep { input, output, .. } if start < count => (input, output),
        Kind::Simple | Kind::Variable if count == 0 && start == 0 => (0, 0),
        _ => return malformed,
    };
    let list = element_in * count;
    let header_bytes = if list + variable_bytes == 0 {
        shape.input
    } else {
        shape.input.next_multiple_of(8)
    };
    let request = Request {
        fast: control.fast(),
        input,
        output,
        input_bytes: header_bytes + variable_bytes + list,
        output_bytes: if variable_bytes == 0 {
            shape.output + element_out * count
        } else {
            0
        },
        header_bytes,
        variable_bytes,
        reps: start..count,
    };
    if request.fast {
        // The output of a fast call would be in XMM registers, which no partition is offered.
        if request.input_bytes > FAST_BYTES || request.output_bytes != 0 {
            return malformed;
        }
        return Ok(request);
    }
    check_place(input, request.input_bytes)?;
    check_place(output, request.output_bytes)?;
    Ok(request)
}

/// Most calls are of this kind: with parameters in memory, and nothing to tell by the control word.
fn decode_plain(shape: &Shape, input: u64, output: u64) -> Result<Request, HvStatus> {
    check_place(input, shape.input)?;
    check_place(output, shape.output)?;
    Ok(Request {
        fast: false,
        input,
        output,
        input_bytes: shape.input,
        output_bytes: shape.output,
        header_bytes: shape.input,
        variable_bytes: 0,
        reps: 0..0,
    })
}

fn check_place(gpa: u64, bytes: usize) -> Result<(), HvStatus> {
    let fits = (gpa % PAGE_SIZE).saturating_add(bytes as u64) <= PAGE_SIZE;
    if bytes == 0 || (gpa.is_multiple_of(8) && fits) {
        Ok(())
    } else {
        Err(HvStatus::INVALID_ALIGNMENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tlfs::HvCallCode;

    const SIMPLE: Shape = Shape {
        input: 24,
        output: 8,
        kind: Kind::Simple,
    };
    const LIST: Shape = Shape {
        input: 24,
        output: 0,
        kind: Kind::Rep {
            variable: false,
            input: 8,
            output: 16,
        },
    };

    fn word() -> HvHypercallInput {
        HvHypercallInput::simple(HvCallCode::GET_PARTITION_ID)
    }

    fn status(shape: &Shape, control: HvHypercallInput, input: u64, output: u64) -> HvStatus {
        decode(shape, control, input, output)
            .err()
            .unwrap_or(HvStatus::SUCCESS)
    }

    #[test]
    fn a_list_belongs_to_rep_calls_only() {
        let rep = word().with_rep_count(2);
        assert_eq!(
            status(&SIMPLE, rep, 0, 0),
            HvStatus::INVALID_HYPERCALL_INPUT
        );
        assert_eq!(
            status(&LIST, word(), 0, 0),
            HvStatus::INVALID_HYPERCALL_INPUT
        );
        assert_eq!(status(&LIST, rep, 0, 0), HvStatus::SUCCESS);
        let beyond = rep.with_rep_start(2);
        assert_eq!(
            status(&LIST, beyond, 0, 0),
            HvStatus::INVALID_HYPERCALL_INPUT
        );
    }

    #[test]
    fn parameters_are_aligned_and_lie_in_one_page() {
        assert_eq!(status(&SIMPLE, word(), 4, 0), HvStatus::INVALID_ALIGNMENT);
        assert_eq!(
            status(&SIMPLE, word(), 0xFF0, 0),
            HvStatus::INVALID_ALIGNMENT
        );
        assert_eq!(status(&SIMPLE, word(), 0xFE8, 0xFF8), HvStatus::SUCCESS);
        assert_eq!(
            status(&SIMPLE, word(), 0, 0xFFC),
            HvStatus::INVALID_ALIGNMENT
        );
        let long = word().with_rep_count(510);
        assert_eq!(status(&LIST, long, 0, 0), HvStatus::INVALID_ALIGNMENT);
    }

    #[test]
    fn a_fast_call_takes_two_registers_and_gives_nothing_back() {
        let fast = word().with_fast(true);
        let small = Shape {
            input: 16,
            output: 0,
            kind: Kind::Simple,
        };
        assert_eq!(status(&small, fast, 3, 5), HvStatus::SUCCESS);
        assert_eq!(
            status(&SIMPLE, fast, 0, 0),
            HvStatus::INVALID_HYPERCALL_INPUT
        );
        let answering = Shape { output: 8, ..small };
        assert_eq!(
            status(&answering, fast, 0, 0),
            HvStatus::INVALID_HYPERCALL_INPUT
        );
    }

    proptest! {
        #[test]
        fn what_is_well_formed_fits_in_a_page(control: u64, input: u64, output: u64, which in 0..3) {
            let variable = Shape { input: 40, output: 0, kind: Kind::Variable };
            let shape = [SIMPLE, LIST, variable][which as usize];
            if let Ok(request) = decode(&shape, HvHypercallInput::from_bits(control), input, output) {
                prop_assert!(request.input_bytes <= 4096 && request.output_bytes <= 4096);
                prop_assert!(request.header_bytes + request.variable_bytes <= request.input_bytes);
                prop_assert!(request.reps.end <= 4096);
            }
        }
    }
}
