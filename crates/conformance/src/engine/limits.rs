//! What is large, long, deep or far away: pages far down, many clauses, documents of megabytes, names at their limits, and
//! text beyond Latin.

use instep_core::query::{Bool, Query, Sort, SortBy};
use instep_core::request::{Hit, SourceFilter};
use instep_core::{
    Applied, Fault, FieldType, IndexName, Mapping, Readers, SearchRequest, SearchResponse, Settings, Ticket,
    TrackTotalHits, Write,
};

use super::clauses::{boolean, matching, prefix, term, terms};
use super::fixture::{applied, ask, document, done, fresh, id, ids, put, querying};
use super::{Failures, Subject};

/// Documents of the paging: more than can be reached by `from` and `size`.
const MANY: usize = 12_000;

/// Everything that is large.
pub async fn limits(subject: Subject<'_>) {
    let mut failures = Failures::default();
    far_pages_and_many_clauses(subject, &mut failures).await;
    megabytes(subject, &mut failures).await;
    depths(subject, &mut failures).await;
    names(subject, &mut failures).await;
    beyond_latin(subject, &mut failures).await;
    failures.none();
}

fn by(field: &str) -> Sort {
    Sort {
        by: SortBy::Field {
            field: field.into(),
            unmapped_type: None,
        },
        descending: false,
        missing_first: false,
    }
}

async fn far_pages_and_many_clauses(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "far").await;
    // Not in the order of their numbers.
    let number = |at: usize| (at * 7_919) % MANY;
    for start in (0..MANY).step_by(2_000) {
        let writes = (start..start + 2_000).map(|at| {
            put(
                &format!("d{at}"),
                &format!(r#"{{"n":{0},"tag":"t{0}"}}"#, number(at)),
                1,
            )
        });
        done(subject.engine, &index, writes.collect()).await;
    }
    subject.engine.refresh(&index).await.expect("refresh");
    let index = [index];
    let all = || querying(Query::MatchAll { boost: 1.0 });
    let far = SearchRequest {
        from: 9_900,
        size: 100,
        sort: vec![by("n")],
        ..all()
    };
    let numbers = |response: &SearchResponse| -> Vec<String> {
        let source = |hit: &Hit| hit.source.as_deref().unwrap_or_default().to_owned();
        response.hits.iter().map(source).collect()
    };
    let expected = |range: std::ops::Range<usize>| -> Vec<String> {
        range.map(|n| format!(r#"{{"n":{n},"tag":"t{n}"}}"#)).collect()
    };
    let found = ask(subject, &index, far).await.expect("a page");
    failures.check("the last page by from", numbers(&found), expected(9_900..10_000));
    let (mut after, mut at) = (None, 0);
    loop {
        let request = SearchRequest {
            size: 1_000,
            sort: vec![by("n")],
            search_after: after,
            ..all()
        };
        let found = ask(subject, &index, request).await.expect("a page");
        let Some(last) = found.hits.last() else { break };
        after = Some(last.sort.clone());
        failures.check(
            format!("the page after {at}"),
            numbers(&found),
            expected(at..at + found.hits.len()),
        );
        at += found.hits.len();
    }
    failures.check("all pages", at, MANY);

    let counted = |query: Query| SearchRequest {
        size: 0,
        track_total_hits: TrackTotalHits::Exactly,
        ..querying(query)
    };
    let each = |n: usize| term("n", i64::try_from(n).expect("it is small"));
    let tagged = |n: usize| term("tag", format!("t{n}").as_str());
    let of = |clause: &dyn Fn(usize) -> Query, count: usize| (0..count).map(clause).collect::<Vec<_>>();
    let any = |clauses| {
        boolean(Bool {
            should: clauses,
            ..Bool::default()
        })
    };
    let none = |clauses| {
        boolean(Bool {
            must: vec![Query::MatchAll { boost: 1.0 }],
            must_not: clauses,
            ..Bool::default()
        })
    };
    let nested = (0..20).fold(each(5), |inner, _| {
        boolean(Bool {
            filter: vec![inner],
            ..Bool::default()
        })
    });
    let (many, half, all) = (1_000, 500, MANY as u64);
    for (name, query, expected) in [
        (
            "1,000 clauses, of which one must fit",
            any(of(&tagged, many)),
            1_000,
        ),
        (
            "1,000 clauses, of which none may fit",
            none(of(&tagged, many)),
            all - 1_000,
        ),
        ("500 clauses on numbers", any(of(&each, half)), 500),
        (
            "500 clauses on numbers, of which none may fit",
            none(of(&each, half)),
            all - 500,
        ),
        (
            "10,000 values",
            terms("n", (0..10_000_i64).map(Into::into).collect()),
            10_000,
        ),
        ("20 levels", nested, 1),
    ] {
        let found = ask(subject, &index, counted(query)).await;
        let total = found.map(|found| found.total.map(|total| total.value));
        failures.check(name, total.map_err(|error| error.to_string()), Ok(Some(expected)));
    }
    // Some clusters count a clause on a number twice: then it is the caller's error, and not a failure.
    let found = ask(subject, &index, counted(any(of(&each, many)))).await;
    let is_told = match found {
        Ok(found) => found.total.map(|total| total.value) == Some(1_000),
        Err(error) => error.fault() == Fault::Invalid,
    };
    failures.check("1,000 clauses on numbers", is_told, true);
    subject.engine.drop_index(&index[0]).await.expect("drop");
}

/// Ten megabytes in one document, beside small ones.
async fn megabytes(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "megabytes").await;
    let mut body = String::with_capacity(10 << 20);
    let mut at = 0_u64;
    while body.len() < 10 << 20 {
        body.push_str(&format!("word{} ", at % 50_000));
        at += 1;
    }
    body.push_str("furthest");
    let large = format!(r#"{{"body":"{body}","n":1}}"#);
    let writes = vec![put("a", "{}", 1), put("large", &large, 1), put("b", "{}", 1)];
    failures.check(
        "10 MB between small ones",
        applied(subject.engine, &index, writes).await,
        vec!["done".to_owned(); 3],
    );
    subject.engine.refresh(&index).await.expect("refresh");
    let stored = subject
        .engine
        .read(&index, &[id("large")])
        .await
        .expect("read")
        .remove(0);
    failures.check(
        "10 MB come back byte for byte",
        stored.is_some_and(|stored| *stored.source == *large),
        true,
    );
    let request = SearchRequest {
        source: SourceFilter {
            none: true,
            ..Default::default()
        },
        ..querying(Query::Match(matching("body", "furthest")))
    };
    let found = ask(subject, std::slice::from_ref(&index), request).await;
    failures.check(
        "its last word is found",
        found.map(|found| ids(&found)).ok(),
        Some(vec!["large".to_owned()]),
    );
    subject.engine.drop_index(&index).await.expect("drop");
}

/// How deep a value may nest.
async fn depths(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "depths").await;
    let nested = |levels: usize| {
        format!(
            r#"{{"extra":{}1{}}}"#,
            "{\"a\":".repeat(levels),
            "}".repeat(levels)
        )
    };
    let write = async |name: &str, source: &str| {
        let writes = vec![(index.clone(), put(name, source, 1))];
        let mut outcomes = subject.engine.apply(writes).await.expect("apply");
        outcomes.remove(0)
    };
    let outcome = write("deep", &nested(99)).await;
    failures.check("99 levels", matches!(outcome, Applied::Done), true);
    for (name, source) in [
        ("too-deep", nested(101)),
        ("much-too-deep", nested(5_000)),
        (
            "too-deep-in-arrays",
            format!(r#"{{"extra":{}1{}}}"#, "[".repeat(200), "]".repeat(200)),
        ),
        (
            "deep-where-none-may-be",
            format!(r#"{{"tag":{}1{}}}"#, "{\"a\":".repeat(2_000), "}".repeat(2_000)),
        ),
    ] {
        let fault = match write(name, &source).await {
            Applied::Failed(error) => Some(error.fault()),
            _ => None,
        };
        failures.check(name, fault, Some(Fault::Poison));
    }
    subject.engine.drop_index(&index).await.expect("drop");
}

/// The longest name of an index, and names of fields that are long, nested and of other scripts.
async fn names(subject: Subject<'_>, failures: &mut Failures) {
    let start = format!("{}-names-", subject.prefix);
    let index = IndexName::from(format!("{start}{}", "x".repeat(200 - start.len())));
    let long = "l".repeat(255);
    let nested = (0..19).map(|at| format!("o{at}")).collect::<Vec<_>>().join(".");
    let paths = [
        long.clone(),
        format!("{nested}.leaf"),
        "größe.höhe".to_owned(),
        "価格".to_owned(),
        "with space and-dash".to_owned(),
    ];
    let fields = paths.iter().map(|path| (path.clone(), FieldType::Keyword));
    let mapping = Mapping {
        fields: fields.collect(),
        language: "en".into(),
    };
    subject.engine.drop_index(&index).await.expect("drop");
    subject
        .engine
        .ensure(&index, &mapping, &Settings::new())
        .await
        .expect("ensure");
    for (at, path) in paths.iter().enumerate() {
        let mut source = serde_json::json!("v");
        for name in path.split('.').rev() {
            source = serde_json::json!({ name: source });
        }
        done(
            subject.engine,
            &index,
            vec![put(&at.to_string(), &source.to_string(), 1)],
        )
        .await;
    }
    subject.engine.refresh(&index).await.expect("refresh");
    for (at, path) in paths.iter().enumerate() {
        let request = SearchRequest {
            sort: vec![by(path)],
            ..querying(term(path, "v"))
        };
        let found = ask(subject, std::slice::from_ref(&index), request).await;
        failures.check(
            format!("by `{path}`"),
            found.map(|found| ids(&found)).map_err(|error| error.to_string()),
            Ok(vec![at.to_string()]),
        );
    }
    subject.engine.drop_index(&index).await.expect("drop");
}

/// Keywords by their bytes, which is by code point: what lies beyond the first plane comes last. And text of other scripts.
async fn beyond_latin(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "beyond-latin").await;
    let tags = [
        "Z",
        "z",
        "é",
        "я",
        "中",
        "\u{ffee}",
        "\u{1F600}",
        "\u{1F9D1}\u{200D}\u{1F680}",
    ];
    let titles = [
        "Zebra",
        "e\u{301}clair",
        "éclair",
        "Привет мир",
        "中文 字",
        "שלום עולם",
        "\u{1F600} smile",
        "हिन्दी पाठ",
    ];
    let mut writes: Vec<Write> = tags
        .iter()
        .zip(titles)
        .enumerate()
        .map(|(at, (tag, title))| {
            let source = serde_json::json!({ "tag": tag, "body": title }).to_string();
            let name = format!("{at}");
            Write::Put(document(&name, Readers::Public, &source), Ticket(1))
        })
        .collect();
    writes.reverse();
    done(subject.engine, &index, writes).await;
    subject.engine.refresh(&index).await.expect("refresh");
    let index = [index];
    let found = async |request: SearchRequest| match ask(subject, &index, request).await {
        Ok(found) => ids(&found).concat(),
        Err(error) => error.to_string(),
    };
    let sorted = SearchRequest {
        sort: vec![by("tag")],
        ..querying(Query::MatchAll { boost: 1.0 })
    };
    failures.check("by code point", found(sorted).await, "01234567".to_owned());
    for (at, tag) in tags.iter().enumerate() {
        let case = format!("`{tag}`");
        failures.check(&case, found(querying(term("tag", *tag))).await, at.to_string());
        failures.check(
            format!("{case} as a prefix"),
            found(querying(prefix("tag", tag))).await,
            at.to_string(),
        );
    }
    for (words, expected) in [
        ("ПРИВЕТ", "3"),
        ("字", "4"),
        ("עולם", "5"),
        ("\u{1F600}", "6"),
        ("हिन्दी", "7"),
        // What is composed is another text than what is not.
        ("éclair", "2"),
        ("e\u{301}clair", "1"),
    ] {
        failures.check(
            words,
            found(querying(Query::Match(matching("body", words)))).await,
            expected.to_owned(),
        );
    }
    subject.engine.drop_index(&index[0]).await.expect("drop");
}
