//! `[http]`: the way in for MCP clients.

use std::{
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use runtime_api::ANSWER_TIMEOUT;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Name, Secret, duration};

/// The way in for MCP clients.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Lets everybody in on an address that is not loopback, when no client is configured.
    pub allow_anonymous: bool,
    /// Values of `Host` that are accepted beside the listen address, `localhost`, `127.0.0.1` and `[::1]`.
    pub allowed_hosts: Vec<String>,
    /// Accepted values of `Origin`, such as `https://inspector.example`. Loopback origins and requests without one are always
    /// accepted.
    pub allowed_origins: Vec<String>,
    /// Largest body of a request, in bytes.
    pub body_bytes_max: NonZeroUsize,
    /// Deepest nesting of JSON in a request; at most 128.
    #[schemars(range(min = 1, max = 128))]
    pub json_depth_max: usize,
    /// Threads that serve HTTP, each with its own listener and its own connections. Absent: one for each core.
    pub workers: Option<NonZeroUsize>,
    /// How long calls in flight may take to finish after the signal to stop.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub drain_timeout: Duration,
    /// Tools on one page of `tools/list`.
    pub page_size: NonZeroUsize,
    /// How tools are shown to clients that do not say it themselves. A client over standard input keeps what is said at its start.
    pub exposure: Exposure,
    /// Stands between the name of an upstream and the name of its tool.
    #[schemars(regex(pattern = "^[A-Za-z0-9_./-]{1,4}$"))]
    pub separator: String,
    /// Seals session handles and the ids of tasks, at least 32 characters. Absent: a key that lasts as long as the process.
    pub seal_key: Option<Secret>,
    /// The key before it: what was sealed with it is still accepted.
    pub seal_key_previous: Option<Secret>,
    /// Legacy sessions at one time.
    pub sessions_max: NonZeroUsize,
    /// A session that is not used for so long ends.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub session_idle: Duration,
    /// A session ends after so long in any case.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub session_ttl: Duration,
    /// Bytes of events that a session keeps for a client that has lost a stream and takes it up again. 0: nothing is kept, and events
    /// have no ids.
    pub session_replay_bytes_max: usize,
    /// How long a client may take to answer what a tool asks of it in the middle of a call; the call waits, and is withdrawn after that.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub input_timeout: Duration,
    /// After so long a client of a 2025-11-25 session is sent away from an event stream and comes back for the rest, for proxies that
    /// let no response last longer. Absent: a stream lasts as long as there is something to come.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub stream_time_max: Option<Duration>,
    /// HTTPS in place of HTTP. Absent: plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Who may call. Empty: everybody is `anonymous`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client: Vec<Client>,
}

/// The certificate of the HTTPS way in. Both files are read anew when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate and those between it and its authority, in PEM, its own first.
    pub cert_file: PathBuf,
    /// Its private key, in PEM; nobody but its owner may read the file.
    pub key_file: PathBuf,
}

/// How `tools/list` shows the tools of a view. Either way a client may call all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exposure {
    /// Each with its whole definition.
    #[default]
    Full,
    /// Three tools of the gateway, by which the others are found, described and called.
    Lazy,
}

/// A client that is known by its bearer token.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Client {
    /// Its name: the principal of its calls.
    pub name: Name,
    /// Its token, at least 16 characters.
    pub token: Secret,
    /// How tools are shown to it. Absent: as to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
    /// The categories of which it is shown tools; it may call the others still. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

impl Exposure {
    /// The one that is written so.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "full" => Some(Self::Full),
            "lazy" => Some(Self::Lazy),
            _ => None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            // Loopback: nothing is offered to a network unless somebody says so.
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            allow_anonymous: false,
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            // 16 MiB: the frame limit of the MCP++ transport, so that what comes in over HTTP fits over a peer as well.
            body_bytes_max: const { NonZeroUsize::new(16 << 20).expect("not zero") },
            // 128: the recursion limit of serde_json and of most clients; real arguments stay below 20.
            json_depth_max: 128,
            workers: None,
            // 30 s: the default time of a call, so that whoever was admitted can finish.
            drain_timeout: Duration::from_secs(30),
            // 1,000 tools are about 1 MB of definitions, which clients still take as one answer.
            page_size: const { NonZeroUsize::new(1_000).expect("not zero") },
            // What every client understands.
            exposure: Exposure::Full,
            // A dot is allowed in tool names and rare in the names of upstreams.
            separator: ".".to_owned(),
            seal_key: None,
            seal_key_previous: None,
            // 10,000 idle sessions of at most 8 KB are 80 MB, what a small machine can spare.
            sessions_max: const { NonZeroUsize::new(10_000).expect("not zero") },
            // 30 min: longer than a person looks away from a conversation.
            session_idle: Duration::from_secs(30 * 60),
            // 24 h: a leaked handle is worth nothing the next day.
            session_ttl: Duration::from_secs(24 * 60 * 60),
            // 256 KiB: some thousand progress notifications and a usual answer; with the 64 MiB that all sessions share, 256 clients may
            // be away with that much.
            session_replay_bytes_max: 256 * 1024,
            // 10 min: a person may be at lunch, and longer than this neither servers nor proxies hold a call open.
            input_timeout: ANSWER_TIMEOUT,
            stream_time_max: None,
            tls: None,
            client: Vec::new(),
        }
    }
}
