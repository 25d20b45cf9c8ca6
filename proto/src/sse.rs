//! Reads and writes event streams (WHATWG HTML, section 9.2).
//!
//! ```text
//! chunk -> [line finder] -> line -> [field] -> event so far -> blank line -> Event
//! ```

mod decode;
mod encode;

pub use decode::{Decoder, Event, SseError};
pub use encode::{InvalidEventId, comment, write_event, write_event_with_id, write_priming};
