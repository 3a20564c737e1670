//! What the event list is told of Dynamic Memory.

use alloc::format;
use alloc::string::String;

use dynamic_memory::wire::PAGES_PER_MB;
use dynamic_memory::{End, Event, Finished, HotAddOff};

/// A line for an event; `None` for what is not worth one: orders that went as they should are the counters' business.
pub fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Connected {
            version,
            capabilities,
        } => {
            let can = |can: bool| if can { "yes" } else { "no" };
            format!(
                "version {}.{}, balloon: {}, hot add: {}, in units of {} MiB",
                version.0 >> 16,
                version.0 & 0xFFFF,
                can(capabilities.balloon()),
                can(capabilities.hot_add()),
                capabilities.alignment() / PAGES_PER_MB
            )
        }
        Event::VersionRefused(version) => format!("version {:#x} is not spoken", version.0),
        Event::BalloonLost(pages) => {
            format!("another driver, which does not know of {pages} ballooned pages")
        }
        Event::Live { is_32_bit: false } => "the guest reports".into(),
        Event::Live { is_32_bit: true } => "the guest reports; not in long mode".into(),
        Event::Frozen => "no reports: its memory stays as it is".into(),
        Event::Thawed => "there are reports again".into(),
        Event::Finished(finished) => return order(finished),
        Event::BalloonOff => "a request to return pages is not answered".into(),
        Event::Late(pages) => format!("{pages} pages came late"),
        Event::HotAddOff(why) => match why {
            HotAddOff::Refused => "the guest takes no more new memory".into(),
            HotAddOff::Unanswered => "new memory is not answered for: it is the guest's".into(),
            HotAddOff::Failed => "the guest cannot take new memory for the moment".into(),
            HotAddOff::NotOnline => "new memory is not put to use".into(),
        },
        Event::Dropped(dropped) => format!("{dropped}"),
        Event::Odd(oddity) => format!("odd: {oddity:?}"),
        Event::Touched(pages) => format!("{pages} ballooned pages were used, and are back"),
        Event::TouchWaits => "a ballooned page is used, and memory is short: it waits".into(),
        Event::ResetWaits(pages) => format!("the reset waits for {pages} pages"),
        Event::TakeFailed(pages) => format!("{pages} pages could not be taken"),
    })
}

fn order(finished: &Finished) -> Option<String> {
    if matches!(finished.end(), End::Done | End::Short) {
        return None;
    }
    Some(match finished {
        Finished::Removed {
            asked, given, end, ..
        } => format!("{given} of {asked} pages returned: {end:?}"),
        Finished::Added {
            asked,
            unballooned,
            hot_added,
            end,
        } => format!(
            "{unballooned} of {} pages given back, {hot_added} of {} new: {end:?}",
            asked.unballoon, asked.hot_add
        ),
    })
}
