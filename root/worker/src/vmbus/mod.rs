//! VMBus in the worker: the server of the guest, the channels that it offers, and the way of everything between guest and
//! server.
//!
//! What the guest posts and signals comes by [`Vmbus::post_message`] and [`Vmbus::signal_event`] while its VP is stopped, and
//! is only taken down. [`Vmbus::run`] does the work afterwards, once in each round of the worker that has some: channels are
//! opened and closed, rings served, answers posted.
//!
//! # A guest that is not ready
//!
//! * The slot for messages is full: the hypervisor stops the VP when it is free, and [`Vmbus::slots_free`] goes on. As
//!   a guest can switch its SynIC off and on again in between, a try every second goes on as well.
//! * The SynIC is off: the message, or the flag, is kept and tried again, at the guest's next post and after pauses
//!   of 10 ms that double up to a second. A guest that connects anew makes all earlier messages void.

mod bulk;
mod channels;
mod clocks;
mod dynamic;
mod guest;
mod link;
mod memory;
mod news;
mod pause;
mod peer;

use alloc::format;
use alloc::vec::Vec;

use board::exit::PostedMessage;
use board::layout::PAGE;
use dynamic_memory::{BookError, Touch};
use tlfs::{HvConnectionId, HvMessage, HvMessageType, HvStatus};
use utilities::shutdown::{ShutdownKind, ShutdownRequest};
use utilities::{Heartbeat, Kvp, Service, Shutdown, TimeSync};
use vmbus::protocol::{Guid, MESSAGE_CONNECTION, MESSAGE_CONNECTION_5, Relid};
use vmbus::server::{Offer, Received, Server};
use zerocopy::FromBytes;

use crate::post::{self, Posted};
use crate::system::{CallError, SharedRam, System};
use channels::all;
use clocks::ClockPair;
use dynamic::Dynamic;
use guest::GuestView;
use link::Link;
use news::News;
use pause::Pause;

pub use bulk::BulkMemory;
pub use dynamic::{Limits, MAX_PIN_BYTES, TooLarge};
#[cfg(test)]
pub use memory::RunMemory;

/// Instance of the heartbeat, of which sheet 9 fixes none: it has to be the same at each start, and one VM has one.
const HEARTBEAT_INSTANCE: Guid = Guid::new(0xfd149e91_82e0_4a7d_afa6_2a4166cbd7c0);
/// Type of the messages of VMBus.
const CHANNEL_MESSAGE: HvMessageType = HvMessageType(1);
/// What the guest is told of the time it has for a shutdown. Linux does not look at it.
const SHUTDOWN_SECONDS: u32 = 60;

/// Most channels that a guest is offered: one for each service, and that of Dynamic Memory.
pub const CHANNELS: usize = Services::COUNT + 1;

/// The services.
#[derive(Default)]
struct Services {
    heartbeat: Heartbeat,
    shutdown: Shutdown,
    time_sync: TimeSync,
    kvp: Kvp,
}

impl Services {
    const COUNT: usize = 4;

    /// One after the other; each has its link at the same place.
    fn each(&mut self) -> [&mut dyn Service; Self::COUNT] {
        [
            &mut self.heartbeat,
            &mut self.shutdown,
            &mut self.time_sync,
            &mut self.kvp,
        ]
    }
}

/// VMBus of one guest.
pub struct Vmbus<R> {
    server: Server,
    services: Services,
    links: Vec<Link<R>>,
    dynamic: Option<Dynamic<R>>,
    clocks: ClockPair,
    news: News,
    guest: GuestView,
    /// Something has happened that [`Self::run`] has not seen.
    is_due: bool,
    /// When a service wants to be called.
    deadline: u64,
    /// The VP whose slot for messages is full.
    full: Option<u32>,
    messages: Pause,
    flags: Pause,
}

impl<R: SharedRam> Vmbus<R> {
    /// VMBus for a guest with `vp_count` VPs, whose partition has just been made; with Dynamic Memory within `limits`.
    ///
    /// # Errors
    /// There is no book of the guest's memory.
    pub fn new<S: System>(
        system: &mut S,
        ram: &R,
        vp_count: u32,
        limits: Option<&Limits>,
    ) -> Result<Self, BookError> {
        let mut server = Server::new(vp_count);
        let mut services = Services::default();
        let mut links = Vec::new();
        for service in services.each() {
            let id = service.id();
            let interface = Guid::read_from_bytes(&id.interface).unwrap_or_default();
            let instance = id.instance.and_then(|id| Guid::read_from_bytes(&id).ok());
            let instance = instance.unwrap_or(HEARTBEAT_INSTANCE);
            let offer = Offer::new(interface, instance).message_pipe();
            // Four different channels always find their place; a link without a channel is never opened.
            links.push(Link::new(server.add_offer(offer).unwrap_or_default()));
        }
        let dynamic = limits.map(|limits| {
            system.allow_books(limits.books());
            Dynamic::new(&mut server, ram, limits)
        });
        Ok(Self {
            server,
            services,
            links,
            dynamic: dynamic.transpose()?,
            clocks: ClockPair::new(system),
            news: News::default(),
            guest: GuestView::default(),
            is_due: false,
            deadline: u64::MAX,
            full: None,
            messages: Pause::default(),
            flags: Pause::default(),
        })
    }

    /// The guest posts a message to a connection that the hypervisor does not know.
    ///
    /// # Errors
    /// The status that the guest gets.
    pub fn post_message(&mut self, ram: &R, message: &PostedMessage<'_>) -> Result<(), HvStatus> {
        let to = message.connection;
        if to != MESSAGE_CONNECTION && to != MESSAGE_CONNECTION_5 {
            return Err(HvStatus::INVALID_CONNECTION_ID);
        }
        if message.kind != CHANNEL_MESSAGE {
            return Err(HvStatus::INVALID_PARAMETER);
        }
        let is_ram = |pfn: u64| {
            let gpa = pfn.checked_mul(PAGE);
            gpa.is_some_and(|gpa| ram.is_ram(gpa, PAGE))
        };
        self.is_due = true;
        // A guest that posts may have switched its SynIC on by now.
        if self.full.is_none() {
            self.messages.interrupt();
        }
        self.flags.interrupt();
        match self.server.receive(&is_ram, to, message.payload) {
            Received::Taken | Received::Dropped(_) => Ok(()),
            Received::Busy => Err(HvStatus::INSUFFICIENT_BUFFERS),
        }
    }

    /// The guest signals an event to a connection that the hypervisor does not know.
    ///
    /// # Errors
    /// The status that the guest gets.
    pub fn signal_event(&mut self, to: HvConnectionId, flag: u16) -> Result<(), HvStatus> {
        let relid = self.server.event(to, flag);
        let relid = relid.map_err(|_| HvStatus::INVALID_CONNECTION_ID)?;
        if let Some(link) = self.link(relid) {
            link.has_more = true;
            self.is_due = true;
        }
        Ok(())
    }

    /// The link of a channel.
    fn link(&mut self, relid: Relid) -> Option<&mut Link<R>> {
        all(&mut self.links, &mut self.dynamic).find(|link| link.relid == relid)
    }

    /// The manager has an order about the guest's memory.
    pub fn order_memory<S: System<Ram = R>>(&mut self, system: &mut S, ram: &R, now: u64) {
        let Some(order) = system.memory_order() else {
            return;
        };
        let Some(dynamic) = &mut self.dynamic else {
            return;
        };
        if let Err(refused) = dynamic.order(system, ram, &order, now) {
            self.news
                .say(system, &format!("memory: an order: {refused}"), now);
        }
        self.is_due = true;
    }

    /// A VP touched an address without memory behind it.
    pub fn touched<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        gpa: u64,
        now: u64,
    ) -> Touch {
        let Some(dynamic) = &mut self.dynamic else {
            return Touch::NotRam;
        };
        let touched = dynamic.touched(system, ram, gpa, now);
        self.is_due |= touched != Touch::NotRam;
        touched
    }

    /// Slots for messages to a VP are free.
    pub fn slots_free(&mut self, vp: u32) {
        if self.full == Some(vp) {
            self.full = None;
            self.messages.interrupt();
            self.is_due = true;
        }
    }

    /// Asks the guest to power off, reboot or hibernate.
    pub fn shut_down<S: System>(&mut self, system: &mut S, kind: ShutdownKind, now: u64) {
        let request = ShutdownRequest {
            kind,
            force: true,
            timeout_seconds: SHUTDOWN_SECONDS,
        };
        if let Err(refused) = self.services.shutdown.request(request, now) {
            self.news
                .say_always(system, &format!("cannot be shut down: {refused}"));
        }
        self.is_due = true;
    }

    /// When [`Self::run`] has work at the latest.
    #[inline]
    pub fn deadline(&self) -> u64 {
        if self.is_due { 0 } else { self.deadline }
    }

    /// Does what is to be done at `now`.
    ///
    /// # Errors
    /// The system failed.
    #[inline]
    pub fn run<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        now: u64,
    ) -> Result<(), CallError> {
        if now < self.deadline() {
            return Ok(());
        }
        self.work(system, ram, now)
    }

    fn work<S: System<Ram = R>>(
        &mut self,
        system: &mut S,
        ram: &R,
        now: u64,
    ) -> Result<(), CallError> {
        self.carry_out_effects(system, ram, now);
        self.serve_links(system, ram, now);
        self.serve_memory(system, ram, now);
        // A ring that broke has closed its channel, and that can be what an effect waited for.
        self.carry_out_effects(system, ram, now);
        self.post_messages(system, now)?;
        self.set_flags(system, now)?;
        for service in self.services.each() {
            self.news.drain(system, service, &mut self.guest, now);
        }
        if let Some(dynamic) = &mut self.dynamic {
            dynamic.tell(system, &mut self.news, now);
        }
        let heartbeat = self.services.heartbeat.contact();
        let links = all(&mut self.links, &mut self.dynamic);
        let channels = links.filter(|link| link.is_open()).count();
        self.guest.tell(system, heartbeat, channels);
        self.is_due = all(&mut self.links, &mut self.dynamic).any(|link| link.has_more);
        self.deadline = self.next_deadline();
        Ok(())
    }

    fn post_messages<S: System>(&mut self, system: &mut S, now: u64) -> Result<(), CallError> {
        if self.messages.lasts(now) {
            return Ok(());
        }
        self.full = None;
        while let Some(message) = self.server.message() {
            let (sequence, vp) = (message.sequence, message.vp.0);
            // The server's messages have at most 240 bytes.
            let content = HvMessage::new(CHANNEL_MESSAGE, 0, message.payload.as_slice());
            let posted = content.map_or(Ok(Posted::Done), |content| {
                post::post(system, message.vp, message.sint, &content)
            });
            match posted? {
                Posted::Done => {
                    self.messages.end();
                    self.server.posted(sequence);
                }
                Posted::Full => {
                    self.full = Some(vp);
                    self.messages.begin_longest(now);
                    return Ok(());
                }
                Posted::Refused => {
                    self.messages.begin(now);
                    return Ok(());
                }
            }
        }
        self.messages.end();
        Ok(())
    }

    fn set_flags<S: System>(&mut self, system: &mut S, now: u64) -> Result<(), CallError> {
        if self.flags.lasts(now) {
            return Ok(());
        }
        let mut refused = false;
        let links = all(&mut self.links, &mut self.dynamic);
        for link in links.filter(|link| link.owes_flag) {
            let Some(flag) = self.server.event_flag(link.relid) else {
                link.owes_flag = false;
                continue;
            };
            link.owes_flag = !post::signal(system, flag.vp, flag.sint, flag.flag)?;
            refused |= link.owes_flag;
        }
        if refused {
            self.flags.begin(now);
        } else {
            self.flags.end();
        }
        Ok(())
    }

    fn next_deadline(&mut self) -> u64 {
        let pauses = [self.messages.until(), self.flags.until()];
        let services = self.services.each();
        let services = services.iter().map(|service| service.next_deadline());
        let memory = self.dynamic.as_ref().and_then(Dynamic::next_deadline);
        let all = services.chain(pauses).chain([memory]).flatten();
        all.min().unwrap_or(u64::MAX)
    }
}
