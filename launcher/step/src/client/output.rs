//! Where the output of the ranks goes: whole lines, each from one rank, with its label if that is wished.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use crate::frames::Stream;

/// A line that is longer is written in parts.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Where a stream's bytes are written.
#[derive(Debug)]
pub(super) enum Sink {
    /// The starter's standard output.
    Stdout,
    /// The starter's standard error.
    Stderr,
    /// A file for all ranks.
    File(File),
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Stdout => {
                let mut out = std::io::stdout().lock();
                out.write_all(bytes)?;
                out.flush()
            }
            Self::Stderr => std::io::stderr().write_all(bytes),
            Self::File(file) => file.write_all(bytes),
        }
    }
}

/// The output of a step.
#[derive(Debug)]
pub(super) struct Outputs {
    stdout: Sink,
    /// `None`: where the output goes.
    stderr: Option<Sink>,
    /// The width of labels.
    label: Option<usize>,
    unbuffered: bool,
    /// Beginnings of lines, by rank and stream.
    begun: BTreeMap<(u32, bool), Vec<u8>>,
}

impl Outputs {
    pub fn new(stdout: Sink, stderr: Option<Sink>, label: Option<usize>, unbuffered: bool) -> Self {
        Self { stdout, stderr, label, unbuffered, begun: BTreeMap::new() }
    }

    /// Takes what a rank wrote.
    ///
    /// # Errors
    ///
    /// Those of the place where it goes.
    pub fn take(&mut self, rank: u32, stream: Stream, bytes: &[u8]) -> std::io::Result<()> {
        let to_stderr = stream == Stream::Stderr;
        if self.unbuffered && self.label.is_none() {
            return self.sink(to_stderr).write(bytes);
        }
        let mut line = self.begun.remove(&(rank, to_stderr)).unwrap_or_default();
        let mut out = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if line.ends_with(b"\n") || line.len() >= LINE_BYTES_MAX {
                self.put_line(rank, &line, &mut out);
                line.clear();
            }
        }
        if !line.is_empty() {
            self.begun.insert((rank, to_stderr), line);
        }
        if out.is_empty() { Ok(()) } else { self.sink(to_stderr).write(&out) }
    }

    /// Writes the lines that a rank has not ended.
    pub fn end(&mut self, rank: u32) -> std::io::Result<()> {
        for to_stderr in [false, true] {
            if let Some(line) = self.begun.remove(&(rank, to_stderr)) {
                let mut out = Vec::new();
                self.put_line(rank, &line, &mut out);
                self.sink(to_stderr).write(&out)?;
            }
        }
        Ok(())
    }

    fn put_line(&self, rank: u32, line: &[u8], out: &mut Vec<u8>) {
        if let Some(width) = self.label {
            out.extend_from_slice(format!("{rank:width$}: ").as_bytes());
        }
        out.extend_from_slice(line);
        if self.label.is_some() && !line.ends_with(b"\n") {
            out.push(b'\n');
        }
    }

    fn sink(&mut self, to_stderr: bool) -> &mut Sink {
        match &mut self.stderr {
            Some(stderr) if to_stderr => stderr,
            _ => &mut self.stdout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    fn written(label: Option<usize>, unbuffered: bool) -> String {
        let mut file = tempfile::tempfile().unwrap();
        let mut outputs = Outputs::new(Sink::File(file.try_clone().unwrap()), None, label, unbuffered);
        for (rank, stream, text) in [
            (10, Stream::Stdout, "a"),
            (2, Stream::Stdout, "x\ny\nz"),
            (10, Stream::Stderr, "e\n"),
            (10, Stream::Stdout, "b\n"),
        ] {
            outputs.take(rank, stream, text.as_bytes()).unwrap();
        }
        outputs.end(2).unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn lines_stay_whole_and_are_labelled() {
        assert_eq!(written(None, false), "x\ny\ne\nab\nz");
        assert_eq!(written(Some(2), false), " 2: x\n 2: y\n10: e\n10: ab\n 2: z\n");
        assert_eq!(written(None, true), "ax\ny\nze\nb\n");
    }
}
