//! A first configuration, written from the database's own schema.

use std::fmt::Write as _;

use instep_conformance::postgres;
use serde_json::json;

use super::access::{PASSWORD, guarded, url_as, with_password};
use super::stage::findings;
use crate::support::product::Product;

/// 200 tables in several schemas, with names and shapes of every kind.
fn large_schema() -> String {
    let mut sql = String::from(
        r#"create schema sales; create schema "Odd Schema"; create schema "dotted.schema";
           create table public."Order" (id bigserial primary key, "Group" text, "select" int, price numeric(12, 3));
           create table public."user" (id uuid primary key default gen_random_uuid(), e_mail varchar(200), "größe" real, born date);
           create table "Odd Schema"."with ""quote""" (id int primary key, "a.b" text, "c d" int, order_id bigint references public."Order");
           create table "dotted.schema"."dotted.table" ("Id" int primary key, "order" int, is_on boolean, at timestamptz);
           create table sales."Order" (id int, line int, order_id bigint references public."Order", user_id uuid references public."user", note text, primary key (id, line));
           create table sales.a_name_that_is_as_long_as_postgres_allows_names_to_be_which_is_63 (id int primary key, parent_id int references sales.a_name_that_is_as_long_as_postgres_allows_names_to_be_which_is_63, a_column_that_is_as_long_as_postgres_allows_names_to_be_which_63 text);
           create table sales.parted (id int, region text, amount money, primary key (id, region)) partition by list (region);
           create table sales.parted_north partition of sales.parted for values in ('north');
           create table sales.parted_rest partition of sales.parted default;
           create table sales.keyless (id int, note text);
           create view sales.seen as select * from sales.keyless;
           create table public.every_type (id smallint primary key, a boolean, b bytea, c char(3), d json, e jsonb, f inet, g interval, h text[], i int[], j point, k xml, l tsvector, m int4range, n time, o numeric, p double precision, q macaddr, r bit(4), s oid);
           create table public.linking (order_id bigint references public."Order", user_id uuid references public."user", primary key (order_id, user_id));
           create table public."_id" (_id int primary key, _score int, "_source" text);
           insert into public."Order" ("Group", "select", price) values ('a', 1, 1.234), (null, 2, 99999.999);
           insert into "Odd Schema"."with ""quote""" values (1, 'x', 2, 1);
           insert into public."user" (e_mail) values ('a@b.c'); insert into public.linking select 1, id from public."user";
           insert into sales.parted values (1, 'north', 5), (2, 'south', 6);
           insert into public.every_type (id, h, i, d) values (1, '{a,b}', '{1,2}', '{"a": 1}'), (2, null, null, null);
           insert into public."_id" values (1, 2, 'x');
        "#,
    );
    let fixed = 11;
    for table in 0..200 - fixed {
        let schema = ["public", "sales", "\"Odd Schema\""][table % 3];
        // A tree of tables across the schemas: each refers to an earlier one, some to two.
        let name = |table: usize| {
            format!(
                "{}.{}",
                ["public", "sales", "\"Odd Schema\""][table % 3],
                table_name(table)
            )
        };
        let mut columns = String::from(
            "id int primary key, name text, \"Kind\" varchar(20), amount numeric(10, 2), at timestamptz",
        );
        if table > 0 {
            let _ = write!(columns, ", parent_id int references {}", name(table / 2));
        }
        if table % 7 == 6 {
            let _ = write!(columns, ", other_id int references {}", name(table - 3));
        }
        let _ = writeln!(sql, "create table {schema}.{} ({columns});", table_name(table));
        let _ = writeln!(
            sql,
            "insert into {} (id, name, amount) values (1, 'one of {table}', 1.5), (2, null, null);",
            name(table)
        );
        if table > 0 {
            let _ = writeln!(
                sql,
                "update {} set parent_id = 2; create index on {} (parent_id);",
                name(table),
                name(table)
            );
        }
    }
    sql
}

fn table_name(table: usize) -> String {
    match table % 5 {
        0 => format!("\"Table {table}\""),
        1 => format!("\"tablé-{table}\""),
        // The same name in every schema.
        2 => format!("common_{}", table / 15),
        _ => format!("table_{table}"),
    }
}

#[test]
fn a_first_configuration_of_200_tables() {
    if postgres::or_skip("a schema of 200 tables").is_none() {
        return;
    }
    let database = guarded().database("many_tables");
    database.execute(&large_schema());
    let tables = database.value("select count(*) from pg_tables where schemaname !~ '^(pg_|information_schema)' and tablename !~ '^parted_'");
    assert_eq!(tables, "200");
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::at(folder.path());
    let written = product.run(&["init", &database.url()]);
    assert!(
        written.status.success(),
        "{}",
        String::from_utf8_lossy(&written.stderr)
    );
    std::fs::write(folder.path().join("instep.toml"), &written.stdout).expect("it is written");
    let (found, code) = findings(&product, "");
    let wrong: Vec<_> = found
        .iter()
        .filter(|found| found["severity"] == "error")
        .collect();
    assert_eq!((code, wrong.len()), (Some(0), 0), "{wrong:#?}");
    let done = product.json(&["sync", "--once"]);
    assert_eq!(done["complete"], json!(true), "{done}");
    let text = String::from_utf8(written.stdout).expect("text");
    let collections = text
        .lines()
        .filter(|line| line.starts_with("[collection.") && line.ends_with(']') && !line.contains(".fields]"))
        .count();
    assert!(collections > 50, "{collections} collections");
    assert_eq!(product.json(&["verify"])["differences"], 0);
    database.execute("select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database()");
}

/// An address without a password is written as it stands, one with it is not.
#[test]
fn a_first_configuration_holds_no_password() {
    if postgres::or_skip("a configuration without a password").is_none() {
        return;
    }
    let (database, role) = with_password("first");
    let encoded: String = PASSWORD.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let product = Product::at(folder.path()).with("PGPASSWORD", PASSWORD);
    let written = product.run(&["init", &url_as(&format!("{role}:{encoded}"), &database)]);
    let text = String::from_utf8(written.stdout).expect("text");
    assert!(
        written.status.success() && !text.contains(&encoded) && text.contains("${PGPASSWORD}"),
        "{text}"
    );
    // It works as it is, with the variable it names.
    let own_slot = text.replacen(
        "[source.main]\n",
        &format!("[source.main]\nslot = \"{}\"\n", database.name()),
        1,
    );
    std::fs::write(folder.path().join("instep.toml"), own_slot).expect("it is written");
    let (found, code) = findings(&product, "");
    assert_eq!(code, Some(0), "{found:#?}\n{text}");
}
