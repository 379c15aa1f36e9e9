//! Positions: backups, other databases, and a change table that somebody else pruned.

use std::fs;

use instep_core::Fault;

use super::*;

const TABLE: &str = "create table t (id integer primary key)";

fn tables() -> Vec<Watched> {
    vec![watched("t", &["id"], &[])]
}

fn back_up(database: &Database, name: &str) -> std::path::PathBuf {
    let copy = database.path.with_file_name(name);
    database
        .connection()
        .execute("vacuum into ?1", [copy.to_str().unwrap()])
        .unwrap();
    copy
}

async fn refused(database: &Database, watched: &[Watched], from: &Position, code: &str) {
    let Err(error) = database.source().follow(watched, Some(from)).await else {
        panic!("{code} is refused");
    };
    assert_eq!((error.code(), error.fault()), (code, Fault::Fatal));
    assert!(error.remedy().is_some());
}

#[tokio::test]
async fn a_restored_backup_is_refused_also_when_it_has_overtaken_the_position() {
    let database = wal();
    database.run(TABLE);
    let mut followed = Followed::new(&database, &tables()).await;
    followed.after(&database, "insert into t values (1)").await;
    let copy = back_up(&database, "backup.db");
    followed.after(&database, "insert into t values (2)").await;
    let upto = followed.after(&database, "insert into t values (3)").await.upto();
    drop(followed.feed);

    let restored = Database::new(Journal::Wal);
    fs::copy(&copy, &restored.path).unwrap();
    refused(&restored, &followed.watched, &upto, "position_ahead").await;
    for id in 100..200 {
        restored.run(&format!("insert into t values ({id})"));
    }
    refused(&restored, &followed.watched, &upto, "source_changed").await;
}

#[tokio::test]
async fn a_database_without_our_tables_is_another_one() {
    let database = wal();
    database.run(TABLE);
    let mut followed = Followed::new(&database, &tables()).await;
    let upto = followed.after(&database, "insert into t values (1)").await.upto();
    let other = wal();
    other.run(TABLE);
    other.run("create table fence (id integer primary key)");
    refused(&other, &followed.watched, &upto, "source_changed").await;
}

#[tokio::test]
async fn a_file_that_takes_the_databases_place_is_followed_when_it_is_the_same_database() {
    let database = wal();
    database.run(TABLE);
    let mut followed = Followed::new(&database, &tables()).await;
    followed.after(&database, "insert into t values (1)").await;
    let copy = back_up(&database, "compacted.db");
    fs::rename(&copy, &database.path).unwrap();
    for stale in ["app.db-wal", "app.db-shm"] {
        let _ = fs::remove_file(database.path.with_file_name(stale));
    }
    let connection = database.connection();
    connection.execute("insert into t values (7)", []).unwrap();
    let batch = next(&mut *followed.feed).await.unwrap();
    assert_eq!(batch.changes.len(), 1);
    let tables = followed.source.reader().tables().await.unwrap();
    let keys = followed
        .source
        .reader()
        .scan(&tables[1], None, None, 10)
        .await
        .unwrap();
    assert_eq!(keys.len(), 2, "readers see the new file too");
}

#[tokio::test]
async fn acknowledged_changes_are_forgotten_and_the_order_goes_on() {
    let database = wal();
    database.run(TABLE);
    let mut followed = Followed::new(&database, &tables()).await;
    let many = "insert into t with recursive n (i) as (select 1 union all select i + 1 from n where i < 9000) select i from n";
    let upto = followed.after(&database, many).await.upto();
    followed.feed.acknowledge(&upto).await.unwrap();
    let kept = || -> i64 {
        database
            .connection()
            .query_row("select count(*) from instep_change", [], |row| row.get(0))
            .unwrap()
    };
    let mut waited = 0;
    while kept() > 1_500 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        waited += 1;
        assert!(waited < 500, "{} rows are left", kept());
    }
    followed.again(&database, &upto).await;
    let delivered = followed.after(&database, "delete from t where id = 5").await;
    assert_eq!(delivered.images(), ["t 5"]);
    assert!(delivered.tables.is_empty());
}

#[tokio::test]
async fn changes_that_somebody_else_removed_are_made_up_for_by_scans() {
    let database = wal();
    database.run(TABLE);
    let mut followed = Followed::new(&database, &tables()).await;
    let upto = followed.after(&database, "insert into t values (1)").await.upto();
    drop(followed.feed);
    database.run("insert into t values (2); delete from instep_change; insert into t values (3)");
    followed.feed = followed
        .source
        .follow(&followed.watched, Some(&upto))
        .await
        .unwrap();
    let first = next(&mut *followed.feed).await.unwrap();
    let tables = [Change::Table("t".into()), Change::Table("fence".into())];
    assert_eq!(first.changes, tables);
    let delivered = followed.after(&database, "insert into t values (4)").await;
    assert_eq!(delivered.images(), ["t 4"]);
}
