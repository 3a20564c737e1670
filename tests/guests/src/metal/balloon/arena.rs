//! The guest's memory behind the payload. Each page that the guest has is full of words that name the VM and the page; each page
//! that it gets must be zero before.

use boot_archive::start_info::kind;

use crate::dm::{PageSet, Run};
use crate::metal::boot::Boot;
use crate::metal::memory;

const PAGE: u64 = 4096;
/// Where low memory ends, in which there is what the board has laid down for the guest.
const LOW: u64 = 256;

/// Words of a page.
const WORDS: usize = PAGE as usize / 8;

/// The words of a page.
fn words(page: u64) -> *mut u64 {
    memory::virtual_address(page * PAGE) as *mut u64
}

/// The memory. It is large: a payload has it in a `static`.
pub struct Arena {
    /// First characters of the VM's name.
    tag: u32,
    owned: PageSet,
    ballooned: PageSet,
    /// The page behind the highest that ever was RAM.
    top: u64,
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

impl Arena {
    /// Without memory.
    pub const fn new() -> Self {
        Self {
            tag: 0,
            owned: PageSet::new(),
            ballooned: PageSet::new(),
            top: 0,
        }
    }

    /// Takes the memory that the guest was started with, but for the payload's own and for low memory. `name` is the VM's.
    pub fn take(&mut self, boot: &Boot, name: &str) {
        let mut tag = [0; 4];
        for (place, byte) in tag.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        self.tag = u32::from_le_bytes(tag);
        let first = (memory::end_of_image().div_ceil(PAGE)).max(LOW);
        for entry in boot.memory_map().filter(|entry| entry.kind == kind::RAM) {
            let end = (entry.addr + entry.size) / PAGE;
            let start = entry.addr.div_ceil(PAGE).max(first);
            if start < end {
                self.fill(Run::new(start, end - start));
                self.top = self.top.max(end);
            }
        }
    }

    /// What a page of this VM is full of.
    fn word(&self, page: u64) -> u64 {
        u64::from(self.tag) << 32 | page
    }

    fn fill(&mut self, run: Run) {
        for page in run.start..run.end() {
            let (start, word) = (words(page), self.word(page));
            for at in 0..WORDS {
                // SAFETY: within a page of the guest's RAM, which is this arena's and in which nothing of Rust's is.
                unsafe { start.add(at).write_volatile(word) };
            }
        }
        self.owned.insert(run);
    }

    /// Panics unless all words of pages are `wanted`.
    #[track_caller]
    fn expect(run: Run, what: &str, wanted: impl Fn(u64) -> u64) {
        for page in run.start..run.end() {
            let (start, wanted) = (words(page), wanted(page));
            for at in 0..WORDS {
                // SAFETY: as in `fill`.
                let found = unsafe { start.add(at).read_volatile() };
                if found != wanted {
                    let name = ((found >> 32) as u32).to_le_bytes();
                    panic!(
                        "{what}: word {at} of page {page:#x} is {found:#x} instead of {wanted:#x}; VM {:?}",
                        core::str::from_utf8(&name)
                    );
                }
            }
        }
    }

    /// Memory that was not the guest's before: all of it must be zero; then it gets the guest's pattern.
    #[track_caller]
    pub fn gain(&mut self, run: Run) {
        Self::expect(run, "new memory", |_| 0);
        self.fill(run);
        self.top = self.top.max(run.end());
    }

    /// Pages that are to go. What is in them stays in them.
    pub fn lose(&mut self, run: Run) {
        self.owned.remove(run);
        self.ballooned.insert(run);
    }

    /// Pages that were to go do not, as nobody has been told.
    pub fn keep(&mut self, run: Run) {
        self.ballooned.remove(run);
        self.owned.insert(run);
    }

    /// Pages come back; they must have gone before.
    #[track_caller]
    pub fn regain(&mut self, run: Run) {
        assert!(
            self.ballooned.contains_all(run),
            "{run:?} was not given away"
        );
        self.ballooned.remove(run);
        self.gain(run);
    }

    /// Looks at pages, which have to be as the guest has left them.
    #[track_caller]
    pub fn check(&self, run: Run) {
        Self::expect(run, "the guest's own memory", |page| self.word(page));
    }

    /// Looks at all pages that the guest has.
    #[track_caller]
    pub fn check_all(&self) {
        self.owned.runs(512).for_each(|run| self.check(run));
    }

    /// The pages that the guest has.
    pub const fn owned(&self) -> &PageSet {
        &self.owned
    }

    /// Those that it has given away.
    pub const fn ballooned(&self) -> &PageSet {
        &self.ballooned
    }

    /// The page behind the highest that ever was RAM.
    pub const fn top(&self) -> u64 {
        self.top
    }
}
