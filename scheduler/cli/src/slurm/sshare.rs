//! The face `sshare`: what accounts and users have used of their shares.

use std::process::ExitCode;

use muster_client::api::ShareLine;

use super::connect::{check_clusters, connect, version};
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};
use super::listing::{Head, Style, find};
use super::people::own_name;

/// What Slurm calls asking for shares.
const DOING: &str = "sshare: error: Couldn't get shares from controller";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Accounts,
    AllUsers,
    Clusters,
    Format,
    Help,
    HelpFormat,
    Ignored,
    Long,
    NoHeader,
    Parsable,
    Parsable2,
    Users,
    OnlyUsers,
    Version,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str], takes: Takes) -> Opt<Key> {
    Opt { key, short, long, takes }
}

use Takes::{Nothing, Value};

const TABLE: &[Opt<Key>] = &[
    opt(Key::AllUsers, Some('a'), &["all"], Nothing),
    opt(Key::Accounts, Some('A'), &["accounts"], Value),
    opt(Key::HelpFormat, Some('e'), &["helpformat"], Nothing),
    opt(Key::Long, Some('l'), &["long"], Nothing),
    opt(Key::Ignored, Some('m'), &["partition"], Nothing),
    opt(Key::Clusters, Some('M'), &["clusters", "cluster"], Value),
    opt(Key::NoHeader, Some('n'), &["noheader"], Nothing),
    opt(Key::NoHeader, Some('h'), &[], Nothing),
    opt(Key::Format, Some('o'), &["format"], Value),
    opt(Key::Parsable, Some('p'), &["parsable"], Nothing),
    opt(Key::Parsable2, Some('P'), &["parsable2"], Nothing),
    opt(Key::Users, Some('u'), &["users", "uid"], Value),
    opt(Key::OnlyUsers, Some('U'), &["Users"], Nothing),
    opt(Key::Ignored, Some('v'), &["verbose"], Nothing),
    opt(Key::Version, Some('V'), &["version"], Nothing),
    opt(Key::Help, None, &["help", "usage"], Nothing),
];

const HELP: &str = "\
Usage:  sshare [OPTION]
    -a, --all          all users
    -A, --accounts=    these accounts
    -e, --helpformat   every field
    -l, --long         more fields
    -M, --cluster=     this cluster or all
    -n, --noheader     no header
    -o, --format=      these fields; FIELD%20 is 20 wide
    -p, --parsable     fields with | after each
    -P, --parsable2    fields with | between them
    -u, --users=       these users
    -U, --Users        only users
    -V, --version      the version
";

const FIELDS: [Head; 9] = [
    Head { header: "Account", width: -20 },
    Head { header: "User", width: 10 },
    Head { header: "RawShares", width: 10 },
    Head { header: "NormShares", width: 11 },
    Head { header: "RawUsage", width: 11 },
    Head { header: "NormUsage", width: 11 },
    Head { header: "EffectvUsage", width: 13 },
    Head { header: "FairShare", width: 10 },
    Head { header: "LevelFS", width: 10 },
];

const DEFAULT: &str = "account,user,rawshares,normshares,rawusage,effectvusage,fairshare";
const LONG: &str = "account,user,rawshares,normshares,rawusage,normusage,effectvusage,fairshare,levelfs";

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn columns(text: &str) -> Result<Vec<(usize, Head)>, Fault> {
    let bad = |name: &String| Fault::Said(format!("sshare: error: Invalid field requested: \"{name}\""));
    list(text).iter().map(|name| find(name, &FIELDS).ok_or_else(|| bad(name))).collect()
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let line =
        getopt::read(words, TABLE, Order::Free).map_err(|source| Fault::Option { face: "sshare", source })?;
    let (mut style, mut header, mut shown) = (Style::Columns, true, columns(DEFAULT)?);
    let (mut accounts, mut users, mut clusters): (Option<Vec<String>>, Option<Vec<String>>, _) =
        (None, None, None);
    let (mut all_users, mut only_users) = (false, false);
    for (key, value) in line.options {
        let value = value.unwrap_or_default();
        match key {
            Key::Help => return print(HELP).map(|()| ExitCode::SUCCESS),
            Key::HelpFormat => {
                let names: Vec<&str> = FIELDS.iter().map(|head| head.header).collect();
                return print(&format!("{}\n", names.join(" "))).map(|()| ExitCode::SUCCESS);
            }
            Key::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
            Key::Ignored => {}
            Key::Accounts => accounts = Some(list(&value)),
            Key::AllUsers => all_users = true,
            Key::Clusters => clusters = Some(value),
            Key::Format => shown = columns(&value)?,
            Key::Long => shown = columns(LONG)?,
            Key::NoHeader => header = false,
            Key::Parsable => style = Style::Fields { delimiter: "|".to_owned(), ended: true },
            Key::Parsable2 => style = Style::Fields { delimiter: "|".to_owned(), ended: false },
            Key::Users => users = Some(list(&value)),
            Key::OnlyUsers => only_users = true,
        }
    }
    let mut client = connect(DOING)?;
    if let Some(named) = clusters {
        check_clusters("sshare", &named, &client.ping().map_err(Fault::client(DOING))?.cluster)?;
    }
    // Without `-a` and `-u` one sees oneself.
    let users = users.or_else(|| (!all_users).then(|| vec![own_name()]));
    let shares = client.shares(None).map_err(Fault::client(DOING))?.shares;
    let takes = |line: &&ShareLine| {
        let in_account = accounts
            .as_ref()
            .is_none_or(|list| line.account.as_ref().is_some_and(|name| list.contains(name)));
        let by_user = match &line.user {
            Some(user) => users.as_ref().is_none_or(|list| list.contains(user)),
            None => !only_users,
        };
        in_account && by_user
    };
    let heads: Vec<Head> = shown.iter().map(|(_, head)| *head).collect();
    let mut out = String::new();
    if header {
        style.header(&mut out, &heads);
    }
    for line in shares.iter().filter(takes) {
        style.row(&mut out, &heads, shown.iter().map(|(place, _)| text(FIELDS[*place].header, line, &style)));
    }
    print(&out).map(|()| ExitCode::SUCCESS)
}

fn text(field: &str, line: &ShareLine, style: &Style) -> String {
    match field {
        "Account" => {
            let name = line.account.clone().unwrap_or_else(|| "root".to_owned());
            let indent = if *style == Style::Columns { line.depth as usize } else { 0 };
            format!("{}{name}", " ".repeat(indent))
        }
        "User" => line.user.clone().unwrap_or_default(),
        "RawShares" if line.depth == 0 => String::new(),
        "RawShares" => line.shares.to_string(),
        "NormShares" if line.depth == 0 => String::new(),
        "NormShares" => format!("{:.6}", line.shares_part),
        "RawUsage" => format!("{:.0}", line.usage_core_s),
        "NormUsage" | "EffectvUsage" => format!("{:.6}", line.usage_part),
        "FairShare" => line.factor.map(|factor| format!("{factor:.6}")).unwrap_or_default(),
        "LevelFS" if line.depth == 0 => String::new(),
        "LevelFS" => line.level.map_or_else(|| "inf".to_owned(), |level| format!("{level:.6}")),
        _ => String::new(),
    }
}
