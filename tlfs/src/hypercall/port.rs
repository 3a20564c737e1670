//! Ports, connections, messages, events (root sheet A.3.7 and C.1, guest sheet 6.1 and 6.2).

use zerocopy::FromZeros;

use crate::ids::{
    HvConnectionId, HvInputVtl, HvPartitionId, HvPortId, HvProximityDomainInfo, HvVpIndex,
};
use crate::macros::{wire_enum, wire_flags, wire_struct};
use crate::message::{HvMessage, HvMessageType};

wire_enum! {
    /// Type of a port.
    pub struct HvPortType(u32);
    MESSAGE = 1, "HvPortTypeMessage";
    EVENT = 2, "HvPortTypeEvent";
    MONITOR = 3, "HvPortTypeMonitor";
    DOORBELL = 4, "HvPortTypeDoorbell";
}

wire_struct! {
    /// What a port does. The published field table puts SINT and VP into single bytes: misprint.
    pub struct HvPortInfo [24] {
        /// Type; the other fields depend on it.
        port_type @ 0: HvPortType,
        /// Zero.
        padding @ 4: u32,
        /// SINT, 1 to 15. Of a monitor port the low half of the monitor page's address.
        target_sint @ 8: u32,
        /// VP, or ANY. Of a monitor port the high half of the monitor page's address.
        target_vp @ 12: HvVpIndex,
        /// Of an event port: its flag 0.
        base_flag_number @ 16: u16,
        /// Of an event port: how many flags it has.
        flag_count @ 18: u16,
        /// Zero.
        reserved @ 20: u32,
    }
}

impl HvPortInfo {
    const EMPTY: Self = Self {
        port_type: HvPortType(0),
        padding: 0,
        target_sint: 0,
        target_vp: HvVpIndex(0),
        base_flag_number: 0,
        flag_count: 0,
        reserved: 0,
    };

    /// A message port.
    pub const fn message(target_sint: u32, target_vp: HvVpIndex) -> Self {
        Self {
            port_type: HvPortType::MESSAGE,
            target_sint,
            target_vp,
            ..Self::EMPTY
        }
    }

    /// An event port of `flag_count` flags from `base_flag_number` on.
    pub const fn event(
        target_sint: u32,
        target_vp: HvVpIndex,
        base_flag_number: u16,
        flag_count: u16,
    ) -> Self {
        Self {
            port_type: HvPortType::EVENT,
            target_sint,
            target_vp,
            base_flag_number,
            flag_count,
            ..Self::EMPTY
        }
    }

    /// A monitor port.
    pub const fn monitor(page_address: u64) -> Self {
        Self {
            port_type: HvPortType::MONITOR,
            target_sint: page_address as u32,
            target_vp: HvVpIndex((page_address >> 32) as u32),
            ..Self::EMPTY
        }
    }

    /// A doorbell port.
    pub const fn doorbell(target_sint: u32, target_vp: HvVpIndex) -> Self {
        Self {
            port_type: HvPortType::DOORBELL,
            target_sint,
            target_vp,
            ..Self::EMPTY
        }
    }

    /// Address of a monitor port's page.
    pub const fn monitor_address(&self) -> u64 {
        self.target_sint as u64 | (self.target_vp.0 as u64) << 32
    }
}

wire_flags! {
    /// When a doorbell rings.
    pub struct HvDoorbellFlags(u64);
    /// The size of the write: all bits of the field.
    TRIGGER_SIZE_MASK = 0x7;
    /// A write of 1 byte. No bit of the field: any size.
    TRIGGER_SIZE_BYTE = 0x1;
    /// A write of 2 bytes.
    TRIGGER_SIZE_WORD = 0x2;
    /// A write of 4 bytes.
    TRIGGER_SIZE_DWORD = 0x3;
    /// A write of 8 bytes.
    TRIGGER_SIZE_QWORD = 0x4;
    /// Any value, not only the trigger value.
    TRIGGER_ANY_VALUE = 0x8000_0000;
}

impl HvDoorbellFlags {
    /// Bytes of the write that rings: `Some(None)` for any, `None` for a size that does not exist.
    pub const fn trigger_size(self) -> Option<Option<u64>> {
        match self.0 & Self::TRIGGER_SIZE_MASK.0 {
            0 => Some(None),
            size @ 1..=4 => Some(Some(1 << (size - 1))),
            _ => None,
        }
    }
}

wire_struct! {
    /// What a connection does.
    pub struct HvConnectionInfo [32] {
        /// Type; must be the port's.
        port_type @ 0: HvPortType,
        /// Zero.
        padding @ 4: u32,
        /// Of a doorbell: guest address. Of a monitor connection: address of its page.
        gpa @ 8: u64,
        /// Of a doorbell: the value that rings.
        trigger_value @ 16: u64,
        /// Of a doorbell: when it rings.
        flags @ 24: HvDoorbellFlags,
    }
}

impl HvConnectionInfo {
    /// The sender's end of a message or event port.
    pub const fn plain(port_type: HvPortType) -> Self {
        Self {
            port_type,
            padding: 0,
            gpa: 0,
            trigger_value: 0,
            flags: HvDoorbellFlags(0),
        }
    }

    /// A doorbell at guest address `gpa`.
    pub const fn doorbell(gpa: u64, trigger_value: u64, flags: HvDoorbellFlags) -> Self {
        Self {
            gpa,
            trigger_value,
            flags,
            ..Self::plain(HvPortType::DOORBELL)
        }
    }
}

wire_struct! {
    /// Input of CreatePort. Caller: a parent that names the two partitions.
    pub struct HvInputCreatePort [56] {
        /// Receiver.
        port_partition @ 0: HvPartitionId,
        /// Id in the receiver's numbers.
        port_id @ 8: HvPortId,
        /// Trust level.
        port_vtl @ 12: HvInputVtl,
        /// Lowest trust level that may connect.
        min_connection_vtl @ 13: u8,
        /// Zero.
        padding @ 14: u16,
        /// Sender.
        connection_partition @ 16: HvPartitionId,
        /// What it does.
        port_info @ 24: HvPortInfo,
        /// Where memory should come from.
        proximity_domain_info @ 48: HvProximityDomainInfo,
    }
}

wire_struct! {
    /// Input of ConnectPort.
    pub struct HvInputConnectPort [72] {
        /// Sender.
        connection_partition @ 0: HvPartitionId,
        /// Id in the sender's numbers.
        connection_id @ 8: HvConnectionId,
        /// Trust level.
        connection_vtl @ 12: HvInputVtl,
        /// Zero.
        reserved_13 @ 13: [u8; 3],
        /// Receiver.
        port_partition @ 16: HvPartitionId,
        /// Id in the receiver's numbers.
        port_id @ 24: HvPortId,
        /// Zero.
        reserved_28 @ 28: u32,
        /// What it does.
        connection_info @ 32: HvConnectionInfo,
        /// Where memory should come from.
        proximity_domain_info @ 64: HvProximityDomainInfo,
    }
}

wire_struct! {
    /// Input of DeletePort. Linux passes it fast.
    pub struct HvInputDeletePort [16] {
        /// Receiver.
        port_partition @ 0: HvPartitionId,
        /// Port.
        port_id @ 8: HvPortId,
        /// Zero.
        reserved @ 12: u32,
    }
}

wire_struct! {
    /// Input of DisconnectPort. Linux passes it fast.
    pub struct HvInputDisconnectPort [16] {
        /// Sender.
        connection_partition @ 0: HvPartitionId,
        /// Connection.
        connection_id @ 8: HvConnectionId,
        /// Bit 0: a doorbell.
        is_doorbell @ 12: u32,
    }
}

wire_struct! {
    /// Input of PostMessage.
    pub struct HvInputPostMessage [256] {
        /// Connection.
        connection_id @ 0: HvConnectionId,
        /// Zero.
        reserved @ 4: u32,
        /// Type; bit 31 must be clear.
        message_type @ 8: HvMessageType,
        /// Bytes of the payload that count, at most 240.
        payload_size @ 12: u32,
        /// Payload.
        payload @ 16: [u8; 240],
    }
}

wire_struct! {
    /// Input of SignalEvent. Linux passes it fast.
    pub struct HvInputSignalEvent [8] {
        /// Connection.
        connection_id @ 0: HvConnectionId,
        /// Flag, counted from the port's flag 0.
        flag_number @ 4: u16,
        /// Zero.
        reserved @ 6: u16,
    }
}

wire_struct! {
    /// Input of SignalEventDirect.
    pub struct HvInputSignalEventDirect [16] {
        /// Child.
        target_partition @ 0: HvPartitionId,
        /// VP.
        target_vp @ 8: HvVpIndex,
        /// Trust level.
        target_vtl @ 12: HvInputVtl,
        /// SINT.
        target_sint @ 13: u8,
        /// Flag in the SINT's block of the SIEF page.
        flag_number @ 14: u16,
    }
}

wire_struct! {
    /// Output of SignalEventDirect.
    pub struct HvOutputSignalEventDirect [8] {
        /// 1: the flag was clear before.
        newly_signaled @ 0: u8,
        /// Zero.
        reserved @ 1: [u8; 7],
    }
}

wire_struct! {
    /// Input of PostMessageDirect: puts a whole message into a child's SIM slot.
    ///
    /// The published table has the SINT at 13 and a payload of 240 bytes at 16; this is the layout that Linux and
    /// OpenVMM use, which runs. The message lies at an offset that does not suit its alignment, hence as bytes.
    pub struct HvInputPostMessageDirect [280] {
        /// Child.
        partition_id @ 0: HvPartitionId,
        /// VP.
        vp_index @ 8: HvVpIndex,
        /// Trust level.
        vtl @ 12: HvInputVtl,
        /// Zero.
        reserved @ 13: [u8; 3],
        /// SINT.
        sint_index @ 16: u32,
        /// The message.
        message_bytes @ 20: [u8; 256],
        /// Padding.
        padding @ 276: u32,
    }
}

impl HvInputPostMessageDirect {
    /// Input that puts `message` into the slot of SINT `sint_index`.
    pub fn new(
        partition_id: HvPartitionId,
        vp_index: HvVpIndex,
        sint_index: u32,
        message: &HvMessage,
    ) -> Self {
        let mut input = Self::new_zeroed();
        input.partition_id = partition_id;
        input.vp_index = vp_index;
        input.sint_index = sint_index;
        input.message_bytes = zerocopy::transmute!(*message);
        input
    }

    /// The message.
    pub fn message(&self) -> HvMessage {
        zerocopy::transmute!(self.message_bytes)
    }
}

wire_struct! {
    /// Input of NotifyPortRingEmpty. Linux passes it fast.
    pub struct HvInputNotifyPortRingEmpty [8] {
        /// SINT.
        sint_index @ 0: u32,
        /// Zero.
        reserved @ 4: u32,
    }
}
