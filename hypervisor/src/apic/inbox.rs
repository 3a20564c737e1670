//! Deliveries that wait for a processor to take them to its VP's APIC.

use super::icr::{Delivery, Trigger};
use super::lvt::LvtEntry;
use super::vectors::VectorSet;
use super::{FIRST_VECTOR, LocalApic};

/// What is on its way. Deliveries that would merge in the APIC merge here, so it has a bounded size.
#[derive(Clone, Debug, Default)]
pub struct Inbox {
    edges: VectorSet,
    levels: VectorSet,
    /// A vector below 16 came: the receiver notes an error.
    illegal: bool,
    nmi: bool,
    init: bool,
    startup: Option<u8>,
    ext_int: Option<u8>,
    /// The pins LINT0 and LINT1, with what a PIC behind them supplies.
    pins: [Option<u8>; 2],
}

impl Inbox {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            edges: VectorSet::EMPTY,
            levels: VectorSet::EMPTY,
            illegal: false,
            nmi: false,
            init: false,
            startup: None,
            ext_int: None,
            pins: [None; 2],
        }
    }

    /// Adds a delivery. What an INIT undoes in an APIC it undoes here.
    pub fn put(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Fixed { vector, .. } if vector < FIRST_VECTOR => self.illegal = true,
            Delivery::Fixed { vector, trigger } => {
                let (to, from) = match trigger {
                    Trigger::Edge => (&mut self.edges, &mut self.levels),
                    Trigger::Level => (&mut self.levels, &mut self.edges),
                };
                from.remove(vector);
                to.insert(vector);
            }
            Delivery::Smi => {}
            Delivery::Nmi => self.nmi = true,
            Delivery::Init => {
                *self = Self {
                    init: true,
                    ..Self::new()
                }
            }
            Delivery::Startup { vector } => self.startup = self.startup.or(Some(vector)),
            Delivery::ExtInt { vector } => self.ext_int = Some(vector),
            Delivery::Local { entry, pic_vector } => match entry {
                LvtEntry::Lint0 => self.pins[0] = Some(pic_vector),
                LvtEntry::Lint1 => self.pins[1] = Some(pic_vector),
                // Nothing outside the processor raises the others.
                _ => {}
            },
        }
    }

    /// Gives everything to the APIC; says how many of them were new to it.
    pub fn empty_into(mut self, apic: &mut LocalApic) -> u64 {
        let mut taken = 0;
        let mut give = |delivery| taken += u64::from(apic.accept(delivery));
        if self.init {
            give(Delivery::Init);
        }
        if let Some(vector) = self.startup {
            give(Delivery::Startup { vector });
        }
        if self.nmi {
            give(Delivery::Nmi);
        }
        if let Some(vector) = self.ext_int {
            give(Delivery::ExtInt { vector });
        }
        for (entry, pin) in [LvtEntry::Lint0, LvtEntry::Lint1]
            .into_iter()
            .zip(self.pins)
        {
            if let Some(pic_vector) = pin {
                give(Delivery::Local { entry, pic_vector });
            }
        }
        if self.illegal {
            let (vector, trigger) = (0, Trigger::Edge);
            give(Delivery::Fixed { vector, trigger });
        }
        for (set, trigger) in [
            (&mut self.edges, Trigger::Edge),
            (&mut self.levels, Trigger::Level),
        ] {
            while set.top() != 0 {
                let vector = set.top();
                set.remove(vector);
                give(Delivery::Fixed { vector, trigger });
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apic() -> LocalApic {
        let mut apic = LocalApic::new(1, false);
        apic.set_waiting_for_startup(false);
        apic.switch_on();
        apic
    }

    fn any_delivery() -> impl Strategy<Value = Delivery> {
        prop_oneof![
            8 => (any::<u8>(), any::<bool>()).prop_map(|(vector, level)| {
                let trigger = if level { Trigger::Level } else { Trigger::Edge };
                Delivery::Fixed { vector, trigger }
            }),
            1 => Just(Delivery::Smi),
            1 => Just(Delivery::Nmi),
            1 => any::<u8>().prop_map(|vector| Delivery::ExtInt { vector }),
        ]
    }

    /// What can be seen of an APIC.
    fn seen(apic: &LocalApic) -> (Option<u8>, bool, Option<u8>, Vec<u64>) {
        let sets = (0x818..0x828).map(|msr| apic.read(msr, || crate::time::RefTime::ZERO));
        let words = sets.map(|word| word.unwrap_or(0)).collect();
        (
            apic.next_interrupt(),
            apic.nmi_pending(),
            apic.pending_ext_int(),
            words,
        )
    }

    proptest! {
        #[test]
        fn what_waited_arrives_as_if_it_had_not(deliveries in prop::collection::vec(any_delivery(), 0..40)) {
            let (mut direct, mut later, mut inbox) = (apic(), apic(), Inbox::new());
            for &delivery in &deliveries {
                direct.accept(delivery);
                inbox.put(delivery);
            }
            inbox.empty_into(&mut later);
            prop_assert_eq!(seen(&direct), seen(&later));
        }
    }

    #[test]
    fn init_undoes_what_came_before_it() {
        let mut inbox = Inbox::new();
        inbox.put(Delivery::Nmi);
        inbox.put(Delivery::Startup { vector: 8 });
        inbox.put(Delivery::Init);
        inbox.put(Delivery::Startup { vector: 9 });
        inbox.put(Delivery::Startup { vector: 10 });
        let mut apic = apic();
        assert_eq!(inbox.empty_into(&mut apic), 2);
        assert!(apic.take_init() && !apic.nmi_pending());
        assert_eq!(apic.take_startup(), Some(9));
    }
}
