//! `twinway.peer.v1.PeerService`: the table of peers, translated.

use runtime_api::{Origin, TargetState};
use runtime_mcpp::Link;
use tonic::{Request, Response, Status};
use twinway_proto::grpc::peer::{
    Connection, GetRequest, ListRequest, ListResponse, PeerRecord, PeerSource, PeerState,
    peer_service_server::{PeerService, PeerServiceServer},
};

use super::status::{About, status};
use crate::peers::{self, Page, Peers, PeersError, Query};

/// The generated server around the adapter.
pub(super) type PeerServer = PeerServiceServer<Adapter>;

/// Translates between the messages and the table.
#[derive(Debug)]
pub(super) struct Adapter {
    peers: Peers,
}

/// The service over this table.
pub(super) fn service(peers: Peers, message_bytes_max: usize) -> PeerServer {
    PeerServiceServer::new(Adapter { peers }).max_decoding_message_size(message_bytes_max)
}

#[tonic::async_trait]
impl PeerService for Adapter {
    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let ListRequest { capabilities, page_size, page_token } = request.into_inner();
        let page_size = usize::try_from(page_size).map_err(|_| refused(&PeersError::PageSize(page_size)))?;
        let page = self.peers.list(&Query { capabilities, page_size, page_token });
        let Page { records, next } = page.map_err(|error| refused(&error))?;
        let peers = records.iter().map(record).collect();
        Ok(Response::new(ListResponse { peers, next_page_token: next.unwrap_or_default() }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<PeerRecord>, Status> {
        let found = self.peers.get(&request.get_ref().peer_id);
        found.map(|found| Response::new(record(&found))).map_err(|error| refused(&error))
    }
}

fn refused(error: &PeersError) -> Status {
    let about = match error {
        PeersError::Unknown(peer) => About::Resource("twinway.peer.v1.PeerRecord", peer),
        PeersError::Nobody => About::Field("peer_id"),
        PeersError::PageSize(_) => About::Field("page_size"),
        PeersError::Token(_) => About::Field("page_token"),
    };
    status(error.code(), Origin::Caller, &error.to_string(), about)
}

fn record(record: &peers::PeerRecord) -> PeerRecord {
    let reason = record.state.reason().unwrap_or_default().to_owned();
    let state = match &record.state {
        TargetState::Connecting => PeerState::Connecting,
        TargetState::Ready => PeerState::Ready,
        TargetState::Stale(_) => PeerState::Stale,
        TargetState::Failed(_) => PeerState::Failed,
    };
    PeerRecord {
        peer_id: record.id.to_string(),
        addrs: record.addresses.iter().map(ToString::to_string).collect(),
        capabilities: record.capabilities.iter().map(|capability| (**capability).to_owned()).collect(),
        first_seen: record.sighting.first_seen.map(Into::into),
        last_seen: record.sighting.last_seen.map(Into::into),
        ttl: None,
        metadata: Default::default(),
        // So far peers are known from the configuration alone.
        sources: vec![PeerSource::Static.into()],
        names: record.names.iter().map(|name| (**name).to_owned()).collect(),
        state: state.into(),
        state_reason: reason,
        connections: record.sighting.links.iter().map(connection).collect(),
    }
}

fn connection(link: &Link) -> Connection {
    Connection {
        address: link.address.to_string(),
        outgoing: link.outgoing,
        relayed: link.relayed,
        opened: Some(link.opened.into()),
        // A round trip that a Duration of protobuf cannot hold is none.
        round_trip: link.round_trip.and_then(|round_trip| round_trip.try_into().ok()),
    }
}
