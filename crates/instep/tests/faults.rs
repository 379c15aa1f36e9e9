//! kill -9 at random moments, and updates under load: nothing missing, stale, orphaned or resurrected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::json;

use crate::support::product::{Product, Server, eventually};
use crate::support::state::{Scans, scans};
use crate::support::tate;
use crate::tate::{configuration, number, small};

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

/// Kills the product so many times while it makes its first load, and lets it finish. Every other kill waits until the
/// load came further, so that the next start goes on in its middle.
pub(crate) fn kill_in_the_first_load(product: &Product, dice: &mut Dice, kills: u32) -> Scans {
    let (mut in_the_middle, mut done) = (0, 0);
    for kill in 0..kills {
        let mut process = product.spawn(&["serve", "--listen", "127.0.0.1:0"]);
        std::thread::park_timeout(Duration::from_millis(20 + dice.roll(300)));
        if kill % 2 == 1 {
            eventually("the first load to go on", Duration::from_secs(60), || {
                scans(product).is_some_and(|scans| scans.done > done || scans.unfinished == 0)
            });
        }
        let ended = process.try_wait().expect("it was started");
        assert!(ended.is_none(), "it ended by itself: {ended:?}");
        process.kill().expect("it runs");
        process.wait().expect("it was started");
        match scans(product) {
            Some(scans) if scans.unfinished == 0 => break,
            Some(scans) => {
                in_the_middle += u32::from(scans.done > 0);
                done = scans.done;
            }
            None => {}
        }
    }
    assert!(
        in_the_middle >= 2,
        "the first load was through after {in_the_middle} kills in its middle"
    );
    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    let loaded = scans(product).expect("there are scans");
    assert_eq!(
        (loaded.unfinished, loaded.both),
        (0, 0),
        "a first load walks the source alone: {loaded:?}"
    );
    loaded
}

/// Kills the product at random moments while it follows.
pub(crate) fn kill_while_it_follows(product: &Product, dice: &mut Dice, kills: u32, longest_ms: u64) {
    for _ in 0..kills {
        let mut process = product.spawn(&["serve", "--listen", "127.0.0.1:0"]);
        std::thread::park_timeout(Duration::from_millis(longest_ms / 10 + dice.roll(longest_ms)));
        let ended = process.try_wait().expect("it was started");
        assert!(ended.is_none(), "it ended by itself: {ended:?}");
        process.kill().expect("it runs");
        process.wait().expect("it was started");
    }
}

/// 10 kills in the first load, 40 while it follows. No scan of both sides mends what they lose before anybody looks.
#[test]
fn fifty_kills_lose_nothing() {
    let Some(data) = tate::folder("the kill test") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut database = tate::load(&data, &folder.path().join("tate.db"));
    let product = Product::new(folder.path(), &configuration());
    let last: i64 = database
        .query_row(
            "select id from artwork order by id limit 1 offset 3000",
            [],
            |row| row.get(0),
        )
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
    let loaded = kill_in_the_first_load(&product, &mut dice, 10);
    kill_while_it_follows(&product, &mut dice, 40, 400);
    stop.store(true, Ordering::Relaxed);
    let (database, changes) = writer.join().expect("the writer");
    assert!(changes > 1_000, "only {changes} changes were made");

    assert_eq!(product.json(&["sync", "--once"])["complete"], json!(true));
    assert_eq!(scans(&product), Some(loaded), "nothing was scanned again");
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
