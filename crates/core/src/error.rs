//! One opaque error for every public surface of instep.
//!
//! An error is made where the failure is understood, with the [`Fault`] that decides what is done about it
//! and, where one exists, the remedy. Messages never carry row values or secrets.

use std::error::Error as StdError;
use std::fmt;

/// What kind of failure this is, and therefore who acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// May succeed when repeated: timeout, 429, a busy lock, failover. The indexer backs off and repeats the same
    /// entries; HTTP 503 with `Retry-After`.
    Transient,
    /// This document or row can never succeed as it is. The indexer writes a dead letter and moves on.
    Poison,
    /// Nothing can succeed until a person acts: a lost slot, refused credentials, an incompatible mapping. The set or
    /// the source halts; the others go on. HTTP 500.
    Fatal,
    /// The caller's input is wrong. HTTP 400.
    Invalid,
    /// The caller is not known. HTTP 401.
    Unauthenticated,
    /// The caller may not do this. HTTP 403.
    Denied,
    /// The thing named does not exist, or the caller may not see it. HTTP 404.
    NotFound,
    /// The state is not what the caller assumed. HTTP 409.
    Conflict,
}

impl Fault {
    /// The fault's name in JSON, logs and metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Transient => "transient",
            Fault::Poison => "poison",
            Fault::Fatal => "fatal",
            Fault::Invalid => "invalid",
            Fault::Unauthenticated => "unauthenticated",
            Fault::Denied => "denied",
            Fault::NotFound => "not_found",
            Fault::Conflict => "conflict",
        }
    }
}

/// A failure: a stable code, a message, the chain of contexts it passed through, a fault, and a remedy.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    fault: Fault,
    code: &'static str,
    message: String,
    contexts: Vec<String>,
    remedy: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of every fallible call of instep.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure with its fault, a stable snake_case `code`, and a message (lower case, no full stop, no row values).
    pub fn new(fault: Fault, code: &'static str, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            fault,
            code,
            message: message.into(),
            contexts: Vec::new(),
            remedy: None,
            source: None,
        }))
    }

    /// [`Error::new`] with [`Fault::Transient`].
    pub fn transient(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::Transient, code, message)
    }

    /// [`Error::new`] with [`Fault::Poison`].
    pub fn poison(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::Poison, code, message)
    }

    /// [`Error::new`] with [`Fault::Fatal`].
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::Fatal, code, message)
    }

    /// [`Error::new`] with [`Fault::Invalid`].
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::Invalid, code, message)
    }

    /// [`Error::new`] with [`Fault::Denied`].
    pub fn denied(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::Denied, code, message)
    }

    /// [`Error::new`] with [`Fault::NotFound`].
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Fault::NotFound, code, message)
    }

    /// The same failure with the next step a person can take.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// The same failure with what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same failure, said from one step further out: `while doing what`.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.0.contexts.push(context.into());
        self
    }

    /// Who acts on it.
    pub fn fault(&self) -> Fault {
        self.0.fault
    }

    /// The stable name of this failure, for programs, metrics and documentation.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// The innermost message, without contexts.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The next step a person can take, where one is known.
    pub fn remedy(&self) -> Option<&str> {
        self.0.remedy.as_deref()
    }

    /// Whether repeating the same call may succeed.
    pub fn is_transient(&self) -> bool {
        self.0.fault == Fault::Transient
    }
}

impl fmt::Display for Error {
    /// Contexts from the outermost in, then the message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.contexts.iter().rev() {
            write!(f, "{context}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

/// Adds a context to the error of a result.
pub trait ResultExt<T> {
    /// The same result; a failure is said from one step further out.
    fn context(self, context: impl FnOnce() -> String) -> Result<T>;
}

impl<T> ResultExt<T> for Result<T> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.context(context()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_said_outermost_first() {
        let error = Error::poison("too_long", "the key is too long")
            .context("building product")
            .context("settling set a");
        assert_eq!(
            error.to_string(),
            "settling set a: building product: the key is too long"
        );
        assert_eq!(error.fault(), Fault::Poison);
    }
}
