//! How a worker's life ends.

use alloc::format;
use alloc::string::{String, ToString};

use board::Outcome;
use root_abi::ExitReason;

use crate::setup::SetupError;
use crate::system::CallError;

/// The end of a worker: why, and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub reason: ExitReason,
    /// The same for a reader.
    pub text: String,
}

impl Exit {
    /// An end with its text.
    pub fn new(reason: ExitReason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }

    /// The end that an intercept's outcome means; `None` if the VM runs on.
    pub(crate) fn from_outcome(outcome: Outcome) -> Option<Self> {
        Some(match outcome {
            Outcome::Resume | Outcome::Wait | Outcome::Complete(_) | Outcome::Inject(_) => {
                return None;
            }
            Outcome::PowerOff => Self::new(ExitReason::PowerOff, "the guest switched off"),
            Outcome::Reset(reason) => Self::new(ExitReason::Reset, reason.to_string()),
            Outcome::DebugExit(status) => Self::new(
                ExitReason::PowerOff,
                format!("debug exit with status {status:#x}"),
            ),
            Outcome::Fault(fault) => Self::new(ExitReason::GuestFault, fault.to_string()),
        })
    }
}

impl From<CallError> for Exit {
    /// A call that fails in a running VM is nothing that the guest did.
    fn from(error: CallError) -> Self {
        Self::new(ExitReason::WorkerFault, error.to_string())
    }
}

impl From<SetupError> for Exit {
    fn from(error: SetupError) -> Self {
        let reason = match error {
            SetupError::Call(_) => ExitReason::WorkerFault,
            _ => ExitReason::BadDefinition,
        };
        Self::new(reason, error.to_string())
    }
}
