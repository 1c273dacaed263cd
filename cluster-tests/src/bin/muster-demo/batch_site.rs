//! A site with the batch service and its store.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use muster_cluster_tests::site::{Site, SiteOptions};

use crate::checks;

/// The ordinary user whose key it is.
pub const USER: &str = "ann";
/// The service's address, as every host of the cluster knows it.
pub const ENDPOINT: &str = "http://head:8443";
/// A key, in base64, of this cluster alone, which nobody else can reach.
const KEY: &str = "bXVzdGVyIHNob3dzIGl0cyBiYXRjaCBzZXJ2aWNl";

/// The site, and what lies beside it.
pub struct BatchSite {
    pub site: Site,
    pub work: PathBuf,
    folder: PathBuf,
}

impl BatchSite {
    /// Brings it up, with ann's settings for `muster batch` and a file `key` in her folder.
    pub fn up(name: &str, nodes: usize, cores: u32) -> Result<Self> {
        let name = format!("{name}{}", std::process::id() % 10_000);
        let mut options = SiteOptions::new(&name, nodes, cores)?;
        let folder = std::env::temp_dir().join(format!("muster-{name}"));
        std::fs::create_dir_all(&folder)?;
        let key = folder.join("lab.key");
        std::fs::write(&key, KEY)?;
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;
        options.policy = format!(
            "[batch]\nlisten = \"0.0.0.0:8443\"\nstore = \"{}\"\nstore_account_gib = 4\n\
             [[batch.account]]\nname = \"lab\"\nuser = \"{USER}\"\nkey_file = \"{}\"\n",
            folder.join("blobs").display(),
            key.display()
        );
        let site = Site::up(&options)?;
        let work = checks::user_directory(&site, USER)?;
        let site = Self { site, work, folder };
        std::fs::write(site.work.join("key.new"), KEY)?;
        std::fs::write(
            site.work.join("batch.toml.new"),
            format!(
                "account = \"lab\"\nendpoint = \"{ENDPOINT}\"\nkey_file = \"{}/key\"\n",
                site.work.display()
            ),
        )?;
        site.shell(
            "install -m 600 key.new key && mkdir -p ~/.config/muster && install -m 600 batch.toml.new ~/.config/muster/batch.toml \
             && rm key.new batch.toml.new",
        )?;
        Ok(site)
    }

    /// Runs a line of a shell as ann, with `muster` on her path, and gives back what it prints.
    pub fn shell(&self, line: &str) -> Result<String> {
        let mut command = self.site.cluster.exec("head", Some(USER))?;
        let output = command
            .args(["/usr/bin/env", "-C"])
            .arg(&self.work)
            .args(["/bin/bash", "-c", line])
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.site.staged.bin.display()))
            .output()?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        anyhow::ensure!(output.status.success(), "`{line}` failed: {}\n{out}{err}", output.status);
        Ok(out.into_owned())
    }

    /// Removes everything.
    pub fn down(self) -> Result<()> {
        self.site.down().context("the cluster could not be removed")?;
        std::fs::remove_dir_all(&self.folder)?;
        Ok(())
    }
}
