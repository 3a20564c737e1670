//! A model of the APIC's vectors that is slow and plain, and the APIC compared with it.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Default)]
struct Model {
    requested: BTreeSet<u8>,
    served: BTreeSet<u8>,
    level: BTreeSet<u8>,
    tpr: u8,
    enabled: bool,
}

impl Model {
    fn ppr(&self) -> u8 {
        let served = self.served.last().map_or(0, |v| v & 0xF0);
        if self.tpr & 0xF0 >= served {
            self.tpr
        } else {
            served
        }
    }

    fn next(&self) -> Option<u8> {
        let class = self.ppr() >> 4;
        self.requested.iter().copied().rfind(|v| v >> 4 > class)
    }

    fn accept(&mut self, vector: u8, level: bool) -> bool {
        if !self.enabled || vector < 16 {
            return false;
        }
        if level {
            self.level.insert(vector);
        } else {
            self.level.remove(&vector);
        }
        self.requested.insert(vector)
    }

    fn begin(&mut self) {
        if let Some(vector) = self.next() {
            self.requested.remove(&vector);
            self.served.insert(vector);
        }
    }

    fn end(&mut self) -> Effect {
        match self.served.pop_last() {
            Some(vector) => Effect::EndOfInterrupt {
                vector,
                level: self.level.contains(&vector),
            },
            None => Effect::None,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Accept(u8, bool),
    SelfIpi(u8),
    Tpr(u8),
    Begin,
    End,
    Enable(bool),
    SaveAndRestore,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (any::<u8>(), any::<bool>()).prop_map(|(v, l)| Step::Accept(v, l)),
        2 => any::<u8>().prop_map(Step::SelfIpi),
        2 => any::<u8>().prop_map(Step::Tpr),
        5 => Just(Step::Begin),
        4 => Just(Step::End),
        1 => any::<bool>().prop_map(Step::Enable),
        1 => Just(Step::SaveAndRestore),
    ];
    prop::collection::vec(step, 1..200)
}

fn registers(set: &BTreeSet<u8>) -> [u64; 8] {
    let mut words = [0; 8];
    for vector in set {
        words[usize::from(vector / 32)] |= 1 << (vector % 32);
    }
    words
}

fn apply(apic: &mut LocalApic, model: &mut Model, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Accept(vector, is_level) => {
            let delivery = if is_level {
                level(vector)
            } else {
                fixed(vector)
            };
            prop_assert_eq!(apic.accept(delivery), model.accept(vector, is_level));
        }
        Step::SelfIpi(vector) => {
            set(apic, SELF_IPI, vector.into());
            model.accept(vector, false);
        }
        Step::Tpr(tpr) => {
            set(apic, 0x808, tpr.into());
            model.tpr = tpr;
        }
        Step::Begin => {
            if let Some(vector) = apic.next_interrupt() {
                prop_assert!(apic.begin(vector));
            }
            model.begin();
        }
        Step::End => prop_assert_eq!(write(apic, EOI, 0), model.end()),
        Step::Enable(on) => {
            set(apic, SVR, 0xFF | u64::from(on) << 8);
            model.enabled = on;
        }
        Step::SaveAndRestore => {
            let bytes = apic.save(NOW).to_bytes();
            let mut other = LocalApic::new(apic.id(), true);
            other.set_tpr(apic.tpr());
            other.restore(&LapicState::from_bytes(&bytes), NOW);
            *apic = other;
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn it_behaves_like_the_model(steps in steps()) {
        let mut apic = enabled();
        let mut model = Model { enabled: true, ..Model::default() };
        for step in steps {
            apply(&mut apic, &mut model, step)?;
            prop_assert_eq!(apic.next_interrupt(), model.next());
            prop_assert_eq!(apic.highest_request(), model.requested.last().copied());
            prop_assert_eq!(apic.read(0x80A, || NOW), Ok(model.ppr().into()));
            for (first, set) in [(0x810, &model.served), (0x818, &model.level), (0x820, &model.requested)] {
                for (msr, word) in (first..).zip(registers(set)) {
                    prop_assert_eq!(apic.read(msr, || NOW), Ok(word));
                }
            }
        }
    }
}
