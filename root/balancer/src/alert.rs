//! When free memory runs low (DM-32).

/// Per cent of the total below which available memory is worth a warning.
const WARNING: u128 = 5;
/// Per cent of the total below which it is critical.
const CRITICAL: u128 = 3;

/// What an administrator should know of a node's available memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alert {
    /// Enough is available.
    None,
    /// Less than 5 per cent of the total.
    Warning,
    /// Less than 3 per cent of the total.
    Critical,
}

impl Alert {
    /// For `available` of `total`, of the same unit. A round judges what is available before its own operations: that is
    /// the counter *Available Memory* of that moment, and what the sheet's B06, B17 and B33 show.
    pub fn of(available: u64, total: u64) -> Self {
        let hundredfold = u128::from(available) * 100;
        if hundredfold < u128::from(total) * CRITICAL {
            Self::Critical
        } else if hundredfold < u128::from(total) * WARNING {
            Self::Warning
        } else {
            Self::None
        }
    }
}
