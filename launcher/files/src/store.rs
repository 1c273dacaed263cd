//! Containers: blob containers with a shared access signature, of any host, and buckets that speak S3.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{Attribute, Attributes, ClientOptions, ObjectStore};
use reqwest::Url;
use tokio::io::AsyncWriteExt as _;
use tokio_stream::StreamExt as _;

use crate::download::{CONNECT_WITHIN, SILENT_MAX, Source, of_store};
use crate::error::{FilesError, Result, without_secrets};
use crate::order::Tally;

/// A larger file is sent in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// How many parts a store takes at most.
const PARTS_MAX: u64 = 9_000;
/// How many parts are under way at once: each is in memory, which is the task's.
const PARTS_AT_ONCE: usize = 2;

/// The version of Azure's protocol at which a host's name begins with the account's.
const ACCOUNT_IN_HOST: &str = ".blob.";

/// A place with many files.
#[derive(Debug, Clone)]
pub struct Container {
    store: Arc<dyn ObjectStore>,
    /// The folder in it at which names begin.
    root: Path,
    kind: Kind,
    shown: String,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Files are read by plain requests, whose answers have digests.
    Blobs { client: reqwest::Client, url: Url },
    /// Files are read through the store.
    Bucket,
}

/// A file in a container.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its whole name, below the container's root.
    pub name: String,
    /// Where it is read from.
    pub source: Source,
}

impl Container {
    /// Opens the container of an address: `http:` and `https:` are blob containers, `s3:` are buckets, for which
    /// `environment` has the credentials that the tools of AWS read there as well.
    ///
    /// # Errors
    ///
    /// [`FilesError::Order`] if the address is none of a container.
    pub fn open(
        address: &str,
        client: &reqwest::Client,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let shown = address.split('?').next().unwrap_or_default().to_owned();
        let wrong = |problem: &str| FilesError::Order { problem: format!("{shown} {problem}") };
        let url = Url::parse(address).map_err(|error| wrong(&format!("is no address: {error}")))?;
        match url.scheme() {
            "s3" => Self::bucket(&url, &shown, environment),
            "http" | "https" => Self::blobs(url, &shown, client),
            _ => Err(wrong("is of no kind that is known: http, https and s3 are")),
        }
    }

    fn bucket(url: &Url, shown: &str, environment: &BTreeMap<String, String>) -> Result<Self> {
        let bucket = url.host_str().unwrap_or_default();
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_client_options(options());
        let variable = |names: [&str; 2]| {
            names.into_iter().find_map(|name| environment.get(name).filter(|v| !v.is_empty()))
        };
        if let Some(region) = variable(["AWS_REGION", "AWS_DEFAULT_REGION"]) {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = variable(["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]) {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http:"));
        }
        let key = variable(["AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY_ID"]);
        builder = match key.zip(variable(["AWS_SECRET_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY"])) {
            Some((id, secret)) => builder.with_access_key_id(id).with_secret_access_key(secret),
            // A bucket for everybody; nobody shall be asked for credentials that the node itself may have.
            None => builder.with_skip_signature(true),
        };
        if let Some(token) = variable(["AWS_SESSION_TOKEN", "AWS_SESSION_TOKEN"]) {
            builder = builder.with_token(token);
        }
        let store = builder.build().map_err(|error| of_store(shown, &error))?;
        let root = Path::parse(decoded(url)?.trim_matches('/')).map_err(|error| bad_name(shown, &error))?;
        Ok(Self { store: Arc::new(store), root, kind: Kind::Bucket, shown: shown.to_owned() })
    }

    fn blobs(url: Url, shown: &str, client: &reqwest::Client) -> Result<Self> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let path = decoded(&url)?;
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let mut endpoint = url.clone();
        endpoint.set_query(None);
        endpoint.set_path("");
        let account = match host.split_once(ACCOUNT_IN_HOST) {
            Some((account, _)) => Some(account.to_owned()),
            None => parts.next().map(str::to_owned),
        };
        let (Some(account), Some(container)) = (account, parts.next()) else {
            let problem =
                format!("{shown} names no container: write https://HOST/ACCOUNT/CONTAINER?SIGNATURE");
            return Err(FilesError::Order { problem });
        };
        if !host.contains(ACCOUNT_IN_HOST) {
            endpoint.set_path(&account);
        }
        let root = parts.collect::<Vec<_>>().join("/");
        let pairs: Vec<(String, String)> =
            url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(&account)
            .with_container_name(container)
            .with_endpoint(endpoint.as_str().trim_end_matches('/').to_owned())
            .with_client_options(options())
            .with_allow_http(endpoint.scheme() == "http");
        builder = match pairs.is_empty() {
            true => builder.with_skip_signature(true),
            false => builder.with_sas_authorization(pairs),
        };
        let store = builder.build().map_err(|error| of_store(shown, &error))?;
        let root = Path::parse(root).map_err(|error| bad_name(shown, &error))?;
        let kind = Kind::Blobs { client: client.clone(), url };
        Ok(Self { store: Arc::new(store), root, kind, shown: shown.to_owned() })
    }

    /// All files whose names begin with a text.
    ///
    /// # Errors
    ///
    /// [`FilesError`] if the container cannot be read, or has too many.
    pub async fn list(&self, prefix: &str, tally: &Tally) -> Result<Vec<Entry>> {
        // The store lists folders, and the text may end within a name.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let folder = self.below(folder)?;
        let mut all = self.store.list((!folder.as_ref().is_empty()).then_some(&folder));
        let mut entries = Vec::new();
        while let Some(found) = all.next().await {
            let found = found.map_err(|error| of_store(&self.shown, &error))?;
            let Some(name) = self.name_of(&found.location) else { continue };
            if name.starts_with(prefix) && !name.ends_with('/') {
                tally.add_file()?;
                entries.push(Entry { source: self.source(&found.location, &name)?, name });
            }
        }
        Ok(entries)
    }

    /// One file, by its whole name.
    ///
    /// # Errors
    ///
    /// [`FilesError::Order`] if it is no name.
    pub fn entry(&self, name: &str) -> Result<Entry> {
        Ok(Entry { name: name.to_owned(), source: self.source(&self.below(name)?, name)? })
    }

    fn source(&self, location: &Path, name: &str) -> Result<Source> {
        Ok(match &self.kind {
            Kind::Bucket => Source::Object { store: Arc::clone(&self.store), path: location.clone() },
            Kind::Blobs { client, url } => {
                let mut url = url.clone();
                match url.path_segments_mut() {
                    Ok(mut parts) => drop(parts.pop_if_empty().extend(name.split('/'))),
                    Err(()) => {
                        return Err(FilesError::Order { problem: format!("{} is no container", self.shown) });
                    }
                }
                Source::Http { client: client.clone(), url }
            }
        })
    }

    fn name_of(&self, location: &Path) -> Option<String> {
        let (location, root) = (location.as_ref(), self.root.as_ref());
        match root.is_empty() {
            true => Some(location.to_owned()),
            false => location.strip_prefix(root)?.strip_prefix('/').map(str::to_owned),
        }
    }

    fn below(&self, name: &str) -> Result<Path> {
        let (root, name) = (self.root.as_ref(), name.trim_matches('/'));
        let whole = [root, name].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        Path::parse(whole).map_err(|error| bad_name(&self.shown, &error))
    }

    /// Sends a file of the node, and says how many bytes it had. It is there as a whole or not at all.
    ///
    /// # Errors
    ///
    /// [`FilesError`] if it cannot be read or the store does not take it.
    pub async fn send(
        &self,
        file: &FilePath,
        name: &str,
        headers: &BTreeMap<String, String>,
        tally: &Tally,
    ) -> Result<u64> {
        let mut from = tokio::fs::File::open(file).await.map_err(FilesError::local("read", file))?;
        let bytes = from.metadata().await.map_err(FilesError::local("look at", file))?.len();
        tally.add_bytes(bytes)?;
        let part_bytes = PART_BYTES.max(usize::try_from(bytes / PARTS_MAX).unwrap_or(usize::MAX));
        let mut writer = BufWriter::with_capacity(Arc::clone(&self.store), self.below(name)?, part_bytes)
            .with_max_concurrency(PARTS_AT_ONCE)
            .with_attributes(attributes(headers)?);
        let sent = match tokio::io::copy(&mut from, &mut writer).await {
            Ok(_) => writer.shutdown().await,
            Err(error) => {
                let _ = writer.abort().await;
                Err(error)
            }
        };
        sent.map_err(|error| self.of_writer(name, error))?;
        Ok(bytes)
    }

    /// The writer wraps the store's errors into those of files.
    fn of_writer(&self, name: &str, error: std::io::Error) -> FilesError {
        let what = format!("{}/{name}", self.shown);
        let store = error.get_ref().and_then(|inner| inner.downcast_ref::<object_store::Error>());
        match store {
            Some(store) => of_store(&what, store),
            None => FilesError::Store { what, said: without_secrets(&error.to_string()), transient: false },
        }
    }
}

/// How connections to stores are made.
fn options() -> ClientOptions {
    // A part of a file takes as long as it takes; that nothing comes any more is noticed.
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout(CONNECT_WITHIN)
        .with_read_timeout(SILENT_MAX)
}

/// The path of an address, as its container names its files.
fn decoded(url: &Url) -> Result<String> {
    Path::from_url_path(url.path())
        .map(|path| path.as_ref().to_owned())
        .map_err(|error| bad_name(url.path(), &error))
}

fn bad_name(shown: &str, error: &object_store::path::Error) -> FilesError {
    FilesError::Order { problem: format!("{shown} has a name that stores do not take: {error}") }
}

/// The headers that users send with their files, as the store knows them.
fn attributes(headers: &BTreeMap<String, String>) -> Result<Attributes> {
    let mut all = Attributes::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        let attribute = match lower.strip_prefix("x-ms-blob-").unwrap_or(&lower) {
            "content-type" => Attribute::ContentType,
            "content-encoding" => Attribute::ContentEncoding,
            "content-language" => Attribute::ContentLanguage,
            "content-disposition" => Attribute::ContentDisposition,
            "cache-control" => Attribute::CacheControl,
            other => match other.strip_prefix("x-ms-meta-").or(other.strip_prefix("x-amz-meta-")) {
                Some(key) => Attribute::Metadata(key.to_owned().into()),
                None => {
                    let problem = format!(
                        "the header {name} cannot be sent with an upload: Content-Type, -Encoding, -Language and \
                         -Disposition, Cache-Control and x-ms-meta-NAME can"
                    );
                    return Err(FilesError::Order { problem });
                }
            },
        };
        all.insert(attribute, value.clone().into());
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_what_stores_know() {
        let headers = |name: &str| attributes(&BTreeMap::from([(name.to_owned(), "v".to_owned())]));
        for name in ["Content-Type", "x-ms-blob-content-type", "x-ms-meta-a", "Cache-Control"] {
            assert_eq!(headers(name).unwrap().len(), 1, "{name}");
        }
        assert!(headers("x-ms-lease-id").unwrap_err().to_string().contains("x-ms-lease-id"));
    }
}
