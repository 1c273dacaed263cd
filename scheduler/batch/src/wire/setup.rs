//! Application packages, and what pools want on their nodes.

use muster_core::batch::{Application, Mount, PackageReference, PoolSetup};
use serde_json::{Value, json};

use super::fields::Fields;
use super::{container, iso};
use crate::error::BatchError;

/// What a pool wants on its nodes.
pub(super) fn pool(fields: &Fields<'_>) -> Result<PoolSetup, BatchError> {
    let mounts = fields.list("mountConfiguration")?;
    Ok(PoolSetup {
        packages: references(fields)?,
        mounts: mounts.iter().map(mount).collect::<Result<_, _>>()?,
        containers: container::pool(fields)?,
    })
}

/// The packages that somebody refers to.
pub(super) fn references(fields: &Fields<'_>) -> Result<Vec<PackageReference>, BatchError> {
    let reference = |fields: Fields<'_>| {
        let version = fields.text("version")?.filter(|version| !version.is_empty());
        Ok(PackageReference {
            application: fields.required("applicationId")?.to_owned(),
            version: version.map(str::to_owned),
        })
    };
    fields.list("applicationPackageReferences")?.into_iter().map(reference).collect()
}

/// Kinds of file systems that a site's nodes cannot mount, or not without a password in the request.
const NOT_OFFERED: [&str; 3] =
    ["azureBlobFileSystemConfiguration", "azureFileShareConfiguration", "cifsMountConfiguration"];

fn mount(fields: &Fields<'_>) -> Result<Mount, BatchError> {
    fields.without(&NOT_OFFERED)?;
    let Some(nfs) = fields.inner("nfsMountConfiguration")? else {
        return Err(fields.wrong("nfsMountConfiguration", "it must be set"));
    };
    let (source, path) = (nfs.required("source")?, nfs.required("relativeMountPath")?);
    Mount::parse(source, path, nfs.text("mountOptions")?.unwrap_or_default()).map_err(|error| {
        let name = match &error {
            muster_core::batch::BadMount::Source { .. } => "source",
            muster_core::batch::BadMount::Path { .. } => "relativeMountPath",
            _ => "mountOptions",
        };
        nfs.wrong(name, &error.to_string())
    })
}

/// An application, as clients see it. What its versions are, and which is the default one, is more than the protocol has.
#[must_use]
pub fn show_application(application: &Application) -> Value {
    let versions: Vec<&str> = application.versions.values().map(|package| package.version.as_str()).collect();
    let default = application.default.as_ref().and_then(|default| application.versions.get(default));
    let package = |package: &muster_core::batch::Package| {
        json!({
            "version": package.version, "sha256": package.digest.as_str(), "bytes": package.bytes,
            "added": iso(package.added),
        })
    };
    let packages: Vec<Value> = application.versions.values().map(package).collect();
    json!({
        "id": application.id, "displayName": application.id, "versions": versions,
        "defaultVersion": default.map(|package| package.version.as_str()), "packages": packages,
    })
}

#[cfg(test)]
mod tests {
    use muster_core::batch::MountSource;
    use muster_core::staging::InputSource;

    use super::super::tests::{code, user};
    use super::super::{read_pool, read_task};
    use super::*;
    use crate::error::ErrorCode;

    fn pool_with(name: &str, value: &Value) -> Result<PoolSetup, BatchError> {
        let body = json!({ "id": "P", "vmSize": "main", name: value });
        read_pool(&body, &user()).map(|pool| pool.spec.setup)
    }

    #[test]
    fn references_name_an_application_and_perhaps_a_version() {
        let said =
            json!([{ "applicationId": "Tool", "version": "1.0" }, { "applicationId": "b", "version": "" }]);
        let setup = pool_with("applicationPackageReferences", &said).unwrap();
        let versions: Vec<Option<&str>> =
            setup.packages.iter().map(|reference| reference.version.as_deref()).collect();
        assert_eq!((setup.packages[0].application.as_str(), versions), ("Tool", vec![Some("1.0"), None]));
        let lacks = pool_with("applicationPackageReferences", &json!([{ "version": "1" }]));
        let (found, name) = code(lacks);
        assert_eq!(found, ErrorCode::MissingRequiredProperty);
        assert_eq!(name, "applicationPackageReferences[0].applicationId");
        let task = json!({ "id": "t", "commandLine": "c", "applicationPackageReferences": said });
        assert_eq!(read_task(&task, &user()).unwrap().1.packages.len(), 2);
    }

    #[test]
    fn mounts_are_nfs_and_what_is_wrong_with_one_is_told_with_its_place() {
        let nfs = |source: &str, path: &str, options: &str| {
            let said = json!({ "source": source, "relativeMountPath": path, "mountOptions": options });
            pool_with("mountConfiguration", &json!([{ "nfsMountConfiguration": said }]))
        };
        let setup = nfs("nas1:/export", "data", "ro,vers=4.1").unwrap();
        assert!(matches!(&setup.mounts[0].source, MountSource::Nfs { host, .. } if host == "nas1"));
        let place = |name: &str| {
            (ErrorCode::InvalidPropertyValue, format!("mountConfiguration[0].nfsMountConfiguration.{name}"))
        };
        assert_eq!(code(nfs("nas1", "data", "")), place("source"));
        assert_eq!(code(nfs("nas1:/x", "../data", "")), place("relativeMountPath"));
        assert_eq!(code(nfs("nas1:/x", "data", "suid")), place("mountOptions"));
        for name in NOT_OFFERED {
            let refused = pool_with("mountConfiguration", &json!([{ name: {} }]));
            assert_eq!(
                code(refused),
                (ErrorCode::UnsupportedProperty, format!("mountConfiguration[0].{name}"))
            );
        }
        let empty = pool_with("mountConfiguration", &json!([{}]));
        assert_eq!(code(empty).1, "mountConfiguration[0].nfsMountConfiguration");
    }

    #[test]
    fn files_of_the_accounts_own_store_name_a_container() {
        let task = |file: Value| {
            read_task(&json!({ "id": "t", "commandLine": "c", "resourceFiles": [file] }), &user())
        };
        let read = task(json!({ "autoStorageContainerName": "data", "blobPrefix": "in/" })).unwrap().1;
        assert!(matches!(
            &read.staging.inputs[0].source,
            InputSource::AutoStorage { container, prefix } if container == "data" && prefix == "in/"
        ));
        let both = task(json!({ "autoStorageContainerName": "data", "httpUrl": "http://h/a" }));
        assert_eq!(code(both).1, "resourceFiles[0].httpUrl");
        let bad = task(json!({ "autoStorageContainerName": "No" }));
        assert_eq!(code(bad).1, "resourceFiles[0].autoStorageContainerName");
    }
}
