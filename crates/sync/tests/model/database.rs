//! The source: root rows with a to-one and a to-many relation, its committed changes, and `f(rows)`.
//!
//! Every written value is new, so that a document built from former rows never equals one built from the present rows
//! by chance. Changes are in commit order and visible to readers at once (the visibility gate is tested elsewhere).

pub(crate) const DOCUMENTS: usize = 4;
pub(crate) const MAKERS: usize = 2;
pub(crate) const CHILDREN: usize = 3;

/// A root row's key, which is also the key of its document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DocKey(pub(crate) usize);

/// A key of the to-one table: each root names one maker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MakerKey(pub(crate) usize);

/// A key of the to-many table: each child names at most one root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChildKey(pub(crate) usize);

/// A value that no row had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value(u32);

#[derive(Clone, Copy, Debug)]
struct Root {
    title: Value,
    maker: MakerKey,
}

#[derive(Clone, Copy, Debug)]
struct Child {
    text: Value,
    parent: Option<DocKey>,
}

/// What an application does to one row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Statement {
    /// Inserts or updates a root, which may also move it to another maker.
    PutRoot(DocKey, MakerKey),
    DeleteRoot(DocKey),
    RenameMaker(MakerKey),
    /// Inserts or updates a child, which may also move it to another root, or detach it.
    PutChild(ChildKey, Option<DocKey>),
    DeleteChild(ChildKey),
}

/// A committed change: the key of the row, and what it pointed to before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Root(DocKey),
    Maker(MakerKey),
    Child {
        key: ChildKey,
        old_parent: Option<DocKey>,
    },
}

/// The document of a root row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    title: Value,
    maker: Option<Value>,
    children: [Option<Value>; CHILDREN],
}

impl Document {
    /// The to-many rows that went into the document.
    pub(crate) fn reads(&self) -> Reads {
        Reads(self.children.map(|text| text.is_some()))
    }
}

/// The to-many rows that a build read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reads([bool; CHILDREN]);

impl Reads {
    pub(crate) fn contains(&self, child: ChildKey) -> bool {
        self.0[child.0]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = ChildKey> {
        (0..CHILDREN).map(ChildKey).filter(|child| self.contains(*child))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Database {
    roots: [Option<Root>; DOCUMENTS],
    makers: [Option<Value>; MAKERS],
    children: [Option<Child>; CHILDREN],
    changes: Vec<Change>,
    last_value: u32,
}

impl Database {
    /// Runs the statements as one transaction.
    pub(crate) fn commit(&mut self, statements: impl IntoIterator<Item = Statement>) {
        for statement in statements {
            let change = self.execute(statement);
            self.changes.push(change);
        }
    }

    /// The committed changes after the first `position`, at most `n`.
    pub(crate) fn changes_after(&self, position: usize, n: usize) -> &[Change] {
        let end = self.changes.len().min(position + n);
        &self.changes[position..end]
    }

    /// `f(rows)`: the document of a root row as the rows are now; `None` when the row is gone.
    pub(crate) fn document(&self, key: DocKey) -> Option<Document> {
        let root = self.roots[key.0]?;
        let is_its_child = |child: &Child| child.parent == Some(key);
        Some(Document {
            title: root.title,
            maker: self.makers[root.maker.0],
            children: self
                .children
                .map(|row| row.filter(is_its_child).map(|child| child.text)),
        })
    }

    /// Reverse query along the to-one relation: the roots that name the maker now.
    pub(crate) fn roots_of(&self, maker: MakerKey) -> impl Iterator<Item = DocKey> {
        let names_it = move |key: &DocKey| self.roots[key.0].is_some_and(|root| root.maker == maker);
        (0..DOCUMENTS).map(DocKey).filter(names_it)
    }

    /// Reverse query along the to-many relation: the root that the child names now.
    pub(crate) fn parent_of(&self, child: ChildKey) -> Option<DocKey> {
        self.children[child.0].and_then(|row| row.parent)
    }

    fn execute(&mut self, statement: Statement) -> Change {
        match statement {
            Statement::PutRoot(key, maker) => {
                let title = self.new_value();
                self.roots[key.0] = Some(Root { title, maker });
                Change::Root(key)
            }
            Statement::DeleteRoot(key) => {
                self.roots[key.0] = None;
                Change::Root(key)
            }
            Statement::RenameMaker(key) => {
                self.makers[key.0] = Some(self.new_value());
                Change::Maker(key)
            }
            Statement::PutChild(key, parent) => {
                let old_parent = self.parent_of(key);
                let text = self.new_value();
                self.children[key.0] = Some(Child { text, parent });
                Change::Child { key, old_parent }
            }
            Statement::DeleteChild(key) => {
                let old_parent = self.parent_of(key);
                self.children[key.0] = None;
                Change::Child { key, old_parent }
            }
        }
    }

    fn new_value(&mut self) -> Value {
        self.last_value += 1;
        Value(self.last_value)
    }
}
