//! Every wire format of Twinway, and no behaviour.
//!
//! Messages are read where they lie: a shallow pass over the bytes finds the parts a gateway needs, and everything else
//! travels on untouched. Key order, unknown members, duplicate keys inside arguments and the spelling of numbers survive.
//!
//! ```
//! use twinway_proto::envelope::{Message, parse};
//!
//! let bytes = br#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"add","arguments":{"n":1e400}},"id":7}"#;
//! let Message::Request(request) = parse(bytes).unwrap() else { panic!("a request") };
//! assert_eq!((request.id, &*request.method), ("7", "tools/call"));
//! ```

pub mod envelope;
pub mod frame;
pub mod grpc;
pub mod headers;
pub mod jcs;
pub mod json;
pub mod meta;
pub mod revision;
pub mod rope;
pub mod sse;
