//! Kernel objects of one frame.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::addr::{PAGE_SIZE, Spfn};
use super::phys::PhysMap;

/// The sole right to use the contents of one frame. Comes from [`super::frames::FrameTable::allocate`] and goes back
/// by `release`. There is no `Drop`: a frame that is dropped stays in use until the machine stops.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a dropped frame is lost to its pool"]
pub struct Frame(Spfn);

impl Frame {
    /// Claims a frame.
    ///
    /// # Safety
    ///
    /// The frame is RAM, nobody else uses its contents, and no second `Frame` for it exists.
    pub const unsafe fn from_spfn(frame: Spfn) -> Self {
        Self(frame)
    }

    /// Its number.
    pub const fn spfn(&self) -> Spfn {
        self.0
    }

    /// Gives up the right and keeps the number (for frames that are linked in a page table).
    pub const fn into_spfn(self) -> Spfn {
        self.0
    }
}

/// Owner of a `T` that lives in a frame of its own, at most 4096 bytes. Used like a `Box`.
///
/// There is no `Drop` either: `T`'s own `drop` does not run and the frame is lost, unless [`PageBox::into_frame`] ends
/// the object. The frame's pool is not known here, so nothing else would be right.
#[must_use = "a dropped PageBox loses its frame"]
pub struct PageBox<T> {
    object: NonNull<T>,
    frame: Frame,
}

// SAFETY: a PageBox owns its T as a Box does.
unsafe impl<T: Send> Send for PageBox<T> {}
// SAFETY: a shared PageBox gives out &T only.
unsafe impl<T: Sync> Sync for PageBox<T> {}

impl<T> PageBox<T> {
    const FITS: () =
        assert!(size_of::<T>() <= PAGE_SIZE as usize && align_of::<T>() <= PAGE_SIZE as usize);

    /// Puts `value` into `frame`; the rest of the frame becomes zero.
    ///
    /// # Errors
    ///
    /// The frame and the value come back when the frame lies outside the direct map.
    pub fn new_in(phys: PhysMap, frame: Frame, value: T) -> Result<Self, (Frame, T)> {
        const { Self::FITS };
        let (Some(page), Ok(())) = (phys.frame_ptr(frame.spfn()), phys.zero_page(frame.spfn()))
        else {
            return Err((frame, value));
        };
        let object = page.cast::<T>();
        // SAFETY: 1. In bounds and aligned: a whole frame, T fits (FITS). 2. Mapped writable: contract of the PhysMap.
        // 3. Nobody else uses it: contract of Frame.
        unsafe { object.write(value) };
        Ok(Self { object, frame })
    }

    /// The frame's number, for hardware that takes physical addresses.
    pub const fn spfn(&self) -> Spfn {
        self.frame.spfn()
    }

    /// Drops the object and returns its frame (contents undefined), which the caller gives back to its pool.
    #[must_use = "a dropped frame is lost to its pool"]
    pub fn into_frame(self) -> Frame {
        // SAFETY: the object is initialized since `new_in`, and self is consumed: nobody can use it afterwards.
        unsafe { self.object.drop_in_place() };
        self.frame
    }

    /// Takes the object out and returns it with its frame.
    pub fn into_parts(self) -> (T, Frame) {
        // SAFETY: the object is initialized since `new_in`, and self is consumed: it is moved out exactly once.
        let value = unsafe { self.object.read() };
        (value, self.frame)
    }
}

impl<T> Deref for PageBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: initialized since `new_in`, owned by self, borrowed as self is.
        unsafe { self.object.as_ref() }
    }
}

impl<T> DerefMut for PageBox<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: initialized since `new_in`, owned by self, borrowed as self is.
        unsafe { self.object.as_mut() }
    }
}

impl<T: fmt::Debug> fmt::Debug for PageBox<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("PageBox")
            .field(&self.spfn())
            .field(&**self)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::addr::Spa;
    use super::super::testing::TestMemory;
    use super::*;

    fn frame(number: u64) -> Frame {
        // SAFETY: the test memory belongs to the test, which names each frame once.
        unsafe { Frame::from_spfn(Spfn(number)) }
    }

    #[test]
    fn the_object_lies_in_its_frame_and_the_rest_is_zero() {
        let memory = TestMemory::new(2);
        memory.phys().copy_to(Spa(0x5000), &[0xFF; 4096]).unwrap();
        let mut boxed = PageBox::new_in(memory.phys(), frame(5), [1u64, 2]).unwrap();
        boxed[1] = 7;
        assert_eq!(memory.phys().read_u64(Spa(0x5008)), Ok(7));
        assert_eq!(memory.phys().read_u64(Spa(0x5010)), Ok(0));
        assert_eq!(boxed.spfn(), Spfn(5));
        assert_eq!(boxed.into_frame(), frame(5));
    }

    #[test]
    fn into_frame_drops_the_object_and_into_parts_does_not() {
        let memory = TestMemory::new(2);
        let counted = Rc::new(());
        let boxed = PageBox::new_in(memory.phys(), frame(1), counted.clone()).unwrap();
        assert_eq!(Rc::strong_count(&counted), 2);
        let back = boxed.into_frame();
        assert_eq!(Rc::strong_count(&counted), 1);
        let boxed = PageBox::new_in(memory.phys(), back, counted.clone()).unwrap();
        let (inner, _frame) = boxed.into_parts();
        assert_eq!(Rc::strong_count(&counted), 2);
        drop(inner);
        assert_eq!(Rc::strong_count(&counted), 1);
    }

    #[test]
    fn a_frame_outside_the_map_comes_back_with_the_value() {
        let memory = TestMemory::new(2);
        let (back, value) = PageBox::new_in(memory.phys(), frame(512), 9u8).unwrap_err();
        assert_eq!((back.into_spfn(), value), (Spfn(512), 9));
    }
}
