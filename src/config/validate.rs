//! What no single value can say: secrets and paths that must exist, and values that must fit together.

use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, SystemTime},
};

use runtime_api::Principal;
use runtime_mcpp::{
    Identity, Multiaddr,
    config::{AuthorityMode, ConfigError},
    identity::IdentityError,
};
use url::{Host, Url};

use super::{
    Config, Environment, EraChoice, HeaderText, Http, Invalid, Kind, Name, Peer, PinMode, RuntimeChoice, Secret, SessionChoice,
    Share, ToolRule, TransportChoice, Upstream,
};
use crate::{
    catalog::{NAME_BYTES_MAX, Pins, PinsError},
    tls::{Certificate, CertificateError},
};

/// Characters of a seal key: 32 hold 128 bits even as hexadecimal digits.
const SEAL_KEY_CHARS_MIN: usize = 32;

/// Deepest JSON that can be allowed: the stack that a deeper one needs is not reserved.
const JSON_DEPTH_LIMIT: usize = 128;

/// Characters of a client's token: 16 hold 64 bits even as hexadecimal digits, too many to try over a network.
const TOKEN_CHARS_MIN: usize = 16;

/// Headers of a request that say how it is framed, or what this one call is about: a second one could say something else.
const OWN_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "mcp-protocol-version",
    "mcp-session-id",
    "mcp-method",
    "mcp-name",
    "traceparent",
    "tracestate",
];

/// 24 h: a call that takes longer is a job, whose tool should answer with something to ask after.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Config {
    /// Every secret and the path of its value.
    pub(super) fn secrets_mut(&mut self) -> Vec<(String, &mut Secret)> {
        let mut secrets = Vec::new();
        for (secret, key) in [(&mut self.http.seal_key, "seal_key"), (&mut self.http.seal_key_previous, "seal_key_previous")] {
            secrets.extend(secret.as_mut().map(|secret| (format!("http.{key}"), secret)));
        }
        for (index, client) in self.http.client.iter_mut().enumerate() {
            secrets.push((format!("http.client.{index}.token"), &mut client.token));
        }
        for (index, upstream) in self.upstream.iter_mut().enumerate() {
            secrets.extend(upstream.bearer.as_mut().map(|bearer| (format!("upstream.{index}.bearer"), bearer)));
            for (table, texts) in [("headers", &mut upstream.headers), ("env", &mut upstream.env)] {
                for (name, value) in texts {
                    if let HeaderText::Secret(secret) = value {
                        secrets.push((format!("upstream.{index}.{table}.{name}"), secret));
                    }
                }
            }
            for (name, secret) in upstream.openapi.iter_mut().flat_map(|openapi| &mut openapi.security) {
                secrets.push((format!("upstream.{index}.openapi.security.{name}"), secret));
            }
        }
        secrets
    }

    /// Fetches secrets and makes relative paths relative to `base`. Returns what could not be fetched.
    pub(super) fn resolve(&mut self, base: &Path, environment: &Environment) -> Vec<Invalid> {
        if let Some(p2p) = &mut self.p2p {
            p2p.key_file = base.join(&p2p.key_file);
        }
        if let Some(tls) = &mut self.http.tls {
            (tls.cert_file, tls.key_file) = (base.join(&tls.cert_file), base.join(&tls.key_file));
        }
        if let Some(pins) = &mut self.definitions.pins_file {
            *pins = base.join(&pins);
        }
        for cwd in self.upstream.iter_mut().filter_map(|upstream| upstream.cwd.as_mut()) {
            *cwd = base.join(&cwd);
        }
        let resolve = |(path, secret): (String, &mut Secret)| secret.resolve(&path, base, environment).err();
        self.secrets_mut().into_iter().filter_map(resolve).collect()
    }

    /// Whatever is wrong that the types cannot say; of each table the first mistake.
    pub(crate) fn mistakes(&self) -> Vec<Invalid> {
        let telemetry = self.telemetry.iter().map(|telemetry| {
            telemetry
                .validate()
                .map_err(|(key, what)| Invalid::new(format!("telemetry.{key}"), format!("`telemetry.{key}`: {what}")))
        });
        let peers = self.peer.iter().enumerate().map(|(index, peer)| self.validate_peer(index, peer));
        let checks = [
            self.http.validate(),
            self.http.validate_keys(),
            self.http.validate_clients(),
            self.http.validate_address(),
            self.validate_grpc(),
            self.http.validate_tls(),
            self.validate_names(),
            self.validate_budgets(),
            self.validate_p2p(),
            self.validate_candidates(),
            self.validate_not_itself(),
            self.validate_pins(),
            bounded("admission.default_timeout", self.admission.default_timeout),
        ];
        let upstreams = self.upstream.iter().enumerate().map(|(index, upstream)| upstream.validate(index));
        let rules = self.tool.iter().enumerate().map(|(index, rule)| rule.validate(index));
        let checks = checks.into_iter().chain(telemetry).chain(upstreams).chain(peers).chain(rules);
        checks.filter_map(Result::err).collect()
    }

    /// A tool has one name, and is part of one other at most.
    fn validate_candidates(&self) -> Result<(), Invalid> {
        let mut names = HashMap::new();
        let mut parts = HashMap::new();
        for (index, rule) in self.tool.iter().enumerate() {
            if let Some(name) = &rule.name
                && names.insert(name, ()).is_some()
            {
                return Err(Invalid::new(format!("tool.{index}.name"), format!("another rule makes `{name}` already")));
            }
            for (place, part) in rule.from.iter().enumerate() {
                if parts.insert(part, ()).is_some() {
                    return Err(Invalid::new(
                        format!("tool.{index}.from.{place}"),
                        format!("`{part}` is part of a tool already"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// A gateway that is its own upstream would list its tools again with each look, under longer names, without end.
    fn validate_not_itself(&self) -> Result<(), Invalid> {
        let is_here = |upstream: &Upstream| upstream.url.as_ref().is_some_and(|url| leads_to(url.as_url(), self.http.listen));
        match self.upstream.iter().position(is_here) {
            Some(index) => Err(Invalid::new(
                format!("upstream.{index}.url"),
                format!("this is where the gateway itself listens (`http.listen` is {})", self.http.listen),
            )),
            None => Ok(()),
        }
    }

    /// A file of pins that does not exist yet is made when it is needed; one that exists must be usable.
    fn validate_pins(&self) -> Result<(), Invalid> {
        let complain = |error: PinsError| {
            let invalid = Invalid::new("definitions.pins_file", error.to_string());
            match error {
                PinsError::Read { source, .. } => invalid.because(source),
                PinsError::Broken { .. } => invalid,
            }
        };
        let Some(file) = &self.definitions.pins_file else { return self.validate_unpinned() };
        Pins::open(file).map(drop).map_err(complain)
    }

    /// What was accepted has to be kept somewhere.
    fn validate_unpinned(&self) -> Result<(), Invalid> {
        let upstreams = self.upstream.iter().enumerate().map(|(index, one)| (format!("upstream.{index}.pin"), one.pin));
        let peers = self.peer.iter().enumerate().map(|(index, one)| (format!("peer.{index}.pin"), one.pin));
        match upstreams.chain(peers).find(|(_, pin)| *pin != PinMode::Off) {
            Some((path, _)) => {
                Err(Invalid::new(path, "pinned tools need `definitions.pins_file`, where what was accepted is kept"))
            }
            None => Ok(()),
        }
    }

    /// What is not wrong and yet hardly meant.
    pub(crate) fn warnings(&self) -> Vec<Invalid> {
        let mut warnings = Vec::new();
        let certificate = self.http.tls.as_ref().and_then(|tls| Certificate::load(tls).ok());
        if let Some(what) = certificate.and_then(|certificate| certificate.out_of_date(SystemTime::now())) {
            warnings.push(Invalid::new("http.tls.cert_file", what));
        }
        let Some(p2p) = &self.p2p else { return warnings };
        if p2p.authority == AuthorityMode::Allowlist && p2p.allow.is_empty() {
            let what = "`authority = \"allowlist\"` without a `[[p2p.allow]]` lets nobody in";
            warnings.push(Invalid::new("p2p.authority", what));
        }
        if p2p.listen.is_empty() {
            warnings.push(Invalid::new("p2p", "`p2p.listen` is empty: this node only dials, and no peer can call its tools"));
        }
        warnings
    }

    /// The same clients may come as to `[http]`, and the same holds without any.
    fn validate_grpc(&self) -> Result<(), Invalid> {
        match &self.grpc {
            Some(grpc) if self.http.client.is_empty() && !grpc.allow_anonymous => not_open_to_all("grpc.listen", grpc.listen),
            _ => Ok(()),
        }
    }

    /// Upstreams and peers share one space of names.
    fn validate_names(&self) -> Result<(), Invalid> {
        let upstreams = self.upstream.iter().enumerate().map(|(index, one)| (format!("upstream.{index}.name"), &one.name));
        let peers = self.peer.iter().enumerate().map(|(index, one)| (format!("peer.{index}.name"), &one.name));
        unique("upstream or peer", upstreams.chain(peers))
    }

    fn validate_budgets(&self) -> Result<(), Invalid> {
        let upstreams =
            self.upstream.iter().enumerate().map(|(index, one)| (format!("upstream.{index}"), one.retry_budget_percent));
        let peers = self.peer.iter().enumerate().map(|(index, one)| (format!("peer.{index}"), one.retry_budget_percent));
        match upstreams.chain(peers).find(|(_, percent)| *percent > 100) {
            Some((path, percent)) => {
                Err(Invalid::new(format!("{path}.retry_budget_percent"), format!("{percent} is not within 0 to 100")))
            }
            None => Ok(()),
        }
    }

    fn validate_peer(&self, index: usize, peer: &Peer) -> Result<(), Invalid> {
        let complain = |error: ConfigError| Invalid::new(peer_path(index, peer, &error), error.to_string());
        peer.to_runtime().validate().map_err(complain)?;
        if self.p2p.is_none() {
            return Err(Invalid::new(format!("peer.{index}"), "a peer needs the table `[p2p]`"));
        }
        Ok(())
    }

    fn validate_p2p(&self) -> Result<(), Invalid> {
        let Some(p2p) = &self.p2p else { return Ok(()) };
        p2p.validate().map_err(|error| Invalid::new(p2p_path(&error, &p2p.listen), error.to_string()))?;
        if p2p.authority == AuthorityMode::OpenLoopback {
            only_loopback(&p2p.listen)?;
        }
        usable_key(&p2p.key_file)
    }
}

/// Whether a url leads to this address, as far as its text says. Port 0 is chosen later, so no url has it.
fn leads_to(url: &Url, listen: SocketAddr) -> bool {
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        // One of them; the listener has either this one or all of them.
        Some(Host::Domain("localhost")) if listen.ip().is_loopback() => listen.ip(),
        Some(Host::Domain("localhost")) => Ipv4Addr::LOCALHOST.into(),
        _ => return false,
    };
    let reaches = ip == listen.ip() || listen.ip().is_unspecified() && ip.is_loopback();
    reaches && url.port_or_known_default() == Some(listen.port())
}

/// With `open-loopback` whoever connects may call everything, so nobody else may be able to connect.
fn only_loopback(listen: &[Multiaddr]) -> Result<(), Invalid> {
    let is_loopback = |address: &Multiaddr| {
        let host = address.to_string().split('/').nth(2).and_then(|host| host.parse::<IpAddr>().ok());
        host.is_some_and(|host| host.is_loopback())
    };
    let Some((index, address)) = listen.iter().enumerate().find(|(_, address)| !is_loopback(address)) else { return Ok(()) };
    let what = format!(
        "`{address}` can be reached from other machines, which `authority = \"open-loopback\"` is not for; listen on \
         /ip4/127.0.0.1, or use \"allowlist\""
    );
    Err(Invalid::new(format!("p2p.listen.{index}"), what))
}

/// Durations are longer than 0 s already when they are read.
fn bounded(path: &str, timeout: Duration) -> Result<(), Invalid> {
    if timeout <= TIMEOUT_MAX {
        return Ok(());
    }
    let timeout = humantime::format_duration(timeout);
    Err(Invalid::new(path, format!("a call may take 24h at most, and this is {timeout}")))
}

/// The key that a complaint of the node is about.
fn p2p_path(error: &ConfigError, listen: &[Multiaddr]) -> String {
    if let Some(place) = listen.iter().position(|address| error.address() == Some(address)) {
        return format!("p2p.listen.{place}");
    }
    match error {
        ConfigError::FrameTooLarge(_) => "p2p.frame_bytes_max",
        ConfigError::MemoryPercent(_) => "p2p.memory_percent_max",
        ConfigError::AllowUnused | ConfigError::Glob { .. } => "p2p.allow",
        // The enum may grow; the table is never the wrong place.
        _ => "p2p",
    }
    .to_owned()
}

/// The key that a complaint about a peer is about.
fn peer_path(index: usize, peer: &Peer, error: &ConfigError) -> String {
    let key = match error.address() {
        Some(wrong) if peer.address.as_ref() != Some(wrong) => {
            let place = peer.addresses.iter().position(|address| address == wrong);
            place.map_or_else(|| "addresses".to_owned(), |place| format!("addresses.{place}"))
        }
        Some(_) => "address".to_owned(),
        None => match error {
            ConfigError::Refresh(_) => "refresh".to_owned(),
            ConfigError::TooManyAddresses(_) => "addresses".to_owned(),
            // Nothing more precise is written there.
            _ => return format!("peer.{index}"),
        },
    };
    format!("peer.{index}.{key}")
}

/// A key that does not exist yet is made at the start; one that exists must be usable.
fn usable_key(path: &Path) -> Result<(), Invalid> {
    let Err(error) = Identity::load(path) else { return Ok(()) };
    let what = error.to_string();
    match error {
        IdentityError::Io { source, .. } if source.kind() == ErrorKind::NotFound => Ok(()),
        IdentityError::Io { source, .. } => Err(Invalid::new("p2p.key_file", what).because(source)),
        _ => Err(Invalid::new("p2p.key_file", what)),
    }
}

impl Http {
    fn validate(&self) -> Result<(), Invalid> {
        let wrong = |key: &str, what: String| Err(Invalid::new(format!("http.{key}"), format!("`http.{key}`: {what}")));
        if !(1..=JSON_DEPTH_LIMIT).contains(&self.json_depth_max) {
            return wrong("json_depth_max", format!("{} is not within 1 to {JSON_DEPTH_LIMIT}", self.json_depth_max));
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
        if !(1..=4).contains(&self.separator.len()) || !self.separator.bytes().all(fits) {
            return wrong("separator", "1 to 4 characters that a tool's name may hold: letters, digits and `_.-/`".to_owned());
        }
        if self.session_ttl < self.session_idle {
            return wrong("session_ttl", "a session cannot end before it is idle: less than `session_idle`".to_owned());
        }
        Ok(())
    }

    fn validate_keys(&self) -> Result<(), Invalid> {
        let wrong = |key: &str, what: String| Err(Invalid::new(format!("http.{key}"), format!("`http.{key}`: {what}")));
        for (key, secret) in [("seal_key", &self.seal_key), ("seal_key_previous", &self.seal_key_previous)] {
            if secret.as_ref().is_some_and(|secret| secret.expose().len() < SEAL_KEY_CHARS_MIN) {
                return wrong(key, format!("a key shorter than {SEAL_KEY_CHARS_MIN} characters can be guessed"));
            }
        }
        if self.seal_key_previous.is_some() && self.seal_key.is_none() {
            return wrong("seal_key_previous", "a previous key without `seal_key`".to_owned());
        }
        Ok(())
    }

    fn validate_clients(&self) -> Result<(), Invalid> {
        unique("client", self.client.iter().enumerate().map(|(index, one)| (format!("http.client.{index}.name"), &one.name)))?;
        let mut owners = HashMap::new();
        for (index, client) in self.client.iter().enumerate() {
            // It would be given what is for whoever comes, and a session of its own would be theirs once no client is configured.
            if client.name.as_str() == Principal::anonymous().as_str() {
                let what = format!("`{}` is the name of whoever comes to a gateway without clients", client.name);
                return Err(Invalid::new(format!("http.client.{index}.name"), what));
            }
            if client.token.expose().len() < TOKEN_CHARS_MIN {
                let what = format!("a token shorter than {TOKEN_CHARS_MIN} characters can be guessed");
                return Err(Invalid::new(format!("http.client.{index}.token"), what));
            }
            if let Some(owner) = owners.insert(client.token.expose(), &client.name) {
                let what = format!("the token is the one of client `{owner}`, so nobody could tell them apart");
                return Err(Invalid::new(format!("http.client.{index}.token"), what));
            }
        }
        Ok(())
    }

    fn validate_tls(&self) -> Result<(), Invalid> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let complain = |error: CertificateError| {
            let invalid = Invalid::new(format!("http.tls.{}", error.key()), error.to_string());
            match error {
                CertificateError::Read { source, .. } | CertificateError::Key(IdentityError::Io { source, .. }) => {
                    invalid.because(source)
                }
                _ => invalid,
            }
        };
        Certificate::load(tls).map(drop).map_err(complain)
    }

    fn validate_address(&self) -> Result<(), Invalid> {
        if self.client.is_empty() && !self.allow_anonymous {
            not_open_to_all("http.listen", self.listen)?;
        }
        Ok(())
    }
}

impl ToolRule {
    /// A rule is for tools by pattern, or makes one tool out of several. The key that is wrong, and what is.
    fn validate_subject(&self) -> Result<(), (&'static str, String)> {
        let complain = |key, what: &str| Err((key, what.to_owned()));
        let Some(name) = &self.name else {
            return match (&self.pattern, self.from.is_empty(), self.compatible) {
                (None, ..) => complain("match", "a rule needs `match`, or `name` and `from`"),
                (Some(_), false, _) => complain("from", "`from` makes one tool, so it needs `name` instead of `match`"),
                (Some(_), _, true) => complain("compatible", "only says something of a rule with `from`"),
                (Some(_), true, false) => Ok(()),
            };
        };
        if self.pattern.is_some() {
            return complain("match", "a rule has `match`, or `name` and `from`, not both");
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(fits) {
            let what = format!("`{name}` is not the name of a tool: 1 to {NAME_BYTES_MAX} letters, digits and `_.-/`");
            return Err(("name", what));
        }
        if self.from.len() < 2 {
            return complain("from", "one tool is made out of two or more; name them as the merged list does: `near.echo`");
        }
        Ok(())
    }

    fn validate(&self, index: usize) -> Result<(), Invalid> {
        let wrong = |key: &str, what: &str| Err(Invalid::new(format!("tool.{index}.{key}"), what));
        self.validate_subject().or_else(|(key, what)| wrong(key, &what))?;
        self.timeout.map_or(Ok(()), |timeout| bounded(&format!("tool.{index}.timeout"), timeout))?;
        if self.requires_p2p == Some(true) && self.runtime == Some(RuntimeChoice::Http) {
            return wrong("requires_p2p", "a tool cannot require a peer and the HTTP runtime at once");
        }
        if let Some((key, what)) = self.retry.as_ref().and_then(|retry| retry.check().err()) {
            return wrong(&format!("retry.{key}"), &format!("`retry.{key}`: {what}"));
        }
        if self.read_only == Some(true) && self.idempotent == Some(false) {
            return wrong("idempotent", "what is read-only can always run twice");
        }
        if self.cache_ttl.is_some() && self.read_only == Some(false) {
            return wrong("cache_ttl", "only results of read-only tools are kept, and this rule says `read_only = false`");
        }
        if self.deprecation_message.is_some() && self.deprecated != Some(true) {
            return wrong("deprecation_message", "nobody is told this without `deprecated = true`");
        }
        Ok(())
    }
}

/// Where everybody is anonymous, only this machine may be able to connect.
fn not_open_to_all(path: &str, listen: SocketAddr) -> Result<(), Invalid> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    let what =
        format!("{listen} can be reached from other machines, so it needs a `[[http.client]]`, or `allow_anonymous = true`");
    Err(Invalid::new(path, what))
}

impl Upstream {
    fn validate(&self, index: usize) -> Result<(), Invalid> {
        if self.openapi.is_some() && self.kind != Kind::OpenApi {
            let what = "the table `openapi` is for upstreams with `kind = \"openapi\"`";
            return Err(Invalid::new(format!("upstream.{index}.openapi"), what));
        }
        if let (Some(url), Some(document)) = (&self.url, self.openapi.as_ref().and_then(|openapi| openapi.document.as_deref()))
            && let Err(what) = runtime_http::document_address(url.as_url(), Some(document))
        {
            return Err(Invalid::new(format!("upstream.{index}.openapi.document"), what));
        }
        for (name, value) in &self.headers {
            let path = format!("upstream.{index}.headers.{name}");
            if http::HeaderName::try_from(name).is_err() {
                return Err(Invalid::new(path, format!("`{name}` is not the name of a header")));
            }
            if http::HeaderValue::try_from(value.expose()).is_err() {
                return Err(Invalid::new(path, format!("the value of `{name}` cannot stand in a header")));
            }
            if self.bearer.is_some() && name.eq_ignore_ascii_case("authorization") {
                return Err(Invalid::new(path, "`bearer` sets this header already"));
            }
            if OWN_HEADERS.iter().any(|own| name.eq_ignore_ascii_case(own)) {
                return Err(Invalid::new(path, format!("the gateway writes `{name}` itself, as each request needs it")));
            }
        }
        self.validate_kind(index)
    }

    /// A key of one kind, set for another, would be a wish that nobody reads.
    fn validate_kind(&self, index: usize) -> Result<(), Invalid> {
        let wrong = |key: &str, what: String| Err(Invalid::new(format!("upstream.{index}.{key}"), what));
        let kind = self.kind.as_str();
        if self.kind != Kind::Mcp && self.era != EraChoice::default() {
            return wrong("era", format!("`era` is for `kind = \"mcp\"`, and this upstream is `kind = \"{kind}\"`"));
        }
        if self.kind != Kind::Mcp && self.transport != TransportChoice::default() {
            return wrong("transport", format!("`transport` is for `kind = \"mcp\"`, and this upstream is `kind = \"{kind}\"`"));
        }
        if self.sessions == SessionChoice::Call && (self.kind != Kind::Mcp || self.transport == TransportChoice::Sse) {
            return wrong("sessions", "`sessions` is for MCP over Streamable HTTP".to_owned());
        }
        if self.era == EraChoice::Modern && self.transport == TransportChoice::Sse {
            return wrong("transport", "over HTTP+SSE nobody speaks the modern era".to_owned());
        }
        if self.kind == Kind::ToolServer && self.url.as_ref().is_some_and(|url| url.as_url().query().is_some()) {
            return wrong("url", "the url of a tool server has no query: paths are added to it".to_owned());
        }
        match self.kind {
            Kind::Stdio => self.validate_program(index),
            _ => self.validate_address(index),
        }
    }

    /// What is reached over HTTP has a url and nothing of a program.
    fn validate_address(&self, index: usize) -> Result<(), Invalid> {
        if self.url.is_none() {
            return Err(Invalid::new(format!("upstream.{index}"), "`upstream`: missing field `url`"));
        }
        let of_a_program = [
            ("command", self.command.is_some()),
            ("args", !self.args.is_empty()),
            ("env", !self.env.is_empty()),
            ("inherit", self.inherit.is_some()),
            ("cwd", self.cwd.is_some()),
            ("share", self.share.is_some()),
            ("processes_max", self.processes_max.is_some()),
            ("process_idle", self.process_idle.is_some()),
            ("start_timeout", self.start_timeout.is_some()),
        ];
        only_for("is for `kind = \"stdio\"`", index, self.kind, of_a_program)
    }

    /// What is started here has a command and nothing of an address.
    fn validate_program(&self, index: usize) -> Result<(), Invalid> {
        if self.command.as_ref().is_none_or(|command| command.trim().is_empty()) {
            return Err(Invalid::new(format!("upstream.{index}"), "`upstream`: missing field `command`, the program to start"));
        }
        for name in self.env.keys().chain(self.inherit.iter().flatten()) {
            if name.is_empty() || name.contains(['=', '\0']) {
                let path = format!("upstream.{index}.env");
                return Err(Invalid::new(path, format!("`{name}` is not the name of an environment variable")));
            }
        }
        if self.share.unwrap_or_default() == Share::All {
            let of_owners = [("processes_max", self.processes_max.is_some()), ("process_idle", self.process_idle.is_some())];
            if let Some((key, _)) = of_owners.into_iter().find(|(_, is_set)| *is_set) {
                let what = format!("`{key}` is for `share = \"principal\"` or `\"session\"`: here everybody shares one process");
                return Err(Invalid::new(format!("upstream.{index}.{key}"), what));
            }
        }
        let of_an_address =
            [("url", self.url.is_some()), ("bearer", self.bearer.is_some()), ("headers", !self.headers.is_empty())];
        only_for("is for upstreams that are reached over HTTP", index, self.kind, of_an_address)
    }
}

/// Complains at the first of these keys that is set.
fn only_for<const N: usize>(of: &str, index: usize, kind: Kind, keys: [(&str, bool); N]) -> Result<(), Invalid> {
    let set = keys.into_iter().find(|(_, is_set)| *is_set);
    set.map_or(Ok(()), |(key, _)| {
        let what = format!("`{key}` {of}, and this upstream is `kind = \"{}\"`", kind.as_str());
        Err(Invalid::new(format!("upstream.{index}.{key}"), what))
    })
}

/// Complains at the second use of a name.
fn unique<'a>(what: &str, mut names: impl Iterator<Item = (String, &'a Name)>) -> Result<(), Invalid> {
    let mut first_uses = HashMap::new();
    names.try_for_each(|(path, name)| match first_uses.insert(name, ()) {
        None => Ok(()),
        Some(()) => Err(Invalid::new(path, format!("another {what} is already called `{name}`"))),
    })
}
