//! A small shop: the tables that the README's example configuration is about.

use std::path::Path;

use rusqlite::Connection;

/// What the README's configuration joins.
pub const SCHEMA: &str = "
    create table seller      (id integer primary key, name text not null, country text);
    create table category    (id integer primary key, name text, parent_id integer references category (id));
    create table customer    (id integer primary key, name text);
    create table product     (id integer primary key, name text not null, price decimal(10,2), acl_readers text,
                              seller_id integer not null references seller (id),
                              category_id integer references category (id), stocked_on text, secret_note text);
    create table review      (id integer primary key, product_id integer not null references product (id),
                              author_id integer references customer (id), stars integer, body text, created_at text);
    create table tag         (id integer primary key, name text);
    create table product_tag (product_id integer references product (id), tag_id integer references tag (id),
                              primary key (product_id, tag_id));
    insert into seller values (1, 'Ann Cycles', 'SE'), (2, 'Bo Wheels', 'DK');
    insert into category values (1, 'bicycles', null), (2, 'folding', 1);
    insert into customer values (1, 'Cia'), (2, 'Dag');
    insert into product values
        (1, 'Red folding bicycle',    '199.50', '[\"everyone\"]',          1, 2, '2024-01-31', 'note-one'),
        (2, 'Secret folding bicycle', '999.00', '[\"staff\"]',             1, 2, '2024-02-29', 'note-two'),
        (3, 'Blue city bicycle',      '99.90',  '[\"everyone\", \"eva\"]', 2, 1, '2023-12-01', 'note-three'),
        (4, 'Folding chair',          '19.90',  '[\"eva\"]',               2, null, null,      'note-four'),
        (5, 'Orphaned bicycle',       '5.00',   '[]',                      2, 1, null,         'note-five');
    insert into review values (1, 1, 1, 5, 'a great ride', '2024-03-02'), (2, 1, 2, 3, 'it creaks', '2024-03-01'),
                              (3, 2, 1, 1, 'too secret', '2024-03-03');
    insert into tag values (1, 'city'), (2, 'foldable'), (3, 'prototype');
    insert into product_tag values (1, 1), (1, 2), (2, 2), (2, 3), (3, 1);
";

/// Writes the shop into a folder, as `shop.db`.
pub fn write(folder: &Path) -> Connection {
    let database = Connection::open(folder.join("shop.db")).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database.execute_batch(SCHEMA).unwrap();
    database
}

/// The products alone, for everybody: what tests add engines and sets to.
pub const PRODUCTS: &str = r#"
[source.shop]
url = "sqlite:shop.db"

[collection.product]
root   = "product"
public = true

[collection.product.fields]
title  = { type = "text", from = "name" }
name   = "keyword"
seller = { table = "seller", fields = ["name"] }
"#;

/// Secrets of the keys below.
pub const STAFF: &str = "staff-0123456789abcdef";
pub const BUYER: &str = "buyer-0123456789abcdef";
pub const OPERATOR: &str = "operator-0123456789abcdef";

/// Products with readers, sellers for everybody, and three keys.
pub fn configuration() -> String {
    format!(
        r#"
[source.shop]
url = "sqlite:shop.db"

[collection.product]
root     = "product"
language = "en"
readers  = "acl_readers"

[collection.product.fields]
title   = {{ type = "text", from = "name" }}
price   = "decimal"
seller  = {{ table = "seller", fields = ["name", "country"] }}
reviews = {{ table = "review", many = true, order = "created_at", fields = ["stars", "body"] }}
tags    = {{ table = "tag", through = "product_tag", many = true, values = "name" }}

[collection.seller]
root   = "seller"
public = true

[collection.seller.fields]
name    = "text"
country = "keyword"

[key.staff]
secret  = "{STAFF}"
subject = "sue"
units   = ["everyone", "staff"]
scopes  = ["search"]

[key.buyer]
secret  = "{BUYER}"
subject = "eva"
units   = ["everyone"]
scopes  = ["search"]

[key.operator]
secret  = "{OPERATOR}"
subject = "oscar"
scopes  = ["operate"]
"#
    )
}
