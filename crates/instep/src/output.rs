//! How commands speak: results on standard output, everything else on standard error.
//!
//! Guarantees: with `--json`, standard output holds one JSON object (or array) and nothing else, and standard error one
//! object in each line. Without it, a terminal shows a bar that moves, anything else a line now and then. What cannot be
//! written because nobody reads it any more is dropped.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use instep_core::{Error, Finding, Severity};
use serde::Serialize;
use serde_json::json;

/// How often progress is told where no terminal shows it.
const INTERVAL: Duration = Duration::from_secs(5);

/// Where and how a command speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    terminal: bool,
}

impl Output {
    /// For this process: standard error decides whether there is a terminal.
    pub(crate) fn new(json: bool) -> Self {
        Output {
            json,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    /// The result of a command, once: the text, or the same as JSON.
    pub(crate) fn result(&self, text: &str, json: &impl Serialize) {
        let text = match self.json {
            true => serde_json::to_string(json).expect("results are made of names, numbers and lists"),
            false => text.trim_end_matches('\n').to_owned(),
        };
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// What `check` found, as the result.
    pub(crate) fn findings(&self, findings: &[Finding]) {
        self.result(
            &findings_text(findings, None),
            &json!({ "findings": findings, "ok": is_met(findings) }),
        );
    }

    /// A line about what is going on.
    pub(crate) fn note(&self, text: &str) {
        let line = match self.json {
            true => json!({ "note": text }).to_string(),
            false => text.to_owned(),
        };
        let _ = writeln!(std::io::stderr(), "{line}");
    }

    /// What failed, why, and the next step.
    pub(crate) fn error(&self, error: &Error) {
        let text = match self.json {
            true => error_json(error).to_string(),
            false => error_text(error),
        };
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// Long work that begins now: what it is, and of how many steps, where that is known.
    pub(crate) fn progress(&self, what: &str, total: Option<u64>) -> Progress {
        let bar = (self.terminal && !self.json).then(|| bar(what, total));
        Progress {
            what: what.to_owned(),
            done: 0,
            total,
            json: self.json,
            bar,
            started: Instant::now(),
            told: Instant::now(),
        }
    }
}

/// Whether no finding is an error; warnings do not count.
pub(crate) fn is_met(findings: &[Finding]) -> bool {
    findings.iter().all(|found| found.severity != Severity::Error)
}

/// Long work, shown while it goes on. Dropping it takes the bar away.
#[derive(Debug)]
pub(crate) struct Progress {
    what: String,
    done: u64,
    total: Option<u64>,
    json: bool,
    bar: Option<ProgressBar>,
    started: Instant,
    told: Instant,
}

impl Progress {
    /// So much is done in all, of so much. Cheap: to be called as often as it changes.
    pub(crate) fn set(&mut self, done: u64, total: Option<u64>) {
        (self.done, self.total) = (done, total);
        match &self.bar {
            Some(bar) => {
                if let Some(total) = total {
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            None if self.told.elapsed() >= INTERVAL => {
                self.told = Instant::now();
                self.tell(false);
            }
            None => {}
        }
    }

    /// The work is over: its last line.
    pub(crate) fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.tell(true);
    }

    fn tell(&self, finished: bool) {
        let pace = Pace {
            done: self.done,
            total: self.total,
            elapsed: self.started.elapsed(),
            finished,
        };
        let line = match self.json {
            true => pace.json(&self.what).to_string(),
            false => pace.text(&self.what),
        };
        let _ = writeln!(std::io::stderr(), "{line}");
    }
}

fn bar(what: &str, total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{msg} {wide_bar} {human_pos} of {human_len}, {per_sec}, {eta} left",
        None => "{msg} {spinner} {human_pos}, {per_sec}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::new_spinner(),
    };
    bar.with_style(style).with_message(what.to_owned())
}

/// How far work is, and how fast it goes.
#[derive(Clone, Copy, Debug)]
struct Pace {
    done: u64,
    total: Option<u64>,
    elapsed: Duration,
    finished: bool,
}

impl Pace {
    /// Steps in a second, over the whole time.
    fn rate(&self) -> Option<f64> {
        let seconds = self.elapsed.as_secs_f64();
        (seconds > 0.0 && self.done > 0).then(|| self.done as f64 / seconds)
    }

    fn seconds_left(&self) -> Option<u64> {
        let left = self.total?.saturating_sub(self.done);
        self.rate().map(|rate| (left as f64 / rate).ceil() as u64)
    }

    fn text(&self, what: &str) -> String {
        let mut text = format!("{what}: {}", thousands(self.done));
        if let Some(total) = self.total.filter(|_| !self.finished) {
            text.push_str(&format!(" of {}", thousands(total)));
        }
        if self.finished {
            text.push_str(&format!(" in {:.1} s", self.elapsed.as_secs_f64()));
        }
        if let Some(rate) = self.rate() {
            text.push_str(&format!(", {}/s", thousands(rate.round() as u64)));
        }
        if let Some(left) = self.seconds_left().filter(|_| !self.finished) {
            text.push_str(&format!(", {} left", duration(left)));
        }
        text
    }

    fn json(&self, what: &str) -> serde_json::Value {
        json!({
            "progress": what,
            "done": self.done,
            "total": self.total,
            "elapsed_ms": u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
            "per_second": self.rate(),
            "seconds_left": self.seconds_left().filter(|_| !self.finished),
            "finished": self.finished,
        })
    }
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3_600)),
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A table of what was found, and below it what mends it, each statement in lines of its own that can be copied.
fn findings_text(findings: &[Finding], width: Option<u16>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = width {
        table.set_width(width);
    }
    for found in findings {
        table.add_row([severity(found.severity), &found.subject, &found.message]);
    }
    let table = table.to_string();
    let mut text: String = table
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    let wanting = |found: &&Finding| found.severity != Severity::Ok;
    let remedies = findings
        .iter()
        .filter(wanting)
        .filter_map(|found| Some((found, found.remedy.as_ref()?)));
    for (found, remedy) in remedies {
        text.push_str(&format!("\n{} ({}):\n", found.subject, found.code));
        remedy
            .lines()
            .for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    let count = |severity| findings.iter().filter(|found| found.severity == severity).count();
    let plural = |count: usize, what: &str| match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    text.push_str(&format!(
        "\n{}, {}\n",
        plural(errors, "error"),
        plural(warnings, "warning")
    ));
    text
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warning => "warning",
        Severity::Error => "ERROR",
    }
}

fn error_text(error: &Error) -> String {
    let mut text = format!("error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        let why = source.to_string();
        if !text.contains(&why) {
            text.push_str(&format!("\n  because: {why}"));
        }
        cause = source.source();
    }
    if let Some(remedy) = error.remedy() {
        text.push_str(&format!("\n  next: {remedy}"));
    }
    text
}

fn error_json(error: &Error) -> serde_json::Value {
    json!({ "error": { "code": error.code(), "message": error.to_string(), "remedy": error.remedy() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_far_and_how_fast() {
        let pace = |done, total, seconds, finished| Pace {
            done,
            total,
            elapsed: Duration::from_secs(seconds),
            finished,
        };
        let cases = [
            (
                pace(12_000, Some(20_000), 3, false),
                "ad: 12,000 of 20,000, 4,000/s, 2 s left",
            ),
            (
                pace(1_000, Some(1_000_000), 1, false),
                "ad: 1,000 of 1,000,000, 1,000/s, 17 min left",
            ),
            (
                pace(1, Some(1_000_000), 1, false),
                "ad: 1 of 1,000,000, 1/s, 278 h left",
            ),
            (pace(0, Some(10), 0, false), "ad: 0 of 10"),
            (pace(7, None, 7, false), "ad: 7, 1/s"),
            (
                pace(20_000, Some(20_000), 5, true),
                "ad: 20,000 in 5.0 s, 4,000/s",
            ),
            // More than was expected: rows were added meanwhile.
            (pace(11, Some(10), 1, false), "ad: 11 of 10, 11/s, 0 s left"),
        ];
        for (pace, expected) in cases {
            assert_eq!(pace.text("ad"), expected);
        }
        let json = pace(12_000, Some(20_000), 3, false).json("ad");
        assert_eq!(
            json,
            json!({"progress": "ad", "done": 12_000, "total": 20_000, "elapsed_ms": 3_000, "per_second": 4_000.0, "seconds_left": 2, "finished": false})
        );
    }

    #[test]
    fn errors_say_why_and_what_next() {
        let error = Error::fatal("state_unwritable", "cannot open the state")
            .with_source(std::io::Error::other("disk on fire"))
            .with_remedy("put it out")
            .context("starting");
        assert_eq!(
            error_text(&error),
            "error: starting: cannot open the state\n  because: disk on fire\n  next: put it out"
        );
        assert_eq!(
            error_json(&error),
            json!({"error": {"code": "state_unwritable", "message": "starting: cannot open the state", "remedy": "put it out"}})
        );
        // A cause that the message has already is not said twice.
        let error =
            Error::fatal("x", "cannot open: disk on fire").with_source(std::io::Error::other("disk on fire"));
        assert_eq!(error_text(&error), "error: cannot open: disk on fire");
        assert_eq!(error_json(&error)["error"]["remedy"], serde_json::Value::Null);
    }

    #[test]
    fn findings_and_what_mends_them() {
        let found = |severity, subject: &str, message: &str, remedy: Option<&str>| Finding {
            severity,
            code: "code".to_owned(),
            subject: subject.to_owned(),
            message: message.to_owned(),
            remedy: remedy.map(str::to_owned),
        };
        let findings = [
            found(Severity::Ok, "state", "fine", Some("not shown")),
            found(
                Severity::Warning,
                "table ad",
                "no index",
                Some("create index a;\ncreate index b;"),
            ),
            found(Severity::Error, "table x", "no key", None),
        ];
        let text = findings_text(&findings, Some(60));
        let expected = " ok       state     fine\n warning  table ad  no index\n ERROR    table x   no key\n\ntable ad (code):\n    create index a;\n    create index b;\n\n1 error, 1 warning\n";
        assert_eq!(text, expected);
        assert!(!is_met(&findings) && is_met(&findings[..2]));
    }
}
