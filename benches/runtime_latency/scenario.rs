//! The cases of a run: what is called, through what, how large, how many at once, and how far away.

use crate::request::Era;

/// What lies between the client and the tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Nothing: the tool's own server.
    Direct(Era),
    /// The bare reverse proxy.
    Floor(Era),
    /// `twinway serve` with the server as its upstream.
    HttpRuntime(Era),
    /// The same for a client of this era when the server speaks the other era only.
    Bridge(Era),
    /// Nothing: a server's own list of tools.
    DirectList(Era),
    /// `twinway serve`, whose list is made of those of several servers.
    List(Era),
    /// One plain libp2p stream to a peer with the tool.
    RawStream(Carrier),
    /// The MCP++ runtime, called by the load generator itself, to the same peer.
    McppRuntime(Carrier),
    /// The HTTP runtime, called by the load generator itself, to the server.
    HttpSeam,
    /// `twinway serve`, libp2p, another `twinway serve` with the server as its upstream.
    PeerGateway(Era),
    /// `twinway serve` with the server as an upstream that does not speak MCP.
    Rest(Shape),
    /// The proxy of FastMCP with the server as its upstream.
    FastMcp,
    /// `twinway serve` as we set it up, or in another way.
    Variant(Variant),
}

/// What the server is for who does not speak MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    OpenApi,
    ToolServer,
}

/// What carries a libp2p connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp,
    Quic,
}

/// What may be chosen otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variant {
    /// As it is, in a process that is loaded like those of the other variants.
    Ours,
    SystemAllocator,
    /// With everything that a call can pass: a client's token, cache (each call misses), retry, class, breaker.
    AllLayers,
    /// Worker threads, each with a runtime of its own.
    Workers(usize),
}

/// How many calls a gateway traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sampling {
    OnePercent,
    All,
}

/// Where the parties are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On all cores of this machine.
    Here,
    /// On one core, all of them.
    OneCore,
    /// The tool is so many milliseconds there and back away from whoever calls it.
    Away { rtt_ms: u64 },
}

/// Tools of the cases that list: all of them, and the servers that have as many each.
pub(crate) const LISTED_TOOLS: usize = 1_000;
pub(crate) const LISTED_SERVERS: usize = 20;

/// One case; build it as a sentence from [`scenario`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) path: Path,
    pub(crate) sampling: Sampling,
    pub(crate) payload_bytes: usize,
    pub(crate) in_flight: usize,
    pub(crate) place: Place,
    /// Each call has a connection of its own, which is opened for it.
    pub(crate) is_cold: bool,
}

/// One modern call of 256 B at a time over a warm connection, straight to the server.
pub(crate) const fn scenario() -> Scenario {
    Scenario {
        path: Path::Direct(Era::Modern),
        sampling: Sampling::OnePercent,
        payload_bytes: 256,
        in_flight: 1,
        place: Place::Here,
        is_cold: false,
    }
}

impl Path {
    pub(crate) const fn era(self) -> Era {
        match self {
            Self::Direct(era)
            | Self::Floor(era)
            | Self::HttpRuntime(era)
            | Self::Bridge(era)
            | Self::DirectList(era)
            | Self::List(era)
            | Self::PeerGateway(era) => era,
            Self::RawStream(_) | Self::McppRuntime(_) | Self::HttpSeam | Self::Rest(_) | Self::FastMcp | Self::Variant(_) => {
                Era::Modern
            }
        }
    }

    /// For example `http-runtime modern`, `mcpp-runtime modern quic`.
    fn name(self) -> String {
        let era = self.era().name();
        match self {
            Self::Direct(_) => format!("direct {era}"),
            Self::Floor(_) => format!("floor {era}"),
            Self::HttpRuntime(_) => format!("http-runtime {era}"),
            Self::Bridge(client) => format!("http-runtime {era}-to-{}", client.other().name()),
            Self::DirectList(_) => format!("direct {era} list"),
            Self::List(_) => format!("http-runtime {era} list"),
            Self::HttpSeam => format!("http-runtime {era} seam"),
            Self::RawStream(carrier) => format!("raw-stream {era} {}", carrier.name()),
            Self::McppRuntime(carrier) => format!("mcpp-runtime {era} {}", carrier.name()),
            Self::PeerGateway(_) => format!("peer-gateway {era}"),
            Self::Rest(shape) => format!("http-runtime {era} {}", shape.kind()),
            Self::FastMcp => format!("fastmcp-proxy {era}"),
            Self::Variant(Variant::Ours) => format!("http-runtime {era} as-it-is"),
            Self::Variant(Variant::SystemAllocator) => format!("http-runtime {era} system-allocator"),
            Self::Variant(Variant::AllLayers) => format!("http-runtime {era} all-layers"),
            Self::Variant(Variant::Workers(count)) => format!("http-runtime {era} workers-{count}"),
        }
    }
}

impl Shape {
    pub(crate) const EACH: [Self; 2] = [Self::OpenApi, Self::ToolServer];

    /// As a configuration has it.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::OpenApi => "openapi",
            Self::ToolServer => "tool-server",
        }
    }
}

impl Carrier {
    const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        }
    }
}

impl Sampling {
    pub(crate) const fn ratio(self) -> f64 {
        match self {
            Self::OnePercent => 0.01,
            Self::All => 1.0,
        }
    }

    const fn percent(self) -> &'static str {
        match self {
            Self::OnePercent => "1%",
            Self::All => "100%",
        }
    }
}

impl Place {
    /// Part of the names of cases and files.
    pub(crate) fn prefix(self) -> String {
        match self {
            Self::Here => String::new(),
            Self::OneCore => "pinned/".to_owned(),
            Self::Away { rtt_ms } => format!("rtt{rtt_ms}/"),
        }
    }
}

impl Scenario {
    pub(crate) const fn through(self, path: Path) -> Self {
        Self { path, ..self }
    }

    pub(crate) const fn sampled(self, sampling: Sampling) -> Self {
        Self { sampling, ..self }
    }

    pub(crate) const fn payload_bytes(self, payload_bytes: usize) -> Self {
        Self { payload_bytes, ..self }
    }

    pub(crate) const fn in_flight(self, in_flight: usize) -> Self {
        Self { in_flight, ..self }
    }

    pub(crate) const fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub(crate) const fn pinned_to_one_core(self) -> Self {
        self.at(Place::OneCore)
    }

    pub(crate) const fn cold(self) -> Self {
        Self { is_cold: true, ..self }
    }

    /// For example `floor/modern/256B/16`, `pinned/http-runtime/legacy/100%/256B/1`, `rtt20/cold/direct/modern/256B/1`.
    pub(crate) fn name(&self) -> String {
        let cold = if self.is_cold { "cold/" } else { "" };
        let (row, size) = (self.row().replace(' ', "/"), self.size());
        format!("{}{cold}{row}/{size}/{}", self.place.prefix(), self.in_flight)
    }

    /// The name among the cases of the same size and concurrency, for example `http-runtime modern 1%`.
    pub(crate) fn row(&self) -> String {
        match self.path {
            Path::HttpRuntime(_) | Path::Bridge(_) | Path::PeerGateway(_) => {
                format!("{} {}", self.path.name(), self.sampling.percent())
            }
            _ => self.path.name(),
        }
    }

    /// The heading shared by cases that are compared with each other.
    pub(crate) fn group(&self) -> String {
        let place = match self.place {
            Place::Here => String::new(),
            Place::OneCore => ", every process on the same core".to_owned(),
            Place::Away { rtt_ms } => format!(", round trip of {rtt_ms} ms"),
        };
        if self.is_list() {
            return format!(
                "`tools/list`, {LISTED_TOOLS} tools of {LISTED_SERVERS} upstreams, {} in flight{place}",
                self.in_flight
            );
        }
        let (cold, size) = (if self.is_cold { "cold dial, " } else { "" }, self.size());
        format!("{cold}{size}, {} in flight{place}{}", self.in_flight, if self.is_choice() { ": choices" } else { "" })
    }

    /// The name of the picture that shows it.
    pub(crate) fn figure(&self) -> String {
        match (self.place, self.is_cold) {
            _ if self.is_choice() => "choices".to_owned(),
            _ if self.is_list() => "list".to_owned(),
            (Place::Away { .. }, _) => "round-trips".to_owned(),
            (Place::OneCore, _) => "pinned".to_owned(),
            (Place::Here, true) => "cold".to_owned(),
            (Place::Here, false) => self.size().to_lowercase(),
        }
    }

    /// The same call without anything in between; `None` where that is not HTTP, or is no question.
    pub(crate) const fn direct(&self) -> Option<Self> {
        match self.path {
            Path::RawStream(_) | Path::McppRuntime(_) | Path::Variant(_) | Path::HttpSeam => None,
            Path::Rest(_) | Path::FastMcp => Some(self.through(Path::Direct(Era::Modern))),
            Path::DirectList(era) | Path::List(era) => Some(self.through(Path::DirectList(era))),
            Path::Direct(era) | Path::Floor(era) | Path::HttpRuntime(era) | Path::Bridge(era) | Path::PeerGateway(era) => {
                Some(self.sampled(Sampling::OnePercent).through(Path::Direct(era)))
            }
        }
    }

    /// The same call through the baseline; `None` for baselines.
    pub(crate) const fn baseline(&self) -> Option<Self> {
        match self.path {
            Path::Direct(_) | Path::DirectList(_) | Path::Floor(_) | Path::RawStream(_) | Path::Variant(Variant::Ours) => None,
            Path::Bridge(era) => Some(self.through(Path::HttpRuntime(era))),
            Path::List(era) => Some(self.through(Path::DirectList(era))),
            Path::HttpRuntime(era) | Path::PeerGateway(era) => Some(self.sampled(Sampling::OnePercent).through(Path::Floor(era))),
            Path::Rest(_) | Path::FastMcp => Some(self.through(Path::Floor(Era::Modern))),
            Path::McppRuntime(carrier) => Some(self.through(Path::RawStream(carrier))),
            Path::HttpSeam => Some(self.through(Path::Direct(Era::Modern))),
            Path::Variant(_) => Some(self.through(Path::Variant(Variant::Ours))),
        }
    }

    const fn is_choice(&self) -> bool {
        matches!(self.path, Path::Variant(_))
    }

    const fn is_list(&self) -> bool {
        matches!(self.path, Path::DirectList(_) | Path::List(_))
    }

    /// Of what is sent, or of the list.
    fn size(&self) -> String {
        match self.payload_bytes {
            _ if self.is_list() => format!("{LISTED_TOOLS}-tools"),
            bytes @ 1_048_576.. => format!("{}MiB", bytes >> 20),
            bytes @ 1_024.. => format!("{}KiB", bytes >> 10),
            bytes => format!("{bytes}B"),
        }
    }
}

/// Every case, in the order in which a round runs them: what is compared runs side by side.
pub(crate) fn all() -> Vec<Scenario> {
    let mut cases = Vec::new();
    let mut add = |like: Scenario, paths: &[Scenario]| {
        cases.extend(paths.iter().map(|row| Scenario { path: row.path, sampling: row.sampling, ..like }));
    };
    let (every, few, cold) = (every_row(), few_rows(), cold_rows());
    for in_flight in [1, 16, 64] {
        add(scenario().in_flight(in_flight), &every);
        add(scenario().in_flight(in_flight), &[scenario().through(Path::FastMcp)]);
    }
    add(scenario(), &list_rows());
    add(scenario().payload_bytes(4 << 10), &few);
    for in_flight in [1, 16, 64] {
        add(scenario().payload_bytes(64 << 10).in_flight(in_flight), if in_flight == 64 { &every } else { &few });
    }
    for in_flight in [1, 4] {
        add(scenario().payload_bytes(1 << 20).in_flight(in_flight), &few);
    }
    add(scenario().cold(), &cold);
    for (payload_bytes, in_flight) in [(256, 1), (256, 64), (64 << 10, 64)] {
        add(scenario().payload_bytes(payload_bytes).in_flight(in_flight), &choices());
    }
    add(scenario().pinned_to_one_core(), &every);
    // On one core the number of workers is no question.
    add(scenario().pinned_to_one_core(), &choices()[..3]);
    for rtt_ms in [0, 20, 80] {
        let away = scenario().at(Place::Away { rtt_ms });
        add(away, &few);
        add(away.cold(), &cold);
    }
    cases
}

/// What every size is measured with.
fn few_rows() -> Vec<Scenario> {
    let paths = [
        Path::Direct(Era::Modern),
        Path::Floor(Era::Modern),
        Path::HttpRuntime(Era::Modern),
        Path::PeerGateway(Era::Modern),
        Path::RawStream(Carrier::Tcp),
        Path::McppRuntime(Carrier::Tcp),
        Path::RawStream(Carrier::Quic),
        Path::McppRuntime(Carrier::Quic),
    ];
    paths.map(|path| scenario().through(path)).into()
}

fn every_row() -> Vec<Scenario> {
    let more = [
        scenario().through(Path::HttpRuntime(Era::Modern)).sampled(Sampling::All),
        scenario().through(Path::Direct(Era::Legacy)),
        scenario().through(Path::Floor(Era::Legacy)),
        scenario().through(Path::HttpRuntime(Era::Legacy)),
        scenario().through(Path::Bridge(Era::Modern)),
        scenario().through(Path::Bridge(Era::Legacy)),
    ];
    let rest = Shape::EACH.map(|shape| scenario().through(Path::Rest(shape)));
    few_rows().into_iter().chain(more).chain(rest).collect()
}

/// The whole list, as a client gets it.
fn list_rows() -> Vec<Scenario> {
    let of_era = |era| [Path::DirectList(era), Path::List(era)];
    [Era::Modern, Era::Legacy].into_iter().flat_map(of_era).map(|path| scenario().through(path)).collect()
}

/// Both runtimes beside what they are built on. A gateway dials its targets when it starts, so the runtimes are called at
/// the seam.
fn cold_rows() -> Vec<Scenario> {
    let paths = [
        Path::Direct(Era::Modern),
        Path::HttpSeam,
        Path::RawStream(Carrier::Tcp),
        Path::McppRuntime(Carrier::Tcp),
        Path::RawStream(Carrier::Quic),
        Path::McppRuntime(Carrier::Quic),
    ];
    paths.map(|path| scenario().through(path)).into()
}

/// What we chose, and what we might have chosen: one thing otherwise in each row.
fn choices() -> Vec<Scenario> {
    let variants = [Variant::Ours, Variant::AllLayers, Variant::SystemAllocator, Variant::Workers(1), Variant::Workers(4)];
    variants.map(|variant| scenario().through(Path::Variant(variant))).into()
}
