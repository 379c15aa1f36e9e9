//! Which type has which rule: read from `pg_type` and what belongs to it.
//!
//! A type is known by the function that spells it, so types that share one share the rule. A domain is its base type; a
//! type that nobody here knows is text as it spells itself.

use std::collections::HashMap;

use instep_core::{ColumnKind, Error, Result};

use super::super::connect::{Line, Session};
use super::{Rule, Type};

/// The types of a database's columns.
pub(in super::super) struct Catalogue {
    described: HashMap<u32, Described>,
    /// By number and modifier.
    made: HashMap<(u32, i32), Type>,
}

/// A row of `pg_type`, with what belongs to it. Numbers are 0 where there is none.
struct Described {
    /// As a person spells it.
    name: String,
    /// As SQL spells it, with its schema.
    sql: String,
    /// `typtype`.
    class: String,
    /// The function that spells its values, when it comes with Postgres or with an extension we know; else empty.
    output: String,
    /// What a domain is based on.
    base: u32,
    base_modifier: i32,
    /// What an array consists of.
    element: u32,
    delimiter: char,
    /// What a range's bounds are; a multirange's, too.
    bound: u32,
    /// Name, type and modifier of each attribute of a composite.
    attributes: Vec<(String, u32, i32)>,
    /// Digits of money after the point.
    places: u32,
}

/// All types that columns of users' tables have, others whose numbers are put in, and the types that those consist of.
const SQL: &str = "
with recursive used(oid) as (
  select distinct a.atttypid
  from pg_catalog.pg_attribute a
  join pg_catalog.pg_class c on c.oid = a.attrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
    and n.nspname <> 'information_schema' and n.nspname not like 'pg\\_%'
  union
  select pg_catalog.unnest('{ALSO}'::oid[])
  union
  select part.oid
  from used
  join pg_catalog.pg_type t on t.oid = used.oid
  cross join lateral (
    select t.typbasetype where t.typbasetype <> 0
    union all
    select t.typelem where t.typelem <> 0
    union all
    select r.rngsubtype from pg_catalog.pg_range r where t.oid in (r.rngtypid, r.rngmultitypid)
    union all
    select a.atttypid from pg_catalog.pg_attribute a
    where t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
  ) part(oid)
)
select t.oid, pg_catalog.format_type(t.oid, null), t.typtype,
  case when o.oid < 16384 or x.extname in ('citext', 'hstore') then o.proname else '' end,
  t.typbasetype, t.typtypmod, t.typelem, coalesce(e.typdelim, ','), coalesce(r.rngsubtype, 0),
  case when t.typtype = 'c' then (
    select json_agg(json_build_array(a.attname, a.atttypid::int8, a.atttypmod) order by a.attnum)
    from pg_catalog.pg_attribute a
    where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
  ) end,
  case when o.proname = 'cash_out' then encode(cash_send('1'::money), 'hex') end,
  quote_ident(n.nspname) || '.' || quote_ident(t.typname)
from used
join pg_catalog.pg_type t on t.oid = used.oid
join pg_catalog.pg_namespace n on n.oid = t.typnamespace
join pg_catalog.pg_proc o on o.oid = t.typoutput
left join pg_catalog.pg_type e on e.oid = t.typelem
left join pg_catalog.pg_range r on t.oid in (r.rngtypid, r.rngmultitypid)
left join pg_catalog.pg_depend d
  on d.classid = 'pg_catalog.pg_type'::regclass and d.objid = t.oid and d.objsubid = 0
  and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e'
left join pg_catalog.pg_extension x on x.oid = d.refobjid";

/// Types inside types beyond this are text.
const DEEPEST: u32 = 32;

/// The limit up to which text is rather a name than prose.
const SHORT: i32 = 255;

impl Catalogue {
    /// Reads every type that a column of a user's table has, `also` these, and the types those consist of, in one statement. The
    /// session must not be under [`super::SETTINGS`]: how many digits money has after its point is a matter of the
    /// database's own `lc_monetary`.
    pub(in super::super) async fn read(session: &Session, also: &[u32]) -> Result<Catalogue> {
        let also: Vec<String> = also.iter().map(u32::to_string).collect();
        let sql = SQL.replace("ALSO", &also.join(","));
        // To compile such a query takes far longer than to run it.
        let lines = session.query(&format!("set local jit = off; {sql}")).await?;
        let described = lines
            .iter()
            .map(|line| Ok((number(line.text(0)?)?, Described::read(line)?)))
            .collect::<Result<_>>()?;
        Ok(Catalogue {
            described,
            made: HashMap::new(),
        })
    }

    /// The type of a column: its `atttypid` and `atttypmod`.
    pub(in super::super) fn of(&mut self, oid: u32, modifier: i32) -> Type {
        if let Some(made) = self.made.get(&(oid, modifier)) {
            return made.clone();
        }
        let made = self.make(oid, modifier, DEEPEST);
        self.made.insert((oid, modifier), made.clone());
        made
    }

    fn make(&self, oid: u32, modifier: i32, depth: u32) -> Type {
        let (Some(described), Some(depth)) = (self.described.get(&oid), depth.checked_sub(1)) else {
            return Type::new("unknown", "pg_catalog.text", ColumnKind::Any, Rule::Text);
        };
        let inner = |oid, modifier| self.make(oid, modifier, depth);
        let is = |kind, rule| Type::new(&described.name, &described.sql, kind, rule);
        match described.class.as_str() {
            "d" => inner(described.base, described.base_modifier),
            "e" => is(ColumnKind::Keyword, Rule::Text),
            "c" => {
                let attributes = described.attributes.iter();
                let attributes =
                    attributes.map(|(name, oid, modifier)| (name.clone(), inner(*oid, *modifier)));
                is(ColumnKind::Json, Rule::Composite(attributes.collect()))
            }
            "r" => is(ColumnKind::Json, Rule::Range(inner(described.bound, -1))),
            "m" => is(ColumnKind::Array, Rule::Multirange(inner(described.bound, -1))),
            _ => match described.output.as_str() {
                "array_out" => is(
                    ColumnKind::Array,
                    // An array's modifier is that of its elements.
                    Rule::Array(inner(described.element, modifier), described.delimiter),
                ),
                "int2vectorout" | "oidvectorout" => {
                    is(ColumnKind::Array, Rule::Vector(inner(described.element, -1)))
                }
                "cash_out" => is(ColumnKind::Decimal, Rule::Money(described.places)),
                output => {
                    let (kind, rule) = simple(output, modifier);
                    is(kind, rule)
                }
            },
        }
    }
}

/// The rule of the types whose values this function spells; those that are made of no other.
fn simple(output: &str, modifier: i32) -> (ColumnKind, Rule) {
    use ColumnKind as K;
    match output {
        "boolout" => (K::Boolean, Rule::Boolean),
        "int2out" => (K::Integer, Rule::Integer(i16::MIN.into(), i16::MAX.into())),
        "int4out" => (K::Integer, Rule::Integer(i32::MIN.into(), i32::MAX.into())),
        "int8out" => (K::Integer, Rule::Integer(i64::MIN, i64::MAX)),
        "oidout" | "xidout" | "cidout" => (K::Integer, Rule::Integer(0, u32::MAX.into())),
        "xid8out" => (K::Integer, Rule::Unsigned),
        "float4out" | "float8out" => (K::Double, Rule::Double),
        "numeric_out" => (K::Decimal, Rule::Decimal),
        // The limit counts four more than is declared.
        "varcharout" if modifier >= 4 && modifier - 4 <= SHORT => (K::Keyword, Rule::Text),
        "bpcharout" if modifier - 4 <= SHORT => (K::Keyword, Rule::Padded),
        "bpcharout" => (K::Text, Rule::Padded),
        "textout" | "varcharout" | "tsvectorout" => (K::Text, Rule::Text),
        "xml_out" => (K::Text, Rule::Shown),
        "uuid_out" => (K::Keyword, Rule::Uuid),
        "byteaout" => (K::Bytes, Rule::Bytes),
        "date_out" => (K::Date, Rule::Date),
        "timestamp_out" => (K::Date, Rule::Timestamp),
        "timestamptz_out" => (K::Date, Rule::Moment),
        "json_out" | "jsonb_out" => (K::Json, Rule::Json),
        "hstore_out" => (K::Json, Rule::Hstore),
        "point_out" => (K::Json, Rule::Point),
        "regprocout" | "regprocedureout" | "regoperout" | "regoperatorout" | "regclassout" | "regtypeout"
        | "regroleout" | "regnamespaceout" | "regconfigout" | "regdictionaryout" | "regcollationout"
        | "regdatabaseout" | "jsonpath_out" | "pg_snapshot_out" | "txid_snapshot_out" | "line_out"
        | "lseg_out" | "box_out" | "path_out" | "poly_out" | "circle_out" => (K::Keyword, Rule::Shown),
        "nameout" | "charout" | "citextout" | "time_out" | "timetz_out" | "interval_out" | "inet_out"
        | "cidr_out" | "macaddr_out" | "macaddr8_out" | "bit_out" | "varbit_out" | "pg_lsn_out"
        | "tidout" | "tsqueryout" => (K::Keyword, Rule::Text),
        _ => (K::Any, Rule::Text),
    }
}

impl Described {
    fn read(line: &Line) -> Result<Described> {
        let attributes = match line.get(9)? {
            Some(json) => serde_json::from_str(json).map_err(|_| bad_answer())?,
            None => Vec::new(),
        };
        // What the money of one is, in its smallest units: 100 where there are two digits after the point.
        let places = match line.get(10)? {
            Some(units) => i64::from_str_radix(units, 16)
                .map_err(|_| bad_answer())?
                .max(1)
                .ilog10(),
            None => 0,
        };
        Ok(Described {
            name: line.text(1)?.to_owned(),
            sql: line.text(11)?.to_owned(),
            class: line.text(2)?.to_owned(),
            output: line.text(3)?.to_owned(),
            base: number(line.text(4)?)?,
            base_modifier: number(line.text(5)?)?,
            element: number(line.text(6)?)?,
            delimiter: line.text(7)?.chars().next().ok_or_else(bad_answer)?,
            bound: number(line.text(8)?)?,
            attributes,
            places,
        })
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N> {
    text.parse().map_err(|_| bad_answer())
}

fn bad_answer() -> Error {
    Error::fatal(
        "bad_answer",
        "the database describes a type in a way that is not known",
    )
    .with_remedy("report it with the server's version")
}
