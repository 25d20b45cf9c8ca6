//! What clients declare, and what servers ask of them: the same in both eras but for how it travels.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicU8, Ordering},
};

use runtime_api::{Declared, LogLevel};
use twinway_proto::{
    json::{self, members},
    meta::key,
};

/// Tells how a task stands (2025-11-25, tasks).
pub const TASK_STATUS: &str = "notifications/tasks/status";

/// The same by the extension of tasks (2026-07-28), on the streams of `subscriptions/listen` that name the task.
pub const TASK_NEWS: &str = "notifications/tasks";

/// The extension of tasks (2026-07-28).
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Whether raw capabilities of either side declare the extension of tasks.
#[must_use]
pub fn has_tasks_extension(capabilities: &str) -> bool {
    let extensions = members(capabilities).flatten().find(|member| member.key.is("extensions"));
    extensions.is_some_and(|extensions| members(extensions.value).flatten().any(|member| member.key.is(TASKS)))
}

/// Says that what a client was sent to a URL for has been done (2025-11-25, elicitation). 2026-07-28 has no such notification.
pub const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";

/// What can be asked of a client with these raw capabilities.
#[must_use]
pub fn declared(capabilities: &str) -> Declared {
    let mut declared = Declared::NONE;
    for member in members(capabilities).flatten() {
        let has = |name| members(member.value).flatten().any(|part| part.key.is(name));
        let mut declare = |what| declared = declared.with(what);
        match &*member.key.text() {
            "roots" => declare(Declared::ROOTS),
            "sampling" => {
                declare(Declared::SAMPLING);
                has("tools").then(|| declare(Declared::SAMPLING_TOOLS));
                has("context").then(|| declare(Declared::SAMPLING_CONTEXT));
            }
            "elicitation" => {
                let url = has("url");
                url.then(|| declare(Declared::ELICITATION_URL));
                // An empty object means forms (2025-11-25, elicitation).
                (has("form") || !url).then(|| declare(Declared::ELICITATION_FORM));
            }
            _ => {}
        }
    }
    declared
}

/// The raw capabilities of a client that takes these requests and nothing else.
#[must_use]
pub fn capabilities(declared: Declared) -> String {
    let part = |what, text: &'static str| declared.has(what).then_some(text);
    let object = |parts: [Option<&str>; 2]| format!("{{{}}}", parts.into_iter().flatten().collect::<Vec<_>>().join(","));
    let mut all = Vec::new();
    all.extend(part(Declared::ROOTS, r#""roots":{}"#).map(str::to_owned));
    if declared.has(Declared::SAMPLING) {
        let parts = [part(Declared::SAMPLING_TOOLS, r#""tools":{}"#), part(Declared::SAMPLING_CONTEXT, r#""context":{}"#)];
        all.push(format!(r#""sampling":{}"#, object(parts)));
    }
    match (declared.has(Declared::ELICITATION_FORM), declared.has(Declared::ELICITATION_URL)) {
        (false, false) => {}
        // What revisions before 2025-11-25 know, too.
        (true, false) => all.push(r#""elicitation":{}"#.to_owned()),
        (false, true) => all.push(r#""elicitation":{"url":{}}"#.to_owned()),
        (true, true) => all.push(r#""elicitation":{"form":{},"url":{}}"#.to_owned()),
    }
    format!("{{{}}}", all.join(","))
}

/// What a client must have declared for a request of a server; `None` for a method that no client serves.
#[must_use]
pub fn needs(method: &str, params: &str) -> Option<Declared> {
    let part = |name| members(params).flatten().find(|member| member.key.is(name)).map(|member| member.value);
    Some(match method {
        "roots/list" => Declared::ROOTS,
        "sampling/createMessage" if part("tools").is_some() => Declared::SAMPLING.with(Declared::SAMPLING_TOOLS),
        "sampling/createMessage" => Declared::SAMPLING,
        "elicitation/create" if part("mode") == Some("\"url\"") => Declared::ELICITATION_URL,
        "elicitation/create" => Declared::ELICITATION_FORM,
        _ => return None,
    })
}

/// The code that refuses a request of a server that its client has not declared. A client that takes elicitation in another mode has the
/// method, and not these parameters (2025-11-25, elicitation: error handling).
#[must_use]
pub fn refusal(method: &str, declared: Declared) -> i32 {
    let elicits = declared.has(Declared::ELICITATION_FORM) || declared.has(Declared::ELICITATION_URL);
    if method == "elicitation/create" && elicits { -32602 } else { -32601 }
}

/// The task that a server's message belongs to, by the server's own id (2025-11-25, tasks: associating messages). What belongs to a
/// task may only go to the client that waits for it.
#[must_use]
pub fn related_task(params: &str) -> Option<Cow<'_, str>> {
    let part = |object, name| members(object).flatten().find(|member| member.key.is(name)).map(|member| member.value);
    part(part(part(params, "_meta")?, key::RELATED_TASK)?, "taskId").and_then(json::string)
}

/// The task that a [`TASK_STATUS`] or [`TASK_NEWS`] is about.
#[must_use]
pub fn task_of(params: &str) -> Option<Cow<'_, str>> {
    members(params).flatten().find(|member| member.key.is("taskId")).and_then(|member| json::string(member.value))
}

/// From which level on a server sends log lines to a session that several clients share.
#[derive(Debug)]
pub struct LogFloor(AtomicU8);

impl Default for LogFloor {
    /// Nobody has said.
    fn default() -> Self {
        Self(AtomicU8::new(u8::MAX))
    }
}

impl LogFloor {
    /// Notes that somebody wants lines from this level on; whether the server has to be told.
    pub fn lowers(&self, level: LogLevel) -> bool {
        let level = level as u8;
        self.0.fetch_min(level, Ordering::Relaxed) > level
    }
}

/// The level of a log line, from its raw parameters.
#[must_use]
pub fn log_level(params: &[u8]) -> Option<LogLevel> {
    let text = std::str::from_utf8(params).ok()?;
    let level = members(text).flatten().find(|member| member.key.is("level"))?;
    json::string(level.value).map(Cow::into_owned).and_then(|name| LogLevel::named(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_declared_is_read_and_written() {
        let all = [
            ("{}", "{}"),
            (r#"{"roots":{"listChanged":true},"experimental":{"x":1}}"#, r#"{"roots":{}}"#),
            (r#"{"sampling":{}}"#, r#"{"sampling":{}}"#),
            (r#"{"sampling":{"context":{},"tools":{}}}"#, r#"{"sampling":{"tools":{},"context":{}}}"#),
            (r#"{"elicitation":{}}"#, r#"{"elicitation":{}}"#),
            (r#"{"elicitation":{"form":{}}}"#, r#"{"elicitation":{}}"#),
            (r#"{"elicitation":{"url":{}}}"#, r#"{"elicitation":{"url":{}}}"#),
            (r#"{"elicitation":{"url":{},"form":{}}}"#, r#"{"elicitation":{"form":{},"url":{}}}"#),
        ];
        for (raw, expected) in all {
            assert_eq!(capabilities(declared(raw)), expected, "{raw}");
            assert_eq!(declared(&capabilities(declared(raw))), declared(raw), "{raw}");
        }
    }

    #[test]
    fn a_mode_that_was_not_declared_is_a_wrong_parameter_and_a_method_that_was_not_is_none() {
        let (form, url) = (Declared::ELICITATION_FORM, Declared::ELICITATION_URL);
        for (method, declared, expected) in [
            ("elicitation/create", form, -32602),
            ("elicitation/create", url, -32602),
            ("elicitation/create", Declared::SAMPLING, -32601),
            ("elicitation/create", Declared::NONE, -32601),
            ("sampling/createMessage", form, -32601),
        ] {
            assert_eq!(refusal(method, declared), expected, "{method} {declared:?}");
        }
    }

    #[test]
    fn a_request_needs_what_it_asks_for() {
        let cases = [
            ("roots/list", "{}", Some(Declared::ROOTS)),
            ("sampling/createMessage", r#"{"messages":[]}"#, Some(Declared::SAMPLING)),
            ("sampling/createMessage", r#"{"tools":[]}"#, Some(Declared::SAMPLING.with(Declared::SAMPLING_TOOLS))),
            ("elicitation/create", r#"{"mode":"form"}"#, Some(Declared::ELICITATION_FORM)),
            ("elicitation/create", r#"{"mode":"url"}"#, Some(Declared::ELICITATION_URL)),
            ("tools/call", "{}", None),
        ];
        for (method, params, expected) in cases {
            assert_eq!(needs(method, params), expected, "{method} {params}");
        }
    }

    #[test]
    fn a_message_names_the_task_that_it_belongs_to() {
        let params = r#"{"taskId":"other","_meta":{"io.modelcontextprotocol\/related-task":{"taskId":"t\u0031"}}}"#;

        assert_eq!(related_task(params).as_deref(), Some("t1"));
        assert_eq!(task_of(params).as_deref(), Some("other"));
        for none in ["{}", r#"{"_meta":{}}"#, r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":7}}}"#] {
            assert_eq!(related_task(none), None, "{none}");
        }
    }

    #[test]
    fn a_server_is_told_of_a_level_only_when_it_is_lower() {
        let floor = LogFloor::default();
        let told = [LogLevel::Warning, LogLevel::Error, LogLevel::Warning, LogLevel::Debug].map(|level| floor.lowers(level));

        assert_eq!(told, [true, false, false, true]);
    }

    #[test]
    fn the_level_of_a_line_is_read() {
        assert_eq!(log_level(br#"{"data":"x","level":"warning"}"#), Some(LogLevel::Warning));
        assert_eq!(log_level(br#"{"level":"loud"}"#), None);
        assert_eq!(log_level(b"{}"), None);
    }
}
