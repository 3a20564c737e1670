//! Memory of one ring, in which the test is the guest.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use zerocopy::{FromBytes, IntoBytes};

use crate::protocol::{PacketDescriptor, PacketType};
use crate::ring::*;

/// An access of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read(u32, u32),
    Write(u32, u32),
    Load(u32),
    Store(u32, u32),
    Fence,
}

type Hook = Box<dyn FnMut(Access, &mut Vec<u8>)>;

/// A ring that counts accesses and lets a hook run before each, as the guest's other processors would.
#[derive(Clone)]
pub struct Fake {
    bytes: Rc<RefCell<Vec<u8>>>,
    hook: Rc<RefCell<Option<Hook>>>,
    pub log: Rc<RefCell<Vec<Access>>>,
    /// Accesses until the memory is gone.
    pub lives: Rc<Cell<usize>>,
}

impl Fake {
    /// A ring of `pages` data pages, as Linux initialises it.
    pub fn new(pages: u32) -> Self {
        let fake = Self {
            bytes: Rc::new(RefCell::new(vec![0; (DATA + pages * DATA) as usize])),
            hook: Rc::default(),
            log: Rc::default(),
            lives: Rc::new(Cell::new(usize::MAX)),
        };
        fake.poke(FEATURE_BITS, FEATURE_PENDING_SEND_SIZE);
        fake
    }

    /// Both indices at `at`.
    pub fn starting_at(self, at: u32) -> Self {
        self.poke(WRITE_INDEX, at);
        self.poke(READ_INDEX, at);
        self
    }

    /// Before each access of the host.
    pub fn before_each(&self, hook: impl FnMut(Access, &mut Vec<u8>) + 'static) {
        *self.hook.borrow_mut() = Some(Box::new(hook));
    }

    pub fn peek(&self, at: u32) -> u32 {
        word(&self.bytes.borrow(), at)
    }

    pub fn poke(&self, at: u32, value: u32) {
        set_word(&mut self.bytes.borrow_mut(), at, value);
    }

    /// Copies into the data area, around its end.
    pub fn put(&self, at: u32, from: &[u8]) {
        let mut bytes = self.bytes.borrow_mut();
        let data = &mut bytes[DATA as usize..];
        let size = data.len();
        for (index, byte) in from.iter().enumerate() {
            data[(at as usize + index) % size] = *byte;
        }
    }

    /// Copies out of the data area, around its end.
    pub fn get(&self, at: u32, len: u32) -> Vec<u8> {
        let bytes = self.bytes.borrow();
        let data = &bytes[DATA as usize..];
        (at..at + len)
            .map(|at| data[at as usize % data.len()])
            .collect()
    }

    pub fn descriptor(&self, at: u32) -> PacketDescriptor {
        PacketDescriptor::read_from_bytes(&self.get(at, 16)).unwrap()
    }

    /// The guest writes a packet of whole units at its write index, and shows it.
    pub fn produce(&self, packet_type: PacketType, id: u64, header: &[u8], payload: &[u8]) {
        let descriptor = PacketDescriptor {
            packet_type,
            data_offset8: (16 + header.len() as u16) / 8,
            length8: ((16 + header.len() + payload.len()) / 8) as u16,
            flags: 1,
            transaction_id: id,
        };
        self.produce_raw(&descriptor, header, payload);
    }

    pub fn produce_raw(&self, descriptor: &PacketDescriptor, header: &[u8], payload: &[u8]) {
        let start = self.peek(WRITE_INDEX);
        let mut packet = descriptor.as_bytes().to_vec();
        packet.extend_from_slice(header);
        packet.extend_from_slice(payload);
        packet.extend_from_slice(&(u64::from(start) << 32).to_le_bytes());
        self.put(start, &packet);
        self.poke(
            WRITE_INDEX,
            (start + packet.len() as u32) % (self.size() - DATA),
        );
    }

    fn step(&self, access: Access) -> Result<(), Gone> {
        self.log.borrow_mut().push(access);
        if let Some(hook) = &mut *self.hook.borrow_mut() {
            hook(access, &mut self.bytes.borrow_mut());
        }
        let lives = self.lives.get();
        self.lives.set(lives.saturating_sub(1));
        if lives == 0 { Err(Gone) } else { Ok(()) }
    }
}

impl core::fmt::Debug for Fake {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Fake")
    }
}

pub fn word(bytes: &[u8], at: u32) -> u32 {
    u32::from_le_bytes(bytes[at as usize..][..4].try_into().unwrap())
}

pub fn set_word(bytes: &mut [u8], at: u32, value: u32) {
    bytes[at as usize..][..4].copy_from_slice(&value.to_le_bytes());
}

impl RingMemory for Fake {
    fn size(&self) -> u32 {
        self.bytes.borrow().len() as u32
    }

    fn read(&self, at: u32, into: &mut [u8]) -> Result<(), Gone> {
        self.step(Access::Read(at, into.len() as u32))?;
        into.copy_from_slice(&self.bytes.borrow()[at as usize..][..into.len()]);
        Ok(())
    }

    fn write(&self, at: u32, from: &[u8]) -> Result<(), Gone> {
        self.step(Access::Write(at, from.len() as u32))?;
        self.bytes.borrow_mut()[at as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }

    fn load_acquire(&self, at: u32) -> Result<u32, Gone> {
        self.step(Access::Load(at))?;
        Ok(self.peek(at))
    }

    fn store_release(&self, at: u32, value: u32) -> Result<(), Gone> {
        self.step(Access::Store(at, value))?;
        self.poke(at, value);
        Ok(())
    }

    fn fence(&self) {
        let _ = self.step(Access::Fence);
    }
}
