//! Whom a job charges, and its quality of service.

use super::validate::bad;
use crate::cluster::AccountConfig;
use crate::input::Refusal;
use crate::spec::{JobSpec, NAME_BYTES_MAX};
use crate::state::State;

/// The name that always stands for no special quality of service: scripts from elsewhere carry it.
const QOS_NORMAL: &str = "normal";
/// How many names a refusal tells.
const NAMES_TOLD_MAX: usize = 20;

/// Checks the account and the quality of service of a job, and fills the account in.
pub(super) fn check(state: &State, spec: &mut JobSpec) -> Result<(), Refusal> {
    if state.config.accounts.is_empty() {
        check_free_name(spec.account.as_deref())?;
    } else {
        spec.account = Some(account(state, spec)?);
    }
    if let Some(qos) = spec.qos.take() {
        spec.qos = check_qos(state, spec, qos)?;
    }
    Ok(())
}

/// Where no accounts are declared, any name will do.
fn check_free_name(account: Option<&str>) -> Result<(), Refusal> {
    let is_wrong =
        |name: &str| name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control);
    if account.is_some_and(is_wrong) {
        let problem = format!("must have 1 to {NAME_BYTES_MAX} bytes and no control characters");
        return Err(bad("account", problem));
    }
    Ok(())
}

/// The account that is charged: the one that was asked for, else the first that lists the user.
fn account(state: &State, spec: &JobSpec) -> Result<String, Refusal> {
    let user = &spec.user.name;
    let yours = || names(state.accounts_of(user).map(|account| account.name.as_str()));
    let Some(name) = &spec.account else {
        let first = state.accounts_of(user).next();
        let first = first.ok_or_else(|| Refusal::NoAccount { user: user.clone() })?;
        return Ok(first.name.clone());
    };
    match state.account_named(name) {
        None => Err(Refusal::UnknownAccount { account: name.clone(), user: user.clone(), yours: yours() }),
        Some(AccountConfig { users, .. }) if !users.contains_key(user) => {
            Err(Refusal::NotInAccount { account: name.clone(), user: user.clone(), yours: yours() })
        }
        Some(_) => Ok(name.clone()),
    }
}

fn check_qos(state: &State, spec: &JobSpec, name: String) -> Result<Option<String>, Refusal> {
    let Some(qos) = state.qos_named(&name) else {
        if name == QOS_NORMAL {
            return Ok(None);
        }
        let known = names(state.config.qos.iter().map(|qos| qos.name.as_str()));
        return Err(Refusal::UnknownQos { qos: name, known });
    };
    let mut above = spec.account.as_deref();
    // The tree has no circles, but this ends in any case.
    for _ in 0..=state.config.accounts.len() {
        match above {
            _ if qos.accounts.is_empty() => break,
            Some(account) if qos.accounts.contains(account) => break,
            Some(account) => {
                above = state.account_named(account).and_then(|account| account.parent.as_deref())
            }
            None => {
                let allowed = names(qos.accounts.iter().map(String::as_str));
                let account = spec.account.clone().unwrap_or_default();
                return Err(Refusal::QosNotForAccount { qos: name, account, allowed });
            }
        }
    }
    Ok(Some(name))
}

/// Names for people, no more than fit; "none" if there are none.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = all.take(NAMES_TOLD_MAX + 1).collect();
    match all.as_slice() {
        [] => "none".to_owned(),
        many if many.len() > NAMES_TOLD_MAX => format!("{}, ...", many[..NAMES_TOLD_MAX].join(", ")),
        few => few.join(", "),
    }
}
