//! Measures calls: one load generator, one set of statistics and one table for `twinway bench` and the benches.
//!
//! The load is a closed loop: each caller has one call in flight and makes the next when the last is answered. What is
//! compared is measured in interleaved rounds, so that the slow drift of a machine falls on all of it.

mod comparison;
mod http;
mod latencies;
mod load;
mod machine;
mod round;
mod spread;
mod table;

pub use comparison::Comparison;
pub use http::{Answer, HttpConnection};
pub use latencies::Latencies;
pub use load::{Caller, Crew, Outcome, Unanswered};
pub use machine::Machine;
pub use round::{Cost, Round, Summary};
pub use spread::Spread;
pub use table::{Line, markdown};
