//! `scontrol show reservation`.

use serde_json::{Value, json};

use super::Shown;
use crate::slurm::fault::{self, Fault};
use crate::slurm::job_json::{document, number};
use crate::slurm::reservations::record;
use crate::slurm::time::Times;

/// The record of a reservation, or those of all.
pub(super) fn text(shown: &mut Shown<'_>, name: Option<&str>) -> Result<String, Fault> {
    let mut list = shown.client.reservations().map_err(Fault::client(shown.doing))?.reservations;
    let nodes = shown.client.nodes().map_err(Fault::client(shown.doing))?.nodes;
    list.retain(|one| name.is_none_or(|name| one.name == name));
    if let (true, Some(name)) = (list.is_empty(), name) {
        fault::print(&format!("Reservation {name} not found\n"))?;
        return Err(Fault::Silent);
    }
    if shown.how.json {
        let all: Vec<Value> = list
            .iter()
            .map(|one| {
                json!({
                    "name": one.name,
                    "node_list": one.node_list,
                    "node_count": one.nodes,
                    "start_time": number(Some(Times::seconds(Some(one.start_us)))),
                    "end_time": number(Some(Times::seconds(Some(one.end_us)))),
                    "users": one.users.join(","),
                    "accounts": one.accounts.join(","),
                })
            })
            .collect();
        return Ok(document("show reservation", json!({ "reservations": all })));
    }
    if list.is_empty() {
        return Ok("No reservations in the system\n".to_owned());
    }
    let mut out = String::new();
    list.iter().for_each(|one| shown.add(&record(one, &nodes, &shown.times), &mut out));
    Ok(out)
}
