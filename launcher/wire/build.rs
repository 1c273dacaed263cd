//! Generates the message types and the service from the contract.

use tonic_prost_build::manual::{Builder, Method, Service};

fn main() -> std::io::Result<()> {
    let session = Method::builder()
        .name("session")
        .route_name("Session")
        .input_type("crate::v1::FromNode")
        .output_type("crate::Told")
        .codec_path("crate::ToldCodec")
        .client_streaming()
        .server_streaming();
    let package = Method::builder()
        .name("package")
        .route_name("Package")
        .input_type("crate::v1::PackageRequest")
        .output_type("crate::v1::PackagePart")
        .codec_path("tonic_prost::ProstCodec")
        .server_streaming();
    // The contract's own service, for a controller that has encoded a part of what it tells.
    let service = Service::builder().name("NodeController").package("muster.wire.v1");
    let service = service.method(session.build()).method(package.build()).build();
    Builder::new().build_client(false).compile(&[service]);

    tonic_prost_build::configure()
        // What a node says about an attempt is also what it keeps on disk, where a later version finds it: fields that
        // are added must not make it unreadable.
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".", "#[serde(default)]")
        // Shared by the messages to all nodes of a gang, and unpacked before anything is kept.
        .bytes(".muster.wire.v1.Prepare.members_packed")
        // Passed on as it came.
        .bytes(".muster.wire.v1.Prepare.work")
        .field_attribute(".muster.wire.v1.Prepare.work", "#[serde(skip)]")
        .field_attribute(".muster.wire.v1.Prepare.members_packed", "#[serde(skip)]")
        .compile_protos(&["proto/muster.proto"], &["proto"])
}
