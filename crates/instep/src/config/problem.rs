//! What is wrong with a configuration: the file, the place, the offending text, and the names that exist.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use instep_core::Error;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What is wrong, with the offending text.
    pub(crate) message: String,
    /// What to do, or the names that exist.
    pub(crate) help: Option<String>,
    /// Where it stands in the file, in bytes.
    pub(crate) span: Range<usize>,
}

impl Problem {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Problem {
            message: message.into(),
            help: None,
            span,
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// A name that is not among those that exist.
    pub(crate) fn unknown<'a>(
        span: Range<usize>,
        what: &str,
        name: &str,
        place: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let is_name = |name: &&str| instep_core::Expression::of_column(name).is_none();
        let mut known: Vec<&str> = known.into_iter().filter(is_name).collect();
        known.sort_unstable();
        known.dedup();
        let help = match known.is_empty() {
            true => "there are none".to_owned(),
            false => format!("there are: {}", known.join(", ")),
        };
        Problem::new(span, format!("unknown {what} `{name}`{place}")).help(help)
    }
}

/// A configuration file's text, for messages that point into it.
#[derive(Clone)]
pub(crate) struct Text {
    /// The file.
    pub(crate) path: PathBuf,
    text: String,
}

/// The path alone: the text may hold secrets.
impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Text").field(&self.path).finish()
    }
}

impl Text {
    pub(crate) fn new(path: &Path, text: String) -> Self {
        Text {
            path: path.to_owned(),
            text,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// `file:line:column` of a byte.
    fn place(&self, at: usize) -> String {
        let before = self.text.get(..at).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.path.display())
    }

    /// All problems as one error, one line for each and one for its help. Lines of the file are not repeated: one might
    /// hold a secret.
    pub(crate) fn error(&self, mut problems: Vec<Problem>) -> Error {
        problems.sort_by_key(|problem| problem.span.start);
        problems.dedup();
        let lines = problems.iter().map(|problem| {
            let help = problem
                .help
                .as_ref()
                .map(|help| format!("\n    {help}"))
                .unwrap_or_default();
            format!("{}: {}{help}", self.place(problem.span.start), problem.message)
        });
        Error::invalid("bad_configuration", lines.collect::<Vec<_>>().join("\n"))
    }
}
