//! What the gateway knows of a tool beside its definition, and who said so.
//!
//! Each field is enforced by one reader, and one test fails when that reader is gone (`ARCHITECTURE.md` has the table):
//! the router (`runtime`, `requires_p2p`), admission (`priority`), the deadline layer (`timeout`), the catalogue (`category`,
//! `schema_version`, deprecation), the retry layer (`retry`, `read_only`, `idempotent`), the class layer (`*_intensive`), the
//! cache (`cache_ttl`, `read_only`).

mod own;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use runtime_api::Priority;

use crate::config::{Backoff, Config, Retry, RuntimeChoice, ToolRule, Trust};

/// Longest call. What takes longer than a day is no call any more, and a time that cannot be added to a clock is nonsense.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What is known of a tool. [`Metadata::said_by`] tells where each field comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// Which runtime must answer.
    pub runtime: RuntimeChoice,
    /// Only peers may answer.
    pub requires_p2p: bool,
    /// Groups tools in the catalogue and in metrics.
    pub category: Arc<str>,
    /// Who waits when there is too much to do.
    pub priority: Priority,
    /// How long a call may take.
    pub timeout: Duration,
    /// When a call that failed is made once more; absent for `none`.
    pub retry: Option<Retry>,
    /// Calls take places in this class of their target.
    pub memory_intensive: bool,
    /// Calls take places in this class of their target.
    pub cpu_intensive: bool,
    /// Calls take places in this class of their target.
    pub io_intensive: bool,
    /// How long a result may be kept. Only counts for a read-only tool.
    pub cache_ttl: Option<Duration>,
    /// Clients are told to stop using it.
    pub deprecated: bool,
    /// What they are told.
    pub deprecation_message: Option<Arc<str>>,
    /// The version of its definition.
    pub schema_version: Arc<str>,
    /// It changes nothing.
    pub read_only: bool,
    /// Running it twice is the same as once.
    pub idempotent: bool,
    /// The pattern or name of the rule that is for this tool.
    pub rule: Option<Arc<str>>,
    /// Who said what each field is.
    pub said: SaidBy,
}

/// Who said what each field is; [`Metadata::said_by`] reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SaidBy([Said; FIELDS]);

/// One field of the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the fields of `Metadata`")]
pub enum Field {
    Runtime,
    RequiresP2p,
    Category,
    Priority,
    Timeout,
    Retry,
    MemoryIntensive,
    CpuIntensive,
    IoIntensive,
    CacheTtl,
    Deprecated,
    DeprecationMessage,
    SchemaVersion,
    ReadOnly,
    Idempotent,
}

const FIELDS: usize = Field::ALL.len();

impl Field {
    /// Every field, in the order in which they are shown.
    pub const ALL: [Self; 15] = [
        Self::Runtime,
        Self::RequiresP2p,
        Self::Category,
        Self::Priority,
        Self::Timeout,
        Self::Retry,
        Self::MemoryIntensive,
        Self::CpuIntensive,
        Self::IoIntensive,
        Self::CacheTtl,
        Self::Deprecated,
        Self::DeprecationMessage,
        Self::SchemaVersion,
        Self::ReadOnly,
        Self::Idempotent,
    ];

    /// As it is written in a rule and in a tool's own metadata.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::RequiresP2p => "requires_p2p",
            Self::Category => "category",
            Self::Priority => "priority",
            Self::Timeout => "timeout",
            Self::Retry => "retry",
            Self::MemoryIntensive => "memory_intensive",
            Self::CpuIntensive => "cpu_intensive",
            Self::IoIntensive => "io_intensive",
            Self::CacheTtl => "cache_ttl",
            Self::Deprecated => "deprecated",
            Self::DeprecationMessage => "deprecation_message",
            Self::SchemaVersion => "schema_version",
            Self::ReadOnly => "read_only",
            Self::Idempotent => "idempotent",
        }
    }
}

/// Who said what a field is, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Said {
    /// Nobody.
    #[default]
    Default,
    /// The annotations of MCP in the definition, of a trusted target.
    Annotations,
    /// The tool's own `_meta["twinway/metadata"]`, of a trusted target.
    Tool,
    /// A rule of the configuration.
    Rule,
}

impl Said {
    /// `default`, `annotations`, `tool` or `rule`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Annotations => "annotations",
            Self::Tool => "tool",
            Self::Rule => "rule",
        }
    }
}

/// Where metadata comes from, strongest first: rules; the tool's own metadata and annotations, if trusted; defaults.
#[derive(Debug, Clone)]
pub struct Sources {
    rules: Arc<[ToolRule]>,
    default_timeout: Duration,
}

impl Sources {
    /// The configured rules and defaults.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { rules: config.tool.as_slice().into(), default_timeout: config.admission.default_timeout }
    }

    /// The metadata of the tool with this public name.
    #[must_use]
    pub fn of(&self, public: &str, definition: &Bytes, trust: Trust) -> Metadata {
        self.by_rule(self.first_match(public), definition, trust)
    }

    /// The metadata of a tool that a rule makes out of several: that rule counts first.
    #[must_use]
    pub fn of_made(&self, public: &str, definition: &Bytes, trust: Trust) -> Metadata {
        let own = self.rules.iter().find(|rule| rule.name.as_deref() == Some(public));
        self.by_rule(own.or_else(|| self.first_match(public)), definition, trust)
    }

    /// The rules that make one tool out of several.
    pub fn making(&self) -> impl Iterator<Item = &ToolRule> {
        self.rules.iter().filter(|rule| rule.name.is_some())
    }

    fn first_match(&self, public: &str) -> Option<&ToolRule> {
        self.rules.iter().find(|rule| rule.pattern.as_ref().is_some_and(|pattern| pattern.matches(public)))
    }

    fn by_rule(&self, rule: Option<&ToolRule>, definition: &Bytes, trust: Trust) -> Metadata {
        let mut metadata = Metadata { timeout: self.default_timeout, ..Metadata::default() };
        if trust == Trust::Hints {
            metadata.take(own::annotations(definition), Said::Annotations);
            metadata.take(own::metadata(definition), Said::Tool);
        }
        if let Some(rule) = rule {
            metadata.take(Wishes::from(rule), Said::Rule);
            metadata.rule = Some(rule.subject().into());
        }
        metadata.settle();
        metadata
    }
}

impl Default for Metadata {
    /// A tool of which nothing is known: it may change things, so nothing of it is repeated or kept.
    fn default() -> Self {
        Self {
            runtime: RuntimeChoice::Auto,
            requires_p2p: false,
            category: "general".into(),
            priority: Priority::default(),
            timeout: crate::config::Admission::default().default_timeout,
            retry: None,
            memory_intensive: false,
            cpu_intensive: false,
            io_intensive: false,
            cache_ttl: None,
            deprecated: false,
            deprecation_message: None,
            schema_version: "1.0".into(),
            read_only: false,
            idempotent: false,
            rule: None,
            said: SaidBy::default(),
        }
    }
}

/// What one source says of a tool.
#[derive(Debug, Default)]
struct Wishes {
    runtime: Option<RuntimeChoice>,
    requires_p2p: Option<bool>,
    category: Option<Arc<str>>,
    priority: Option<Priority>,
    timeout: Option<Duration>,
    retry: Option<Retry>,
    memory_intensive: Option<bool>,
    cpu_intensive: Option<bool>,
    io_intensive: Option<bool>,
    cache_ttl: Option<Duration>,
    deprecated: Option<bool>,
    deprecation_message: Option<Arc<str>>,
    schema_version: Option<Arc<str>>,
    read_only: Option<bool>,
    idempotent: Option<bool>,
}

impl From<&ToolRule> for Wishes {
    fn from(rule: &ToolRule) -> Self {
        Self {
            runtime: rule.runtime,
            requires_p2p: rule.requires_p2p,
            category: rule.category.as_ref().map(|category| category.as_str().into()),
            priority: rule.priority,
            timeout: rule.timeout,
            retry: rule.retry.clone(),
            memory_intensive: rule.memory_intensive,
            cpu_intensive: rule.cpu_intensive,
            io_intensive: rule.io_intensive,
            cache_ttl: rule.cache_ttl,
            deprecated: rule.deprecated,
            deprecation_message: rule.deprecation_message.as_deref().map(Arc::from),
            schema_version: rule.schema_version.as_deref().map(Arc::from),
            read_only: rule.read_only,
            idempotent: rule.idempotent,
        }
    }
}

impl Metadata {
    /// Who said what this field is.
    #[must_use]
    pub const fn said_by(&self, field: Field) -> Said {
        self.said.0[field as usize]
    }

    /// Whether a call may run twice: the tool is read-only or idempotent.
    #[must_use]
    pub const fn may_run_twice(&self) -> bool {
        self.read_only || self.idempotent
    }

    /// How long results may be kept: only those of a tool that changes nothing, whoever said so.
    #[must_use]
    pub fn keeps_results(&self) -> Option<Duration> {
        self.cache_ttl.filter(|_| self.read_only)
    }

    /// Lets a source that is stronger than those before it have its way.
    fn take(&mut self, wishes: Wishes, said: Said) {
        let all = &mut self.said.0;
        let mut set = Setter { said, all };
        set.field(Field::Runtime, &mut self.runtime, wishes.runtime);
        set.field(Field::RequiresP2p, &mut self.requires_p2p, wishes.requires_p2p);
        set.field(Field::Category, &mut self.category, wishes.category);
        set.field(Field::Priority, &mut self.priority, wishes.priority);
        set.field(Field::Timeout, &mut self.timeout, wishes.timeout);
        let retry = wishes.retry.map(|retry| (retry.policy != Backoff::None).then_some(retry));
        set.field(Field::Retry, &mut self.retry, retry);
        set.field(Field::MemoryIntensive, &mut self.memory_intensive, wishes.memory_intensive);
        set.field(Field::CpuIntensive, &mut self.cpu_intensive, wishes.cpu_intensive);
        set.field(Field::IoIntensive, &mut self.io_intensive, wishes.io_intensive);
        set.field(Field::CacheTtl, &mut self.cache_ttl, wishes.cache_ttl.map(Some));
        set.field(Field::Deprecated, &mut self.deprecated, wishes.deprecated);
        set.field(Field::DeprecationMessage, &mut self.deprecation_message, wishes.deprecation_message.map(Some));
        set.field(Field::SchemaVersion, &mut self.schema_version, wishes.schema_version);
        set.field(Field::ReadOnly, &mut self.read_only, wishes.read_only);
        set.field(Field::Idempotent, &mut self.idempotent, wishes.idempotent);
    }

    /// What follows from the fields together.
    fn settle(&mut self) {
        self.timeout = self.timeout.min(TIMEOUT_MAX);
        // What changes nothing can run twice. Where two sources contradict each other in this, the stronger one counts.
        if self.read_only && !self.idempotent {
            let (read_only, idempotent) = (self.said_by(Field::ReadOnly), self.said_by(Field::Idempotent));
            let may_run_twice = read_only >= idempotent;
            (self.read_only, self.idempotent) = (may_run_twice, may_run_twice);
            let strongest = read_only.max(idempotent);
            self.said.0[Field::ReadOnly as usize] = strongest;
            self.said.0[Field::Idempotent as usize] = strongest;
        }
    }
}

/// Sets fields and notes who did.
struct Setter<'a> {
    said: Said,
    all: &'a mut [Said; FIELDS],
}

impl Setter<'_> {
    fn field<T>(&mut self, field: Field, slot: &mut T, wish: Option<T>) {
        if let Some(wish) = wish {
            *slot = wish;
            self.all[field as usize] = self.said;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const OWN: &str =
        r#"{"name":"t","_meta":{"twinway/metadata":{"runtime":"trio","priority":9,"timeout":"2s","category":"gpu"}}}"#;

    fn sources(rules: &str) -> Sources {
        Sources::new(&Config::parse(rules, Path::new("test.toml")).expect("a good configuration"))
    }

    #[test]
    fn a_rule_is_stronger_than_the_tool_and_the_tool_than_the_default() {
        let sources = sources("[[tool]]\nmatch = \"up.*\"\npriority = 2\n");

        let metadata = sources.of("up.t", &Bytes::from_static(OWN.as_bytes()), Trust::Hints);

        assert_eq!(metadata.priority.level(), 2);
        assert_eq!(metadata.runtime, RuntimeChoice::Mcpp);
        assert_eq!(metadata.timeout, Duration::from_secs(2));
        assert_eq!(&*metadata.category, "gpu");
    }

    #[test]
    fn a_target_that_is_not_trusted_says_nothing_about_itself() {
        let metadata = sources("").of("up.t", &Bytes::from_static(OWN.as_bytes()), Trust::None);

        assert_eq!(metadata.priority, Priority::default());
        assert_eq!(metadata.runtime, RuntimeChoice::Auto);
    }

    #[test]
    fn a_tool_cannot_ask_for_no_time_or_for_all_of_it() {
        let of = |timeout: &str| {
            let own = format!(r#"{{"_meta":{{"twinway/metadata":{{"timeout":"{timeout}"}}}}}}"#);
            sources("").of("t", &Bytes::from(own), Trust::Hints).timeout
        };

        assert_eq!(of("10000000000000000000s"), TIMEOUT_MAX);
        assert_eq!(of("0s"), Duration::from_secs(30));
    }

    #[test]
    fn annotations_count_as_far_as_the_target_is_trusted_and_metadata_is_stronger() {
        let of = |rules: &str, text: &str, trust| sources(rules).of("t", &Bytes::copy_from_slice(text.as_bytes()), trust);
        let read_only = r#"{"annotations":{"readOnlyHint":true}}"#;
        let idempotent = r#"{"annotations":{"idempotentHint":true,"destructiveHint":true}}"#;
        let both = r#"{"annotations":{"readOnlyHint":true,"destructiveHint":true}}"#;
        let denied = r#"{"annotations":{"readOnlyHint":true},"_meta":{"twinway/metadata":{"read_only":false}}}"#;
        let rule = "[[tool]]\nmatch = \"*\"\nread_only = false\nidempotent = false\n";
        let cases = [
            ("", read_only, Trust::Hints, (true, true)),
            ("", idempotent, Trust::Hints, (false, true)),
            ("", both, Trust::Hints, (false, false)),
            ("", denied, Trust::Hints, (false, false)),
            ("", read_only, Trust::None, (false, false)),
            (rule, read_only, Trust::Hints, (false, false)),
            (rule, idempotent, Trust::Hints, (false, false)),
            ("[[tool]]\nmatch = \"*\"\nidempotent = false\n", read_only, Trust::Hints, (false, false)),
        ];
        for (rules, text, trust, expected) in cases {
            let metadata = of(rules, text, trust);

            assert_eq!((metadata.read_only, metadata.idempotent), expected, "{rules} {text} {trust:?}");
            assert_eq!(metadata.may_run_twice(), expected.0 || expected.1);
        }
    }

    #[test]
    fn each_field_is_read_from_a_rule_and_from_the_tool_and_says_who_set_it() {
        let own = r#"{"_meta":{"twinway/metadata":{
            "runtime":"mcpp","requires_p2p":true,"category":"gpu","priority":9,"timeout":"2s",
            "retry":{"policy":"linear","attempts":4,"delay":"1s","max_delay":"2s","jitter":0},
            "memory_intensive":true,"cpu_intensive":true,"io_intensive":true,"cache_ttl":"3s","deprecated":true,
            "deprecation_message":"use u","schema_version":"2.1","read_only":true,"idempotent":true}}}"#;
        let rule = r#"[[tool]]
            match = "t"
            runtime = "mcpp"
            requires_p2p = true
            category = "gpu"
            priority = 9
            timeout = "2s"
            retry = { policy = "linear", attempts = 4, delay = "1s", max_delay = "2s", jitter = 0.0 }
            memory_intensive = true
            cpu_intensive = true
            io_intensive = true
            cache_ttl = "3s"
            deprecated = true
            deprecation_message = "use u"
            schema_version = "2.1"
            read_only = true
            idempotent = true"#;

        let by_tool = sources("").of("t", &Bytes::from_static(own.as_bytes()), Trust::Hints);
        let by_rule = sources(rule).of("t", &Bytes::from_static(b"{}"), Trust::None);

        let default = Metadata::default();
        for field in Field::ALL {
            let saying = [&default, &by_tool, &by_rule].map(|metadata| metadata.said_by(field));
            assert_eq!(saying, [Said::Default, Said::Tool, Said::Rule], "{}", field.as_str());
        }
        let (rule, said) = (default.rule, default.said);
        assert_eq!(Metadata { said, rule: rule.clone(), ..by_tool }, Metadata { said, rule, ..by_rule.clone() });
        assert_eq!(by_rule.retry.expect("a retry").attempts, 4);
        assert_eq!((by_rule.cache_ttl, by_rule.deprecation_message.as_deref()), (Some(Duration::from_secs(3)), Some("use u")));
        assert_eq!((&*by_rule.schema_version, by_rule.rule.as_deref()), ("2.1", Some("t")));
    }

    #[test]
    fn what_a_tool_says_of_itself_is_bounded_and_nonsense_is_as_good_as_absent() {
        let of = |member: &str| {
            let own = format!(r#"{{"_meta":{{"twinway/metadata":{{{member}}}}}}}"#);
            sources("").of("t", &Bytes::from(own), Trust::Hints)
        };

        for nonsense in [
            r#""retry":"always""#,
            r#""retry":{"policy":"fixed","attempts":1000}"#,
            r#""retry":{"policy":"fixed","delay":"10s"}"#,
            r#""retry":"none""#,
            r#""retry":7"#,
            r#""cache_ttl":"0s""#,
            r#""read_only":"yes""#,
        ] {
            let metadata = of(nonsense);
            assert_eq!((metadata.retry, metadata.cache_ttl, metadata.read_only), (None, None, false), "{nonsense}");
        }
        assert_eq!(of(r#""retry":"fixed""#).retry, Some(Retry::new(Backoff::Fixed)));
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let sources = sources("[[tool]]\nmatch = \"a*\"\ntimeout = \"1s\"\n[[tool]]\nmatch = \"*\"\ntimeout = \"9s\"\n");
        let definition = Bytes::from_static(b"{}");

        assert_eq!(sources.of("ab", &definition, Trust::None).timeout, Duration::from_secs(1));
        assert_eq!(sources.of("b", &definition, Trust::None).timeout, Duration::from_secs(9));
    }
}
