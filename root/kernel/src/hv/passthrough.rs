//! Hypercalls that a process may make on its own partition (root sheet G.2).

use tlfs::{HvCallCode, HvHypercallInput, HvPartitionId};

use super::{HvError, rep_control};

/// Most bytes of an input or output block.
pub const MAX_BLOCK: usize = 4096;

/// Bytes before the list of a call, or before its variable header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// No list.
    Simple,
    /// A list behind a fixed part; sizes of the fixed part and of the input and output elements.
    Rep(usize, usize, usize),
    /// No list, and everything behind the fixed part is a variable header.
    Variable(usize),
}

fn shape(code: HvCallCode) -> Option<Shape> {
    Some(match code {
        HvCallCode::GET_PARTITION_PROPERTY
        | HvCallCode::SET_PARTITION_PROPERTY
        | HvCallCode::GET_PARTITION_PROPERTY_EX
        | HvCallCode::INSTALL_INTERCEPT
        | HvCallCode::TRANSLATE_VIRTUAL_ADDRESS
        | HvCallCode::CLEAR_VIRTUAL_INTERRUPT
        | HvCallCode::REGISTER_INTERCEPT_RESULT
        | HvCallCode::ASSERT_VIRTUAL_INTERRUPT
        | HvCallCode::SIGNAL_EVENT_DIRECT
        | HvCallCode::POST_MESSAGE_DIRECT => Shape::Simple,
        HvCallCode::GET_VP_REGISTERS => Shape::Rep(16, 4, 16),
        HvCallCode::SET_VP_REGISTERS => Shape::Rep(16, 32, 0),
        HvCallCode::GET_GPA_PAGES_ACCESS_STATES => Shape::Rep(24, 0, 1),
        HvCallCode::GET_VP_CPUID_VALUES => Shape::Rep(24, 24, 16),
        // State through page lists would name frames of the process's choice: only the forms that carry the bytes
        // themselves can pass.
        HvCallCode::GET_VP_STATE | HvCallCode::SET_VP_STATE => Shape::Variable(40),
        _ => return None,
    })
}

/// Whether a process may make this call.
pub fn passed_through(code: HvCallCode) -> bool {
    shape(code).is_some()
}

/// Bit of a state type that says "through page numbers".
const STATE_THROUGH_PAGES: u8 = 0x80;
/// Where the state type's highest byte is in the input of the state calls.
const STATE_TYPE_TOP: usize = 19;

/// A checked request: permitted, with sizes that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The call.
    pub code: HvCallCode,
    /// Its list elements, 0 for a call without a list.
    pub reps: usize,
    /// Words of the variable header.
    pub variable: usize,
}

impl Request {
    /// Checks what a process wants, before anything is copied.
    ///
    /// # Errors
    /// `None` in the error place means "not permitted"; [`HvError::Argument`] that sizes do not fit the call.
    pub fn new(
        code: u16,
        reps: u16,
        input_size: usize,
        output_size: usize,
    ) -> Result<Self, Option<HvError>> {
        let code = HvCallCode(code);
        let shape = shape(code).ok_or(None)?;
        let reps = usize::from(reps);
        let (fits, variable) = match shape {
            Shape::Simple => (reps == 0, 0),
            Shape::Rep(fixed, element, output) => {
                let fits = reps > 0
                    && fixed + reps * element <= input_size
                    && reps * output <= output_size;
                (fits, 0)
            }
            Shape::Variable(fixed) => (reps == 0, input_size.saturating_sub(fixed).div_ceil(8)),
        };
        let sizes = (8..=MAX_BLOCK).contains(&input_size) && output_size <= MAX_BLOCK;
        let reps_fit = reps <= usize::from(tlfs::HV_HYPERCALL_MAX_REPS);
        if !fits || !sizes || !reps_fit {
            return Err(Some(HvError::Argument));
        }
        Ok(Self {
            code,
            reps,
            variable,
        })
    }

    /// Puts the partition's id into the input, and checks what only the copied input tells.
    ///
    /// # Errors
    /// [`HvError::Argument`] for state through page numbers.
    pub fn seal(&self, input: &mut [u8], partition: HvPartitionId) -> Result<(), HvError> {
        let state = matches!(
            self.code,
            HvCallCode::GET_VP_STATE | HvCallCode::SET_VP_STATE
        );
        if state
            && input
                .get(STATE_TYPE_TOP)
                .is_none_or(|byte| byte & STATE_THROUGH_PAGES != 0)
        {
            return Err(HvError::Argument);
        }
        let id = input.first_chunk_mut::<8>().ok_or(HvError::Argument)?;
        *id = partition.0.to_le_bytes();
        Ok(())
    }

    /// The control word, continuing after `done` elements.
    pub fn control(&self, done: usize) -> HvHypercallInput {
        rep_control(self.code, self.reps, done).with_variable_header_size(self.variable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_list_is_the_one_of_the_interface() {
        let expected = [
            0x44, 0x45, 0x4D, 0x50, 0x51, 0x52, 0x56, 0x91, 0x94, 0xC0, 0xC1, 0xC9, 0xE3, 0xE4,
            0xF4, 0x101,
        ];
        let permitted: Vec<u16> = (0..=u16::MAX)
            .filter(|code| passed_through(HvCallCode(*code)))
            .collect();
        assert_eq!(permitted, expected);
    }

    #[test]
    fn what_would_touch_memory_or_other_partitions_is_refused() {
        for code in [
            0x40, 0x42, 0x43, 0x48, 0x49, 0x4B, 0x4C, 0x53, 0x54, 0x6C, 0xE1,
        ] {
            assert_eq!(Request::new(code, 0, 64, 64), Err(None), "{code:#x}");
        }
        let get_state = Request::new(0xE3, 0, 40, 4096).unwrap();
        let mut input = [0; 40];
        assert_eq!(get_state.seal(&mut input, HvPartitionId(5)), Ok(()));
        assert_eq!(input[..8], 5u64.to_le_bytes());
        input[16..20].copy_from_slice(&0x8000_0000u32.to_le_bytes());
        assert_eq!(
            get_state.seal(&mut input, HvPartitionId(5)),
            Err(HvError::Argument)
        );
    }

    #[test]
    fn lists_must_fit_their_blocks() {
        assert!(Request::new(0x50, 256, 16 + 256 * 4, 4096).is_ok());
        assert!(Request::new(0x50, 257, 16 + 257 * 4, 4096).is_err());
        assert!(Request::new(0x50, 4, 16 + 3 * 4, 64).is_err());
        assert!(Request::new(0x51, 127, 4096, 0).is_ok());
        assert!(Request::new(0x51, 0, 4096, 0).is_err());
        assert!(Request::new(0x94, 1, 32, 0).is_err());
        assert!(Request::new(0x44, 0, 4, 8).is_err());
        assert!(Request::new(0x44, 0, 4097, 8).is_err());
        assert!(Request::new(0xC9, 4096, 24, 4096).is_err());
    }

    proptest! {
        #[test]
        fn an_accepted_request_has_a_well_formed_control_word(
            code in proptest::sample::select(vec![0x44u16, 0x50, 0x51, 0xC9, 0xE4, 0xF4]), reps: u16, input in 0usize..5000, output in 0usize..5000
        ) {
            if let Ok(request) = Request::new(code, reps, input, output) {
                let control = request.control(0);
                prop_assert!(!control.has_reserved_bits());
                prop_assert_eq!(control.rep_count(), usize::from(reps));
                prop_assert_eq!(control.call_code(), HvCallCode(code));
            }
        }
    }
}
