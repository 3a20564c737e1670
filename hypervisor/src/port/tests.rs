//! Ports against a model: whatever order things happen in, each port's messages come out once and in order.

use std::collections::VecDeque;

use proptest::prelude::*;
use spin::Mutex;
use tlfs::*;

use super::*;
use crate::mem::addr::Spfn;
use crate::mem::page_box::{Frame, PageBox};
use crate::mem::testing::TestMemory;
use crate::partition::MAX_VPS;
use crate::synic::{EventFlagsPage, MessagePage, Sint, SynicEffect, VpSynic};

const OWNER: HvPartitionId = HvPartitionId(0x102);
const SENDER: HvPartitionId = HvPartitionId(0x203);
/// VPs that there are.
const VPS: u16 = 2;

/// Frames of test memory, each given out once.
struct Pages {
    memory: TestMemory,
    next: u64,
}

impl Pages {
    fn place<T>(&mut self, value: T) -> PageBox<T> {
        self.next += 1;
        // SAFETY: 1. It lies in the test's memory. 2. Nobody else has it: the number goes up.
        let frame = unsafe { Frame::from_spfn(Spfn(self.next)) };
        PageBox::new_in(self.memory.phys(), frame, value).unwrap_or_else(|_| panic!("RAM"))
    }
}

/// A partition with two VPs, and four message ports: two of one SINT of VP 0, one of VP 1, one of any.
struct Bench {
    _pages: Pages,
    ports: Ports,
    synics: Synics,
    connections: Vec<Connection>,
    /// What was accepted, and has not been taken.
    sent: Vec<VecDeque<u8>>,
}

const TARGETS: [(u32, Option<u16>); 4] = [(2, Some(0)), (2, Some(0)), (3, Some(1)), (3, None)];

impl Bench {
    fn new() -> Self {
        let mut pages = Pages {
            memory: TestMemory::new(2),
            next: 0,
        };
        let synics: Synics = [const { Mutex::new(None) }; MAX_VPS];
        for place in &synics[..usize::from(VPS)] {
            let own = VpSynic::new(
                pages.place(MessagePage::new()),
                pages.place(EventFlagsPage::new()),
            );
            *place.lock() = Some(pages.place(own));
        }
        let mut ports = Ports::new();
        let page = pages.place(Objects::EMPTY_PAGE);
        assert!(ports.all.add_page(page).is_ok());
        let mut connections = Vec::new();
        for ((sint, vp), id) in TARGETS.into_iter().zip(1..) {
            let buffers = pages.place([HvMessage::default(); HV_PORT_MESSAGE_BUFFERS]);
            let target = Target {
                sint: Sint::new(sint).unwrap(),
                vp,
            };
            let kind = Kind::Message(MessageQueue::new(buffers));
            let mut port = Port::new(OWNER, HvPortId(id), SENDER, target, kind);
            port.connection = Some(HvConnectionId(id));
            assert!(ports.all.insert(port).is_ok());
            connections.push(Connection {
                id: HvConnectionId(id),
                port_owner: OWNER,
                port: HvPortId(id),
            });
        }
        Self {
            _pages: pages,
            ports,
            synics,
            connections,
            sent: vec![VecDeque::new(); TARGETS.len()],
        }
    }

    fn with<R>(&self, vp: u16, f: impl FnOnce(&mut VpSynic) -> R) -> R {
        f(self.synics[usize::from(vp)].lock().as_mut().unwrap())
    }

    /// What the VP's processor does when a slot may have become free.
    fn retry(&mut self, vp: u16, sints: u16) {
        let waiting = self.with(vp, |synic| synic.take_waiting(sints));
        if waiting != 0 {
            self.ports.deliver(Some(vp), waiting, &self.synics);
        }
    }

    fn write(&mut self, vp: u16, msr: u32, value: u64) {
        let effect = self.with(vp, |synic| synic.write(msr, value)).unwrap();
        match effect {
            SynicEffect::Retry(sints) => self.retry(vp, sints),
            _ => self.retry(vp, u16::MAX),
        }
    }

    fn post(&mut self, port: usize, text: u8) -> Result<(), HvStatus> {
        let message = HvMessage::new(HvMessageType(1), 0, &[text]).unwrap();
        let connection = self.connections[port];
        let done = self.ports.post(SENDER, &connection, message, &self.synics);
        done.map(|_| self.sent[port].push_back(text))
    }

    /// The guest empties a slot, if there is something in it, and says so if it has to.
    fn take(&mut self, vp: u16, sint: u32) -> bool {
        let sint = Sint::new(sint).unwrap();
        let taken = self.with(vp, |synic| {
            let message = synic.messages().look(sint)?;
            Some((message, synic.messages().empty(sint)))
        });
        let Some(((port, text), pending)) = taken else {
            return false;
        };
        let port = port as usize - 1;
        let sent = &mut self.sent[port];
        let at = match TARGETS[port] {
            (_, Some(_)) => 0,
            // A VP that no longer takes messages may still have one that another one would have been next to.
            (_, None) => sent.iter().position(|sent| [*sent] == *text).unwrap(),
        };
        assert_eq!(sent.remove(at).as_slice(), text);
        if pending {
            self.write(vp, HV_X64_MSR_EOM, 0);
        }
        true
    }
}

#[derive(Clone, Debug)]
enum Step {
    Post(usize, u8),
    Take(u16, u32),
    Control(u16, bool),
    Sint(u16, u32, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let (vp, sint) = (0..VPS, 2..4_u32);
    prop_oneof![
        6 => (0..TARGETS.len(), any::<u8>()).prop_map(|(port, text)| Step::Post(port, text)),
        6 => (vp.clone(), sint.clone()).prop_map(|(vp, sint)| Step::Take(vp, sint)),
        1 => (vp.clone(), any::<bool>()).prop_map(|(vp, on)| Step::Control(vp, on)),
        1 => (vp, sint, any::<bool>()).prop_map(|(vp, sint, on)| Step::Sint(vp, sint, on)),
    ]
}

proptest! {
    #[test]
    fn messages_come_out_once_and_in_the_order_of_their_port(
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut bench = Bench::new();
        let masked = HvSynicSint::RESET.into_bits();
        let sint_is = |on: bool| if on { 0x40 } else { masked };
        for vp in 0..VPS {
            bench.write(vp, HV_X64_MSR_SIMP, 1);
        }
        for step in steps {
            match step {
                Step::Post(port, text) => match bench.post(port, text) {
                    Ok(()) => {}
                    Err(status) => {
                        prop_assert_eq!(status, HvStatus::INSUFFICIENT_BUFFERS);
                        prop_assert!(bench.sent[port].len() >= HV_PORT_MESSAGE_BUFFERS);
                    }
                },
                Step::Take(vp, sint) => drop(bench.take(vp, sint)),
                Step::Control(vp, on) => bench.write(vp, HV_X64_MSR_SCONTROL, on.into()),
                Step::Sint(vp, sint, on) => {
                    bench.write(vp, HV_X64_MSR_SINT0 + sint, sint_is(on));
                }
            }
        }
        // Whatever was on or off: when all is on, everything comes.
        for vp in 0..VPS {
            bench.write(vp, HV_X64_MSR_SCONTROL, 1);
            for sint in 2..4 {
                bench.write(vp, HV_X64_MSR_SINT0 + sint, sint_is(true));
            }
        }
        while (0..VPS).any(|vp| (2..4).any(|sint| bench.take(vp, sint))) {}
        prop_assert!(bench.sent.iter().all(VecDeque::is_empty), "{:?}", bench.sent);
    }
}
