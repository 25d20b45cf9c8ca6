//! The layers of the pipeline, one file each, and what they keep for each target.

mod admit;
mod breaker;
mod cache;
mod class;
mod deadline;
mod door;
mod guard;
mod record;
mod recover;

pub use admit::{AdmitLayer, Admitting, door_of};
pub use breaker::{Breaker, BreakerLayer, BreakerOpen, BreakerState, Breaking, Watched};
pub use cache::{Cache, CacheLayer, CacheUse, Cached, Caching, Definition};
pub use class::{ClassLayer, Classed};
pub use deadline::{Deadline, DeadlineExceeded, DeadlineLayer};
pub use door::{Admitted, Bounds, Door, Overloaded, Refused};
pub use guard::{Guard, Guards};
pub use record::{Record, RecordLayer};
pub use recover::{Budget, Recover, RecoverLayer};
