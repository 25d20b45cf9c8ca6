//! The trace that stands in the headers of a request, or in the metadata of gRPC, which is the same.

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use runtime_api::TraceContext;

/// Bounds of what is passed on for tracing: W3C Trace Context 3.3.1.5 and W3C Baggage 3.3.2.
pub(crate) const TRACESTATE_BYTES_MAX: usize = 512;
pub(crate) const BAGGAGE_BYTES_MAX: usize = 8192;

// As constants: a look-up by text would parse the name each time.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(crate) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// The trace that these headers name; its baggage is not read.
pub(crate) fn trace_of(headers: &HeaderMap) -> Option<TraceContext> {
    let mut trace = TraceContext::parse(headers.get(&TRACEPARENT)?.as_bytes())?;
    let state = headers.get(&TRACESTATE).map(http::HeaderValue::as_bytes);
    trace.state = state.filter(|state| is_passed_on(state, TRACESTATE_BYTES_MAX)).map(Bytes::copy_from_slice);
    Some(trace)
}

/// Whether a value may be passed on.
pub(crate) fn is_passed_on(value: &[u8], bytes_max: usize) -> bool {
    value.len() <= bytes_max && std::str::from_utf8(value).is_ok()
}
