//! What an image says of programs, as the OCI image specification has it (config.md there).

use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{IMAGE_ERROR, wrong};
use crate::error::Result;

/// Largest of an image's own descriptions, in bytes.
const JSON_BYTES_MAX: u64 = 4 << 20;

/// What is kept of it beside the unpacked image.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Config {
    /// Variables, each as `NAME=value`.
    #[serde(default, rename = "Env")]
    pub environment: Option<Vec<String>>,
    /// What a command is given to.
    #[serde(default, rename = "Entrypoint")]
    pub entrypoint: Option<Vec<String>>,
    /// Where commands begin.
    #[serde(default, rename = "WorkingDir")]
    pub directory: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(default)]
    config: Option<Config>,
}

/// The layers of a manifest; an index of several platforms' images has none.
#[derive(Deserialize)]
pub(super) struct Layers {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(default)]
    size: u64,
}

impl Layers {
    /// Bytes of all layers, compressed as they are.
    pub fn bytes(&self) -> u64 {
        self.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size))
    }
}

/// Reads what the one image of an OCI layout says.
pub(super) fn read(layout: &Path, name: &str) -> Result<Config> {
    let bad = |what: &str| wrong(IMAGE_ERROR, format!("{name} has no {what} that can be read"));
    let index: Index = json(&layout.join("index.json")).ok_or_else(|| bad("index"))?;
    let manifest = index.manifests.first().and_then(|found| blob(layout, &found.digest));
    let manifest: Manifest = manifest.ok_or_else(|| bad("manifest"))?;
    let image: Image = blob(layout, &manifest.config.digest).ok_or_else(|| bad("configuration"))?;
    let config = image.config.unwrap_or_default();
    let texts = config.environment.iter().chain(&config.entrypoint).flatten().chain(&config.directory);
    match texts.into_iter().any(|text| text.contains('\0')) {
        true => Err(bad("configuration without zero bytes")),
        false => Ok(config),
    }
}

fn blob<T: serde::de::DeserializeOwned>(layout: &Path, digest: &str) -> Option<T> {
    let hex = digest.strip_prefix("sha256:").filter(|hex| crate::packages::is_digest(hex))?;
    json(&layout.join("blobs/sha256").join(hex))
}

fn json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(JSON_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_leaves_out_is_nothing() {
        let image: Image =
            serde_json::from_str(r#"{"config":{"Env":["A=b"],"Cmd":["x"]},"os":"linux"}"#).unwrap();
        assert_eq!(image.config.unwrap().environment.unwrap(), ["A=b"]);
        let image: Image = serde_json::from_str(r#"{"config":{"Env":null,"Entrypoint":null}}"#).unwrap();
        assert_eq!(image.config.unwrap(), Config::default());
        let layers: Layers =
            serde_json::from_str(r#"{"layers":[{"size":3},{"size":18446744073709551615}]}"#).unwrap();
        assert_eq!(layers.bytes(), u64::MAX);
    }

    #[test]
    fn no_digest_leads_out_of_the_layout() {
        let layout = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(layout.path().join("blobs/sha256")).unwrap();
        let index = r#"{"manifests":[{"digest":"sha256:../../index.json"}]}"#;
        std::fs::write(layout.path().join("index.json"), index).unwrap();
        let refused = read(layout.path(), "x").unwrap_err().sentence();
        assert!(refused.contains("x has no manifest"), "{refused}");
    }
}
