//! Writes a document from the loaded rows: canonical JSON, and the readers.

use instep_core::{Content, Error, Field, FieldType, Reader, Readers, ReadersFrom, Result, Value};

use crate::convert::{self, Misfit};
use crate::json::{Json, write_string};
use crate::load::Loaded;
use crate::plan::{Chain, Plan, ReadersPart, ReadersSlot, Slot, SlotContent};

/// Writes the document's source, one JSON object, in the place of what the buffer held.
pub(crate) fn source(plan: &Plan, rows: &Loaded, root: u32, out: &mut Vec<u8>) -> Result<()> {
    out.clear();
    object(&plan.shape, rows, rows.row(0, root), root, out)
}

fn object(slots: &[Slot], rows: &Loaded, row: &[Value], at: u32, out: &mut Vec<u8>) -> Result<()> {
    out.push(b'{');
    let mut empty = true;
    for slot in slots {
        let before = out.len();
        if !empty {
            out.push(b',');
        }
        out.extend_from_slice(slot.prefix.as_bytes());
        match content(slot, rows, row, at, out)? {
            true => empty = false,
            false => out.truncate(before),
        }
        if out.len() > MOST_BYTES {
            return Err(too_large());
        }
    }
    out.push(b'}');
    Ok(())
}

/// Writes a field's content; `false` when the field is absent.
fn content(slot: &Slot, rows: &Loaded, row: &[Value], at: u32, out: &mut Vec<u8>) -> Result<bool> {
    match &slot.content {
        SlotContent::Column {
            at: column,
            kind,
            array,
            computed,
        } => {
            if *computed && matches!(row[*column], Value::Bytes(_)) {
                let message = format!(
                    "field `{}`: its expression cannot be computed for the row",
                    slot.path
                );
                return Err(Error::poison("uncomputed", message)
                    .with_remedy("mend the row, or an expression that takes every row"));
            }
            column_value(&row[*column], kind, *array, out).map_err(|misfit| rejected(&slot.path, misfit))?;
            Ok(true)
        }
        SlotContent::Json { at: column, fields } => {
            let tree = parsed(&row[*column]).map_err(|misfit| rejected(&slot.path, misfit))?;
            members(&slot.path, &tree, fields, out)?;
            Ok(true)
        }
        SlotContent::Joined { chain, many, fields } => {
            let node = chain.end();
            joined(slot, chain, *many, rows, at, out, |at, out| {
                object(fields, rows, rows.row(node, at), at, out)
            })
        }
        SlotContent::Values {
            chain,
            many,
            at: column,
            kind,
        } => {
            let node = chain.end();
            let value = |at: u32| &rows.row(node, at)[*column];
            let write = |value: &Value, out: &mut Vec<u8>| {
                convert::write(value, kind, out).map_err(|misfit| rejected(&slot.path, misfit))
            };
            if !*many {
                return joined(slot, chain, false, rows, at, out, |at, out| write(value(at), out));
            }
            let found = rows.follow(chain, at);
            let values: Vec<&Value> = found
                .iter()
                .map(|at| value(*at))
                .filter(|value| !value.is_null())
                .collect();
            many_rows(&slot.path, values.into_iter(), out, write).map(|()| true)
        }
    }
}

/// The rows at the end of a join, or the first of them; `false` when that one is absent.
fn joined(
    slot: &Slot,
    chain: &Chain,
    many: bool,
    rows: &Loaded,
    at: u32,
    out: &mut Vec<u8>,
    write: impl Fn(u32, &mut Vec<u8>) -> Result<()>,
) -> Result<bool> {
    let found = rows.follow(chain, at);
    match (many, found.first()) {
        (true, _) => many_rows(&slot.path, found.iter(), out, |at, out| write(*at, out)).map(|()| true),
        (false, Some(first)) => write(*first, out).map(|()| true),
        (false, None) => Ok(false),
    }
}

/// A document is no larger than this, in bytes of JSON,
const MOST_BYTES: usize = 32 << 20;
/// and no join of it brings more rows.
const MOST_ROWS: usize = 100_000;

fn too_large() -> Error {
    let megabytes = MOST_BYTES >> 20;
    Error::poison(
        "too_large",
        format!("the document is larger than {megabytes} MiB"),
    )
    .with_remedy("leave its largest texts out of the collection, or narrow its joins with `where`")
}

fn within_rows(path: &str, rows: usize) -> Result<()> {
    if rows <= MOST_ROWS {
        return Ok(());
    }
    let message = format!("field `{path}`: more than {MOST_ROWS} rows are joined");
    Err(Error::poison("too_many_rows", message)
        .with_remedy("narrow the join with `where`, or make the joined table a collection of its own"))
}

/// The rows of a to-many join, as an array.
fn many_rows<T>(
    path: &str,
    items: impl ExactSizeIterator<Item = T>,
    out: &mut Vec<u8>,
    write: impl Fn(T, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    within_rows(path, items.len())?;
    array(items, out, |item, out| {
        write(item, out)?;
        match out.len() > MOST_BYTES {
            true => Err(too_large()),
            false => Ok(()),
        }
    })
}

fn array<T, E>(
    items: impl Iterator<Item = T>,
    out: &mut Vec<u8>,
    write: impl Fn(T, &mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    out.push(b'[');
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out)?;
    }
    out.push(b']');
    Ok(())
}

fn column_value(value: &Value, kind: &FieldType, is_array: bool, out: &mut Vec<u8>) -> Result<(), Misfit> {
    if !is_array || value.is_null() {
        return convert::write(value, kind, out);
    }
    let items = match parsed(value)? {
        Json::Null => return convert::write(&Value::Null, kind, out),
        Json::Array(items) => items,
        other @ (Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Object(_)) => {
            return Err(Misfit::json(other.kind(), "an array"));
        }
    };
    let mut leaves = Vec::new();
    flatten(&items, &mut leaves);
    let values = leaves.into_iter().map(Json::value);
    array(values, out, |value, out| convert::write(&value, kind, out))
}

/// The values of an array, those of arrays inside it included: a field has values, not dimensions. Nulls match nothing
/// and are left out.
fn flatten<'a>(items: &'a [Json], leaves: &mut Vec<&'a Json>) {
    for item in items {
        match item {
            Json::Null => {}
            Json::Array(inner) => flatten(inner, leaves),
            Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Object(_) => leaves.push(item),
        }
    }
}

/// Members of a JSON object as declared fields; a member that is not there is absent. JSON's null is as good as SQL's.
fn members(path: &str, tree: &Json, fields: &[Field], out: &mut Vec<u8>) -> Result<()> {
    let object = match tree {
        Json::Null => {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        Json::Object(object) => object,
        Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Array(_) => {
            return Err(rejected(path, Misfit::json(tree.kind(), "an object")));
        }
    };
    out.push(b'{');
    let mut empty = true;
    for field in fields {
        let column = match &field.content {
            Content::Column { column, .. } | Content::Json { column, .. } => column,
            // A JSON object joins no table.
            Content::Joined { .. } | Content::Values { .. } => continue,
        };
        let Some(member) = object.get(column) else {
            continue;
        };
        if !empty {
            out.push(b',');
        }
        empty = false;
        write_string(&field.name, out);
        out.push(b':');
        let path = format!("{path}.{}", field.name);
        match &field.content {
            Content::Column { kind, array, .. } => {
                column_value(&member.value(), kind, *array, out).map_err(|misfit| rejected(&path, misfit))?
            }
            Content::Json { fields, .. } => members(&path, member, fields, out)?,
            Content::Joined { .. } | Content::Values { .. } => {}
        }
    }
    out.push(b'}');
    Ok(())
}

/// The JSON a column holds; NULL is null.
fn parsed(value: &Value) -> Result<Json, Misfit> {
    let text = match value {
        Value::Null => return Ok(Json::Null),
        Value::Json(text) | Value::Text(text) => text,
        Value::Bool(_) | Value::Int(_) | Value::Double(_) | Value::Decimal(_) | Value::Bytes(_) => {
            return Err(Misfit::json(value.kind(), "JSON"));
        }
    };
    Json::parse(text).ok_or_else(|| match Json::is_too_deep(text) {
        true => Misfit(convert::not_json(text)),
        false => Misfit::json(value.kind(), "JSON"),
    })
}

/// Who may read the document. NULL, an empty array and no joined row allow and deny nobody.
pub(crate) fn readers(plan: &Plan, rows: &Loaded, root: u32) -> Result<Readers> {
    match &plan.readers {
        ReadersSlot::Public => Ok(Readers::Public),
        ReadersSlot::Rows { allow, deny } => {
            Ok(Readers::of(named(allow, rows, root)?, named(deny, rows, root)?))
        }
    }
}

fn named(parts: &[ReadersPart], rows: &Loaded, root: u32) -> Result<Vec<Reader>> {
    let mut readers = Vec::new();
    for ReadersPart { from, chain, at } in parts {
        let one = |value: &Value| {
            let reader = from.reader(value);
            reader.map_err(|kind| rejected("readers", Misfit::json(kind, "a name: a text or an integer is")))
        };
        match (from, chain) {
            (ReadersFrom::Array(_), _) => {
                let names = listed(&rows.row(0, root)[*at]).map_err(|misfit| rejected("readers", misfit))?;
                readers.extend(names.into_iter().map(Reader::Named));
            }
            (_, None) => readers.extend(one(&rows.row(0, root)[*at])?),
            (_, Some(chain)) => {
                let found = rows.follow(chain, root);
                within_rows("readers", found.len())?;
                for row in found.iter() {
                    readers.extend(one(&rows.row(chain.end(), *row)[*at])?);
                }
            }
        }
    }
    Ok(readers)
}

fn listed(value: &Value) -> Result<Vec<String>, Misfit> {
    let names = match parsed(value)? {
        Json::Null => return Ok(Vec::new()),
        Json::Array(names) => names,
        other @ (Json::Bool(_) | Json::Number(_) | Json::Text(_) | Json::Object(_)) => {
            return Err(Misfit::json(other.kind(), "an array"));
        }
    };
    let name = |name| match name {
        Json::Text(name) => Ok(name),
        Json::Number(digits)
            if digits
                .trim_start_matches('-')
                .bytes()
                .all(|byte| byte.is_ascii_digit()) =>
        {
            Ok(digits)
        }
        Json::Number(_) | Json::Null | Json::Bool(_) | Json::Array(_) | Json::Object(_) => {
            Err(Misfit::json(name.kind(), "the name of a reader"))
        }
    };
    names.into_iter().map(name).collect()
}

fn rejected(path: &str, misfit: Misfit) -> Error {
    Error::poison("value_misfit", format!("field `{path}`: {}", misfit.0))
        .with_remedy("mend the row, or give the field a type that takes the value")
}
