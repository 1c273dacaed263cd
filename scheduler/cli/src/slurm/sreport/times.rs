//! The unit in which usage is told.

/// A unit of time, a part of the whole, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Times {
    /// Nothing but the part.
    Percent,
    /// A unit of so many seconds.
    Unit {
        /// Its name.
        name: &'static str,
        /// Its length, in seconds.
        seconds: u32,
        /// Whether the part follows it.
        percent: bool,
    },
}

/// How the formats are named; each may be cut short.
const NAMES: [(&str, Times); 7] = [
    ("secper", Times::Unit { name: "Seconds", seconds: 1, percent: true }),
    ("minper", Times::Unit { name: "Minutes", seconds: 60, percent: true }),
    ("hourper", Times::Unit { name: "Hours", seconds: 3600, percent: true }),
    ("seconds", Times::Unit { name: "Seconds", seconds: 1, percent: false }),
    ("minutes", Times::DEFAULT),
    ("hours", Times::Unit { name: "Hours", seconds: 3600, percent: false }),
    ("percent", Times::Percent),
];

impl Times {
    pub(super) const DEFAULT: Self = Self::Unit { name: "Minutes", seconds: 60, percent: false };

    /// Reads the name of a format, in any case. One that is cut short so that it may mean several is the plain unit.
    pub(super) fn read(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let exact = NAMES.iter().find(|(name, _)| *name == lower);
        let begun = || NAMES[3..].iter().find(|(name, _)| name.starts_with(&lower) && !lower.is_empty());
        exact.or_else(begun).map(|(_, times)| *times)
    }

    /// The line that says in which unit the usage of `what` is.
    pub(super) fn usage_unit(self, what: &str) -> String {
        match self {
            Self::Percent => "Usage reported in Percentage of Total".to_owned(),
            Self::Unit { name, percent: false, .. } => format!("Usage reported in {what} {name}"),
            Self::Unit { name, percent: true, .. } => {
                format!("Usage reported in {what} {name}/Percentage of Total")
            }
        }
    }

    /// The same of the time of jobs.
    pub(super) fn time_unit(self) -> String {
        match self {
            Self::Percent => "Time reported in Percentage of Total".to_owned(),
            Self::Unit { name, percent: false, .. } => format!("Time reported in {name}"),
            Self::Unit { name, percent: true, .. } => format!("Time reported in {name}/Percentage of Total"),
        }
    }

    /// Whether a part follows a number.
    pub(super) fn has_both(self) -> bool {
        matches!(self, Self::Unit { percent: true, .. })
    }

    /// Usage, and its part of a total where that is asked for.
    pub(super) fn text(self, used_s: f64, total_s: f64) -> String {
        let part = || if total_s > 0.0 { used_s / total_s * 100.0 } else { 0.0 };
        match self {
            Self::Percent => format!("{:.2}%", part()),
            Self::Unit { seconds, percent: false, .. } => format!("{:.0}", used_s / f64::from(seconds)),
            Self::Unit { seconds, percent: true, .. } => {
                format!("{:.0}({:.2}%)", used_s / f64::from(seconds), part())
            }
        }
    }

    /// How wide a column of usage is whose largest number is this: Slurm goes by the seconds, whatever the unit.
    pub(super) fn width(self, largest_s: f64) -> i32 {
        let (mut width, mut order) = (8, 1e8);
        while order < 1e25 && largest_s >= order {
            (width, order) = (width + 1, order * 10.0);
        }
        if self.has_both() { width + 9 } else { width }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_may_be_cut_short() {
        for (text, unit) in [
            ("m", "Minutes"),
            ("Hour", "Hours"),
            ("SECONDS", "Seconds"),
            ("hourper", "Hours/Percentage of Total"),
            ("p", "Percentage of Total"),
        ] {
            assert_eq!(Times::read(text).unwrap().time_unit(), format!("Time reported in {unit}"));
        }
        assert_eq!((Times::read("bogus"), Times::read("")), (None, None));
    }

    #[test]
    fn columns_widen_with_the_seconds() {
        let minutes = Times::DEFAULT;
        assert_eq!([1e7, 1e8, 2.7e9].map(|seconds| minutes.width(seconds)), [8, 9, 10]);
        assert_eq!(Times::read("minper").unwrap().width(0.0), 17);
        assert_eq!(minutes.text(122_640.0, 1_382_400.0), "2044");
        assert_eq!(Times::read("secper").unwrap().text(122_640.0, 1_382_400.0), "122640(8.87%)");
    }
}
