//! `muster shares`.

use std::process::ExitCode;

use muster_client::api::{ShareLine, ShareList};

use super::connect;
use crate::error::CliError;
use crate::exit::Exit;
use crate::out::{print, print_json};
use crate::table::{Cell, Side, Table};

/// Arguments of `muster shares`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  muster shares            the tree of accounts and users\n  \
    muster shares -u ann     one user, in each account\n  muster shares --json     for programs\n\n\
    LEVEL is the part of the shares divided by the part of the usage among siblings: above 1, less than\n\
    the share was used. The greater FACTOR, the sooner the user's jobs come.")]
pub struct SharesArgs {
    /// Only lines of this user
    #[arg(short = 'u', long, value_name = "USER")]
    user: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &SharesArgs) -> Result<ExitCode, CliError> {
    let list = connect()?.shares(args.user.as_deref())?;
    if args.json {
        print_json(&list)?;
    } else {
        print(&table(&list, args.user.is_none()).render())?;
    }
    Ok(Exit::Ok.into())
}

/// A tree is drawn by indents; a list of one user names the account in each line.
fn table(list: &ShareList, is_tree: bool) -> Table {
    let mut table = Table::new(vec![
        ("ACCOUNT", Side::Left),
        ("USER", Side::Left),
        ("SHARES", Side::Right),
        ("PART", Side::Right),
        ("CORE HOURS", Side::Right),
        ("USED", Side::Right),
        ("LEVEL", Side::Right),
        ("FACTOR", Side::Right),
    ]);
    for line in &list.shares {
        table.push(row(line, is_tree));
    }
    table
}

fn row(line: &ShareLine, is_tree: bool) -> Vec<Cell> {
    let account = match (&line.account, &line.user) {
        (None, None) => "(cluster)".to_owned(),
        (Some(account), None) => format!("{}{account}", "  ".repeat(line.depth as usize)),
        (Some(account), Some(_)) if !is_tree => account.clone(),
        (_, Some(_)) => String::new(),
    };
    let hours = format!("{:.1}", line.usage_core_s / 3600.0);
    if line.depth == 0 {
        let mut row: Vec<Cell> = [account.as_str(), "", "", "", &hours].map(Cell::new).into();
        row.extend(["", "", ""].map(Cell::new));
        return row;
    }
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    vec![
        Cell::new(account),
        Cell::new(line.user.as_deref().unwrap_or_default()),
        Cell::new(line.shares.to_string()),
        Cell::new(percent(line.shares_part)),
        Cell::new(hours),
        Cell::new(percent(line.usage_part)),
        Cell::new(line.level.map_or("unused".to_owned(), |level| format!("{level:.2}"))),
        Cell::new(line.factor.map_or(String::new(), |factor| format!("{factor:.3}"))),
    ]
}

#[cfg(test)]
mod tests {
    use muster_client::api::SCHEMA;

    use super::*;

    fn line(depth: u32, account: Option<&str>, user: Option<&str>, usage_core_s: f64) -> ShareLine {
        ShareLine {
            account: account.map(str::to_owned),
            user: user.map(str::to_owned),
            depth,
            shares: 3,
            shares_part: 0.75,
            usage_core_s,
            usage_part: if usage_core_s > 0.0 { 0.6 } else { 0.0 },
            level: (usage_core_s > 0.0).then_some(1.25),
            factor: user.map(|_| 0.5),
        }
    }

    #[test]
    fn the_tree_is_drawn_by_indents() {
        let shares = vec![
            line(0, None, None, 7200.0),
            line(1, Some("physics"), None, 7200.0),
            line(2, Some("physics"), Some("ann"), 7200.0),
            line(2, Some("plasma"), None, 0.0),
        ];
        let list = ShareList { schema: SCHEMA, half_life_s: 60, shares };
        let plain = |table: Table| anstream::adapter::strip_str(&table.render()).to_string();
        let expected = "\
ACCOUNT     USER  SHARES    PART  CORE HOURS    USED   LEVEL  FACTOR
(cluster)                                2.0
  physics              3  75.0 %         2.0  60.0 %    1.25
            ann        3  75.0 %         2.0  60.0 %    1.25   0.500
    plasma             3  75.0 %         0.0   0.0 %  unused
";
        assert_eq!(plain(table(&list, true)), expected);
        let one = ShareList { shares: vec![list.shares[2].clone()], ..list };
        assert!(plain(table(&one, false)).contains("\nphysics  ann "));
    }
}
