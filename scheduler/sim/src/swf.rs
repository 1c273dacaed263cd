//! Traces in the Standard Workload Format.
//!
//! One job a line in 18 blank-separated fields, -1 where something is unknown; lines that start with `;` are the
//! header. Format: Chapin et al., "Benchmarks and Standards for the Evaluation of Parallel Job Schedulers", JSSPP
//! 1999, and the Parallel Workloads Archive's page "The Standard Workload Format".

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::SimError;

/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 4096;
/// Most jobs in one trace.
pub const JOBS_MAX: usize = 10_000_000;
/// Most header lines in one trace.
pub const HEADER_LINES_MAX: usize = 100_000;
/// Fields of a job's line.
const FIELDS: usize = 18;
/// Largest number in a field: a hundred times the seconds since 1970.
const NUMBER_MAX: f64 = 1e12;

/// A trace as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trace {
    /// Processors of the machine, from the header line `MaxProcs`.
    pub max_procs: Option<u64>,
    /// Nodes of the machine, from the header line `MaxNodes`.
    pub max_nodes: Option<u64>,
    /// Seconds since 1970 at which the trace starts, from the header line `UnixStartTime`.
    pub unix_start_s: Option<u64>,
    /// The machine's name, from the header line `Computer`.
    pub computer: Option<String>,
    /// The jobs, in the order of their lines.
    pub jobs: Vec<SwfJob>,
}

/// The fields of a job's line that a replay needs; -1 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwfJob {
    /// Field 1: its number.
    pub number: i64,
    /// Field 2: when it was submitted, in seconds from the start of the trace.
    pub submit_s: i64,
    /// Field 4: how long it ran, in seconds.
    pub run_s: i64,
    /// Field 5: processors that it got.
    pub allocated: i64,
    /// Field 8: processors that it asked for.
    pub requested: i64,
    /// Field 9: the time that it asked for, in seconds.
    pub requested_time_s: i64,
    /// Field 12: whose it was.
    pub user: i64,
}

/// What is wrong with a trace. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum SwfError {
    /// It could not be read, or unpacked.
    #[error("line {line} cannot be read; a file that is packed must be a whole gzip file")]
    Read {
        /// The line.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is too long.
    #[error("line {line} has more than {LINE_BYTES_MAX} bytes")]
    LongLine {
        /// The line.
        line: u64,
    },
    /// A line has not as many fields as it should.
    #[error("line {line} has {found} fields; a job has {FIELDS}, blank-separated, -1 where one is unknown")]
    Fields {
        /// The line.
        line: u64,
        /// How many there are.
        found: usize,
    },
    /// A field is not a number.
    #[error(
        "line {line}, field {field} ({name}): '{text}' is not a number from -{NUMBER_MAX:.0e} to {NUMBER_MAX:.0e}"
    )]
    Number {
        /// The line.
        line: u64,
        /// The field, from 1.
        field: usize,
        /// What the field holds.
        name: &'static str,
        /// What stands there, cut short.
        text: String,
    },
    /// There are too many jobs.
    #[error("line {line}: more than {JOBS_MAX} jobs")]
    TooManyJobs {
        /// The line.
        line: u64,
    },
    /// There are too many header lines.
    #[error("line {line}: more than {HEADER_LINES_MAX} header lines")]
    TooLongHeader {
        /// The line.
        line: u64,
    },
}

/// Reads a trace from a file, which may be packed with gzip.
///
/// # Errors
/// [`SimError::Read`] if there is no such file, [`SimError::Trace`] if it is no trace.
pub fn read_file(path: &Path) -> Result<Trace, SimError> {
    let file = File::open(path).map_err(|source| SimError::Read { path: path.to_owned(), source })?;
    parse(file).map_err(|source| SimError::Trace { path: path.to_owned(), source })
}

/// Reads a trace, which may be packed with gzip.
///
/// # Errors
/// [`SwfError`], with the line.
pub fn parse(input: impl Read) -> Result<Trace, SwfError> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    let start = input.fill_buf().map_err(|source| SwfError::Read { line: 1, source })?;
    if start.starts_with(&[0x1f, 0x8b]) {
        parse_lines(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(input)))
    } else {
        parse_lines(input)
    }
}

fn parse_lines(mut input: impl BufRead) -> Result<Trace, SwfError> {
    let mut trace = Trace::default();
    let mut buffer = Vec::with_capacity(LINE_BYTES_MAX + 1);
    let (mut line, mut header_lines) = (0, 0);
    loop {
        line += 1;
        buffer.clear();
        let read = (&mut input).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut buffer);
        if read.map_err(|source| SwfError::Read { line, source })? == 0 {
            return Ok(trace);
        }
        if buffer.len() > LINE_BYTES_MAX {
            return Err(SwfError::LongLine { line });
        }
        let text = buffer.trim_ascii();
        if let Some(header) = text.strip_prefix(b";") {
            header_lines += 1;
            if header_lines > HEADER_LINES_MAX {
                return Err(SwfError::TooLongHeader { line });
            }
            read_header(&mut trace, &String::from_utf8_lossy(header));
        } else if !text.is_empty() {
            if trace.jobs.len() >= JOBS_MAX {
                return Err(SwfError::TooManyJobs { line });
            }
            trace.jobs.push(read_job(text, line)?);
        }
    }
}

/// A header line is `Label: value`; others are remarks. The first of a label counts.
fn read_header(trace: &mut Trace, header: &str) {
    let Some((label, value)) = header.split_once(':') else { return };
    let number = || {
        let digits: String = value.trim().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok().filter(|number| *number > 0)
    };
    match label.trim() {
        "MaxProcs" if trace.max_procs.is_none() => trace.max_procs = number(),
        "MaxNodes" if trace.max_nodes.is_none() => trace.max_nodes = number(),
        "UnixStartTime" if trace.unix_start_s.is_none() => trace.unix_start_s = number(),
        "Computer" if trace.computer.is_none() => trace.computer = Some(value.trim().to_owned()),
        _ => {}
    }
}

fn read_job(text: &[u8], line: u64) -> Result<SwfJob, SwfError> {
    let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
    let mut found = 0;
    for field in text.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()) {
        if let Some(place) = fields.get_mut(found) {
            *place = field;
        }
        found += 1;
    }
    if found != FIELDS {
        return Err(SwfError::Fields { line, found });
    }
    let number = |field: usize, name: &'static str| {
        read_number(fields[field - 1]).ok_or_else(|| {
            let text = String::from_utf8_lossy(fields[field - 1]).chars().take(40).collect();
            SwfError::Number { line, field, name, text }
        })
    };
    Ok(SwfJob {
        number: number(1, "job number")?,
        submit_s: number(2, "submit time")?,
        run_s: number(4, "run time")?,
        allocated: number(5, "allocated processors")?,
        requested: number(8, "requested processors")?,
        requested_time_s: number(9, "requested time")?,
        user: number(12, "user")?,
    })
}

/// A number, of which the whole part counts: some logs write seconds with decimals.
fn read_number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = text.strip_prefix(b"-").map_or((false, text), |digits| (true, digits));
    // Nearly all are short and whole: the general way costs more than the rest of the line.
    if !digits.is_empty() && digits.len() <= 12 && digits.iter().all(u8::is_ascii_digit) {
        let value = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        return Some(if negative { -value } else { value });
    }
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (value.is_finite() && value.abs() <= NUMBER_MAX).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    const LINE: &str = " 7  10 -1 60 4 12.5 -1 8 120 -1 1 3 1 -1 -1 1 -1 -1\n";

    #[test]
    fn header_and_jobs_are_read() {
        let text = format!("; Computer: IBM SP2\n;MaxNodes: 12 (wide)\n; MaxProcs: -1\n; a remark\n\n{LINE}");
        let trace = parse(text.as_bytes()).unwrap();
        assert_eq!((trace.max_nodes, trace.max_procs), (Some(12), None));
        assert_eq!(trace.computer.as_deref(), Some("IBM SP2"));
        let job = SwfJob {
            number: 7,
            submit_s: 10,
            run_s: 60,
            allocated: 4,
            requested: 8,
            requested_time_s: 120,
            user: 3,
        };
        assert_eq!(trace.jobs, [job]);
    }

    #[test]
    fn packed_traces_are_unpacked() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(LINE.repeat(3).as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(parse(packed.as_slice()).unwrap().jobs.len(), 3);
        assert!(matches!(parse(&packed[..packed.len() - 9]), Err(SwfError::Read { .. })));
    }

    #[test]
    fn errors_name_the_line_and_what_is_right() {
        let error = parse(format!("; x\n{LINE}1 2 3\n").as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 3 has 3 fields; a job has 18"), "{error}");
        let error = parse(LINE.replace("60", "soon").as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("line 1, field 4 (run time): 'soon' is not a number"), "{error}");
        let long = "1 ".repeat(LINE_BYTES_MAX);
        assert!(matches!(parse(long.as_bytes()), Err(SwfError::LongLine { line: 1 })));
    }

    #[test]
    fn only_the_whole_part_of_a_number_counts() {
        for (text, expected) in [
            ("12", Some(12)),
            ("-1", Some(-1)),
            ("12.9", Some(12)),
            ("1e3", Some(1000)),
            ("1e300", None),
            ("9999999999999", None),
            ("nan", None),
            ("-", None),
            ("", None),
        ] {
            assert_eq!(read_number(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_trace_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(bytes.as_slice());
        }

        #[test]
        fn nearly_traces_are_a_trace_or_an_error(text in "([-0-9.eE; \t\n]{0,12}(MaxProcs: )?){0,30}") {
            let lines = text.lines().count();
            if let Ok(trace) = parse(text.as_bytes()) {
                prop_assert!(trace.jobs.len() <= lines);
            }
        }

        #[test]
        fn what_is_written_is_read(number in 1i64..1_000_000, submit in -1i64..1_000_000_000, procs in -1i64..100_000) {
            let line = format!("{number} {submit} 0 5 {procs} 0 0 -1 -1 0 0 0 0 0 0 0 0 0");
            let job = parse(line.as_bytes()).unwrap().jobs[0];
            prop_assert_eq!((job.number, job.submit_s, job.allocated), (number, submit, procs));
        }
    }
}
