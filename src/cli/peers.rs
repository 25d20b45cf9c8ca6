//! `twinway peers`: the peers that a running gateway knows.

use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde::Serialize;
use twinway_proto::grpc::peer::{
    Connection, GetRequest, ListRequest, PeerRecord, PeerSource, PeerState, peer_service_client::PeerServiceClient,
};

use super::{
    Failure, Output,
    grpc::{Connected, Grpc, GrpcError, MESSAGE_BYTES_MAX},
};

/// Looks at peers.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them, in the order of their PeerIds.
    List(List),
    /// Show one.
    Get(Get),
}

/// List peers.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Only peers that offer this tool, by its name over there; repeated: all of them.
    #[arg(long = "capability", value_name = "TOOL")]
    capabilities: Vec<String>,
    #[command(flatten)]
    gateway: Grpc,
}

/// Show a peer.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// Its PeerId, or its name in the gateway's configuration.
    peer: String,
    #[command(flatten)]
    gateway: Grpc,
}

/// A record as it is printed for programs.
#[derive(Debug, Serialize)]
struct Document<'a> {
    peer_id: &'a str,
    names: &'a [String],
    state: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    addrs: &'a [String],
    connections: Vec<Link<'a>>,
    capabilities: &'a [String],
    first_seen: Option<String>,
    last_seen: Option<String>,
    sources: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Link<'a> {
    address: &'a str,
    outgoing: bool,
    relayed: bool,
    opened: Option<String>,
    round_trip_us: Option<u64>,
}

impl Command {
    pub(super) async fn run(self, output: Output) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(output).await,
            Self::Get(get) => get.run(output).await,
        }
    }
}

impl List {
    async fn run(self, output: Output) -> Result<(), Failure> {
        let connected = self.gateway.connect().await?;
        let mut page_token = String::new();
        loop {
            let capabilities = self.capabilities.clone();
            let request = connected.request(ListRequest { capabilities, page_size: 0, page_token });
            let page = connected.answer(client(&connected).list(request)).await?;
            page.peers.iter().try_for_each(|peer| output.either(&document(peer), &line(peer)))?;
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(());
            }
        }
    }
}

impl Get {
    async fn run(self, output: Output) -> Result<(), Failure> {
        let connected = self.gateway.connect().await?;
        let request = connected.request(GetRequest { peer_id: self.peer });
        let peer = connected.answer(client(&connected).get(request)).await?;
        Ok(output.either(&document(&peer), &paragraph(&peer))?)
    }
}

fn client(connected: &Connected) -> PeerServiceClient<tonic::transport::Channel> {
    PeerServiceClient::new(connected.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

impl From<GrpcError> for Failure {
    fn from(error: GrpcError) -> Self {
        match error {
            GrpcError::Unreachable { .. } => Self::Unreachable(error.into()),
            GrpcError::Token => Self::usage(error),
            GrpcError::TimedOut { .. } | GrpcError::Refused(_) => Self::failed(error),
        }
    }
}

fn document(peer: &PeerRecord) -> Document<'_> {
    Document {
        peer_id: &peer.peer_id,
        names: &peer.names,
        state: state(peer),
        reason: &peer.state_reason,
        addrs: &peer.addrs,
        connections: peer.connections.iter().map(link).collect(),
        capabilities: &peer.capabilities,
        first_seen: peer.first_seen.and_then(time),
        last_seen: peer.last_seen.and_then(time),
        sources: peer.sources().map(source).collect(),
    }
}

fn link(connection: &Connection) -> Link<'_> {
    Link {
        address: &connection.address,
        outgoing: connection.outgoing,
        relayed: connection.relayed,
        opened: connection.opened.and_then(time),
        round_trip_us: round_trip(connection).and_then(|round_trip| round_trip.as_micros().try_into().ok()),
    }
}

/// One peer on one line.
fn line(peer: &PeerRecord) -> String {
    let name = peer.names.join(",");
    let tools = peer.capabilities.len();
    let nearest = peer.connections.iter().filter_map(round_trip).min();
    let round_trip = nearest.map(|round_trip| format!("  {}", human(round_trip))).unwrap_or_default();
    format!("{name}  {}  {}  {tools} tools{round_trip}", state(peer), peer.peer_id)
}

/// Everything about one peer.
fn paragraph(peer: &PeerRecord) -> String {
    let mut lines = vec![line(peer)];
    let mut add = |what: &str, text: &str| lines.push(format!("  {what:<11} {text}"));
    if !peer.state_reason.is_empty() {
        add("reason", &peer.state_reason);
    }
    peer.addrs.iter().for_each(|address| add("address", address));
    for connection in &peer.connections {
        let direction = if connection.outgoing { "to" } else { "from" };
        let relayed = if connection.relayed { ", relayed" } else { "" };
        let measured = round_trip(connection).map(|round_trip| format!(", {}", human(round_trip))).unwrap_or_default();
        add("connected", &format!("{direction} {}{relayed}{measured}", connection.address));
    }
    for (what, when) in [("first seen", peer.first_seen), ("last seen", peer.last_seen)] {
        when.and_then(time).iter().for_each(|when| add(what, when));
    }
    peer.capabilities.iter().for_each(|capability| add("tool", capability));
    lines.join("\n")
}

const fn state_name(state: PeerState) -> &'static str {
    match state {
        PeerState::Unspecified => "unknown",
        PeerState::Connecting => "connecting",
        PeerState::Ready => "ready",
        PeerState::Stale => "stale",
        PeerState::Failed => "failed",
    }
}

fn state(peer: &PeerRecord) -> &'static str {
    state_name(peer.state())
}

const fn source(source: PeerSource) -> &'static str {
    match source {
        PeerSource::Unspecified => "unknown",
        PeerSource::Static => "static",
        PeerSource::File => "file",
        PeerSource::GithubIssues => "github-issues",
        PeerSource::Kademlia => "kademlia",
        PeerSource::Mdns => "mdns",
        PeerSource::Rendezvous => "rendezvous",
    }
}

fn round_trip(connection: &Connection) -> Option<Duration> {
    connection.round_trip.and_then(|round_trip| round_trip.try_into().ok())
}

/// To the microsecond: what lies below is noise.
fn human(round_trip: Duration) -> String {
    humantime::format_duration(Duration::from_micros(round_trip.as_micros().try_into().unwrap_or(u64::MAX))).to_string()
}

/// RFC 3339, in UTC; a time that cannot be is none.
fn time(time: prost_types::Timestamp) -> Option<String> {
    let time = SystemTime::try_from(time).ok()?;
    Some(humantime::format_rfc3339_millis(time).to_string())
}
