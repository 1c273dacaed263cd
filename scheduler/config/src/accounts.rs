//! `[[account]]`: the tree of accounts over which the cluster is shared.

use std::collections::{BTreeMap, HashMap, HashSet};

use muster_core::cluster::AccountConfig;

use crate::pools::check_name;
use crate::problem::{ProblemKind, nearest};
use crate::section::{At, Reader, Section, Span};

/// Most accounts.
pub(crate) const ACCOUNTS_MAX: usize = 10_000;
/// Most users of all accounts together.
pub(crate) const USERS_MAX: usize = 100_000;
/// How deep accounts may lie below the cluster.
pub(crate) const DEPTH_MAX: usize = 32;
const SHARES_MAX: u32 = 1_000_000;
/// Longest login name, in bytes (useradd(8) allows 256).
const LOGIN_BYTES_MAX: usize = 256;

/// An account with the places that its errors are reported at.
struct Declared {
    config: AccountConfig,
    span: Span,
    parent: Option<Span>,
}

pub(crate) fn accounts(reader: &mut Reader<'_>, sections: Vec<Section<'_, '_>>) -> Vec<AccountConfig> {
    if let Some(first) = sections.get(ACCOUNTS_MAX) {
        let found = sections.len();
        reader
            .problem(first.span.clone(), ProblemKind::TooMany { what: "accounts", found, max: ACCOUNTS_MAX });
        return Vec::new();
    }
    let mut declared: Vec<Declared> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for section in sections {
        let Some(account) = account(reader, section) else { continue };
        if let Some(first) = places.get(&account.config.name) {
            let (name, first_line) = (account.config.name, reader.line(&declared[*first].span));
            reader.problem(account.span, ProblemKind::Duplicate { what: "account", name, first_line });
        } else {
            places.insert(account.config.name.clone(), declared.len());
            declared.push(account);
        }
    }
    let users = declared.iter().map(|account| account.config.users.len()).sum();
    if users > USERS_MAX {
        let span = declared[0].span.clone();
        let what = "users of all accounts together";
        reader.problem(span, ProblemKind::TooMany { what, found: users, max: USERS_MAX });
    }
    check_parents(reader, &declared, &places);
    declared.into_iter().map(|account| account.config).collect()
}

fn account(reader: &mut Reader<'_>, mut section: Section<'_, '_>) -> Option<Declared> {
    let span = section.span.clone();
    let name = section.text(reader, "name", "physics");
    if !section.has("name") {
        section.missing(reader, "name", "name = \"physics\"");
    }
    let parent = section.text(reader, "parent", "science");
    let shares = section.number(reader, "shares", (1, SHARES_MAX.into())).map_or(1, |at| at.value as u32);
    let users = users(reader, &mut section);
    section.finish(reader);
    let name = name?;
    check_name(reader, &name);
    let (parent, place) = parent.map(|at| (at.value, at.span)).unzip();
    let config = AccountConfig { name: name.value, parent, shares, users };
    Some(Declared { config, span, parent: place })
}

/// Users as `name` or `name:shares`.
fn users(reader: &mut Reader<'_>, section: &mut Section<'_, '_>) -> BTreeMap<String, u32> {
    let mut users = BTreeMap::new();
    for At { value, span } in section.texts(reader, "users", "ann").unwrap_or_default() {
        let (name, shares) = match value.rsplit_once(':') {
            Some((name, shares)) => (name, shares.parse().ok().filter(|n| (1..=SHARES_MAX).contains(n))),
            None => (value.as_str(), Some(1)),
        };
        let is_login = !name.is_empty()
            && name.len() <= LOGIN_BYTES_MAX
            && !name.contains(|c: char| c.is_control() || c.is_whitespace() || c == ':');
        let kind = match shares.filter(|_| is_login) {
            None => ProblemKind::BadText {
                key: "users",
                expected: "login names, each with shares from 1 to 1,000,000 if not one, such as [\"ann\", \"bob:3\"]",
                found: value,
            },
            Some(_) if users.contains_key(name) => {
                ProblemKind::Repeated { name: name.to_owned(), key: "users" }
            }
            Some(shares) => {
                users.insert(name.to_owned(), shares);
                continue;
            }
        };
        reader.problem(span, kind);
    }
    users
}

/// Every account must lie below the cluster, and not too deep.
fn check_parents(reader: &mut Reader<'_>, declared: &[Declared], places: &HashMap<String, usize>) {
    // How deep each is; none below a circle or an account that is not declared, which is reported once.
    let mut known: HashMap<usize, Option<usize>> = HashMap::new();
    for start in 0..declared.len() {
        let mut way: Vec<usize> = Vec::new();
        let mut on_way: HashSet<usize> = HashSet::new();
        let mut at = start;
        let mut depth = loop {
            if let Some(depth) = known.get(&at) {
                break *depth;
            }
            if !on_way.insert(at) {
                circle(reader, declared, &way, at);
                break None;
            }
            way.push(at);
            let account = &declared[at];
            let (Some(parent), Some(place)) = (&account.config.parent, &account.parent) else {
                break Some(0);
            };
            match places.get(parent) {
                Some(above) => at = *above,
                None => {
                    let name = &account.config.name;
                    let others = places.keys().map(String::as_str).filter(|other| other != name);
                    let (owner, nearest) = (format!("account '{name}'"), nearest(parent, others));
                    let kind =
                        ProblemKind::UnknownName { owner, what: "account", name: parent.clone(), nearest };
                    reader.problem(place.clone(), kind);
                    break None;
                }
            }
        };
        for at in way.into_iter().rev() {
            depth = depth.map(|depth| depth + 1);
            // Those below it are too deep as well, but for its sake.
            if depth == Some(DEPTH_MAX + 1) {
                let account = declared[at].config.name.clone();
                reader.problem(declared[at].span.clone(), ProblemKind::TooDeep { account, max: DEPTH_MAX });
            }
            known.insert(at, depth);
        }
    }
}

/// The way up from some account has come to one that it had met before.
fn circle(reader: &mut Reader<'_>, declared: &[Declared], way: &[usize], met: usize) {
    let members = way.iter().skip_while(|at| **at != met).chain([&met]);
    let mut names: Vec<&str> = members.map(|at| declared[*at].config.name.as_str()).collect();
    names.reverse();
    let (what, why) = ("accounts", "an account must not be a part of itself");
    let kind = ProblemKind::Circle { what, circle: names.join(" > "), why };
    reader.problem(declared[met].span.clone(), kind);
}
