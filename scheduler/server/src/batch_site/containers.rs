//! Containers, as far as the site has a say in them: where images come from, and which folders of nodes they may have.

use muster_core::batch::{
    Container, ContainerDirectory, ImageName, ImageSource, MountSource, PoolContainers, Volume,
};
use muster_wire::v1;

use super::{BatchSite, not_listed};

/// Why an image or a folder of a container is refused: the property of the request, what it says, and what is wrong with that.
pub(crate) type Refused = (&'static str, String, String);

/// The first image or folder that the site does not list.
pub(crate) fn refused<'a>(
    site: Option<&BatchSite>,
    images: impl Iterator<Item = &'a ImageName>,
    containers: impl Iterator<Item = &'a Container>,
) -> Option<Refused> {
    let image = |property, name: &ImageName| {
        let is_listed = site.is_some_and(|site| site.source_of(name).is_some());
        (!is_listed).then(|| (property, name.to_string(), image_not_listed(name)))
    };
    let folder = |volume: &Volume| {
        let source = folder(volume);
        let is_listed = site.is_some_and(|site| site.allows(&source));
        (!is_listed)
            .then(|| ("containerSettings.containerRunOptions", source.to_string(), not_listed(&source)))
    };
    let of_container = |container: &Container| {
        let named = image("containerSettings.imageName", &container.image);
        named.or_else(|| container.volumes.iter().find_map(folder))
    };
    let property = "virtualMachineConfiguration.containerConfiguration.containerImageNames";
    let mut images = images;
    let mut containers = containers;
    images.find_map(|name| image(property, name)).or_else(|| containers.find_map(of_container))
}

/// The images that a node is to have. What the site has taken from its list since is told with the reason.
pub(super) fn images(site: &BatchSite, containers: Option<&PoolContainers>) -> Vec<v1::Image> {
    let names = containers.into_iter().flat_map(|containers| &containers.images);
    names.map(|name| image(site, name)).collect()
}

fn image(site: &BatchSite, name: &ImageName) -> v1::Image {
    let source = site.source_of(name);
    v1::Image {
        name: name.to_string(),
        plain_http: matches!(source, Some(ImageSource::Registry { plain: true, .. })),
        problem: if source.is_some() { String::new() } else { image_not_listed(name) },
    }
}

/// What a node is told of a task's container.
pub(super) fn container(site: &BatchSite, container: &Container) -> v1::Container {
    use v1::container::Directory;
    let volume = |volume: &Volume| {
        let source = folder(volume);
        v1::Volume {
            source: volume.source.clone(),
            target: volume.target.clone(),
            read_only: volume.read_only,
            problem: if site.allows(&source) { String::new() } else { not_listed(&source) },
        }
    };
    v1::Container {
        image: Some(image(site, &container.image)),
        directory: match &container.directory {
            ContainerDirectory::Task => None,
            ContainerDirectory::Image => Some(Directory::ImageDirectory(true)),
            ContainerDirectory::At(path) => Some(Directory::Path(path.clone())),
        },
        environment: container.environment.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        entrypoint: container.entrypoint.clone(),
        read_only: container.read_only,
        volumes: container.volumes.iter().map(volume).collect(),
    }
}

fn folder(volume: &Volume) -> MountSource {
    MountSource::Local { path: volume.source.clone() }
}

fn image_not_listed(name: &ImageName) -> String {
    format!(
        "{name} comes from none of the sources that this site lets images come from: whoever runs it lists them \
         (image_sources under [batch])"
    )
}

impl BatchSite {
    /// The source from which the site lets an image come.
    fn source_of(&self, name: &ImageName) -> Option<&ImageSource> {
        self.images.iter().find(|source| name.comes_from(source))
    }
}
