//! Puts the parts together, starts them in the order of data and stops them in that order too.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, header};
use runtime_api::{PartError, Runtime, TargetId, Transport};
use runtime_http::{HttpRuntime, Upstream};
use runtime_mcpp::{Authority, Identity, McppRuntime, Node, NodeHandle};
use runtime_stdio::StdioRuntime;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    catalog::{self, Catalog, Pins, PinsError},
    config::{self, Config, EraChoice, Kind, SessionChoice, Share, TransportChoice, Trust},
    layers::{self, Cache},
    mcp::{Binding, SealError, Server},
    peers::Peers,
    pipeline,
    readiness::Readiness,
    reload::{self, Reloader},
    telemetry::{Metrics, metrics::NodeRefusals},
    tls::CertificateError,
    transports::{
        BindError,
        auth::Auth,
        grpc::{self, Grpc},
        http::Http,
        libp2p::{Libp2p, Rules},
        tls::Tls,
    },
};

/// Time that targets have to answer before the gateway says that it is ready without them.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);

/// Idle sessions, and kept results that are good for nothing any more, are looked for at most and at least so often; in
/// between, twice in the time that a session may be idle.
const SWEEP: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Time for runtimes to close what they opened.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// The gateway cannot be built from its configuration.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An upstream's settings.
    #[error(transparent)]
    Upstream(#[from] runtime_http::SetupError),
    /// A header of an upstream.
    #[error("upstream `{upstream}`: the header `{header}` cannot be sent")]
    Header {
        /// Which.
        upstream: Box<str>,
        /// Which.
        header: Box<str>,
    },
    /// The key for sealed handles.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The file of pins.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// The HTTP address.
    #[error(transparent)]
    Http(#[from] BindError),
    /// The gRPC address.
    #[error(transparent)]
    Grpc(BindError),
    /// The certificate of the HTTPS address.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The libp2p addresses.
    #[error("the libp2p node cannot start")]
    Node(#[from] runtime_mcpp::BindError),
    /// The identity.
    #[error("the identity of the libp2p node cannot be used")]
    Identity(#[from] runtime_mcpp::identity::IdentityError),
    /// The `[p2p]` table or a peer.
    #[error(transparent)]
    P2p(#[from] runtime_mcpp::config::ConfigError),
}

/// Collects parts. [`App::builder`] begins one.
pub struct AppBuilder {
    config: Config,
    runtimes: Vec<Box<dyn Runtime>>,
    transports: Vec<MakeTransport>,
    reload_from: Option<reload::Source>,
    serves_http: bool,
}

type MakeTransport = Box<dyn FnOnce(Server) -> Box<dyn Transport> + Send>;

/// A gateway with all its sockets bound and nothing running.
pub struct App {
    runtimes: Vec<Box<dyn Runtime>>,
    transports: Vec<Box<dyn Transport>>,
    catalog_builder: catalog::Builder,
    catalog: Catalog,
    cache: Cache,
    server: Server,
    readiness: Readiness,
    stopping: CancellationToken,
    drain_timeout: Duration,
    addresses: Addresses,
    reload: Option<(Reloader, reload::Source)>,
}

/// Where a gateway listens.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// The HTTP address, when it is served.
    pub http: Option<std::net::SocketAddr>,
    /// The gRPC address, when it is served.
    pub grpc: Option<std::net::SocketAddr>,
    /// Whether it speaks HTTPS there.
    pub https: bool,
    /// The libp2p node, when there is one.
    pub node: Option<NodeHandle>,
}

impl std::fmt::Debug for AppBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppBuilder").field("runtimes", &self.runtimes.len()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl AppBuilder {
    /// Adds a way out of another make.
    #[must_use]
    pub fn runtime(mut self, runtime: Box<dyn Runtime>) -> Self {
        self.runtimes.push(runtime);
        self
    }

    /// Adds a way in of another make.
    #[must_use]
    pub fn transport(mut self, make: impl FnOnce(Server) -> Box<dyn Transport> + Send + 'static) -> Self {
        self.transports.push(Box::new(make));
        self
    }

    /// Does not listen on HTTP.
    #[must_use]
    pub fn without_http(mut self) -> Self {
        self.serves_http = false;
        self
    }

    /// Takes the configuration over anew, whenever this source is asked to be read or changes.
    #[must_use]
    pub fn reload_from(mut self, source: reload::Source) -> Self {
        self.reload_from = Some(source);
        self
    }

    /// Builds everything and binds every socket.
    ///
    /// # Errors
    /// [`BuildError`] for what the configuration asks and the machine refuses.
    pub async fn build(self) -> Result<App, BuildError> {
        let Self { config, runtimes: more_runtimes, transports: more_transports, reload_from, serves_http } = self;
        let stopping = CancellationToken::new();
        let http_runtime = HttpRuntime::new(upstreams(&config)?)?;
        let (http_control, mut peers_control) = (http_runtime.control(), None);
        let stdio_runtime = StdioRuntime::new(servers(&config));
        let stdio_control = stdio_runtime.control();
        let mut runtimes: Vec<Box<dyn Runtime>> = vec![Box::new(http_runtime), Box::new(stdio_runtime)];
        let pins = config.definitions.pins_file.as_deref().map(Pins::open).transpose()?.unwrap_or_default();
        let node = bind_node(&config).await?;
        let handle = node.as_ref().map(|(node, _)| node.handle());
        let metrics = Metrics::new(handle.as_ref().map(|handle| NodeRefusals(handle.refusals())));
        metrics.count_tasks("main", &tokio::runtime::Handle::current());
        let (incoming, peers) = match node {
            None => (None, Peers::default()),
            Some((node, incoming)) => {
                let peers: Vec<_> = config.peer.iter().map(config::Peer::to_runtime).collect();
                let p2p = config.p2p.clone().unwrap_or_default();
                let runtime = McppRuntime::new(node, &p2p, &peers)?;
                let peers = Peers::new(Some(runtime.directory()));
                peers_control = Some(runtime.control());
                runtimes.push(Box::new(runtime));
                (Some(incoming), peers)
            }
        };
        runtimes.extend(more_runtimes);

        let (mut catalog_builder, catalog) = catalog::Builder::new(&config, metrics.clone(), pins);
        for runtime in &runtimes {
            catalog_builder.add(&**runtime);
        }
        let cache = Cache::new(&config.cache, &metrics);
        let door = layers::door_of(&config.admission, &metrics);
        let pipeline = pipeline::build(&door, &cache);
        let server = Server::new(&config, catalog.clone(), pipeline, metrics)?;
        let readiness = Readiness::new(stopping.clone());

        let auth = Auth::new(&config.http);
        let http = serves_http.then(|| bind_http(&config, &server, auth.clone(), readiness.clone())).transpose()?;
        let grpc = bind_grpc(&config, &server, auth.clone(), peers, readiness.clone())?;
        let addresses = Addresses {
            http: http.as_ref().map(Http::address),
            https: config.http.tls.is_some(),
            grpc: grpc.as_ref().map(Grpc::address),
            node: handle.clone(),
        };
        let rules = rules(&config)?;
        let parts = reload::Parts {
            http: http_control,
            stdio: stdio_control,
            peers: peers_control,
            rules: catalog_builder.rules(),
            entrance: http.as_ref().map(Http::entrance),
            auth,
            door,
            authority: Arc::clone(&rules.authority),
            server: server.clone(),
        };
        let reload = reload_from.map(|source| (Reloader::new(config.clone(), parts), source));
        let mut transports: Vec<Box<dyn Transport>> = Vec::new();
        transports.extend(http.map(|http| Box::new(http) as Box<dyn Transport>));
        transports.extend(grpc.map(|grpc| Box::new(grpc) as Box<dyn Transport>));
        if let (Some(handle), Some(incoming)) = (handle, incoming) {
            transports.push(Box::new(Libp2p::new(handle, incoming, rules, server.clone())));
        }
        transports.extend(more_transports.into_iter().map(|make| make(server.clone())));
        Ok(App {
            runtimes,
            transports,
            catalog_builder,
            catalog,
            cache,
            server,
            readiness,
            stopping,
            drain_timeout: config.http.drain_timeout,
            addresses,
            reload,
        })
    }
}

impl App {
    /// Begins a gateway with this configuration, which was validated.
    #[must_use]
    pub fn builder(config: Config) -> AppBuilder {
        AppBuilder { config, runtimes: Vec::new(), transports: Vec::new(), reload_from: None, serves_http: true }
    }

    /// Where it listens.
    #[must_use]
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What it offers.
    #[must_use]
    pub const fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The server side of MCP.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// Serves until `stop`, then drains. `ready` is called once, when requests should be sent here.
    ///
    /// # Errors
    /// The first part that failed on its own. All others are stopped in order then, too.
    pub async fn run(self, stop: CancellationToken, ready: impl FnOnce() + Send) -> Result<(), PartError> {
        let Self {
            runtimes,
            transports,
            catalog_builder,
            catalog,
            cache,
            server,
            readiness,
            stopping,
            drain_timeout,
            reload,
            ..
        } = self;
        if server.sessions().handles_are_ephemeral() {
            info!("no `http.seal_key`: session handles and the ids of tasks end with this process");
        }
        let (stop_runtimes, stop_catalog) = (CancellationToken::new(), CancellationToken::new());
        let mut ways_out = JoinSet::new();
        for runtime in runtimes {
            ways_out.spawn(runtime.run(stop_runtimes.clone()));
        }
        let mut own = JoinSet::new();
        own.spawn(catalog_builder.run(stop_catalog.clone()));
        own.spawn(sweep(server.clone(), cache, stop_catalog.clone()));
        if let Some((reloader, source)) = reload {
            own.spawn(reload::run(reloader, source, stopping.clone()));
        }
        let mut ways_in = JoinSet::new();
        for transport in transports {
            info!(transport = transport.name(), address = transport.local_addr(), "listening");
            ways_in.spawn(transport.serve(stopping.clone()));
        }

        let waiting = async {
            catalog.settled(SETTLE).await;
            readiness.set_ready();
            ready();
            std::future::pending::<()>().await;
        };
        let failed = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            Some(ended) = ways_in.join_next() => flatten(ended),
            Some(ended) = ways_out.join_next() => flatten(ended),
            () = waiting => Ok(()),
        };

        info!("stopping");
        // No new requests; those in flight get their time.
        stopping.cancel();
        server.close_streams();
        let drained = drain(&mut ways_in).await;
        // Calls that belong to sessions whose clients are gone.
        server.drain(drain_timeout).await;
        stop_catalog.cancel();
        while own.join_next().await.is_some() {}
        // Only now nobody needs the ways out any more.
        stop_runtimes.cancel();
        let stopped = tokio::time::timeout(STOP_TIMEOUT, drain(&mut ways_out)).await.unwrap_or_else(|_| {
            warn!("a runtime did not stop in time");
            Ok(())
        });
        failed.and(drained).and(stopped)
    }
}

async fn drain(parts: &mut JoinSet<Result<(), PartError>>) -> Result<(), PartError> {
    let mut first = Ok(());
    while let Some(ended) = parts.join_next().await {
        let ended = flatten(ended);
        first = first.and(ended);
    }
    first
}

fn flatten(ended: Result<Result<(), PartError>, tokio::task::JoinError>) -> Result<(), PartError> {
    ended.unwrap_or_else(|panicked| Err(PartError { part: "a task".into(), source: panicked.into() }))
}

async fn sweep(server: Server, cache: Cache, stop: CancellationToken) {
    let period = (server.patience() / 2).clamp(SWEEP.0, SWEEP.1);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(period) => {
                server.sweep();
                cache.sweep();
            }
        }
    }
}

fn bind_http(config: &Config, server: &Server, auth: Auth, readiness: Readiness) -> Result<Http, BuildError> {
    let tls = config.http.tls.as_ref().map(Tls::load).transpose()?;
    Ok(Http::bind(config, server.clone(), auth, readiness)?.with_tls(tls))
}

fn bind_grpc(
    config: &Config,
    server: &Server,
    auth: Auth,
    peers: Peers,
    readiness: Readiness,
) -> Result<Option<Grpc>, BuildError> {
    let Some(grpc) = &config.grpc else { return Ok(None) };
    let parts = grpc::Parts { auth, peers, readiness, metrics: server.metrics().clone() };
    Grpc::bind(config, grpc, parts).map(Some).map_err(BuildError::Grpc)
}

async fn bind_node(config: &Config) -> Result<Option<(Node, runtime_mcpp::IncomingStreams)>, BuildError> {
    let Some(p2p) = &config.p2p else { return Ok(None) };
    p2p.validate()?;
    let identity = Identity::load_or_create(&p2p.key_file)?;
    Ok(Some(Node::bind(p2p, identity).await?))
}

fn rules(config: &Config) -> Result<Rules, BuildError> {
    let p2p = config.p2p.clone().unwrap_or_default();
    Ok(Rules {
        authority: Arc::new(ArcSwap::from_pointee(Authority::new(&p2p)?)),
        binding: match p2p.legacy_binding_id {
            runtime_mcpp::config::LegacyBindingId::Baseline => Binding::Baseline,
            runtime_mcpp::config::LegacyBindingId::Strict => Binding::Strict,
        },
        frame_bytes_max: usize::try_from(p2p.frame_bytes_max.get()).unwrap_or(usize::MAX),
        idle: p2p.quotas.stream_idle,
        request_timeout: p2p.quotas.request_timeout,
        drain_timeout: config.http.drain_timeout,
    })
}

/// What the HTTP runtime is told of the configured upstreams.
pub(crate) fn upstreams(config: &Config) -> Result<Vec<Upstream>, BuildError> {
    let over_http = config.upstream.iter().filter_map(|upstream| Some((upstream, upstream.url.as_ref()?)));
    over_http.map(|(config, url)| upstream(config, url)).collect()
}

/// What the stdio runtime is told of them.
pub(crate) fn servers(config: &Config) -> Vec<runtime_stdio::Server> {
    config.upstream.iter().filter_map(|upstream| server(upstream, config.http.body_bytes_max.get())).collect()
}

fn server(config: &config::Upstream, line_bytes_max: usize) -> Option<runtime_stdio::Server> {
    let command = config.command.as_ref().filter(|_| config.kind == Kind::Stdio)?;
    let mut server = runtime_stdio::Server::new(TargetId::from(config.name.as_str()), command);
    server.args.clone_from(&config.args);
    server.env = config.env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
    if let Some(inherit) = &config.inherit {
        server.inherit.clone_from(inherit);
    }
    server.cwd.clone_from(&config.cwd);
    server.share = match config.share.unwrap_or_default() {
        Share::All => runtime_stdio::Share::All,
        Share::Principal => runtime_stdio::Share::Principal,
        Share::Session => runtime_stdio::Share::Session,
    };
    server.processes_max = config.processes_max.map_or(server.processes_max, NonZeroUsize::get);
    server.process_idle = config.process_idle.unwrap_or(server.process_idle);
    server.start_timeout = config.start_timeout.unwrap_or(server.start_timeout);
    server.trusted = config.trust == Trust::Hints;
    server.list_timeout = config.list_timeout;
    server.refresh = config.refresh;
    server.concurrency = config.concurrency.get();
    server.line_bytes_max = line_bytes_max;
    Some(server)
}

fn upstream(config: &config::Upstream, url: &config::HttpUrl) -> Result<Upstream, BuildError> {
    let target = TargetId::from(config.name.as_str());
    let mut upstream = Upstream::new(target, url.as_url().clone());
    upstream.headers = headers(config)?;
    upstream.kind = match config.kind {
        // A program has no url.
        Kind::Mcp | Kind::Stdio => runtime_http::Kind::Mcp { era: era(config.era), transport: transport(config.transport) },
        Kind::ToolServer => runtime_http::Kind::ToolServer,
        Kind::OpenApi => runtime_http::Kind::OpenApi(Box::new(config.openapi.clone().unwrap_or_default().to_runtime())),
    };
    upstream.trusted = config.trust == Trust::Hints;
    upstream.connect_timeout = config.connect_timeout;
    upstream.list_timeout = config.list_timeout;
    upstream.refresh = config.refresh;
    upstream.concurrency = config.concurrency.get();
    upstream.sessions = match config.sessions {
        SessionChoice::Shared => runtime_http::SessionChoice::Shared,
        SessionChoice::Call => runtime_http::SessionChoice::Call,
    };
    Ok(upstream)
}

const fn era(choice: EraChoice) -> runtime_http::EraChoice {
    match choice {
        EraChoice::Auto => runtime_http::EraChoice::Auto,
        EraChoice::Legacy => runtime_http::EraChoice::Legacy,
        EraChoice::Modern => runtime_http::EraChoice::Modern,
    }
}

const fn transport(choice: TransportChoice) -> runtime_http::TransportChoice {
    match choice {
        TransportChoice::Auto => runtime_http::TransportChoice::Auto,
        TransportChoice::Http => runtime_http::TransportChoice::Http,
        TransportChoice::Sse => runtime_http::TransportChoice::Sse,
    }
}

fn headers(config: &config::Upstream) -> Result<Vec<(HeaderName, HeaderValue)>, BuildError> {
    let refused = |header: &str| BuildError::Header { upstream: config.name.as_str().into(), header: header.into() };
    let mut headers = Vec::new();
    for (name, text) in &config.headers {
        let header = HeaderName::try_from(name.as_str()).map_err(|_| refused(name))?;
        headers.push((header, sensitive(text.expose()).ok_or_else(|| refused(name))?));
    }
    if let Some(bearer) = &config.bearer {
        let value = sensitive(&format!("Bearer {}", bearer.expose())).ok_or_else(|| refused("authorization"))?;
        headers.push((header::AUTHORIZATION, value));
    }
    Ok(headers)
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
