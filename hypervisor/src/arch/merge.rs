//! What becomes of events that meet.

use super::exit::Event;
use super::state::vector;

/// The event to deliver when `event` comes while `pending` is in delivery: exceptions become what the processor would make
/// of them. `None` for a triple fault.
pub(super) fn merge(pending: Option<Event>, event: Event) -> Option<Event> {
    let (Some(Event::Exception { vector: first, .. }), Event::Exception { vector: second, .. }) =
        (pending, event)
    else {
        return Some(event);
    };
    match combine(first, second) {
        Combined::Second => Some(event),
        Combined::DoubleFault => Some(Event::Exception {
            vector: vector::DF,
            error_code: Some(0),
        }),
        Combined::TripleFault => None,
    }
}

/// What an exception raised in delivery of another becomes.
#[derive(Debug, PartialEq, Eq)]
enum Combined {
    /// Itself.
    Second,
    /// #DF.
    DoubleFault,
    /// Shutdown.
    TripleFault,
}

/// AMD manual volume 2, 8.2.9; SDM volume 3, table 6-5.
const fn combine(first: u8, second: u8) -> Combined {
    const fn contributory(vector: u8) -> bool {
        matches!(vector, vector::DE | 10..=13)
    }
    let second_counts = contributory(second) || second == vector::PF;
    if first == vector::DF {
        if second_counts {
            Combined::TripleFault
        } else {
            Combined::Second
        }
    } else if (contributory(first) && contributory(second))
        || (first == vector::PF && second_counts)
    {
        Combined::DoubleFault
    } else {
        Combined::Second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_in_delivery_follow_the_double_fault_table() {
        assert_eq!(combine(vector::GP, vector::GP), Combined::DoubleFault);
        assert_eq!(combine(vector::PF, vector::PF), Combined::DoubleFault);
        assert_eq!(combine(vector::PF, vector::GP), Combined::DoubleFault);
        assert_eq!(combine(vector::GP, vector::PF), Combined::Second);
        assert_eq!(combine(vector::DB, vector::AC), Combined::Second);
        assert_eq!(combine(vector::DF, vector::GP), Combined::TripleFault);
        assert_eq!(combine(vector::DF, vector::PF), Combined::TripleFault);
    }

    #[test]
    fn an_interrupt_in_delivery_gives_way_to_an_exception() {
        let fault = Event::Exception {
            vector: vector::PF,
            error_code: Some(2),
        };
        assert_eq!(merge(Some(Event::Interrupt(0x30)), fault), Some(fault));
        assert_eq!(merge(None, Event::Nmi), Some(Event::Nmi));
    }
}
