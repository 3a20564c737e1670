//! What all services share: negotiation, transactions, and one packet at a time.

use alloc::vec::Vec;

use crate::Time;
use crate::frame::{self, Answer, HEADER_LEN, MessageType, Status, Version};
use crate::negotiate::{self, Versions};
use crate::service::{Clocks, DeadReason, Event, Events, Packet, Service, ServiceId};

/// What distinguishes a service before it has said anything.
#[derive(Debug)]
pub struct Spec {
    pub(crate) id: ServiceId,
    pub(crate) message_type: MessageType,
    /// Message versions that are offered, oldest first.
    pub(crate) versions: &'static [Version],
    /// How long a request may stay unanswered before the next one is sent in its place. `None`: for ever.
    pub(crate) patience: Option<Time>,
}

/// What a service does once versions are agreed on. The driver is [`Integration`], which never asks for a request
/// while one is outstanding.
pub trait Protocol {
    /// What this service is.
    fn spec(&self) -> &'static Spec;
    /// Versions are agreed on: begin.
    fn negotiated(&mut self, message: Version, now: Time);
    /// The channel has closed, or the service has died: forget what was going on.
    fn ended(&mut self, events: &mut Sink<'_>);
    /// Does what is due. Afterwards `deadline` is later than `now`, or `None`.
    fn tick(&mut self, now: Time, events: &mut Sink<'_>);
    /// When `tick` is wanted.
    fn deadline(&self) -> Option<Time>;
    /// Length of the body of the request that is due.
    fn request_len(&self) -> Option<usize>;
    /// The body of the request that is due; the request counts as sent. Called after `request_len` gave its length.
    fn request(&mut self, now: Time, clocks: &mut dyn FnMut() -> Clocks) -> Vec<u8>;
    /// The answer to the last request.
    ///
    /// # Errors
    ///
    /// It is nonsense: the service dies.
    fn answered(
        &mut self,
        status: Status,
        body: &[u8],
        now: Time,
        events: &mut Sink<'_>,
    ) -> Result<(), DeadReason>;
    /// The last request will not be answered any more ([`Spec`]'s patience is over).
    fn unanswered(&mut self, now: Time, events: &mut Sink<'_>);
}

/// Where a protocol puts its events.
#[derive(Debug)]
pub struct Sink<'a>(&'a mut Events);

impl Sink<'_> {
    pub(crate) fn push(&mut self, event: Event) {
        self.0.push(event);
    }
}

/// Where a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LinkState {
    /// The guest has not opened the channel, or has closed it.
    #[default]
    Closed,
    /// Versions are being agreed on. Nothing limits how long the guest takes: Linux answers for KVP after up to 55 s,
    /// and a guest that never does costs one packet.
    Negotiating,
    /// It works.
    Ready(Versions),
    /// It has ended, until the guest opens the channel again.
    Dead(DeadReason),
}

/// What a service has counted since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets sent.
    pub sent: u64,
    /// Answers to them.
    pub answered: u64,
    /// Requests that were given up.
    pub unanswered: u64,
    /// Packets that answered nothing outstanding, and were ignored.
    pub strays: u64,
    /// Events that a caller who did not drain has lost.
    pub events_dropped: u64,
}

/// A packet whose answer is waited for.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    transaction: u64,
    since: Time,
}

/// A service: a protocol, and the channel's state around it.
#[derive(Debug, Default)]
pub struct Integration<P> {
    pub(crate) protocol: P,
    state: LinkState,
    /// The last transaction id that was used. Never begins anew, so an answer from before a close is a stray.
    last_transaction: u64,
    outstanding: Option<Outstanding>,
    events: Events,
    counters: Counters,
}

impl<P: Protocol> Integration<P> {
    /// A service whose channel is closed.
    pub(crate) fn with(protocol: P) -> Self {
        Self {
            protocol,
            state: LinkState::Closed,
            last_transaction: 0,
            outstanding: None,
            events: Events::default(),
            counters: Counters::default(),
        }
    }

    /// Where it is.
    pub fn state(&self) -> LinkState {
        self.state
    }

    /// What it has counted.
    pub fn counters(&self) -> Counters {
        Counters {
            events_dropped: self.events.dropped(),
            ..self.counters
        }
    }

    /// The versions agreed on, while the service works.
    pub fn versions(&self) -> Option<Versions> {
        match self.state {
            LinkState::Ready(versions) => Some(versions),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn queued_events(&self) -> usize {
        self.events.len()
    }

    /// Leaves whatever state there was for `state`.
    fn enter(&mut self, state: LinkState) {
        self.outstanding = None;
        if matches!(self.state, LinkState::Ready(_)) {
            self.protocol.ended(&mut Sink(&mut self.events));
        }
        self.state = state;
    }

    fn accept(&mut self, payload: &[u8], transaction: u64, now: Time) -> Result<(), DeadReason> {
        if self
            .outstanding
            .is_none_or(|outstanding| outstanding.transaction != transaction)
        {
            self.counters.strays = self.counters.strays.saturating_add(1);
            return Ok(());
        }
        let answer = Answer::decode(payload)?;
        let expected = frame::frame_transaction(transaction);
        if answer.transaction != expected {
            return Err(DeadReason::Transaction {
                expected,
                got: answer.transaction,
            });
        }
        self.outstanding = None;
        self.counters.answered = self.counters.answered.saturating_add(1);
        match self.state {
            LinkState::Closed | LinkState::Dead(_) => Ok(()),
            LinkState::Negotiating => self.accept_choice(&answer, now),
            LinkState::Ready(_) => {
                expect_type(&answer, self.protocol.spec().message_type)?;
                self.protocol
                    .answered(answer.status, answer.body, now, &mut Sink(&mut self.events))
            }
        }
    }

    fn accept_choice(&mut self, answer: &Answer<'_>, now: Time) -> Result<(), DeadReason> {
        expect_type(answer, MessageType::NEGOTIATE)?;
        let versions = negotiate::choice(answer, self.protocol.spec().versions)?;
        self.state = LinkState::Ready(versions);
        self.events.push(Event::Negotiated(versions));
        self.protocol.negotiated(versions.message, now);
        Ok(())
    }

    /// Length of the body that is to be sent.
    fn body_len(&self) -> Option<usize> {
        if self.outstanding.is_some() {
            return None;
        }
        match self.state {
            LinkState::Negotiating => Some(negotiate::offer_len(self.protocol.spec().versions)),
            LinkState::Ready(_) => self.protocol.request_len(),
            LinkState::Closed | LinkState::Dead(_) => None,
        }
    }

    /// When the outstanding request is given up. Only asked once versions are agreed on.
    fn patience_ends(&self) -> Option<Time> {
        self.outstanding?
            .since
            .checked_add(self.protocol.spec().patience?)
    }
}

/// Checks that an answer is about what was asked.
fn expect_type(answer: &Answer<'_>, expected: MessageType) -> Result<(), DeadReason> {
    let got = answer.message_type;
    if got == expected {
        Ok(())
    } else {
        Err(DeadReason::MessageType { expected, got })
    }
}

impl<P: Protocol> Service for Integration<P> {
    fn id(&self) -> ServiceId {
        self.protocol.spec().id
    }

    fn opened(&mut self, _now: Time) {
        self.enter(LinkState::Negotiating);
    }

    fn closed(&mut self, _now: Time) {
        self.enter(LinkState::Closed);
    }

    fn received(&mut self, payload: &[u8], transaction: u64, now: Time) -> Result<(), DeadReason> {
        if matches!(self.state, LinkState::Closed | LinkState::Dead(_)) {
            self.counters.strays = self.counters.strays.saturating_add(1);
            return Ok(());
        }
        let result = self.accept(payload, transaction, now);
        match result {
            Ok(()) => self.tick(now),
            Err(reason) => {
                self.enter(LinkState::Dead(reason));
                self.events.push(Event::Dead(reason));
            }
        }
        result
    }

    fn tick(&mut self, now: Time) {
        if !matches!(self.state, LinkState::Ready(_)) {
            return;
        }
        if self.patience_ends().is_some_and(|end| end <= now) {
            self.outstanding = None;
            self.counters.unanswered = self.counters.unanswered.saturating_add(1);
            self.protocol.unanswered(now, &mut Sink(&mut self.events));
        }
        self.protocol.tick(now, &mut Sink(&mut self.events));
    }

    fn next_deadline(&self) -> Option<Time> {
        if !matches!(self.state, LinkState::Ready(_)) {
            return None;
        }
        self.patience_ends()
            .into_iter()
            .chain(self.protocol.deadline())
            .min()
    }

    fn packet_len(&self) -> Option<usize> {
        Some(HEADER_LEN.saturating_add(self.body_len()?))
    }

    fn take_packet(&mut self, now: Time, clocks: &mut dyn FnMut() -> Clocks) -> Option<Packet> {
        self.body_len()?;
        let spec = self.protocol.spec();
        let (message_type, versions, body) = match self.state {
            LinkState::Ready(versions) => (
                spec.message_type,
                versions,
                self.protocol.request(now, clocks),
            ),
            // Nothing is agreed on yet; Linux does not look at the versions in this header.
            _ => {
                let none = Versions {
                    framework: Version::default(),
                    message: Version::default(),
                };
                (
                    MessageType::NEGOTIATE,
                    none,
                    negotiate::offer(spec.versions),
                )
            }
        };
        let transaction = self.last_transaction.checked_add(1).unwrap_or(1);
        self.last_transaction = transaction;
        self.outstanding = Some(Outstanding {
            transaction,
            since: now,
        });
        self.counters.sent = self.counters.sent.saturating_add(1);
        let payload = frame::request(
            message_type,
            versions.framework,
            versions.message,
            transaction,
            &body,
        );
        Some(Packet {
            transaction,
            payload,
        })
    }

    fn take_event(&mut self) -> Option<Event> {
        self.events.pop()
    }
}
