//! The face `sacctmgr`: lists what the configuration and the shares say of accounts and users. It changes nothing.

use std::process::ExitCode;

use muster_client::api::ShareLine;

use super::connect::{connect, version};
use super::fault::{self, Fault, print};
use super::getopt::{self, Opt, Order, Takes};
use super::listing::{Head, Style, find};

/// What Slurm says where its database cannot be reached.
const DOING: &str = "sacctmgr: error: Problem talking to the database";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Help,
    Ignored,
    NoHeader,
    Parsable,
    Parsable2,
    Version,
}

const fn opt(key: Key, short: Option<char>, long: &'static [&'static str]) -> Opt<Key> {
    Opt { key, short, long, takes: Takes::Nothing }
}

const TABLE: &[Opt<Key>] = &[
    opt(Key::Help, Some('h'), &["help", "usage"]),
    opt(Key::Ignored, Some('i'), &["immediate"]),
    opt(Key::Ignored, Some('s'), &["associations"]),
    opt(Key::Ignored, Some('Q'), &["quiet"]),
    opt(Key::Ignored, Some('r'), &["readonly"]),
    opt(Key::Ignored, Some('v'), &["verbose"]),
    opt(Key::NoHeader, Some('n'), &["noheader"]),
    opt(Key::Parsable, Some('p'), &["parsable"]),
    opt(Key::Parsable2, Some('P'), &["parsable2"]),
    opt(Key::Version, Some('V'), &["version"]),
];

const HELP: &str = "\
sacctmgr [OPTIONS] list ENTITY [NAME=VALUE ...] [format=FIELD,...]
    -n, --noheader   no header
    -p, --parsable   fields with | after each
    -P, --parsable2  fields with | between them
    -s               with associations; always so
    -V, --version    the version
    ENTITY is account, association, cluster, qos or user; VALUEs narrow the list by account, user or cluster. Accounts and
    users are declared in muster.toml.
";

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entity {
    Accounts,
    Associations,
    Clusters,
    Qos,
    Users,
    /// Muster has nothing of the kind.
    Nothing,
}

/// Names of entities, in lower case; the beginning of one will do.
const ENTITIES: [(&str, Entity); 17] = [
    ("accounts", Entity::Accounts),
    ("associations", Entity::Associations),
    ("clusters", Entity::Clusters),
    ("configuration", Entity::Nothing),
    ("events", Entity::Nothing),
    ("federations", Entity::Nothing),
    ("problems", Entity::Nothing),
    ("qos", Entity::Qos),
    ("resources", Entity::Nothing),
    ("reservations", Entity::Nothing),
    ("runawayjobs", Entity::Nothing),
    ("stats", Entity::Nothing),
    ("transactions", Entity::Nothing),
    ("tres", Entity::Nothing),
    ("users", Entity::Users),
    ("wckeys", Entity::Nothing),
    ("instances", Entity::Nothing),
];

const FIELDS: [Head; 16] = [
    Head { header: "Account", width: 10 },
    Head { header: "User", width: 10 },
    Head { header: "Cluster", width: 10 },
    Head { header: "DefaultAccount", width: 10 },
    Head { header: "AdminLevel", width: 9 },
    Head { header: "Share", width: 9 },
    Head { header: "ParentName", width: 10 },
    Head { header: "QOS", width: 20 },
    Head { header: "DefaultQOS", width: 9 },
    Head { header: "Partition", width: 10 },
    Head { header: "Description", width: 20 },
    Head { header: "Organization", width: 20 },
    Head { header: "ControlHost", width: 15 },
    Head { header: "ControlPort", width: 12 },
    Head { header: "Name", width: 10 },
    Head { header: "Priority", width: 10 },
];

/// A row: what it says of each field that it has something for.
#[derive(Debug, Default, Clone)]
struct Row {
    account: String,
    user: String,
    cluster: String,
    parent: String,
    share: String,
    name: String,
}

impl Row {
    fn text(&self, field: &str) -> String {
        match field {
            "Account" | "DefaultAccount" => self.account.clone(),
            "User" => self.user.clone(),
            "Cluster" => self.cluster.clone(),
            "AdminLevel" if !self.user.is_empty() => "None".to_owned(),
            "Share" => self.share.clone(),
            "ParentName" => self.parent.clone(),
            "Name" => self.name.clone(),
            _ => String::new(),
        }
    }
}

/// Runs it.
pub(super) fn run(words: &[String]) -> ExitCode {
    fault::end(start(words))
}

fn said(text: impl Into<String>) -> Fault {
    Fault::Said(text.into())
}

fn start(words: &[String]) -> Result<ExitCode, Fault> {
    let line = getopt::read(words, TABLE, Order::Free)
        .map_err(|source| Fault::Option { face: "sacctmgr", source })?;
    let (mut style, mut header) = (Style::Columns, true);
    for (key, _) in line.options {
        match key {
            Key::Help => return print(HELP).map(|()| ExitCode::SUCCESS),
            Key::Version => return print(&version()).map(|()| ExitCode::SUCCESS),
            Key::Ignored => {}
            Key::NoHeader => header = false,
            Key::Parsable => style = Style::Fields { delimiter: "|".to_owned(), ended: true },
            Key::Parsable2 => style = Style::Fields { delimiter: "|".to_owned(), ended: false },
        }
    }
    let mut words = line.words.iter();
    let verb = words.next().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    if !(verb.len() >= 2 && ("list".starts_with(&verb) || "show".starts_with(&verb))) {
        return Err(said(format!(
            "sacctmgr: error: '{verb}' is not supported: accounts, users and qualities of service are declared in muster.toml"
        )));
    }
    let entity = words.next().map(|word| word.to_ascii_lowercase()).unwrap_or_default();
    let found = ENTITIES.iter().find(|(name, _)| !entity.is_empty() && name.starts_with(&entity));
    let Some((_, entity)) = found else { return Err(said("No valid entity in list command")) };
    let wanted = read_words(words, *entity)?;
    let rows = rows(*entity, &wanted)?;
    let mut out = String::new();
    let heads: Vec<Head> = wanted.columns.iter().map(|(_, head)| *head).collect();
    if header {
        style.header(&mut out, &heads);
    }
    for row in &rows {
        style.row(&mut out, &heads, wanted.columns.iter().map(|(place, _)| row.text(FIELDS[*place].header)));
    }
    print(&out).map(|()| ExitCode::SUCCESS)
}

/// What the words after the entity say.
struct Wanted {
    columns: Vec<(usize, Head)>,
    accounts: Vec<String>,
    users: Vec<String>,
    clusters: Vec<String>,
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(|word| word.trim_matches(['"', '\'']))
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn read_words<'w>(words: impl Iterator<Item = &'w String>, entity: Entity) -> Result<Wanted, Fault> {
    let default = match entity {
        Entity::Accounts => "account,description,organization",
        Entity::Associations => "cluster,account,user,partition,share,priority,qos,defaultqos",
        Entity::Clusters => "cluster,controlhost,controlport,share,qos,defaultqos",
        Entity::Qos | Entity::Nothing => "name,priority",
        Entity::Users => "user,defaultaccount,adminlevel",
    };
    let columns = |text: &str| -> Result<Vec<(usize, Head)>, Fault> {
        let bad = |name: &String| said(format!("Unknown field '{name}'"));
        list(text).iter().map(|name| find(name, &FIELDS).ok_or_else(|| bad(name))).collect()
    };
    let mut wanted =
        Wanted { columns: columns(default)?, accounts: Vec::new(), users: Vec::new(), clusters: Vec::new() };
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => match name.to_ascii_lowercase().as_str() {
                "format" => wanted.columns = columns(value)?,
                "account" | "accounts" | "defaultaccount" => wanted.accounts.extend(list(value)),
                "user" | "users" | "name" | "names" if entity != Entity::Accounts => {
                    wanted.users.extend(list(value))
                }
                "name" | "names" => wanted.accounts.extend(list(value)),
                "cluster" | "clusters" => wanted.clusters.extend(list(value)),
                _ => return Err(said(format!(" Unknown condition: {word}"))),
            },
            None => match word.to_ascii_lowercase().as_str() {
                "where" | "withassoc" | "withassocs" | "withdeleted" | "withcoord" | "tree" => {}
                _ if entity == Entity::Accounts => wanted.accounts.extend(list(word)),
                _ if entity == Entity::Clusters => wanted.clusters.extend(list(word)),
                _ => wanted.users.extend(list(word)),
            },
        }
    }
    Ok(wanted)
}

fn rows(entity: Entity, wanted: &Wanted) -> Result<Vec<Row>, Fault> {
    let mut client = connect(DOING)?;
    let cluster = client.ping().map_err(Fault::client(DOING))?.cluster;
    let takes = |list: &[String], value: &str| list.is_empty() || list.iter().any(|one| one == value);
    if !takes(&wanted.clusters, &cluster) || matches!(entity, Entity::Qos | Entity::Nothing) {
        return Ok(Vec::new());
    }
    if entity == Entity::Clusters {
        return Ok(vec![Row { name: cluster.clone(), cluster, share: "1".to_owned(), ..Row::default() }]);
    }
    let shares = client.shares(None).map_err(Fault::client(DOING))?.shares;
    let row = |line: &ShareLine| Row {
        account: line.account.clone().unwrap_or_default(),
        user: line.user.clone().unwrap_or_default(),
        name: line.user.clone().or_else(|| line.account.clone()).unwrap_or_default(),
        cluster: cluster.clone(),
        share: line.shares.to_string(),
        parent: String::new(),
    };
    let is_wanted = |line: &&ShareLine| {
        let has_user = line.user.is_some();
        let of_entity = match entity {
            Entity::Accounts => line.account.is_some() && !has_user,
            Entity::Users => has_user,
            _ => line.account.is_some() || has_user,
        };
        of_entity
            && takes(&wanted.accounts, line.account.as_deref().unwrap_or_default())
            && takes(&wanted.users, line.user.as_deref().unwrap_or_default())
    };
    Ok(shares.iter().filter(is_wanted).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let said = |text: &str| {
            let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
            start(&words).unwrap_err().to_string()
        };
        assert!(said("add user x").contains("declared in muster.toml"));
        assert_eq!(said("list bogus"), "No valid entity in list command");
        assert_eq!(said("list user format=bogus"), "Unknown field 'bogus'");
        assert!(said("--bogus").starts_with("sacctmgr: unrecognized option '--bogus'"));
    }
}
