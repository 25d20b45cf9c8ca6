//! What a target answered.

use std::ops::Range;

use bytes::Bytes;

/// A target's result. A tool that answers `isError` has replied.
///
/// The ranges are byte offsets into `result`.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The raw JSON object of `result`, as it came.
    pub result: Bytes,
    /// The tool says that it failed: top-level `isError` is `true`.
    pub is_error: bool,
    /// Value of the top-level `resultType` (quotes included), when there is one.
    pub result_type: Option<Range<usize>>,
    /// Value of the top-level `_meta`, when there is one.
    pub meta: Option<Range<usize>>,
    /// There is a top-level `ttlMs` or `cacheScope`.
    pub has_cache_hint: bool,
}

impl Reply {
    /// A plain result of which nothing more is known.
    #[must_use]
    pub const fn new(result: Bytes) -> Self {
        Self { result, is_error: false, result_type: None, meta: None, has_cache_hint: false }
    }
}
