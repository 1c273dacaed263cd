//! Which server and database, and how they are reached.

use std::fmt;
use std::io::BufReader;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use postgres::config::{Host, SslMode};
use postgres::{Client, Config, NoTls};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::StoreError;

/// Where the server's socket is unless the URL says otherwise, as Debian and most others have it.
const SOCKET_FOLDER: &str = "/var/run/postgresql";
/// The port unless the URL says otherwise.
const PORT: u16 = 5432;
/// How long a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// A server that is cut off is noticed within this time and a few seconds.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// How often a server that is silent is asked again.
const ALIVE_TRIES: u32 = 3;

/// How a database is named in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// `postgresql://USER@HOST:PORT/DATABASE`; without a host, the server's socket on this host.
    pub url: String,
    /// A file in the form of `~/.pgpass` that only its owner may read.
    pub password_file: Option<PathBuf>,
    /// The certificates of the authorities that may vouch for the server.
    pub ca_file: Option<PathBuf>,
}

/// A database of a PostgreSQL server.
#[derive(Clone)]
pub struct Server(Arc<Reach>);

/// How a database is reached.
struct Reach {
    name: String,
    config: Config,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Server {
    /// Reads what is named, and the files that it takes; connects to nothing.
    ///
    /// # Errors
    /// [`StoreError::Server`] or [`StoreError::ServerFile`] with what is wrong and what would be right.
    pub fn new(options: &ServerOptions) -> Result<Self, StoreError> {
        let refuse = |problem: &str| StoreError::Server { problem: problem.to_owned() };
        let is_url = ["postgresql://", "postgres://"].iter().any(|scheme| options.url.starts_with(scheme));
        let parsed = options.url.parse::<Config>().ok().filter(|_| is_url);
        let mut config = parsed.ok_or_else(|| {
            refuse("this is not the URL of a PostgreSQL database, such as postgresql://muster@db.example.org/muster")
        })?;
        if config.get_password().is_some() {
            return Err(refuse(
                "the URL holds a password, which everybody who may read this file would know: take it out, and name a \
                 file that holds it by `store_password_file`",
            ));
        }
        let Some(database) = config.get_dbname().map(str::to_owned) else {
            return Err(refuse("the URL names no database: write postgresql://USER@HOST/DATABASE"));
        };
        let Some(user) = config.get_user().map(str::to_owned) else {
            return Err(refuse("the URL names no user: write postgresql://USER@HOST/DATABASE"));
        };
        if config.get_hosts().is_empty() {
            config.host_path(SOCKET_FOLDER);
        }
        let place = first_host(&config);
        let port = config.get_ports().first().copied().unwrap_or(PORT);
        let name = match &place {
            Host::Tcp(host) => format!("postgresql://{user}@{host}:{port}/{database}"),
            Host::Unix(folder) => format!("postgresql://{user}@/{database} at {}", folder.display()),
        };
        if let Some(path) = &options.password_file {
            let host = match &place {
                Host::Tcp(host) => host.clone(),
                Host::Unix(_) => "localhost".to_owned(),
            };
            config.password(read_password(path, [&host, &port.to_string(), &database, &user])?);
        }
        let tls = options.ca_file.as_deref().map(read_authorities).transpose()?;
        match (&tls, remote_host(&config)) {
            (Some(_), _) => {
                config.ssl_mode(SslMode::Require);
            }
            (None, Some(host)) => {
                return Err(refuse(&format!(
                    "{host} is another host, and everything would go over the network for all to read: name the \
                     certificate of the authority that vouches for the server by `store_ca_file`"
                )));
            }
            (None, None) => {
                config.ssl_mode(SslMode::Disable);
            }
        }
        config
            .connect_timeout(CONNECT_WITHIN)
            .tcp_user_timeout(ALIVE_EVERY * ALIVE_TRIES)
            .keepalives_idle(ALIVE_EVERY)
            .keepalives_interval(ALIVE_EVERY)
            .keepalives_retries(ALIVE_TRIES);
        Ok(Self(Arc::new(Reach { name, config, tls })))
    }

    /// Connects, and says to the server who does.
    pub(crate) fn client(&self, application: &str) -> Result<Client, postgres::Error> {
        let mut config = self.0.config.clone();
        config.application_name(application);
        let is_local = matches!(first_host(&config), Host::Unix(_));
        match &self.0.tls {
            Some(tls) if !is_local => {
                config.connect(MakeRustlsConnect::new(rustls::ClientConfig::clone(tls)))
            }
            _ => config.ssl_mode(SslMode::Disable).connect(NoTls),
        }
    }
}

fn first_host(config: &Config) -> Host {
    let first = config.get_hosts().first().cloned();
    first.unwrap_or_else(|| Host::Unix(PathBuf::from(SOCKET_FOLDER)))
}

/// A host of the URL that is not this one.
fn remote_host(config: &Config) -> Option<String> {
    let is_here =
        |host: &str| host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let named = config.get_hosts().iter().find_map(|host| match host {
        Host::Tcp(host) if !is_here(host) => Some(host.clone()),
        _ => None,
    });
    let addressed = config.get_hostaddrs().iter().find(|address| !address.is_loopback());
    addressed.map(ToString::to_string).or(if config.get_hostaddrs().is_empty() { named } else { None })
}

/// The password of the first line of a file in the form of `~/.pgpass` that fits host, port, database and user.
fn read_password(path: &Path, wanted: [&str; 4]) -> Result<String, StoreError> {
    let refuse = |problem: String| StoreError::ServerFile { path: path.to_owned(), problem };
    let read = || {
        let mode = std::fs::metadata(path)?.permissions().mode();
        Ok::<_, std::io::Error>((mode, std::fs::read_to_string(path)?))
    };
    let (mode, text) = read().map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    if mode & 0o077 != 0 {
        return Err(refuse(format!(
            "others than its owner may read or change this file of passwords (its mode is {:o}): chmod 600 it",
            mode & 0o7777
        )));
    }
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let fits = |fields: &[String]| {
        fields.len() == 5 && fields.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted)
    };
    let found = lines.map(fields).find(|fields| fits(fields)).and_then(|mut fields| fields.pop());
    found.ok_or_else(|| {
        refuse(format!(
            "no line of this file is for {}: write HOST:PORT:DATABASE:USER:PASSWORD, with * for what does not matter",
            wanted.join(":")
        ))
    })
}

/// The fields of a line; a backslash takes away what the next character means.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let is_end = character == ':' && fields.len() < 5;
        match (is_end, character) {
            (true, _) => fields.push(String::new()),
            (false, '\\') => fields.last_mut().expect("there is one").extend(characters.next()),
            (false, other) => fields.last_mut().expect("there is one").push(other),
        }
    }
    fields
}

fn read_authorities(path: &Path) -> Result<Arc<rustls::ClientConfig>, StoreError> {
    let refuse = |problem: String| StoreError::ServerFile { path: path.to_owned(), problem };
    let file =
        std::fs::File::open(path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file)) {
        let certificate = certificate.map_err(|error| refuse(format!("this is not PEM: {error:?}")))?;
        roots.add(certificate).map_err(|error| refuse(format!("a certificate cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(refuse("there is no certificate in this file, in PEM".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(format!("TLS cannot be set up: {error}")))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.0.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, String> {
        let options = ServerOptions { url: url.to_owned(), password_file: None, ca_file: None };
        Server::new(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_what_would_be_right() {
        for (url, part) in [
            ("sqlite:///var/lib", "not the URL of a PostgreSQL database"),
            ("postgresql://muster:secret@localhost/muster", "store_password_file"),
            ("postgresql://muster@localhost", "names no database"),
            ("postgresql://localhost/muster", "names no user"),
            ("postgresql://muster@db.example.org/muster", "store_ca_file"),
            ("postgresql://muster@10.1.2.3/muster", "10.1.2.3 is another host"),
            ("postgresql://muster@localhost/muster?hostaddr=10.1.2.3", "10.1.2.3 is another host"),
        ] {
            let error = server(url).unwrap_err();
            assert!(error.contains(part) && !error.contains("secret"), "{url}: {error}");
        }
        assert_eq!(
            server("postgres://muster@127.0.0.1/m").unwrap().to_string(),
            "postgresql://muster@127.0.0.1:5432/m"
        );
        let local = server("postgresql://muster@/m?host=/run/x").unwrap().to_string();
        assert_eq!(local, "postgresql://muster@/m at /run/x");
    }

    #[test]
    fn a_password_is_taken_from_the_first_line_that_fits_of_a_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passwords");
        std::fs::write(&path, "# mine\nother:*:*:*:wrong\ndb:5432:*:muster:a\\:b:c\\\\d\n*:*:*:*:e\n")
            .unwrap();
        let wanted = ["db", "5432", "muster", "muster"];
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = read_password(&path, wanted).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read_password(&path, wanted).unwrap(), "a:b:c\\d");
        assert_eq!(read_password(&path, ["x", "1", "y", "z"]).unwrap(), "e");
        std::fs::write(&path, "other:*:*:*:wrong\n").unwrap();
        let error = read_password(&path, wanted).unwrap_err().to_string();
        assert!(error.contains("no line of this file is for db:5432:muster:muster"), "{error}");
    }

    #[test]
    fn authorities_that_are_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        std::fs::write(&path, "nothing\n").unwrap();
        let error = read_authorities(&path).unwrap_err().to_string();
        assert!(error.contains("no certificate in this file"), "{error}");
    }
}
