//! By which means former values become known, and that the statement for a cheaper one makes it so.

use instep_conformance::postgres::{Database, Server};
use instep_core::{Means, Source, Watched};

use super::{options, source, watched};

/// By which means, before and after the statement that makes it cheaper.
async fn former(database: &Database, table: &Watched) -> (Means, Option<String>) {
    let source = source(options(database));
    let mut all = source.former(std::slice::from_ref(table)).await.unwrap();
    let former = all.remove(0);
    assert_eq!(former.table, table.table);
    (former.means, former.cheaper)
}

fn brought(by: &str) -> Means {
    Means::Brought(by.to_owned())
}

#[tokio::test]
async fn former_parents_by_the_cheapest_means() {
    let database = Server::shared().database("former");
    database.execute(
        "create table link (a int, b int, primary key (a, b));
         create table child (id int primary key, up int not null, said text);
         create table ready (id int primary key, up int not null, unique (up, id));
         create table partly (id int primary key, up int not null);
         create unique index on partly (id, up) where up > 0;
         create table loose (id int primary key, up int);
         create table made (id int primary key, a int not null, up int not null generated always as (a) stored);
         create table \"Odd \"\"one\" (id int primary key, up int not null)",
    );
    let up = |name: &str| watched(&format!("public.{name}"), &["id"], &["up"]);
    let link = watched("public.link", &["a", "b"], &[]);
    assert_eq!(former(&database, &link).await, (brought("the primary key"), None));
    let gone = up("gone");
    assert_eq!(former(&database, &gone).await, (Means::Recorded, None));
    assert_eq!(former(&database, &up("made")).await, (Means::Recorded, None));
    for (table, by, index) in [
        (up("child"), "replica identity index child_instep", Some(true)),
        (up("ready"), "replica identity index ready_up_id_key", Some(false)),
        (up("partly"), "replica identity index partly_instep", Some(true)),
        (up("loose"), "replica identity full", None),
        (
            watched("public.\"Odd \"\"one\"", &["id"], &["up"]),
            "replica identity index Odd \"one_instep",
            Some(true),
        ),
    ] {
        let (means, cheaper) = former(&database, &table).await;
        let cheaper = cheaper.unwrap();
        assert_eq!(means, Means::Recorded, "{table:?}");
        assert_eq!(
            cheaper.contains("create unique index concurrently"),
            index == Some(true),
            "{cheaper}"
        );
        assert_eq!(
            cheaper.contains("whole former rows"),
            index.is_none(),
            "{cheaper}"
        );
        database.execute(&cheaper);
        assert_eq!(former(&database, &table).await, (brought(by), None), "{cheaper}");
    }
    // Whole rows where an index would do.
    database.execute("alter table child replica identity full");
    let (means, cheaper) = former(&database, &up("child")).await;
    assert_eq!(means, brought("replica identity full"));
    assert_eq!(
        cheaper.as_deref(),
        Some("alter table \"public\".\"child\" replica identity using index \"child_instep\"")
    );
}

#[tokio::test]
async fn partitions_are_judged_one_by_one() {
    let database = Server::shared().database("former_parts");
    database.execute(
        "create table note (id int, up int, primary key (id)) partition by range (id);
         create table note_1 partition of note for values from (0) to (10);
         create table note_2 partition of note for values from (10) to (30) partition by range (id);
         create table note_2a partition of note_2 for values from (10) to (20);
         alter table note_2a alter up set not null;
         create index on note (up)",
    );
    let table = watched("public.note", &["id"], &["up"]);
    // Postgres ignores the root's own identity.
    database.execute("alter table only note replica identity full");
    let (means, cheaper) = former(&database, &table).await;
    let cheaper = cheaper.unwrap();
    assert_eq!(means, Means::Recorded);
    assert!(
        cheaper.contains("\"note_1\" replica identity full")
            && cheaper.contains("index concurrently \"note_2a_instep\"")
    );
    assert!(
        !cheaper.contains("\"note\" ") && !cheaper.contains("\"note_2\" "),
        "{cheaper}"
    );
    database.execute(&cheaper);
    let by = "replica identities of the partitions, some of them full";
    assert_eq!(former(&database, &table).await, (brought(by), None));
    // A partition that comes later has no such identity.
    database.execute("create table note_3 partition of note for values from (30) to (40)");
    let (means, cheaper) = former(&database, &table).await;
    assert_eq!(means, Means::Recorded);
    assert!(
        cheaper
            .unwrap()
            .starts_with("alter table \"public\".\"note_3\" replica identity full")
    );
}
