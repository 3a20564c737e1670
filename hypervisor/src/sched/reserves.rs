//! What is reserved of the machine's processors.

use core::sync::atomic::{AtomicU64, Ordering};

use super::WHOLE;

/// The sum of what VPs have reserved, which their number of processors bounds.
#[derive(Debug)]
pub struct Reserves {
    sum: AtomicU64,
    most: u64,
}

/// More is reserved than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch;

/// A reserve that goes back unless it is [kept](Self::keep).
pub struct Reservation<'a> {
    reserves: &'a Reserves,
    amount: u64,
}

impl Reserves {
    /// Of a machine with so many processors.
    pub const fn new(processors: usize) -> Self {
        Self {
            sum: AtomicU64::new(0),
            most: processors as u64 * WHOLE as u64,
        }
    }

    /// How much is reserved.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// So much less is reserved, and so much more, all VPs taken together.
    ///
    /// # Errors
    /// [`TooMuch`]: then nothing has changed.
    pub fn change(&self, less: u64, more: u64) -> Result<(), TooMuch> {
        let change = |sum: u64| {
            let sum = sum.saturating_sub(less).saturating_add(more);
            (more <= less || sum <= self.most).then_some(sum)
        };
        let order = Ordering::Relaxed;
        let done = self.sum.fetch_update(order, order, change);
        done.map(|_| ()).map_err(|_| TooMuch)
    }

    /// So much more is reserved, until the answer goes.
    ///
    /// # Errors
    /// [`TooMuch`].
    pub fn take(&self, amount: u64) -> Result<Reservation<'_>, TooMuch> {
        self.change(0, amount)?;
        Ok(Reservation {
            reserves: self,
            amount,
        })
    }
}

impl Reservation<'_> {
    /// It stays.
    pub fn keep(mut self) {
        self.amount = 0;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        // Less is never too much.
        let _ = self.reserves.change(self.amount, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_reserved_than_there_is() {
        let whole = u64::from(WHOLE);
        let reserves = Reserves::new(2);
        assert_eq!(reserves.change(0, 2 * whole + 1), Err(TooMuch));
        assert_eq!(reserves.change(0, whole), Ok(()));
        drop(reserves.take(whole).unwrap());
        assert_eq!(reserves.sum(), whole);
        reserves.take(whole - 1).unwrap().keep();
        assert!(reserves.take(2).is_err());
        assert_eq!(reserves.change(whole, whole + 1), Ok(()));
        assert_eq!(reserves.change(1, 2), Err(TooMuch));
        assert_eq!(reserves.change(2, 1), Ok(()));
    }
}
