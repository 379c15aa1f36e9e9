//! Writing: fencing, outcomes side by side, poison, exact storage, walking.

use std::collections::{BTreeMap, BTreeSet};

use instep_core::query::Query;
use instep_core::{
    Applied, Ensured, FieldType, IndexName, Mapping, Reader, Readers, Settings, SourceFilter, Stored, Ticket,
    Write,
};

use super::clauses::{exists, prefix, term};
use super::fixture::{applied, ask, document, done, fresh, id, ids, mapping, put, querying};
use super::{Failures, Subject};

/// Everything about writing.
pub async fn writes(subject: Subject<'_>) {
    if !subject.engine.capabilities().stores {
        return;
    }
    let mut failures = Failures::default();
    lifecycle(subject, &mut failures).await;
    extended(subject, &mut failures).await;
    fencing(subject, &mut failures).await;
    batches(subject, &mut failures).await;
    poison(subject, &mut failures).await;
    long_texts(subject, &mut failures).await;
    exact(subject, &mut failures).await;
    walks(subject, &mut failures).await;
    overlapping(subject, &mut failures).await;
    failures.none();
}

async fn lifecycle(subject: Subject<'_>, failures: &mut Failures) {
    let index = subject.index("lifecycle");
    let engine = subject.engine;
    let ensure = async |mapping: &Mapping| engine.ensure(&index, mapping, &Settings::new()).await.ok();
    engine.drop_index(&index).await.expect("drop what is not there");
    failures.check("made", ensure(&mapping()).await, Some(Ensured::Created));
    failures.check("made again", ensure(&mapping()).await, Some(Ensured::Unchanged));
    let mut less = mapping();
    less.fields.remove("title");
    failures.check("fewer fields", ensure(&less).await, Some(Ensured::Unchanged));
    let mut more = mapping();
    more.fields.insert("new".into(), FieldType::Long);
    failures.check("more fields", ensure(&more).await, Some(Ensured::Extended));
    failures.check(
        "the former fields",
        ensure(&mapping()).await,
        Some(Ensured::Unchanged),
    );
    failures.check("more fields again", ensure(&more).await, Some(Ensured::Unchanged));
    let mut below = mapping();
    below.fields.insert("title.below".into(), FieldType::Long);
    failures.check(
        "a field below another",
        ensure(&below).await,
        Some(Ensured::NeedsNewIndex),
    );
    let mut other = mapping();
    other.fields.insert("title".into(), FieldType::Long);
    failures.check("another type", ensure(&other).await, Some(Ensured::NeedsNewIndex));
    let listed = engine.indexes().await.expect("indexes");
    failures.check("listed", listed.contains(&index), true);
    failures.check("sorted", listed.is_sorted(), true);
    done(engine, &index, vec![put("1", "{}", 1)]).await;
    engine.drop_index(&index).await.expect("drop");
    failures.check(
        "dropped",
        engine.indexes().await.expect("indexes").contains(&index),
        false,
    );
    failures.check(
        "made after the drop",
        ensure(&mapping()).await,
        Some(Ensured::Created),
    );
    failures.check(
        "empty after the drop",
        contents(subject, &index, 10).await.len(),
        0,
    );
    done(engine, &index, vec![put("1", "{}", 1)]).await;
    engine.drop_index(&index).await.expect("drop");
    let missing = subject.index("missing");
    let fails = engine
        .apply(vec![(missing.clone(), put("1", "{}", 1))])
        .await
        .is_err();
    failures.check("no index is made by a write", fails, true);
    let mut unknown = Settings::new();
    unknown.insert("no_such_setting".into(), true.into());
    let refused = engine.ensure(&missing, &mapping(), &unknown).await.is_err();
    failures.check("unknown setting", refused, true);
    engine.drop_index(&missing).await.expect("drop");
}

/// An index that gets fields keeps its documents, who may read them, their tickets and their order.
async fn extended(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "extended").await;
    let engine = subject.engine;
    let readers = Readers::of(
        vec![Reader::Named("ann".into())],
        vec![Reader::Subject("bo".into())],
    );
    let writes = (1..=40).map(|at| {
        let id = format!("d{at}");
        let source = format!(r#"{{"title":"fox {at}","n":{at}}}"#);
        match at % 2 {
            0 => Write::Put(document(&id, readers.clone(), &source), Ticket(100 + at)),
            _ => put(&id, &source, 100 + at),
        }
    });
    done(engine, &index, writes.collect()).await;
    done(engine, &index, vec![Write::Delete(id("d7"), Ticket(200))]).await;
    let before = contents(subject, &index, 100).await;
    let mut more = mapping();
    more.fields.insert("new".into(), FieldType::Long);
    more.fields.insert("object.inner".into(), FieldType::Keyword);
    let ensured = engine.ensure(&index, &more, &Settings::new()).await;
    failures.check("extended", ensured.ok(), Some(Ensured::Extended));
    let after = contents(subject, &index, 100).await;
    failures.check("the same documents", after == before, true);
    let old = applied(engine, &index, vec![put("d8", r#"{"title":"old"}"#, 50)]).await;
    failures.check("an older ticket", old, vec!["superseded".to_owned()]);
    done(engine, &index, vec![put("d8", r#"{"title":"fox","new":7}"#, 300)]).await;
    engine.refresh(&index).await.expect("refresh");
    let found = async |field: &str| {
        let request = querying(exists(field));
        let answer = ask(subject, std::slice::from_ref(&index), request).await;
        answer.map(|answer| answer.hits.len()).ok()
    };
    failures.check("a new field is searched", found("new").await, Some(1));
    failures.check("a former field is searched", found("n").await, Some(38));
    engine.drop_index(&index).await.expect("drop");
}

/// Three writes of one document under tickets 1, 2, 3 in every order, in one call, in one call each, and with refreshes
/// between these, the write of every ticket being a deletion in turn: the highest ticket wins.
async fn fencing(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "fencing").await;
    let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
    for deleted in 1..=3 {
        for order in orders {
            for (calls, refreshed) in [(1, false), (3, false), (3, true)] {
                let name = format!("d{deleted}-{order:?}-{calls}-{refreshed}");
                let write = |ticket| match ticket == deleted {
                    true => Write::Delete(id(&name), Ticket(ticket)),
                    false => put(&name, &format!(r#"{{"n":{ticket}}}"#), ticket),
                };
                let mut outcomes = Vec::new();
                for part in order.chunks(order.len() / calls) {
                    let writes = part.iter().map(|&ticket| write(ticket)).collect();
                    outcomes.extend(applied(subject.engine, &index, writes).await);
                    if refreshed {
                        subject.engine.refresh(&index).await.expect("refresh");
                    }
                }
                let mut highest = 0;
                for (at, ticket) in order.into_iter().enumerate() {
                    let expected = if ticket >= highest { "done" } else { "superseded" };
                    failures.check(format!("{name}: {at}"), outcomes[at].as_str(), expected);
                    highest = highest.max(ticket);
                }
                let found = read(subject, &index, &name)
                    .await
                    .map(|stored| (stored.source, stored.ticket.0));
                let expected = (deleted != 3).then(|| (r#"{"n":3}"#.into(), 3));
                failures.check(format!("{name}: state"), found, expected);
            }
        }
    }
    // An equal ticket is a repeat.
    let again = applied(
        subject.engine,
        &index,
        vec![put("r", r#"{"n":1}"#, 5), put("r", r#"{"n":2}"#, 5)],
    )
    .await;
    failures.check("equal tickets", again, vec!["done".to_owned(), "done".to_owned()]);
    let found = read(subject, &index, "r").await.map(|stored| stored.source);
    failures.check("equal tickets: the last", found, Some(r#"{"n":2}"#.into()));
    // Of a write and a deletion, too, whichever comes last, with a refresh between.
    for deleted_last in [true, false] {
        let name = format!("equal-{deleted_last}");
        let (put, delete) = (put(&name, r#"{"n":1}"#, 7), Write::Delete(id(&name), Ticket(7)));
        let both = if deleted_last {
            [put, delete]
        } else {
            [delete, put]
        };
        for write in both {
            done(subject.engine, &index, vec![write]).await;
            subject.engine.refresh(&index).await.expect("refresh");
        }
        let is_there = read(subject, &index, &name).await.is_some();
        failures.check(&name, is_there, !deleted_last);
    }
    subject.engine.drop_index(&index).await.expect("drop");
}

async fn read(subject: Subject<'_>, index: &IndexName, name: &str) -> Option<Stored> {
    subject
        .engine
        .read(index, &[id(name)])
        .await
        .expect("read")
        .remove(0)
}

async fn batches(subject: Subject<'_>, failures: &mut Failures) {
    let (one, two) = (fresh(subject, "batch-a").await, fresh(subject, "batch-b").await);
    let writes = vec![
        (one.clone(), put("1", r#"{"n":1}"#, 4)),
        (two.clone(), put("1", r#"{"n":"x"}"#, 4)),
        (one.clone(), put("1", r#"{"n":2}"#, 3)),
        (two.clone(), put("2", r#"{"n":2}"#, 4)),
        (one.clone(), Write::Delete(id("9"), Ticket(4))),
        (one.clone(), put("3", r#"{"n":3}"#, 4)),
    ];
    let outcomes = subject.engine.apply(writes).await.expect("apply");
    let short = |outcome: &Applied| match outcome {
        Applied::Done => 'd',
        Applied::Superseded => 's',
        Applied::Failed(_) => 'f',
    };
    failures.check(
        "side by side",
        outcomes.iter().map(short).collect::<String>(),
        "dfsddd".to_owned(),
    );
    failures.check(
        "no writes",
        subject.engine.apply(vec![]).await.map(|o| o.len()).ok(),
        Some(0),
    );
    let sources = |found: Vec<Stored>| {
        found
            .into_iter()
            .map(|stored| (stored.id.to_string(), stored.source.to_string()))
            .collect::<Vec<_>>()
    };
    let expected = vec![
        ("1".to_owned(), r#"{"n":1}"#.to_owned()),
        ("3".to_owned(), r#"{"n":3}"#.to_owned()),
    ];
    failures.check("one index", sources(contents(subject, &one, 10).await), expected);
    let expected = vec![("2".to_owned(), r#"{"n":2}"#.to_owned())];
    failures.check(
        "the other index",
        sources(contents(subject, &two, 10).await),
        expected,
    );
    // Good ones among what is too large, too deep and of a wrong type.
    let mixed = fresh(subject, "batch-mixed").await;
    let deep = format!(r#"{{"extra":{}1{}}}"#, "{\"a\":".repeat(120), "}".repeat(120));
    let writes = vec![
        put("m1", r#"{"n":1}"#, 4),
        put("large", &format!(r#"{{"tag":"{}"}}"#, "x".repeat(40_000)), 4),
        put("m2", r#"{"n":2}"#, 4),
        put("deep", &deep, 4),
        put("type", r#"{"at":"soon"}"#, 4),
        put("member", r#"{"nobody":1}"#, 4),
        put("m3", r#"{"n":3}"#, 4),
    ];
    let writes = writes.into_iter().map(|write| (mixed.clone(), write)).collect();
    let outcomes = subject.engine.apply(writes).await.expect("apply");
    failures.check(
        "good ones among all kinds of bad ones",
        outcomes.iter().map(short).collect::<String>(),
        "dfdfffd".to_owned(),
    );
    failures.check(
        "good ones alone are there",
        contents(subject, &mixed, 10).await.len(),
        3,
    );
    for index in [one, two, mixed] {
        subject.engine.drop_index(&index).await.expect("drop");
    }
}

/// What a field cannot hold refuses its document alone, and is named by field, never by value.
async fn poison(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "poison").await;
    let long = "s3cret".repeat(6000);
    let cases = [
        ("n", r#"{"n":"s3cret"}"#.to_owned()),
        ("n", r#"{"n":[1,{"s3cret":1}]}"#.to_owned()),
        ("n", r#"{"n":9223372036854775808}"#.to_owned()),
        ("i", r#"{"i":2147483648}"#.to_owned()),
        ("i", r#"{"i":1.5}"#.to_owned()),
        ("rating", r#"{"rating":"s3cret"}"#.to_owned()),
        ("price", r#"{"price":"s3cret"}"#.to_owned()),
        ("price", r#"{"price":1e30}"#.to_owned()),
        ("ok", r#"{"ok":"s3cret"}"#.to_owned()),
        ("at", r#"{"at":"s3cret"}"#.to_owned()),
        ("tag", r#"{"tag":{"s3cret":1}}"#.to_owned()),
        ("tag", format!(r#"{{"tag":"{long}"}}"#)),
        ("seller", r#"{"seller":"s3cret"}"#.to_owned()),
        (
            "reviews.stars",
            r#"{"reviews":[{"stars":1},{"stars":"s3cret"}]}"#.to_owned(),
        ),
        ("no field", r#"{"n":1,"s3cret":1}"#.to_owned()),
        ("no field", r#"{"s3cret":null}"#.to_owned()),
        ("no field", r#"{"reviews":[{"stars":1,"s3cret":[]}]}"#.to_owned()),
    ];
    for (at, (field, source)) in (1..).zip(cases) {
        let writes = vec![
            put("before", "{}", at),
            put("bad", &source, at),
            put("after", "{}", at),
        ];
        let writes = writes.into_iter().map(|write| (index.clone(), write)).collect();
        let outcomes = subject.engine.apply(writes).await.expect("apply");
        let shown = source.get(..60).unwrap_or(&source);
        match &outcomes[..] {
            [Applied::Done, Applied::Failed(error), Applied::Done] => {
                let message = format!("{error} {}", error.remedy().unwrap_or_default());
                failures.check(
                    format!("{shown}: fault"),
                    error.fault(),
                    instep_core::Fault::Poison,
                );
                failures.check(
                    format!("{shown}: names {field}: {message}"),
                    message.contains(field),
                    true,
                );
                failures.check(
                    format!("{shown}: hides the value"),
                    message.contains("s3cret"),
                    false,
                );
            }
            outcomes => failures.check(shown, format!("{outcomes:?}"), "done, failed, done".to_owned()),
        }
    }
    let rest = contents(subject, &index, 10).await;
    failures.check("neighbours", rest.len(), 2);
    // A refused write leaves what was there.
    done(subject.engine, &index, vec![put("kept", r#"{"n":1}"#, 100)]).await;
    applied(subject.engine, &index, vec![put("kept", r#"{"n":"x"}"#, 101)]).await;
    let kept = read(subject, &index, "kept").await.map(|stored| stored.source);
    failures.check("kept", kept, Some(r#"{"n":1}"#.into()));
    subject.engine.drop_index(&index).await.expect("drop");
}

/// The keyword beside a text holds texts of up to 256 characters; longer ones are found by their words alone.
async fn long_texts(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "long").await;
    let titled = |id: &str, length: usize| {
        put(
            id,
            &format!(r#"{{"title":"word {}"}}"#, "é".repeat(length - 5)),
            1,
        )
    };
    let writes = vec![titled("fits", 256), titled("long", 257), titled("longer", 20_000)];
    done(subject.engine, &index, writes).await;
    subject.engine.refresh(&index).await.expect("refresh");
    for (query, expected) in [
        (exists("title.keyword"), vec!["fits"]),
        (prefix("title.keyword", "word "), vec!["fits"]),
        (term("title", "word"), vec!["fits", "long", "longer"]),
    ] {
        let case = format!("{query:?}");
        let answer = ask(subject, std::slice::from_ref(&index), querying(query)).await;
        let mut found = answer.map(|answer| ids(&answer)).expect("an answer");
        found.sort();
        failures.check(case, found, expected.into_iter().map(str::to_owned).collect());
    }
    subject.engine.drop_index(&index).await.expect("drop");
}

/// Sources come back byte for byte, readers exactly, ids of every kind.
async fn exact(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "exact").await;
    let readers = [
        Readers::Public,
        Readers::nobody(),
        Readers::only(vec!["*".into(), "=".into(), "é z".into(), "\u{0}".into()]),
    ];
    let sources = [
        r#"{"price":12.50,"n":1,"extra":{"z":1e5,"a":[1.0,null]},"title":"é\u00e9\n\"\\ \ud83d\ude00"}"#,
        r#"{"tag":"b","n":2}"#,
        r"{}",
    ];
    let names = [
        "1",
        "a,b\\,c",
        "é/ü?#%",
        "_id",
        "x y",
        "\u{1F600}",
        &"l".repeat(512),
    ];
    let mut expected = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let document = document(name, readers[at % 3].clone(), sources[at % 3]);
        expected.push((document.clone(), Ticket(at as u64 + 7)));
    }
    let writes = expected
        .iter()
        .map(|(document, ticket)| Write::Put(document.clone(), *ticket));
    done(subject.engine, &index, writes.collect()).await;
    let asked: Vec<_> = names.iter().chain(&["absent"]).map(|name| id(name)).collect();
    let found = subject.engine.read(&index, &asked).await.expect("read");
    for ((document, ticket), found) in expected.iter().zip(&found) {
        let wanted = Stored {
            id: document.id.clone(),
            readers: document.readers.clone(),
            source: document.source.clone(),
            ticket: *ticket,
        };
        failures.check(format!("read {}", document.id), found.as_ref(), Some(&wanted));
    }
    failures.check("read what is absent", found.last(), Some(&None));
    failures.check("walk", contents(subject, &index, 2).await.len(), names.len());
    let request = instep_core::SearchRequest {
        source: SourceFilter::default(),
        ..querying(Query::Ids {
            values: vec!["1".into()],
            boost: 1.0,
        })
    };
    let response = ask(subject, std::slice::from_ref(&index), request)
        .await
        .expect("search");
    let source = response.hits.first().and_then(|hit| hit.source.as_deref());
    failures.check("source in a hit", source, Some(sources[0]));
    subject.engine.drop_index(&index).await.expect("drop");
}

/// The documents of a whole walk, by id.
async fn contents(subject: Subject<'_>, index: &IndexName, n: usize) -> Vec<Stored> {
    let mut found: BTreeMap<String, Stored> = BTreeMap::new();
    let mut cursor = None;
    for _ in 0..10_000 {
        let walked = subject
            .engine
            .walk(index, cursor.as_ref(), n)
            .await
            .expect("walk");
        assert!(
            walked.documents.len() <= n,
            "a walk returns at most what it is asked for"
        );
        found.extend(
            walked
                .documents
                .into_iter()
                .map(|stored| (stored.id.to_string(), stored)),
        );
        match walked.next {
            None => return found.into_values().collect(),
            next => cursor = next,
        }
    }
    panic!("a walk ends");
}

/// Walks of every chunk size see each document; documents that stay are seen while others come, change and go.
async fn walks(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "walks").await;
    let names: Vec<String> = (0..40).map(|at| format!("k{at:02}")).collect();
    for part in names.chunks(7) {
        let writes = part.iter().map(|name| put(name, "{}", 1)).collect();
        done(subject.engine, &index, writes).await;
    }
    for n in [1, 3, 40, 100] {
        let found = contents(subject, &index, n).await;
        let found: Vec<String> = found.into_iter().map(|stored| stored.id.to_string()).collect();
        failures.check(format!("chunks of {n}"), &found, &names);
    }
    let mut seen = BTreeSet::new();
    let mut cursor = None;
    for round in 0..1000 {
        let walked = subject
            .engine
            .walk(&index, cursor.as_ref(), 3)
            .await
            .expect("walk");
        seen.extend(walked.documents.iter().map(|stored| stored.id.to_string()));
        // Every name that ends in 7 comes and goes, those in 3 change, a new one appears before and behind.
        let ticket = round + 2;
        let mut writes = vec![
            put(&format!("a{round}"), "{}", ticket),
            put(&format!("k15-{round}"), "{}", ticket),
        ];
        writes.push(match round % 2 {
            0 => Write::Delete(id("k27"), Ticket(ticket)),
            _ => put("k27", "{}", ticket),
        });
        writes.push(put(&format!("k{}3", round % 4), r#"{"n":1}"#, ticket));
        done(subject.engine, &index, writes).await;
        cursor = walked.next;
        if cursor.is_none() {
            break;
        }
    }
    let lost: Vec<&String> = names
        .iter()
        .filter(|name| *name != "k27" && !seen.contains(*name))
        .collect();
    failures.check("walk under writes: lost", lost, vec![]);
    subject.engine.drop_index(&index).await.expect("drop");
}

/// Calls that overlap: each is answered with its own outcomes, and everything is there.
async fn overlapping(subject: Subject<'_>, failures: &mut Failures) {
    let index = fresh(subject, "overlapping").await;
    let call = |caller: usize| {
        let name = |at: usize| format!("{caller}-{at}");
        let writes = (0..20).map(|at| put(&name(at), r#"{"tag":"x"}"#, 1)).collect();
        applied(subject.engine, &index, writes)
    };
    let (a, b, c, d) = tokio::join!(call(0), call(1), call(2), call(3));
    for outcomes in [a, b, c, d] {
        failures.check("overlapping", outcomes, vec!["done".to_owned(); 20]);
    }
    subject.engine.refresh(&index).await.expect("refresh");
    let request = querying(Query::Term {
        field: "tag".into(),
        value: super::fixture::text("x"),
        boost: 1.0,
    });
    let response = ask(subject, std::slice::from_ref(&index), request)
        .await
        .expect("search");
    failures.check("overlapping: visible", ids(&response).len(), 80);
    // Two calls for one document at once: the higher ticket wins, whichever comes first.
    for (first, second) in [(10, 11), (11, 10)] {
        let name = format!("both-{first}");
        let write = |ticket| {
            applied(
                subject.engine,
                &index,
                vec![put(&name, &format!(r#"{{"n":{ticket}}}"#), ticket)],
            )
        };
        tokio::join!(write(first), write(second));
        let found = read(subject, &index, &name).await.map(|stored| stored.ticket.0);
        failures.check(
            format!("overlapping tickets {first} and {second}"),
            found,
            Some(11),
        );
    }
    subject.engine.drop_index(&index).await.expect("drop");
}
