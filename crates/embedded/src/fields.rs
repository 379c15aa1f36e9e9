//! The schema of an index, made from its mapping: which of the library's fields holds what.
//!
//! Fields of the library are named by the place of our field in the mapping, so that no name of a user's field can
//! mean anything to the library. The schema is a function of the mapping alone.

use std::collections::BTreeMap;

use instep_core::reading::ReadAs;
use instep_core::{FieldType, Mapping, Resolved, Result};
use tantivy::schema::{
    Field, IndexRecordOption, NumericOptions, Schema, SchemaBuilder, TextFieldIndexing, TextOptions,
};

use crate::analysis::Analyzer;

/// Stands between a path and its value in a flattened field.
pub(crate) const PATH_END: char = '\0';

/// The column of the document's id.
pub(crate) const ID: &str = "_id";
/// The column of the document's ticket.
pub(crate) const TICKET: &str = "_ticket";
/// The column that numbers the writes of an index: the order of insertion, which merging segments does not keep.
pub(crate) const SEQUENCE: &str = "_seq";

/// The fields of an index.
pub(crate) struct Fields {
    pub(crate) schema: Schema,
    pub(crate) mapping: Mapping,
    pub(crate) id: Field,
    pub(crate) readers: Field,
    pub(crate) ticket: Field,
    pub(crate) sequence: Field,
    pub(crate) source: Field,
    /// Paths of the text fields that a document has.
    pub(crate) names: Field,
    pub(crate) leaves: Vec<Leaf>,
    pub(crate) root: Object,
}

/// A leaf of the mapping.
pub(crate) struct Leaf {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// Terms, and unless it is text the column, too.
    pub(crate) main: Slot,
    /// The exact text of a text field; the terms with their paths of a flattened one.
    pub(crate) exact: Option<Slot>,
}

/// One field of the library.
#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) field: Field,
    /// Its name, which is its column's, too.
    pub(crate) column: String,
}

/// What a leaf holds, as [`FieldType`], with its analyzer found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Keyword,
    Text(Analyzer),
    Long,
    Integer,
    Double,
    Decimal(u8),
    Boolean,
    Date,
    Flattened,
}

impl Kind {
    /// How a query's values are read.
    pub(crate) fn read_as(self) -> ReadAs {
        match self {
            Kind::Keyword | Kind::Text(_) | Kind::Flattened => ReadAs::Text,
            Kind::Long => ReadAs::Long,
            Kind::Integer => ReadAs::Integer,
            Kind::Double => ReadAs::Double,
            Kind::Decimal(scale) => ReadAs::Decimal(scale),
            Kind::Boolean => ReadAs::Boolean,
            Kind::Date => ReadAs::Date,
        }
    }

    /// The type's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Keyword => "keyword",
            Kind::Text(_) => "text",
            Kind::Long => "long",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Decimal(_) => "decimal",
            Kind::Boolean => "boolean",
            Kind::Date => "date",
            Kind::Flattened => "flattened",
        }
    }
}

/// The fields of an object, by name.
#[derive(Default)]
pub(crate) struct Object(BTreeMap<Box<str>, Child>);

/// What lies under a name.
pub(crate) enum Child {
    /// A leaf: its place in [`Fields::leaves`].
    Leaf(usize),
    Object(Object),
}

impl Object {
    pub(crate) fn get(&self, name: &str) -> Option<&Child> {
        self.0.get(name)
    }

    fn insert(&mut self, path: &str, leaf: usize) {
        match path.split_once('.') {
            None => {
                self.0.insert(path.into(), Child::Leaf(leaf));
            }
            Some((head, tail)) => {
                let child = self
                    .0
                    .entry(head.into())
                    .or_insert_with(|| Child::Object(Object::default()));
                if let Child::Object(object) = child {
                    object.insert(tail, leaf);
                }
            }
        }
    }
}

/// What a path in a query names, with its fields.
pub(crate) enum Named<'a> {
    /// A leaf other than text, or the exact text of one: terms and column.
    Exact { leaf: &'a Leaf, slot: &'a Slot },
    /// Analysed text.
    Text { leaf: &'a Leaf, analyzer: Analyzer },
    /// A path inside a flattened field.
    Inside { slot: &'a Slot, path: &'a str },
    /// An object.
    Object,
}

impl Fields {
    pub(crate) fn new(mapping: Mapping) -> Result<Self> {
        let mut builder = Schema::builder();
        let raw = raw_text();
        let id = builder.add_text_field(ID, raw.clone().set_fast("raw").set_stored());
        let readers = builder.add_text_field("_readers", raw.clone().set_stored());
        let ticket = builder.add_u64_field(TICKET, NumericOptions::default().set_fast());
        let sequence = builder.add_u64_field(SEQUENCE, NumericOptions::default().set_fast());
        let source = builder.add_bytes_field("_source", tantivy::schema::STORED);
        let names = builder.add_text_field("_names", raw.clone());
        let mut leaves = Vec::new();
        let mut root = Object::default();
        for (path, kind) in &mapping.fields {
            root.insert(path, leaves.len());
            leaves.push(Leaf::new(&mut builder, leaves.len(), path, kind)?);
        }
        let schema = builder.build();
        Ok(Fields {
            schema,
            mapping,
            id,
            readers,
            ticket,
            sequence,
            source,
            names,
            leaves,
            root,
        })
    }

    /// What a dotted path names; `None` when nothing.
    pub(crate) fn resolve<'a>(&'a self, path: &'a str) -> Option<Named<'a>> {
        Some(match self.mapping.resolve(path)? {
            Resolved::Field(name, _) => {
                let leaf = self.leaf(name)?;
                match leaf.kind {
                    Kind::Text(analyzer) => Named::Text { leaf, analyzer },
                    _ => Named::Exact {
                        leaf,
                        slot: &leaf.main,
                    },
                }
            }
            Resolved::KeywordOf(name) => {
                let leaf = self.leaf(name)?;
                Named::Exact {
                    leaf,
                    slot: leaf.exact.as_ref()?,
                }
            }
            Resolved::FlattenedPath(name, path) => Named::Inside {
                slot: self.leaf(name)?.exact.as_ref()?,
                path,
            },
            Resolved::Object => Named::Object,
        })
    }

    /// The leaves below an object.
    pub(crate) fn below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Leaf> {
        self.leaves.iter().filter(move |leaf| {
            leaf.path
                .strip_prefix(path)
                .is_some_and(|rest| rest.starts_with('.'))
        })
    }

    fn leaf(&self, path: &str) -> Option<&Leaf> {
        let at = self
            .leaves
            .binary_search_by(|leaf| leaf.path.as_str().cmp(path))
            .ok()?;
        self.leaves.get(at)
    }
}

impl Leaf {
    fn new(builder: &mut SchemaBuilder, place: usize, path: &str, kind: &FieldType) -> Result<Self> {
        let exact_text = raw_text().set_fast("raw");
        let number = NumericOptions::default().set_fast().set_indexed();
        let column = place.to_string();
        let mut exact = None;
        let (kind, field) = match kind {
            FieldType::Keyword => (Kind::Keyword, builder.add_text_field(&column, exact_text)),
            FieldType::Text { analyzer, keyword } => {
                let analyzer = Analyzer::named(analyzer)?;
                if *keyword {
                    exact = Some(Slot::text(builder, format!("{place}k"), exact_text));
                }
                let indexing = TextFieldIndexing::default()
                    .set_tokenizer(analyzer.tokenizer_name())
                    .set_index_option(IndexRecordOption::WithFreqsAndPositions);
                let options = TextOptions::default().set_indexing_options(indexing);
                (Kind::Text(analyzer), builder.add_text_field(&column, options))
            }
            FieldType::Long => (Kind::Long, builder.add_i64_field(&column, number)),
            FieldType::Integer => (Kind::Integer, builder.add_i64_field(&column, number)),
            FieldType::Double => (Kind::Double, builder.add_f64_field(&column, number)),
            FieldType::Decimal { scale } => (Kind::Decimal(*scale), builder.add_i64_field(&column, number)),
            FieldType::Boolean => (Kind::Boolean, builder.add_bool_field(&column, number)),
            FieldType::Date => (Kind::Date, builder.add_i64_field(&column, number)),
            FieldType::Flattened => {
                exact = Some(Slot::text(builder, format!("{place}p"), exact_text.clone()));
                (Kind::Flattened, builder.add_text_field(&column, exact_text))
            }
        };
        Ok(Leaf {
            path: path.to_owned(),
            kind,
            main: Slot { field, column },
            exact,
        })
    }
}

impl Slot {
    fn text(builder: &mut SchemaBuilder, column: String, options: TextOptions) -> Self {
        Slot {
            field: builder.add_text_field(&column, options),
            column,
        }
    }
}

/// Whole values as terms, without frequencies and lengths.
fn raw_text() -> TextOptions {
    let indexing = TextFieldIndexing::default()
        .set_tokenizer("raw")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::Basic);
    TextOptions::default().set_indexing_options(indexing)
}
