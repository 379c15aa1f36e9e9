#![allow(clippy::unwrap_used)]
use super::*;

fn column(number: u32, name: &str, kind: &str) -> Column {
    Column {
        number,
        name: name.into(),
        kind: kind.into(),
        version: "700".into(),
        labels: Vec::new(),
    }
}

fn table(columns: &[Column]) -> Seen {
    Seen {
        oid: 100,
        partitioned: false,
        unlogged: false,
        covered: true,
        identified: true,
        filtered: false,
        lists: Vec::new(),
        entries: "7".into(),
        leaves: String::new(),
        files: "900".into(),
        columns: columns.to_vec(),
    }
}

fn catalog(seen: Option<Seen>, running: std::ops::Range<u64>) -> Catalog {
    Catalog {
        tables: vec![seen],
        publication: Some(Publication {
            oid: 1,
            version: 5,
            complete: true,
            via_root: false,
        }),
        at: Lsn(1),
        running,
    }
}

fn watched() -> Vec<Watched> {
    vec![Watched {
        table: "public.t".into(),
        key: vec!["id".into()],
        columns: Vec::new(),
    }]
}

fn base() -> Vec<Column> {
    vec![
        column(1, "id", "23 -1"),
        column(2, "a", "25 -1"),
        column(3, "b", "25 -1"),
    ]
}

/// Goes through these states one after the other, running or with a restart between any two; says after which the
/// table was touched.
fn touches(states: &[Option<Seen>], restarts: bool) -> Vec<bool> {
    let mut followed = Followed::default();
    let mut touched = Vec::new();
    for seen in states {
        if restarts {
            followed = Followed::parse(&followed.to_string());
        }
        let difference = followed.renew(&watched(), &catalog(seen.clone(), 50..50), Newcomers::Complete);
        touched.push(!difference.touched.is_empty());
    }
    touched
}

#[test]
fn rows_may_have_changed_when_definitions_did() {
    let first = || Some(table(&base()));
    let with = |change: &dyn Fn(&mut Seen)| {
        let mut seen = table(&base());
        change(&mut seen);
        Some(seen)
    };
    let columns = |columns: &[Column]| Some(table(columns));
    let retyped = columns(&[base()[0].clone(), column(2, "a", "23 -1"), base()[2].clone()]);
    let renamed = columns(&[base()[0].clone(), column(2, "z", "25 -1"), base()[2].clone()]);
    let swapped = columns(&[
        base()[0].clone(),
        column(2, "b", "25 -1"),
        column(3, "a", "25 -1"),
    ]);
    let added = columns(&[base(), vec![column(4, "c", "25 -1")]].concat());
    let dropped = columns(&[base()[0].clone(), column(2, "", "0 -1"), base()[2].clone()]);
    let dropped_and_added = columns(&[
        base()[0].clone(),
        column(2, "", "0 -1"),
        base()[2].clone(),
        column(4, "a", "25 -1"),
    ]);
    let labelled = |labels: &[(u32, &str)]| {
        let mut columns = base();
        columns[1].labels = labels
            .iter()
            .map(|(oid, label)| (*oid, (*label).to_owned()))
            .collect();
        Some(table(&columns))
    };
    let written = |files: &str, version: &str| {
        let mut seen = table(&base());
        seen.columns[1].version = version.into();
        seen.files = files.into();
        Some(seen)
    };
    // What happens, and what is touched while running, and when we were away in between.
    for (case, states, running, away) in [
        (
            "nothing",
            vec![first(), first()],
            vec![false, false],
            vec![false, false],
        ),
        (
            "recreated",
            vec![first(), with(&|t| t.oid = 101)],
            vec![false, true],
            vec![false, true],
        ),
        (
            "gone and back",
            vec![first(), None, first(), first()],
            vec![false, false, true, false],
            vec![false, false, true, false],
        ),
        (
            "unlogged and logged again",
            vec![first(), with(&|t| t.unlogged = true), first()],
            vec![false, false, true],
            vec![false, false, true],
        ),
        (
            "a label renamed",
            vec![labelled(&[(7, "x"), (9, "y")]), labelled(&[(7, "x"), (9, "z")])],
            vec![false, true],
            vec![false, true],
        ),
        (
            "a label added",
            vec![labelled(&[(7, "x")]), labelled(&[(7, "x"), (9, "y")])],
            vec![false; 2],
            vec![false; 2],
        ),
        (
            "rewritten by an expression",
            vec![first(), written("901", "701")],
            vec![false, true],
            vec![false, true],
        ),
        (
            "compacted, then described anew",
            vec![first(), written("901", "700"), written("901", "701")],
            vec![false; 3],
            vec![false; 3],
        ),
        (
            "recreated later",
            vec![first(), None, with(&|t| t.oid = 101)],
            vec![false, false, true],
            vec![false, false, true],
        ),
        (
            "published anew",
            vec![first(), with(&|t| t.entries = "8".into())],
            vec![false, true],
            vec![false, true],
        ),
        (
            "partitions",
            vec![first(), with(&|t| t.leaves = "9".into())],
            vec![false, true],
            vec![false, true],
        ),
        (
            "retyped",
            vec![first(), retyped],
            vec![false, true],
            vec![false, true],
        ),
        (
            "swapped",
            vec![first(), swapped],
            vec![false, true],
            vec![false, true],
        ),
        (
            "added",
            vec![first(), added],
            vec![false, false],
            vec![false, false],
        ),
        (
            "renamed",
            vec![first(), renamed.clone()],
            vec![false, false],
            vec![false, true],
        ),
        (
            "renamed and back",
            vec![first(), renamed, first()],
            vec![false, false, true],
            vec![false, true, true],
        ),
        (
            "dropped",
            vec![first(), dropped.clone()],
            vec![false, false],
            vec![false, true],
        ),
        (
            "dropped, added later",
            vec![first(), dropped, dropped_and_added.clone()],
            vec![false, false, true],
            vec![false, true, false],
        ),
        (
            "dropped and added",
            vec![first(), dropped_and_added],
            vec![false, true],
            vec![false, true],
        ),
    ] {
        assert_eq!(touches(&states, false), running, "{case}, running");
        if case != "dropped, added later" {
            assert_eq!(touches(&states, true), away, "{case}, away");
        }
    }
}

#[test]
fn a_name_that_went_while_running_is_remembered_in_the_position() {
    let dropped = table(&[base()[0].clone(), column(2, "", "0 -1"), base()[2].clone()]);
    let mut back = dropped.clone();
    back.columns.push(column(4, "a", "25 -1"));
    let mut followed = Followed::default();
    for seen in [table(&base()), dropped] {
        let difference = followed.renew(&watched(), &catalog(Some(seen), 50..50), Newcomers::Complete);
        assert!(difference.touched.is_empty());
    }
    let mut followed = Followed::parse(&followed.to_string());
    let difference = followed.renew(
        &watched(),
        &catalog(Some(back.clone()), 50..50),
        Newcomers::Complete,
    );
    assert_eq!(difference.touched, ["public.t".into()]);
    let difference = followed.renew(&watched(), &catalog(Some(back), 50..50), Newcomers::Complete);
    assert_eq!(difference, Difference::default());
}

#[test]
fn a_table_that_is_published_anew_is_touched_when_older_writers_are_gone() {
    let mut again = table(&base());
    again.entries = "8".into();
    let mut followed = Followed::default();
    let mut look = |seen: &Seen, running, restart| {
        if restart {
            followed = Followed::parse(&followed.to_string());
        }
        let difference = followed.renew(
            &watched(),
            &catalog(Some(seen.clone()), running),
            Newcomers::Complete,
        );
        (!difference.touched.is_empty(), followed.is_unsettled())
    };
    assert_eq!(look(&table(&base()), 40..60, false), (false, false));
    assert_eq!(look(&again, 40..60, false), (false, true));
    assert_eq!(look(&again, 59..70, true), (false, true));
    assert_eq!(look(&again, 60..80, true), (true, false));
    assert_eq!(look(&again, 60..80, false), (false, false));
}

#[test]
fn a_newcomer_is_touched_when_nobody_writes_it_unseen_any_more() {
    for (new, running, now, later) in [
        (Newcomers::Complete, 50..60, false, false),
        (Newcomers::Missed, 60..60, true, false),
        (Newcomers::Missed, 50..60, false, true),
    ] {
        let mut followed = Followed::default();
        let mut touched = |running| {
            let difference = followed.renew(&watched(), &catalog(Some(table(&base())), running), new);
            !difference.touched.is_empty()
        };
        assert_eq!((touched(running), touched(61..62)), (now, later));
    }
}

#[test]
fn names_have_a_schema_and_may_be_quoted() {
    for (name, namespace, table) in [
        ("public.t", "public", "t"),
        ("s.\"a.b\"", "s", "a.b"),
        ("\"x\"\"y\".t", "x\"y", "t"),
        ("Shop.Order Items", "Shop", "Order Items"),
    ] {
        assert_eq!(split(&name.into()), (namespace.to_owned(), table.to_owned()));
    }
    assert_eq!(spelled(&"s.\"a\"\"b\"".into()), "\"s\".\"a\"\"b\"");
}

#[test]
fn a_table_made_anew_is_touched_again_when_older_writers_are_gone() {
    let mut anew = table(&base());
    (anew.oid, anew.entries) = (101, "8".into());
    let mut followed = Followed::default();
    let mut look = |seen: &Seen, running| {
        let seen = catalog(Some(seen.clone()), running);
        let difference = followed.renew(&watched(), &seen, Newcomers::Complete);
        !difference.touched.is_empty()
    };
    assert!(!look(&table(&base()), 40..60));
    assert!(look(&anew, 40..60));
    assert!(!look(&anew, 59..70));
    assert!(look(&anew, 60..80));
    assert!(!look(&anew, 60..80));
}
