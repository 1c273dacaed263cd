//! Generates the message types and the service from the contract.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        // What a node says about an attempt is also what it keeps on disk, where a later version finds it: fields that
        // are added must not make it unreadable.
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".", "#[serde(default)]")
        .compile_protos(&["proto/muster.proto"], &["proto"])
}
