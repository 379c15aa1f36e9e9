//! Joins: from `table`, `through`, `on` and declared foreign keys to the join tree.

use std::ops::Range;

use instep_core::{ColumnKind, Condition, Equality, Node, NodeId, OrderBy, TableSchema};

use crate::config::on::{conditions, parts, plain, short, spell};
use crate::config::problem::Problem;
use crate::config::raw::{At, RawTable};

/// The join tree of a collection while it grows.
pub(crate) struct Tree<'a> {
    schemas: &'a [TableSchema],
    pub(crate) nodes: Vec<Node>,
    tables: Vec<&'a TableSchema>,
    /// What `on` may call each node.
    names: Vec<Vec<String>>,
}

/// Pairs (column above, column below).
type Pairs = Vec<(String, String)>;

/// What the name of a table means.
pub(crate) enum Meant<'a> {
    /// This table.
    Table(&'a TableSchema),
    /// None that is listed.
    Nothing,
    /// One of these, and none rather than the others.
    Several(Vec<&'a TableSchema>),
}

/// What a name means: the table that is spelled so; without its schema's name the one that is called so, or among
/// several the one in `public`.
pub(crate) fn meant<'a>(schemas: &'a [TableSchema], name: &str) -> Meant<'a> {
    if let Some(exact) = schemas.iter().find(|table| table.name.as_str() == name) {
        return Meant::Table(exact);
    }
    let wanted = parts(name).join(".");
    let in_full: Vec<_> = schemas.iter().filter(|table| plain(table) == wanted).collect();
    let alike: Vec<_> = schemas.iter().filter(|table| short(table) == wanted).collect();
    let in_public = alike
        .iter()
        .find(|table| parts(table.name.as_str())[0] == "public");
    match (in_full.as_slice(), alike.as_slice(), in_public) {
        ([only], _, _) | ([], [only], _) | ([], _, Some(only)) => Meant::Table(only),
        ([], [], None) => Meant::Nothing,
        ([], _, None) => Meant::Several(alike),
        ([_, _, ..], _, _) => Meant::Several(in_full),
    }
}

/// How many rows a join may find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// As `many` says.
    AsWritten,
    /// One or several: readers.
    Any,
}

impl<'a> Tree<'a> {
    /// A tree that has only its root.
    pub(crate) fn new(schemas: &'a [TableSchema], root: &At<String>) -> Result<Self, Problem> {
        let mut tree = Tree {
            schemas,
            nodes: Vec::new(),
            tables: Vec::new(),
            names: Vec::new(),
        };
        let table = tree.find(root)?;
        tree.add(table, None, Vec::new(), false, vec![short(table)]);
        Ok(tree)
    }

    /// The schema of a node's table.
    pub(crate) fn table(&self, node: NodeId) -> &'a TableSchema {
        self.tables[node]
    }

    /// Adds the table that a field joins, and its link table; returns its node and whether it is an array.
    ///
    /// Inside `on` the joined table is called by its alias; without one by its name, or by the field's where that means
    /// nothing else.
    pub(crate) fn join(
        &mut self,
        parent: NodeId,
        field: &str,
        place: Range<usize>,
        raw: &RawTable,
        rows: Rows,
    ) -> Result<(NodeId, bool), Problem> {
        let table = self.find(raw.table.as_ref().expect("a join names a table"))?;
        let many = rows == Rows::Any || raw.many.as_ref().is_some_and(|many| *many.get_ref());
        let own = match &raw.alias {
            Some(alias) => vec![alias.get_ref().clone()],
            None => {
                let mut own = vec![short(table), plain(table), table.name.to_string()];
                own.extend(Some(field.to_owned()).filter(|field| !self.names[parent].contains(field)));
                own
            }
        };
        if let Some(order) = raw.order.as_ref().filter(|_| !many) {
            return Err(Problem::new(order.span(), "`order` of a join that finds one row")
                .help("add many = true, where several rows belong to one"));
        }
        let node = match &raw.through {
            None => {
                let pairs = match &raw.on {
                    Some(on) => self.pairs(on, parent, &own, table)?,
                    None => self.foreign_key(place, parent, table, many, rows)?,
                };
                self.add(table, Some(parent), pairs, many, own)
            }
            Some(through) => {
                if !many {
                    return Err(Problem::new(through.span(), "a link table joins several rows")
                        .help("add many = true"));
                }
                let link = self.find(through)?;
                let (above, below) = match &raw.on {
                    Some(on) => self.through_pairs(on, parent, link, &own, table)?,
                    None => self.through_keys(through, parent, link, table)?,
                };
                let link = self.add(link, Some(parent), above, true, vec![short(link)]);
                self.add(table, Some(link), below, false, own)
            }
        };
        if let Some(order) = &raw.order {
            self.order(node, order, raw.through.is_some())?;
        }
        if let Some(condition) = &raw.condition {
            self.condition(node, condition)?;
        }
        Ok((node, many))
    }

    /// Only rows that meet it belong to the node. The source was asked before ([`super::expressions`]).
    pub(crate) fn condition(&mut self, node: NodeId, sql: &At<String>) -> Result<(), Problem> {
        let refused = |error: instep_core::Error| Problem::new(sql.span(), error.to_string());
        let condition = Condition::parse(sql.get_ref()).map_err(refused)?;
        if self.tables[node]
            .column(&condition.expression().column())
            .is_none()
        {
            let message = format!(
                "`{}` cannot be computed from rows of table `{}`",
                sql.get_ref(),
                self.tables[node].name
            );
            return Err(Problem::new(sql.span(), message));
        }
        self.nodes[node].condition = Some(condition);
        Ok(())
    }

    /// Adds a node; the first of its names is its alias.
    fn add(
        &mut self,
        table: &'a TableSchema,
        parent: Option<NodeId>,
        on: Pairs,
        many: bool,
        mut names: Vec<String>,
    ) -> NodeId {
        let alias = names[0].clone();
        names.extend([short(table), plain(table), table.name.to_string()]);
        self.nodes.push(Node {
            alias,
            table: table.name.clone(),
            key: table.primary_key.clone(),
            parent,
            on,
            many,
            order: Vec::new(),
            condition: None,
        });
        self.tables.push(table);
        self.names.push(names);
        self.nodes.len() - 1
    }

    /// A table by its name; it must have a primary key. Without its schema's name it is the one that is called so, or
    /// among several the one in `public`.
    fn find(&self, name: &At<String>) -> Result<&'a TableSchema, Problem> {
        let table = match meant(self.schemas, name.get_ref()) {
            Meant::Table(table) => table,
            Meant::Nothing => {
                let known = self.schemas.iter().map(|table| table.name.as_str());
                let problem = Problem::unknown(name.span(), "table", name.get_ref(), "", known);
                return Err(match self.schemas {
                    [] => problem.help("no table can be read there: `instep check` says what is missing"),
                    [_, ..] => problem,
                });
            }
            Meant::Several(several) => {
                let several = several
                    .iter()
                    .map(|table| table.name.as_str())
                    .collect::<Vec<_>>();
                let message = format!("several tables are called `{}`", name.get_ref());
                let problem = Problem::new(name.span(), message);
                return Err(problem.help(format!("write {}", several.join(" or "))));
            }
        };
        table.require_key().map_err(|error| {
            Problem::new(name.span(), error.to_string()).help(error.remedy().unwrap_or_default().to_owned())
        })?;
        Ok(table)
    }

    fn foreign_key(
        &self,
        place: Range<usize>,
        parent: NodeId,
        table: &TableSchema,
        many: bool,
        rows: Rows,
    ) -> Result<Pairs, Problem> {
        let above = self.tables[parent];
        let down = down(above, table);
        let up = up(table, above);
        let candidates = match (rows, many) {
            (Rows::Any, _) if above.name == table.name => up,
            (Rows::Any, _) => [up, down].concat(),
            (Rows::AsWritten, true) if up.is_empty() && !down.is_empty() => {
                let message = format!(
                    "one row of `{}` belongs to each of `{}`, not several",
                    table.name, above.name
                );
                return Err(
                    Problem::new(place, message).help("leave many = true out, or write the join: on = \"…\"")
                );
            }
            (Rows::AsWritten, true) => up,
            (Rows::AsWritten, false) if down.is_empty() && !up.is_empty() => {
                let message = format!(
                    "several rows of `{}` may belong to one of `{}`",
                    table.name, above.name
                );
                return Err(
                    Problem::new(place, message).help("add many = true, or write the join: on = \"…\"")
                );
            }
            (Rows::AsWritten, false) => down,
        };
        match candidates.as_slice() {
            [only] => {
                same_kinds(above, table, only, &place)?;
                Ok(only.clone())
            }
            [] => Err(no_key(place, above, table)),
            several => {
                let spelled = several.iter().map(|pairs| spelled(above, table, pairs));
                let spelled = spelled.map(|on| format!("on = \"{on}\"")).collect::<Vec<_>>();
                Err(several_keys(place, above, table)
                    .help(format!("write the one you mean: {}", spelled.join(", or "))))
            }
        }
    }

    /// Both halves of a join through a link table, from the link's foreign keys.
    fn through_keys(
        &self,
        through: &At<String>,
        parent: NodeId,
        link: &TableSchema,
        table: &TableSchema,
    ) -> Result<(Pairs, Pairs), Problem> {
        let above = self.tables[parent];
        let (first, second) = (up(link, above), down(link, table));
        match (first.as_slice(), second.as_slice()) {
            ([first], [second]) => {
                same_kinds(above, link, first, &through.span())?;
                same_kinds(link, table, second, &through.span())?;
                Ok((first.clone(), second.clone()))
            }
            ([], _) => Err(no_key(through.span(), above, link)),
            (_, []) => Err(no_key(through.span(), link, table)),
            (several, one) => {
                let (a, b) = if several.len() > 1 {
                    (above, link)
                } else {
                    (link, table)
                };
                // The first way that does not use one key for both halves.
                let flipped = |pairs: &Pairs| {
                    pairs
                        .iter()
                        .map(|(up, down)| (down.clone(), up.clone()))
                        .collect::<Pairs>()
                };
                let second = one
                    .iter()
                    .find(|pairs| flipped(pairs) != several[0])
                    .unwrap_or(&one[0]);
                let on = format!(
                    "{} and {}",
                    spelled(above, link, &several[0]),
                    spelled(link, table, second)
                );
                let alias = if above.name == table.name {
                    " (and as = \"…\", in place of one of the two names)"
                } else {
                    ""
                };
                Err(several_keys(through.span(), a, b)
                    .help(format!("write both halves, such as on = \"{on}\"{alias}")))
            }
        }
    }

    fn through_pairs(
        &self,
        on: &At<String>,
        parent: NodeId,
        link: &TableSchema,
        own: &[String],
        table: &TableSchema,
    ) -> Result<(Pairs, Pairs), Problem> {
        let above = self.tables[parent];
        let mut link_names = vec![plain(link), link.name.to_string()];
        let taken = |name: &String| own.contains(name) || self.names[parent].contains(name);
        link_names.extend(Some(short(link)).filter(|name| !taken(name)));
        let mut pairs = (Vec::new(), Vec::new());
        for (left, right) in conditions(on)? {
            let (link_side, other) = match (link_names.contains(&left.0), link_names.contains(&right.0)) {
                (true, false) => (left, right),
                (false, true) => (right, left),
                (true, true) | (false, false) => {
                    let message = format!(
                        "a condition of a join through `{}` compares one of its columns with another table's",
                        link.name
                    );
                    return Err(Problem::new(on.span(), message));
                }
            };
            let link_column = column(link, &link_side.1, on)?;
            match (own.contains(&other.0), self.names[parent].contains(&other.0)) {
                (true, true) => return Err(both_sides(on, &other.0)),
                (true, false) => pairs.1.push((link_column, column(table, &other.1, on)?)),
                (false, true) => pairs.0.push((column(above, &other.1, on)?, link_column)),
                (false, false) => return Err(self.stranger(on, &other.0, parent, own)),
            }
        }
        if pairs.0.is_empty() || pairs.1.is_empty() {
            let message = format!(
                "`on` does not lead from `{}` through `{}` to `{}`",
                above.name, link.name, table.name
            );
            return Err(Problem::new(on.span(), message)
                .help("compare a column of the link table with each of the two"));
        }
        same_kinds(above, link, &pairs.0, &on.span())?;
        same_kinds(link, table, &pairs.1, &on.span())?;
        Ok(pairs)
    }

    fn pairs(
        &self,
        on: &At<String>,
        parent: NodeId,
        own: &[String],
        table: &TableSchema,
    ) -> Result<Pairs, Problem> {
        let above = self.tables[parent];
        let is_own = |name: &String| own.contains(name);
        let is_above = |name: &String| self.names[parent].contains(name);
        let mut pairs = Vec::new();
        for (left, right) in conditions(on)? {
            for side in [&left, &right] {
                match (is_own(&side.0), is_above(&side.0)) {
                    (true, true) => return Err(both_sides(on, &side.0)),
                    (false, false) => return Err(self.stranger(on, &side.0, parent, own)),
                    (true, false) | (false, true) => {}
                }
            }
            let (up, down) = match (is_above(&left.0), is_above(&right.0)) {
                (true, false) => (left, right),
                (false, true) => (right, left),
                (true, true) | (false, false) => {
                    let help = format!(
                        "compare a column of `{}` with one of `{}`",
                        above.name, table.name
                    );
                    return Err(
                        Problem::new(on.span(), "a condition compares two columns of one table").help(help),
                    );
                }
            };
            pairs.push((column(above, &up.1, on)?, column(table, &down.1, on)?));
        }
        same_kinds(above, table, &pairs, &on.span())?;
        Ok(pairs)
    }

    fn stranger(&self, on: &At<String>, name: &str, parent: NodeId, own: &[String]) -> Problem {
        let known = self.names[parent].iter().chain(own).map(String::as_str);
        Problem::unknown(on.span(), "table", name, " in `on`", known)
    }

    /// A column's name, with its table's before a dot or not, and the direction after a blank.
    fn order(&mut self, node: NodeId, order: &At<String>, through: bool) -> Result<(), Problem> {
        let link = self.nodes[node].parent.filter(|_| through);
        let places: Vec<NodeId> = [Some(node), link].into_iter().flatten().collect();
        let text = order.get_ref().trim();
        let (name, descending) = match text.rsplit_once(char::is_whitespace) {
            Some((name, word)) if word.eq_ignore_ascii_case("desc") => (name.trim(), true),
            Some((name, word)) if word.eq_ignore_ascii_case("asc") => (name.trim(), false),
            Some(_) | None => (text, false),
        };
        let has = |at: NodeId, column: &str| self.tables[at].column(column).is_some();
        let whole = places.iter().find(|at| has(**at, name)).map(|at| (*at, name));
        let qualified = || {
            let (table, column) = name.rsplit_once('.')?;
            let mut named = places
                .iter()
                .filter(|at| self.names[**at].iter().any(|known| known == table));
            named.find(|at| has(**at, column)).map(|at| (*at, column))
        };
        let Some((at, column)) = whole.or_else(qualified) else {
            let known = places.iter().flat_map(|at| &self.tables[*at].columns);
            return Err(Problem::unknown(
                order.span(),
                "column",
                name,
                " in `order`",
                known.map(|column| column.name.as_str()),
            ));
        };
        let by = OrderBy {
            column: column.to_owned(),
            descending,
        };
        self.nodes[at].order = vec![by];
        Ok(())
    }
}

/// The ways along foreign keys of the upper table, each once.
pub(crate) fn down(above: &TableSchema, below: &TableSchema) -> Vec<Pairs> {
    let keys = above.foreign_keys.iter().filter(|key| key.table == below.name);
    once(keys.map(|key| zip(&key.columns, &key.referenced)).collect())
}

/// The ways along foreign keys of the lower table, each once.
pub(crate) fn up(below: &TableSchema, above: &TableSchema) -> Vec<Pairs> {
    let keys = below.foreign_keys.iter().filter(|key| key.table == above.name);
    once(keys.map(|key| zip(&key.referenced, &key.columns)).collect())
}

fn once(mut ways: Vec<Pairs>) -> Vec<Pairs> {
    let mut seen: Vec<Pairs> = Vec::new();
    ways.retain(|pairs| {
        let mut sorted = pairs.clone();
        sorted.sort();
        let new = !pairs.is_empty() && !seen.contains(&sorted);
        seen.push(sorted);
        new
    });
    ways
}

fn zip(above: &[String], below: &[String]) -> Pairs {
    above.iter().cloned().zip(below.iter().cloned()).collect()
}

fn spelled(above: &TableSchema, below: &TableSchema, pairs: &Pairs) -> String {
    spell_on(&spell(&short(above)), &spell(&short(below)), pairs)
}

/// The `on` that compares these columns; the tables are spelled already.
pub(crate) fn spell_on(above: &str, below: &str, pairs: &[(String, String)]) -> String {
    let condition =
        |(up, down): &(String, String)| format!("{above}.{} = {below}.{}", spell(up), spell(down));
    pairs.iter().map(condition).collect::<Vec<_>>().join(" and ")
}

fn no_key(place: Range<usize>, above: &TableSchema, below: &TableSchema) -> Problem {
    Problem::new(
        place,
        format!(
            "no foreign key leads between `{}` and `{}`",
            above.name, below.name
        ),
    )
    .help("write the join: on = \"a.x = b.y\"")
}

fn several_keys(place: Range<usize>, above: &TableSchema, below: &TableSchema) -> Problem {
    Problem::new(
        place,
        format!(
            "several foreign keys lead between `{}` and `{}`",
            above.name, below.name
        ),
    )
}

fn both_sides(on: &At<String>, name: &str) -> Problem {
    Problem::new(on.span(), format!("`{name}` names both sides of the join"))
        .help("give the joined table a name of its own: as = \"…\"")
}

fn column(table: &TableSchema, name: &str, on: &At<String>) -> Result<String, Problem> {
    let known = || table.columns.iter().map(|column| column.name.as_str());
    match table.column(name) {
        Some(column) => Ok(column.name.clone()),
        None => Err(Problem::unknown(
            on.span(),
            "column",
            name,
            &format!(" of table `{}`", table.name),
            known(),
        )),
    }
}

/// Values of different kinds never compare equal once they are read, so such a join is refused.
fn same_kinds(
    above: &TableSchema,
    below: &TableSchema,
    pairs: &[(String, String)],
    place: &Range<usize>,
) -> Result<(), Problem> {
    let strange = |(up, down): &&(String, String)| compared(above, up, below, down) != Compared::Alike;
    let Some((up, down)) = pairs.iter().find(strange) else {
        return Ok(());
    };
    let declared = |table: &TableSchema, name: &str| {
        table
            .column(name)
            .map_or_else(|| "missing".to_owned(), |column| column.declared.clone())
    };
    let message = format!(
        "the join compares `{up}` ({}) of `{}` with `{down}` ({}) of `{}`",
        declared(above, up),
        above.name,
        declared(below, down),
        below.name
    );
    let help = match compared(above, up, below, down) {
        Compared::Alike | Compared::Kinds => "both columns must have the same type",
        Compared::Case => "one of them ignores case and the other does not: give both columns the same type",
        Compared::Collation => {
            "a nondeterministic collation takes different texts for equal, by rules that are the database's alone: join \
             by other columns, or give both a deterministic collation, or the type citext to ignore case"
        }
    };
    Err(Problem::new(place.clone(), message).help(help))
}

/// Whether two columns hold values that can be equal, in the database as well as here.
pub(crate) fn alike(above: &TableSchema, up: &str, below: &TableSchema, down: &str) -> bool {
    compared(above, up, below, down) == Compared::Alike
}

/// What comes of comparing the values of two columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// The same whoever compares.
    Alike,
    /// They are of different kinds.
    Kinds,
    /// One of the columns ignores case: whether they are equal depends on who asks.
    Case,
    /// Only the database knows.
    Collation,
}

fn compared(above: &TableSchema, up: &str, below: &TableSchema, down: &str) -> Compared {
    let (Some(a), Some(b)) = (above.column(up), below.column(down)) else {
        return Compared::Kinds;
    };
    match (a.equality(), b.equality()) {
        (Equality::Collation, _) | (_, Equality::Collation) => return Compared::Collation,
        (Equality::Caseless, Equality::Bytes) | (Equality::Bytes, Equality::Caseless) => {
            return Compared::Case;
        }
        (Equality::Bytes, Equality::Bytes) | (Equality::Caseless, Equality::Caseless) => {}
    }
    let class = |kind: ColumnKind| match kind {
        // Numbers are equal by what they are worth.
        ColumnKind::Integer | ColumnKind::Double | ColumnKind::Decimal => 1,
        ColumnKind::Boolean => 2,
        ColumnKind::Text | ColumnKind::Keyword | ColumnKind::Date => 4,
        ColumnKind::Json => 5,
        ColumnKind::Array => 6,
        ColumnKind::Bytes => 7,
        ColumnKind::Any => 0,
    };
    let (a, b) = (class(a.kind), class(b.kind));
    match a == b || a == 0 || b == 0 {
        true => Compared::Alike,
        false => Compared::Kinds,
    }
}
