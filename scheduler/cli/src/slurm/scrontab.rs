//! The face `scrontab`: the caller's recurring jobs.

use std::process::ExitCode;

use muster_client::{Client, Options, default_sockets};

use super::connect::version;
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};
use crate::crontab::{self, Owner};
use crate::error::CliError;
use crate::out::tell;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Edit,
    Help,
    List,
    Remove,
    User,
    Verbose,
    Version,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

const TABLE: &[Opt<Key>] = &[
    opt(Key::Edit, Some('e'), &[], Takes::Nothing),
    opt(Key::List, Some('l'), &[], Takes::Nothing),
    opt(Key::Remove, Some('r'), &[], Takes::Nothing),
    opt(Key::User, Some('u'), &[], Takes::Value),
    opt(Key::Verbose, Some('v'), &[], Takes::Nothing),
    opt(Key::Help, None, &["help", "usage"], Takes::Nothing),
    opt(Key::Version, Some('V'), &["version"], Takes::Nothing),
];

const HELP: &str = "\
Usage:  scrontab [-u USER] FILE
        scrontab [-u USER] [ -e | -l | -r ]
    FILE  set the crontab that it holds; - is the standard input
    -e    edit the crontab, with VISUAL or EDITOR
    -l    list the crontab
    -r    remove the crontab
    -u    that of this user, for admins
    -v    changes nothing
    -V    the version
";

enum Do {
    Edit,
    List,
    Remove,
    Set(String),
}

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

fn said(error: &CliError) -> Fault {
    Fault::Said(format!("scrontab: error: {error}"))
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let line = getopt::read(words, TABLE, Order::Free)
        .map_err(|source| Fault::Option { face: "scrontab", source })?;
    let (mut what, mut user) = (None, None);
    for (key, value) in line.options {
        match key {
            Key::Help => return print(HELP).map(|()| ExitCode::SUCCESS),
            Key::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
            Key::Edit => what = Some(Do::Edit),
            Key::List => what = Some(Do::List),
            Key::Remove => what = Some(Do::Remove),
            Key::User => user = value,
            Key::Verbose => {}
        }
    }
    let what = match (what, line.words.as_slice()) {
        (None, []) => Do::Edit,
        (Some(what), []) => what,
        (None, [file]) => Do::Set(file.clone()),
        _ => {
            return Err(Fault::Said(format!(
                "scrontab: error: name one file, or one of -e, -l and -r\n{HELP}"
            )));
        }
    };
    let owner = Owner::find(user.as_deref()).map_err(|error| said(&error))?;
    let mut client =
        Client::connect_with(Options::of(default_sockets())).map_err(|error| said(&CliError::from(error)))?;
    carry_out(&mut client, &owner, what, user.as_deref())
}

fn carry_out(client: &mut Client, owner: &Owner, what: Do, user: Option<&str>) -> Result<ExitCode, Fault> {
    let mut warn = |sentence: &str| tell(&format!("scrontab: warning: {sentence}"));
    let done = match what {
        Do::Remove => crontab::remove(client, owner),
        Do::Set(file) => crontab::set(client, owner, &file, &mut warn).map(drop),
        Do::List => match crontab::show(client, owner).map_err(|error| said(&error))? {
            Some(text) => return print(&text).map(|()| ExitCode::SUCCESS),
            None => {
                let name = user.map_or_else(super::people::own_name, str::to_owned);
                print(&format!("no crontab for {name}\n"))?;
                return Err(Fault::Silent);
            }
        },
        Do::Edit => match crontab::edit(client, owner, &mut warn).map_err(|error| said(&error))? {
            Some(_) => Ok(()),
            None => return Err(Fault::Silent),
        },
    };
    done.map(|()| ExitCode::SUCCESS).map_err(|error| said(&error))
}
