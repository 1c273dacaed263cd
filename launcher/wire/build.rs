//! Generates the message types and the service from the contract.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure()
        // What a node says about an attempt is also what it keeps on disk, where a later version finds it: fields that
        // are added must not make it unreadable.
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".", "#[serde(default)]")
        // Shared by the messages to all nodes of a gang, and unpacked before anything is kept.
        .bytes(".muster.wire.v1.Prepare.members_packed")
        .field_attribute(".muster.wire.v1.Prepare.members_packed", "#[serde(skip)]")
        .compile_protos(&["proto/muster.proto"], &["proto"])
}
