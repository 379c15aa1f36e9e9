//! kill -9 at random moments, and updates under load: nothing missing, stale, orphaned or resurrected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;

use crate::support::product::{Product, eventually};
use crate::support::{product::Server, tate};
use crate::tate::{number, small};

/// splitmix64: the same seed gives the same run, as far as two processes can be told when to meet.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// One change as an application makes it: an update, a move, a delete, an insert, a cascade by hand, a rollback.
fn change(database: &mut Connection, dice: &mut Dice, last: i64) {
    let id = i64::try_from(dice.roll(last as u64)).expect("it fits") + 1;
    let artist = i64::try_from(dice.roll(3_000)).expect("it fits") + 1;
    let transaction = database.transaction().expect("a transaction");
    let run = |sql: &str| transaction.execute(sql, []).expect("the change");
    match dice.roll(9) {
        0 | 1 => run(&format!(
            "update artwork set title = 'title ' || {} where id = {id}",
            dice.roll(1 << 40)
        )),
        2 => run(&format!(
            "update artist set name = 'name ' || {} where id = {artist}",
            dice.roll(1 << 40)
        )),
        3 => run(&format!(
            "update or ignore artwork_artist set artist_id = {artist} where artwork_id = {id}"
        )),
        4 => run(&format!("delete from artwork_subject where artwork_id = {id}")),
        5 => run(&format!(
            "insert or ignore into artwork_subject select {id}, id from subject where id in ({artist}, {artist} + 1) and exists (select 1 from artwork where id = {id})"
        )),
        6 => {
            run(&format!("delete from artwork_subject where artwork_id = {id}"));
            run(&format!("delete from artwork_artist where artwork_id = {id}"));
            run(&format!("delete from artwork where id = {id}"))
        }
        7 => run(&format!(
            "insert or replace into artwork (id, title, acno) values ({id}, 'again ' || {}, 'X{id}')",
            dice.roll(1 << 40)
        )),
        _ => {
            run(&format!("update artwork set title = 'never' where id = {id}"));
            transaction.rollback().expect("the rollback");
            return;
        }
    };
    transaction.commit().expect("the commit");
}

#[test]
fn fifty_kills_lose_nothing() {
    let Some(data) = tate::folder("the kill test") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (mut database, product) = small(&data, folder.path());
    let last: i64 = database
        .query_row("select max(id) from artwork", [], |row| row.get(0))
        .expect("an id");
    database.busy_timeout(Duration::from_secs(10)).expect("a timeout");

    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut dice = Dice(7);
            let mut changes = 0;
            while !stop.load(Ordering::Relaxed) {
                change(&mut database, &mut dice, last);
                changes += 1;
                std::thread::park_timeout(Duration::from_millis(2));
            }
            (database, changes)
        }
    });

    let mut dice = Dice(11);
    for round in 0..50 {
        // Every fifth round dies in a scan.
        let mut server = match round % 5 {
            0 => Kill::scan(&product),
            _ => Kill::serve(&product),
        };
        std::thread::park_timeout(Duration::from_millis(20 + dice.roll(400)));
        server.kill();
    }
    stop.store(true, Ordering::Relaxed);
    let (database, changes) = writer.join().expect("the writer");
    assert!(changes > 1_000, "only {changes} changes were made");

    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let found = product.json(&["verify"]);
    assert_eq!(
        found["differences"],
        json!(0),
        "after {changes} changes and 50 kills: {found}"
    );
    let rows = number(&database, "select count(*) from artwork");
    let server = product.serve();
    assert_eq!(
        server.send("GET", "/artwork/_count", None, None).json()["count"],
        json!(rows)
    );
}

/// A process that is about to be killed.
struct Kill(std::process::Child);

impl Kill {
    fn serve(product: &Product) -> Self {
        Kill(product.spawn(&["serve", "--listen", "127.0.0.1:0"]))
    }

    fn scan(product: &Product) -> Self {
        Kill(product.spawn(&["sync", "--once", "--rescan"]))
    }

    fn kill(&mut self) {
        // It may have ended by itself: a scan that was quick.
        let _ = self.0.kill();
        self.0.wait().expect("it was started");
    }
}

#[test]
fn two_thousand_updates_under_load_leave_nothing_stale() {
    let Some(data) = tate::folder("the load test") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (database, product) = small(&data, folder.path());
    database.busy_timeout(Duration::from_secs(10)).expect("a timeout");
    let ids: Vec<i64> = {
        let mut statement = database
            .prepare("select id from artwork order by id")
            .expect("a statement");
        statement
            .query_map([], |row| row.get(0))
            .expect("rows")
            .collect::<Result<_, _>>()
            .expect("ids")
    };
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let server = product.serve();

    let stop = Arc::new(AtomicBool::new(false));
    let burners: Vec<_> = (0..2)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            })
        })
        .collect();
    let mut dice = Dice(13);
    let mut next = Instant::now();
    for update in 0..2_000 {
        let id = ids[dice.roll(ids.len() as u64) as usize];
        database
            .execute(
                "update artwork set title = ? where id = ?",
                rusqlite::params![format!("update {update}"), id],
            )
            .expect("update");
        next += Duration::from_millis(20);
        std::thread::park_timeout(next.saturating_duration_since(Instant::now()));
    }
    caught_up(&server);
    stop.store(true, Ordering::Relaxed);
    burners
        .into_iter()
        .for_each(|burner| burner.join().expect("a burner"));
    assert_eq!(product.json(&["verify"])["differences"], json!(0));

    let updated = number(
        &database,
        "select count(*) from artwork where title like 'update %'",
    );
    let found = server.send(
        "POST",
        "/artwork/_count",
        None,
        Some(&json!({ "query": { "prefix": { "title.keyword": "update " } } })),
    );
    assert_eq!(found.json()["count"], json!(updated));
}

fn caught_up(server: &Server) {
    // The last commit is at most a poll away from the log.
    std::thread::park_timeout(Duration::from_millis(200));
    eventually("no lag", Duration::from_secs(60), || {
        server.status(None)["sets"][0]["lag"] == json!(0)
    });
}
