//! `/poolusagemetrics`.

use std::sync::Arc;

use axum::extract::{Extension, State as Shell};
use muster_batch::odata::{List, Properties, Property, Value as Of};
use muster_batch::{BatchError, wire};
use muster_core::ids::Timestamp;
use muster_core::state::Metered;

use super::call::{Call, Page};
use super::{Answer, Service};

const HOUR_US: u64 = 3_600_000_000;

struct Row<'a>(&'a Metered);

impl Properties for Row<'_> {
    fn value(&self, property: Property) -> Of<'_> {
        match property {
            Property::PoolId => Of::Text(&self.0.pool),
            _ => Of::None,
        }
    }
}

/// `GET /poolusagemetrics`: a row for each pool and hour; of the hour that is running without a time.
pub async fn metrics(Shell(service): Shell<Arc<Service>>, Extension(call): Extension<Call>) -> Answer {
    let mut page = Page::new(call.list_query(List::UsageMetrics)?);
    let now = service.shared.now();
    let start = call.instant("starttime")?.unwrap_or(now);
    let end = call.instant("endtime")?.unwrap_or(now);
    if start > end {
        let why = "it must not be after endtime";
        return Err(BatchError::invalid_query("starttime", &wire::iso(start), why).into());
    }
    // An hour that ends when the time begins, or begins when it ends, has no part in it.
    let hours = start.0 / HOUR_US..=Timestamp(end.0.saturating_sub(1).max(start.0)).0 / HOUR_US;
    let rows = {
        let reading = service.shared.read();
        reading.state().batch_metered(&call.caller.account, hours, now)
    };
    let named = |hour: u64, pool: &str| format!("{hour:012}/{pool}");
    let after = page.after().map(str::to_owned);
    let mut last: Option<String> = None;
    for ((hour, pool), metered) in &rows {
        let name = named(*hour, pool.as_str());
        if after.as_ref().is_some_and(|after| name <= *after) {
            continue;
        }
        if page.offer(&Row(metered), last.as_deref(), || wire::show_metered(*hour, metered)) {
            break;
        }
        last = Some(name);
    }
    call.page("poolusagemetrics", page)
}
