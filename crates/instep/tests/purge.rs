//! Documents of rows that were soft-deleted long ago go, on SQLite and Postgres alike.

use std::time::Duration;

use serde_json::Value;

use crate::both::Both;
use crate::support::product::{Server, eventually};

const PATIENCE: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
    create table paper (id integer primary key, title varchar(40), deleted_at timestamp);
    insert into paper values (1, 'not deleted', null), (2, 'deleted long ago', '2020-01-01 10:00:00'),
                             (3, 'to be deleted in the future', '2999-01-01 10:00:00');";

const CONFIGURATION: &str = r#"
[collection.paper]
root   = "paper"
purge  = { column = "deleted_at", after_days = 30 }
public = true
fields.title   = "keyword"
fields.deleted = { from = "deleted_at", type = "date" }
"#;

fn found(served: &Server) -> Vec<u32> {
    let is_there = |id: &u32| {
        served
            .send("GET", &format!("/paper/_doc/{id}"), None, None)
            .status
            == 200
    };
    (1..=3).filter(is_there).collect()
}

fn explained(shop: &Both, id: &str) -> String {
    let told = shop.product.json(&["explain", "doc", "paper", id]);
    told["sets"][0]["because"][0]["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_row_deleted_long_ago_has_no_document() {
    for shop in Both::each("purge", SCHEMA, CONFIGURATION) {
        let served = shop.product.serve();
        eventually("the first load", PATIENCE, || found(&served) == [1, 3]);
        assert_eq!(explained(&shop, "2"), "purged");
        (shop.execute)("update paper set deleted_at = '2021-05-05 00:00:00' where id = 1");
        eventually("a row that was deleted long ago", PATIENCE, || {
            found(&served) == [3]
        });
        (shop.execute)("update paper set deleted_at = null where id = 2");
        eventually("an undelete", PATIENCE, || found(&served) == [2, 3]);
        shop.verified("changes");
        assert_eq!(served.stop(), Some(0));
    }
}

/// The document was built when it was not due. The configuration stands in for the time that passes.
#[test]
fn what_becomes_due_goes_without_a_change() {
    for shop in Both::each("purge_due", SCHEMA, &CONFIGURATION.replace("purge ", "# purge ")) {
        let told = shop.product.refused(&["purge", "paper"], 2);
        assert!(
            told.contains("no state") || told.contains("does not say when"),
            "{told}"
        );
        let served = shop.product.serve();
        eventually("the first load", PATIENCE, || found(&served) == [1, 2, 3]);
        // The command reads what is due by its own file, and the running process is not asked.
        std::fs::write(
            shop.product.folder.join("due.toml"),
            format!("{}{CONFIGURATION}", shop.source),
        )
        .unwrap();
        let told: Value = shop.product.json(&["purge", "paper", "--config", "due.toml"]);
        assert_eq!(told["due"], 1, "{told}");
        assert_eq!(served.stop(), Some(0));
        shop.configure(CONFIGURATION);
        let served = shop.product.serve();
        eventually("what is due to go", PATIENCE, || found(&served) == [1, 3]);
        shop.verified("a purge");
        assert_eq!(served.stop(), Some(0));
    }
}
