//! The driver's end of the channel.

use crate::dm::{MAX_MESSAGE, Message, Request, VERSION_2};
use crate::metal::vmbus::{self, Bus, Channel, Offer};

/// The interface of the channel, 525074dc-8985-46e2-8057-a307dc18a502.
pub const INTERFACE: [u8; 16] = [
    0xdc, 0x74, 0x50, 0x52, 0x85, 0x89, 0xe2, 0x46, 0x80, 0x57, 0xa3, 0x07, 0xdc, 0x18, 0xa5, 0x02,
];

/// Room for a packet of the host's.
pub type Buffer = [u8; MAX_MESSAGE];

/// The driver.
pub struct Driver {
    bus: Bus,
    offer: Offer,
    channel: Option<Channel>,
    id: u32,
}

impl Driver {
    /// Connects, and opens the channel. `None` if it is not offered.
    pub fn open() -> Option<Self> {
        let bus = Bus::connect();
        let offer = bus.find(&INTERFACE)?;
        let channel = Some(bus.open(offer));
        Some(Self {
            bus,
            offer,
            channel,
            id: 0,
        })
    }

    /// The channel.
    pub fn channel(&self) -> &Channel {
        self.channel.as_ref().expect("the channel is open")
    }

    /// Closes the channel, and opens it again. The driver is the same, so ids go on.
    pub fn reopen(&mut self) {
        self.close();
        self.channel = Some(self.bus.open(self.offer));
    }

    /// The same as another driver, which begins with id 1.
    pub fn renew(&mut self) {
        self.reopen();
        self.id = 0;
    }

    /// Closes the channel.
    pub fn close(&mut self) {
        if let Some(channel) = self.channel.take() {
            self.bus.close(channel);
        }
    }

    /// Sends the message that has the next id; waits for room.
    pub fn say(&mut self, message: impl FnOnce(u32) -> Message) {
        self.id += 1;
        self.send(&message(self.id));
    }

    /// Asks for version 2.0 and says what the driver can do, with new memory in units of 2^`unit` MiB.
    pub fn shake_hands(&mut self, unit: u32) {
        self.say(|id| Message::version(id, VERSION_2));
        let mut buffer = [0; MAX_MESSAGE];
        assert_eq!(self.next(&mut buffer), Request::Version(true));
        self.say(|id| Message::capabilities(id, unit));
        assert_eq!(self.next(&mut buffer), Request::Capabilities(true));
    }

    /// Sends a message; waits for room.
    pub fn send(&self, message: &Message) {
        self.send_bytes(message.bytes());
    }

    /// Sends anything; waits for room.
    pub fn send_bytes(&self, bytes: &[u8]) {
        while !self.channel().send(bytes) {
            vmbus::sleep();
        }
    }

    /// The next request, if there is one.
    pub fn request<'b>(&self, buffer: &'b mut Buffer) -> Option<Request<'b>> {
        let packet = self.channel().incoming.take(buffer)?;
        // What the driver does not know it ignores.
        Request::parse(packet)
    }

    /// The next request; sleeps until there is one.
    pub fn next<'b>(&self, buffer: &'b mut Buffer) -> Request<'b> {
        while self.channel().incoming.is_empty() {
            vmbus::sleep();
        }
        let packet = self.channel().incoming.take(buffer);
        let packet = packet.expect("the ring is not empty");
        Request::parse(packet).expect("a request that is known")
    }
}
