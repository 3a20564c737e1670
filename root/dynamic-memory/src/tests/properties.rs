//! Whatever guest, host and time do, in whatever order. What is asserted is in [`Machine`]: its invariants hold in each
//! call, and after each step the book says what the machine has.

use proptest::prelude::*;

use super::*;
use crate::BALLOON_WITHIN;
use crate::segment::PageState;
use crate::wire::Version;

/// RAM of few pages, so that guesses hit it.
const SMALL: [PageRun; 2] = [PageRun::new(0, 100), PageRun::new(128, 900)];

#[derive(Clone, Debug)]
enum Action {
    Wait(Time),
    Open {
        is_fresh: bool,
    },
    Close,
    Report(u64),
    Remove(u64),
    Add(u64, u64),
    /// The host's packets go out, as many.
    Take(usize),
    Balloon(bool, Vec<(u64, u64)>),
    Unballoon,
    HotAdd(u32, u32),
    /// Bytes that the guest likes.
    Raw(Vec<u8>),
    /// The last message of the guest again, changed and cut.
    Again(usize, u8, usize),
    Touch(u64),
    Pin(u64, bool),
    Unpin,
    Pause(bool),
    Reset,
    /// How many frames others have.
    Others(usize),
    Takes(u64),
    Limits(u64, u64),
}

fn action() -> impl Strategy<Value = Action> {
    let page = 0_u64..1400;
    prop_oneof![
        6 => prop_oneof![0..2 * SECOND, Just(QUIET), Just(BALLOON_WITHIN), any::<u32>().prop_map(Time::from)]
            .prop_map(Action::Wait),
        1 => any::<bool>().prop_map(|is_fresh| Action::Open { is_fresh }),
        1 => Just(Action::Close),
        6 => prop_oneof![0_u64..4000, any::<u64>()].prop_map(Action::Report),
        8 => (0_u64..1200).prop_map(Action::Remove),
        8 => (0_u64..1200, 0_u64..1200).prop_map(|(back, new)| Action::Add(back, new)),
        12 => (0_usize..5).prop_map(Action::Take),
        12 => (any::<bool>(), prop::collection::vec((page.clone(), 0_u64..300), 0..6))
            .prop_map(|(more, runs)| Action::Balloon(more, runs)),
        5 => Just(Action::Unballoon),
        5 => (0_u32..1200, 0_u32..3).prop_map(|(count, result)| Action::HotAdd(count, result)),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(Action::Raw),
        2 => (0_usize..64, any::<u8>(), 0_usize..64).prop_map(|(at, to, cut)| Action::Again(at, to, cut)),
        3 => page.clone().prop_map(Action::Touch),
        2 => (page, any::<bool>()).prop_map(|(page, lasts)| Action::Pin(page, lasts)),
        1 => Just(Action::Unpin),
        1 => any::<bool>().prop_map(Action::Pause),
        1 => Just(Action::Reset),
        2 => (0_usize..600).prop_map(Action::Others),
        1 => (0_u64..50).prop_map(Action::Takes),
        1 => (0_u64..1200, 0_u64..4000).prop_map(|(minimum, maximum)| Action::Limits(minimum, maximum)),
    ]
}

struct Play {
    vm: Vm,
    others: Vec<u64>,
    last: Vec<u8>,
}

impl Play {
    fn new(version: Version, live: bool) -> Self {
        let mut vm = Vm {
            dm: DynamicMemory::new(machine::small_settings()),
            machine: Machine::new(&SMALL, 1000),
            guest: Linux::new(&SMALL),
            now: 0,
            sent: Vec::new(),
        };
        vm.guest.versions = vec![version];
        // Blocks of 1 MB.
        vm.guest.capabilities = 3;
        if live {
            vm.go_live();
        }
        Self {
            vm,
            others: Vec::new(),
            last: Vec::new(),
        }
    }

    /// The machine's own frames, so that its sums are right.
    fn with_all_frames(&mut self, check: impl FnOnce(&mut Vm)) {
        let kept = self.vm.machine.free.len();
        self.vm.machine.free.append(&mut self.others);
        check(&mut self.vm);
        self.others = self.vm.machine.free.split_off(kept);
    }

    fn act(&mut self, action: Action) {
        let now = self.vm.now;
        let vm = &mut self.vm;
        match action {
            Action::Wait(time) => {
                vm.now += time;
                vm.dm.tick(vm.now, &mut vm.machine);
            }
            Action::Open { is_fresh } => {
                vm.dm.opened(now, &mut vm.machine);
                let first = if is_fresh {
                    vm.guest.reload()
                } else {
                    vm.guest.reconnect()
                };
                if is_fresh {
                    vm.machine.returned.clear();
                }
                vm.dm.received(&first, now, &mut vm.machine);
                while let Some(packet) = vm.dm.take_packet(now, &mut vm.machine) {
                    if packet[0] <= 4 {
                        for answer in vm.guest.receive(&packet) {
                            vm.dm.received(&answer, now, &mut vm.machine);
                        }
                    }
                }
            }
            Action::Close => vm.dm.closed(now, &mut vm.machine),
            Action::Report(committed) => {
                let message = vm.guest.report_of(committed);
                vm.dm.received(&message, now, &mut vm.machine);
            }
            Action::Remove(pages) => {
                let before = vm.status();
                let withheld = vm.machine.book.count(PageState::Withheld);
                if let Ok(asked) = vm.remove(pages) {
                    assert!(before.is_live && !before.in_flight);
                    let left = before.assigned - withheld - asked;
                    assert!(left >= before.minimum, "N8: {left}");
                }
            }
            Action::Add(unballoon, hot_add) => {
                let before = vm.status();
                if let Ok(asked) = vm.add(unballoon, hot_add) {
                    assert!(
                        before.assigned + asked.unballoon + asked.hot_add <= before.maximum,
                        "N8"
                    );
                    assert!(
                        asked.hot_add == 0 || asked.unballoon == before.returnable,
                        "I5"
                    );
                }
            }
            Action::Take(count) => (0..count).for_each(|_| drop(take(vm))),
            Action::Balloon(more, runs) => {
                let runs: Vec<PageRun> = runs
                    .iter()
                    .map(|&(start, count)| PageRun::new(start, count))
                    .collect();
                let message = vm.guest.balloon_response(more, &runs);
                self.note_and_receive(message);
            }
            Action::Unballoon => {
                let message = vm.guest.unballoon_response();
                self.note_and_receive(message);
            }
            Action::HotAdd(count, result) => {
                let message = vm.guest.hot_add_response(count, result);
                self.note_and_receive(message);
            }
            Action::Raw(bytes) => self.note_and_receive(bytes),
            Action::Again(at, to, cut) => {
                let mut message = self.last.clone();
                if let Some(byte) = message.get_mut(at) {
                    *byte = to;
                }
                message.truncate(message.len().saturating_sub(cut % 8));
                self.note_and_receive(message);
            }
            Action::Touch(page) => {
                vm.dm.touched(page, now, &mut vm.machine);
            }
            Action::Pin(page, lasts) => {
                let pins = if lasts {
                    &mut vm.machine.lasting
                } else {
                    &mut vm.machine.passing
                };
                pins.insert(page);
            }
            Action::Unpin => {
                vm.machine.passing.clear();
                vm.dm
                    .unpinned(PageRun::new(0, 1 << 40), now, &mut vm.machine);
            }
            Action::Pause(true) => vm.dm.paused(now),
            Action::Pause(false) => vm.dm.resumed(now),
            Action::Reset => self.reset(),
            Action::Others(count) => {
                vm.machine.free.append(&mut self.others);
                let kept = vm.machine.free.len().saturating_sub(count);
                self.others = vm.machine.free.split_off(kept);
            }
            Action::Takes(count) => vm.machine.takes = count,
            Action::Limits(minimum, maximum) => vm.dm.set_limits(minimum, maximum),
        }
    }

    fn note_and_receive(&mut self, message: Vec<u8>) {
        self.vm.machine.note(&message);
        let before = self.vm.status().visible;
        self.vm
            .dm
            .received(&message, self.vm.now, &mut self.vm.machine);
        assert!(self.vm.status().visible >= before, "visible fell");
        self.last = message;
    }

    fn reset(&mut self) {
        let vm = &mut self.vm;
        vm.machine.is_stopped = true;
        vm.machine.passing.clear();
        vm.machine.lasting.clear();
        vm.machine.takes = u64::MAX;
        let result = vm.dm.reset(vm.now, &mut vm.machine);
        vm.machine.is_stopped = false;
        if result.is_ok() {
            vm.machine.returned.clear();
            let status = vm.status();
            assert_eq!((status.visible, status.assigned), (1000, 1000));
        }
    }

    fn check(&mut self) {
        self.vm.machine.takes = self.vm.machine.takes.max(1);
        self.with_all_frames(|vm| vm.machine.check_pages());
        let vm = &mut self.vm;
        vm.dm.tick(vm.now, &mut vm.machine);
        assert!(vm.dm.next_deadline().is_none_or(|next| next > vm.now));
        while vm.dm.take_event().is_some() {}
        assert_eq!(vm.dm.counters().events_dropped, 0);
        let status = vm.status();
        assert!(!status.in_flight || status.is_frozen);
    }
}

/// As [`Vm::take`], without looking at all frames.
fn take(vm: &mut Vm) -> Option<Vec<u8>> {
    let most = vm.dm.packet_len();
    let packet = vm.dm.take_packet(vm.now, &mut vm.machine)?;
    assert!(packet.len() <= most.unwrap());
    vm.machine.tell(&packet);
    Some(packet)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_frame_is_lost_and_none_is_taken_or_given_too_early(
        version in prop::sample::select(Version::NAMED),
        live in any::<bool>(),
        actions in prop::collection::vec(action(), 0..80),
    ) {
        let mut play = Play::new(version, live);
        for action in actions {
            play.act(action);
            play.check();
        }
        play.vm.machine.is_stopped = true;
        play.vm.machine.takes = u64::MAX;
        let now = play.vm.now;
        play.vm.dm.end(now, &mut play.vm.machine);
        prop_assert!(play.vm.machine.frames.is_empty());
    }

    #[test]
    fn no_bytes_stop_the_host(
        messages in prop::collection::vec(
            (0_u16..16, any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..80)),
            0..40,
        ),
    ) {
        let mut play = Play::new(Version::WIN10, true);
        for (kind, size, id, rest) in messages {
            let size = if size % 2 == 0 { 8 + rest.len() as u16 } else { size };
            let mut message = [kind.to_le_bytes(), size.to_le_bytes()].concat();
            message.extend(id.to_le_bytes());
            message.extend(rest);
            play.note_and_receive(message);
            play.check();
        }
    }
}
