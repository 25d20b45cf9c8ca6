//! Decides which calls are traced, before a span exists.

use runtime_api::TraceContext;

/// Which calls are traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// Nothing is exported.
    Off,
    /// The share of the calls without a trace of their own that is traced, 0 to 1.
    Ratio(f64),
}

/// What becomes of the trace of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing is exported here: an incoming context is passed on as it is, and none is made.
    PassOn,
    /// Make spans: [`super::span::entrance`].
    Record,
    /// Make none, but give the call an identity: [`super::span::new_unsampled`].
    Skip,
}

impl Sampler {
    /// Follows the configuration; without a collector nothing is traced.
    #[must_use]
    pub fn new(config: Option<&super::Config>) -> Self {
        match config {
            Some(config) if config.otlp.is_some() => Self::Ratio(config.sample_ratio),
            Some(_) | None => Self::Off,
        }
    }

    /// Decides for one call. The decision of whoever began the trace is followed, so that a trace is whole or absent.
    #[must_use]
    pub fn decide(self, incoming: Option<&TraceContext>) -> Decision {
        self.decide_by(incoming, rand::random())
    }

    /// `draw` lies in 0..1.
    fn decide_by(self, incoming: Option<&TraceContext>, draw: f64) -> Decision {
        let Self::Ratio(ratio) = self else { return Decision::PassOn };
        match incoming.filter(|context| context.exists()) {
            Some(context) if context.sampled => Decision::Record,
            Some(_) => Decision::Skip,
            None if draw < ratio => Decision::Record,
            None => Decision::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_a_trace_decides_for_all() {
        let parent = |sampled| TraceContext { trace_id: 1, span_id: 2, sampled, ..TraceContext::default() };
        let cases = [
            (Sampler::Off, Some(parent(true)), 0.0, Decision::PassOn),
            (Sampler::Off, None, 0.0, Decision::PassOn),
            (Sampler::Ratio(0.0), Some(parent(true)), 0.9, Decision::Record),
            (Sampler::Ratio(1.0), Some(parent(false)), 0.0, Decision::Skip),
            (Sampler::Ratio(0.0), None, 0.0, Decision::Skip),
            (Sampler::Ratio(1.0), None, 0.999_999, Decision::Record),
            (Sampler::Ratio(0.5), None, 0.5, Decision::Skip),
            (Sampler::Ratio(0.5), Some(TraceContext::default()), 0.4, Decision::Record),
        ];
        for (sampler, incoming, draw, expected) in cases {
            assert_eq!(sampler.decide_by(incoming.as_ref(), draw), expected, "{sampler:?} {incoming:?} {draw}");
        }
    }
}
