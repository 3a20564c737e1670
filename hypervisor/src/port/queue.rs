//! The messages that wait in a port.

use tlfs::HvMessage;

use crate::mem::addr::PAGE_SIZE;
use crate::mem::page_box::{Frame, PageBox};

/// Messages that wait in a port at most (root sheet C.4: 16 buffers for each message port).
pub const HV_PORT_MESSAGE_BUFFERS: usize = 16;

/// What messages wait in: a page.
pub type Buffers = [HvMessage; HV_PORT_MESSAGE_BUFFERS];
const _: () = assert!(size_of::<Buffers>() == PAGE_SIZE as usize);

/// First in, first out; the buffers are a page of the port's partition.
#[derive(Debug)]
pub struct MessageQueue {
    buffers: PageBox<Buffers>,
    first: usize,
    len: usize,
}

impl MessageQueue {
    /// An empty queue in a page.
    pub const fn new(buffers: PageBox<Buffers>) -> Self {
        Self {
            buffers,
            first: 0,
            len: 0,
        }
    }

    /// Messages that wait.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// No message waits.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The message that has waited longest.
    pub fn first(&self) -> Option<&HvMessage> {
        self.buffers.get(self.first).filter(|_| !self.is_empty())
    }

    /// Puts a message behind the others. False if all buffers are in use.
    #[must_use]
    pub fn push(&mut self, message: &HvMessage) -> bool {
        let at = (self.first + self.len) % HV_PORT_MESSAGE_BUFFERS;
        if self.len == HV_PORT_MESSAGE_BUFFERS {
            return false;
        }
        if let Some(buffer) = self.buffers.get_mut(at) {
            *buffer = *message;
            self.len += 1;
        }
        true
    }

    /// Drops the message that has waited longest.
    pub fn pop(&mut self) {
        if !self.is_empty() {
            self.first = (self.first + 1) % HV_PORT_MESSAGE_BUFFERS;
            self.len -= 1;
        }
    }

    /// Ends it; its page comes back.
    pub fn into_frame(self) -> Frame {
        self.buffers.into_frame()
    }
}
