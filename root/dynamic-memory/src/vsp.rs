//! The channel: handshake, messages, packets and timers.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::clock::Clock;
use crate::event::{Dropped, Event, Events, HotAddOff, Oddity};
use crate::memory::Memory;
use crate::order::Order;
use crate::reports::{Report, Reports, Use};
use crate::run::PageRun;
use crate::status::Counters;
use crate::wire::{self, Capabilities, Incoming, MAX_PAGE, MessageType, Version};
use crate::{MAX_32_BIT, OFFLINE_DOUBLINGS, OFFLINE_HOLD, QUIET, Time};

/// Answers of the handshake that wait for room in the ring. A guest that reads needs one.
const MAX_REPLIES: usize = 4;

/// What the VM may have, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Fewest assigned pages.
    pub minimum: u64,
    /// Most assigned pages.
    pub maximum: u64,
    /// Where no memory may be hot-added: MMIO.
    pub holes: Vec<PageRun>,
    /// The page behind the last one that the guest can address.
    pub end_of_addresses: u64,
}

/// How far the channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Link {
    /// Closed by the guest, or not opened yet.
    #[default]
    Closed,
    /// A version is waited for; whether it would be the first since the channel was opened.
    Version { is_first: bool },
    /// What the guest can do is waited for.
    Capabilities(Version),
    /// The handshake is over.
    Ready(Version),
}

/// New memory that the guest just got, and its demand before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    pub(crate) until: Time,
    pub(crate) demand: u64,
    pub(crate) pages: u64,
}

/// The Dynamic Memory VSP of one VM. All times that it keeps are times of the VM, which stand still while it is paused.
#[derive(Debug)]
pub struct DynamicMemory {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) link: Link,
    replies: VecDeque<Vec<u8>>,
    info_due: bool,
    /// Of the present connection.
    pub(crate) capabilities: Capabilities,
    pub(crate) quiet_until: Time,
    /// A balloon request was not answered in time.
    pub(crate) balloon_off: bool,
    pub(crate) is_live: bool,
    pub(crate) is_frozen: bool,
    pub(crate) reports: Reports,
    pub(crate) order: Option<Order>,
    last_id: u32,
    /// Of the guest until it is reset.
    pub(crate) is_32_bit: Option<bool>,
    pub(crate) hot_add_off: bool,
    pub(crate) hot_add_hold: Option<Time>,
    pub(crate) watch: Option<Watch>,
    /// How often the guest has not put to use what it got, one time after the other.
    pub(crate) offline_in_turn: u32,
    pub(crate) refused_at: Option<Time>,
    pub(crate) added_at: Option<Time>,
    /// When pages that could not be taken are tried again.
    pub(crate) take_again_at: Option<Time>,
    /// Touches that have not been told of, and when the last ones were.
    pub(crate) touches: u64,
    pub(crate) touches_told: Option<Time>,
    /// A reset is under way.
    pub(crate) is_resetting: bool,
    pub(crate) events: Events,
    pub(crate) counters: Counters,
}

impl DynamicMemory {
    /// The VSP of a VM whose channel is closed.
    pub fn new(settings: Settings) -> Self {
        let settings = Settings {
            end_of_addresses: settings.end_of_addresses.min(MAX_PAGE),
            ..settings
        };
        Self {
            settings,
            clock: Clock::default(),
            link: Link::Closed,
            replies: VecDeque::new(),
            info_due: false,
            capabilities: Capabilities::default(),
            quiet_until: 0,
            balloon_off: false,
            is_live: false,
            is_frozen: false,
            reports: Reports::default(),
            order: None,
            last_id: 0,
            is_32_bit: None,
            hot_add_off: false,
            hot_add_hold: None,
            watch: None,
            offline_in_turn: 0,
            refused_at: None,
            added_at: None,
            take_again_at: None,
            touches: 0,
            touches_told: None,
            is_resetting: false,
            events: Events::default(),
            counters: Counters::default(),
        }
    }

    /// Changes the VM's limits while it runs (sheet 3.2). The guest is told of a new maximum.
    pub fn set_limits(&mut self, minimum: u64, maximum: u64) {
        self.info_due |= maximum != self.settings.maximum && self.speaks_info();
        self.settings.minimum = minimum;
        self.settings.maximum = maximum;
    }

    /// Most pages that the guest may have.
    pub(crate) fn upper(&self) -> u64 {
        match self.is_32_bit {
            Some(true) => self.settings.maximum.min(MAX_32_BIT),
            _ => self.settings.maximum,
        }
    }

    fn speaks_info(&self) -> bool {
        matches!(self.link, Link::Ready(version) if version >= Version::WIN8)
    }

    /// An id of the host's own.
    pub(crate) fn next_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// The guest has opened the channel. The balloon stays (trap 25); whose it is shows in the first message.
    pub fn opened(&mut self, now: Time, memory: &mut dyn Memory) {
        self.closed(now, memory);
        if !self.is_resetting {
            self.link = Link::Version { is_first: true };
        }
    }

    /// The guest has closed the channel, unloaded VMBus or crashed; the caller has read the ring to its end and given
    /// all of it to [`received`](Self::received). No memory moves (sheet 2.5).
    pub fn closed(&mut self, now: Time, memory: &mut dyn Memory) {
        let now = self.clock.at(now);
        self.interrupt(now, memory);
        self.forget_connection();
    }

    /// Everything that a new connection begins without.
    pub(crate) fn forget_connection(&mut self) {
        self.link = Link::Closed;
        self.replies.clear();
        self.info_due = false;
        self.balloon_off = false;
        self.is_live = false;
        self.is_frozen = false;
        self.reports = Reports::default();
        self.watch = None;
        self.take_again_at = None;
    }

    /// The VM stands still, and so do all timers.
    pub fn paused(&mut self, now: Time) {
        self.clock.pause(now);
    }

    /// The VM goes on.
    pub fn resumed(&mut self, now: Time) {
        self.clock.resume(now);
    }

    /// A message from the guest, copied out of the ring, with the ring's padding or without. What is longer than
    /// [`wire::MAX_INCOMING`] need not be copied beyond one byte more.
    pub fn received(&mut self, message: &[u8], now: Time, memory: &mut dyn Memory) {
        let now = self.clock.at(now);
        if self.link == Link::Closed {
            self.counters.strays = self.counters.strays.saturating_add(1);
            return;
        }
        self.counters.received = self.counters.received.saturating_add(1);
        match wire::decode(message) {
            Ok(incoming) => {
                if let Err(dropped) = self.handle(incoming, now, memory) {
                    self.drop_message(dropped);
                }
            }
            Err(malformed) => self.drop_message(malformed.into()),
        }
    }

    fn drop_message(&mut self, dropped: Dropped) {
        self.counters.dropped = self.counters.dropped.saturating_add(1);
        self.events.push(Event::Dropped(dropped));
    }

    fn handle(
        &mut self,
        incoming: Incoming<'_>,
        now: Time,
        memory: &mut dyn Memory,
    ) -> Result<(), Dropped> {
        let unasked = Dropped::Unasked(incoming.message_type());
        match (self.link, incoming) {
            (Link::Version { is_first }, Incoming::Version { trans_id, version }) => {
                self.reply(MessageType::VERSION_RESPONSE, trans_id, version.is_known())?;
                self.version(trans_id, version, is_first, memory);
                Ok(())
            }
            (
                Link::Capabilities(version),
                Incoming::Capabilities {
                    trans_id,
                    capabilities,
                },
            ) => {
                self.reply(MessageType::CAPABILITIES_RESPONSE, trans_id, true)?;
                self.connected(version, capabilities, now, memory);
                Ok(())
            }
            (
                Link::Ready(_),
                Incoming::Status {
                    committed,
                    available,
                },
            ) => self.report(committed, available, now, memory),
            (Link::Ready(_), Incoming::Balloon { more, ranges }) => {
                self.balloon_response(more, ranges, now, memory)
            }
            (Link::Ready(_), Incoming::Unballoon) => self.unballoon_response(now),
            (Link::Ready(_), Incoming::HotAdd { page_count, result }) => {
                self.hot_add_response(page_count, result, now, memory)
            }
            _ => Err(unasked),
        }
    }

    fn reply(&mut self, what: MessageType, trans_id: u32, accepted: bool) -> Result<(), Dropped> {
        if self.replies.len() >= MAX_REPLIES {
            return Err(Dropped::Flood(what));
        }
        self.replies
            .push_back(wire::accept(what, trans_id, accepted));
        Ok(())
    }

    /// Id 1 in the first request is a fresh driver: the balloon is none of its (sheet 1.2, trap 28).
    fn version(
        &mut self,
        trans_id: u32,
        version: Version,
        is_first: bool,
        memory: &mut dyn Memory,
    ) {
        if is_first && trans_id == 1 {
            let book = memory.book();
            let lost = book.count(crate::PageState::Ballooned);
            book.forget();
            if lost != 0 {
                self.events.push(Event::BalloonLost(lost));
            }
        }
        self.link = if version.is_known() {
            Link::Capabilities(version)
        } else {
            self.events.push(Event::VersionRefused(version));
            Link::Version { is_first: false }
        };
    }

    fn connected(
        &mut self,
        version: Version,
        capabilities: Capabilities,
        now: Time,
        memory: &mut dyn Memory,
    ) {
        self.link = Link::Ready(version);
        self.capabilities = capabilities;
        self.quiet_until = now.saturating_add(QUIET);
        self.info_due = self.speaks_info();
        self.events.push(Event::Connected {
            version,
            capabilities,
        });
        // What was withheld when the same driver closed the channel may be free to go by now.
        self.collect_withheld(PageRun::new(0, MAX_PAGE), now, memory);
    }

    fn report(
        &mut self,
        committed: u64,
        available: u64,
        now: Time,
        memory: &mut dyn Memory,
    ) -> Result<(), Dropped> {
        let book = memory.book();
        let report = Report {
            committed,
            available,
            held: book.held_by_guest(),
            visible: book.visible(),
            assigned: book.assigned(),
            is_busy: self.order.is_some(),
        };
        match self.reports.note(report, now) {
            Use::Absurd => return Err(Dropped::Absurd(committed)),
            Use::AliveOnly => {
                self.counters.reports_ignored = self.counters.reports_ignored.saturating_add(1);
            }
            Use::Counted => {
                self.counters.reports = self.counters.reports.saturating_add(1);
                if committed < report.held {
                    self.events
                        .push(Event::Odd(Oddity::CommittedBelowBalloon(committed)));
                }
                self.watch_hot_added(now);
                if self.is_32_bit.is_none() {
                    self.is_32_bit = Some(!memory.long_mode());
                }
            }
        }
        if core::mem::take(&mut self.is_frozen) {
            self.events.push(Event::Thawed);
        }
        self.become_live(now);
        Ok(())
    }

    /// Hot-added memory that is not online counts as committed: who answers that with more would never end (trap 9).
    fn watch_hot_added(&mut self, now: Time) {
        let (Some(watch), Some(demand)) = (self.watch, self.reports.demand()) else {
            return;
        };
        if now > watch.until {
            self.watch = None;
            self.offline_in_turn = 0;
            return;
        }
        let rise = u128::from(demand.newest.saturating_sub(watch.demand));
        if rise * 10 >= u128::from(watch.pages) * 9 {
            self.watch = None;
            let doublings = self.offline_in_turn.min(OFFLINE_DOUBLINGS);
            self.offline_in_turn = doublings.saturating_add(1);
            let until = now.saturating_add(OFFLINE_HOLD.saturating_mul(1 << doublings));
            self.hold_hot_add(until, HotAddOff::NotOnline);
        }
    }

    pub(crate) fn hold_hot_add(&mut self, until: Time, why: HotAddOff) {
        self.hot_add_hold = Some(self.hot_add_hold.map_or(until, |hold| hold.max(until)));
        self.events.push(Event::HotAddOff(why));
    }

    fn become_live(&mut self, now: Time) {
        let has_report = self.reports.demand().is_some();
        if !self.is_live && self.is_ready() && has_report && now >= self.quiet_until {
            self.is_live = true;
            let is_32_bit = self.is_32_bit == Some(true);
            self.events.push(Event::Live { is_32_bit });
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.link, Link::Ready(_))
    }

    /// Time has passed. May be called at any time and as often as one likes.
    pub fn tick(&mut self, now: Time, memory: &mut dyn Memory) {
        let now = self.clock.at(now);
        if self.clock.is_paused() {
            return;
        }
        self.order_timeout(now, memory);
        self.take_again(now, memory);
        self.become_live(now);
        if !self.is_frozen && self.reports.overdue_at().is_some_and(|at| at <= now) {
            self.is_frozen = true;
            self.events.push(Event::Frozen);
        }
    }

    /// When `tick` must be called at the latest; `None` while nothing is due, or the VM is paused. After `tick(now)` it
    /// is later than `now`.
    pub fn next_deadline(&self) -> Option<Time> {
        let order = self
            .order
            .as_ref()
            .map(|order| order.deadline(self.block()));
        let has_report = self.reports.demand().is_some();
        let quiet = (self.is_ready() && !self.is_live && has_report).then_some(self.quiet_until);
        let overdue = self.reports.overdue_at().filter(|_| !self.is_frozen);
        let all = [order, quiet, overdue, self.take_again_at];
        let next = all.into_iter().flatten().min()?;
        self.clock.reference(next)
    }

    /// Most bytes of the message that `take_packet` would make, `None` if there is nothing to send.
    pub fn packet_len(&self) -> Option<usize> {
        if let Some(reply) = self.replies.front() {
            return Some(reply.len());
        }
        if self.info_due {
            return Some(size_of::<wire::InfoMessage>());
        }
        self.order.as_ref()?.packet_len()
    }

    /// The next message. It must be put into the ring: memory that it names has been backed for it. There may be none
    /// in spite of `packet_len`, if there is no memory to back.
    pub fn take_packet(&mut self, now: Time, memory: &mut dyn Memory) -> Option<Vec<u8>> {
        let now = self.clock.at(now);
        let packet = self.next_packet(now, memory)?;
        self.counters.sent = self.counters.sent.saturating_add(1);
        Some(packet)
    }

    fn next_packet(&mut self, now: Time, memory: &mut dyn Memory) -> Option<Vec<u8>> {
        if let Some(reply) = self.replies.pop_front() {
            return Some(reply);
        }
        let Link::Ready(version) = self.link else {
            return None;
        };
        if core::mem::take(&mut self.info_due) {
            return Some(wire::info(self.next_id(), self.settings.maximum));
        }
        self.order_packet(version, now, memory)
    }

    /// The oldest event that has not been taken.
    pub fn take_event(&mut self) -> Option<Event> {
        self.events.pop()
    }
}
