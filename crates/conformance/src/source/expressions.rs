//! Expressions over one row: columns that are computed, and conditions.

use instep_core::{Expression, Fault, Source, Value};

use super::{Subject, fetch, rows, schema_of};

/// Notes among which some are no number, and no JSON either.
const NOTES: &str = "
    create table priced (id integer primary key, price integer, parts integer, name varchar(20), note varchar(20));
    insert into priced (id, price, parts, name, note) values
        (1, 10, 2, 'One', '7'), (2, 20, 0, 'two', 'x'), (3, null, 1, null, '8'), (4, 40, 4, 'Four', 'y')";

fn parsed(sql: &str) -> Expression {
    Expression::parse(sql).expect("it is an expression")
}

async fn described(source: &dyn Source, table: &str, sql: &str) -> String {
    let expression = parsed(sql);
    let column = source
        .reader()
        .describe(&table.into(), &expression)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(column.name, expression.column());
    column.name
}

/// An expression is fetched as a column is, beside columns and in any order; opened anew, a source still knows it.
pub async fn an_expression_is_a_column(subject: &dyn Subject) {
    subject.execute(NOTES);
    let table = subject.table("priced");
    let source = subject.open();
    let total = described(&*source, &table, "price * 2 + coalesce(parts, 0)").await;
    let lower = described(&*source, &table, "lower(name)").await;
    let wanted = fetch(
        &table,
        &[&total, "id", &lower],
        &["id"],
        vec![vec![Value::Int(1)], vec![Value::Int(3)]],
    );
    let expected = [
        vec![Value::Null, Value::Int(3), Value::Null],
        vec![Value::Int(22), Value::Int(1), Value::text("one")],
    ];
    assert_eq!(rows(&*source, &wanted).await, expected);
    assert_eq!(rows(&*subject.open(), &wanted).await, expected);
    let schema = schema_of(&*source, &table).await;
    assert_eq!(schema.columns.len(), 5, "the table is described without them");
}

/// What is not the row's alone is refused when it is described.
pub async fn an_expression_that_is_not_the_rows_is_refused(subject: &dyn Subject) {
    subject.execute(NOTES);
    let table = subject.table("priced").into();
    let source = subject.open();
    for sql in [
        "random()",
        "count(*)",
        "sum(price)",
        "nothing + 1",
        "nothing(id)",
        "priced.nothing is null",
        "other.id",
        "id +",
    ] {
        let error = source
            .reader()
            .describe(&table, &parsed(sql))
            .await
            .expect_err(sql);
        assert_eq!(
            (error.code(), error.fault()),
            ("bad_expression", Fault::Invalid),
            "{sql}: {error}"
        );
    }
}

/// A condition leaves rows out of a scan, page by page; NULL is not true.
pub async fn a_condition_cuts_a_scan(subject: &dyn Subject) {
    subject.execute(NOTES);
    let table = subject.table("priced");
    let source = subject.open();
    let schema = schema_of(&*source, &table).await;
    for (sql, ids) in [
        ("price >= 20", vec![2, 4]),
        ("not (price >= 20)", vec![1]),
        ("price is null or name = 'two'", vec![2, 3]),
        ("id < 0", vec![]),
    ] {
        let condition = Expression::condition(sql).expect("it is a condition");
        described(&*source, &table, condition.sql()).await;
        for n in 1..=3 {
            let mut keys = Vec::new();
            loop {
                let page = source
                    .reader()
                    .scan(&schema, Some(&condition), keys.last(), n)
                    .await
                    .expect("keys are scanned");
                let last = page.len() < n;
                keys.extend(page);
                if last {
                    break;
                }
            }
            let found: Vec<_> = keys.iter().map(|key| key.parts()[0].clone()).collect();
            let expected: Vec<_> = ids.iter().map(|id| Value::Int(*id)).collect();
            assert_eq!(found, expected, "{sql} in pages of {n}");
        }
    }
}

/// A row for which an expression fails has bytes in its place, and every other row its value.
pub async fn a_row_that_fails_an_expression_hurts_no_other(subject: &dyn Subject) {
    subject.execute(NOTES);
    let table = subject.table("priced");
    let source = subject.open();
    let failing = described(&*source, &table, subject.failing()).await;
    let ids = (1..=4).map(|id| vec![Value::Int(id)]).collect();
    let wanted = fetch(&table, &["id", &failing], &["id"], ids);
    let fails = || Value::Bytes([].into());
    let expected = [
        [Value::Int(1), Value::Int(7)],
        [Value::Int(2), fails()],
        [Value::Int(3), Value::Int(8)],
        [Value::Int(4), fails()],
    ];
    assert_eq!(rows(&*source, &wanted).await, expected);
    let schema = schema_of(&*source, &table).await;
    let condition = Expression::condition(&format!("{} = 7", subject.failing())).expect("it is a condition");
    let error = source
        .reader()
        .scan(&schema, Some(&condition), None, 10)
        .await
        .expect_err("a row fails");
    assert_eq!(error.fault(), Fault::Poison, "{error}");
}
