//! Field types: from their names and options in the file, or derived from a column.

use std::ops::Range;

use instep_core::{Column, ColumnKind, FieldType, Language};
use instep_embedded::analysis::Analyzer;

use crate::config::problem::Problem;
use crate::config::raw::RawTable;

/// The names a `type` may have.
pub(crate) const NAMES: [&str; 10] = [
    "keyword",
    "text",
    "long",
    "integer",
    "double",
    "decimal",
    "boolean",
    "date",
    "object",
    "flattened",
];

/// The type that a field's `type` and options say; derived from the column where they say nothing.
///
/// `object` has no type of its own and is refused here: it takes `fields`.
pub(crate) fn resolve(
    raw: &RawTable,
    place: Range<usize>,
    column: Option<&Column>,
    analyzer: &str,
) -> Result<FieldType, Problem> {
    let kind = match &raw.kind {
        Some(kind) => named(kind.get_ref(), kind.span(), column, analyzer)?,
        None => derived(column, place.clone(), analyzer)?,
    };
    let misplaced = |option: &str, takes: &str| {
        Problem::new(
            place.clone(),
            format!("`{option}` says nothing about a field of type {}", kind.name()),
        )
        .help(format!("only a {takes} field takes it"))
    };
    match kind {
        FieldType::Text { analyzer, keyword } => {
            if raw.scale.is_some() {
                return Err(
                    Problem::new(place, "`scale` says nothing about a field of type text")
                        .help("only a decimal field takes it"),
                );
            }
            let analyzer = match (&raw.analyzer, &raw.language) {
                (Some(name), None) => known_analyzer(name.get_ref(), name.span())?,
                (None, Some(tag)) => {
                    language_analyzer(language(tag.get_ref(), tag.span())?.as_str()).to_owned()
                }
                (Some(name), Some(_)) => {
                    return Err(Problem::new(name.span(), "both `analyzer` and `language`")
                        .help("one of them picks the analyzer"));
                }
                (None, None) => analyzer,
            };
            Ok(FieldType::Text {
                analyzer,
                keyword: raw.keyword.as_ref().map_or(keyword, |wanted| *wanted.get_ref()),
            })
        }
        _ if raw.analyzer.is_some() => Err(misplaced("analyzer", "text")),
        _ if raw.language.is_some() => Err(misplaced("language", "text")),
        _ if raw.keyword.is_some() => Err(misplaced("keyword", "text")),
        FieldType::Decimal { scale } => {
            let scale = raw.scale.as_ref().map_or(scale, |scale| *scale.get_ref());
            match scale <= 18 {
                true => Ok(FieldType::Decimal { scale }),
                false => {
                    Err(Problem::new(place, format!("a scale of {scale}")).help("0 to 18 digits fit 64 bits"))
                }
            }
        }
        _ if raw.scale.is_some() => Err(misplaced("scale", "decimal")),
        kind => Ok(kind),
    }
}

fn named(
    name: &str,
    place: Range<usize>,
    column: Option<&Column>,
    analyzer: &str,
) -> Result<FieldType, Problem> {
    Ok(match name {
        "keyword" => FieldType::Keyword,
        "text" => text(analyzer),
        "long" => FieldType::Long,
        "integer" => FieldType::Integer,
        "double" => FieldType::Double,
        "decimal" => FieldType::Decimal {
            scale: column.and_then(declared_scale).unwrap_or(2),
        },
        "boolean" => FieldType::Boolean,
        "date" => FieldType::Date,
        "flattened" => FieldType::Flattened,
        "object" => {
            return Err(Problem::new(place, "an object without fields")
                .help("list the members of the JSON column: fields = [\"…\"]"));
        }
        unknown => return Err(Problem::unknown(place, "type", unknown, "", NAMES)),
    })
}

/// The type of a column whose field names none.
pub(crate) fn derived(
    column: Option<&Column>,
    place: Range<usize>,
    analyzer: &str,
) -> Result<FieldType, Problem> {
    let Some(column) = column else {
        return Ok(text(analyzer));
    };
    Ok(match column.kind {
        ColumnKind::Boolean => FieldType::Boolean,
        ColumnKind::Integer => FieldType::Long,
        ColumnKind::Double => FieldType::Double,
        ColumnKind::Decimal => FieldType::Decimal {
            scale: declared_scale(column).unwrap_or(2),
        },
        ColumnKind::Text => text(analyzer),
        ColumnKind::Keyword => FieldType::Keyword,
        ColumnKind::Date => FieldType::Date,
        ColumnKind::Json => FieldType::Flattened,
        ColumnKind::Array => FieldType::Keyword,
        ColumnKind::Bytes | ColumnKind::Any => {
            let what = if column.declared.is_empty() {
                "no declared type".to_owned()
            } else {
                format!("type {}", column.declared)
            };
            let message = format!(
                "column `{}` has {what}, from which no field type follows",
                column.name
            );
            return Err(Problem::new(place, message).help("give the field a type"));
        }
    })
}

fn text(analyzer: &str) -> FieldType {
    FieldType::Text {
        analyzer: analyzer.to_owned(),
        keyword: true,
    }
}

/// A language from its tag: two or three letters, and a script or a region.
pub(crate) fn language(tag: &str, place: Range<usize>) -> Result<Language, Problem> {
    let lower = tag.to_ascii_lowercase();
    let (first, second) = lower
        .split_once('-')
        .map_or((lower.as_str(), None), |(a, b)| (a, Some(b)));
    let primary = (2..=3).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_lowercase());
    let part = second
        .is_none_or(|part| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    if lower != Language::unspecified().as_str() && !(primary && part) {
        return Err(Problem::new(place, format!("`{tag}` is not a language"))
            .help("write a tag such as en, sv or sv-SE"));
    }
    Ok(Language::from(lower))
}

/// The scale of `decimal(10, 2)`.
pub(crate) fn declared_scale(column: &Column) -> Option<u8> {
    let (_, inside) = column.declared.split_once('(')?;
    let (_, scale) = inside.split_once(')')?.0.split_once(',')?;
    scale.trim().parse().ok().filter(|scale| *scale <= 18)
}

/// The analyzer of a language: its own, where there is one, or `standard`.
pub(crate) fn language_analyzer(language: &str) -> &'static str {
    Analyzer::for_language(language).analyzer().as_str()
}

fn known_analyzer(name: &str, place: Range<usize>) -> Result<String, Problem> {
    let known = Analyzer::ALL.iter().map(|analyzer| analyzer.as_str());
    match Analyzer::named(name) {
        Ok(analyzer) => Ok(analyzer.as_str().to_owned()),
        Err(_) => Err(Problem::unknown(place, "analyzer", name, "", known)),
    }
}
