//! Small objects in pages of a pool.

use arrayvec::ArrayVec;

use crate::mem::addr::PAGE_SIZE;
use crate::mem::page_box::{Frame, PageBox};

/// Pages of one collection.
const PAGES: usize = 4;

/// At most [`CAPACITY`](Self::CAPACITY) objects, in no order, `N` to a page. A page is there while it is needed.
#[derive(Debug)]
pub struct Objects<T, const N: usize> {
    pages: [Option<PageBox<ArrayVec<T, N>>>; PAGES],
}

/// Whether there is room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Here,
    /// In one more page.
    InNewPage,
    /// There are as many as there can be.
    None,
}

impl<T, const N: usize> Objects<T, N> {
    /// Most objects.
    pub const CAPACITY: usize = N * PAGES;
    const FITS: () = assert!(size_of::<ArrayVec<T, N>>() <= PAGE_SIZE as usize && N > 0);

    /// A page without objects.
    pub const EMPTY_PAGE: ArrayVec<T, N> = ArrayVec::new_const();

    /// None.
    pub const fn new() -> Self {
        const { Self::FITS };
        Self {
            pages: [const { None }; PAGES],
        }
    }

    /// Whether there is room.
    pub fn room(&self) -> Room {
        let mut pages = self.pages.iter();
        if pages.any(|page| page.as_ref().is_some_and(|page| !page.is_full())) {
            Room::Here
        } else if self.pages.iter().any(Option::is_none) {
            Room::InNewPage
        } else {
            Room::None
        }
    }

    /// Adds an empty page, where [`room`](Self::room) asks for one. It comes back if there is no place for it.
    ///
    /// # Errors
    /// The page.
    pub fn add_page(
        &mut self,
        page: PageBox<ArrayVec<T, N>>,
    ) -> Result<(), PageBox<ArrayVec<T, N>>> {
        match self.pages.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(page),
            None => return Err(page),
        }
        Ok(())
    }

    /// Adds an object. It comes back if there is no room.
    ///
    /// # Errors
    /// The object.
    pub fn insert(&mut self, object: T) -> Result<(), T> {
        let mut pages = self.pages.iter_mut().flatten();
        match pages.find(|page| !page.is_full()) {
            Some(page) => page.try_push(object).map_err(|error| error.element()),
            None => Err(object),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten().flat_map(|page| page.iter())
    }

    /// All of them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let pages = self.pages.iter_mut().flatten();
        pages.flat_map(|page| page.iter_mut())
    }

    /// Takes out the first one for which `wanted` holds, with the frame of its page if that is empty now.
    pub fn remove(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Option<(T, Option<Frame>)> {
        for place in &mut self.pages {
            let Some(page) = place else { continue };
            let Some(at) = page.iter().position(&mut wanted) else {
                continue;
            };
            let object = page.swap_remove(at);
            let empty = page.is_empty();
            let frame = place.take_if(|_| empty).map(PageBox::into_frame);
            return Some((object, frame));
        }
        None
    }
}

impl<T, const N: usize> Default for Objects<T, N> {
    fn default() -> Self {
        Self::new()
    }
}
