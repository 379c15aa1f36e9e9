//! Languages of documents: which partition of a collection each lies in, and how its text is analysed.
//!
//! The partitions of a collection are known from its definition alone: a value that names no known language leads to the
//! one for all others, so that a hundred unknown languages make no hundred indexes.

use serde::{Deserialize, Serialize};

use crate::name::Language;
use crate::value::Value;

/// The languages of a collection's documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Languages {
    /// The same for all.
    Fixed(Language),
    /// As a column of the root says.
    Column {
        /// The column.
        column: String,
        /// The languages that have a partition each.
        known: Vec<Spoken>,
        /// The partition of all other documents.
        other: Spoken,
    },
}

/// A language, and the analyzer of its text where a field names none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoken {
    /// Its tag.
    pub language: Language,
    /// The analyzer's name.
    pub analyzer: String,
}

impl Languages {
    /// The languages that have a partition, each once; the one for all others last.
    pub fn all(&self) -> Vec<Language> {
        match self {
            Languages::Fixed(language) => vec![language.clone()],
            Languages::Column { known, other, .. } => {
                let mut all: Vec<Language> = Vec::new();
                for spoken in known.iter().filter(|spoken| spoken.language != other.language) {
                    if !all.contains(&spoken.language) {
                        all.push(spoken.language.clone());
                    }
                }
                all.push(other.language.clone());
                all
            }
        }
    }

    /// The column that says it, where one does.
    pub fn column(&self) -> Option<&str> {
        match self {
            Languages::Fixed(_) => None,
            Languages::Column { column, .. } => Some(column),
        }
    }

    /// The language of a document whose column has this value: the known one that it names, whatever its case, else the
    /// known one that it is a kind of (`sv-FI` is `sv`), else the one for all others.
    pub fn of(&self, value: &Value) -> Language {
        let (known, other) = match self {
            Languages::Fixed(language) => return language.clone(),
            Languages::Column { known, other, .. } => (known, other),
        };
        let Value::Text(text) = value else {
            return other.language.clone();
        };
        let tag = text.trim().to_lowercase().replace('_', "-");
        let mut wanted = tag.as_str();
        loop {
            if let Some(spoken) = known.iter().find(|spoken| spoken.language.as_str() == wanted) {
                return spoken.language.clone();
            }
            match wanted.rsplit_once('-') {
                Some((shorter, _)) => wanted = shorter,
                None => return other.language.clone(),
            }
        }
    }

    /// The analyzer of a partition's text; `None` where the definition itself names one for each field.
    pub fn analyzer(&self, language: &Language) -> Option<&str> {
        match self {
            Languages::Fixed(_) => None,
            Languages::Column { known, other, .. } => {
                let mut all = known.iter().chain([other]);
                all.find(|spoken| spoken.language == *language)
                    .map(|spoken| &*spoken.analyzer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_leads_to_a_known_language_or_to_the_others() {
        let spoken = |tag: &str| Spoken {
            language: tag.into(),
            analyzer: format!("of {tag}"),
        };
        let languages = Languages::Column {
            column: "lang".into(),
            known: vec![spoken("sv"), spoken("sv-fi"), spoken("de"), spoken("sv")],
            other: spoken("unspecified"),
        };
        let tags: Vec<_> = languages.all().iter().map(ToString::to_string).collect();
        assert_eq!(tags, ["sv", "sv-fi", "de", "unspecified"]);
        for (value, language) in [
            (Value::text("sv"), "sv"),
            (Value::text(" SV "), "sv"),
            (Value::text("sv-SE"), "sv"),
            (Value::text("sv_FI"), "sv-fi"),
            (Value::text("de-AT-1996"), "de"),
            (Value::text("svenska"), "unspecified"),
            (Value::text("fi"), "unspecified"),
            (Value::text(""), "unspecified"),
            (Value::Null, "unspecified"),
            (Value::Int(7), "unspecified"),
        ] {
            assert_eq!(languages.of(&value).as_str(), language, "{value:?}");
        }
        assert_eq!(languages.analyzer(&"de".into()), Some("of de"));
        assert_eq!(
            Languages::Fixed("en".into()).of(&Value::text("sv")).as_str(),
            "en"
        );
    }
}
