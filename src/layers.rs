//! The layers of the pipeline, one file each.

mod admit;
mod cache;
mod deadline;
mod record;

pub use admit::{Admit, AdmitLayer, Admitted, Admitting, Overloaded, Refused};
pub use cache::{Cache, CacheLayer, CacheUse, Cached, Caching, Definition};
pub use deadline::{Deadline, DeadlineExceeded, DeadlineLayer};
pub use record::{Record, RecordLayer};
