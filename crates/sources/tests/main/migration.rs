//! Migrations that lose our triggers, and those that lose what we need.

use instep_core::Fault;

use super::*;

const TABLE: &str = "create table t (id integer primary key, parent integer, note text);
                     insert into t values (1, 10, 'a'), (2, 20, 'b')";

const REBUILD: &str = "create table t_new (id integer primary key, parent integer, note text, extra text);
                       insert into t_new (id, parent, note) select * from t;
                       drop table t;
                       alter table t_new rename to t";

fn tables() -> Vec<Watched> {
    vec![watched("t", &["id"], &["parent"])]
}

#[tokio::test]
async fn triggers_come_back_after_a_rebuild_and_the_table_is_scanned() {
    let in_transaction = format!("begin; {REBUILD}; update t set parent = 99 where id = 1; commit");
    let renamed_first =
        "alter table t rename to t_old; create table t (id integer primary key, parent integer);
                         insert into t select id, parent from t_old; drop table t_old";
    let scripts = [
        REBUILD,
        &in_transaction,
        renamed_first,
        "drop trigger instep_1_update",
        "create unique index note_once on t (note)",
    ];
    for script in scripts {
        let database = wal();
        database.run(TABLE);
        let mut followed = Followed::new(&database, &tables()).await;
        let mut delivered = followed.after(&database, script).await;
        if delivered.tables.is_empty() {
            // The fence may have arrived before the triggers were looked at.
            delivered = followed.delivered(&database).await;
        }
        assert_eq!(
            delivered.tables.into_iter().collect::<Vec<_>>(),
            ["t"],
            "{script}"
        );
        let delivered = followed
            .after(&database, "update t set parent = 30 where id = 2")
            .await;
        assert_eq!(delivered.images(), ["t 2 parent=20", "t 2 parent=30"], "{script}");
        assert!(delivered.tables.is_empty(), "{script}: once is enough");
    }
}

#[tokio::test]
async fn a_rebuild_while_nobody_follows_is_noticed() {
    let database = wal();
    database.run(TABLE);
    let mut followed = Followed::new(&database, &tables()).await;
    let upto = followed
        .after(&database, "update t set note = 'x' where id = 1")
        .await;
    followed.feed = followed.source.follow(&followed.watched, None).await.unwrap();
    let upto = match upto.upto {
        Some(upto) => upto,
        None => unreachable!(),
    };
    drop(followed.feed);
    database.run(REBUILD);
    database.run("delete from t where id = 1");
    followed.feed = followed
        .source
        .follow(&followed.watched, Some(&upto))
        .await
        .unwrap();
    let delivered = followed.delivered(&database).await;
    assert_eq!(delivered.tables.into_iter().collect::<Vec<_>>(), ["t"]);
}

#[tokio::test]
async fn columns_added_need_nothing() {
    let database = wal();
    database.run(TABLE);
    let mut followed = Followed::new(&database, &tables()).await;
    let script = "alter table t add column extra text; update t set extra = 'x' where id = 1; vacuum";
    let mut delivered = followed.after(&database, script).await;
    delivered.rows.extend(
        followed
            .after(&database, "update t set id = 3 where id = 2")
            .await
            .rows,
    );
    assert_eq!(
        delivered.images(),
        ["t 1 parent=10", "t 2 parent=20", "t 3 parent=20"]
    );
    assert!(delivered.tables.is_empty());
}

#[tokio::test]
async fn a_table_that_is_away_for_a_moment_is_waited_for() {
    let database = wal();
    database.run(TABLE);
    let mut followed = Followed::new(&database, &tables()).await;
    database.run("create table t_new as select * from t; drop table t");
    tokio::time::sleep(Duration::from_millis(300)).await;
    database.run(
        "create table t (id integer primary key, parent integer); insert into t select id, parent from t_new",
    );
    let mut tables = BTreeSet::new();
    for _ in 0..20 {
        tables.extend(followed.delivered(&database).await.tables);
        if !tables.is_empty() {
            break;
        }
    }
    assert_eq!(tables.into_iter().collect::<Vec<_>>(), ["t"]);
}

#[tokio::test]
async fn what_stays_away_is_named() {
    let drop_column = "create table n (id integer primary key); insert into n select id from t; drop table t; alter table n rename to t";
    for (script, code, name) in [
        ("drop table t", "table_missing", "`t`"),
        (drop_column, "column_missing", "`parent`"),
    ] {
        let database = wal();
        database.run(TABLE);
        let mut followed = Followed::new(&database, &tables()).await;
        database.run(script);
        let error = loop {
            match next(&mut *followed.feed).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!((error.code(), error.fault()), (code, Fault::Fatal));
        assert!(error.to_string().contains(name), "{error}");
        assert!(error.remedy().is_some());
    }
}

#[tokio::test]
async fn another_definition_keeps_what_is_pending() {
    let database = wal();
    database.run(TABLE);
    let mut followed = Followed::new(&database, &tables()).await;
    let upto = followed
        .after(&database, "update t set note = 'x' where id = 1")
        .await
        .upto();
    database.run("update t set note = 'y' where id = 2");
    followed.watched[0].columns = vec!["note".into()];
    followed.again(&database, &upto).await;
    let delivered = followed
        .after(&database, "update t set note = 'z', parent = 11 where id = 1")
        .await;
    let mut images = delivered.images();
    images.retain(|image| !image.starts_with("t 1 parent=10"));
    assert_eq!(
        images,
        ["t 2 parent=20", "t 1 note=x parent=10", "t 1 note=z parent=11"]
    );
    followed.watched.remove(0);
    let upto = delivered.upto();
    followed.again(&database, &upto).await;
    assert!(
        followed
            .after(&database, "update t set parent = 5")
            .await
            .images()
            .is_empty(),
        "no longer watched"
    );
}
