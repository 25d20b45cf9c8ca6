//! The cases of a run: what is called, through what, how large and how many at once.

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
    /// One plain libp2p stream to a peer with the tool.
    RawStream,
    /// The MCP++ runtime, called by the load generator itself, to the same peer.
    McppRuntime,
    /// `twinway serve`, libp2p, another `twinway serve` with the server as its upstream.
    PeerGateway(Era),
}

impl Path {
    pub(crate) const fn era(self) -> Era {
        match self {
            Self::Direct(era) | Self::Floor(era) | Self::HttpRuntime(era) | Self::PeerGateway(era) => era,
            Self::RawStream | Self::McppRuntime => Era::Modern,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Direct(_) => "direct",
            Self::Floor(_) => "floor",
            Self::HttpRuntime(_) => "http-runtime",
            Self::RawStream => "raw-stream",
            Self::McppRuntime => "mcpp-runtime",
            Self::PeerGateway(_) => "peer-gateway",
        }
    }
}

/// How many calls a gateway traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sampling {
    OnePercent,
    All,
}

impl Sampling {
    pub(crate) const EACH: [Self; 2] = [Self::OnePercent, Self::All];

    pub(crate) const fn ratio(self) -> f64 {
        match self {
            Self::OnePercent => 0.01,
            Self::All => 1.0,
        }
    }

    pub(crate) const fn gateway_name(self) -> &'static str {
        match self {
            Self::OnePercent => "gateway-sampling-1",
            Self::All => "gateway-sampling-100",
        }
    }

    const fn percent(self) -> &'static str {
        match self {
            Self::OnePercent => "1%",
            Self::All => "100%",
        }
    }
}

/// One case; build it as a sentence from [`scenario`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) path: Path,
    pub(crate) sampling: Sampling,
    pub(crate) payload_bytes: usize,
    pub(crate) in_flight: usize,
    /// All parties share one core.
    pub(crate) is_pinned: bool,
}

/// One modern call of 256 B at a time, straight to the server.
pub(crate) const fn scenario() -> Scenario {
    Scenario {
        path: Path::Direct(Era::Modern),
        sampling: Sampling::OnePercent,
        payload_bytes: 256,
        in_flight: 1,
        is_pinned: false,
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

    pub(crate) const fn pinned_to_one_core(self) -> Self {
        Self { is_pinned: true, ..self }
    }

    /// For example `floor/modern/256B/16`, `pinned/http-runtime/legacy/100%/256B/1`.
    pub(crate) fn name(&self) -> String {
        let pinned = if self.is_pinned { "pinned/" } else { "" };
        format!("{pinned}{}/{}/{}", self.row().replace(' ', "/"), size(self.payload_bytes), self.in_flight)
    }

    /// The name among the cases of the same size and concurrency, for example `http-runtime modern 1%`.
    pub(crate) fn row(&self) -> String {
        let sampling = match self.path {
            Path::HttpRuntime(_) | Path::PeerGateway(_) => format!(" {}", self.sampling.percent()),
            Path::Direct(_) | Path::Floor(_) | Path::RawStream | Path::McppRuntime => String::new(),
        };
        format!("{} {}{sampling}", self.path.name(), self.path.era().name())
    }

    /// The name shared by cases that are compared with each other.
    pub(crate) fn group(&self) -> String {
        let pinned = if self.is_pinned { ", every process on the same core" } else { "" };
        format!("{}, {} in flight{pinned}", size(self.payload_bytes), self.in_flight)
    }

    pub(crate) const fn needs_gateway(&self) -> bool {
        match self.path {
            Path::Direct(_) | Path::Floor(_) | Path::RawStream | Path::McppRuntime => false,
            Path::HttpRuntime(_) | Path::PeerGateway(_) => true,
        }
    }

    /// The same call without anything in between; `None` where that is not HTTP.
    pub(crate) const fn direct(&self) -> Option<Self> {
        match self.path {
            Path::RawStream | Path::McppRuntime => None,
            Path::Direct(era) | Path::Floor(era) | Path::HttpRuntime(era) | Path::PeerGateway(era) => {
                Some(self.sampled(Sampling::OnePercent).through(Path::Direct(era)))
            }
        }
    }

    /// The same call through the baseline; `None` for baselines.
    pub(crate) const fn baseline(&self) -> Option<Self> {
        match self.path {
            Path::Direct(_) | Path::Floor(_) | Path::RawStream => None,
            Path::HttpRuntime(era) | Path::PeerGateway(era) => Some(self.sampled(Sampling::OnePercent).through(Path::Floor(era))),
            Path::McppRuntime => Some(self.through(Path::RawStream)),
        }
    }
}

fn size(bytes: usize) -> String {
    if bytes.is_multiple_of(1024) { format!("{}KiB", bytes / 1024) } else { format!("{bytes}B") }
}

/// Every case, in the order in which a round runs them: what is compared runs side by side.
pub(crate) fn all() -> Vec<Scenario> {
    let mut cases = Vec::new();
    for payload_bytes in [256, 64 * 1024] {
        for in_flight in [1, 16, 64] {
            cases.extend(rows().map(|row| row.payload_bytes(payload_bytes).in_flight(in_flight)));
        }
    }
    cases.extend(rows().map(Scenario::pinned_to_one_core));
    cases
}

fn rows() -> impl Iterator<Item = Scenario> {
    [
        scenario().through(Path::Direct(Era::Modern)),
        scenario().through(Path::Floor(Era::Modern)),
        scenario().through(Path::HttpRuntime(Era::Modern)),
        scenario().through(Path::HttpRuntime(Era::Modern)).sampled(Sampling::All),
        scenario().through(Path::Direct(Era::Legacy)),
        scenario().through(Path::Floor(Era::Legacy)),
        scenario().through(Path::HttpRuntime(Era::Legacy)),
        scenario().through(Path::PeerGateway(Era::Modern)),
        scenario().through(Path::RawStream),
        scenario().through(Path::McppRuntime),
    ]
    .into_iter()
}
