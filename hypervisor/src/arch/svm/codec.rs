//! Events in the processor's form.

use crate::arch::exit::Event;
use crate::arch::state::vector;

use super::bits::event;

/// The processor's form of an event.
pub(super) fn encode(e: Event) -> u64 {
    event::VALID
        | match e {
            Event::Interrupt(vector) => event::TYPE_INTERRUPT | u64::from(vector),
            Event::Nmi => event::TYPE_NMI | u64::from(vector::NMI),
            Event::Software { vector, .. } => event::TYPE_SOFTWARE | u64::from(vector),
            Event::Exception { vector, error_code } => {
                let error =
                    error_code.map_or(0, |code| event::ERROR_CODE_VALID | u64::from(code) << 32);
                event::TYPE_EXCEPTION | u64::from(vector) | error
            }
        }
}

/// An event from the processor's form. `length` is a software interrupt's.
pub(super) fn decode(raw: u64, length: u8) -> Option<Event> {
    if raw & event::VALID == 0 {
        return None;
    }
    let vector = (raw & event::VECTOR_MASK) as u8;
    Some(match raw & event::TYPE_MASK {
        event::TYPE_INTERRUPT => Event::Interrupt(vector),
        event::TYPE_NMI => Event::Nmi,
        event::TYPE_EXCEPTION => Event::Exception {
            vector,
            error_code: (raw & event::ERROR_CODE_VALID != 0).then_some((raw >> 32) as u32),
        },
        event::TYPE_SOFTWARE => Event::Software { vector, length },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_exception_encodes_as_the_manual_says() {
        let gp = Event::Exception {
            vector: 13,
            error_code: Some(0x18),
        };
        assert_eq!(encode(gp), 0x18_8000_0B0D);
        assert_eq!(encode(Event::Interrupt(0x30)), 0x8000_0030);
        assert_eq!(encode(Event::Nmi), 0x8000_0202);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            any::<u8>().prop_map(Event::Interrupt),
            Just(Event::Nmi),
            (0u8..32, any::<Option<u32>>())
                .prop_map(|(vector, error_code)| Event::Exception { vector, error_code }),
            (any::<u8>(), 1u8..16).prop_map(|(vector, length)| Event::Software { vector, length }),
        ]
    }

    proptest! {
        #[test]
        fn events_survive_the_round_trip(e in any_event()) {
            let length = if let Event::Software { length, .. } = e { length } else { 0 };
            prop_assert_eq!(decode(encode(e), length), Some(e));
        }
    }
}
