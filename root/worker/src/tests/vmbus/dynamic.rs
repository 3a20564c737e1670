//! Dynamic Memory at its channel: pages go and come back, and the manager hears of it.

use dynamic_memory::Touch;
use root_abi::news::{
    MEMORY_CAN_BALLOON, MEMORY_CAN_HOT_ADD, MEMORY_IN_FLIGHT, MEMORY_LIVE, MemoryState,
};
use utilities::SECOND;

use super::super::*;
use super::guest::*;
use crate::vmbus::{Limits, Vmbus};

const MIB: u64 = 1 << 20;
const PAGES_PER_MIB: u64 = 256;
const LIMITS: Limits = Limits {
    startup: 16 * MIB,
    minimum: 8 * MIB,
    maximum: 512 * MIB,
    addressable: u64::MAX,
};
/// What the guest reports as committed while it idles, pages.
const IDLE: u64 = 2000;
/// EFER.LMA.
const LONG_MODE: u64 = 1 << 10;

/// A guest with a driver like Linux' hv_balloon.
struct Balloon {
    guest: Guest,
    last_id: u32,
}

impl Balloon {
    /// Its driver has said what it can do, with so many free pages in the machine.
    fn ready(free: u64) -> Self {
        let mut guest = Guest::with_memory(Some((LIMITS, free)));
        let efer = (0, HvRegisterName::EFER);
        let insert = |shared: &mut Shared| shared.registers.insert(efer, LONG_MODE);
        insert(&mut guest.fake.0.borrow_mut());
        assert_eq!(guest.connect(), 5);
        guest.open(MEMORY);
        let mut balloon = Self { guest, last_id: 0 };
        balloon.send(1, &[2 << 16, 0]);
        assert_eq!(balloon.take(), (2, words(&[1, 0])), "version 2.0");
        // Balloon and hot add, in units of 128 MiB.
        balloon.send(3, &[0x1f, 0, 0, 0, u32::MAX, u32::MAX]);
        assert_eq!(balloon.take(), (4, words(&[1, 0])));
        let (info, body) = balloon.take();
        assert_eq!((info, u64_at(&body, 16)), (12, 512 * PAGES_PER_MIB));
        balloon
    }

    /// It reports, and the quiet time is over.
    fn live(free: u64) -> Self {
        let mut balloon = Self::ready(free);
        balloon.pass(51);
        balloon.report(IDLE);
        assert_eq!(balloon.state().flags & MEMORY_LIVE, MEMORY_LIVE);
        balloon
    }

    fn send(&mut self, kind: u32, body: &[u32]) {
        self.last_id += 1;
        let size = 8 + 4 * body.len() as u32;
        let mut message = words(&[kind | size << 16, self.last_id]);
        message.extend(words(body));
        self.guest.send(MEMORY, 0, &message);
    }

    /// Takes a message: its type, and what is behind the header.
    fn take(&mut self) -> (u32, Vec<u8>) {
        let (_, payload) = self.guest.take(MEMORY).expect("a message");
        let size = u32_at(&payload, 0) >> 16;
        (
            u32_at(&payload, 0) & 0xFFFF,
            payload[8..size as usize].to_vec(),
        )
    }

    fn pass(&mut self, seconds: u64) {
        let to = self.guest.now + seconds * SECOND;
        self.guest.pass(to);
    }

    fn report(&mut self, committed: u64) {
        self.pass(1);
        self.send(5, &[100, 0, committed as u32, 0, 0, 0, 0, 0, 0, 0]);
    }

    fn order(&mut self, order: MemoryOrder) {
        self.guest.fake.0.borrow_mut().order = Some(order);
        let Guest {
            vmbus,
            fake,
            ram,
            now,
            ..
        } = &mut self.guest;
        vmbus.order_memory(fake, ram, *now);
        self.guest.run();
    }

    /// Answers a request for pages with these: first and count.
    fn give(&mut self, runs: &[(u32, u32)]) {
        let mut body = vec![0, (runs.len() as u32) << 1];
        for (first, count) in runs {
            // Both are short: the count begins at bit 40.
            body.extend([*first, count << 8]);
        }
        self.send(7, &body);
    }

    /// The same, of a guest that closes the channel before the host looks into the ring.
    fn give_and_close(&mut self, first: u32, count: u32) {
        let mut message = words(&[7 | 24 << 16, 99, 0, 1 << 1]);
        message.extend(words(&[first, count << 8]));
        self.guest.rings[&MEMORY].0.send(0, &message);
        self.guest.close(MEMORY);
    }

    fn state(&self) -> MemoryState {
        let shared = self.guest.fake.0.borrow();
        let told = shared.told.iter().rev().find_map(|news| match news {
            WorkerNews::Memory(state) => Some(*state),
            _ => None,
        });
        told.expect("the manager was told")
    }

    fn moved(&self) -> Vec<Moved> {
        std::mem::take(&mut self.guest.fake.0.borrow_mut().moved)
    }

    fn has(&self, page: u64) -> bool {
        self.guest.ram.is_ram(page * 4096, 4096)
    }
}

const fn remove(pages: u64) -> MemoryOrder {
    MemoryOrder {
        remove: pages,
        unballoon: 0,
        hot_add: 0,
        flags: 0,
        number: 0,
    }
}

const fn add(unballoon: u64, hot_add: u64) -> MemoryOrder {
    MemoryOrder {
        remove: 0,
        unballoon,
        hot_add,
        flags: 0,
        number: 0,
    }
}

#[test]
fn the_manager_is_told_once_a_second_what_the_guest_has_and_needs() {
    let mut balloon = Balloon::live(0);
    let state = balloon.state();
    let all = MEMORY_LIVE | MEMORY_CAN_BALLOON | MEMORY_CAN_HOT_ADD;
    assert_eq!(state.flags, all);
    assert_eq!((state.visible, state.assigned), (4096, 4096));
    assert_eq!((state.newest, state.pressures[0]), (IDLE, 48));
    assert_eq!(state.alignment, 128 * PAGES_PER_MIB);
    let before = balloon.guest.fake.0.borrow().told.len();
    for _ in 0..3 {
        balloon.report(IDLE);
    }
    let told = balloon.guest.fake.0.borrow().told.len();
    assert_eq!(told - before, 3);
}

#[test]
fn the_manager_is_told_which_order_was_seen_even_if_it_is_refused() {
    let mut balloon = Balloon::live(0);
    assert_eq!(balloon.state().order, 0);
    let numbered = |number| MemoryOrder {
        number,
        ..remove(600)
    };
    balloon.order(numbered(7));
    let seen = |balloon: &Balloon| {
        let state = balloon.state();
        (state.order, state.flags & MEMORY_IN_FLIGHT != 0)
    };
    assert_eq!(seen(&balloon), (7, true));
    // It is at the first.
    balloon.order(numbered(8));
    assert_eq!(seen(&balloon), (8, true));
    balloon.take();
    balloon.give(&[(0x400, 512), (0x800, 88)]);
    assert_eq!(seen(&balloon), (8, false));
}

#[test]
fn what_the_guest_returns_leaves_its_memory_and_comes_back_on_the_same_pages() {
    let mut balloon = Balloon::live(0);
    balloon.order(remove(600));
    assert_eq!(balloon.take(), (6, words(&[600, 0])));
    assert_ne!(balloon.state().flags & MEMORY_IN_FLIGHT, 0);
    assert_eq!(balloon.moved(), [], "nothing is taken on a request");
    balloon.give(&[(0x400, 512), (0x800, 88)]);
    let taken = [Moved::Taken(0x400..0x600), Moved::Taken(0x800..0x858)];
    assert_eq!(balloon.moved(), taken);
    assert!(!balloon.has(0x400) && !balloon.has(0x857) && balloon.has(0x858));
    let state = balloon.state();
    assert_eq!((state.assigned, state.ballooned), (4096 - 600, 600));
    assert_eq!(state.flags & MEMORY_IN_FLIGHT, 0);

    balloon.order(add(520, 0));
    let backed = [Moved::Backed(0x400..0x600), Moved::Backed(0x800..0x808)];
    assert_eq!(balloon.moved(), backed, "before the guest is told");
    let (kind, body) = balloon.take();
    assert_eq!((kind, u32_at(&body, 4)), (8, 2));
    assert!(balloon.has(0x400) && balloon.has(0x807) && !balloon.has(0x808));
    balloon.send(9, &[]);
    assert_eq!(balloon.state().ballooned, 80);
}

#[test]
fn new_memory_is_above_all_other_and_there_before_it_is_offered() {
    let block = 128 * PAGES_PER_MIB;
    let mut balloon = Balloon::live(block);
    balloon.order(add(0, block));
    assert_eq!(balloon.moved(), [Moved::Backed(block..2 * block)]);
    let (kind, body) = balloon.take();
    assert_eq!((kind, u64_at(&body, 0)), (10, block | block << 40));
    assert!(balloon.has(block) && balloon.has(2 * block - 1) && !balloon.has(2 * block));
    balloon.send(11, &[block as u32, 1]);
    let state = balloon.state();
    assert_eq!((state.visible, state.added), (4096 + block, block));
}

#[test]
fn memory_that_the_guest_does_not_take_is_free_again() {
    let block = 128 * PAGES_PER_MIB;
    let mut balloon = Balloon::live(block);
    balloon.order(add(0, block));
    balloon.moved();
    balloon.take();
    balloon.send(11, &[0, 1]);
    assert_eq!(balloon.moved(), [Moved::Taken(block..2 * block)]);
    assert!(!balloon.has(block));
    assert_eq!(balloon.guest.fake.0.borrow().free_pages, block);
    let line = "memory: the guest takes no more new memory".to_string();
    assert!(balloon.guest.logs().contains(&line));
}

#[test]
fn pages_of_rings_stay_and_pages_of_other_gpadls_go_with_the_gpadl() {
    let mut balloon = Balloon::live(0);
    // The rings of the channel have every other page from 0x1aa to 0x1b4.
    let other: Vec<u64> = vec![0x300, 0x301];
    balloon.guest.gpadl(KVP, &other).unwrap();
    balloon.guest.run();
    balloon.order(remove(100));
    balloon.take();
    balloon.give(&[(0x1b0, 2), (0x300, 2)]);
    assert_eq!(balloon.moved(), [Moved::Taken(0x1b1..0x1b2)]);
    assert!(balloon.has(0x1b0) && balloon.has(0x300));
    let odd = "memory: odd: Pinned(1)".to_string();
    assert!(
        balloon.guest.logs().contains(&odd),
        "{:?}",
        balloon.guest.logs()
    );

    balloon.guest.post(&words(&[11, 0, KVP, KVP])).unwrap();
    balloon.guest.run();
    assert_eq!(balloon.moved(), [Moved::Taken(0x300..0x302)]);
    balloon.report(IDLE);
    assert_eq!(balloon.state().ballooned, 3);
}

#[test]
fn a_ballooned_page_that_is_touched_is_back_or_waits_for_memory() {
    let mut balloon = Balloon::live(0);
    balloon.order(remove(10));
    balloon.take();
    balloon.give(&[(0x400, 10)]);
    let touch = |balloon: &mut Balloon, gpa| {
        let Guest {
            vmbus,
            fake,
            ram,
            now,
            ..
        } = &mut balloon.guest;
        vmbus.touched(fake, ram, gpa, *now)
    };
    assert_eq!(touch(&mut balloon, 0x40_1234), Touch::Backed);
    assert!(balloon.has(0x401) && !balloon.has(0x402));
    assert_eq!(touch(&mut balloon, 0x40_1234), Touch::There);
    assert_eq!(touch(&mut balloon, 0xFEC0_0000), Touch::NotRam);
    assert_eq!(touch(&mut balloon, 0x200_0000), Touch::NotRam);
    balloon.guest.fake.0.borrow_mut().free_pages = 0;
    assert_eq!(touch(&mut balloon, 0x40_2000), Touch::Waits);
    balloon.guest.fake.0.borrow_mut().free_pages = 1;
    assert_eq!(touch(&mut balloon, 0x40_2000), Touch::Backed);
}

#[test]
fn what_the_guest_sent_before_it_closed_the_channel_counts() {
    let mut balloon = Balloon::live(0);
    balloon.order(remove(10));
    balloon.take();
    balloon.give_and_close(0x400, 10);
    assert_eq!(balloon.moved(), [Moved::Taken(0x400..0x40a)]);
    balloon.pass(2);
    assert_eq!(balloon.state().flags & MEMORY_LIVE, 0);
}

#[test]
fn rings_of_other_channels_stay_whatever_was_sent_before_the_channel_was_closed() {
    let mut balloon = Balloon::live(0);
    balloon.guest.start(KVP);
    let ring = balloon.guest.rings[&KVP].0.page(0);
    balloon.order(remove(10));
    balloon.take();
    balloon.give_and_close(ring as u32, 1);
    let odd = "memory: odd: Pinned(1)".to_string();
    let logs = balloon.guest.logs();
    assert!(logs.contains(&odd), "{logs:?}");
    // Nor do they go with the GPADL: they were never given.
    balloon.guest.close(KVP);
    assert_eq!(balloon.moved(), []);
    assert!(balloon.has(ring));
}

#[test]
fn a_guest_without_dynamic_memory_gets_no_channel_and_no_order_hurts_it() {
    let mut guest = Guest::connected();
    guest.fake.0.borrow_mut().order = Some(remove(5));
    let Guest {
        vmbus, fake, ram, ..
    } = &mut guest;
    vmbus.order_memory(fake, ram, 0);
    assert_eq!(vmbus.touched(fake, ram, 0x40_0000, 0), Touch::NotRam);
    guest.run();
    assert_eq!(guest.fake.0.borrow().moved, []);
}

#[test]
fn addresses_reach_beyond_the_maximum_by_what_units_and_the_device_window_leave_free() {
    let reach = |maximum| Limits { maximum, ..LIMITS }.reach();
    assert_eq!(reach(1 << 30), 3 << 30);
    assert_eq!(reach(2 << 30), 6 << 30);
    assert_eq!(reach(u64::MAX), u64::MAX);
}

#[test]
fn books_may_take_what_the_maximum_needs_and_not_more_than_that() {
    let books = |maximum| Limits { maximum, ..LIMITS }.books();
    for gib in [1, 16, 64, 1024] {
        let needed = gib * (96 << 10);
        let given = books(gib << 30);
        assert!(
            (needed..needed + needed / 50 + 3 * MIB).contains(&given),
            "{gib} {given}"
        );
    }
    let guest = Guest::with_memory(Some((LIMITS, 0)));
    assert_eq!(guest.fake.0.borrow().books, LIMITS.books());
    assert_eq!(Guest::new().fake.0.borrow().books, 0);
}

#[test]
fn new_memory_that_no_book_can_be_kept_of_is_not_offered() {
    let block = 128 * PAGES_PER_MIB;
    let mut balloon = Balloon::live(block);
    balloon.guest.ram.refuse_room();
    balloon.order(add(0, block));
    assert_eq!(balloon.moved(), []);
    assert!(balloon.guest.take(MEMORY).is_none());
    assert_eq!(balloon.state().flags & MEMORY_IN_FLIGHT, 0);
    balloon.order(remove(10));
    assert_eq!(balloon.take(), (6, words(&[10, 0])), "all else goes on");
}

#[test]
fn a_vm_without_a_book_of_its_startup_memory_is_not_started() {
    let mut fake = Fake::default();
    let ram = fake.create_ram(LIMITS.startup, LIMITS.reach()).unwrap();
    ram.refuse_room();
    let error = Vmbus::new(&mut fake, &ram, 1, Some(&LIMITS)).err().unwrap();
    let text = SetupError::from(error).to_string();
    assert_eq!(text, "Dynamic Memory: no memory for the book of 4096 pages");
}

#[test]
fn memory_that_is_there_against_the_book_is_replaced_and_that_is_tried_once() {
    let mut balloon = Balloon::live(0);
    balloon.order(remove(10));
    balloon.take();
    balloon.give(&[(0x400, 10)]);
    balloon.moved();
    balloon.guest.fake.0.borrow_mut().stuck = vec![0x403];
    balloon.order(add(10, 0));
    let moved = [Moved::Taken(0x400..0x40a), Moved::Backed(0x400..0x40a)];
    assert_eq!(balloon.moved(), moved);
    assert_eq!(balloon.take().0, 8);
    balloon.send(9, &[]);

    balloon.order(remove(10));
    balloon.take();
    balloon.give(&[(0x400, 10)]);
    balloon.moved();
    let shared = balloon.guest.fake.0.clone();
    shared.borrow_mut().stuck = vec![0x403];
    shared.borrow_mut().is_stuck_for_ever = true;
    balloon.order(add(10, 0));
    assert_eq!(balloon.moved(), [Moved::Taken(0x400..0x40a)]);
    assert!(balloon.guest.take(MEMORY).is_none());
    let line = "memory: 10 pages from 0x400: back_guest_memory: error ";
    let logs = balloon.guest.logs();
    assert!(logs.iter().any(|log| log.starts_with(line)), "{logs:?}");
}

#[test]
fn a_guest_that_floods_the_event_list_hides_no_change() {
    let mut balloon = Balloon::live(1 << 20);
    balloon.order(remove(100));
    balloon.take();
    // It does not answer, and sends what cannot be.
    for _ in 0..70 {
        balloon.pass(1);
        for _ in 0..10 {
            balloon.send(99, &[0, 0]);
        }
    }
    let logs = balloon.guest.logs();
    let has = |text: &str| logs.iter().any(|line| line.contains(text));
    assert!(has("memory: no reports"), "{logs:?}");
    assert!(has("a request to return pages is not answered"), "{logs:?}");
    assert!(has("lines about VMBus are left out"), "{logs:?}");
    assert!(logs.len() < 100, "{}", logs.len());
}

#[test]
fn a_guest_has_no_more_than_it_can_address() {
    const GIB: u64 = 1 << 30;
    let limits = |maximum, width| {
        let text = format!(
            "name = 'a'\nstartup = 64\nmaximum = {}\nkernel = 'k'\n",
            maximum / MIB
        );
        let dynamic = manager::Definition::parse("a", &text)
            .unwrap()
            .dynamic
            .unwrap();
        Limits::new(64 * MIB, &dynamic, width)
    };
    // 768 MiB of the addresses are the devices'.
    let most = 64 * GIB - 768 * MIB;
    let full = limits(most, Some(36)).unwrap();
    assert_eq!((full.maximum, full.reach()), (most, most));
    let text = limits(most + 2 * MIB, Some(36)).unwrap_err().to_string();
    let expected = "maximum: guests of this machine have addresses of 36 bits, which is enough for 64768 MiB and not for 64770 MiB; lower it to that";
    assert_eq!(text, expected);
    assert_eq!(limits(14 * (1 << 40), None).unwrap().maximum, 14 << 40);
    // A definition that does not say it.
    let usual = limits(1 << 40, Some(36)).unwrap();
    assert_eq!((usual.maximum, usual.reach()), (most, most));
    assert_eq!(limits(1 << 40, Some(46)).unwrap().maximum, 1 << 40);
}
