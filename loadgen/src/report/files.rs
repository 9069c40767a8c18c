//! What `--out DIR` writes, and how a stored report is read again.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};
use thiserror::Error;

use super::{FORMAT, Report, csv, hgrm, html};

/// The report for programs; what `report A.json B.json` reads.
const JSON: &str = "result.json";
const CSV: &str = "series.csv";
const HGRM: &str = "latency.hgrm";
const HTML: &str = "report.html";

/// Why a report can't be stored or read.
#[derive(Debug, Error)]
pub enum Error {
    /// The file system.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// No report.
    #[error("{} is not a report of this program: {source}", path.display())]
    Json {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A report of another time.
    #[error("{} has layout {found}; this program reads layout {FORMAT}: use the version that wrote it", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Its layout.
        found: u32,
    },
}

/// All that must be known before the rest is read.
#[derive(Deserialize)]
struct Layout {
    format: u32,
}

/// Reads a stored report; a directory stands for the `result.json` in it.
///
/// # Errors
///
/// When there is none, or one that is not understood.
pub fn read(path: &Path) -> Result<Report, Error> {
    let path = if path.is_dir() { path.join(JSON) } else { path.to_owned() };
    let text = fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    let Layout { format } = serde_json::from_str(&text).map_err(|source| Error::Json { path: path.clone(), source })?;
    if format != FORMAT {
        return Err(Error::Format { path, found: format });
    }
    serde_json::from_str(&text).map_err(|source| Error::Json { path, source })
}

impl Report {
    /// Writes `result.json`, `series.csv`, `latency.hgrm` and `report.html` into a directory, which is made if needed.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        let failed = |path: &Path, source| Error::File { path: path.to_owned(), source };
        fs::create_dir_all(directory).map_err(|source| failed(directory, source))?;
        let distribution = hgrm::percentiles(&self.distributions.latency, self.summary.latency.as_ref());
        let files = [(JSON, self.json()), (CSV, csv::series(self)), (HGRM, distribution), (HTML, html::page(self))];
        files.into_iter().try_for_each(|(name, text)| {
            let path = directory.join(name);
            fs::write(&path, text).map_err(|source| failed(&path, source))
        })
    }

    /// As JSON: indented so far as people read it, a line per second and per point of a distribution.
    pub fn json(&self) -> String {
        let mut bytes = Vec::new();
        let formatter = Shallow { depth: 0, pretty: PrettyFormatter::new() };
        let written = self.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter));
        written.expect("a report has names for keys, and a Vec takes all");
        bytes.push(b'\n');
        String::from_utf8(bytes).expect("JSON is UTF-8")
    }
}

/// How deep JSON is indented. What lies deeper stands on one line: a second has thirty figures.
const INDENTED: usize = 2;

/// Indents the upper levels only.
struct Shallow {
    depth: usize,
    pretty: PrettyFormatter<'static>,
}

/// Passes a call on to the formatter that is right for the depth.
macro_rules! by_depth {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        if $self.depth > INDENTED { CompactFormatter.$method($($argument),*) } else { $self.pretty.$method($($argument),*) }
    };
}

impl Formatter for Shallow {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        by_depth!(self.begin_array(writer))
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let result = by_depth!(self.end_array(writer));
        self.depth -= 1;
        result
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        by_depth!(self.begin_array_value(writer, first))
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        by_depth!(self.end_array_value(writer))
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.depth += 1;
        by_depth!(self.begin_object(writer))
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let result = by_depth!(self.end_object(writer));
        self.depth -= 1;
        result
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        by_depth!(self.begin_object_key(writer, first))
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        by_depth!(self.begin_object_value(writer))
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        by_depth!(self.end_object_value(writer))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn directory(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("loadgen-{name}-{}", std::process::id()))
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let (report, out) = (samples::report(), directory("out"));
        report.write(&out).unwrap();
        assert_eq!(read(&out).unwrap(), report);
        assert_eq!(read(&out.join(JSON)).unwrap(), report);
        for (name, start) in [(CSV, "second,"), (HGRM, "       Value"), (HTML, "<!DOCTYPE html>")] {
            assert!(fs::read_to_string(out.join(name)).unwrap().starts_with(start), "{name}");
        }
        fs::remove_dir_all(out).unwrap();
    }

    #[test]
    fn json_has_a_line_per_second() {
        let json = samples::report().json();
        let series = json.lines().filter(|line| line.trim_start().starts_with("{\"at\":")).count();
        assert_eq!(series, 7 + 6, "rows and readings of the broker:\n{json}");
        assert!(json.lines().any(|line| line == "    \"kernel\": \"Linux 6.18.0 x86_64\","), "{json}");
    }

    #[test]
    fn a_report_of_another_layout_is_named_as_such() {
        let path = directory("layout").with_extension("json");
        fs::write(&path, "{\"format\": 99}").unwrap();
        assert!(matches!(read(&path), Err(Error::Format { found: 99, .. })));
        fs::write(&path, "{\"format\": 1}").unwrap();
        assert!(matches!(read(&path), Err(Error::Json { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(read(&path), Err(Error::File { .. })));
    }
}
