//! What the host's devices say and ask.

use super::channel::State;
use super::{EventFlag, Server};
use crate::gpadl::{Gpadl, Rings};
use crate::protocol::{GpadlHandle, NO_INTERRUPT_VP, Relid, Status, Version};

/// A call of the host that does not fit the state: a mistake of the host's own, or too late because the guest has
/// changed it meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// No such channel.
    #[error("no such channel")]
    UnknownChannel,
    /// No such GPADL that is to be released.
    #[error("no such GPADL to be released")]
    UnknownGpadl,
    /// The channel's state does not ask for this.
    #[error("the channel's state does not ask for this")]
    State,
}

impl Server {
    /// The result of an [`super::Effect::OpenChannel`]. With success the guest may be signalled from now on; if it has
    /// closed the channel meanwhile, the next effect says so.
    ///
    /// # Errors
    /// If the channel is not being opened.
    pub fn open_result(
        &mut self,
        relid: Relid,
        result: Result<(), Status>,
    ) -> Result<(), HostError> {
        let channel = self
            .channels
            .get_mut(&relid)
            .ok_or(HostError::UnknownChannel)?;
        let State::Opening {
            open_id,
            answer,
            abandoned,
        } = channel.state
        else {
            return Err(HostError::State);
        };
        channel.state = match result {
            Ok(()) => State::Open,
            Err(_) => State::Closed,
        };
        if answer {
            self.outbox.redeem();
            let status = match result {
                Ok(()) => Status::SUCCESS,
                // 0 would be success.
                Err(Status::SUCCESS) => Status::UNSUCCESSFUL,
                Err(status) => status,
            };
            self.send_open_result(relid, open_id, status);
        }
        if abandoned {
            self.stop(relid);
        }
        self.settle(relid);
        self.try_reconnect();
        Ok(())
    }

    /// An [`super::Effect::CloseChannel`] is done: nothing of the channel accesses guest memory any more.
    ///
    /// # Errors
    /// If the channel is not being closed.
    pub fn closed(&mut self, relid: Relid) -> Result<(), HostError> {
        let channel = self
            .channels
            .get_mut(&relid)
            .ok_or(HostError::UnknownChannel)?;
        if channel.state != State::Closing {
            return Err(HostError::State);
        }
        channel.state = State::Closed;
        self.settle(relid);
        self.try_reconnect();
        Ok(())
    }

    /// An [`super::Effect::ReleaseGpadl`] is done: nothing accesses its pages any more.
    ///
    /// # Errors
    /// If it is not to be released.
    pub fn gpadl_released(&mut self, handle: GpadlHandle) -> Result<(), HostError> {
        if !self.end_teardown(handle) {
            return Err(HostError::UnknownGpadl);
        }
        self.try_reconnect();
        Ok(())
    }

    /// The device of an open channel has stopped for good, because a ring is dead or for reasons of its own: nothing of
    /// the channel accesses guest memory any more. The guest is not told, and is not signalled again, until it closes the
    /// channel; there is no message for it but a rescind.
    ///
    /// # Errors
    /// If the channel is not open.
    pub fn fail(&mut self, relid: Relid) -> Result<(), HostError> {
        let channel = self
            .channels
            .get_mut(&relid)
            .ok_or(HostError::UnknownChannel)?;
        if channel.state != State::Open {
            return Err(HostError::State);
        }
        channel.state = State::Failed;
        self.settle(relid);
        Ok(())
    }

    /// The flag to set when a ring says [`crate::ring::Signal::Needed`]: on the VP that OPENCHANNEL or MODIFYCHANNEL named
    /// (trap 31). `None` if the channel is not open, or the guest wants no interrupts (trap 32).
    #[inline]
    pub fn event_flag(&self, relid: Relid) -> Option<EventFlag> {
        let sint = self.connection.connected()?.target.sint;
        let channel = self.channels.get(&relid)?;
        let wants_interrupts = channel.state == State::Open && channel.target_vp != NO_INTERRUPT_VP;
        wants_interrupts.then_some(EventFlag {
            vp: channel.target_vp,
            sint,
            // Relids are below 2048.
            flag: relid.0 as u16,
        })
    }

    /// The memory of the rings of a channel that is being opened or is open.
    pub fn open_rings(&self, relid: Relid) -> Option<Rings<'_>> {
        let channel = self.channels.get(&relid)?;
        if !channel.is_busy() {
            return None;
        }
        let gpadl = self.gpadls.get(channel.ring_gpadl)?;
        gpadl.rings(channel.downstream_pages).ok()
    }

    /// A GPADL of the guest for a channel of that device, to be used until it is to be released. A guest that names one
    /// that is on its way out, or another channel's, gets nothing.
    pub fn gpadl(&self, relid: Relid, handle: GpadlHandle) -> Option<&Gpadl> {
        let is_usable =
            self.gpadls.owner(handle) == Some(relid) && !self.teardowns.contains_key(&handle);
        is_usable.then(|| self.gpadls.get(handle)).flatten()
    }

    /// All complete GPADLs, those on their way out included.
    pub fn gpadls(&self) -> impl Iterator<Item = (GpadlHandle, &Gpadl)> {
        let complete = self.gpadls.complete(None);
        complete.filter_map(|handle| Some((handle, self.gpadls.get(handle)?)))
    }

    /// Whether the channel is open.
    pub fn is_open(&self, relid: Relid) -> bool {
        self.channels
            .get(&relid)
            .is_some_and(|channel| channel.state == State::Open)
    }

    /// The version of the guest that is connected.
    pub fn version(&self) -> Option<Version> {
        self.connection.version()
    }
}
