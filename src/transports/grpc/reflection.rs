//! Server reflection, from the descriptors that were compiled in. Version 1 and, for older tools, `v1alpha`.

use tonic::server::NamedService;
use tonic_reflection::server::{Builder, v1, v1alpha};
use twinway_proto::grpc::FILE_DESCRIPTOR_SET;

use super::peers::PeerServer;

/// What is served, as clients name it. The descriptors hold more services than that; they are not advertised.
pub(super) const SERVED: [&str; 4] = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    <PeerServer as NamedService>::NAME,
];

/// Both services of reflection.
pub(super) fn services()
-> (v1::ServerReflectionServer<impl v1::ServerReflection>, v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>) {
    // Both advertise both, and each registers only its own descriptors by itself.
    let builder = || {
        let described = [FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
        let builder = described.into_iter().fold(Builder::configure(), Builder::register_encoded_file_descriptor_set);
        SERVED.into_iter().fold(builder, Builder::with_service_name)
    };
    let v1 = builder().register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET).build_v1();
    let v1alpha = builder().register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET).build_v1alpha();
    const GOOD: &str = "descriptors that were compiled in can be read, which a test looks at";
    (v1.expect(GOOD), v1alpha.expect(GOOD))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_compiled_descriptors_can_be_read() {
        super::services();
    }
}
