//! Tables of recurring jobs: read, edited and set. `scrontab` and `muster cron` are both this.

mod edit;
mod read;

use std::io::{self, Read as _};
use std::path::Path;

use muster_client::Client;
use muster_client::api::CrontabView;
use muster_core::cron::CRONTAB_BYTES_MAX;
use nix::unistd::{Uid, User};

use crate::error::CliError;

/// Whose table is meant.
pub(crate) struct Owner {
    /// The name that was said; the caller is meant without.
    named: Option<String>,
    /// Who that is.
    user: User,
}

impl Owner {
    /// The user of this name, or whoever runs this.
    pub(crate) fn find(named: Option<&str>) -> Result<Self, CliError> {
        let failed = |errno: nix::Error| CliError::System { action: "find the user", source: errno.into() };
        let found = match named {
            Some(name) => User::from_name(name).map_err(failed)?,
            None => User::from_uid(Uid::current()).map_err(failed)?,
        };
        let shown = || named.map_or_else(|| Uid::current().to_string(), str::to_owned);
        let user = found.ok_or_else(|| CliError::NoSuchUser { user: shown() })?;
        let named = named.filter(|_| user.uid != Uid::current()).map(str::to_owned);
        Ok(Self { named, user })
    }

    fn is_caller(&self) -> bool {
        self.named.is_none()
    }
}

/// The table with what its entries do.
pub(crate) fn view(client: &mut Client, owner: &Owner) -> Result<CrontabView, CliError> {
    Ok(client.crontab(owner.named.as_deref())?)
}

/// The table, with the lines marked of entries that make no more jobs; none if there is none.
pub(crate) fn show(client: &mut Client, owner: &Owner) -> Result<Option<String>, CliError> {
    Ok(marked(&view(client, owner)?))
}

fn marked(view: &CrontabView) -> Option<String> {
    let text = view.text.as_ref()?;
    let is_stopped = |line: u32| {
        let mut stopped = view.entries.iter().filter(|entry| entry.stopped.is_some());
        stopped.any(|entry| (entry.first_line..=entry.last_line).contains(&line))
    };
    let mut out = String::with_capacity(text.len());
    for (number, line) in (1..).zip(text.lines()) {
        out.push_str(if is_stopped(number) { "#DISABLED: " } else { "" });
        out.push_str(line);
        out.push('\n');
    }
    Some(out)
}

/// Removes the table.
pub(crate) fn remove(client: &mut Client, owner: &Owner) -> Result<(), CliError> {
    Ok(client.remove_crontab(owner.named.as_deref())?)
}

/// Sets the table that a file holds; `-` is the standard input.
pub(crate) fn set(
    client: &mut Client,
    owner: &Owner,
    file: &str,
    warn: &mut dyn FnMut(&str),
) -> Result<CrontabView, CliError> {
    let text = read_file(file)?;
    let name = if file == "-" { "standard input" } else { file };
    let request = read::table(name, &text, owner, warn)?;
    Ok(client.set_crontab(owner.named.as_deref(), &request)?)
}

fn read_file(file: &str) -> Result<String, CliError> {
    let failed = |source| CliError::File { action: "read", path: file.into(), source };
    let limit = CRONTAB_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    if file == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(failed)?;
    } else {
        let open = std::fs::File::open(Path::new(file)).map_err(failed)?;
        open.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    }
    String::from_utf8(bytes)
        .map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text")))
}

/// Lets the caller edit the table, and sets it once it is right. Gives none if the caller gave up.
pub(crate) fn edit(
    client: &mut Client,
    owner: &Owner,
    warn: &mut dyn FnMut(&str),
) -> Result<Option<CrontabView>, CliError> {
    let mut text = show(client, owner)?.unwrap_or_else(|| edit::EMPTY.to_owned());
    loop {
        text = edit::in_editor(&text)?;
        let set = read::table("crontab", &text, owner, warn)
            .and_then(|request| Ok(client.set_crontab(owner.named.as_deref(), &request)?));
        let error = match set {
            Ok(view) => return Ok(Some(view)),
            Err(error) => error,
        };
        if !edit::asks_again(&error)? {
            return Ok(None);
        }
        text = edit::with_bad_line(&text, &error);
    }
}

#[cfg(test)]
mod tests {
    use muster_client::api::{CronEntryView, SCHEMA};

    use super::*;

    #[test]
    fn lines_of_a_stopped_entry_are_marked() {
        let entry = |first_line, last_line, stopped: Option<&str>| CronEntryView {
            first_line,
            last_line,
            schedule: "@daily".into(),
            name: "a".into(),
            job: None,
            begin_us: None,
            stopped: stopped.map(str::to_owned),
        };
        let view = CrontabView {
            schema: SCHEMA,
            user: "ann".into(),
            text: Some("# a\n#SCRON -n2\n@daily a\n\n@daily b\n".into()),
            entries: vec![entry(2, 3, Some("gone")), entry(5, 5, None)],
        };
        let right = "# a\n#DISABLED: #SCRON -n2\n#DISABLED: @daily a\n\n@daily b\n";
        assert_eq!(marked(&view).as_deref(), Some(right));
        assert_eq!(marked(&CrontabView { text: None, ..view }), None);
    }
}
