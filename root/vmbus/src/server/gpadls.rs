//! GPADL messages.

use alloc::vec::Vec;

use super::channel::State;
use super::{DropReason, Effect, Server};
use crate::gpadl::{BodyError, GpadlError, GuestMemoryMap, Progress};
use crate::protocol::{
    GpadlBody, GpadlCreated, GpadlHandle, GpadlHeader, GpadlTeardown, GpadlTorndown, Relid, Status,
};

/// A GPADL that is on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Teardown {
    /// GPADL_TORNDOWN messages that the guest waits for.
    answers: usize,
    /// The caller was told to release it.
    told: bool,
}

impl Server {
    pub(super) fn gpadl_header(
        &mut self,
        memory: &impl GuestMemoryMap,
        message: &GpadlHeader,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let (relid, handle) = (message.relid, message.handle);
        self.usable(relid)?;
        let size = (message.range_buflen, message.range_count);
        match self.gpadls.header(memory, relid, handle, size, bytes) {
            Ok(Progress::Complete) => self.send_created(relid, handle, Status::SUCCESS),
            Ok(Progress::Assembling) => {}
            Err(error) => self.send_created(relid, handle, refusal(error)),
        }
        Ok(())
    }

    pub(super) fn gpadl_body(
        &mut self,
        memory: &impl GuestMemoryMap,
        message: &GpadlBody,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let handle = message.handle;
        match self.gpadls.body(memory, handle, bytes) {
            Ok((relid, Progress::Complete)) => self.send_created(relid, handle, Status::SUCCESS),
            Ok((_, Progress::Assembling)) => {}
            Err(BodyError::Refused { relid, error }) => {
                self.send_created(relid, handle, refusal(error));
            }
            Err(BodyError::Unexpected) => return Err(DropReason::UnexpectedBody),
        }
        Ok(())
    }

    fn send_created(&mut self, relid: Relid, handle: GpadlHandle, status: Status) {
        self.send(&GpadlCreated {
            relid,
            handle,
            status,
            ..GpadlCreated::empty()
        });
    }

    /// GPADL_TEARDOWN is always answered (trap 15), also after a rescind, and for a GPADL that was refused. The handle alone
    /// names the GPADL, as in a body and in the answer.
    pub(super) fn gpadl_teardown(&mut self, message: &GpadlTeardown) {
        let handle = message.handle;
        let Some(owner) = self.gpadls.owner(handle) else {
            self.send_torndown(handle);
            return;
        };
        if self.gpadls.get(handle).is_none() {
            self.gpadls.remove(handle);
            self.send_torndown(handle);
            return;
        }
        self.outbox.promise();
        self.begin_teardown(handle).answers += 1;
        let uses_it = |channel: &super::Channel| {
            channel.ring_gpadl == handle && channel.state != State::Closed
        };
        if self.channels.get(&owner).is_some_and(uses_it) {
            self.stop(owner);
        }
        self.settle(owner);
    }

    fn begin_teardown(&mut self, handle: GpadlHandle) -> &mut Teardown {
        self.teardowns.entry(handle).or_insert(Teardown {
            answers: 0,
            told: false,
        })
    }

    fn send_torndown(&mut self, handle: GpadlHandle) {
        self.send(&GpadlTorndown {
            handle,
            ..GpadlTorndown::empty()
        });
    }

    /// Begins to release all complete GPADLs of a channel, or of the guest, without answers of its own.
    pub(super) fn release_gpadls(&mut self, relid: Option<Relid>) {
        let handles: Vec<_> = self.gpadls.complete(relid).collect();
        for handle in handles {
            self.begin_teardown(handle);
        }
    }

    /// Nobody waits for an answer any more.
    pub(super) fn forget_teardown_answers(&mut self) {
        for teardown in self.teardowns.values_mut() {
            teardown.answers = 0;
        }
    }

    /// Does what has become possible for a channel: tells the caller to release GPADLs that nothing of the channel can
    /// access any more, and ends the channel if it was released.
    pub(super) fn settle(&mut self, relid: Relid) {
        let Some(channel) = self.channels.get(&relid) else {
            return;
        };
        // An open channel keeps its rings; stop() was called for those that are being torn down. A channel that is
        // starting or stopping may access any memory.
        if channel.is_busy() && channel.state != State::Open {
            return;
        }
        for (handle, teardown) in &mut self.teardowns {
            if !teardown.told && self.gpadls.owner(*handle) == Some(relid) {
                teardown.told = true;
                self.effects.push_back(Effect::ReleaseGpadl {
                    relid,
                    handle: *handle,
                });
            }
        }
        let is_over = channel.released && !channel.is_busy();
        if is_over && self.gpadls.complete(Some(relid)).next().is_none() {
            self.remove_channel(relid);
        }
    }

    /// The caller has released a GPADL.
    pub(super) fn end_teardown(&mut self, handle: GpadlHandle) -> bool {
        let Some(teardown) = self
            .teardowns
            .get(&handle)
            .copied()
            .filter(|teardown| teardown.told)
        else {
            return false;
        };
        self.teardowns.remove(&handle);
        let owner = self.gpadls.owner(handle);
        self.gpadls.remove(handle);
        for _ in 0..teardown.answers {
            self.outbox.redeem();
            self.send_torndown(handle);
        }
        if let Some(owner) = owner {
            self.settle(owner);
        }
        true
    }
}

/// What the guest is told.
fn refusal(error: GpadlError) -> Status {
    match error {
        GpadlError::Limit => Status::INSUFFICIENT_RESOURCES,
        _ => Status::INVALID_PARAMETER,
    }
}
