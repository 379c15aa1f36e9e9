//! Secrets: taken from the environment or from files, and shown nowhere.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::{Deserialize, Deserializer, de};

use crate::config::problem::Problem;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is said of a secret that is a number, a table and so on: never its value.
pub(crate) const NOT_TEXT: &str = "a secret is text in quotes";

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(NOT_TEXT)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                Err(E::custom(NOT_TEXT))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::custom(NOT_TEXT))
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(E::custom(NOT_TEXT))
            }
            fn visit_i128<E: de::Error>(self, _: i128) -> Result<Secret, E> {
                Err(E::custom(NOT_TEXT))
            }
            fn visit_u128<E: de::Error>(self, _: u128) -> Result<Secret, E> {
                Err(E::custom(NOT_TEXT))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(E::custom(NOT_TEXT))
            }
            fn visit_map<M: de::MapAccess<'de>>(self, _: M) -> Result<Secret, M::Error> {
                Err(de::Error::custom(NOT_TEXT))
            }
            fn visit_seq<S: de::SeqAccess<'de>>(self, _: S) -> Result<Secret, S::Error> {
                Err(de::Error::custom(NOT_TEXT))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Where `${VAR}` comes from.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A text of the file with `${VAR}` replaced, or `file:<path>` read (the file's text without its last line break).
/// What comes from the environment is never taken for a path, and shown nowhere.
pub(crate) fn resolve(
    text: &str,
    span: Range<usize>,
    folder: &Path,
    environment: Environment<'_>,
) -> Result<String, Problem> {
    let Some(path) = text.strip_prefix("file:") else {
        return expand(text, &span, environment);
    };
    read(path, span, folder, environment)
}

/// The text of a file without its last line break; `${VAR}` in its path is replaced.
pub(crate) fn read(
    path: &str,
    span: Range<usize>,
    folder: &Path,
    environment: Environment<'_>,
) -> Result<String, Problem> {
    let file = folder.join(expand(path, &span, environment)?);
    let read = std::fs::read_to_string(file).map_err(|error| {
        Problem::new(span, format!("cannot read `{path}`: {error}"))
            .help("make the file, readable by this user only; its path is relative to the configuration")
    })?;
    let line = read.strip_suffix('\n').unwrap_or(&read);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// A text with `${VAR}` replaced.
pub(crate) fn expand(
    text: &str,
    span: &Range<usize>,
    environment: Environment<'_>,
) -> Result<String, Problem> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let name = after.split_once('}').filter(|(name, _)| is_variable(name));
        // What follows `${` may be a part of a secret, unless it reads like the name of a variable.
        let Some((name, after)) = name else {
            return Err(Problem::new(
                span.clone(),
                "`${` that is not followed by a variable's name and `}`",
            )
            .help("write ${NAME} for a variable of the environment"));
        };
        let value = environment(name).ok_or_else(|| {
            Problem::new(span.clone(), format!("the environment has no variable `{name}`"))
                .help(format!("set it: export {name}=…"))
        })?;
        out.push_str(before);
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_variable(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn secrets_come_from_the_environment_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), "from-file\n").unwrap();
        let environment = |name: &str| (name == "KEY").then(|| "from-env".to_owned());
        let resolve =
            |text: &str| resolve(text, 0..1, folder.path(), &environment).map_err(|problem| problem.message);
        assert_eq!(resolve("plain").as_deref(), Ok("plain"));
        assert_eq!(resolve("a${KEY}b").as_deref(), Ok("afrom-envb"));
        assert_eq!(resolve("file:key").as_deref(), Ok("from-file"));
        assert_eq!(
            resolve("${NONE}"),
            Err("the environment has no variable `NONE`".to_owned())
        );
        assert!(resolve("file:none").is_err());
        for malformed in ["${KEY", "${}", "a${b-c}", "${1}"] {
            let message = resolve(malformed).unwrap_err();
            assert_eq!(
                message, "`${` that is not followed by a variable's name and `}`",
                "{malformed}"
            );
        }
    }

    #[test]
    fn what_comes_from_the_environment_is_no_path() {
        let environment = |_: &str| Some("file:key".to_owned());
        let resolved = resolve("${KEY}", 0..1, Path::new(""), &environment);
        assert_eq!(resolved.unwrap(), "file:key");
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }
}
