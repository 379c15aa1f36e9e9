//! A schema made to be awkward, under three random writers, on SQLite and Postgres: composite and nullable keys, two keys to
//! one table, self-joins, three levels, an enum, arrays, soft deletes, cascades, changes of keys, languages, readers, deny.
//! In the end `verify` finds nothing, and every document is what plain SQL makes of the rows.
//!
//! Five seconds each; ten minutes each with `--long`.

use std::collections::BTreeMap;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use instep_conformance::node::Node;
use serde_json::{Value, json};

use crate::both::{Both, Write};
use crate::clusters;
use crate::support::product::{Server, eventually};

const SCHEMA: &str = "
    create table owner (id integer primary key, name varchar(20), kind KIND, boss_id integer references owner (id));
    create table item (
        shop integer not null, code varchar(10) not null, name varchar(20), price integer, tags TAGS, lang varchar(5),
        published boolean, deleted_at timestamp, acl varchar(60), seller_id integer references owner (id),
        buyer_id integer references owner (id) on delete set null, in_shop integer, in_code varchar(10),
        primary key (shop, code),
        foreign key (in_shop, in_code) references item (shop, code) on delete set null on update cascade);
    create table part (id integer primary key, item_shop integer, item_code varchar(10), weight integer,
        foreign key (item_shop, item_code) references item (shop, code) on delete cascade on update cascade);
    create table screw (part_id integer not null references part (id) on delete cascade on update cascade,
        n integer not null, size varchar(5), primary key (part_id, n));
    create table label (id integer primary key, word varchar(10), hidden boolean not null);
    create table item_label (shop integer not null, code varchar(10) not null,
        label_id integer not null references label (id) on delete cascade,
        primary key (shop, code, label_id),
        foreign key (shop, code) references item (shop, code) on delete cascade on update cascade);
    create table ban (id integer primary key, shop integer, code varchar(10), who varchar(10),
        foreign key (shop, code) references item (shop, code) on delete cascade on update cascade);
    create index item_seller on item (seller_id);
    create index item_buyer on item (buyer_id);
    create index item_in on item (in_shop, in_code);
    create index part_item on part (item_shop, item_code);
    create index item_label_label on item_label (label_id);
    create index ban_item on ban (shop, code);
    create index owner_boss on owner (boss_id);";

const CONFIGURATION: &str = r#"
[collection.item]
root        = "item"
where       = "published and deleted_at is null"
language    = { column = "lang", known = ["en", "sv"] }
readers     = ["acl", "seller_id = $subject"]
deny        = { table = "ban", values = "who" }
debounce_ms = 20

[collection.item.fields]
name    = "text"
double  = { sql = "price * 2", type = "long" }
tags    = { array = true, type = "long" }
seller  = { table = "owner", as = "seller", on = "item.seller_id = seller.id", fields = ["name", "kind"] }
"seller.boss" = { table = "owner", as = "boss", on = "seller.boss_id = boss.id", fields = ["name"] }
buyer   = { table = "owner", as = "buyer", on = "item.buyer_id = buyer.id", fields = ["name"] }
outer   = { table = "item", as = "outer", on = "item.in_shop = outer.shop and item.in_code = outer.code", fields = ["name"] }
parts   = { table = "part", on = "part.item_shop = item.shop and part.item_code = item.code", many = true, fields = ["id", "weight"], where = "weight is not null" }
"parts.screws" = { table = "screw", on = "screw.part_id = part.id", many = true, fields = ["n", "size"] }
labels  = { table = "label", through = "item_label", many = true, values = "word", where = "not hidden" }

[collection.owner]
root   = "owner"
public = true

[collection.owner.fields]
name = "keyword"
sold = { table = "item", as = "sold", on = "sold.seller_id = owner.id", many = true, fields = ["name"], where = "published" }
team = { table = "owner", as = "member", on = "member.boss_id = owner.id", many = true, values = "name" }

[key.all]
secret  = "all-all-all-all-all-all"
subject = "all"
scopes  = ["search", "read_all", "operate"]
"#;

const KEY: Option<&str> = Some("all-all-all-all-all-all");
const CODES: i64 = 12;
const SHOPS: i64 = 3;
const OWNERS: i64 = 12;
const PARTS: i64 = 80;
const LABELS: i64 = 8;

/// A generator that repeats itself: xorshift64*.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: i64) -> i64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        i64::try_from(drawn).unwrap() % n
    }

    fn item(&mut self) -> (i64, String) {
        (self.below(SHOPS), format!("'c{}'", self.below(CODES)))
    }

    /// A number, or NULL now and then.
    fn some(&mut self, n: i64) -> String {
        match self.below(n + 1) {
            0 => "null".to_owned(),
            at => at.to_string(),
        }
    }
}

/// One random transaction. What it breaks a key with fails, and is rolled back.
fn transaction(dice: &mut Dice, is_sqlite: bool) -> String {
    let mut statements = Vec::new();
    for _ in 0..1 + dice.below(3) {
        statements.push(statement(dice, is_sqlite));
    }
    let begin = if is_sqlite { "begin immediate" } else { "begin" };
    format!("{begin}; {}; commit;", statements.join("; "))
}

fn statement(dice: &mut Dice, is_sqlite: bool) -> String {
    let (shop, code) = dice.item();
    let n = dice.below(1_000);
    match dice.below(22) {
        0..=3 => {
            let tags: Vec<String> = (0..dice.below(4)).map(|at| (n + at).to_string()).collect();
            let tags = match (is_sqlite, dice.below(5)) {
                (_, 0) => "null".to_owned(),
                (true, _) => format!("'[{}]'", tags.join(",")),
                (false, _) => format!("'{{{}}}'", tags.join(",")),
            };
            let lang = ["'en'", "'sv-SE'", "'tlh'", "null"][usize::try_from(dice.below(4)).unwrap()];
            let (seller, buyer) = (dice.some(OWNERS), dice.some(OWNERS));
            let published = ["true", "true", "true", "false", "null"][usize::try_from(dice.below(5)).unwrap()];
            format!(
                "insert into item values ({shop}, {code}, 'n{n}', {n}, {tags}, {lang}, {published}, null, '[\"r{}\"]', {seller}, {buyer}, null, null)
                 on conflict (shop, code) do update set name = excluded.name, tags = excluded.tags, lang = excluded.lang,
                     seller_id = excluded.seller_id, published = excluded.published",
                dice.below(4)
            )
        }
        4 => format!("delete from item where shop = {shop} and code = {code}"),
        5 => {
            let (to_shop, to_code) = dice.item();
            format!("update item set shop = {to_shop}, code = {to_code} where shop = {shop} and code = {code}
                     and not exists (select 1 from item i where i.shop = {to_shop} and i.code = {to_code})")
        }
        6 => {
            let (outer_shop, outer_code) = dice.item();
            format!("update item set in_shop = (select shop from item where shop = {outer_shop} and code = {outer_code}),
                         in_code = (select code from item where shop = {outer_shop} and code = {outer_code})
                     where shop = {shop} and code = {code}")
        }
        7 => format!("update item set deleted_at = '2024-01-01 00:00:00', name = 'gone{n}' where shop = {shop} and code = {code}"),
        8 => format!("update item set deleted_at = null, published = true where shop = {shop}"),
        9 => format!("update item set lang = case when lang = 'en' then 'sv' else 'en' end where shop = {shop} and code = {code}"),
        10 => format!("update item set buyer_id = {} where code = {code}", dice.some(OWNERS)),
        11 => format!("update owner set name = 'o{n}', boss_id = {} where id = {}", dice.some(OWNERS), 1 + dice.below(OWNERS)),
        12 => format!("update owner set kind = 'firm' where id = {}", 1 + dice.below(OWNERS)),
        13 | 14 => format!(
            "insert into part select {id}, shop, code, {weight} from item where shop = {shop} and code = {code}
             on conflict (id) do update set item_shop = excluded.item_shop, item_code = excluded.item_code, weight = excluded.weight",
            id = dice.below(PARTS), weight = dice.some(50)
        ),
        15 => format!("update part set item_shop = null, item_code = null where id = {}", dice.below(PARTS)),
        16 => format!("update part set id = {to} where id = {from} and not exists (select 1 from part p where p.id = {to})",
                      from = dice.below(PARTS), to = dice.below(PARTS)),
        17 => format!("delete from part where id = {}", dice.below(PARTS)),
        18 => format!("insert into screw select id, {}, 's{n}' from part where id % 7 = {} on conflict (part_id, n) do update set size = excluded.size",
                      dice.below(4), dice.below(7)),
        19 => format!("delete from screw where n = {} and part_id % 5 = {}", dice.below(4), dice.below(5)),
        20 => format!("insert into item_label select shop, code, {} from item where shop = {shop} and code = {code} on conflict do nothing", 1 + dice.below(LABELS)),
        _ => match dice.below(4) {
            0 => format!("update label set hidden = not hidden, word = 'w{n}' where id = {}", 1 + dice.below(LABELS)),
            1 => format!("delete from item_label where shop = {shop} and label_id = {}", 1 + dice.below(LABELS)),
            2 => format!("insert into ban select {n}, shop, code, 'b{n}' from item where shop = {shop} and code = {code} on conflict do nothing"),
            _ => format!("delete from ban where id % 3 = {}", dice.below(3)),
        },
    }
}

fn writer(write: Write, seed: u64, until: Instant, is_sqlite: bool) -> JoinHandle<(u64, u64)> {
    std::thread::spawn(move || {
        let mut dice = Dice(seed);
        let (mut done, mut refused) = (0, 0);
        while Instant::now() < until {
            match write(&transaction(&mut dice, is_sqlite)) {
                Ok(()) => done += 1,
                Err(_) => refused += 1,
            }
            // In SQLite whoever writes at once again would leave the others no turn.
            std::thread::park_timeout(Duration::from_millis(2));
        }
        (done, refused)
    })
}

/// SQL that makes JSON, in either database's words.
struct Words {
    is_sqlite: bool,
}

impl Words {
    fn object(&self, members: &[(&str, &str)]) -> String {
        let members: Vec<String> = members
            .iter()
            .map(|(name, value)| format!("'{name}', {value}"))
            .collect();
        let function = if self.is_sqlite {
            "json_object"
        } else {
            "json_build_object"
        };
        format!("{function}({})", members.join(", "))
    }

    fn json(&self, value: &str) -> String {
        let function = if self.is_sqlite { "json" } else { "to_json" };
        format!("{function}({value})")
    }

    fn list(&self, item: &str, order: &str, rest: &str) -> String {
        match self.is_sqlite {
            true => self.json(&format!(
                "(select json_group_array({item} order by {order}) {rest})"
            )),
            false => format!("(select coalesce(json_agg({item} order by {order}), '[]') {rest})"),
        }
    }

    fn one(&self, item: &str, rest: &str) -> String {
        self.json(&format!("(select {item} {rest})"))
    }

    fn items(&self) -> String {
        let boss = self.one(
            &self.object(&[("name", "b.name")]),
            "from owner b where b.id = s.boss_id",
        );
        let seller = self.object(&[("name", "s.name"), ("kind", "s.kind"), ("boss", &boss)]);
        let screw = self.object(&[("n", "w.n"), ("size", "w.size")]);
        let screws = self.list(&screw, "w.n", "from screw w where w.part_id = p.id");
        let part = self.object(&[("id", "p.id"), ("weight", "p.weight"), ("screws", &screws)]);
        let labels = "from item_label il join label l on l.id = il.label_id
                      where il.shop = i.shop and il.code = i.code and not l.hidden and l.word is not null";
        let document = self.object(&[
            ("name", "i.name"),
            ("double", "i.price * 2"),
            ("tags", &self.json("i.tags")),
            ("seller", &self.one(&seller, "from owner s where s.id = i.seller_id")),
            ("buyer", &self.one(&self.object(&[("name", "o.name")]), "from owner o where o.id = i.buyer_id")),
            ("outer", &self.one(&self.object(&[("name", "o.name")]), "from item o where o.shop = i.in_shop and o.code = i.in_code")),
            ("parts", &self.list(&part, "p.id", "from part p where p.item_shop = i.shop and p.item_code = i.code and p.weight is not null")),
            ("labels", &self.list("l.word", "il.label_id", labels)),
        ]);
        let text = if self.is_sqlite { "" } else { "::text" };
        format!(
            "select i.shop || ',' || i.code, ({document}){text} from item i where i.published and i.deleted_at is null"
        )
    }

    fn owners(&self) -> String {
        let sold = self.object(&[("name", "i.name")]);
        let document = self.object(&[
            ("name", "o.name"),
            (
                "sold",
                &self.list(
                    &sold,
                    "i.shop, i.code",
                    "from item i where i.seller_id = o.id and i.published",
                ),
            ),
            (
                "team",
                &self.list(
                    "m.name",
                    "m.id",
                    "from owner m where m.boss_id = o.id and m.name is not null",
                ),
            ),
        ]);
        let text = if self.is_sqlite { "" } else { "::text" };
        format!("select o.id || '', ({document}){text} from owner o")
    }
}

/// A joined row that is not there has no member.
fn without_absent(document: &mut Value) {
    if let Some(members) = document.as_object_mut() {
        for name in ["seller", "buyer", "outer", "boss"] {
            if members.get(name).is_some_and(Value::is_null) {
                members.remove(name);
            }
        }
        members.values_mut().for_each(without_absent);
    }
}

fn expected(shop: &Both, sql: &str) -> BTreeMap<String, Value> {
    let rows = (shop.rows)(sql).into_iter();
    let document = |row: String| {
        let (id, text) = row.split_once('|').unwrap();
        let mut document: Value = serde_json::from_str(text).unwrap();
        without_absent(&mut document);
        (id.to_owned(), document)
    };
    rows.map(document).collect()
}

fn searched(served: &Server, collection: &str) -> BTreeMap<String, Value> {
    let answer = served.send(
        "POST",
        &format!("/{collection}/_search"),
        KEY,
        Some(&json!({ "size": 1000 })),
    );
    let found = answer.json();
    let hits = found["hits"]["hits"]
        .as_array()
        .unwrap_or_else(|| panic!("{found}"));
    let document = |hit: &Value| (hit["_id"].as_str().unwrap().to_owned(), hit["_source"].clone());
    hits.iter().map(document).collect()
}

/// `to_rest`: waits until nothing is under way. Into a cluster deletes are repeated for two minutes after each start.
fn under_three_writers(shop: &Both, to_rest: bool) {
    let is_sqlite = shop.source.contains("sqlite:");
    for id in 1..=OWNERS {
        (shop.execute)(&format!(
            "insert into owner values ({id}, 'owner {id}', 'person', null)"
        ));
    }
    for id in 1..=LABELS {
        (shop.execute)(&format!("insert into label values ({id}, 'w{id}', false)"));
    }
    let mut served = shop.product.serve();
    let long = instep_conformance::in_full();
    let until = Instant::now() + Duration::from_secs(if long { 600 } else { 5 });
    let writers: Vec<_> = (1..=3)
        .map(|seed| writer(shop.connect(), seed * 7_919, until, is_sqlite))
        .collect();
    // Killed and started again: a third of the time of the short run, and every ten seconds of the long one.
    let pause = Duration::from_millis(if long { 10_000 } else { 1_500 });
    let mut kills = 0;
    while Instant::now() + pause < until {
        std::thread::park_timeout(pause);
        drop(served);
        served = shop.product.serve();
        kills += 1;
    }
    let done: Vec<(u64, u64)> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    eventually("everything to be indexed", Duration::from_secs(60), || {
        let set = served.status(KEY)["sets"][0].clone();
        assert_eq!(set["conserved"], true, "{set}");
        assert_eq!(set["counts"]["dead_letters"], 0, "{set}");
        set["lag"] == 0 || !to_rest
    });
    let words = Words { is_sqlite };
    for (collection, sql) in [("item", words.items()), ("owner", words.owners())] {
        let expected = expected(shop, &sql);
        assert!(!expected.is_empty());
        eventually(
            &format!("{collection} to be what SQL says"),
            Duration::from_secs(60),
            || searched(&served, collection) == expected,
        );
        println!(
            "{collection}: {} documents after {done:?} transactions (done, refused) and {kills} kills",
            expected.len()
        );
    }
    shop.verified("three writers");
    assert!(done.iter().all(|(done, _)| *done > 10), "{done:?}");
    assert_eq!(served.stop(), Some(0));
}

fn in_postgres(name: &str, configuration: &str) -> Option<Both> {
    let schema = SCHEMA.replace("KIND", "kind").replace("TAGS", "int[]");
    let schema = format!("create type kind as enum ('person', 'firm'); {schema}");
    Both::postgres(name, &schema, configuration)
}

#[test]
fn awkward_in_sqlite() {
    let schema = SCHEMA.replace("KIND", "varchar(10)").replace("TAGS", "text");
    under_three_writers(&Both::sqlite(&schema, CONFIGURATION), true);
}

#[test]
fn awkward_in_postgres() {
    if let Some(shop) = in_postgres("awkward", CONFIGURATION) {
        under_three_writers(&shop, true);
    }
}

/// The same from Postgres into each cluster there is.
#[test]
fn awkward_in_clusters() {
    for node in Node::ALL {
        let Some(url) = node.url() else { continue };
        let (cluster, _clean) = clusters::configuration(CONFIGURATION, &url, "awkward");
        if let Some(shop) = in_postgres("awkward_cluster", &cluster) {
            under_three_writers(&shop, false);
        }
    }
}
