//! Reading: one state, keys in order, rows by keys, schemas.

use std::collections::BTreeSet;

use instep_core::{DocId, Fetch, Key, Page, Value};

use super::{Subject, create, fetch, follow, rows, schema_of};

/// Two tables, with a writer between the fetches.
pub async fn a_snapshot_sees_one_state(subject: &dyn Subject) {
    create(subject);
    subject.execute("insert into parent (id, name) values (1, 'before')");
    subject.execute("insert into child (id, parent_id, note) values (1, 1, 'before')");
    let source = subject.open();
    let mut snapshot = source.reader().snapshot(None).await.expect("a snapshot opens");
    let of = |table, column| {
        fetch(
            &subject.table(table),
            &[column],
            &["id"],
            vec![vec![Value::Int(1)]],
        )
    };
    let first = snapshot
        .fetch(&of("parent", "name"))
        .await
        .expect("rows are fetched");
    subject.execute(
        "begin; update parent set name = 'after' where id = 1; update child set note = 'after' where id = 1; commit",
    );
    let second = snapshot
        .fetch(&of("child", "note"))
        .await
        .expect("rows are fetched");
    let again = snapshot
        .fetch(&of("parent", "name"))
        .await
        .expect("rows are fetched");
    drop(snapshot);
    for rows in [first, second, again] {
        assert_eq!(rows.row(0), [Value::text("before")]);
    }
    assert_eq!(
        rows(&*source, &of("child", "note")).await,
        [[Value::text("after")]]
    );
}

/// Pages of any size give the same keys, each once.
pub async fn keys_are_scanned_in_one_order_from_any_point(subject: &dyn Subject) {
    create(subject);
    subject.execute(
        "create table word (id varchar(20) primary key);
         create table big (id bigint primary key);
         insert into word (id) values ('b'), ('a'), ('B'), ('ö'), (''), ('10'), ('9'), ('a b');
         insert into link (a, b) values (2, 1), (1, 2), (1, 10), (1, 9), (-1, 0), (2, -5), (10, 1);
         insert into big (id) values (5), (-3), (0), (9007199254740993)",
    );
    let source = subject.open();
    let reader = source.reader();
    for (table, count) in [("word", 8), ("link", 7), ("big", 4), ("child", 0)] {
        let schema = schema_of(&*source, &subject.table(table)).await;
        let all = reader
            .scan(&schema, None, None, 100)
            .await
            .expect("keys are scanned");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), count, "{table}");
        for n in 1..=4 {
            let mut paged: Vec<Key> = Vec::new();
            loop {
                let page = reader
                    .scan(&schema, None, paged.last(), n)
                    .await
                    .expect("keys are scanned");
                let last = page.len() < n;
                paged.extend(page);
                if last {
                    break;
                }
            }
            assert_eq!(paged, all, "{table} in pages of {n}");
        }
        assert!(
            reader.count(&subject.table(table).into()).await.is_ok(),
            "{table} is counted"
        );
    }
}

/// By one column and by several, few tuples and many, some of which match nothing.
pub async fn a_fetch_returns_each_matching_row_once(subject: &dyn Subject) {
    create(subject);
    subject.execute(
        "insert into link (a, b, rank) with recursive n (i) as (select 1 union all select i + 1 from n where i < 2000)
         select i, i % 7, i * 2 from n",
    );
    let source = subject.open();
    for count in [0, 1, 2, 3, 5, 17, 129, 513, 1_700, 2_500] {
        let single = fetch(
            &subject.table("link"),
            &["rank", "a"],
            &["a"],
            (1..=count).map(|i| vec![Value::Int(i)]).collect(),
        );
        let expected: Vec<Vec<Value>> = (1..=count.min(2_000))
            .map(|i| vec![Value::Int(i * 2), Value::Int(i)])
            .collect();
        assert_eq!(rows(&*source, &single).await, expected, "{count} by one column");
        let tuples = (1..=count)
            .map(|i| vec![Value::Int(i % 7), Value::Int(i)])
            .collect();
        let double = fetch(&subject.table("link"), &["rank", "a"], &["b", "a"], tuples);
        assert_eq!(rows(&*source, &double).await, expected, "{count} by two columns");
    }
    let many = fetch(
        &subject.table("link"),
        &["a", "b"],
        &["b"],
        vec![vec![Value::Int(3)], vec![Value::Int(4)]],
    );
    assert_eq!(rows(&*source, &many).await.len(), 572);
}

/// In the order of the primary key.
pub async fn a_page_continues_after_its_key(subject: &dyn Subject) {
    create(subject);
    subject.execute(
        "insert into link (a, b) with recursive n (i) as (select 1 union all select i + 1 from n where i < 100)
         select 101 - i, i % 3 from n",
    );
    let source = subject.open();
    let mut after: Option<Key> = None;
    let mut seen = Vec::new();
    loop {
        let mut wanted = fetch(
            &subject.table("link"),
            &["a", "b"],
            &["b"],
            vec![vec![Value::Int(0)], vec![Value::Int(2)]],
        );
        wanted.page = Some(Page {
            key: vec!["a".into(), "b".into()],
            after: after.clone(),
            limit: 10,
        });
        let page = rows(&*source, &wanted).await;
        let last = page.len() < 10;
        after = page.last().map(|row| Key::new(row.clone())).or(after);
        seen.extend(page);
        if last {
            break;
        }
    }
    let expected: Vec<Vec<Value>> = (1..=100)
        .map(|a: i64| (a, (101 - a) % 3))
        .filter(|(_, b)| *b != 1)
        .map(|(a, b)| vec![Value::Int(a), Value::Int(b)])
        .collect();
    assert_eq!(seen, expected);
}

/// By integers and by texts, with and without matches, and none that any row could have: at once the same as alone, first in
/// a snapshot and later.
pub async fn fetches_at_once_are_answered_as_one_by_one(subject: &dyn Subject) {
    create(subject);
    subject.execute(
        "insert into parent (id, name, code) values (1, 'one', 'a'), (2, 'two', 'b'), (3, 'three', null);
         insert into child (id, parent_id, note) values (10, 1, 'x'), (11, 1, 'y'), (12, 3, null);
         insert into link (a, b, rank) values (1, 2, 3), (2, 2, 4)",
    );
    let source = subject.open();
    let integers = |values: &[i64]| {
        values
            .iter()
            .map(|value| vec![Value::Int(*value)])
            .collect::<Vec<_>>()
    };
    let of = |table: &str, columns: &[&str], by: &[&str], values| {
        fetch(&subject.table(table), columns, by, values)
    };
    let by_integers = [
        of("parent", &["name", "id"], &["id"], integers(&[1, 3, 9])),
        of(
            "child",
            &["note", "parent_id"],
            &["parent_id"],
            integers(&[1, 2, 3]),
        ),
        of(
            "link",
            &["rank"],
            &["a", "b"],
            vec![vec![Value::Int(2), Value::Int(2)]],
        ),
        of("link", &["rank"], &["a"], integers(&[77])),
        of("child", &["id"], &["id"], vec![vec![Value::text("no number")]]),
    ];
    let by_texts = [
        of(
            "parent",
            &["id"],
            &["code"],
            vec![vec![Value::text("a")], vec![Value::text("b")]],
        ),
        by_integers[1].clone(),
    ];
    let sorted = |rows: &instep_core::Rows| {
        let mut rows: Vec<Vec<Value>> = rows.iter().map(<[Value]>::to_vec).collect();
        rows.sort();
        rows
    };
    let mut together = source.reader().snapshot(None).await.expect("a snapshot opens");
    for wanted in [&by_integers[..], &by_texts, &by_integers[..1], &[], &by_integers] {
        let mut alone = source.reader().snapshot(None).await.expect("a snapshot opens");
        let answered = together.fetch_all(wanted).await.expect("rows are fetched");
        assert_eq!(answered.len(), wanted.len());
        for (wanted, rows) in wanted.iter().zip(&answered) {
            let expected = alone.fetch(wanted).await.expect("rows are fetched");
            assert_eq!(sorted(rows), sorted(&expected), "{wanted:?}");
        }
    }
    let missing: Fetch = of("no_such_table", &["id"], &["id"], integers(&[1]));
    let failed = together.fetch_all(&[by_integers[0].clone(), missing]).await;
    assert!(failed.is_err(), "a table that is not there");
}

/// Key to id, id to key, key to row.
pub async fn a_documents_id_leads_back_to_its_row(subject: &dyn Subject) {
    create(subject);
    subject.execute(
        "create table kinds (w varchar(20) not null, n bigint not null, d date not null, m numeric(10, 2) not null,
             primary key (w, n, d, m));
         insert into kinds values ('a,b', 9007199254740993, '2024-02-29', 12.5), ('', -1, '2024-03-01', 3)",
    );
    let source = subject.open();
    let schema = schema_of(&*source, &subject.table("kinds")).await;
    let keys = source
        .reader()
        .scan(&schema, None, None, 10)
        .await
        .expect("keys are scanned");
    assert_eq!(keys.len(), 2);
    for key in keys {
        let id = DocId::of(&key).expect("the key names a document");
        let back = schema.key_of(&id).expect("the id has as many parts as the key");
        assert_eq!(back, key, "{id}");
        let wanted = fetch(
            &subject.table("kinds"),
            &["w", "n", "d", "m"],
            &["w", "n", "d", "m"],
            vec![back.parts().to_vec()],
        );
        assert_eq!(rows(&*source, &wanted).await, [key.parts().to_vec()], "{id}");
    }
}

/// Columns, keys, foreign keys and indexes; our own tables are left out.
pub async fn schemas_are_described(subject: &dyn Subject) {
    create(subject);
    subject.execute("create table keyless (a integer, b text); create view sight as select id from parent");
    let source = subject.open();
    drop(follow(subject, &*source, None).await);
    let tables = source.reader().tables().await.expect("tables are listed");
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let expected = ["child", "fence", "keyless", "link", "parent"].map(|name| subject.table(name));
    assert_eq!(names, expected);
    let child = &tables[0];
    assert_eq!(child.primary_key, ["id"]);
    assert_eq!(child.foreign_keys.len(), 1);
    assert_eq!(child.foreign_keys[0].columns, ["parent_id"]);
    assert_eq!(child.foreign_keys[0].table.as_str(), subject.table("parent"));
    assert_eq!(child.foreign_keys[0].referenced, ["id"]);
    assert!(
        child.indexes.contains(&vec!["parent_id".to_owned()]),
        "{:?}",
        child.indexes
    );
    assert!(
        child.indexes.contains(&vec!["id".to_owned()]),
        "{:?}",
        child.indexes
    );
    assert!(tables[2].primary_key.is_empty());
    assert!(tables[2].require_key().is_err());
    assert_eq!(tables[3].primary_key, ["a", "b"]);
}
