//! Where jobs are kept.
//!
//! A store finds due jobs, hands each to one worker, and writes what the worker reports if its lease still holds. It sees names,
//! JSON and times, never tasks, and it decides nothing: the worker says what becomes of a job. It never
//! reads a clock either; `now` comes in with each call.

mod changes;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
mod contract;
mod expired;
mod joined;
mod lane;
mod lease;
mod memory;
#[cfg(any(feature = "postgres", feature = "redis", feature = "sqlite"))]
mod more;
mod note;
mod notify;
mod placement;
#[cfg(feature = "postgres")]
pub mod postgres;
mod presence;
mod rate;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod refusal;
pub(crate) mod same_call;
mod secret;
mod settlement;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod url;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod waiters;

#[cfg(feature = "redis")]
pub use self::redis::Redis;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub(crate) use self::settlement::KEPT_ATTEMPTS;
pub use self::{
    changes::Changes,
    contract::{Home, Store, UserTransaction},
    expired::Expired,
    joined::Joined,
    lane::{JobCounts, Lane, LaneCounts},
    lease::{Ask, FreeSlots, Leased, Suspects},
    memory::Memory,
    note::{Note, NoteChange},
    notify::{Listener, Notifier},
    placement::Placement,
    presence::{Presence, Renewed},
    rate::{Rate, RateNumbers, RateSpan},
    record::{Record, Transacted},
    settlement::{FIRST_ATTEMPTS, Hold, LAST_ATTEMPTS, Settlement, Written, trim_attempts},
    url::{Open, Scheme, open},
};
pub(crate) use self::{contract::PAGE, record::GAP, secret::without_password};
pub use crate::model::{
    find::{Budget, Find, FindArg, IdPrefix, Order, Page, ParseIdPrefixError, search},
    pending::{BoxedHandler, PendingStep},
};
