//! `scontrol show licenses`.

use super::Shown;
use crate::slurm::fault::Fault;

/// Every licence, or the one of this name. An unknown name shows nothing, as in Slurm.
pub(super) fn text(shown: &mut Shown<'_>, name: Option<&str>) -> Result<String, Fault> {
    let list = shown.client.licenses().map_err(Fault::client(shown.doing))?.licenses;
    if list.is_empty() {
        return Ok("No licenses configured in Slurm.\n".to_owned());
    }
    let mut out = String::new();
    let between = if shown.how.one_line { " " } else { "\n    " };
    for license in list.iter().filter(|license| name.is_none_or(|name| name == license.name)) {
        let free = u64::from(license.total).saturating_sub(license.held);
        out.push_str(&format!(
            "LicenseName={}{between}Total={} Used={} Free={free} Reserved=0 Remote=no\n",
            license.name, license.total, license.held
        ));
    }
    Ok(out)
}
