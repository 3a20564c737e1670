//! What the hypervisor says: events for the record, lines for COM1, and the last words of a panic.
//!
//! COM1 is the hypervisor's until the root starts ([`serial_to_root`]); from then on only a panic prints.

pub mod events;
pub mod panic;
mod screen;
mod serial;

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use spin::mutex::SpinMutex;

pub use events::{Event, record};
pub use screen::{PixelOrder, Screen};
use serial::Serial;

// A panic opens these by force, and the ring's: a lock with tickets would be shut for good by that if it was open.
static SERIAL: SpinMutex<Serial> = SpinMutex::new(Serial::COM1);
static SCREEN: SpinMutex<Option<Screen>> = SpinMutex::new(None);
/// COM1 belongs to the root.
static SILENT: AtomicBool = AtomicBool::new(false);
/// TSC ticks a second, 0 as long as nobody knows.
static TSC_HZ: AtomicU64 = AtomicU64::new(0);

struct FrontEnd;

impl log::Log for FrontEnd {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        !SILENT.load(Ordering::Relaxed)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let micros = microseconds();
            // A line that does not fit the port is lost: there is nobody to tell.
            let _ = writeln!(
                SERIAL.lock(),
                "[{:3}.{:06}] {:<5} {}",
                micros / 1_000_000,
                micros % 1_000_000,
                record.level(),
                record.args()
            );
        }
    }

    fn flush(&self) {}
}

/// Sets COM1 up and makes it the target of the `log` macros. Called once, first of all.
pub fn init(level: log::LevelFilter) {
    SERIAL.lock().init();
    if log::set_logger(&FrontEnd).is_ok() {
        log::set_max_level(level);
    }
}

/// From now on lines carry the time: `hz` ticks of the TSC are a second.
pub fn set_clock(hz: u64) {
    TSC_HZ.store(hz, Ordering::Relaxed);
}

/// From now on a panic or a refusal also appears on this screen.
pub fn set_screen(screen: Screen) {
    *SCREEN.lock() = Some(screen);
}

/// Gives COM1 to the root: nothing more is printed but a panic.
pub fn serial_to_root() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Microseconds since the TSC was zero; 0 before [`set_clock`].
fn microseconds() -> u64 {
    let hz = TSC_HZ.load(Ordering::Relaxed);
    if hz == 0 {
        return 0;
    }
    (u128::from(crate::cpu::tsc()) * 1_000_000 / u128::from(hz)) as u64
}

/// Writes to COM1 and the screen at once, whoever owns them and whoever holds their locks: for the machine's last words.
pub struct LastWords(());

impl LastWords {
    /// Takes both over.
    ///
    /// # Safety
    /// Nothing else may run on this machine any more but the caller: the locks are broken.
    pub unsafe fn take_over() -> Self {
        // SAFETY: the caller is alone, so nobody uses what the locks guard.
        unsafe {
            SERIAL.force_unlock();
            SCREEN.force_unlock();
        }
        SERIAL.lock().init();
        Self(())
    }

    /// Empties the screen.
    pub fn clear_screen(&mut self) {
        if let Some(screen) = SCREEN.lock().as_mut() {
            screen.clear();
        }
    }
}

impl Write for LastWords {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(screen) = SCREEN.lock().as_mut() {
            let _ = screen.write_str(text);
        }
        SERIAL.lock().write_str(text)
    }
}

/// Says on serial line and screen why this machine cannot run the hypervisor, and halts for good.
pub fn refuse(reason: impl fmt::Display) -> ! {
    // SAFETY: refusals happen during boot, with one processor and interrupts off.
    let mut out = unsafe { LastWords::take_over() };
    out.clear_screen();
    let _ = writeln!(out, "\nPartita cannot start: {reason}.");
    crate::cpu::halt_forever()
}
