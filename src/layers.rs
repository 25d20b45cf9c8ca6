//! The layers of the pipeline, one file each.

mod admit;
mod deadline;
mod record;

pub use admit::{Admit, AdmitLayer, Admitted, Admitting, Overloaded, Refused};
pub use deadline::{Deadline, DeadlineExceeded, DeadlineLayer};
pub use record::{Record, RecordLayer};
