//! The configuration as it stands in the file: every value with its place, nothing looked up yet.
//!
//! The doc comments of this file are the descriptions in the JSON Schema that `instep config schema` prints.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::config::secret::Secret;

/// A value with its place in the file.
pub(crate) type At<T> = Spanned<T>;

/// The configuration of instep.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "instep configuration")]
pub(crate) struct RawConfig {
    /// Where instep keeps its own state.
    #[serde(default)]
    pub(crate) state: RawState,
    /// The search API.
    #[serde(default)]
    pub(crate) server: RawServer,
    /// Databases, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawSource>")]
    pub(crate) source: BTreeMap<At<String>, RawSource>,
    /// Document types, by name.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawCollection>")]
    pub(crate) collection: BTreeMap<At<String>, RawCollection>,
    /// API keys, by name. Without any, callers are anonymous: loopback and public collections only.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawKey>")]
    pub(crate) key: BTreeMap<At<String>, RawKey>,
    /// Places to index, by name. `embedded` exists without being named.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawCluster>")]
    pub(crate) cluster: BTreeMap<At<String>, RawCluster>,
    /// Index sets, by name. Without any there is one, `main`.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, RawSet>")]
    pub(crate) set: BTreeMap<At<String>, RawSet>,
}

/// Where instep keeps its own state.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawState {
    /// A folder, relative to this file: the change log, and the embedded engine's indexes. `instep-state` without it.
    #[schemars(with = "Option<String>")]
    pub(crate) path: Option<At<String>>,
}

/// The search API.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawServer {
    /// Address and port. 127.0.0.1:9200 without it; port 0 takes a free one. An address that is not loopback needs keys.
    #[schemars(with = "Option<String>")]
    pub(crate) listen: Option<At<String>>,
}

/// A database.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSource {
    /// `sqlite:<path>`, relative to this file, or `postgres://user@host:port/database?sslmode=verify-full`. `${VAR}` takes
    /// from the environment, `file:<path>` reads a file. As user or password of Postgres, `${VAR}` is taken as it is:
    /// nothing in it needs to be written as %XX.
    #[schemars(with = "String")]
    pub(crate) url: At<String>,
    /// For Postgres: where changes are streamed from, when `url` is a pooler or a replica.
    #[schemars(with = "Option<String>")]
    pub(crate) stream_url: Option<At<String>>,
    /// For Postgres: a file with the password and nothing else, relative to this file. It wins over the URLs' passwords.
    #[schemars(with = "Option<String>")]
    pub(crate) password_file: Option<At<String>>,
    /// For Postgres: a PEM file with the authorities that signed the server's certificate, relative to this file; or
    /// `system` for those this machine trusts.
    #[schemars(with = "Option<String>")]
    pub(crate) root_certificate: Option<At<String>>,
    /// For Postgres: the replication slot. `instep_<source>` without it.
    #[schemars(with = "Option<String>")]
    pub(crate) slot: Option<At<String>>,
    /// For Postgres: the publication. `instep_<source>` without it.
    #[schemars(with = "Option<String>")]
    pub(crate) publication: Option<At<String>>,
}

/// Without the addresses: they may hold passwords.
impl fmt::Debug for RawSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawSource").finish_non_exhaustive()
    }
}

/// A document type.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCollection {
    /// The source its rows live in. May be left out when there is only one.
    #[schemars(with = "Option<String>")]
    pub(crate) source: Option<At<String>>,
    /// The root table: each of its rows is a document, its primary key the document's `_id`. With its schema's name or
    /// without it: `public.product`, or `product` where one table has that name, or one of several in `public`.
    #[schemars(with = "String")]
    pub(crate) root: At<String>,
    /// Only rows of the root that meet this SQL condition over their own columns are documents: `published and deleted_at
    /// is null`. A row that leaves it takes its document with it.
    #[serde(rename = "where")]
    #[schemars(with = "Option<String>")]
    pub(crate) condition: Option<At<String>>,
    /// The language of its text: picks the analyzer of text fields and names the index. Or a column that says it:
    /// `{ column = "lang", known = ["en", "sv"], other = "unspecified" }` makes an index for each.
    #[schemars(with = "Option<RawLanguage>")]
    pub(crate) language: Option<At<RawLanguage>>,
    /// Who may read a document: a column with an array of names (JSON text, where the source has no arrays), a joined table
    /// with one name in each row, or a rule such as `owner_id = $subject`; or a list of these: whom any of them names.
    #[schemars(with = "Option<RawReaders>")]
    pub(crate) readers: Option<At<RawReaders>>,
    /// Who may not, whatever `readers` says; written in the same way.
    #[schemars(with = "Option<RawReaders>")]
    pub(crate) deny: Option<At<RawReaders>>,
    /// A document that changes again within so many milliseconds after it was built waits until they are over, and is built
    /// once for all changes meanwhile. 100 without it, 10,000 at most; 0 builds at every
    /// change.
    #[schemars(with = "Option<u32>")]
    pub(crate) debounce_ms: Option<At<u32>>,
    /// Documents of rows that were soft-deleted so long ago go, although their rows are there:
    /// `{ column = "deleted_at", after_days = 30 }`.
    #[schemars(with = "Option<RawPurge>")]
    pub(crate) purge: Option<At<RawPurge>>,
    /// Everybody may read its documents, without a key too.
    #[schemars(with = "Option<bool>")]
    pub(crate) public: Option<At<bool>>,
    /// The documents' fields. A name with dots adds to a joined object: `"reviews.author"`.
    #[schemars(with = "BTreeMap<String, RawField>")]
    pub(crate) fields: BTreeMap<At<String>, At<RawField>>,
}

impl RawCollection {
    /// The tables it names: its root, those it joins, and the link tables between them.
    pub(crate) fn tables(&self) -> Vec<&str> {
        let joins = self.fields.values().filter_map(|field| match field.get_ref() {
            RawField::Type(_) => None,
            RawField::Table(table) => Some(table),
        });
        let joined = joins
            .map(|join| &**join)
            .chain(self.reader_joins())
            .flat_map(|join| [&join.table, &join.through]);
        let names = [&self.root].into_iter().chain(joined.flatten());
        names.map(|name| name.get_ref().as_str()).collect()
    }

    /// The tables joined for the sake of `readers` and `deny`.
    pub(crate) fn reader_joins(&self) -> impl Iterator<Item = &RawTable> {
        let readers = self.readers.iter().chain(&self.deny);
        let each = readers.flat_map(|readers| readers.get_ref().each(readers.span()));
        each.filter_map(|(readers, _)| match readers {
            RawReadersFrom::Column(_) => None,
            RawReadersFrom::Joined(join) => Some(&**join),
        })
    }
}

/// When documents of soft-deleted rows go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPurge {
    /// A column of the root: the moment of the soft delete, NULL for a row that is not deleted.
    #[schemars(with = "String")]
    pub(crate) column: At<String>,
    /// So many days after it.
    #[schemars(with = "u16")]
    pub(crate) after_days: At<u16>,
}

/// The language of a collection's text.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum RawLanguage {
    /// A tag such as `en`: the same for all documents.
    Tag(String),
    /// As a column says.
    Column(RawLanguageColumn),
}

/// A column of the root that holds each document's language.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLanguageColumn {
    /// The column.
    #[schemars(with = "String")]
    pub(crate) column: At<String>,
    /// The languages that have an index each, with the language's analyzer.
    #[schemars(with = "Vec<String>")]
    pub(crate) known: Vec<At<String>>,
    /// The language of all other documents; `unspecified` without it.
    #[schemars(with = "Option<String>")]
    pub(crate) other: Option<At<String>>,
}

impl<'de> Deserialize<'de> for RawLanguage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = RawLanguage;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a language such as \"en\", or a table with the column that says it")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawLanguage, E> {
                Ok(RawLanguage::Tag(text.to_owned()))
            }
            fn visit_map<M: serde::de::MapAccess<'de>>(self, map: M) -> Result<RawLanguage, M::Error> {
                RawLanguageColumn::deserialize(MapAccessDeserializer::new(map)).map(RawLanguage::Column)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Who may read a document.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum RawReaders {
    /// In one place.
    One(RawReadersFrom),
    /// In several: whom any of them names.
    Several(#[schemars(with = "Vec<RawReadersFrom>")] Vec<At<RawReadersFrom>>),
}

impl RawReaders {
    /// The places where readers are named, each with where it is written; `place` is where all of it is.
    pub(crate) fn each(&self, place: Range<usize>) -> Vec<(&RawReadersFrom, Range<usize>)> {
        match self {
            RawReaders::One(from) => vec![(from, place)],
            RawReaders::Several(several) => {
                several.iter().map(|from| (from.get_ref(), from.span())).collect()
            }
        }
    }
}

/// Where readers are named.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum RawReadersFrom {
    /// A column of the root that holds an array of names; or `<column> = $subject`, of one that holds a subject.
    Column(String),
    /// Joined rows, each with one name in the column `values`; or `values = "<column> = $subject"`.
    Joined(Box<RawTable>),
}

impl<'de> Deserialize<'de> for RawReaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = RawReaders;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(READERS)
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawReaders, E> {
                Ok(RawReaders::One(RawReadersFrom::Column(text.to_owned())))
            }
            fn visit_map<M: serde::de::MapAccess<'de>>(self, map: M) -> Result<RawReaders, M::Error> {
                let join = RawTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawReaders::One(RawReadersFrom::Joined(Box::new(join))))
            }
            fn visit_seq<S: serde::de::SeqAccess<'de>>(self, several: S) -> Result<RawReaders, S::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(several)).map(RawReaders::Several)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A field: the name of a type, or a table that says more.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum RawField {
    /// The field's type; its column has the field's name.
    Type(String),
    /// A column, a JSON object, or a join.
    Table(Box<RawTable>),
}

/// A field in full. With `table` it is a join, otherwise a column.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTable {
    /// keyword, text, long, integer, double, decimal, boolean, date, object or flattened.
    #[serde(rename = "type")]
    #[schemars(with = "Option<String>")]
    pub(crate) kind: Option<At<String>>,
    /// The column; the field's own name without it.
    #[schemars(with = "Option<String>")]
    pub(crate) from: Option<At<String>>,
    /// In place of a column: an SQL expression over the row, such as `price * (1 + vat)`. Its functions must be
    /// deterministic, and it reads no other rows.
    #[schemars(with = "Option<String>")]
    pub(crate) sql: Option<At<String>>,
    /// For text: the analyzer's name.
    #[schemars(with = "Option<String>")]
    pub(crate) analyzer: Option<At<String>>,
    /// For text: the language, where it is not the collection's.
    #[schemars(with = "Option<String>")]
    pub(crate) language: Option<At<String>>,
    /// For text: whether `<field>.keyword` holds the exact text (of up to 256 characters) too. True without it.
    #[schemars(with = "Option<bool>")]
    pub(crate) keyword: Option<At<bool>>,
    /// For decimal: digits after the point. The column's own, or 2, without it.
    #[schemars(with = "Option<u8>")]
    pub(crate) scale: Option<At<u8>>,
    /// The column holds an array (JSON text, where the source has no arrays): the field has each of its values.
    #[schemars(with = "Option<bool>")]
    pub(crate) array: Option<At<bool>>,
    /// Joins this table.
    #[schemars(with = "Option<String>")]
    pub(crate) table: Option<At<String>>,
    /// What `on` and `order` call the joined table. Needed in the `on` of a self-join.
    #[serde(rename = "as")]
    #[schemars(with = "Option<String>")]
    pub(crate) alias: Option<At<String>>,
    /// `a.x = b.y`, several joined by `and`. Not needed along a foreign key, when there is exactly one.
    #[schemars(with = "Option<String>")]
    pub(crate) on: Option<At<String>>,
    /// A link table between the two.
    #[schemars(with = "Option<String>")]
    pub(crate) through: Option<At<String>>,
    /// Several rows may belong to one: the field is an array. A join that is written out without it takes one row.
    #[schemars(with = "Option<bool>")]
    pub(crate) many: Option<At<bool>>,
    /// Only rows of the joined table that meet this SQL condition over their own columns.
    #[serde(rename = "where")]
    #[schemars(with = "Option<String>")]
    pub(crate) condition: Option<At<String>>,
    /// A column of the joined or the link table that orders the array; `desc` after it for the largest first.
    #[schemars(with = "Option<String>")]
    pub(crate) order: Option<At<String>>,
    /// The joined object's columns (or a JSON object's members), with types derived from the table; a dotted field
    /// (`"seller.name" = "keyword"`) gives one another type.
    #[schemars(with = "Option<Vec<String>>")]
    pub(crate) fields: Option<Vec<At<String>>>,
    /// One column of the joined rows, without an object around it. `type` gives its type; keyword for text.
    #[schemars(with = "Option<String>")]
    pub(crate) values: Option<At<String>>,
}

/// An API key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawKey {
    /// The secret itself: from the environment (`${VAR}`) or a file (`file:<path>`). At least 16 characters.
    #[schemars(with = "String")]
    pub(crate) secret: At<Secret>,
    /// Who the caller is.
    #[schemars(with = "String")]
    pub(crate) subject: At<String>,
    /// Groups the caller belongs to. The caller sees documents whose readers name its subject or one of its units.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) units: Vec<At<String>>,
    /// `search` (all collections), `search:<collection>`, `operate` (status and metrics), `read_all` (every document,
    /// whatever its readers).
    #[schemars(with = "Vec<String>")]
    pub(crate) scopes: Vec<At<String>>,
}

/// A place to index.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCluster {
    /// `embedded`, or `null` (takes everything and keeps nothing: for measurements). Not for a cluster with a `url`: what
    /// answers there is detected.
    #[schemars(with = "Option<String>")]
    pub(crate) engine: Option<At<String>>,
    /// For embedded: memory for writing, in MB, whatever the number of collections. 128 without it, at least 15.
    #[schemars(with = "Option<u32>")]
    pub(crate) writer_memory_mb: Option<At<u32>>,
    /// The address of an OpenSearch or Elasticsearch cluster: `https://host:9200`.
    #[schemars(with = "Option<String>")]
    pub(crate) url: Option<At<String>>,
    /// The addresses of more of its hosts. They take turns, and one that does not answer is set aside.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) urls: Vec<At<String>>,
    /// The user to sign in as.
    #[schemars(with = "Option<String>")]
    pub(crate) user: Option<At<String>>,
    /// The user's password: `${VAR}` takes it from the environment, `file:<path>` from a file.
    #[schemars(with = "Option<String>")]
    pub(crate) password: Option<At<Secret>>,
    /// A file with the password and nothing else, relative to this file.
    #[schemars(with = "Option<String>")]
    pub(crate) password_file: Option<At<String>>,
    /// An API key in place of user and password, as the cluster gave it out (base64); `${VAR}` and `file:<path>` as above.
    #[schemars(with = "Option<String>")]
    pub(crate) api_key: Option<At<Secret>>,
    /// The region of an Amazon OpenSearch Service domain: requests are signed by whom AWS's own tools find (environment,
    /// profile, role), in place of a login. In builds with the feature `aws`.
    #[schemars(with = "Option<String>")]
    pub(crate) aws_region: Option<At<String>>,
    /// A PEM file with the authorities that signed the cluster's certificates, relative to this file. The system's without
    /// it.
    #[schemars(with = "Option<String>")]
    pub(crate) ca: Option<At<String>>,
    /// Settings of the indexes that are made there, by the cluster's own names: `number_of_replicas`, `refresh_interval`.
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub(crate) settings: Option<At<toml::Table>>,
}

/// An index set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSet {
    /// The cluster it lives in. Without it the one that has a `url`, where exactly one has; `embedded` otherwise.
    #[schemars(with = "Option<String>")]
    pub(crate) cluster: Option<At<String>>,
    /// Whether this is the set that answers searches. The first one by name without it.
    #[schemars(with = "Option<bool>")]
    pub(crate) active: Option<At<bool>>,
}

/// Text or a table, so that errors inside the table keep their place and their list of known keys.
macro_rules! text_or_table {
    ($name:ident, $text:ident, $table:ident, $expecting:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl<'de> serde::de::Visitor<'de> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        Ok($name::$text(text.to_owned()))
                    }
                    fn visit_map<M: serde::de::MapAccess<'de>>(self, map: M) -> Result<$name, M::Error> {
                        RawTable::deserialize(MapAccessDeserializer::new(map))
                            .map(|table| $name::$table(Box::new(table)))
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

text_or_table!(RawField, Type, Table, "the name of a type, or a table");
text_or_table!(RawReadersFrom, Column, Joined, READERS);

/// What may stand for readers.
const READERS: &str =
    "the name of a column, a rule such as \"owner_id = $subject\", or a table that joins one";
