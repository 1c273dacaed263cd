//! The files of tasks, for the wire and from it.

use muster_core::ids::AttemptKey;
use muster_core::spec::JobSpec;
use muster_core::staging::{
    Command, FailureCode, InputFile, InputSource, OutputDestination, OutputFile, Staging, StagingFailure,
    UploadCondition,
};
use muster_wire::v1;

/// Longest sentence about files that is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 2000;

/// What a node is told of the files of a task; its own files go to the primary alone. `sign` gives the address of a container of
/// the embedded store that is good for so many seconds.
pub(super) fn staging(
    key: AttemptKey,
    spec: &JobSpec,
    is_primary: bool,
    sign: impl Fn(&str, u64) -> Option<String>,
) -> Option<v1::Staging> {
    let staging = spec.staging.as_deref()?;
    let sign = |container: &str| {
        // The store may have been taken out of the configuration since the task was added: the node says what it cannot reach.
        let address = sign(container, staging.prepare_s);
        address.unwrap_or_else(|| format!("no-store://{container}"))
    };
    let input = |file: &InputFile| input(file, &sign);
    let words = |command: &Option<Command>| {
        command.as_ref().map(|command| command.words().to_vec()).unwrap_or_default()
    };
    let inputs: &[InputFile] = if is_primary { &staging.inputs } else { &[] };
    let outputs: &[OutputFile] = if is_primary { &staging.outputs } else { &[] };
    Some(v1::Staging {
        folder: folder(key, spec, staging),
        batch: staging.folder.is_some(),
        open: staging.open,
        inputs: inputs.iter().map(input).collect(),
        common_inputs: staging.common_inputs.iter().map(input).collect(),
        packages: Vec::new(),
        container: None,
        coordination: words(&staging.coordination),
        outputs: outputs.iter().map(output).collect(),
        retention_s: staging.retention_s,
        prepare_s: staging.prepare_s,
        command: if is_primary { words(&staging.command) } else { Vec::new() },
    })
}

fn folder(key: AttemptKey, spec: &JobSpec, staging: &Staging) -> String {
    let (job, index) = (key.task.job.0, key.task.index.0);
    match (&staging.folder, spec.array.is_some()) {
        (Some(folder), _) => folder.to_string(),
        (None, false) => format!("jobs/{job}"),
        (None, true) => format!("jobs/{job}_{index}"),
    }
}

fn input(input: &InputFile, sign: &dyn Fn(&str) -> String) -> v1::StageInput {
    use v1::stage_input::Source;
    let source = match &input.source {
        InputSource::Http { url } => Source::Url(url.secret().to_owned()),
        InputSource::Container { url, prefix } => {
            Source::Container(v1::StageContainer { url: url.secret().to_owned(), prefix: prefix.clone() })
        }
        InputSource::AutoStorage { container, prefix } => {
            Source::Container(v1::StageContainer { url: sign(container), prefix: prefix.clone() })
        }
        InputSource::Path { path } => Source::Path(path.clone()),
    };
    v1::StageInput {
        source: Some(source),
        to: input.path.as_ref().map(ToString::to_string).unwrap_or_default(),
        mode: input.mode,
    }
}

fn output(output: &OutputFile) -> v1::StageOutput {
    use v1::stage_output::{Condition, Destination};
    let destination = match &output.destination {
        OutputDestination::Container { url } => Destination::ContainerUrl(url.secret().to_owned()),
        OutputDestination::Path { path } => Destination::Folder(path.clone()),
    };
    let condition = match output.condition {
        UploadCondition::Success => Condition::Success,
        UploadCondition::Failure => Condition::Failure,
        UploadCondition::Always => Condition::Always,
    };
    v1::StageOutput {
        pattern: output.pattern.clone(),
        destination: Some(destination),
        path: output.path.clone(),
        headers: output.headers.clone().into_iter().collect(),
        condition: condition.into(),
    }
}

/// What a node says went wrong with files; `otherwise` is the code where it says one that this version does not know.
pub(super) fn failure(failed: v1::StagingFailed, otherwise: FailureCode) -> StagingFailure {
    let printable = failed.message.chars().map(|c| if c.is_control() { ' ' } else { c });
    StagingFailure {
        code: FailureCode::from_name(&failed.code).unwrap_or(otherwise),
        message: printable.take(MESSAGE_CHARS_MAX).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_keeps_its_code_and_one_line_of_its_message() {
        let failed = |code: &str| v1::StagingFailed { code: code.to_owned(), message: "a\nb".to_owned() };
        let known = failure(failed("BlobNotFound"), FailureCode::BlobDownloadMiscError);
        assert_eq!((known.code, known.message.as_str()), (FailureCode::BlobNotFound, "a b"));
        let unknown = failure(failed("OfALaterVersion"), FailureCode::BlobDownloadMiscError);
        assert_eq!(unknown.code, FailureCode::BlobDownloadMiscError);
    }
}
