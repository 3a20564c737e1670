//! Where the pages of a VP's last hypercall parameters are in machine memory.
//!
//! A kernel keeps its hypercall pages, and finding one through the second level costs more than the rest of a simple
//! call. What was found holds as long as no translation has been taken away or narrowed (the domain's generation).

use crate::arch::exit::Access;
use crate::mem::addr::{Gpa, Gpfn, Spa, Spfn};

#[derive(Clone, Copy, Debug)]
struct Place {
    /// The domain's, when it was found; 0 if nothing is known.
    generation: u64,
    page: Gpfn,
    frame: Spfn,
}

const NOWHERE: Place = Place {
    generation: 0,
    page: Gpfn(0),
    frame: Spfn(0),
};

/// One page that was read, and one that was written.
#[derive(Clone, Debug)]
pub struct PageCache {
    read: Place,
    written: Place,
}

impl PageCache {
    /// Nothing is known.
    pub const fn new() -> Self {
        Self {
            read: NOWHERE,
            written: NOWHERE,
        }
    }

    /// Where `gpa` is, if its page was found before and no translation has gone since.
    #[inline(always)]
    pub fn find(&self, gpa: Gpa, access: Access, generation: u64) -> Option<Spa> {
        let place = match access {
            Access::Write => &self.written,
            Access::Read | Access::Execute => &self.read,
        };
        let known = place.page == gpa.page() && place.generation == generation;
        known.then(|| Spa(place.frame.address().0 + gpa.offset() as u64))
    }

    /// Keeps where `gpa` was found, while the domain had this generation.
    #[inline(always)]
    pub fn keep(&mut self, gpa: Gpa, access: Access, generation: u64, found: Spa) {
        let place = match access {
            Access::Write => &mut self.written,
            Access::Read | Access::Execute => &mut self.read,
        };
        *place = Place {
            generation,
            page: gpa.page(),
            frame: found.page(),
        };
    }
}

impl Default for PageCache {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_for_its_access_until_a_translation_goes() {
        let mut pages = PageCache::new();
        let (gpa, found) = (Gpa(0x5008), Spa(0x9008));
        assert_eq!(pages.find(Gpa(0), Access::Read, 1), None);
        pages.keep(gpa, Access::Read, 7, found);
        let other = pages.find(Gpa(0x5FF8), Access::Read, 7);
        assert_eq!(other, Some(Spa(0x9FF8)));
        assert_eq!(pages.find(gpa, Access::Write, 7), None);
        assert_eq!(pages.find(gpa, Access::Read, 8), None);
        assert_eq!(pages.find(Gpa(0x6008), Access::Read, 7), None);
    }
}
