//! `muster batch app`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use muster_batch::query::encode;
use muster_batch_client::service::Listing;
use serde_json::{Value, json};

use super::Common;
use super::listing::{Column, at, lines, print_list, when};
use crate::error::CliError;
use crate::table::Side::{Left, Right};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a version of an application: a zip, which nodes unpack for the pools and tasks that refer to it
    #[command(after_help = "Examples:\n  muster batch app add blender 4.2 blender-4.2.zip --default\n  \
        muster batch app add blender 4.3 blender-4.3.zip   for those that name it\n\n\
        A task finds where it is in AZ_BATCH_APP_PACKAGE_blender_4_3, or AZ_BATCH_APP_PACKAGE_blender where its reference\n\
        names no version.")]
    Add {
        /// The application
        application: String,
        /// The version
        version: String,
        /// The zip
        #[arg(value_name = "FILE.zip")]
        file: PathBuf,
        /// References that name no version stand for this one from now on
        #[arg(long)]
        default: bool,
    },
    /// Say which version references stand for that name none
    Default {
        /// The application
        application: String,
        /// The version
        version: String,
    },
    /// List the applications
    List,
    /// Show all about an application
    Show {
        /// The application
        application: String,
    },
    /// Remove versions of an application that no pool refers to
    Remove {
        /// The application
        application: String,
        /// Versions
        #[arg(value_name = "VERSION", required = true)]
        versions: Vec<String>,
    },
}

const APPLICATIONS: [Column; 3] = [
    ("APPLICATION", Left, |application| at(application, "id")),
    ("DEFAULT", Left, |application| at(application, "defaultVersion")),
    ("VERSIONS", Right, |application| application["versions"].as_array().map_or(0, Vec::len).to_string()),
];

pub(super) fn run(command: &Command, common: &Common) -> Result<ExitCode, CliError> {
    let service = common.connect()?;
    let path = |application: &str| format!("/applications/{}", encode(application));
    match command {
        Command::Add { application, version, file, default } => {
            let added = service.add_package(application, version, file, *default)?;
            common.done(&format!("version {version} of {application} is added"), || Ok(added))
        }
        Command::Default { application, version } => {
            service.patch(&path(application), &json!({ "defaultVersion": version }))?;
            let sentence = format!("version {version} is the default one of {application}");
            common.done(&sentence, || service.get(&path(application)))
        }
        Command::List => {
            let all = Listing::default();
            print_list(common, &service, "/applications", "applications", &all, &APPLICATIONS)
        }
        Command::Show { application } => common.show(&service.get(&path(application))?, describe),
        Command::Remove { application, versions } => {
            for version in versions {
                service.delete(&format!("{}/versions/{}", path(application), encode(version)), false)?;
            }
            let gone =
                |version: &String| json!({ "application": application, "version": version, "deleted": true });
            common.done(&format!("removed: {application} {}", versions.join(" ")), || {
                Ok(versions.iter().map(gone).collect())
            })
        }
    }
}

fn describe(application: &Value) -> String {
    let packages = application["packages"].as_array();
    let package = |package: &Value| {
        format!(
            "{}  {} bytes  {}  {}",
            at(package, "version"),
            at(package, "bytes"),
            when(package, "added"),
            at(package, "sha256")
        )
    };
    let packages: Vec<String> = packages.into_iter().flatten().map(package).collect();
    lines(&[
        ("Application", at(application, "id")),
        ("Default", at(application, "defaultVersion")),
        ("Versions", packages.join("\n")),
    ])
}
