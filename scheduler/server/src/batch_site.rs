//! What nodes are told because of the batch service: where it is, what is in its store, and what they are to have for its pools.

pub(crate) mod containers;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use muster_batch::query::encode;
use muster_blobs::{Accounts, Permissions, Resource, sign_url};
use muster_core::batch::{APPLICATIONS_FOLDER, ImageSource, Mount, MountSource, NodeSetup};
use muster_core::ids::{AttemptKey, NodeId};
use muster_core::state::{SetupRun, State};
use muster_wire::v1;

use crate::secrets::Secrets;

/// How much longer an address is good than its files may take to be brought: the clocks of nodes may differ.
const LONGER: SignedDuration = SignedDuration::from_mins(15);

/// A batch service, as far as nodes have to do with it.
#[derive(Debug)]
pub struct BatchSite {
    /// How nodes call its address.
    pub url: String,
    /// The keys of the accounts, if there is a store.
    pub store: Option<Accounts>,
    /// What pools may mount.
    pub mounts: Vec<MountSource>,
    /// Where images of containers may come from.
    pub images: Vec<ImageSource>,
}

impl BatchSite {
    /// How a task of the batch service finds the service, and by what it shows who it is. A token is for the one attempt, and good for
    /// as long as that lives; it is made here, so that no record and no listing has it.
    pub(crate) fn add_words(
        &self,
        state: &State,
        secrets: &Secrets,
        key: AttemptKey,
        node: NodeId,
        prepare: &mut v1::Prepare,
        work: &mut v1::Work,
    ) {
        let Some(account) = state.batch_account_of(key.task.job) else { return };
        let task = state.batch_task_of(key.task.job).and_then(|task| state.batch_task(task));
        let shape = task.map(|(job, task)| job.shape(task));
        let (mut words, mut packages) =
            (vec![("AZ_BATCH_ACCOUNT_URL".to_owned(), self.url.clone())], Vec::new());
        if shape.is_some_and(|shape| shape.token) {
            words.push(("AZ_BATCH_AUTHENTICATION_TOKEN".to_owned(), secrets.batch_token(key)));
        }
        let mut add = |package: &muster_core::batch::FoundPackage| {
            // The node makes it a path below its root.
            words.push((package.variable.clone(), format!("{APPLICATIONS_FOLDER}/{}", package.digest)));
            packages.push(wire_package(package));
        };
        state.batch_setup_of(node).into_iter().flat_map(|setup| &setup.what.packages).for_each(&mut add);
        let mut missing = Vec::new();
        for reference in shape.into_iter().flat_map(|shape| &shape.packages) {
            match state.batch_package(account, reference) {
                Some(package) => add(&package),
                None => missing.push(v1::Package { name: reference.to_string(), ..v1::Package::default() }),
            }
        }
        packages.extend(missing);
        work.environment.extend(words);
        if let Some(staging) = &mut prepare.staging {
            staging.packages = packages;
            staging.container = state
                .batch_container_of(key.task.job)
                .map(|container| containers::container(self, container));
        }
    }

    /// The address of a container of an account, by which a node may read it for so long; none without a store.
    pub(crate) fn container_url(&self, account: &str, container: &str, for_s: u64) -> Option<String> {
        let key = self.store.as_ref()?.get(account)?.first()?;
        let permissions = Permissions { read: true, list: true, ..Permissions::default() };
        let valid =
            SignedDuration::from_secs(i64::try_from(for_s).unwrap_or(i64::MAX)).saturating_add(LONGER);
        let expiry = Timestamp::now().checked_add(valid).unwrap_or(Timestamp::MAX);
        let query = sign_url(account, key, Resource::Container(container), permissions, expiry);
        Some(format!("{}/{account}/{}?{query}", self.url, encode(container)))
    }

    /// What a node is to have.
    pub(crate) fn setup(&self, number: u64, what: &NodeSetup) -> v1::Setup {
        v1::Setup {
            number,
            packages: what.packages.iter().map(wire_package).collect(),
            mounts: what.mounts.iter().map(|mount| self.mount(mount)).collect(),
            containers: what.containers.is_some(),
            images: containers::images(self, what.containers.as_ref()),
        }
    }

    /// What a node that says hello is to have.
    pub(crate) fn setup_of(&self, state: &State, node: NodeId) -> v1::Setup {
        match state.batch_setup_of(node) {
            Some(SetupRun { number, what, .. }) => self.setup(*number, what),
            None => self.setup(0, &Arc::default()),
        }
    }

    /// Whether the site lets pools mount a source.
    pub(crate) fn allows(&self, source: &MountSource) -> bool {
        self.mounts.iter().any(|listed| source.lies_in(listed))
    }

    fn mount(&self, mount: &Mount) -> v1::Mount {
        use v1::mount::Source;
        let source = match &mount.source {
            MountSource::Nfs { host, path } => Source::Nfs(format!("{host}:{path}")),
            MountSource::Local { path } => Source::Local(path.clone()),
        };
        // The site's list may have changed since the pool was made.
        let problem = match self.allows(&mount.source) {
            true => String::new(),
            false => not_listed(&mount.source),
        };
        v1::Mount {
            name: mount.path.to_string(),
            source: Some(source),
            options: mount.options.clone(),
            problem,
        }
    }
}

/// Why a source is not mounted that the site does not list.
pub(crate) fn not_listed(source: &MountSource) -> String {
    format!(
        "{source} is none of the sources that this site lets pools mount: whoever runs it lists them (mount_sources under [batch])"
    )
}

fn wire_package(package: &muster_core::batch::FoundPackage) -> v1::Package {
    let name = package.variable.trim_start_matches("AZ_BATCH_APP_PACKAGE_").to_owned();
    v1::Package { name, digest: package.digest.as_str().to_owned(), bytes: package.bytes }
}
