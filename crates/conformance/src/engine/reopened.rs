//! What holds when an index is closed and opened again between any two writes.

use instep_core::{Engine, IndexName, Search, Ticket, Write};

use super::fixture::{applied, done, fresh, id, put};
use super::{Failures, Subject};

/// Fencing across restarts: two writes and a deletion under tickets 1, 2, 3 in every order, and the index is made durable,
/// closed and opened anew before each. `open` does so, and gives the engine anew; the former one is dropped by then.
///
/// The highest ticket wins. An engine that forgets deletes may have forgotten those that were the highest; one that forgets
/// tickets takes every write in its order.
pub async fn reopened<E: Engine + Search>(prefix: &str, open: impl AsyncFn(&IndexName) -> E) {
    let index = IndexName::from(format!("{prefix}-reopened"));
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    let all: Vec<([u64; 3], u64, String)> = orders
        .into_iter()
        .flat_map(|order| (1..=3).map(move |deleted| (order, deleted, format!("d{deleted}-{order:?}"))))
        .collect();
    let mut failures = Failures::default();
    for step in 0..3 {
        let engine = open(&index).await;
        if step == 0 {
            let subject = Subject {
                engine: &engine,
                search: &engine,
                prefix,
            };
            assert_eq!(fresh(subject, "reopened").await, index);
        }
        let writes = all.iter().map(|(order, deleted, name)| match order[step] {
            ticket if ticket == *deleted => Write::Delete(id(name), Ticket(ticket)),
            ticket => put(name, &format!(r#"{{"n":{ticket}}}"#), ticket),
        });
        let outcomes = applied(&engine, &index, writes.collect()).await;
        for ((order, deleted, name), outcome) in all.iter().zip(outcomes) {
            let highest = order[..step].iter().max().copied().unwrap_or(0);
            if is_forgotten(&engine, highest, *deleted) {
                continue;
            }
            let is_taken = order[step] >= highest || engine.capabilities().forgets_when_closed;
            let expected = if is_taken { "done" } else { "superseded" };
            failures.check(format!("{name}: {step}"), outcome.as_str(), expected);
        }
    }
    let engine = open(&index).await;
    let names: Vec<_> = all.iter().map(|(.., name)| id(name)).collect();
    let found = engine.read(&index, &names).await.expect("read");
    for ((order, deleted, name), found) in all.iter().zip(found) {
        let last = match engine.capabilities().forgets_when_closed {
            true => order[2],
            false => 3,
        };
        if is_forgotten(&engine, last, *deleted) {
            continue;
        }
        let found = found.map(|stored| stored.ticket.0);
        failures.check(
            format!("{name}: state"),
            found,
            (last != *deleted).then_some(last),
        );
    }
    // And it takes writes as before.
    done(&engine, &index, vec![put("after", "{}", 9)]).await;
    engine.drop_index(&index).await.expect("drop");
    failures.none();
}

/// Whether the highest ticket so far was that of a deletion, which the engine need not know any more.
fn is_forgotten(engine: &dyn Engine, highest: u64, deleted: u64) -> bool {
    highest == deleted && engine.capabilities().forgets_deletes
}
