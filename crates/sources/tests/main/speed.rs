//! Measured: what a change costs the application, how soon it arrives, and what reading a row costs.
//! `cargo test -p instep-sources --release --test main speed -- --ignored --nocapture --test-threads 1`

use std::time::Instant;

use instep_core::Fetch;

use super::*;

#[tokio::test]
async fn changes_arrive_soon() {
    let database = wal();
    database.run("create table t (id integer primary key, parent integer)");
    let mut followed = Followed::new(&database, &[watched("t", &["id"], &["parent"])]).await;
    let connection = database.connection();
    let mut waits = Vec::new();
    for id in 0..100 {
        tokio::time::sleep(Duration::from_millis(7 + id % 5)).await;
        connection
            .execute("insert into t values (?1, 1)", [id as i64])
            .unwrap();
        let committed = Instant::now();
        next(&mut *followed.feed).await.unwrap();
        waits.push(committed.elapsed());
    }
    waits.sort();
    println!("commit to delivery: p50 {:?}, p99 {:?}", waits[50], waits[98]);
    assert!(waits[50] < Duration::from_millis(5), "{:?}", waits[50]);
}

#[test]
#[ignore = "a measurement"]
fn capture_costs() {
    let database = wal();
    database.run("create table t (id integer primary key, parent integer, note text); create table u (id integer primary key, parent integer, note text)");
    let source = database.source();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let feed = runtime
        .block_on(source.follow(&[watched("t", &["id"], &["parent"])], None))
        .unwrap();
    drop(feed);
    let mut connection = database.connection();
    for table in ["u", "t"] {
        let transaction = connection.transaction().unwrap();
        let started = Instant::now();
        for id in 0..20_000 {
            let mut insert = transaction
                .prepare_cached(&format!("insert into {table} values (?1, ?2, 'a note')"))
                .unwrap();
            insert.execute([id, id % 100]).unwrap();
        }
        let inserts = started.elapsed();
        let started = Instant::now();
        transaction
            .execute(&format!("update {table} set note = 'another'"), [])
            .unwrap();
        let update = started.elapsed();
        transaction.commit().unwrap();
        println!("{table}: 20,000 inserts {inserts:?}, 20,000 rows updated in one statement {update:?}");
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn reading_costs() {
    let database = wal();
    database.run(
        "create table artwork (id integer primary key, title text, medium text, credit text, year integer, group_id integer);
         create table link (artwork_id integer, subject_id integer, primary key (artwork_id, subject_id));
         insert into artwork with recursive n (i) as (select 1 union all select i + 1 from n where i < 70000)
             select i, 'A title of some length ' || i, 'Oil paint on canvas', 'Presented by someone in 1922', 1800 + i % 200, i % 100 from n;
         insert into link with recursive n (i) as (select 0 union all select i + 1 from n where i < 349999)
             select 1 + i / 5, i % 16000 from n;",
    );
    let source = database.source();
    let reader = source.reader();
    let schema = reader.tables().await.unwrap().remove(0);
    let started = Instant::now();
    let (mut keys, mut after) = (0, None);
    loop {
        let page = reader.scan(&schema, None, after.as_ref(), 500).await.unwrap();
        keys += page.len();
        if page.len() < 500 {
            break;
        }
        after = page.last().cloned();
    }
    println!(
        "scan: {keys} keys, {:.2} µs each",
        started.elapsed().as_secs_f64() * 1e6 / keys as f64
    );
    for batch in [1_i64, 50, 500, 1_000] {
        let started = Instant::now();
        let (mut rows, mut batches) = (0, 0);
        for start in (1..20_000_i64).step_by(batch as usize) {
            let values: Vec<Vec<Value>> = (start..start + batch).map(|id| vec![Value::Int(id)]).collect();
            let mut snapshot = reader.snapshot(None).await.unwrap();
            let columns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let artwork = Fetch {
                table: "artwork".into(),
                columns: columns(&["id", "title", "medium", "credit", "year", "group_id"]),
                by: columns(&["id"]),
                values: values.clone(),
                page: None,
            };
            let link = Fetch {
                table: "link".into(),
                columns: columns(&["artwork_id", "subject_id"]),
                by: columns(&["artwork_id"]),
                values,
                page: None,
            };
            rows += snapshot.fetch(&artwork).await.unwrap().len();
            rows += snapshot.fetch(&link).await.unwrap().len();
            batches += 1;
        }
        let elapsed = started.elapsed().as_secs_f64() * 1e6;
        println!(
            "fetch: batches of {batch}: {rows} rows, {:.2} µs per row, {:.1} µs per batch of two fetches and a snapshot",
            elapsed / rows as f64,
            elapsed / f64::from(batches)
        );
    }
}
