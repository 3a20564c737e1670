//! What each VP of the root is about, and since when: a failure says who did not get on.

use core::fmt;

use guests::metal::time;
use spin::Mutex;

/// Most VPs of the root that are told of.
const MOST: usize = 64;

#[derive(Clone, Copy)]
struct Note {
    what: &'static str,
    guest: Option<usize>,
    since: u64,
}

static NOTES: [Mutex<Note>; MOST] = [const {
    Mutex::new(Note {
        what: "has not begun",
        guest: None,
        since: 0,
    })
}; MOST];

/// What took longest of all that VPs of the root have done.
static LONGEST: Mutex<(u64, &'static str)> = Mutex::new((0, ""));

/// A VP of the root begins something, with a child or without.
pub fn note(number: u64, what: &'static str, guest: Option<usize>) {
    let Some(place) = NOTES.get(number as usize) else {
        return;
    };
    let since = time::reference();
    let new = Note { what, guest, since };
    let old = core::mem::replace(&mut *place.lock(), new);
    let took = since.saturating_sub(old.since);
    if old.since != 0 {
        let longest = &mut *LONGEST.lock();
        *longest = (*longest).max((took, old.what));
    }
}

/// For how long the longest thing took, in microseconds, and what it was.
pub fn longest() -> (u64, &'static str) {
    let (took, what) = *LONGEST.lock();
    (took / 10, what)
}

/// What so many VPs of the root are about now.
pub struct Report(pub u64);

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = time::reference();
        for (number, place) in NOTES.iter().enumerate().take(self.0 as usize) {
            let note = *place.lock();
            write!(f, "VP {number} {}", note.what)?;
            if let Some(guest) = note.guest {
                write!(f, " child {guest}")?;
            }
            let micros = now.saturating_sub(note.since) / 10;
            write!(
                f,
                " since {}.{:03} s; ",
                micros / 1_000_000,
                micros / 1000 % 1000
            )?;
        }
        Ok(())
    }
}
