//! `sreport cluster Utilization`.

use muster_client::api::UsageView;

use super::{Field, Sheet, Tres};
use crate::slurm::fault::Fault;
use crate::slurm::listing::Head;

const FIELDS: [Field; 10] = [
    ("cluster", Head { header: "Cluster", width: 9 }),
    ("trescount", Head { header: "TRES Count", width: 10 }),
    ("tresname", Head { header: "TRES Name", width: 14 }),
    ("allocated", Head { header: "Allocated", width: 8 }),
    ("down", Head { header: "Down", width: 8 }),
    ("planned", Head { header: "Planned", width: 8 }),
    ("planneddown", Head { header: "PLND Down", width: 8 }),
    ("idle", Head { header: "Idle", width: 8 }),
    ("reported", Head { header: "Reported", width: 8 }),
    ("overcommitted", Head { header: "Over Comm", width: 8 }),
];

/// Seconds of one resource.
struct Row {
    tres: Tres,
    count: f64,
    allocated: f64,
    down: f64,
    reported: f64,
}

impl Row {
    fn idle(&self) -> f64 {
        (self.reported - self.allocated - self.down).max(0.0)
    }

    /// Usage by the header of its column; none for columns of something else.
    fn seconds(&self, header: &str) -> Option<f64> {
        match header {
            "Allocated" => Some(self.allocated),
            "Down" => Some(self.down),
            "Idle" => Some(self.idle()),
            "Reported" => Some(self.reported),
            // What is planned, and what is kept for maintenance, is idle here.
            "PLND Down" | "Planned" | "Over Comm" => Some(0.0),
            _ => None,
        }
    }
}

pub(super) fn write(sheet: &Sheet) -> Result<String, Fault> {
    let mut allocated = UsageView::default();
    sheet.usage.lines.iter().for_each(|line| allocated.add(&line.used, 1.0));
    let row = |tres: &Tres| Row {
        tres: tres.clone(),
        count: tres.of(&sheet.usage.capacity),
        allocated: tres.of(&allocated),
        down: tres.of(&sheet.usage.away),
        reported: tres.of(&sheet.usage.reported),
    };
    // Without any usage there is nothing that a report could be of.
    let rows: Vec<Row> = sheet.tres.iter().map(row).filter(|row| row.reported > 0.0).collect();

    let default = if sheet.wanted.tres.is_some() {
        "cluster,tresname,allocated,down,planneddown,idle,planned,reported"
    } else {
        "cluster,allocated,down,planneddown,idle,planned,reported"
    };
    let mut heads = sheet.fields(&FIELDS, default)?;
    for (place, head) in heads.iter_mut().enumerate() {
        let seconds = rows.iter().filter_map(|row| row.seconds(head.header));
        let largest = seconds.fold(0.0, f64::max);
        let is_usage = !matches!(head.header, "Cluster" | "TRES Count" | "TRES Name");
        if is_usage && !sheet.has_width(place) {
            head.width = sheet.wanted.times.width(largest);
        }
    }
    let text = |head: &Head, row: &Row| match row.seconds(head.header) {
        Some(seconds) => sheet.wanted.times.text(seconds, row.reported),
        None if head.header == "Cluster" => sheet.cluster.clone(),
        None if head.header == "TRES Name" => row.tres.to_string(),
        None => format!("{:.0}", row.count),
    };
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| heads.iter().map(|head| text(head, row)).collect()).collect();
    let mut out = String::new();
    sheet.title(&mut out, "Cluster Utilization", false, &sheet.unit());
    sheet.table(&mut out, &heads, &rows);
    Ok(out)
}
