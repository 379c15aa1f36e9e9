//! A value inside a request together with where it stands, so that every refusal can say where.

use std::fmt;

use instep_core::query::Scalar;
use instep_core::{Error, Result};

use crate::capability::Clause;
use crate::json::{Json, shown};

/// A value and the way to it from the root: `query.bool.must[2].match`.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) json: &'a Json,
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Item(usize),
    Parameter(&'a str),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.parent.filter(|parent| !matches!(parent.step, Step::Root));
        if let Some(parent) = inner {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) if inner.is_some() => write!(f, ".{}", shown(key)),
            Step::Key(key) => f.write_str(&shown(key)),
            Step::Item(at) => write!(f, "[{at}]"),
            Step::Parameter(name) => write!(f, "?{name}"),
        }
    }
}

impl<'a> Place<'a> {
    /// The root of a body.
    pub(crate) fn root(json: &'a Json) -> Self {
        Place {
            json,
            parent: None,
            step: Step::Root,
        }
    }

    /// The value of a URL parameter.
    pub(crate) fn parameter(name: &'a str, json: &'a Json) -> Self {
        Place {
            json,
            parent: None,
            step: Step::Parameter(name),
        }
    }

    fn below<'b>(&'b self, step: Step<'b>, json: &'b Json) -> Place<'b> {
        Place {
            json,
            parent: Some(self),
            step,
        }
    }

    /// A refusal of the request's form.
    pub(crate) fn malformed(&self, message: impl Into<String>) -> Error {
        self.refused("parsing_exception", message.into())
    }

    /// A refusal of a value.
    pub(crate) fn illegal(&self, message: impl Into<String>) -> Error {
        self.refused("illegal_argument_exception", message.into())
    }

    fn refused(&self, code: &'static str, message: String) -> Error {
        let error = Error::invalid(code, message);
        match self.step {
            Step::Root => error,
            Step::Key(_) | Step::Item(_) | Step::Parameter(_) => {
                error.context(without_middle(self.to_string()))
            }
        }
    }

    /// The last step as a caller wrote it, for messages.
    fn called(&self) -> String {
        match self.step {
            Step::Root => "the body".to_owned(),
            Step::Key(name) | Step::Parameter(name) => format!("[{}]", shown(name)),
            Step::Item(at) => format!("item {at}"),
        }
    }

    fn is_not(&self, expected: &str) -> Error {
        self.malformed(format!(
            "{} must be {expected}, not {}",
            self.called(),
            self.json.kind()
        ))
    }

    /// The members of an object, whatever their keys.
    pub(crate) fn members(&self) -> Result<impl Iterator<Item = (&str, Place<'_>)>> {
        let Json::Object(members) = self.json else {
            return Err(self.is_not("an object"));
        };
        Ok(members
            .iter()
            .map(|(key, json)| (key.as_str(), self.below(Step::Key(key), json))))
    }

    /// The members of an object that has the clause's keys and no other.
    pub(crate) fn clause<'b>(&'b self, clause: &'static Clause) -> Result<Members<'b>> {
        for (key, _) in self.members()? {
            if !clause.has(key) {
                return Err(self.unknown_key(key, clause));
            }
        }
        Ok(Members { place: self, clause })
    }

    fn unknown_key(&self, key: &str, clause: &Clause) -> Error {
        let message = format!(
            "unknown key [{}] in [{}]; supported: {}",
            shown(key),
            clause.name,
            clause.listed()
        );
        let error = self.malformed(message);
        match clause.instead_of(key) {
            Some(remedy) => error.with_remedy(remedy),
            None => error,
        }
    }

    /// A refusal of a clause that the engine does not have.
    pub(crate) fn unsupported(&self, name: &str, supported: impl Iterator<Item = &'static str>) -> Error {
        let supported: Vec<&str> = supported.collect();
        self.malformed(format!(
            "[{}] is not supported by instep; supported: {}",
            shown(name),
            supported.join(", ")
        ))
    }

    /// The one member of an object that must have exactly one.
    pub(crate) fn only_member(&self, what: &str) -> Result<(&str, Place<'_>)> {
        let mut members = self.members()?;
        let Some((key, place)) = members.next() else {
            return Err(self.malformed(format!("{} is empty; expected {what}", self.called())));
        };
        match members.next() {
            None => Ok((key, place)),
            Some((second, _)) => Err(self.malformed(format!(
                "{} takes {what}, found [{}] and [{}]",
                self.called(),
                shown(key),
                shown(second)
            ))),
        }
    }

    /// The items of an array.
    pub(crate) fn items(&self) -> Result<Vec<Place<'_>>> {
        let Json::Array(items) = self.json else {
            return Err(self.is_not("an array"));
        };
        Ok(items
            .iter()
            .enumerate()
            .map(|(at, json)| self.below(Step::Item(at), json))
            .collect())
    }

    /// The items of an array, or the value itself.
    pub(crate) fn items_or_self(&self) -> Vec<Place<'_>> {
        match self.json {
            Json::Array(_) => self.items().unwrap_or_default(),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Object(_) => vec![*self],
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.json, Json::Null)
    }

    pub(crate) fn text(&self) -> Result<&str> {
        match self.json {
            Json::Text(text) => Ok(text),
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => {
                Err(self.is_not("text"))
            }
        }
    }

    /// The name of a field of documents.
    pub(crate) fn field(&self) -> Result<String> {
        field_name(self, self.text()?)
    }

    /// The name of a field of documents, or `_id`.
    pub(crate) fn field_or_id(&self) -> Result<String> {
        field_or_id(self, self.text()?)
    }

    /// Text, number or boolean, as text.
    pub(crate) fn plain_text(&self) -> Result<String> {
        match self.json {
            Json::Text(text) | Json::Number(text) => Ok(text.clone()),
            Json::Bool(value) => Ok(value.to_string()),
            Json::Null | Json::Array(_) | Json::Object(_) => Err(self.is_not("text")),
        }
    }

    /// A boolean, also as text.
    pub(crate) fn boolean(&self) -> Result<bool> {
        match self.json {
            Json::Bool(value) => Ok(*value),
            Json::Text(text) if text == "true" => Ok(true),
            Json::Text(text) if text == "false" => Ok(false),
            Json::Null | Json::Number(_) | Json::Text(_) | Json::Array(_) | Json::Object(_) => {
                Err(self.is_not("true or false"))
            }
        }
    }

    /// A boolean of which only `false` is possible here.
    pub(crate) fn only_false(&self) -> Result<()> {
        if self.boolean()? {
            let message = format!("{} may only be false", self.called());
            return Err(self.illegal(message));
        }
        Ok(())
    }

    pub(crate) fn scalar(&self) -> Result<Scalar> {
        match self.json {
            Json::Bool(value) => Ok(Scalar::Bool(*value)),
            Json::Text(text) => Ok(Scalar::Text(text.clone())),
            Json::Number(literal) => self.numeric(literal),
            Json::Null | Json::Array(_) | Json::Object(_) => Err(self.is_not("a single value")),
        }
    }

    /// An integer of up to 64 bits, or the double nearest to the literal.
    fn numeric(&self, literal: &str) -> Result<Scalar> {
        if let Ok(integer) = literal.parse() {
            return Ok(Scalar::Int(integer));
        }
        let double: f64 = literal.parse().map_err(|_| self.is_not("a number"))?;
        if double.is_finite() {
            return Ok(Scalar::Double(double));
        }
        Err(self.illegal(format!("{} is a number beyond any double", self.called())))
    }

    /// A number, also as text.
    pub(crate) fn number(&self) -> Result<f64> {
        let literal = match self.json {
            Json::Number(literal) | Json::Text(literal) => literal,
            Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
                return Err(self.is_not("a number"));
            }
        };
        let number: f64 = literal.parse().map_err(|_| self.is_not("a number"))?;
        if number.is_finite() {
            return Ok(number);
        }
        Err(self.illegal(format!("{} must be a finite number", self.called())))
    }

    /// A number of single precision, also as text.
    pub(crate) fn single(&self) -> Result<f32> {
        let number = self.number()? as f32;
        if number.is_finite() {
            return Ok(number);
        }
        Err(self.illegal(format!("{} is too large", self.called())))
    }

    /// A factor of scores.
    pub(crate) fn boost(&self) -> Result<f32> {
        let boost = self.single()?;
        if boost < 0.0 {
            let message = format!("negative {} is not allowed", self.called());
            return Err(self
                .illegal(message)
                .with_remedy("use a value between 0 and 1 to lower a score"));
        }
        Ok(boost)
    }

    /// An integer, also as text or as a double without a fraction.
    pub(crate) fn integer(&self) -> Result<i64> {
        let literal = match self.json {
            Json::Number(literal) | Json::Text(literal) => literal,
            Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
                return Err(self.is_not("an integer"));
            }
        };
        if let Ok(integer) = literal.parse() {
            return Ok(integer);
        }
        let exact = literal
            .parse::<f64>()
            .ok()
            .filter(|number| number.fract() == 0.0 && number.abs() < 9e15);
        match exact {
            Some(number) => Ok(number as i64),
            None => Err(self.illegal(format!("{} must be an integer", self.called()))),
        }
    }

    /// An integer from `least` to `most`.
    pub(crate) fn integer_within(&self, least: i64, most: i64) -> Result<i64> {
        let integer = self.integer()?;
        if integer < least {
            let message = format!("{} must be at least {least}, found [{integer}]", self.called());
            return Err(self.illegal(message));
        }
        if integer > most {
            let message = format!("{} must be at most {most}, found [{integer}]", self.called());
            return Err(self.illegal(message));
        }
        Ok(integer)
    }

    /// An integer from `least` to `most` that counts something.
    pub(crate) fn count(&self, least: usize, most: usize) -> Result<usize> {
        let bound = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let count = self.integer_within(bound(least), bound(most))?;
        usize::try_from(count).map_err(|_| self.is_not("a count"))
    }

    /// One of several words.
    pub(crate) fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T> {
        let text = self.text()?;
        let found = words.iter().find(|(word, _)| *word == text);
        match found {
            Some((_, meaning)) => Ok(*meaning),
            None => {
                let known = words.iter().map(|(word, _)| *word);
                let known: Vec<&str> = known.filter(|word| !word.is_empty()).collect();
                Err(self.illegal(format!(
                    "{} cannot be [{}]; supported: {}",
                    self.called(),
                    shown(text),
                    known.join(", ")
                )))
            }
        }
    }
}

/// A field's name as it stands in a key or value. Those that begin with an underscore say something about a document
/// rather than stand in it, and no engine finds anything there.
pub(crate) fn field_name(place: &Place<'_>, name: &str) -> Result<String> {
    if name.is_empty() {
        return Err(place.illegal("a field's name is empty"));
    }
    if name.starts_with('_') {
        let message = format!("the metadata field [{}] is not supported here", shown(name));
        return Err(place.illegal(message).with_remedy(
            "of metadata fields, queries by term, terms, ids, exists and match take _id, and sort takes _id, _doc and _score",
        ));
    }
    Ok(name.to_owned())
}

/// The same, or `_id`, where documents can be found by it.
pub(crate) fn field_or_id(place: &Place<'_>, name: &str) -> Result<String> {
    match name {
        "_id" => Ok(name.to_owned()),
        _ => field_name(place, name),
    }
}

/// A path that is cut in its middle where it is long: its beginning and its end are what one looks for.
fn without_middle(path: String) -> String {
    const KEPT: usize = 60;
    let length = path.chars().count();
    if length <= 2 * KEPT {
        return path;
    }
    let start: String = path.chars().take(KEPT).collect();
    let end: String = path.chars().skip(length - KEPT).collect();
    format!("{start}…{end}")
}

/// The members of an object whose keys were checked against a clause.
pub(crate) struct Members<'a> {
    place: &'a Place<'a>,
    clause: &'static Clause,
}

impl<'a> Members<'a> {
    /// The value of a key, when it is there.
    pub(crate) fn get(&self, key: &'static str) -> Option<Place<'a>> {
        debug_assert!(
            self.clause.has(key),
            "[{key}] is read but not in the table of [{}]",
            self.clause.name
        );
        let Json::Object(members) = self.place.json else {
            return None;
        };
        let (name, json) = members.iter().find(|(name, _)| name == key)?;
        #[cfg(test)]
        crate::tests::was_read(self.clause.name, key);
        Some(self.place.below(Step::Key(name), json))
    }

    /// The value of a key that must be there.
    pub(crate) fn required(&self, key: &'static str) -> Result<Place<'a>> {
        self.get(key).ok_or_else(|| {
            self.place
                .malformed(format!("[{}] requires [{key}]", self.clause.name))
        })
    }

    /// The clause's boost; 1 without one.
    pub(crate) fn boost(&self) -> Result<f32> {
        self.get("boost").map_or(Ok(1.0), |boost| boost.boost())
    }
}
