//! Containers: what pools, tasks and chores say of them.

use muster_core::batch::{Container, ContainerDirectory, ImageName, PoolContainers};
use serde_json::Value;

use super::fields::Fields;
use crate::error::BatchError;

/// What a pool says of containers, in its `virtualMachineConfiguration`.
pub(super) fn pool(fields: &Fields<'_>) -> Result<Option<PoolContainers>, BatchError> {
    let Some(machine) = fields.inner("virtualMachineConfiguration")? else { return Ok(None) };
    let Some(containers) = machine.inner("containerConfiguration")? else { return Ok(None) };
    containers.word("type", &[("dockerCompatible", ()), ("criCompatible", ())])?;
    let names = match containers.get("containerImageNames") {
        None => &[][..],
        Some(Value::Array(names)) => names.as_slice(),
        Some(_) => return Err(containers.wrong("containerImageNames", "it must be a list of texts")),
    };
    let image = |name: &Value| {
        let name = name.as_str().ok_or("it must be a list of texts".to_owned())?;
        ImageName::parse(name).map_err(|error| error.to_string())
    };
    let images = names.iter().map(image).collect::<Result<_, _>>();
    let images = images.map_err(|why| containers.wrong("containerImageNames", &why))?;
    containers.list("containerRegistries")?.iter().try_for_each(registry)?;
    Ok(Some(PoolContainers { images }))
}

/// Registries are known by the names of images; what opens them would have to be kept here, and is not.
fn registry(fields: &Fields<'_>) -> Result<(), BatchError> {
    fields.without(&["username", "password", "identityReference"])?;
    let Some(server) = fields.text("registryServer")? else { return Ok(()) };
    match ImageName::parse(&format!("{}/name", server.trim_start_matches("https://").trim_end_matches('/'))) {
        Ok(_) => Ok(()),
        Err(_) => Err(fields.wrong("registryServer", "it must be a registry, such as registry.example:5000")),
    }
}

/// The container of a task or a chore.
pub(super) fn settings(fields: &Fields<'_>) -> Result<Option<Box<Container>>, BatchError> {
    let Some(fields) = fields.inner("containerSettings")? else { return Ok(None) };
    fields.without(&["containerHostBatchBindMounts"])?;
    if let Some(said) = fields.inner("registry")? {
        registry(&said)?;
    }
    let name = fields.required("imageName")?;
    let image = ImageName::parse(name).map_err(|error| fields.wrong("imageName", &error.to_string()))?;
    let directories = [("taskWorkingDirectory", false), ("containerImageDefault", true)];
    let of_image = fields.word("workingDirectory", &directories)?.unwrap_or(false);
    let plain = Container {
        directory: if of_image { ContainerDirectory::Image } else { ContainerDirectory::Task },
        ..Container::of(image)
    };
    let options = fields.text("containerRunOptions")?.unwrap_or_default();
    let container = plain.with_options(options);
    container
        .map(|container| Some(Box::new(container)))
        .map_err(|error| fields.wrong("containerRunOptions", &error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{code, user};
    use super::super::{read_job, read_pool, read_task};
    use super::*;
    use crate::error::ErrorCode;

    fn of_pool(containers: Value) -> Result<Option<PoolContainers>, BatchError> {
        let machine = json!({ "nodeAgentSKUId": "x", "containerConfiguration": containers });
        let body = json!({ "id": "P", "vmSize": "main", "virtualMachineConfiguration": machine });
        read_pool(&body, &user()).map(|pool| pool.spec.setup.containers)
    }

    fn of_task(settings: Value) -> Result<Option<Box<Container>>, BatchError> {
        let body = json!({ "id": "t", "commandLine": "c", "containerSettings": settings });
        read_task(&body, &user()).map(|(_, shape)| shape.container)
    }

    #[test]
    fn a_pool_names_images() {
        let said = of_pool(json!({
            "type": "DockerCompatible", "containerImageNames": ["debian", "reg.example/a:1"],
            "containerRegistries": [{ "registryServer": "https://reg.example/" }],
        }));
        let names: Vec<String> = said.unwrap().unwrap().images.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["docker.io/library/debian:latest", "reg.example/a:1"]);
        assert_eq!(of_pool(json!({ "type": "criCompatible" })).unwrap(), Some(PoolContainers::default()));
        assert_eq!(of_pool(Value::Null).unwrap(), None);
        let place = |name: &str| format!("virtualMachineConfiguration.containerConfiguration.{name}");
        let invalid = |name: &str| (ErrorCode::InvalidPropertyValue, place(name));
        assert_eq!(code(of_pool(json!({ "type": "lxc" }))), invalid("type"));
        for wrong in [json!("debian"), json!([1]), json!(["docker://x"])] {
            let said = json!({ "type": "dockerCompatible", "containerImageNames": wrong });
            assert_eq!(code(of_pool(said)), invalid("containerImageNames"));
        }
        let with = |registry: Value| code(of_pool(json!({ "containerRegistries": [registry] })));
        let secret = with(json!({ "registryServer": "reg.example", "username": "a", "password": "b" }));
        assert_eq!(secret, (ErrorCode::UnsupportedProperty, place("containerRegistries[0].username")));
        assert_eq!(
            with(json!({ "registryServer": "a b" })),
            invalid("containerRegistries[0].registryServer")
        );
    }

    #[test]
    fn a_task_names_its_image_and_what_else_it_wants() {
        let said = of_task(json!({
            "imageName": "debian:12", "containerRunOptions": "--rm --env A=1",
            "workingDirectory": "containerimagedefault", "registry": { "registryServer": "docker.io" },
        }));
        let said = said.unwrap().unwrap();
        assert_eq!(said.image.to_string(), "docker.io/library/debian:12");
        assert_eq!((said.directory, said.environment.len()), (ContainerDirectory::Image, 1));
        let plain = of_task(json!({ "imageName": "debian", "workingDirectory": "taskWorkingDirectory" }));
        assert_eq!(plain.unwrap().unwrap().directory, ContainerDirectory::Task);
        assert_eq!(code(of_task(json!({}))).0, ErrorCode::MissingRequiredProperty);
        for (name, value) in [
            ("imageName", json!("A B")),
            ("containerRunOptions", json!("--privileged")),
            ("workingDirectory", json!("/")),
        ] {
            let mut said = json!({ "imageName": "debian" });
            said[name] = value;
            let place = format!("containerSettings.{name}");
            assert_eq!(code(of_task(said)), (ErrorCode::InvalidPropertyValue, place));
        }
        for (name, value, place) in [
            ("registry", json!({ "password": "x" }), "registry.password"),
            ("containerHostBatchBindMounts", json!([{ "source": "Shared" }]), "containerHostBatchBindMounts"),
        ] {
            let mut said = json!({ "imageName": "debian" });
            said[name] = value;
            let place = format!("containerSettings.{place}");
            assert_eq!(code(of_task(said)), (ErrorCode::UnsupportedProperty, place));
        }
    }

    #[test]
    fn chores_and_managers_may_have_one() {
        let settings = json!({ "imageName": "debian" });
        let chore = json!({ "commandLine": "c", "containerSettings": settings });
        let body = json!({
            "id": "P", "vmSize": "main", "startTask": chore,
            "virtualMachineConfiguration": { "containerConfiguration": { "type": "dockerCompatible" } },
        });
        assert!(read_pool(&body, &user()).unwrap().spec.start.unwrap().container.is_some());
        let job = json!({
            "id": "J", "poolInfo": { "poolId": "P" }, "jobPreparationTask": chore, "jobReleaseTask": chore,
            "jobManagerTask": { "id": "m", "commandLine": "c", "containerSettings": settings },
        });
        let job = read_job(&job, &user()).unwrap();
        assert!(job.preparation.unwrap().container.is_some() && job.release.unwrap().container.is_some());
        assert!(job.manager.unwrap().shape.container.is_some());
    }
}
