//! `[batch]` and `[[batch.account]]`: the batch service, and who may use it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use muster_core::batch::{ImageSource, MountSource};

use crate::problem::ProblemKind;
use crate::section::{At, Reader, Section};

/// Most accounts.
const ACCOUNTS_MAX: usize = 1_000;
/// Most GiB of an account in the embedded store, unless the file says.
const ACCOUNT_GIB_DEFAULT: u64 = 1024;
/// The largest package, in MiB, unless the file says.
const PACKAGE_MIB_DEFAULT: u64 = 1024;
/// Most sources that pools may mount, and from which images may come.
const SOURCES_MAX: usize = 100;
/// What the paths of the batch service begin with: where there is a store, no account is called so.
const TAKEN: [&str; 8] = [
    "applications",
    "certificates",
    "jobs",
    "jobschedules",
    "nodecounts",
    "poolusagemetrics",
    "pools",
    "supportedimages",
];
/// Longest name of an account, in characters.
const NAME_CHARS_MAX: usize = 64;

/// The batch service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchConfig {
    /// Where its clients connect.
    pub listen: SocketAddr,
    /// How its clients call its address; by the address itself without.
    pub url: Option<String>,
    /// The keys of its accounts.
    pub keys: Vec<BatchKeyConfig>,
    /// The embedded store, if there is one.
    pub store: Option<BatchStoreConfig>,
    /// By what clients know that they speak with this service; without it they connect by plain HTTP.
    pub tls: Option<BatchTlsConfig>,
    /// The folder with application packages; one below the controller's state without.
    pub packages: Option<PathBuf>,
    /// The largest package, in MiB.
    pub package_mib: u64,
    /// What pools may mount on their nodes: each of these, and what lies in it.
    pub mounts: Vec<MountSource>,
    /// Where images of containers may come from.
    pub images: Vec<ImageSource>,
}

impl BatchConfig {
    /// The address that tasks are told.
    #[must_use]
    pub fn client_url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.url.clone().unwrap_or_else(|| format!("{scheme}://{}", self.listen))
    }
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchTlsConfig {
    /// The file with the certificate and those between it and its authority, in PEM.
    pub certificate_file: PathBuf,
    /// The file with its key, in PEM; nobody but its owner may read it.
    pub key_file: PathBuf,
}

/// The embedded store, which is served at the same address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchStoreConfig {
    /// Its folder.
    pub folder: PathBuf,
    /// Most GiB of an account.
    pub account_gib: u64,
}

/// A key of an account. An account may have several, each of a user of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchKeyConfig {
    /// The account's name, as clients write it.
    pub account: String,
    /// Login name of the user whom tasks run as that come with this key.
    pub user: String,
    /// The file with the key, in base64; nobody but its owner may read it.
    pub key_file: PathBuf,
}

/// Reads the section; none where it is wrong, or not there.
pub(crate) fn batch(reader: &mut Reader<'_>, section: Option<Section<'_, '_>>) -> Option<BatchConfig> {
    let mut section = section?;
    let listen = section.text(reader, "listen", "127.0.0.1:8443");
    if !section.has("listen") {
        section.missing(reader, "listen", "listen = \"127.0.0.1:8443\"");
    }
    let url = section.text(reader, "url", "https://head:8443");
    let store = store(reader, &mut section);
    let tls = tls(reader, &mut section);
    let packages = section.path(reader, "packages", "/var/lib/muster/packages").map(|at| at.value);
    let package_mib = section.number(reader, "package_mib", (1, 1 << 20));
    let package_mib = package_mib.map_or(PACKAGE_MIB_DEFAULT, |at| at.value);
    let mounts = sources(reader, &mut section, &MOUNTS, |text| MountSource::parse(text).ok());
    let images = sources(reader, &mut section, &IMAGES, ImageSource::parse);
    let accounts = section.tables(reader, "account");
    let span = section.span.clone();
    section.finish(reader);
    if accounts.len() > ACCOUNTS_MAX {
        let (what, found) = ("accounts of the batch service", accounts.len());
        reader.problem(span, ProblemKind::TooMany { what, found, max: ACCOUNTS_MAX });
        return None;
    }
    let keys: Vec<Option<BatchKeyConfig>> =
        accounts.into_iter().map(|account| key(reader, account)).collect();
    let keys: Vec<BatchKeyConfig> = keys.into_iter().collect::<Option<_>>()?;
    let mut seen = HashSet::new();
    if let Some(twice) = keys.iter().find(|key| !seen.insert((&key.account, &key.user))) {
        let name = format!("{} for user {}", twice.account, twice.user);
        let first_line = reader.line(&span);
        reader.problem(span, ProblemKind::Duplicate { what: "key of account", name, first_line });
        return None;
    }
    if let Some(taken) = keys.iter().find(|key| store.is_some() && TAKEN.contains(&key.account.as_str())) {
        let expected =
            "another name: paths of the service begin with this one, and those of the store with accounts";
        let found = taken.account.clone();
        reader.problem(span, ProblemKind::BadText { key: "name", expected, found });
        return None;
    }
    let is_url = |text: &str| {
        let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
        rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', ' ']) && !rest.ends_with('/'))
    };
    if let Some(wrong) = url.as_ref().filter(|url| !is_url(&url.value)) {
        let expected = "an address without a slash at its end, such as https://head:8443";
        let found = wrong.value.clone();
        reader.problem(wrong.span.clone(), ProblemKind::BadText { key: "url", expected, found });
        return None;
    }
    let url = url.map(|url| url.value);
    let listen = listen?;
    match listen.value.parse() {
        Ok(listen) => {
            let (mounts, images) = (mounts?, images?);
            Some(BatchConfig { listen, url, keys, store, tls, packages, package_mib, mounts, images })
        }
        Err(_) => {
            let expected = "an address with a port, such as 127.0.0.1:8443";
            reader
                .problem(listen.span, ProblemKind::BadText { key: "listen", expected, found: listen.value });
            None
        }
    }
}

/// The folder of the store, and how much an account may have in it.
fn store(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Option<BatchStoreConfig> {
    let folder = section.path(reader, "store", "/var/lib/muster/blobs");
    let account_gib = section.number(reader, "store_account_gib", (1, 1 << 20));
    let account_gib = account_gib.map_or(ACCOUNT_GIB_DEFAULT, |at| at.value);
    folder.map(|folder| BatchStoreConfig { folder: folder.value, account_gib })
}

/// A list of sources: its key, an example, and what each of them must be.
struct Sources {
    key: &'static str,
    example: &'static str,
    expected: &'static str,
}

/// What pools may mount.
const MOUNTS: Sources = Sources {
    key: "mount_sources",
    example: "nas1:/export",
    expected: "an export such as nas1:/export, or a folder of the nodes such as file:///srv/data",
};
/// Where images may come from.
const IMAGES: Sources = Sources {
    key: "image_sources",
    example: "docker.io/library",
    expected: "a registry or a part of it such as registry.example/team, http://10.0.0.1:5000 without TLS, or archives in a \
               folder of the nodes such as oci-archive:/srv/images",
};

/// Sources of one kind; none where one of them is wrong.
fn sources<T>(
    reader: &mut Reader<'_>,
    section: &mut Section<'_, '_>,
    Sources { key, example, expected }: &Sources,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<Vec<T>> {
    let said = section.texts(reader, key, example).unwrap_or_default();
    if said.len() > SOURCES_MAX {
        let (what, found) = (*key, said.len());
        reader.problem(section.span.clone(), ProblemKind::TooMany { what, found, max: SOURCES_MAX });
        return None;
    }
    let mut sources = Vec::with_capacity(said.len());
    let mut is_wrong = false;
    for At { value, span } in said {
        match parse(&value) {
            Some(source) => sources.push(source),
            None => {
                reader.problem(span, ProblemKind::BadText { key, expected, found: value });
                is_wrong = true;
            }
        }
    }
    (!is_wrong).then_some(sources)
}

/// The certificate and its key: both or neither.
fn tls(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> Option<BatchTlsConfig> {
    let certificate = section.path(reader, "tls_certificate_file", "/etc/muster/batch.pem");
    let key = section.path(reader, "tls_key_file", "/etc/muster/batch.key");
    let examples = [
        ("tls_certificate_file", "tls_certificate_file = \"/etc/muster/batch.pem\""),
        ("tls_key_file", "tls_key_file = \"/etc/muster/batch.key\""),
    ];
    if section.has(examples[0].0) || section.has(examples[1].0) {
        for (key, example) in examples.into_iter().filter(|(key, _)| !section.has(key)) {
            section.missing(reader, key, example);
        }
    }
    Some(BatchTlsConfig { certificate_file: certificate?.value, key_file: key?.value })
}

fn key(reader: &mut Reader<'_>, mut section: Section<'_, '_>) -> Option<BatchKeyConfig> {
    let name = section.text(reader, "name", "lab");
    let user = section.text(reader, "user", "ann");
    let key_file = section.path(reader, "key_file", "/etc/muster/lab.key");
    let examples = [
        ("name", "name = \"lab\""),
        ("user", "user = \"ann\""),
        ("key_file", "key_file = \"/etc/muster/lab.key\""),
    ];
    for (key, example) in examples {
        if !section.has(key) {
            section.missing(reader, key, example);
        }
    }
    section.finish(reader);
    let (name, user, key_file) = (name?, user?, key_file?);
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.value.is_empty() || name.value.len() > NAME_CHARS_MAX || !name.value.chars().all(is_fine) {
        let expected = "1 to 64 lower-case letters, digits, hyphens and underscores";
        reader.problem(name.span, ProblemKind::BadText { key: "name", expected, found: name.value });
        return None;
    }
    Some(BatchKeyConfig { account: name.value, user: user.value, key_file: key_file.value })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{BatchConfig, parse};

    const CLUSTER: &str = "[cluster]\nname = \"c\"\n[[node]]\nname = \"n1\"\ncores = 1\nmemory = \"1G\"\n[[pool]]\nname = \"main\"\nnodes = \"n1\"\n";

    fn read(section: &str) -> Result<Option<BatchConfig>, String> {
        let config = parse(Path::new("muster.toml"), &format!("{CLUSTER}{section}"));
        config.map(|config| config.batch).map_err(|errors| errors.to_string())
    }

    fn account(name: &str, user: &str) -> String {
        format!("[[batch.account]]\nname = \"{name}\"\nuser = \"{user}\"\nkey_file = \"/etc/muster/k\"\n")
    }

    #[test]
    fn the_section_names_an_address_and_the_keys_of_accounts() {
        assert_eq!(read(""), Ok(None));
        let both = [account("lab", "ann"), account("lab", "bob")].concat();
        let config = read(&format!("[batch]\nlisten = \"127.0.0.1:8443\"\n{both}")).unwrap().unwrap();
        assert_eq!((config.listen.port(), config.client_url().as_str()), (8443, "http://127.0.0.1:8443"));
        let users: Vec<&str> = config.keys.iter().map(|key| key.user.as_str()).collect();
        assert_eq!(config.tls, None);
        assert_eq!((users, config.keys[1].account.as_str()), (vec!["ann", "bob"], "lab"));
    }

    #[test]
    fn a_store_has_a_folder_and_a_limit() {
        let read = |more: &str| {
            let section = format!("[batch]\nlisten = \"127.0.0.1:8443\"\n{more}{}", account("lab", "ann"));
            read(&section).map(|batch| batch.and_then(|batch| batch.store))
        };
        assert_eq!(read(""), Ok(None));
        let store = read("store = \"/srv/blobs\"\n").unwrap().unwrap();
        assert_eq!((store.folder.as_path(), store.account_gib), (Path::new("/srv/blobs"), 1024));
        let store = read("store = \"/srv/blobs\"\nstore_account_gib = 5\n").unwrap().unwrap();
        assert_eq!(store.account_gib, 5);
    }

    #[test]
    fn packages_and_mounts_have_limits_of_the_site() {
        let read = |more: &str| {
            let section = format!("[batch]\nlisten = \"127.0.0.1:8443\"\n{more}{}", account("lab", "ann"));
            read(&section).map(Option::unwrap)
        };
        let plain = read("").unwrap();
        assert_eq!((plain.packages, plain.package_mib, plain.mounts.len()), (None, 1024, 0));
        let said = read(
            "packages = \"/srv/packages\"\npackage_mib = 5\nmount_sources = [\"nas1:/export\", \"file:///srv\"]\n",
        )
        .unwrap();
        assert_eq!(said.packages.as_deref(), Some(Path::new("/srv/packages")));
        let sources: Vec<String> = said.mounts.iter().map(ToString::to_string).collect();
        assert_eq!((said.package_mib, sources), (5, vec!["nas1:/export".into(), "file:///srv".into()]));
        assert!(read("mount_sources = [\"nas1\"]\n").unwrap_err().contains("nas1:/export"));
        assert!(read("package_mib = 0\n").unwrap_err().contains("package_mib"));
        assert_eq!(plain.images, []);
        let said = read("image_sources = [\"docker.io/library\", \"oci-archive:/srv/images\"]\n").unwrap();
        assert_eq!(said.images.len(), 2);
        assert!(read("image_sources = [\"debian\"]\n").unwrap_err().contains("registry.example/team"));
        let many = format!("image_sources = [{}]\n", "\"docker.io\",".repeat(101));
        assert!(read(&many).unwrap_err().contains("image_sources"));
        let many = format!("mount_sources = [{}]\n", "\"nas1:/export\",".repeat(101));
        assert!(read(&many).unwrap_err().contains("mount_sources"));
    }

    #[test]
    fn what_is_wrong_with_it_is_told() {
        let listen = "[batch]\nlisten = \"127.0.0.1:8443\"\n";
        for (section, told) in [
            ("[batch]\n".to_owned(), "listen"),
            ("[batch]\nlisten = \"8443\"\n".to_owned(), "an address with a port"),
            (format!("{listen}{}", account("Lab", "ann")), "lower-case letters"),
            (format!("{listen}{}", account("lab", "ann").repeat(2)), "lab for user ann"),
            (format!("{listen}[[batch.account]]\nname = \"lab\"\n"), "key_file"),
            (format!("{listen}keys = 1\n"), "keys"),
            (format!("{listen}url = \"head:8443\"\n"), "an address without a slash"),
            (format!("{listen}tls_key_file = \"/etc/k\"\n"), "tls_certificate_file"),
            (
                format!("{listen}store = \"/srv/blobs\"\n{}", account("jobs", "ann")),
                "paths of the service begin",
            ),
            (format!("{listen}store_account_gib = 0\n"), "store_account_gib"),
        ] {
            let errors = read(&section).unwrap_err();
            assert!(errors.contains(told), "{section}: {errors}");
        }
    }
}
