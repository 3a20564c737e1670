//! RAM of the tests.

use std::cell::Cell;

use super::*;

/// RAM that a test has in hand too.
#[derive(Clone)]
pub struct TestRam(Rc<RefCell<VecRam>>, Rc<Cell<bool>>);

impl TestRam {
    pub fn new(ram: VecRam) -> Self {
        Self(Rc::new(RefCell::new(ram)), Rc::default())
    }

    /// There is no memory for a larger map any more.
    pub fn refuse_room(&self) {
        self.1.set(true);
    }
}

impl GuestRam for TestRam {
    fn layout(&self) -> RamLayout {
        self.0.borrow().layout()
    }

    fn is_ram(&self, gpa: u64, len: u64) -> bool {
        self.0.borrow().is_ram(gpa, len)
    }

    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRam> {
        self.0.borrow().read(gpa, buf)
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam> {
        self.write_shared(gpa, data)
    }
}

impl SharedRam for TestRam {
    fn write_shared(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam> {
        self.0.borrow_mut().write(gpa, data)
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, OutOfRam> {
        assert!(gpa.is_multiple_of(4));
        let mut word = [0; 4];
        self.read(gpa, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), OutOfRam> {
        assert!(gpa.is_multiple_of(4));
        self.write_shared(gpa, &value.to_le_bytes())
    }

    fn make_room(&self, pages: Range<u64>) -> bool {
        !self.1.get() && self.0.borrow_mut().make_room(pages).is_ok()
    }

    fn set_present(&self, pages: Range<u64>, present: bool) {
        self.0.borrow_mut().set_present(pages, present);
    }
}
