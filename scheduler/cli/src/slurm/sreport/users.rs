//! `sreport cluster AccountUtilizationByUser`, `cluster UserUtilizationByAccount` and `user TopUsage`.

use std::collections::{BTreeMap, BTreeSet};

use muster_client::api::UsageView;
use nix::unistd::User;

use super::accounts::ROOT;
use super::{Field, Sheet, Tres};
use crate::slurm::fault::Fault;
use crate::slurm::listing::Head;

const FIELDS: [Field; 8] = [
    ("accounts", Head { header: "Account", width: 15 }),
    ("cluster", Head { header: "Cluster", width: 9 }),
    ("energy", Head { header: "Energy", width: 8 }),
    ("login", Head { header: "Login", width: 9 }),
    ("proper", Head { header: "Proper Name", width: 15 }),
    ("trescount", Head { header: "TRES Count", width: 10 }),
    ("tresname", Head { header: "TRES Name", width: 14 }),
    ("used", Head { header: "Used", width: 8 }),
];

/// What a user has used of an account, or all of an account.
struct Line {
    account: String,
    login: String,
    used: UsageView,
}

/// What each user has used of each account, as far as that is asked for.
fn used(sheet: &Sheet, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<(String, String), UsageView> {
    let mut sums: BTreeMap<(String, String), UsageView> = BTreeMap::new();
    let users = &sheet.wanted.users;
    for line in &sheet.usage.lines {
        let account = line.account.as_deref().unwrap_or(ROOT);
        if is_wanted(account) && (users.is_empty() || users.contains(&line.user)) {
            sums.entry((account.to_owned(), line.user.clone())).or_default().add(&line.used, 1.0);
        }
    }
    sums
}

/// The lines, those that used most of the first resource first.
fn by_usage(sheet: &Sheet) -> Vec<Line> {
    let accounts = &sheet.wanted.accounts;
    let sums = used(sheet, |account| accounts.is_empty() || accounts.iter().any(|name| name == account));
    let line = |((account, login), used)| Line { account, login, used };
    let mut lines: Vec<Line> = sums.into_iter().map(line).collect();
    most_first(sheet, &mut lines);
    lines
}

fn most_first(sheet: &Sheet, lines: &mut [Line]) {
    let amount = |line: &Line| sheet.tres.first().map_or(0.0, |tres| tres.of(&line.used));
    lines.sort_by(|a, b| {
        amount(b).total_cmp(&amount(a)).then_with(|| (&a.login, &a.account).cmp(&(&b.login, &b.account)))
    });
}

/// `sreport cluster UserUtilizationByAccount`.
pub(super) fn by_user(sheet: &Sheet) -> Result<String, Fault> {
    write(sheet, "Cluster/User/Account Utilization", "cluster,login,proper,accounts", by_usage(sheet))
}

/// `sreport user TopUsage`.
pub(super) fn top(sheet: &Sheet) -> Result<String, Fault> {
    let mut lines = by_usage(sheet);
    if sheet.wanted.group {
        lines = grouped(lines);
        most_first(sheet, &mut lines);
    }
    lines.truncate(sheet.wanted.top);
    let what = format!("Top {} Users", sheet.wanted.top);
    write(sheet, &what, "cluster,login,proper,accounts", lines)
}

/// One line for each user, with the names of all accounts.
fn grouped(lines: Vec<Line>) -> Vec<Line> {
    let mut users: BTreeMap<String, (BTreeSet<String>, UsageView)> = BTreeMap::new();
    for line in lines {
        let (accounts, used) = users.entry(line.login).or_default();
        accounts.insert(line.account);
        used.add(&line.used, 1.0);
    }
    let line = |(login, (accounts, used)): (String, (BTreeSet<String>, UsageView))| Line {
        account: accounts.into_iter().collect::<Vec<_>>().join(", "),
        login,
        used,
    };
    users.into_iter().map(line).collect()
}

/// `sreport cluster AccountUtilizationByUser`: each account, its users, and the accounts below it.
pub(super) fn by_account(sheet: &Sheet) -> Result<String, Fault> {
    let (tree, wanted) = (&sheet.tree, &sheet.wanted);
    let is_wanted = |account: &str| {
        wanted.accounts.is_empty() || wanted.accounts.iter().any(|name| tree.is_within(account, name))
    };
    let sums = used(sheet, is_wanted);
    let mut whole: BTreeMap<&str, UsageView> = BTreeMap::new();
    for ((account, _), used) in &sums {
        for name in tree.upward(account).filter(|name| is_wanted(name)) {
            whole.entry(name).or_default().add(used, 1.0);
        }
    }
    let accounts: BTreeSet<String> = sums.keys().map(|(account, _)| account.clone()).collect();
    let order = if sums.is_empty() { Vec::new() } else { tree.ordered(&accounts) };
    // How deep the accounts that are shown lie below the first of them.
    let mut lines = Vec::new();
    let mut first_depth: Option<usize> = None;
    for (account, depth) in order.iter().filter(|(account, _)| is_wanted(account)) {
        let above = first_depth.filter(|first| first < depth).unwrap_or(*depth);
        first_depth = Some(above);
        let indented = |more: usize| {
            let blanks = if wanted.tree { depth - above + more } else { 0 };
            format!("{}{account}", " ".repeat(blanks))
        };
        // Of some users only, an account has no sum.
        if wanted.users.is_empty() {
            let used = whole.remove(account.as_str()).unwrap_or_default();
            lines.push(Line { account: indented(0), login: String::new(), used });
        }
        let users = sums.iter().filter(|((name, _), _)| name == account);
        lines.extend(users.map(|((_, login), used)| Line {
            account: indented(1),
            login: login.clone(),
            used: used.clone(),
        }));
    }
    write(sheet, "Cluster/Account/User Utilization", "cluster,accounts,login,proper", lines)
}

/// The name of a user that people read.
fn proper_name(login: &str) -> String {
    let user = User::from_name(login).ok().flatten();
    let name = user.map(|user| user.gecos.to_string_lossy().into_owned()).unwrap_or_default();
    name.split(',').next().unwrap_or_default().to_owned()
}

fn write(sheet: &Sheet, what: &str, who: &str, lines: Vec<Line>) -> Result<String, Fault> {
    let wanted = &sheet.wanted;
    let more = if wanted.tres.is_some() { "tresname,used" } else { "used,energy" };
    let mut heads = sheet.fields(&FIELDS, &format!("{who},{more}"))?;
    let amounts = lines.iter().flat_map(|line| sheet.tres.iter().map(|tres| tres.of(&line.used)));
    let largest = amounts.fold(0.0, f64::max);
    let own = heads.iter_mut().enumerate().filter(|(place, _)| !sheet.has_width(*place));
    for head in own.map(|(_, head)| head) {
        match head.header {
            "Used" => head.width = wanted.times.width(largest),
            "Energy" => head.width = wanted.times.width(0.0),
            "Account" if wanted.tree => head.width = -20,
            _ => {}
        }
    }
    let text = |head: &Head, line: &Line, tres: &Tres| {
        let total = tres.of(&sheet.usage.reported);
        match head.header {
            "Account" => line.account.clone(),
            "Cluster" => sheet.cluster.clone(),
            "Energy" => wanted.times.text(0.0, 0.0),
            "Login" => line.login.clone(),
            "Proper Name" => proper_name(&line.login),
            "TRES Count" => format!("{:.0}", tres.of(&sheet.usage.capacity)),
            "TRES Name" => tres.to_string(),
            _ => wanted.times.text(tres.of(&line.used), total),
        }
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for line in &lines {
        for tres in &sheet.tres {
            rows.push(heads.iter().map(|head| text(head, line, tres)).collect());
        }
    }
    let mut out = String::new();
    sheet.title(&mut out, what, true, &sheet.unit());
    sheet.table(&mut out, &heads, &rows);
    Ok(out)
}
