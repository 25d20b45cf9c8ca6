//! `[[upstream]]`: a server to call tools on.

use std::{collections::BTreeMap, num::NonZeroUsize, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Breaker, HeaderText, HttpUrl, Name, OpenApi, PinMode, Secret, TargetLimits, duration, limits};

/// A server to call tools on.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Its name, unique among upstreams and peers.
    pub name: Name,
    /// What it speaks.
    #[serde(default)]
    pub kind: Kind,
    /// Where it is; with every kind but `stdio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpUrl>,
    /// Whether its tools carry its name in the merged view.
    #[serde(default)]
    pub prefix: Prefix,
    /// How far its word about its tools is believed.
    #[serde(default)]
    pub trust: Trust,
    /// Which of its tools are kept from clients until their definition is accepted.
    #[serde(default)]
    pub pin: PinMode,
    /// Which eras of MCP it is spoken to in; for `kind = "mcp"`.
    #[serde(default)]
    pub era: EraChoice,
    /// What carries the messages of MCP; for `kind = "mcp"`.
    #[serde(default)]
    pub transport: TransportChoice,
    /// Who shares a session at it, over Streamable HTTP; for `kind = "mcp"`.
    #[serde(default)]
    pub sessions: SessionChoice,
    /// Sent as `Authorization: Bearer …`.
    #[serde(default)]
    pub bearer: Option<Secret>,
    /// Sent with every request.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderText>,
    /// Time for a connection to open.
    #[serde(default = "default::connect_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// Time for its whole list of tools.
    #[serde(default = "default::list_timeout", with = "duration")]
    #[schemars(with = "String")]
    pub list_timeout: Duration,
    /// How often its list is asked for anew.
    #[serde(default = "default::refresh", with = "duration")]
    #[schemars(with = "String")]
    pub refresh: Duration,
    /// Calls in flight to it at one time.
    #[serde(default = "default::concurrency")]
    pub concurrency: NonZeroUsize,
    /// Calls of `memory_intensive` tools to it at one time; a few more wait within their deadline.
    #[serde(default = "limits::default::memory_intensive")]
    pub memory_intensive: NonZeroUsize,
    /// Calls of `cpu_intensive` tools to it at one time.
    #[serde(default = "limits::default::cpu_intensive")]
    pub cpu_intensive: NonZeroUsize,
    /// Calls of `io_intensive` tools to it at one time.
    #[serde(default = "limits::default::io_intensive")]
    pub io_intensive: NonZeroUsize,
    /// When it is left alone because it cannot be reached.
    #[serde(default)]
    pub breaker: Breaker,
    /// How its OpenAPI document becomes tools; with `kind = "openapi"` only.
    #[serde(default)]
    pub openapi: Option<OpenApi>,
    /// The program to start, with `kind = "stdio"`: a path, or a name that is looked for in `PATH`. No shell reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its environment, beside what it inherits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, HeaderText>,
    /// Variables of the gateway's environment that it gets; others it does not see. Absent: `PATH` and `HOME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherit: Option<Vec<String>>,
    /// The folder it runs in. Absent: that of the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Who shares a process of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// Processes at one time that are somebody's own, with `share = "principal"` or `"session"`. Absent: 32, for each is an interpreter with
    /// its libraries, some 50 MB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_max: Option<NonZeroUsize>,
    /// A process that is somebody's own ends when nobody has called it for so long. Absent: `10m`.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub process_idle: Option<Duration>,
    /// How long it may take from its start to its first answers. Absent: `60s`, for a package manager may have to fetch it first.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub start_timeout: Option<Duration>,
    /// Retries for each hundred calls of its tools that have a retry policy, 0 to 100.
    #[serde(default = "limits::default::retry_budget_percent")]
    #[schemars(range(max = 100))]
    pub retry_budget_percent: u8,
}

impl Upstream {
    /// An MCP server with every default.
    #[must_use]
    pub fn new(name: Name, url: HttpUrl) -> Self {
        Self {
            name,
            kind: Kind::default(),
            url: Some(url),
            prefix: Prefix::default(),
            trust: Trust::default(),
            pin: PinMode::default(),
            era: EraChoice::default(),
            transport: TransportChoice::default(),
            sessions: SessionChoice::default(),
            bearer: None,
            headers: BTreeMap::new(),
            connect_timeout: default::connect_timeout(),
            list_timeout: default::list_timeout(),
            refresh: default::refresh(),
            concurrency: default::concurrency(),
            memory_intensive: limits::default::memory_intensive(),
            cpu_intensive: limits::default::cpu_intensive(),
            io_intensive: limits::default::io_intensive(),
            breaker: Breaker::default(),
            openapi: None,
            command: None,
            args: Vec::new(),
            env: BTreeMap::new(),
            inherit: None,
            cwd: None,
            share: None,
            processes_max: None,
            process_idle: None,
            start_timeout: None,
            retry_budget_percent: limits::default::retry_budget_percent(),
        }
    }

    /// What it is asked at most.
    #[must_use]
    pub fn limits(&self) -> TargetLimits {
        TargetLimits {
            memory_intensive: self.memory_intensive,
            cpu_intensive: self.cpu_intensive,
            io_intensive: self.io_intensive,
            breaker: self.breaker.clone(),
            retry_budget_percent: self.retry_budget_percent,
        }
    }
}

/// Defaults of an upstream, each written once.
mod default {
    use super::{Duration, NonZeroUsize};

    /// 5 s: three lost SYN packets on Linux are 7 s, two are 3 s.
    pub(super) const fn connect_timeout() -> Duration {
        Duration::from_secs(5)
    }

    /// 10 s: servers that gather their tools on demand take seconds; whoever needs longer is shown as stale.
    pub(super) const fn list_timeout() -> Duration {
        Duration::from_secs(10)
    }

    /// 60 s: for servers that change their list and do not say so.
    pub(super) const fn refresh() -> Duration {
        Duration::from_secs(60)
    }

    /// 256: a single server process of any common framework queues long before that.
    pub(super) const fn concurrency() -> NonZeroUsize {
        const { NonZeroUsize::new(256).expect("not zero") }
    }
}

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// MCP over Streamable HTTP or HTTP+SSE; the url is its endpoint.
    #[default]
    Mcp,
    /// A server with `GET /tools/list` and `POST /tools/execute/{tool}` below the url.
    ToolServer,
    /// HTTP, as an OpenAPI document describes it: a FastAPI application, for example. `url` is where its paths begin.
    #[serde(rename = "openapi")]
    OpenApi,
    /// MCP over standard input and output of a program that the gateway starts.
    Stdio,
}

/// Who shares a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// Everybody.
    #[default]
    All,
    /// Each principal has a process to itself, for servers that keep something of their client.
    Principal,
    /// Each session has a process to itself, from its first use to its end, for servers that keep something of a conversation. Clients
    /// of revision 2026-07-28 have no session: those of one principal share a process.
    Session,
}

impl Kind {
    /// As it is written in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mcp => "mcp",
            Self::ToolServer => "tool-server",
            Self::OpenApi => "openapi",
            Self::Stdio => "stdio",
        }
    }
}

/// Whether the tools of a target carry its name in the merged view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Prefix {
    /// Always: names stay the same whatever else is configured.
    #[default]
    Always,
    /// Only where another target has a tool of the same name.
    OnConflict,
    /// Never: a tool whose name is taken is refused and reported.
    Never,
}

/// How far a target's word about its tools is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Its hints and metadata count where no rule says otherwise.
    #[default]
    Hints,
    /// Only rules of this file count.
    None,
}

/// Which eras of MCP a target is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EraChoice {
    /// Those it serves, found by asking.
    #[default]
    Auto,
    /// Revisions up to 2025-11-25 only.
    Legacy,
    /// Revision 2026-07-28 only.
    Modern,
}

/// Who shares a session at a server of MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SessionChoice {
    /// All calls of a client by token whose programs take the same. A warm call costs no other message.
    #[default]
    Shared,
    /// Nobody: each call has a session of its own, for servers that remember there what a client said.
    Call,
}

/// What carries the messages of MCP to a target that is reached over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransportChoice {
    /// What it takes, found by trying: Streamable HTTP, else HTTP+SSE.
    #[default]
    Auto,
    /// Streamable HTTP only.
    Http,
    /// HTTP+SSE of revision 2024-11-05 only.
    Sse,
}
