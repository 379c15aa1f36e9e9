//! Documents: what the builder makes and engines store.

use std::sync::Arc;

use serde::Serialize;

use crate::key::DocId;
use crate::name::Language;

/// A built document. Two builds of the same rows are equal, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its id inside the collection.
    pub id: DocId,
    /// The partition it lies in.
    pub language: Language,
    /// Who may read it.
    pub readers: Readers,
    /// Its fields: one JSON object in canonical form (fields in the order of the definition, no white space).
    pub source: Arc<str>,
}

impl Document {
    /// How many arrays and objects of one field's value may lie in each other: deeper values are not read, and no engine
    /// takes a document that has one.
    pub const DEEPEST: usize = 100;
}

/// One entry of a document's readers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Reader {
    /// Callers whose subject or one of whose units is called so.
    Named(String),
    /// The caller whose subject is called so; a unit of that name is another.
    Subject(String),
}

impl Reader {
    fn name(&self) -> &str {
        match self {
            Reader::Named(name) | Reader::Subject(name) => name,
        }
    }

    /// As engines index it: `=name` or `@name`.
    fn token(&self) -> String {
        match self {
            Reader::Named(name) => format!("={name}"),
            Reader::Subject(name) => format!("@{name}"),
        }
    }

    fn of_token(token: &str) -> Option<Reader> {
        let named = token.strip_prefix('=').map(|name| Reader::Named(name.to_owned()));
        named.or_else(|| {
            token
                .strip_prefix('@')
                .map(|name| Reader::Subject(name.to_owned()))
        })
    }
}

/// Who may read a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everybody.
    Public,
    /// Callers who are allowed and not denied. Both lists are sorted, without duplicates.
    Only {
        /// These; empty: nobody.
        allow: Vec<Reader>,
        /// Not these, whatever allows them.
        deny: Vec<Reader>,
    },
}

impl Readers {
    /// Those who are allowed and not denied. Empty names are left out: no caller can have one.
    pub fn of(mut allow: Vec<Reader>, mut deny: Vec<Reader>) -> Self {
        for list in [&mut allow, &mut deny] {
            list.retain(|reader| !reader.name().is_empty());
            list.sort();
            list.dedup();
        }
        Readers::Only { allow, deny }
    }

    /// Callers with one of these names.
    pub fn only(names: Vec<String>) -> Self {
        Readers::of(names.into_iter().map(Reader::Named).collect(), Vec::new())
    }

    /// Nobody.
    pub fn nobody() -> Self {
        Readers::of(Vec::new(), Vec::new())
    }

    /// As engines index them: `*` for everybody; `=name` for a name and `@name` for a subject, after `!` where it is
    /// denied. No name reads like another token.
    pub fn tokens(&self) -> Vec<String> {
        match self {
            Readers::Public => vec![Self::PUBLIC.to_owned()],
            Readers::Only { allow, deny } => {
                let denied = deny.iter().map(Reader::token).map(denied);
                allow.iter().map(Reader::token).chain(denied).collect()
            }
        }
    }

    /// The readers with these tokens, in any order. A token that [`Self::tokens`] does not make admits nobody.
    pub fn of_tokens<'a>(tokens: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut allow, mut deny, mut public) = (Vec::new(), Vec::new(), false);
        for token in tokens {
            match token.strip_prefix(DENIED) {
                _ if token == Self::PUBLIC => public = true,
                Some(token) => match Reader::of_token(token) {
                    Some(reader) => deny.push(reader),
                    None => return Readers::nobody(),
                },
                None => match Reader::of_token(token) {
                    Some(reader) => allow.push(reader),
                    None => return Readers::nobody(),
                },
            }
        }
        match public {
            true if allow.is_empty() && deny.is_empty() => Readers::Public,
            true => Readers::nobody(),
            false => Readers::of(allow, deny),
        }
    }

    /// The token of [`Readers::Public`].
    const PUBLIC: &str = "*";
}

/// Stands before the token of a reader who is denied.
const DENIED: char = '!';

fn denied(token: String) -> String {
    format!("{DENIED}{token}")
}

/// Which documents a caller may see. Engines apply it to every hit, count, bucket and get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Visibility {
    /// All of them.
    Everything,
    /// Public ones, and those that allow one of these readers and deny none of them; sorted, without duplicates.
    Readers(Vec<Reader>),
}

impl Visibility {
    /// What a caller sees who has this subject, if any, and these units.
    pub fn of(subject: Option<&str>, units: &[String]) -> Self {
        let own = subject.into_iter().map(|name| Reader::Subject(name.to_owned()));
        let names = subject.into_iter().chain(units.iter().map(String::as_str));
        let mut readers: Vec<Reader> = own
            .chain(names.map(|name| Reader::Named(name.to_owned())))
            .collect();
        readers.sort();
        readers.dedup();
        Visibility::Readers(readers)
    }

    /// Whether a document with these readers may be seen. What is denied is hidden, whatever allows it.
    pub fn admits(&self, readers: &Readers) -> bool {
        match (self, readers) {
            (Visibility::Everything, _) | (_, Readers::Public) => true,
            (Visibility::Readers(mine), Readers::Only { allow, deny }) => {
                let one_of = |list: &[Reader]| list.iter().any(|reader| mine.binary_search(reader).is_ok());
                one_of(allow) && !one_of(deny)
            }
        }
    }

    /// The same for engines: a document may be seen that has one of the first tokens ([`Readers::tokens`]) and none of the
    /// second. `None`: every document.
    pub fn tokens(&self) -> Option<(Vec<String>, Vec<String>)> {
        let Visibility::Readers(mine) = self else {
            return None;
        };
        let tokens: Vec<String> = mine.iter().map(Reader::token).collect();
        let hiding = tokens.iter().cloned().map(denied).collect();
        let showing = tokens.into_iter().chain([Readers::PUBLIC.to_owned()]);
        Some((showing.collect(), hiding))
    }
}

/// A document as an engine holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: DocId,
    /// Who may read it.
    pub readers: Readers,
    /// Its fields, byte for byte as they were written.
    pub source: Arc<str>,
    /// The ticket it was written under.
    pub ticket: crate::log::Ticket,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Every caller and every document of a small world: what the tokens say is what `admits` says.
    #[test]
    fn tokens_say_who_sees_what() {
        let (named, subject) = (
            |name: &str| Reader::Named(name.into()),
            |name: &str| Reader::Subject(name.into()),
        );
        let entries = [
            named("ann"),
            subject("ann"),
            named("bo"),
            named("=ann"),
            named("!=ann"),
            named("*"),
        ];
        let mut documents = vec![Readers::Public];
        for allowed in 0..1_u32 << entries.len() {
            for denied in 0..1_u32 << entries.len() {
                let pick = |bits: u32| {
                    let chosen = (0..entries.len()).filter(|at| bits >> at & 1 == 1);
                    chosen.map(|at| entries[at].clone()).collect()
                };
                documents.push(Readers::of(pick(allowed), pick(denied)));
            }
        }
        let units = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let callers = [
            Visibility::Everything,
            Visibility::of(None, &[]),
            Visibility::of(Some("ann"), &[]),
            Visibility::of(Some("bo"), &units(&["ann"])),
            Visibility::of(Some("cy"), &units(&["=ann", "*", "!=ann"])),
        ];
        for readers in &documents {
            let tokens = readers.tokens();
            assert_eq!(
                &Readers::of_tokens(tokens.iter().rev().map(String::as_str)),
                readers
            );
            for caller in &callers {
                let by_tokens = caller.tokens().is_none_or(|(showing, hiding)| {
                    let one_of = |list: &[String]| tokens.iter().any(|token| list.contains(token));
                    one_of(&showing) && !one_of(&hiding)
                });
                assert_eq!(caller.admits(readers), by_tokens, "{caller:?} {readers:?}");
            }
        }
    }

    #[test]
    fn a_rule_over_the_subject_means_no_unit_of_that_name() {
        let owned = Readers::of(vec![Reader::Subject("42".into())], vec![]);
        assert!(Visibility::of(Some("42"), &[]).admits(&owned));
        assert!(!Visibility::of(Some("7"), &["42".to_owned()]).admits(&owned));
        assert!(!Visibility::of(None, &[]).admits(&owned));
    }

    #[test]
    fn what_is_no_token_admits_nobody() {
        for tokens in [
            &["=ann", "ann"][..],
            &["=ann", "!ann"],
            &["*", "!=ann"],
            &["*", "x"],
            &[""],
        ] {
            let readers = Readers::of_tokens(tokens.iter().copied());
            assert_eq!(readers, Readers::nobody(), "{tokens:?}");
        }
    }
}
