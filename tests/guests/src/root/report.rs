//! What a payload root says on the serial line: `ok WHAT` for each check, and `FAIL: ...` and the end for the first
//! that is wrong.

use core::fmt::Debug;

use tlfs::HvStatus;

use crate::metal::exit;
use crate::println;

/// Prints a line.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => { $crate::root::report::line(format_args!($($text)*)) };
}

/// A check has passed.
#[macro_export]
macro_rules! ok {
    ($($text:tt)*) => { $crate::root::report::line(format_args!("ok {}", format_args!($($text)*))) };
}

/// Something is wrong: says what, and ends the machine.
#[macro_export]
macro_rules! fail {
    ($($text:tt)*) => { $crate::root::report::fail(format_args!($($text)*)) };
}

/// Fails unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            $crate::root::report::fail(format_args!(
                "{} ({})", format_args!($($text)*), stringify!($condition)
            ))
        }
    };
}

/// Prints a line.
pub fn line(text: core::fmt::Arguments<'_>) {
    println!("{text}");
}

/// Says what is wrong, and ends the machine.
pub fn fail(text: core::fmt::Arguments<'_>) -> ! {
    line(format_args!("FAIL: {text}"));
    exit::failure()
}

/// Fails unless both are equal; hexadecimal.
#[track_caller]
pub fn same<T: PartialEq + Debug>(found: T, wanted: T, what: &str) {
    if found != wanted {
        let at = core::panic::Location::caller();
        fail!(
            "{what}: {found:#x?} instead of {wanted:#x?} (line {})",
            at.line()
        );
    }
}

/// Fails unless a call ended with this status.
#[track_caller]
pub fn status(found: HvStatus, wanted: HvStatus, what: &str) {
    if found != wanted {
        let at = core::panic::Location::caller();
        fail!("{what}: {found} instead of {wanted} (line {})", at.line());
    }
}

/// The value of a call that must succeed.
#[track_caller]
pub fn value<T>(result: Result<T, HvStatus>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(status) => {
            let at = core::panic::Location::caller();
            fail!("{what}: {status} (line {})", at.line())
        }
    }
}

/// All checks have passed: the end.
pub fn done() -> ! {
    line(format_args!("root test done"));
    exit::success()
}
