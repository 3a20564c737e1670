//! Bulk data between a service and a guest that uses a storage channel as Linux does, or lies.

use ::vmbus::bulk::{BulkError, Transfer};
use ::vmbus::protocol::{GpadlHandle, Relid};
use ::vmbus::ring::{GpaList, RingError};

use super::super::*;
use super::guest::{u64_at, words};
use crate::BulkMemory;
use guest::{Guest, range};

mod gpadls;
mod guest;
mod packets;
