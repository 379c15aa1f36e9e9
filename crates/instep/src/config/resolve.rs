//! From the file's collections and the databases' schemas to [`Collection`]s: every name looked up, every type decided.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use instep_core::collection::{Content, Field};
use instep_core::{
    Collection, ColumnKind, Expression, FieldType, Language, Languages, NodeId, Purge, ReadersFrom,
    ReadersRule, SourceName, Spoken, TableSchema,
};

use crate::config::joins::{Rows, Tree};
use crate::config::kind;
use crate::config::problem::Problem;
use crate::config::raw::{At, RawCollection, RawField, RawLanguage, RawReaders, RawReadersFrom, RawTable};

/// The tables of each source.
pub type Schemas = HashMap<SourceName, Vec<TableSchema>>;

/// Resolves one collection, or says everything that is wrong with it.
pub(crate) fn collection(
    name: &At<String>,
    raw: &RawCollection,
    sources: &[SourceName],
    schemas: &Schemas,
) -> Result<Collection, Vec<Problem>> {
    let source = source(name, raw, sources).map_err(|problem| vec![problem])?;
    let tables = schemas.get(&source).map(Vec::as_slice).unwrap_or_default();
    let mut problems = Vec::new();
    let mut tree = Tree::new(tables, &raw.root).map_err(|problem| vec![problem])?;
    if let Some(condition) = &raw.condition
        && let Err(problem) = tree.condition(0, condition)
    {
        problems.push(problem);
    }
    let language = language(raw, tree.table(0)).unwrap_or_else(|problem| {
        problems.push(problem);
        Languages::Fixed(Language::unspecified())
    });
    let mut shape = Shape {
        tree,
        analyzer: match &language {
            Languages::Fixed(language) => kind::language_analyzer(language.as_str()),
            Languages::Column { .. } => FieldType::BY_LANGUAGE,
        },
        fields: Vec::new(),
    };

    // A dotted name adds to an object, so objects come first; among equals, the file's order.
    let mut fields: Vec<_> = raw.fields.iter().collect();
    fields.sort_by_key(|(name, _)| (name.get_ref().matches('.').count(), name.span().start));
    let mut failed: Vec<&str> = Vec::new();
    for (name, field) in fields {
        // What lies inside an object that failed would only fail for it again.
        let lies_inside = |object: &str| {
            let rest = name.get_ref().strip_prefix(object);
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        if failed.iter().any(|object| lies_inside(object)) {
            continue;
        }
        if let Err(problem) = shape.add(name, field) {
            problems.push(problem);
            failed.push(name.get_ref());
        }
    }
    if problems.is_empty() {
        problems.extend(shape.empty_objects(raw));
    }
    if raw.fields.is_empty() {
        problems.push(Problem::new(
            name.span(),
            format!("collection `{}` has no fields", name.get_ref()),
        ));
    }
    if let Err(problem) = within_limits(name, &shape.fields) {
        problems.push(problem);
    }
    if let Some(debounce) = raw
        .debounce_ms
        .as_ref()
        .filter(|ms| *ms.get_ref() > MOST_DEBOUNCE_MS)
    {
        let message = format!(
            "`debounce_ms` is {}; at most {MOST_DEBOUNCE_MS}",
            debounce.get_ref()
        );
        problems.push(
            Problem::new(debounce.span(), message)
                .help("what rests is held in memory, and holds the position back"),
        );
    }
    let purge = purge(raw, shape.tree.table(0)).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    let readers = readers(name, raw, &mut shape.tree).unwrap_or_else(|problem| {
        problems.push(problem);
        ReadersRule::Public
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let root = shape.tree.table(0).clone();
    Ok(Collection {
        name: name.get_ref().as_str().into(),
        source,
        nodes: shape.tree.nodes,
        root,
        fields: shape.fields,
        language,
        readers,
        debounce: Duration::from_millis(
            raw.debounce_ms
                .as_ref()
                .map_or(DEBOUNCE_MS, |ms| (*ms.get_ref()).into()),
        ),
        purge,
    })
}

/// How soon after a build a document may be built again, where nothing is said.
const DEBOUNCE_MS: u64 = 100;
/// The longest rest.
const MOST_DEBOUNCE_MS: u32 = 10_000;
/// Fields of a collection, at most: what Elasticsearch takes, too, unless it is told otherwise.
const MOST_FIELDS: usize = 1_000;
/// Objects inside each other, at most; the same.
const DEEPEST: usize = 20;

fn within_limits(name: &At<String>, fields: &[Field]) -> Result<(), Problem> {
    let (count, depth) = extent(fields);
    let said =
        |what: String| Problem::new(name.span(), format!("collection `{}` has {what}", name.get_ref()));
    if count > MOST_FIELDS {
        return Err(said(format!("{count} fields; at most {MOST_FIELDS} are indexed"))
            .help("a JSON column of type \"flattened\" holds up to 10,000 values in one field"));
    }
    if depth > DEEPEST {
        return Err(said(format!(
            "objects of {depth} levels; at most {DEEPEST} are indexed"
        ))
        .help("bring columns of far tables up with `values`, or make a collection of its own"));
    }
    Ok(())
}

/// How many leaves there are, and in how many objects the deepest of them lies, itself counted.
fn extent(fields: &[Field]) -> (usize, usize) {
    fields.iter().fold((0, 0), |(count, depth), field| {
        let (more, below) = match &field.content {
            Content::Column { .. } | Content::Values { .. } => (1, 0),
            Content::Json { fields, .. } | Content::Joined { fields, .. } => extent(fields),
        };
        (count + more, depth.max(below + 1))
    })
}

fn purge(raw: &RawCollection, root: &TableSchema) -> Result<Option<Purge>, Problem> {
    let Some(raw) = raw.purge.as_ref().map(At::get_ref) else {
        return Ok(None);
    };
    let column = existing(root, raw.column.get_ref(), raw.column.span())?;
    let kind = root.column(&column).map(|column| column.kind);
    match kind {
        Some(ColumnKind::Date | ColumnKind::Text | ColumnKind::Keyword | ColumnKind::Any) | None => {}
        Some(
            ColumnKind::Boolean
            | ColumnKind::Integer
            | ColumnKind::Double
            | ColumnKind::Decimal
            | ColumnKind::Json
            | ColumnKind::Array
            | ColumnKind::Bytes,
        ) => {
            let message = format!("column `{column}` does not hold the moment of a soft delete");
            return Err(Problem::new(raw.column.span(), message)
                .help("name a timestamp or date that is NULL as long as the row is not deleted"));
        }
    }
    let after = Duration::from_secs(u64::from(*raw.after_days.get_ref()) * 24 * 60 * 60);
    Ok(Some(Purge { column, after }))
}

fn source(name: &At<String>, raw: &RawCollection, sources: &[SourceName]) -> Result<SourceName, Problem> {
    let known = || sources.iter().map(SourceName::as_str);
    match (&raw.source, sources) {
        (Some(wanted), _) => match sources.iter().find(|source| source.as_str() == wanted.get_ref()) {
            Some(source) => Ok(source.clone()),
            None => Err(Problem::unknown(
                wanted.span(),
                "source",
                wanted.get_ref(),
                "",
                known(),
            )),
        },
        (None, [only]) => Ok(only.clone()),
        (None, _) => {
            let names = known().collect::<Vec<_>>().join(", ");
            Err(Problem::new(
                name.span(),
                format!(
                    "collection `{}` does not say which source it reads",
                    name.get_ref()
                ),
            )
            .help(format!("there are: {names}")))
        }
    }
}

fn language(raw: &RawCollection, root: &TableSchema) -> Result<Languages, Problem> {
    let Some(language) = &raw.language else {
        return Ok(Languages::Fixed(Language::unspecified()));
    };
    let raw = match language.get_ref() {
        RawLanguage::Tag(tag) => return kind::language(tag, language.span()).map(Languages::Fixed),
        RawLanguage::Column(raw) => raw,
    };
    let column = existing(root, raw.column.get_ref(), raw.column.span())?;
    let spoken = |tag: &At<String>| {
        let language = kind::language(tag.get_ref(), tag.span())?;
        let analyzer = kind::language_analyzer(language.as_str()).to_owned();
        Ok(Spoken { language, analyzer })
    };
    if raw.known.is_empty() {
        return Err(Problem::new(language.span(), "no language is known")
            .help("list those that get an index each: known = [\"en\", \"sv\"]"));
    }
    distinct(&raw.known)?;
    let known: Vec<Spoken> = raw.known.iter().map(spoken).collect::<Result<_, Problem>>()?;
    let other = match &raw.other {
        Some(other) => spoken(other)?,
        None => Spoken {
            language: Language::unspecified(),
            analyzer: kind::language_analyzer(Language::unspecified().as_str()).to_owned(),
        },
    };
    Ok(Languages::Column { column, known, other })
}

fn readers(name: &At<String>, raw: &RawCollection, tree: &mut Tree<'_>) -> Result<ReadersRule, Problem> {
    let public = raw.public.as_ref().is_some_and(|public| *public.get_ref());
    if let (Some(deny), None) = (&raw.deny, &raw.readers) {
        // Of what is public somebody who is denied would leave the key away.
        return Err(Problem::new(deny.span(), "`deny` without `readers`")
            .help("say who may read it: what everybody may read without a key is hidden from nobody"));
    }
    match (&raw.readers, public) {
        (Some(readers), true) => Err(Problem::new(readers.span(), "both `readers` and `public = true`")
            .help("a collection is public, or has readers")),
        (None, true) => Ok(ReadersRule::Public),
        (None, false) => Err(Problem::new(
            name.span(),
            format!("collection `{}` does not say who reads it", name.get_ref()),
        )
        .help("add readers = \"<column>\", or public = true")),
        (Some(readers), false) => Ok(ReadersRule::Rows {
            allow: readers_from(readers, tree)?,
            deny: raw
                .deny
                .as_ref()
                .map_or(Ok(Vec::new()), |deny| readers_from(deny, tree))?,
        }),
    }
}

fn readers_from(readers: &At<RawReaders>, tree: &mut Tree<'_>) -> Result<Vec<ReadersFrom>, Problem> {
    let each = readers.get_ref().each(readers.span());
    if each.is_empty() {
        return Err(Problem::new(readers.span(), "an empty list of readers")
            .help("name a column, a rule or a joined table; or leave it out"));
    }
    let from = |(from, place): (&RawReadersFrom, Range<usize>)| match from {
        RawReadersFrom::Column(text) => {
            let table = tree.table(0);
            match subject_rule(text) {
                Some(column) => {
                    let column = existing(table, column, place.clone())?;
                    holds_subject(table, &column, place)?;
                    Ok(ReadersFrom::Subject(column))
                }
                None => {
                    let column = existing(table, text, place.clone())?;
                    holds_names(table, &column, place)?;
                    Ok(ReadersFrom::Array(column))
                }
            }
        }
        RawReadersFrom::Joined(join) => joined_readers(join, place, tree),
    };
    each.into_iter().map(from).collect()
}

/// The column of a rule `<column> = $subject`.
fn subject_rule(text: &str) -> Option<&str> {
    let (left, right) = text.split_once('=')?;
    match (left.trim(), right.trim()) {
        ("$subject", column) | (column, "$subject") => Some(column),
        _ => None,
    }
}

fn joined_readers(join: &RawTable, place: Range<usize>, tree: &mut Tree<'_>) -> Result<ReadersFrom, Problem> {
    let help = "write { table = \"…\", values = \"<column>\" }";
    let (Some(_), Some(values)) = (&join.table, &join.values) else {
        return Err(Problem::new(place, "readers that join nothing").help(help));
    };
    refuse(
        &[
            ("type", join.kind.as_ref().map(At::span)),
            ("from", join.from.as_ref().map(At::span)),
            ("sql", join.sql.as_ref().map(At::span)),
            ("array", join.array.as_ref().map(At::span)),
            ("order", join.order.as_ref().map(At::span)),
            ("fields", join.fields.as_ref().map(|_| place.clone())),
            ("analyzer", join.analyzer.as_ref().map(At::span)),
            ("language", join.language.as_ref().map(At::span)),
            ("keyword", join.keyword.as_ref().map(At::span)),
            ("scale", join.scale.as_ref().map(At::span)),
        ],
        "says nothing about readers",
        "readers take table, as, on, through, many, where and values",
    )?;
    let (node, _) = tree.join(0, "readers", place, join, Rows::Any)?;
    let rule = subject_rule(values.get_ref());
    let table = tree.table(node);
    let column = existing(table, rule.unwrap_or(values.get_ref()), values.span())?;
    if rule.is_some() {
        holds_subject(table, &column, values.span())?;
    }
    let subject = rule.is_some();
    Ok(ReadersFrom::Joined {
        node,
        column,
        subject,
    })
}

/// Refuses the first of these options that is given.
fn refuse(options: &[(&str, Option<Range<usize>>)], why: &str, help: &str) -> Result<(), Problem> {
    match options
        .iter()
        .find_map(|(option, place)| Some(option).zip(place.clone()))
    {
        Some((option, place)) => Err(Problem::new(place, format!("`{option}` {why}")).help(help)),
        None => Ok(()),
    }
}

/// Refuses a column that cannot hold a JSON array of names: every document would be a dead letter.
fn holds_names(table: &TableSchema, name: &str, place: Range<usize>) -> Result<(), Problem> {
    let Some(column) = table.column(name) else {
        return Ok(());
    };
    match column.kind {
        ColumnKind::Text | ColumnKind::Keyword | ColumnKind::Json | ColumnKind::Array | ColumnKind::Any => {
            Ok(())
        }
        ColumnKind::Boolean
        | ColumnKind::Integer
        | ColumnKind::Double
        | ColumnKind::Decimal
        | ColumnKind::Date
        | ColumnKind::Bytes => {
            let message = format!("column `{name}` ({}) cannot hold readers", column.declared);
            Err(Problem::new(place, message).help(
                "readers are a JSON array of names, a joined table, or a rule: \"<column> = $subject\"",
            ))
        }
    }
}

/// Refuses a column whose values are no subjects.
fn holds_subject(table: &TableSchema, name: &str, place: Range<usize>) -> Result<(), Problem> {
    let Some(column) = table.column(name) else {
        return Ok(());
    };
    match column.kind {
        ColumnKind::Text
        | ColumnKind::Keyword
        | ColumnKind::Integer
        | ColumnKind::Decimal
        | ColumnKind::Any => Ok(()),
        ColumnKind::Boolean
        | ColumnKind::Double
        | ColumnKind::Date
        | ColumnKind::Json
        | ColumnKind::Array
        | ColumnKind::Bytes => {
            let message = format!("column `{name}` ({}) cannot hold a subject", column.declared);
            Err(Problem::new(place, message).help("a subject is a text or a number, as keys name it"))
        }
    }
}

fn existing(table: &TableSchema, name: &str, place: Range<usize>) -> Result<String, Problem> {
    let known = table.columns.iter().map(|column| column.name.as_str());
    match table.column(name) {
        Some(column) => Ok(column.name.clone()),
        None => Err(Problem::unknown(
            place,
            "column",
            name,
            &format!(" of table `{}`", table.name),
            known,
        )),
    }
}

/// The documents' shape while it grows.
struct Shape<'a> {
    tree: Tree<'a>,
    analyzer: &'static str,
    fields: Vec<Field>,
}

/// What the fields of an object are taken from.
#[derive(Clone, Copy)]
enum Inside {
    Node(NodeId),
    Json,
}

impl Shape<'_> {
    fn add(&mut self, name: &At<String>, field: &At<RawField>) -> Result<(), Problem> {
        let path: Vec<&str> = name.get_ref().split('.').collect();
        let (last, above) = path.split_last().expect("a split has a part");
        if !path.iter().all(|part| is_field_name(part)) {
            return Err(bad_name(name.get_ref(), name.span()));
        }
        let inside = self.inside(above).ok_or_else(|| {
            let message = format!(
                "`{}` is not an object that a field can be added to",
                above.join(".")
            );
            Problem::new(name.span(), message).help(format!(
                "define it first: {} = {{ table = \"…\" }}",
                above.join(".")
            ))
        })?;
        let content = match field.get_ref() {
            RawField::Type(kind) => {
                let kind = toml::Spanned::new(field.span(), kind.clone());
                let raw = RawTable {
                    kind: Some(kind),
                    ..RawTable::default()
                };
                self.column(inside, last, &raw, field.span())?
            }
            RawField::Table(raw) if raw.table.is_some() => match inside {
                Inside::Node(node) => self.join(node, last, raw, field.span(), name.span())?,
                Inside::Json => return Err(Problem::new(field.span(), "a JSON object joins no table")),
            },
            RawField::Table(raw) => self.column(inside, last, raw, field.span())?,
        };
        let object = object_at(&mut self.fields, above).expect("it was found above");
        match object.iter_mut().find(|field| field.name == *last) {
            Some(listed) if !above.is_empty() => listed.content = content,
            Some(_) | None => object.push(Field {
                name: (*last).to_owned(),
                content,
            }),
        }
        Ok(())
    }

    /// What an object's fields are taken from; `None` when there is no such object.
    fn inside(&self, path: &[&str]) -> Option<Inside> {
        let mut inside = Inside::Node(0);
        let mut fields = &self.fields;
        for part in path {
            let content = &fields.iter().find(|field| field.name == *part)?.content;
            (inside, fields) = match content {
                Content::Joined { node, fields, .. } => (Inside::Node(*node), fields),
                Content::Json { fields, .. } => (Inside::Json, fields),
                Content::Column { .. } | Content::Values { .. } => return None,
            };
        }
        Some(inside)
    }

    /// A column of a node's table, or a member of a JSON object.
    fn column(
        &self,
        inside: Inside,
        name: &str,
        raw: &RawTable,
        place: Range<usize>,
    ) -> Result<Content, Problem> {
        refuse(
            &[
                ("as", raw.alias.as_ref().map(At::span)),
                ("on", raw.on.as_ref().map(At::span)),
                ("through", raw.through.as_ref().map(At::span)),
                ("many", raw.many.as_ref().map(At::span)),
                ("order", raw.order.as_ref().map(At::span)),
                ("values", raw.values.as_ref().map(At::span)),
                ("where", raw.condition.as_ref().map(At::span)),
            ],
            "without `table`",
            "it belongs to a join: add table = \"…\"",
        )?;
        if let Some(sql) = &raw.sql {
            return self.computed(inside, raw, sql);
        }
        let (wanted, at) = raw.from.as_ref().map_or((name, place.clone()), |from| {
            (from.get_ref().as_str(), from.span())
        });
        let column = match inside {
            Inside::Node(node) => Some(existing(self.tree.table(node), wanted, at)?),
            Inside::Json => None,
        };
        let described = match (inside, &column) {
            (Inside::Node(node), Some(name)) => self.tree.table(node).column(name),
            (Inside::Json, _) | (_, None) => None,
        };
        let column = column.unwrap_or_else(|| wanted.to_owned());
        if let Some(members) = &raw.fields {
            refuse(
                &object_options(raw),
                "says nothing about an object",
                "give it to a field inside: \"<object>.<field>\" = { … }",
            )?;
            let members = distinct(members)?.into_iter().map(|member| self.member(member));
            return match raw.kind.as_ref().map(At::get_ref).map(String::as_str) {
                Some("object") | None => Ok(Content::Json {
                    column,
                    fields: members.collect::<Result<_, _>>()?,
                }),
                Some(other) => Err(
                    Problem::new(place, format!("a field of type {other} has no fields"))
                        .help("use type = \"object\""),
                ),
            };
        }
        let has_array = described.is_some_and(|column| column.kind == ColumnKind::Array);
        let array = raw.array.as_ref().map_or(has_array, |array| *array.get_ref());
        let kind = match (array, &raw.kind, described.map(|column| column.kind)) {
            // A JSON column would be one value of many leaves; the values of its array are scalars.
            (true, None, Some(ColumnKind::Json)) => FieldType::Keyword,
            _ => kind::resolve(raw, place, described, self.analyzer)?,
        };
        Ok(Content::Column { column, kind, array })
    }

    /// An expression over a node's row. The source was asked before ([`super::expressions`]).
    fn computed(&self, inside: Inside, raw: &RawTable, sql: &At<String>) -> Result<Content, Problem> {
        let place = sql.span();
        let Inside::Node(node) = inside else {
            return Err(Problem::new(
                place,
                "an expression has the columns of a row, not the members of JSON",
            ));
        };
        refuse(
            &[
                ("from", raw.from.as_ref().map(At::span)),
                ("fields", raw.fields.as_ref().map(|_| place.clone())),
            ],
            "with `sql`",
            "a field is a column, or an expression over columns",
        )?;
        let refused = |error: instep_core::Error| Problem::new(place.clone(), error.to_string());
        let expression = Expression::parse(sql.get_ref()).map_err(refused)?;
        let table = self.tree.table(node);
        let Some(described) = table.column(&expression.column()) else {
            let message = format!(
                "`{expression}` cannot be computed from rows of table `{}`",
                table.name
            );
            return Err(Problem::new(place, message));
        };
        let is_untyped = matches!(described.kind, ColumnKind::Any | ColumnKind::Bytes);
        if raw.kind.is_none() && is_untyped {
            return Err(Problem::new(place, "no field type follows from the expression")
                .help("give the field a type"));
        }
        let has_array = described.kind == ColumnKind::Array;
        Ok(Content::Column {
            column: expression.column(),
            kind: kind::resolve(raw, place.clone(), Some(described), self.analyzer)?,
            array: raw.array.as_ref().map_or(has_array, |array| *array.get_ref()),
        })
    }

    /// A member of a JSON object, whose type nothing declares.
    fn member(&self, name: &At<String>) -> Result<Field, Problem> {
        if !is_field_name(name.get_ref()) {
            return Err(bad_name(name.get_ref(), name.span()));
        }
        let kind = kind::derived(None, name.span(), self.analyzer)?;
        let name = name.get_ref().clone();
        Ok(Field {
            content: Content::Column {
                column: name.clone(),
                kind,
                array: false,
            },
            name,
        })
    }

    /// The joins that take no field of their rows.
    fn empty_objects(&self, raw: &RawCollection) -> Vec<Problem> {
        let mut problems = Vec::new();
        for name in raw.fields.keys() {
            let path: Vec<&str> = name.get_ref().split('.').collect();
            let mut fields = &self.fields;
            for (at, part) in path.iter().enumerate() {
                let Some(field) = fields.iter().find(|field| field.name == *part) else {
                    break;
                };
                let (Content::Joined { fields: inner, .. } | Content::Json { fields: inner, .. }) =
                    &field.content
                else {
                    break;
                };
                if at + 1 == path.len() && inner.is_empty() {
                    problems.push(
                        Problem::new(
                            name.span(),
                            format!("`{}` is an object without fields", name.get_ref()),
                        )
                        .help("add fields = [\"…\"], or take one column: values = \"…\""),
                    );
                }
                fields = inner;
            }
        }
        problems
    }

    fn join(
        &mut self,
        parent: NodeId,
        name: &str,
        raw: &RawTable,
        place: Range<usize>,
        name_place: Range<usize>,
    ) -> Result<Content, Problem> {
        if let Some(from) = &raw.from {
            return Err(
                Problem::new(from.span(), "`from` with `table`").help("a join takes `fields` or `values`")
            );
        }
        if let Some(sql) = &raw.sql {
            return Err(Problem::new(sql.span(), "`sql` with `table`")
                .help("compute it in a field inside: \"<object>.<field>\" = { sql = \"…\" }"));
        }
        if let Some(array) = &raw.array {
            return Err(Problem::new(array.span(), "`array` with `table`")
                .help("a join of several rows has many = true"));
        }
        let (node, many) = self.tree.join(parent, name, name_place, raw, Rows::AsWritten)?;
        let table = self.tree.table(node);
        match (&raw.fields, &raw.values) {
            (Some(_), Some(values)) => Err(Problem::new(values.span(), "both `fields` and `values`")
                .help("a join is an object of fields, or the values of one column")),
            (None, Some(values)) => {
                let column = existing(table, values.get_ref(), values.span())?;
                let described = table.column(&column);
                let plain =
                    raw.kind.is_none() && object_options(raw).iter().all(|(_, given)| given.is_none());
                let kind = match kind::resolve(raw, place, described, self.analyzer)? {
                    FieldType::Text { .. } if plain => FieldType::Keyword,
                    kind => kind,
                };
                Ok(Content::Values {
                    node,
                    many,
                    column,
                    kind,
                })
            }
            (fields, None) => {
                if let Some(kind) = raw.kind.as_ref().filter(|kind| kind.get_ref() != "object") {
                    return Err(Problem::new(
                        kind.span(),
                        format!("a join of fields is an object, not a {}", kind.get_ref()),
                    )
                    .help("leave `type` out, or take one column: values = \"…\""));
                }
                refuse(
                    &object_options(raw),
                    "says nothing about an object",
                    "give it to a field inside: \"<object>.<field>\" = { … }",
                )?;
                let fields = distinct(fields.as_deref().unwrap_or_default())?;
                let fields = fields.into_iter().map(|name| {
                    let column = existing(table, name.get_ref(), name.span())?;
                    if !is_field_name(&column) {
                        return Err(Problem::new(
                            name.span(),
                            format!("`{column}` cannot be the name of a field"),
                        )
                        .help(
                            "name it yourself: \"<object>.<field>\" = { from = \"<column>\", type = \"…\" }",
                        ));
                    }
                    let described = table.column(&column);
                    let kind = kind::derived(described, name.span(), self.analyzer)?;
                    let array = described.is_some_and(|column| column.kind == ColumnKind::Array);
                    Ok(Field {
                        name: column.clone(),
                        content: Content::Column { column, kind, array },
                    })
                });
                Ok(Content::Joined {
                    node,
                    many,
                    fields: fields.collect::<Result<_, Problem>>()?,
                })
            }
        }
    }
}

/// Whether a text can be the name of a field: not empty, no dot, and nothing a query reads otherwise.
pub(crate) fn is_field_name(name: &str) -> bool {
    let special = |c: char| matches!(c, '.' | '*' | ',' | '^') || c.is_control();
    !name.is_empty() && name.trim() == name && !name.starts_with('_') && !name.contains(special)
}

fn bad_name(name: &str, place: Range<usize>) -> Problem {
    Problem::new(place, format!("`{name}` cannot be the name of a field")).help(
        "a name is not empty, does not start with _ and holds none of * , ^; a dot leads into a joined object",
    )
}

/// The names, refused where one is listed twice.
fn distinct(names: &[At<String>]) -> Result<Vec<&At<String>>, Problem> {
    let mut seen: Vec<&At<String>> = Vec::new();
    for name in names {
        if seen.iter().any(|other| other.get_ref() == name.get_ref()) {
            return Err(Problem::new(
                name.span(),
                format!("`{}` is listed twice", name.get_ref()),
            ));
        }
        seen.push(name);
    }
    Ok(seen)
}

/// Options of a single field that say nothing about an object.
fn object_options(raw: &RawTable) -> [(&'static str, Option<Range<usize>>); 4] {
    [
        ("analyzer", raw.analyzer.as_ref().map(At::span)),
        ("language", raw.language.as_ref().map(At::span)),
        ("keyword", raw.keyword.as_ref().map(At::span)),
        ("scale", raw.scale.as_ref().map(At::span)),
    ]
}

fn object_at<'b>(fields: &'b mut Vec<Field>, path: &[&str]) -> Option<&'b mut Vec<Field>> {
    let Some((first, rest)) = path.split_first() else {
        return Some(fields);
    };
    match &mut fields.iter_mut().find(|field| field.name == *first)?.content {
        Content::Joined { fields, .. } | Content::Json { fields, .. } => object_at(fields, rest),
        Content::Column { .. } | Content::Values { .. } => None,
    }
}
