//! What the MPI launchers find: files in the attempt's folder, and variables in the environment.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;

use muster_mpi::{AttemptDir, AttemptKeys, Binding, GangLayout, Instance, Peer, RankfileCores, SshdConfig};
use muster_wire::v1;

use super::Supervisor;
use super::run_folder::RunFolder;
use crate::containment::Containment;
use crate::error::{NodeError, Result};
use crate::user::Account;

/// How UCX, by which MPICH and others communicate, notices that memory is given back, so that it forgets what it has registered
/// with a device: it rewrites functions of the C library, and spins for 5 ms at each of eight in every rank
/// (`ucm_bistro_apply_patch_atomic`), which is half of what `MPI_Init` costs.
const UCX_HOOKS: &str = "UCX_MEM_MMAP_HOOK_MODE";

/// Whether the node has anything with which memory is registered: an InfiniBand card, or a module for copies between
/// processes. Without it nothing is to be noticed.
fn keeps_memory_registered() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let mut cards = std::fs::read_dir("/sys/class/infiniband").into_iter().flatten();
        let devices = ["/dev/xpmem", "/dev/knem"];
        cards.next().is_some() || devices.iter().any(|device| Path::new(device).exists())
    })
}

impl Supervisor {
    /// The gang as launchers see it.
    fn layout(&self) -> GangLayout {
        let key = self.prepare.key.unwrap_or_default();
        let instances = self.prepare.members.iter().map(|member| Instance {
            host: member.host.clone(),
            ranks: member.ranks,
            cores: member.cores.clone(),
        });
        GangLayout {
            job: key.job,
            task: key.task,
            attempt: key.attempt,
            instances: instances.collect(),
            cores_per_rank: self.prepare.cpus_per_rank.max(1),
            threads_per_core: self.prepare.threads_per_core,
            wraps_cores: self.assignment.cores_wrap,
            runs_as_root: self.prepare.user.as_ref().is_some_and(|user| user.uid == 0),
            attempt_dir: AttemptDir::new(&self.assignment.run),
            remote_shell: self.assignment.bin_dir.join("muster-rsh"),
            rank_starter: self.assignment.bin_dir.join("muster-rank"),
        }
    }

    /// The files that say who runs where.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] if one cannot be written.
    pub(super) fn write_launch_files(&self, folder: &mut RunFolder) -> Result<()> {
        let layout = self.layout();
        if let Some(own) = layout.instances.get(self.prepare.instance as usize) {
            let (cpus, width) = (&self.assignment.cores, layout.cores_per_rank);
            let binding = Binding::for_instance(own, cpus, width, layout.wraps_cores);
            folder.publish("binding", binding.to_text().as_bytes())?;
        }
        if !self.is_primary() {
            return Ok(());
        }
        let numbering = match self.assignment.containment {
            Containment::V2(_) | Containment::Hybrid(_) => RankfileCores::OfAllocation,
            Containment::Subreaper => RankfileCores::OfNode,
        };
        let texts = [
            ("hostfile", muster_mpi::hostfile_openmpi(&layout.instances)),
            ("hostfile.hydra", muster_mpi::hostfile_hydra(&layout.instances)),
            ("hostfile.sge", muster_mpi::hostfile_sge(&layout.instances)),
            ("rankfile", muster_mpi::rankfile_openmpi(&layout, numbering)),
        ];
        for (name, text) in texts {
            folder.publish(name, text.as_bytes())?;
        }
        if !self.prepare.ssh_private_key.is_empty() {
            folder.write("id_ed25519", 0o600, self.prepare.ssh_private_key.as_bytes())?;
        }
        Ok(())
    }

    /// The files of the SSH endpoint; the answer is its public host key.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] or [`NodeError::Mpi`] if they cannot be made.
    pub(super) fn write_ssh_files(
        &self,
        folder: &mut RunFolder,
        account: &Account,
        config: &str,
    ) -> Result<String> {
        if account.uid == 0 {
            // sshd asks for its empty folder when it is started as root.
            let made = std::fs::create_dir_all("/run/sshd");
            made.map_err(NodeError::file("create the folder", "/run/sshd"))?;
        }
        let keys = AttemptKeys::generate().map_err(NodeError::Mpi)?;
        folder.write("host_key", 0o600, keys.private_openssh.as_bytes())?;
        folder.write(
            "authorized_keys",
            0o600,
            format!("{}\n", self.prepare.ssh_authorized_key.trim()).as_bytes(),
        )?;
        folder.write(config, 0o600, self.ssh_words(account)?.as_bytes())?;
        Ok(keys.public_line)
    }

    /// The configuration of the SSH endpoint.
    fn ssh_words(&self, account: &Account) -> Result<String> {
        // A variable that a configuration cannot hold does not reach other nodes, as with any SSH server.
        let variables: Vec<(String, String)> = self
            .own_environment(account)
            .into_iter()
            .filter(|(name, value)| {
                !value.contains(['\n', '\r', '\0'])
                    && !name.is_empty()
                    && !name.contains(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            })
            .collect();
        let layout = self.layout();
        let text =
            SshdConfig { user: &account.name, attempt_dir: &layout.attempt_dir, environment: &variables };
        text.to_text().map_err(NodeError::Mpi)
    }

    /// Says again, in the user's folder by now, what processes find that other nodes start: in a container it is another environment.
    ///
    /// # Errors
    ///
    /// [`NodeError::File`] or [`NodeError::Mpi`] if it cannot be said.
    pub(super) fn write_ssh_words(&self, account: &Account) -> Result<()> {
        let (path, text) = (self.assignment.run.join(super::ssh_endpoint::CONFIG), self.ssh_words(account)?);
        account.with_rights(|| write_private(&path, text.as_bytes())).map_err(NodeError::file("write", &path))
    }

    /// Writes where the other instances are reached, if there are any. The folder is the user's by now, so it is written
    /// with the user's rights.
    ///
    /// # Errors
    ///
    /// [`NodeError::Incomplete`] if an address cannot be read, and [`NodeError::File`] if the file cannot be written.
    pub(super) fn write_peers(&self, account: &Account, peers: &[v1::Endpoint]) -> Result<()> {
        let with_ssh = peers.iter().filter(|peer| peer.ssh_port != 0);
        let peers = with_ssh.map(|peer| {
            Some(Peer {
                host: peer.host.clone(),
                addr: peer.address.parse().ok()?,
                port: u16::try_from(peer.ssh_port).ok()?,
                host_key: peer.ssh_host_key.clone(),
            })
        });
        let peers = peers.collect::<Option<Vec<_>>>();
        let peers = peers.ok_or(NodeError::Incomplete { part: "peers' addresses" })?;
        if peers.is_empty() {
            return Ok(());
        }
        let path = AttemptDir::new(&self.assignment.run).peers();
        let text = muster_mpi::format_peers(&peers);
        account.with_rights(|| write_private(&path, text.as_bytes())).map_err(NodeError::file("write", &path))
    }

    /// The environment of the attempt's processes on this node: what a login gives, what was submitted, and what the
    /// allocation says; the later wins.
    pub(super) fn environment(&self, account: &Account) -> BTreeMap<String, String> {
        let mut all = self.environment_of_all(account);
        all.extend(self.own_words());
        all
    }

    /// That which all tasks of the array have, in this place.
    pub(super) fn environment_of_all(&self, account: &Account) -> BTreeMap<String, String> {
        let mut all = login_environment(account);
        if let Some(work) = self.work() {
            all.extend(self.submission_environment(work));
            all.extend(work.environment.iter().map(|(name, value)| (name.clone(), value.clone())));
            all.extend(self.job_environment(work, account));
        }
        let layout = self.layout();
        all.extend(muster_mpi::environment(&layout));
        let instance = self.prepare.instance as usize;
        if instance < layout.instances.len() {
            all.extend(muster_mpi::node_environment(&layout, instance));
        }
        if !keeps_memory_registered() {
            all.entry(UCX_HOOKS.to_owned()).or_insert_with(|| "none".to_owned());
        }
        if let Some(work) = self.work() {
            self.add_job_words(&mut all, work, account);
        }
        self.add_folder_words(&mut all);
        all
    }

    /// What the submission may say better itself.
    fn submission_environment(&self, work: &v1::Work) -> Vec<(String, String)> {
        let pairs = [("SUBMIT_DIR", &work.working_directory), ("SUBMIT_HOST", &work.submit_host)];
        let named = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        named.flat_map(|(name, value)| both(name, name, value)).collect()
    }

    fn job_environment(&self, work: &v1::Work, account: &Account) -> Vec<(String, String)> {
        let key = self.prepare.key.unwrap_or_default();
        let mut all = both("JOB_NAME", "JOB_NAME", &work.job_name);
        all.extend(both("POOL", "JOB_PARTITION", &work.pool));
        all.extend(both("JOB_USER", "JOB_USER", &account.name));
        all.extend(both("JOB_UID", "JOB_UID", &account.uid.to_string()));
        all.extend(both("JOB_GID", "JOB_GID", &account.gid.to_string()));
        if self.prepare.array {
            let array = [
                ("SLURM_ARRAY_JOB_ID", key.job.to_string()),
                ("SLURM_ARRAY_TASK_COUNT", self.prepare.task_count.to_string()),
            ];
            all.extend(array.map(|(name, value)| (name.to_owned(), value)));
        }
        all
    }
}

/// The same value under Muster's name and under Slurm's.
fn both(muster: &str, slurm: &str, value: &str) -> Vec<(String, String)> {
    vec![(format!("MUSTER_{muster}"), value.to_owned()), (format!("SLURM_{slurm}"), value.to_owned())]
}

/// What a session of the user would have at least.
pub(super) fn login_environment(account: &Account) -> BTreeMap<String, String> {
    let pairs = [
        ("HOME", account.home.display().to_string()),
        ("USER", account.name.clone()),
        ("LOGNAME", account.name.clone()),
        ("SHELL", account.shell.display().to_string()),
        ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("TMPDIR", "/tmp".to_owned()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn write_private(path: &Path, contents: &[u8]) -> std::io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(contents)
}
