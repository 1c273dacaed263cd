//! Resource files and output files.

use muster_core::staging::{
    InputFile, InputSource, OutputDestination, OutputFile, RelativePath, StoreUrl, UploadCondition,
    is_container,
};

use super::fields::Fields;
use crate::error::BatchError;

/// The files that a list of resource files stands for.
pub(super) fn inputs(fields: &Fields<'_>, name: &str) -> Result<Vec<InputFile>, BatchError> {
    fields.list(name)?.iter().map(input).collect()
}

fn url(fields: &Fields<'_>, name: &str, text: &str) -> Result<StoreUrl, BatchError> {
    StoreUrl::try_from(text.to_owned()).map_err(|error| fields.wrong(name, &error.to_string()))
}

fn input(fields: &Fields<'_>) -> Result<InputFile, BatchError> {
    fields.without(&["identityReference"])?;
    let path = fields.text("filePath")?.filter(|path| !path.is_empty());
    let relative = |path: &str| {
        let path = path.trim_end_matches('/').trim_start_matches("./").to_owned();
        RelativePath::try_from(path).map_err(|error| fields.wrong("filePath", &error.to_string()))
    };
    let path = path.filter(|path| *path != ".").map(relative).transpose()?;
    let prefix = || Ok::<_, BatchError>(fields.text("blobPrefix")?.unwrap_or_default().to_owned());
    let sources = [
        fields.text("httpUrl")?,
        fields.text("storageContainerUrl")?,
        fields.text("autoStorageContainerName")?,
    ];
    let source = match sources {
        [Some(text), None, None] => InputSource::Http { url: url(fields, "httpUrl", text)? },
        [None, Some(text), None] => {
            InputSource::Container { url: url(fields, "storageContainerUrl", text)?, prefix: prefix()? }
        }
        [None, None, Some(name)] if is_container(name) => {
            InputSource::AutoStorage { container: name.to_owned(), prefix: prefix()? }
        }
        [None, None, Some(_)] => {
            let why = "it must be the name of a container: 3 to 63 lower-case letters, digits and hyphens";
            return Err(fields.wrong("autoStorageContainerName", why));
        }
        _ => {
            let why = "exactly one of httpUrl, storageContainerUrl and autoStorageContainerName must be set";
            return Err(fields.wrong("httpUrl", why));
        }
    };
    let mode = fields.text("fileMode")?;
    let mode = mode.map(|mode| {
        u32::from_str_radix(mode, 8)
            .map_err(|_| fields.wrong("fileMode", "it must be octal digits, such as 0770"))
    });
    Ok(InputFile { source, path, mode: mode.transpose()? })
}

/// The files that a list of output files stands for.
pub(super) fn outputs(fields: &Fields<'_>) -> Result<Vec<OutputFile>, BatchError> {
    fields.list("outputFiles")?.iter().map(output).collect()
}

fn output(fields: &Fields<'_>) -> Result<OutputFile, BatchError> {
    let pattern = fields.required("filePattern")?.to_owned();
    let container = match fields.inner("destination")? {
        Some(destination) => destination.inner("container")?,
        None => None,
    };
    let Some(container) = container else {
        return Err(fields.wrong("destination", "destination.container must be set"));
    };
    container.without(&["identityReference"])?;
    let words = [
        ("tasksuccess", UploadCondition::Success),
        ("taskfailure", UploadCondition::Failure),
        ("taskcompletion", UploadCondition::Always),
    ];
    let condition = match fields.inner("uploadOptions")? {
        Some(options) => options.word("uploadCondition", &words)?,
        None => None,
    };
    let Some(condition) = condition else {
        return Err(fields.wrong("uploadOptions", "uploadOptions.uploadCondition must be set"));
    };
    Ok(OutputFile {
        pattern,
        destination: OutputDestination::Container {
            url: url(&container, "containerUrl", container.required("containerUrl")?)?,
        },
        path: container.text("path")?.unwrap_or_default().to_owned(),
        headers: container.pairs("uploadHeaders")?.into_iter().collect(),
        condition,
    })
}
