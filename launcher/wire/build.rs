//! Generates the message types and the service from the contract.

fn main() -> std::io::Result<()> {
    tonic_prost_build::configure().compile_protos(&["proto/muster.proto"], &["proto"])
}
