//! A pool that looks at what its nodes really use.

use std::time::Duration;

use crate::batch_people::Service;

/// What nodes say is at most some seconds old.
const SOON: Duration = Duration::from_secs(40);

/// The value of a variable that a formula sets, as a trial finds it.
fn tried(service: &Service, value: &str) -> Option<f64> {
    let line = format!(
        "muster batch pool autoscale farm --try --formula '$TargetDedicatedNodes = 1; $found = {value}'"
    );
    let found = service.good(&line);
    let after = found.split("$found=").nth(1)?;
    after.split(|c: char| c != '.' && c != '-' && !c.is_ascii_digit()).next()?.parse().ok()
}

#[test]
fn a_pool_grows_because_its_node_is_busy() {
    let Some(service) = Service::up_with("load", 2, |_| String::new()) else { return };
    let bench = &service.bench;
    service.good("muster batch pool create farm --class main --formula '$TargetDedicatedNodes = 1' --wait");
    service.good("muster batch job create burn --pool farm");
    bench.until("the node says that it is idle", SOON, || {
        tried(&service, "$CPUPercent.Count()").is_some_and(|count| count >= 1.0)
    });
    assert!(tried(&service, "$CPUPercent").is_some_and(|percent| percent < 20.0));
    // Other work of the machine leaves some of it to these.
    service
        .good("muster batch task add burn spin -- /bin/sh -c '(while :; do :; done) & while :; do :; done'");
    // A pool that begins to scale itself is sampled at once: nobody has to wait for half a minute.
    let grows = "$TargetDedicatedNodes = $CPUPercent > 20 ? 2 : 1";
    bench.until("the pool has grown", SOON, || {
        service.good(&format!("muster batch pool autoscale farm --formula '{grows}'"));
        service.json("muster batch pool show farm --json")["targetDedicatedNodes"] == 2
    });
    for (value, least) in
        [("$CPUPercent", 20.0), ("$MemoryBytes", 0.01), ("$DiskBytes", 0.01), ("$WallClockSeconds", 4.0)]
    {
        assert!(tried(&service, value).is_some_and(|found| found >= least), "{value}");
    }
    let shown = service.good("muster batch pool show farm");
    assert!(shown.contains("per cent of the cores"), "{shown}");
    service.good("muster batch job delete burn && muster batch pool delete farm");
}
