//! The gRPC services and messages, generated from `proto/twinway/v1`.

#![allow(
    missing_docs,
    missing_debug_implementations,
    clippy::pedantic,
    clippy::all,
    reason = "generated code; the .proto files are its documentation"
)]

/// The peers that a gateway knows.
pub mod peer {
    tonic::include_proto!("twinway.peer.v1");
}

/// How a gateway finds its way into a network.
pub mod bootstrap {
    tonic::include_proto!("twinway.bootstrap.v1");
}

/// Durable workflows and their runs.
pub mod workflow {
    tonic::include_proto!("twinway.workflow.v1");
}

/// The descriptors of all files and of what they import, encoded as `google.protobuf.FileDescriptorSet`: for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("twinway");

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::{Duration, FileDescriptorSet, Timestamp};

    use super::{FILE_DESCRIPTOR_SET, peer::*};

    #[test]
    fn a_peer_record_survives_the_wire() {
        let record = PeerRecord {
            peer_id: "12D3KooWGzBXWNvHpLALvz3jhwdF6kfv73cBfCS9jBKXhCBGBLBU".into(),
            addrs: vec!["/ip4/192.0.2.7/tcp/4001".into(), "/ip6/2001:db8::7/tcp/4001".into()],
            capabilities: vec!["gpu".into()],
            first_seen: Some(Timestamp { seconds: 1_785_000_000, nanos: 1 }),
            last_seen: Some(Timestamp { seconds: 1_785_000_300, nanos: 999_999_999 }),
            ttl: Some(Duration { seconds: 300, nanos: 0 }),
            metadata: [("region".into(), "eu".into())].into(),
            sources: vec![PeerSource::Static.into(), PeerSource::Mdns.into()],
            names: vec!["gpu-box".into()],
            state: PeerState::Stale.into(),
            state_reason: "connection refused".into(),
            connections: vec![Connection {
                address: "/ip4/192.0.2.7/tcp/4001".into(),
                outgoing: true,
                relayed: false,
                opened: Some(Timestamp { seconds: 1_785_000_000, nanos: 0 }),
                round_trip: Some(Duration { seconds: 0, nanos: 1_200_000 }),
            }],
        };

        let decoded = PeerRecord::decode(record.encode_to_vec().as_slice()).unwrap();

        assert_eq!(decoded, record);
    }

    #[test]
    fn the_descriptor_set_names_the_services_and_holds_what_they_import() {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();

        let mut services: Vec<_> = set
            .file
            .iter()
            .flat_map(|file| file.service.iter().map(move |service| format!("{}.{}", file.package(), service.name())))
            .collect();
        services.sort();

        let expected = [
            "twinway.bootstrap.v1.BootstrapService",
            "twinway.peer.v1.PeerService",
            "twinway.workflow.v1.RunService",
            "twinway.workflow.v1.WorkflowService",
        ];
        assert_eq!(services, expected);
        for file in &set.file {
            assert!(file.dependency.iter().all(|needed| set.file.iter().any(|other| other.name() == needed)), "{}", file.name());
        }
    }
}
