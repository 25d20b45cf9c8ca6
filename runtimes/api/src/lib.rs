//! The seam between the gateway and its runtimes.
//!
//! A request of a client becomes a [`Call`]; a [`Runtime`] answers it with a [`Reply`] or a [`CallError`]. Nothing
//! here does I/O, and nothing here knows a wire format: parameters and results travel as the bytes they came as.
//!
//! ```
//! use runtime_api::{Call, CallError, Reply, erase};
//!
//! // Any tower service over these three types is a runtime's service.
//! let echo = tower::service_fn(|call: Call| async move { Ok::<_, CallError>(Reply::new(call.params.raw)) });
//! let service: runtime_api::CallService = erase(echo);
//! # drop(service);
//! ```

mod arrivals;
mod backlog;
mod board;
mod call;
mod caller;
mod declared;
mod error;
mod hints;
mod interest;
mod offers;
mod reply;
mod roster;
mod runtime;
mod service;
mod session;
mod slots;
mod trace;

pub use arrivals::Arrivals;
pub use backlog::StreamRoom;
pub use board::{Board, Heard};
pub use call::{AsTask, Call, Client, Era, LegacyClient, Method, Params, Principal, Priority, TargetId};
pub use caller::{ANSWER_TIMEOUT, Caller, CallerEvent, CallerEvents, CallerGone, ClientAnswer, Losses, Wants};
pub use declared::{Declared, LogLevel, Logging};
pub use error::{BoxError, CallError, Delivery, ErrorCode, Origin};
pub use hints::{CacheHint, CacheHints, CacheScope, Cacheable, Freshness};
pub use interest::{Demand, Interest, Standing, Subscribed, Subscriber, TaskInterest, TaskWatcher, WatchedTask};
pub use offers::{About, Eras, Item, Items, Kind, Offers, Support, TargetOffers, TargetState};
pub use reply::Reply;
pub use roster::{Member, Roster, RosterPlan};
pub use runtime::{PartError, Runtime, RuntimeId, Transport};
pub use service::{CallFuture, CallService, erase};
pub use session::{ClientSession, Party, SessionLife};
pub use slots::Slots;
pub use trace::TraceContext;
