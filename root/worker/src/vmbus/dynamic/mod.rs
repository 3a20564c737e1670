//! Dynamic Memory of the guest: the VSP of `dynamic-memory`, its channel, and the memory behind it.

mod limits;
mod manager;
mod pins;
mod state;
mod text;

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use board::layout::{FOUR_GIB, MMIO_START, PAGE, RamLayout};
use dynamic_memory::wire::MAX_INCOMING;
use dynamic_memory::{
    Add, BookError, DynamicMemory, GuestPages, INTERFACE, PageRun, Refused, Settings, Touch,
};
use root_abi::MemoryOrder;
use utilities::Packet;
use vmbus::protocol::{Guid, Relid};
use vmbus::ring::RingError;
use vmbus::server::{Offer, Server};
use zerocopy::FromBytes;

use super::link::Link;
use super::news::News;
use super::peer::Peer;
use crate::system::{CallError, SharedRam, System};
use manager::MemoryManager;
use pins::LazyPins;
use state::Telling;

pub use limits::{Limits, TooLarge};
pub use pins::MAX_BYTES as MAX_PIN_BYTES;

/// Instance of the channel, which the sheet leaves to the host: one for each VM, the same at each start.
const INSTANCE: Guid = Guid::new(0x1f5c6ae1_4ad3_4f8a_9f0e_6f2b8e1d7c39);
/// Batches that are read from a ring that the guest has closed. The longest answer, of 1 GiB in single pages, is 17 of them.
const LAST_BATCHES: usize = 32;
/// Dynamic Memory of one guest.
pub struct Dynamic<R> {
    vsp: DynamicMemory,
    book: GuestPages,
    link: Link<R>,
    telling: Telling,
    /// Number of the newest order.
    order: u32,
    failed: Option<(PageRun, CallError)>,
}

/// The VSP at its channel.
struct Vsp<'a, S: System> {
    vsp: &'a mut DynamicMemory,
    memory: MemoryManager<'a, S>,
    now: u64,
}

impl<S: System> Peer for Vsp<'_, S> {
    fn longest(&self) -> usize {
        MAX_INCOMING
    }

    fn received(&mut self, payload: &[u8], _transaction: u64) {
        self.vsp.received(payload, self.now, &mut self.memory);
    }

    fn packet_len(&self) -> Option<usize> {
        self.vsp.packet_len()
    }

    fn take_packet(&mut self) -> Option<Packet> {
        let payload = self.vsp.take_packet(self.now, &mut self.memory)?;
        Some(Packet {
            transaction: 0,
            payload,
        })
    }
}

/// Addresses as pages.
fn page_run(addresses: Range<u64>) -> PageRun {
    let first = addresses.start / PAGE;
    PageRun::new(first, (addresses.end / PAGE).saturating_sub(first))
}

impl<R: SharedRam> Dynamic<R> {
    /// For a guest that has just been made, with its startup memory behind it. Offers the channel.
    ///
    /// # Errors
    /// If the limits are none, or there is no memory for the books of its startup memory.
    pub fn new(server: &mut Server, ram: &R, limits: &Limits) -> Result<Self, BookError> {
        let start = RamLayout::new(limits.startup).regions().map(page_run);
        let runs: Vec<PageRun> = start.into_iter().filter(|run| !run.is_empty()).collect();
        if !runs.iter().all(|run| ram.make_room(run.start..run.end())) {
            return Err(BookError::NoMemory(limits.startup / PAGE));
        }
        let [low, high] = RamLayout::new(limits.reach()).regions();
        let end = if high.is_empty() { low.end } else { high.end };
        let settings = Settings {
            minimum: limits.minimum / PAGE,
            maximum: limits.maximum / PAGE,
            holes: Vec::from([page_run(MMIO_START..FOUR_GIB)]),
            end_of_addresses: end / PAGE,
        };
        let interface = Guid::read_from_bytes(&INTERFACE).unwrap_or_default();
        // There are few channels: it finds its place, and a link without a channel is never opened.
        let relid = server.add_offer(Offer::new(interface, INSTANCE));
        Ok(Self {
            vsp: DynamicMemory::new(settings),
            book: GuestPages::new(&runs)?,
            link: Link::new(relid.unwrap_or_default()),
            telling: Telling::default(),
            order: 0,
            failed: None,
        })
    }

    /// The channel.
    pub fn link(&mut self) -> &mut Link<R> {
        &mut self.link
    }

    /// Calls `f` with the VSP, the link and what moves memory.
    fn with<S: System<Ram = R>, T>(
        &mut self,
        system: &mut S,
        ram: &R,
        pins: LazyPins<'_, R>,
        now: u64,
        f: impl FnOnce(&mut Vsp<'_, S>, &mut Link<R>) -> T,
    ) -> T {
        let memory = MemoryManager {
            system,
            ram,
            book: &mut self.book,
            pins,
            failed: &mut self.failed,
        };
        let mut vsp = Vsp {
            vsp: &mut self.vsp,
            memory,
            now,
        };
        f(&mut vsp, &mut self.link)
    }

    /// The guest has opened the channel, and its link is open.
    pub fn opened<S: System<Ram = R>>(&mut self, system: &mut S, ram: &R, now: u64) {
        self.with(system, ram, LazyPins::none(), now, |vsp, _| {
            vsp.vsp.opened(now, &mut vsp.memory);
        });
    }

    /// The guest has closed the channel. What it had sent before counts (sheet 2.5). `links` are the other channels.
    pub fn closed<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        server: &Server,
        links: &[Link<R>],
        now: u64,
    ) {
        let pins = LazyPins::new(server, links, self.link.gpadl());
        self.with(system, ram, pins, now, |vsp, link| {
            link.drain(vsp, LAST_BATCHES);
            link.close();
            vsp.vsp.closed(now, &mut vsp.memory);
        });
    }

    /// A GPADL has gone: what only it kept can be taken.
    pub fn unpinned<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        server: &Server,
        links: &[Link<R>],
        now: u64,
    ) {
        let pins = LazyPins::new(server, links, self.link.gpadl());
        self.with(system, ram, pins, now, |vsp, _| {
            let all = PageRun::new(0, u64::MAX);
            vsp.vsp.unpinned(all, now, &mut vsp.memory);
        });
    }

    /// Takes what came, does what is due, sends what is to be sent. `links` are the other channels.
    ///
    /// # Errors
    /// The guest broke a rule of rings.
    pub fn serve<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        server: &Server,
        links: &[Link<R>],
        now: u64,
    ) -> Result<(), RingError> {
        let pins = LazyPins::new(server, links, self.link.gpadl());
        self.with(system, ram, pins, now, |vsp, link| {
            vsp.vsp.tick(now, &mut vsp.memory);
            link.serve(vsp)
        })
    }

    /// Carries out an order of the manager's.
    pub fn order<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        order: &MemoryOrder,
        now: u64,
    ) -> Result<(), Refused> {
        // Not told yet that it has one, the manager would give it the next.
        self.telling.hurry();
        self.order = order.number;
        let add = Add {
            unballoon: order.unballoon,
            hot_add: order.hot_add,
            partial: order.flags & MemoryOrder::PARTIAL != 0,
        };
        let remove = order.remove;
        self.with(system, ram, LazyPins::none(), now, |vsp, _| {
            if remove == 0 {
                vsp.vsp.add(add, now, &mut vsp.memory).map(drop)
            } else {
                vsp.vsp.remove(remove, now, &mut vsp.memory).map(drop)
            }
        })
    }

    /// A VP touched an address without memory behind it.
    pub fn touched<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        gpa: u64,
        now: u64,
    ) -> Touch {
        self.with(system, ram, LazyPins::none(), now, |vsp, _| {
            vsp.vsp.touched(gpa / PAGE, now, &mut vsp.memory)
        })
    }

    /// Says what happened, and tells the manager how the guest's memory is.
    pub fn tell<S: System>(&mut self, system: &mut S, news: &mut News, now: u64) {
        while let Some(event) = self.vsp.take_event() {
            let Some(text) = text::line(&event) else {
                continue;
            };
            let text = format!("memory: {text}");
            if event.is_change() {
                news.say_rare(system, &text, now);
            } else {
                news.say(system, &text, now);
            }
        }
        if let Some((run, error)) = self.failed.take() {
            let text = format!("memory: {} pages from {:#x}: {error}", run.count, run.start);
            news.say(system, &text, now);
        }
        let status = self.vsp.status(&self.book, now);
        let counters = self.vsp.counters();
        self.telling
            .tell(system, &status, &counters, self.order, now);
    }

    /// When [`Self::serve`] has something to do at the latest.
    pub fn next_deadline(&self) -> Option<u64> {
        self.vsp.next_deadline()
    }

    /// Relid of the channel.
    pub fn relid(&self) -> Relid {
        self.link.relid
    }
}
