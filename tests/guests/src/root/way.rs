//! Ways through ports and connections: the calls, with what Linux and the VMM crates put into them.

use tlfs::{
    HvCallCode, HvConnectionId, HvConnectionInfo, HvInputConnectPort, HvInputCreatePort,
    HvInputDeletePort, HvInputDisconnectPort, HvInputPostMessage, HvInputPostMessageDirect,
    HvInputSignalEvent, HvInputSignalEventDirect, HvMessage, HvMessageType, HvPartitionId,
    HvPortId, HvPortInfo, HvPortType, HvStatus, HvVpIndex,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Root, report};

/// A port and the connection to it, both by the same number.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Who sends.
    pub from: HvPartitionId,
    /// Who receives.
    pub to: HvPartitionId,
    /// The number.
    pub id: u32,
}

impl Way {
    /// A way that is not open.
    pub const fn new(from: HvPartitionId, to: HvPartitionId, id: u32) -> Self {
        Self { from, to, id }
    }

    /// The port.
    pub fn port(&self) -> HvPortId {
        HvPortId::from_bits(self.id)
    }

    /// The connection.
    pub fn connection(&self) -> HvConnectionId {
        HvConnectionId::from_bits(self.id)
    }

    /// CreatePort, and its status.
    pub fn create(&self, root: &mut Root, info: HvPortInfo) -> HvStatus {
        let input = HvInputCreatePort {
            port_partition: self.to,
            port_id: self.port(),
            connection_partition: self.from,
            port_info: info,
            ..HvInputCreatePort::new_zeroed()
        };
        paid(root, self.to, HvCallCode::CREATE_PORT, input.as_bytes())
    }

    /// ConnectPort, and its status.
    pub fn connect(&self, root: &mut Root, kind: HvPortType) -> HvStatus {
        let input = HvInputConnectPort {
            connection_partition: self.from,
            connection_id: self.connection(),
            port_partition: self.to,
            port_id: self.port(),
            connection_info: HvConnectionInfo::plain(kind),
            ..HvInputConnectPort::new_zeroed()
        };
        paid(root, self.from, HvCallCode::CONNECT_PORT, input.as_bytes())
    }

    /// Both, which must succeed.
    #[track_caller]
    pub fn open(self, root: &mut Root, info: HvPortInfo) -> Self {
        let created = self.create(root, info);
        report::status(created, HvStatus::SUCCESS, "CreatePort");
        let connected = self.connect(root, info.port_type);
        report::status(connected, HvStatus::SUCCESS, "ConnectPort");
        self
    }

    /// DisconnectPort.
    pub fn disconnect(&self, root: &Root) -> HvStatus {
        let input = HvInputDisconnectPort {
            connection_partition: self.from,
            connection_id: self.connection(),
            ..HvInputDisconnectPort::new_zeroed()
        };
        root.calls.order(HvCallCode::DISCONNECT_PORT, &input)
    }

    /// DeletePort, fast as Linux makes it.
    pub fn delete(&self, root: &Root) -> HvStatus {
        let input = HvInputDeletePort {
            port_partition: self.to,
            port_id: self.port(),
            reserved: 0,
        };
        let [first, second]: [u64; 2] = zerocopy::transmute!(input);
        root.calls.fast(HvCallCode::DELETE_PORT, first, second)
    }

    /// Both, which must succeed.
    #[track_caller]
    pub fn close(&self, root: &Root) {
        report::status(self.disconnect(root), HvStatus::SUCCESS, "DisconnectPort");
        report::status(self.delete(root), HvStatus::SUCCESS, "DeletePort");
    }
}

/// A call that may need memory of a partition's pool.
fn paid(root: &mut Root, pool: HvPartitionId, code: HvCallCode, input: &[u8]) -> HvStatus {
    root.pay(pool, "a port or a connection", |calls| {
        let status = calls.order(code, input);
        match status.memory_shortage() {
            Some(_) => Err(status),
            None => Ok(status),
        }
    })
}

/// PostMessage's input.
pub fn message(connection: HvConnectionId, kind: u32, payload: &[u8]) -> HvInputPostMessage {
    let mut input = HvInputPostMessage {
        connection_id: connection,
        message_type: HvMessageType(kind),
        payload_size: payload.len() as u32,
        ..HvInputPostMessage::new_zeroed()
    };
    input.payload[..payload.len()].copy_from_slice(payload);
    input
}

/// PostMessage of the root's.
pub fn post(root: &Root, way: &Way, kind: u32, payload: &[u8]) -> HvStatus {
    let input = message(way.connection(), kind, payload);
    root.calls.order(HvCallCode::POST_MESSAGE, &input)
}

/// What SignalEvent has in RDX.
pub fn event(connection: HvConnectionId, flag: u16) -> u64 {
    zerocopy::transmute!(HvInputSignalEvent {
        connection_id: connection,
        flag_number: flag,
        reserved: 0,
    })
}

/// SignalEvent of the root's.
pub fn signal(root: &Root, way: &Way, flag: u16) -> HvStatus {
    let input = event(way.connection(), flag);
    root.calls.fast(HvCallCode::SIGNAL_EVENT, input, 0)
}

/// PostMessageDirect's input, for a message of a few bytes.
pub fn direct_message(
    to: HvPartitionId,
    vp: HvVpIndex,
    sint: u32,
    kind: HvMessageType,
) -> HvInputPostMessageDirect {
    let content = HvMessage::new(kind, 0, b"direct").unwrap_or_else(HvMessage::new_zeroed);
    HvInputPostMessageDirect::new(to, vp, sint, &content)
}

/// SignalEventDirect's input.
pub fn direct_event(
    to: HvPartitionId,
    vp: HvVpIndex,
    sint: u32,
    flag: u16,
) -> HvInputSignalEventDirect {
    HvInputSignalEventDirect {
        target_partition: to,
        target_vp: vp,
        target_sint: sint as u8,
        flag_number: flag,
        ..HvInputSignalEventDirect::new_zeroed()
    }
}
