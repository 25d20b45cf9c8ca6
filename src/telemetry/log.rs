//! Log lines on standard error, for a terminal or as JSON, with the ids of the trace they belong to.
//!
//! Spans are not printed: their fields are in the trace, and rendering them would cost every traced call.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    sync::OnceLock,
    time::SystemTime,
};

use opentelemetry::trace::{SpanId, TraceContextExt, TraceId};
use tracing::{Dispatch, Event, dispatcher::WeakDispatch};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::{
    Layer,
    fmt::{
        FormatFields,
        format::{DefaultFields, JsonFields, Writer},
    },
    layer::Context,
};

use super::{LogFormat, Registry};

/// A layer that writes each event it is given.
pub(super) fn layer<S: Registry>(format: LogFormat) -> impl Layer<S> {
    Lines { format, dispatch: OnceLock::new(), write: |line: &str| drop(io::stderr().lock().write_all(line.as_bytes())) }
}

/// `write` cannot fail: where standard error is closed there is nowhere left to say so.
struct Lines<W> {
    format: LogFormat,
    /// The whole subscriber, which knows the trace of a span.
    dispatch: OnceLock<WeakDispatch>,
    write: W,
}

impl<S: Registry, W: Fn(&str) + 'static> Layer<S> for Lines<W> {
    fn on_register_dispatch(&self, dispatch: &Dispatch) {
        self.dispatch.get_or_init(|| dispatch.downgrade());
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let trace = context.event_span(event).and_then(|span| {
            let context = get_otel_context(&span.id(), &self.dispatch.get()?.upgrade()?)?;
            let inside = context.span().span_context().clone();
            inside.is_valid().then(|| (inside.trace_id(), inside.span_id()))
        });
        if let Ok(line) = render(self.format, SystemTime::now(), event, trace) {
            (self.write)(&line);
        }
    }
}

type Trace = Option<(TraceId, SpanId)>;

fn render(format: LogFormat, now: SystemTime, event: &Event<'_>, trace: Trace) -> Result<String, fmt::Error> {
    let mut line = String::new();
    match format {
        LogFormat::Human => human(&mut line, now, event, trace)?,
        LogFormat::Json => json(&mut line, now, event, trace)?,
    }
    Ok(line)
}

fn human(line: &mut String, now: SystemTime, event: &Event<'_>, trace: Trace) -> fmt::Result {
    let metadata = event.metadata();
    write!(line, "{} {:>5} {}: ", humantime::format_rfc3339_millis(now), metadata.level(), metadata.target())?;
    fields(&DefaultFields::new(), line, event)?;
    if let Some((trace_id, _)) = trace {
        write!(line, " trace_id={trace_id}")?;
    }
    line.write_char('\n')
}

fn json(line: &mut String, now: SystemTime, event: &Event<'_>, trace: Trace) -> fmt::Result {
    let metadata = event.metadata();
    // Levels, targets and ids hold nothing that JSON would have to escape.
    write!(
        line,
        r#"{{"timestamp":"{}","level":"{}","target":"{}""#,
        humantime::format_rfc3339_millis(now),
        metadata.level(),
        metadata.target()
    )?;
    if let Some((trace_id, span_id)) = trace {
        write!(line, r#","trace_id":"{trace_id}","span_id":"{span_id}""#)?;
    }
    line.write_str(r#","fields":"#)?;
    fields(&JsonFields::new(), line, event)?;
    line.write_str("}\n")
}

fn fields(format: &impl for<'w> FormatFields<'w>, line: &mut String, event: &Event<'_>) -> fmt::Result {
    format.format_fields(Writer::new(line), event)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::telemetry::export;

    /// One line logged inside a traced span.
    fn line(format: LogFormat) -> String {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&lines);
        let write = move |line: &str| kept.lock().unwrap().push(line.to_owned());
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry().with(export::layer_of(&provider)).with(Lines {
            format,
            dispatch: OnceLock::new(),
            write,
        });
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(target: "twinway::call", "call");
            span.in_scope(|| tracing::warn!(target: "twinway::app", peer = "far \"one\"", attempts = 3, "a peer is gone"));
        });
        lines.lock().unwrap().remove(0)
    }

    #[test]
    fn a_json_line_is_one_object_with_the_ids_of_its_trace() {
        let line: serde_json::Value = serde_json::from_str(&line(LogFormat::Json)).unwrap();

        assert_eq!(line["timestamp"].as_str().map(str::len), Some("1970-01-01T00:00:00.000Z".len()));
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["fields"]["message"], "a peer is gone");
        assert_eq!(line["fields"]["peer"], "far \"one\"");
        assert_eq!(line["fields"]["attempts"], 3);
        assert_eq!(line["trace_id"].as_str().map(str::len), Some(32));
        assert_eq!(line["span_id"].as_str().map(str::len), Some(16));
    }

    #[test]
    fn a_human_line_names_its_trace_at_the_end() {
        let line = line(LogFormat::Human);

        let (text, trace_id) = line.trim_end().split_once(" trace_id=").unwrap();
        let (_, text) = text.split_once("Z ").unwrap();
        assert_eq!(text, r#" WARN twinway::app: a peer is gone peer="far \"one\"" attempts=3"#);
        assert_eq!(trace_id.len(), 32);
    }
}
