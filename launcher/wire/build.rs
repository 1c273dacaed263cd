//! Generates the message types and the service from the contract.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        // What a node says about an attempt is also what it keeps on disk.
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .compile_protos(&["proto/muster.proto"], &["proto"])
}
