//! Advance reservations from lines.

use std::collections::BTreeSet;

use muster_core::ids::Timestamp;
use muster_core::input::{Input, Reply};
use muster_core::notation::format_time_s;
use muster_core::reservation::{Repeat, ReservationSpec, ReservedNodes, Windows};

use super::parse::{Line, ScenarioError};
use super::world::{ADMIN, World};

impl World {
    /// `reserve NAME ...` and `unreserve NAME`.
    pub fn reserve(&mut self, line: &Line<'_>) -> Result<(), ScenarioError> {
        if line.verb == "unreserve" {
            line.only(1, &[])?;
            let name = line.subject("a name")?.to_owned();
            self.command(&Input::RemoveReservation { caller: ADMIN, name });
            return Ok(());
        }
        let spec = spec(line, self.now)?;
        if let Some(Reply::Reserved(made)) =
            self.command(&Input::MakeReservation { caller: ADMIN, spec: Box::new(spec) })
        {
            for runs in made.running {
                let until = format_time_s(runs.until.seconds());
                self.say(&format!("left alone: job {} on {} until {until}", runs.task, runs.node));
            }
        }
        Ok(())
    }
}

fn spec(line: &Line<'_>, now: Timestamp) -> Result<ReservationSpec, ScenarioError> {
    line.only(3, &["nodes", "pool", "count", "at", "for", "users", "accounts", "repeat"])?;
    let name = line.subject("a name")?.to_owned();
    let (mut maintenance, mut ignore_running) = (false, false);
    for word in &line.words[1..] {
        match *word {
            "maintenance" => maintenance = true,
            "ignore-running" => ignore_running = true,
            other => return Err(line.wrong(format!("'{other}' is not maintenance or ignore-running"))),
        }
    }
    let nodes = match (line.hosts("nodes")?, line.text("pool"), line.number("count")?) {
        (Some(nodes), None, None) => ReservedNodes::List(nodes.into_iter().collect()),
        (None, Some(pool), None) => ReservedNodes::Pool(pool.to_owned()),
        (None, Some(pool), Some(count)) => ReservedNodes::Count { pool: pool.to_owned(), count },
        _ => return Err(line.wrong("say nodes=LIST, pool=NAME, or pool=NAME count=N")),
    };
    let duration_s = line.seconds("for")?.ok_or_else(|| line.wrong("'reserve' needs for=TIME"))?;
    let at = line.seconds("at")?.map(|at| Timestamp(0).plus_seconds(at));
    let repeat = line.choice("repeat", &[("daily", Repeat::Daily), ("weekly", Repeat::Weekly)])?;
    let names = |key: &str| -> BTreeSet<String> {
        line.text(key).into_iter().flat_map(|names| names.split(',')).map(str::to_owned).collect()
    };
    Ok(ReservationSpec {
        name,
        nodes,
        windows: Windows { start: at.unwrap_or(now), duration_s, repeat },
        users: names("users"),
        accounts: names("accounts"),
        maintenance,
        ignore_running,
        comment: String::new(),
    })
}
