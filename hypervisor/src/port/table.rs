//! The ports and the connections of a partition.

use arrayvec::ArrayVec;
use spin::Mutex;
use tlfs::{
    HV_EVENT_FLAGS_COUNT, HV_SYNIC_SINT_COUNT, HvConnectionId, HvMessage, HvPartitionId, HvPortId,
    HvPortInfo, HvPortType, HvStatus,
};

use super::{MessageQueue, Objects};
use crate::mem::page_box::PageBox;
use crate::partition::MAX_VPS;
use crate::synic::{Message, Signal, Sint, VpSynic};

/// What a port does.
#[derive(Debug)]
pub enum Kind {
    /// Takes messages.
    Message(MessageQueue),
    /// Takes events.
    Event {
        /// Its flag 0.
        base: u16,
        /// How many flags it has.
        count: u16,
    },
}

impl Kind {
    /// What ports of this kind are called.
    pub const fn port_type(&self) -> HvPortType {
        match self {
            Self::Message(_) => HvPortType::MESSAGE,
            Self::Event { .. } => HvPortType::EVENT,
        }
    }

    /// The flags of an event port.
    ///
    /// # Errors
    /// INVALID_PARAMETER if there are none, or not so many.
    pub fn event(info: &HvPortInfo) -> Result<Self, HvStatus> {
        let (base, count) = (info.base_flag_number, info.flag_count);
        match base.checked_add(count) {
            Some(end) if end <= HV_EVENT_FLAGS_COUNT && count != 0 => {
                Ok(Self::Event { base, count })
            }
            _ => Err(HvStatus::INVALID_PARAMETER),
        }
    }
}

/// Where things that come through a port go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// SINT, 1 to 15.
    pub sint: Sint,
    /// VP; `None` for any.
    pub vp: Option<u16>,
}

/// A port.
#[derive(Debug)]
pub struct Port {
    /// Its partition.
    pub owner: HvPartitionId,
    /// Its name there.
    pub id: HvPortId,
    /// The partition that may connect.
    pub sender: HvPartitionId,
    /// The connection, if there is one.
    pub connection: Option<HvConnectionId>,
    /// What it does.
    pub kind: Kind,
    /// Where.
    pub target: Target,
    /// When it last delivered a message, counted in messages of its partition.
    served: u64,
}

impl Port {
    /// A port without a connection.
    pub const fn new(
        owner: HvPartitionId,
        id: HvPortId,
        sender: HvPartitionId,
        target: Target,
        kind: Kind,
    ) -> Self {
        Self {
            owner,
            id,
            sender,
            connection: None,
            kind,
            target,
            served: 0,
        }
    }

    /// Whether this is what a connection leads to.
    fn is_end_of(&self, sender: HvPartitionId, connection: &Connection) -> bool {
        self.owner == connection.port_owner
            && self.id == connection.port
            && self.sender == sender
            && self.connection == Some(connection.id)
    }

    /// Messages that wait in it.
    fn queued(&self) -> usize {
        match &self.kind {
            Kind::Message(queue) => queue.len(),
            Kind::Event { .. } => 0,
        }
    }
}

/// The SynICs of a partition's VPs. Their locks are inside that of the ports.
pub type Synics = [Mutex<Option<PageBox<VpSynic>>>; MAX_VPS];

/// VPs to be told, and how.
pub type Signals = ArrayVec<(u16, Signal), SLOTS>;

/// Slots that messages can be put into at once: those of one VP, and for each SINT that of the VP that takes what is for any.
const SLOTS: usize = 2 * HV_SYNIC_SINT_COUNT;

/// Ports of one partition, as they fit in a page.
const PORTS_IN_PAGE: usize = 50;
/// Connections of one partition, as they fit in a page.
const CONNECTIONS_IN_PAGE: usize = 150;

/// The ports of a partition.
#[derive(Debug, Default)]
pub struct Ports {
    /// Each.
    pub all: Objects<Port, PORTS_IN_PAGE>,
    /// Messages that all have delivered.
    served: u64,
}

impl Ports {
    /// Most ports.
    pub const CAPACITY: usize = Objects::<Port, PORTS_IN_PAGE>::CAPACITY;

    /// None.
    pub const fn new() -> Self {
        Self {
            all: Objects::new(),
            served: 0,
        }
    }

    /// The port with this name, if it is this partition's: another one may have had the place before.
    pub fn find(&mut self, owner: HvPartitionId, id: HvPortId) -> Option<&mut Port> {
        let named = |port: &&mut Port| port.owner == owner && port.id == id;
        self.all.iter_mut().find(named)
    }

    /// The other end of a connection.
    ///
    /// # Errors
    /// INVALID_PORT_ID if that is gone.
    fn end_of(
        &mut self,
        sender: HvPartitionId,
        connection: &Connection,
    ) -> Result<&mut Port, HvStatus> {
        let end = |port: &&mut Port| port.is_end_of(sender, connection);
        let found = self.all.iter_mut().find(end);
        found.ok_or(HvStatus::INVALID_PORT_ID)
    }

    /// The connection is no more.
    pub fn disconnect(&mut self, sender: HvPartitionId, connection: &Connection) {
        if let Ok(port) = self.end_of(sender, connection) {
            port.connection = None;
        }
    }

    /// Sends a message: it goes behind those that wait in the port. Who is to be told of what was put into slots.
    ///
    /// # Errors
    /// INVALID_PORT_ID if there is no such message port, INVALID_VP_INDEX if its VP is gone, INSUFFICIENT_BUFFERS if as many
    /// wait as can.
    pub fn post(
        &mut self,
        sender: HvPartitionId,
        connection: &Connection,
        mut message: HvMessage,
        synics: &Synics,
    ) -> Result<Signals, HvStatus> {
        let port = self.end_of(sender, connection)?;
        let Target { vp, sint } = port.target;
        let Kind::Message(queue) = &mut port.kind else {
            return Err(HvStatus::INVALID_PORT_ID);
        };
        if vp.is_some_and(|index| with_synic(synics, index, |_| ()).is_none()) {
            return Err(HvStatus::INVALID_VP_INDEX);
        }
        message.header.sender = port.id.0.into();
        if !queue.push(&message) {
            return Err(HvStatus::INSUFFICIENT_BUFFERS);
        }
        Ok(self.deliver(vp, sint.bit(), synics))
    }

    /// Puts messages that wait for these SINTs (bit n: SINTn) of a VP, or of any VP, into their slots: one for each slot that is
    /// free, from the port that has waited longest for its turn. Where the slot is not free, its SynIC knows that
    /// something waits. Who is to be told of what.
    pub fn deliver(&mut self, vp: Option<u16>, sints: u16, synics: &Synics) -> Signals {
        let mut signals = Signals::new();
        for waiting in self.waiting(vp, sints, synics) {
            let Some(signal) = self.deliver_next(&waiting, synics) else {
                continue;
            };
            // As many as there are elements of `waiting` at most.
            let _ = signals.try_push((waiting.vp, signal));
        }
        signals
    }

    /// What waits, once for each SINT of each VP that it is for.
    fn waiting(&self, vp: Option<u16>, sints: u16, synics: &Synics) -> ArrayVec<Waiting, SLOTS> {
        let mut all = ArrayVec::<Waiting, SLOTS>::new();
        let mut takers = None;
        for port in self.all.iter() {
            let Target { vp: to, sint } = port.target;
            let queued = port.queued();
            if queued == 0 || sints & sint.bit() == 0 || to.is_some_and(|to| vp != Some(to)) {
                continue;
            }
            let to =
                to.or_else(|| takers.get_or_insert_with(|| first_takers(synics))[sint.index()]);
            let Some(to) = to else {
                // Whoever is the first to take messages looks for them.
                for index in 0..MAX_VPS as u16 {
                    with_synic(synics, index, |synic| synic.wait(sint));
                }
                continue;
            };
            let mut found = all.iter_mut();
            match found.find(|other| (other.vp, other.sint) == (to, sint)) {
                Some(other) => {
                    other.messages += queued;
                    if port.served < other.served {
                        (other.port, other.served) = (port.id, port.served);
                    }
                }
                None => {
                    // Those of one VP, and those of any, which go to one VP for each SINT.
                    let _ = all.try_push(Waiting {
                        vp: to,
                        sint,
                        port: port.id,
                        served: port.served,
                        messages: queued,
                    });
                }
            }
        }
        all
    }

    /// Puts the next message into its slot; `None` if that is not free.
    fn deliver_next(&mut self, waiting: &Waiting, synics: &Synics) -> Option<Signal> {
        let (sint, more) = (waiting.sint, waiting.messages > 1);
        let served = self.served + 1;
        let port = self.all.iter_mut().find(|port| port.id == waiting.port)?;
        let Kind::Message(queue) = &mut port.kind else {
            return None;
        };
        let message = Message::from(queue.first()?);
        let posted = with_synic(synics, waiting.vp, |synic| {
            let posted = synic.post(sint, &message, more);
            // In one step: whoever empties the slot after this look at it finds that something waits.
            if more || posted.is_err() {
                synic.wait(sint);
            }
            posted
        });
        let signal = posted?.ok()?;
        queue.pop();
        port.served = served;
        self.served = served;
        Some(signal)
    }

    /// Sets an event flag. Who is to be told of it.
    ///
    /// # Errors
    /// INVALID_PORT_ID if there is no such event port, INVALID_PARAMETER for a flag that it does not have, INVALID_VP_INDEX if
    /// its VP is gone, INVALID_SYNIC_STATE while that takes no events.
    pub fn signal(
        &mut self,
        sender: HvPartitionId,
        connection: &Connection,
        flag: u16,
        synics: &Synics,
    ) -> Result<Signals, HvStatus> {
        let port = self.end_of(sender, connection)?;
        let Target { vp, sint } = port.target;
        let Kind::Event { base, count } = port.kind else {
            return Err(HvStatus::INVALID_PORT_ID);
        };
        // There is no overflow: `Kind::event`.
        let flag = (flag < count).then(|| base.wrapping_add(flag));
        let flag = flag.ok_or(HvStatus::INVALID_PARAMETER)?;
        let takes = |synic: &VpSynic| synic.registers().takes_events(sint);
        let index = vp
            .or_else(|| first(synics, takes))
            .ok_or(HvStatus::INVALID_SYNIC_STATE)?;
        let set = with_synic(synics, index, |synic| synic.signal_event(sint, flag));
        let (_, signal) = set.ok_or(HvStatus::INVALID_VP_INDEX)??;
        Ok([(index, signal)].into_iter().collect())
    }
}

/// What waits for one SINT of one VP.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    vp: u16,
    sint: Sint,
    /// The port whose turn it is.
    port: HvPortId,
    served: u64,
    /// Messages that wait for this SINT, in all ports.
    messages: usize,
}

/// Calls `f` with the SynIC of a VP, if there is one.
fn with_synic<R>(synics: &Synics, index: u16, f: impl FnOnce(&mut VpSynic) -> R) -> Option<R> {
    let place = synics.get(usize::from(index))?;
    place.lock().as_deref_mut().map(f)
}

/// The first VP for whose SynIC `takes` holds.
fn first(synics: &Synics, takes: impl Fn(&VpSynic) -> bool) -> Option<u16> {
    (0..MAX_VPS as u16).find(|index| with_synic(synics, *index, |synic| takes(synic)) == Some(true))
}

/// The first VP that takes messages, for each SINT. What is for any VP goes there: to the same one for as long as it takes
/// messages, so that they keep their order.
fn first_takers(synics: &Synics) -> [Option<u16>; HV_SYNIC_SINT_COUNT] {
    let mut takers = [None; HV_SYNIC_SINT_COUNT];
    for index in 0..MAX_VPS as u16 {
        with_synic(synics, index, |synic| {
            for (sint, taker) in Sint::all().zip(&mut takers) {
                if taker.is_none() && synic.registers().takes_messages(sint) {
                    *taker = Some(index);
                }
            }
        });
    }
    takers
}

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The sender's name for it.
    pub id: HvConnectionId,
    /// The partition that has the port.
    pub port_owner: HvPartitionId,
    /// The port.
    pub port: HvPortId,
}

/// The connections of a partition.
pub type Connections = Objects<Connection, CONNECTIONS_IN_PAGE>;
