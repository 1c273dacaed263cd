//! Where a job goes: clusters, partitions, and their longest time.

use muster_client::api::{SubmitAnswer, SubmitRequest};
use muster_client::{Client, ClientError};

use super::super::wrong::{FAILED, Wrong};
use super::refused;
use crate::submit::{Layer, Opt};

/// The cluster's name, if one was asked for: it must be this one.
pub(super) fn cluster(client: &mut Client, layer: &Layer) -> Result<Option<String>, Wrong> {
    let Some(said) = layer.written(Opt::Clusters) else { return Ok(None) };
    let own = client.ping().map_err(refused)?.cluster;
    if said.value.split(',').any(|name| name == own || name.eq_ignore_ascii_case("all")) {
        return Ok(Some(own));
    }
    let text = format!(
        "'{}' can't be reached now, or it is an invalid entry for --cluster.  Use 'sacctmgr list clusters' to see \
         available clusters.",
        said.value
    );
    Err(Wrong::error(FAILED, text).and(format!("this cluster is {own}: submit on a host of the other one")))
}

/// Whether `--time` asks for no limit.
pub(super) fn is_unlimited(layer: &Layer) -> bool {
    let none = |text: &str| {
        matches!(text, "0" | "-1")
            || ["UNLIMITED", "INFINITE"].iter().any(|word| word.eq_ignore_ascii_case(text))
    };
    layer.get(Opt::Time).is_some_and(|said| none(&said.value))
}

/// The layer with the longest time that there is in place of none: every task has a limit here, and the longest is the
/// pool's.
pub(super) fn with_longest_time(client: &mut Client, mut layer: Layer) -> Result<Layer, Wrong> {
    let wanted = layer.get(Opt::Pool).and_then(|said| said.value.split(',').next());
    let pools = client.pools().map_err(refused)?.pools;
    let pool = pools.iter().find(|pool| wanted.map_or(pool.default, |name| name == pool.name));
    if let Some((pool, said)) = pool.zip(layer.get(Opt::Time)) {
        let origin = said.origin.clone();
        layer.say(Opt::Time, format!("{}:{:02}", pool.time_max_s / 60, pool.time_max_s % 60), origin);
    }
    Ok(layer)
}

/// Submits to the first of the partitions that were named which can run the job, and says which that was.
pub(super) fn submit(
    client: &mut Client,
    layer: &Layer,
    mut request: SubmitRequest,
) -> Result<(String, SubmitAnswer), Wrong> {
    let named = request.pool.take().unwrap_or_default();
    let names: Vec<&str> = named.split(',').collect();
    if names.len() > 1 {
        let pools = client.pools().map_err(refused)?.pools;
        if let Some(unknown) = names.iter().find(|name| !pools.iter().any(|pool| pool.name == **name)) {
            return Err(invalid_partition(unknown, refused_pool(unknown)));
        }
    }
    let mut first = None;
    for name in &names {
        request.pool = layer.has(Opt::Pool).then(|| (*name).to_owned());
        match client.submit(&request) {
            Ok(answer) => return Ok(((*name).to_owned(), answer)),
            Err(error) if may_fit_elsewhere(&error) => drop(first.get_or_insert(error)),
            Err(error) if code(&error) == "unknown_pool" => {
                return Err(invalid_partition(if name.is_empty() { "(null)" } else { name }, error));
            }
            Err(error) => return Err(refused(error)),
        }
    }
    match first {
        Some(error) => Err(refused(error)),
        None => Err(Wrong::error(FAILED, "no partition was named")),
    }
}

fn code(error: &ClientError) -> &str {
    match error {
        ClientError::Refused { body, .. } => &body.code,
        _ => "",
    }
}

/// Whether another partition might run what this one never can.
fn may_fit_elsewhere(error: &ClientError) -> bool {
    matches!(code(error), "never_fits" | "too_many_nodes" | "time_limit" | "reservation_not_yours")
}

fn refused_pool(name: &str) -> ClientError {
    let message = format!("there is no pool '{name}'; muster pools lists those that there are");
    let body = muster_client::api::ErrorBody { code: "unknown_pool".to_owned(), message, again_ms: None };
    ClientError::Refused { status: 400, body }
}

/// Slurm says the name on a line of its own first.
fn invalid_partition(name: &str, error: ClientError) -> Wrong {
    let mut wrong = refused(error);
    wrong.lines.insert(0, format!("error: invalid partition specified: {name}"));
    wrong
}
