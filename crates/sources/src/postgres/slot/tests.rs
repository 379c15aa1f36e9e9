#![allow(clippy::unwrap_used)]
use super::*;
use crate::postgres::{PostgresOptions, PostgresSource};

fn database() -> Arc<Database> {
    let options = PostgresOptions {
        url: "postgres://a@h/d".into(),
        ..PostgresOptions::default()
    };
    PostgresSource::new("shop".into(), options).unwrap().database
}

fn facts() -> Facts {
    Facts {
        version: 150_018,
        wal_level: "logical".into(),
        in_recovery: false,
        system: 7,
        timeline: 2,
        database: 5,
        database_name: "d".into(),
        flushed: Lsn(900),
        written: Lsn(950),
        publication: Some(9),
        slot: Some(Slot {
            plugin: "pgoutput".into(),
            database: "d".into(),
            active_pid: None,
            confirmed: Lsn(400),
            lost: None,
        }),
        flush_delay: Duration::ZERO,
    }
}

fn at(at: u64) -> Position {
    Position {
        identity: facts().identity("instep_shop").unwrap().to_string(),
        at: Lsn(at).to_string(),
    }
}

#[test]
fn a_position_is_followed_or_refused_by_name() {
    fn slot(facts: &mut Facts) -> &mut Slot {
        facts.slot.as_mut().unwrap()
    }
    type Change = fn(&mut Facts);
    let cases: [(&str, u64, Change); 17] = [
        ("", 400, |_| {}),
        ("", 900, |_| {}),
        ("position_ahead", 901, |_| {}),
        ("slot_recreated", 399, |_| {}),
        ("source_changed", 500, |facts| facts.system = 8),
        ("source_changed", 500, |facts| facts.timeline = 3),
        ("source_changed", 500, |facts| facts.timeline = 1),
        ("source_changed", 500, |facts| facts.database = 6),
        ("slot_missing", 500, |facts| facts.slot = None),
        ("slot_taken", 500, |facts| {
            slot(facts).plugin = "test_decoding".into()
        }),
        ("slot_taken", 500, |facts| slot(facts).database = "e".into()),
        ("slot_lost", 500, |facts| {
            slot(facts).lost = Some("wal_removed".into())
        }),
        ("publication_changed", 500, |facts| facts.publication = None),
        ("publication_changed", 500, |facts| facts.publication = Some(10)),
        // What is lost is said even where the position is odd as well.
        ("slot_lost", 5_000, |facts| {
            slot(facts).lost = Some("wal_removed".into())
        }),
        ("source_changed", 5_000, |facts| facts.timeline = 3),
        ("slot_missing", 5_000, |facts| facts.slot = None),
    ];
    for (code, place, change) in cases {
        let mut facts = facts();
        change(&mut facts);
        match facts.judge(&database(), &at(place)) {
            Ok(from) => assert_eq!(("", from), (code, Lsn(place))),
            Err(error) => {
                assert_eq!(error.code(), code, "{error}");
                assert!(error.remedy().is_some());
            }
        }
    }
}

#[test]
fn servers_that_cannot_be_followed_are_refused_in_a_sentence() {
    for (code, change) in [
        (
            "stream_is_replica",
            (|facts| facts.in_recovery = true) as fn(&mut Facts),
        ),
        ("wal_level", |facts| facts.wal_level = "replica".into()),
    ] {
        let mut facts = facts();
        change(&mut facts);
        let error = facts.require().err().unwrap();
        assert_eq!(error.code(), code);
        assert!(error.remedy().is_some());
    }
    assert!(facts().require().is_ok());
}

#[test]
fn slot_names_are_those_that_postgres_takes() {
    assert!(name("instep_shop_2".into()).is_ok());
    for bad in ["", "Shop", "a-b", "a b", &"x".repeat(64)] {
        assert_eq!(name(bad.into()).err().unwrap().code(), "bad_slot_name");
    }
}

#[test]
fn the_publication_is_made_before_the_slot() {
    let watched = [Watched {
        table: "public.\"odd.name\"".into(),
        key: vec!["id".into()],
        columns: Vec::new(),
    }];
    let sql = set_up_sql(&database(), &watched);
    assert_eq!(
        sql,
        [
            "set lock_timeout = '5s'",
            "create publication \"instep_shop\" for table only \"public\".\"odd.name\"",
            "select lsn from pg_catalog.pg_create_logical_replication_slot(E'instep_shop', 'pgoutput')",
        ]
    );
}
