//! URL parameters: each is in the table for its endpoint and has a value the table allows, or the request is refused.

use instep_core::{Error, Result};

use crate::capability::{Endpoint, PARAMETERS, Takes};
use crate::filter_path::FilterPath;
use crate::json::{Json, shown};
use crate::place::Place;
use crate::search::Hydration;

/// The parameters of a request's URL: names and values, decoded, in their order. A name stands once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(Vec<(String, Json)>);

impl Params {
    /// These parameters; a name that stands twice is refused.
    pub fn new(pairs: Vec<(String, String)>) -> Result<Self> {
        let mut params: Vec<(String, Json)> = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            if params.iter().any(|(known, _)| *known == name) {
                return Err(illegal(format!("the parameter [{}] stands twice", shown(&name))));
            }
            params.push((name, Json::Text(value)));
        }
        Ok(Params(params))
    }

    /// Refuses every parameter and value that the endpoint does not have.
    pub(crate) fn check(&self, endpoint: Endpoint) -> Result<()> {
        let known = || {
            PARAMETERS
                .iter()
                .filter(|known| known.endpoints.contains(&endpoint))
        };
        for (name, value) in &self.0 {
            let Some(parameter) = known().find(|known| known.name == name) else {
                let names: Vec<&str> = known().map(|known| known.name).collect();
                return Err(illegal(format!(
                    "unknown parameter [{}] of [{}]; supported: {}",
                    shown(name),
                    endpoint.name(),
                    names.join(", ")
                )));
            };
            check_value(&Place::parameter(name, value), parameter.takes)?;
        }
        Ok(())
    }

    /// A parameter's value, when it is there.
    pub(crate) fn get(&self, name: &'static str) -> Option<Place<'_>> {
        debug_assert!(
            PARAMETERS.iter().any(|known| known.name == name),
            "the parameter [{name}] is read but not in the table"
        );
        let (name, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(Place::parameter(name, value))
    }

    /// A switch; `?pretty` alone turns it on.
    pub(crate) fn flag(&self, name: &'static str) -> Result<bool> {
        let Some(place) = self.get(name) else {
            return Ok(false);
        };
        place.one_of(&[("", true), ("true", true), ("false", false)])
    }

    /// Which rows are added to hits; `?hydrate` alone is `?hydrate=true`.
    pub(crate) fn hydration(&self) -> Result<Hydration> {
        let Some(place) = self.get("hydrate") else {
            return Ok(Hydration::None);
        };
        place.one_of(&[
            ("", Hydration::Row),
            ("true", Hydration::Row),
            ("false", Hydration::None),
            ("joins", Hydration::Joins),
        ])
    }

    pub(crate) fn filter_path(&self) -> Result<Option<FilterPath>> {
        let Some(place) = self.get("filter_path") else {
            return Ok(None);
        };
        FilterPath::parse(&place).map(Some)
    }
}

fn illegal(message: String) -> Error {
    Error::invalid("illegal_argument_exception", message)
}

fn check_value(place: &Place<'_>, takes: Takes) -> Result<()> {
    let value = place.text()?;
    match takes {
        Takes::Parsed => Ok(()),
        Takes::WithoutEffect(allowed) => {
            let words: Vec<(&str, ())> = allowed.iter().map(|word| (*word, ())).collect();
            place.one_of(&words)
        }
        Takes::NumberWithoutEffect(least) => place.integer_within(least, i64::from(i32::MAX)).map(drop),
        Takes::SessionName if value.starts_with('_') && value != "_local" => Err(place.illegal(format!(
            "[preference] cannot be [{}]; supported: _local, or any name that does not start with _",
            shown(value)
        ))),
        Takes::SessionName => Ok(()),
        Takes::IndexStates => index_states(place, value),
    }
}

fn index_states(place: &Place<'_>, value: &str) -> Result<()> {
    let states: Vec<&str> = value.split(',').collect();
    let known = states
        .iter()
        .all(|state| matches!(*state, "open" | "closed" | "hidden" | "all"));
    if known && states.iter().any(|state| matches!(*state, "open" | "all")) {
        return Ok(());
    }
    let message = format!(
        "[expand_wildcards] cannot be [{}]; supported: all, or a list of open, closed and hidden with open",
        shown(value)
    );
    Err(place.illegal(message))
}
