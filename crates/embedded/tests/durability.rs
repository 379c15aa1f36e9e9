//! What survives the end of the process, however it ends, and what another process meets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use instep_core::{
    Applied, DocId, Document, Engine, FieldType, IndexName, Mapping, Readers, Settings, Ticket, Write,
};
use instep_embedded::{Embedded, Options};

/// Marks a directory that was made for a writing child.
const MARK: &str = "a-child-may-write-here";

fn mapping() -> Mapping {
    let fields = [
        ("n", FieldType::Long),
        (
            "title",
            FieldType::Text {
                analyzer: "english".into(),
                keyword: true,
            },
        ),
    ];
    let fields = fields
        .into_iter()
        .map(|(path, kind)| (path.to_owned(), kind))
        .collect();
    Mapping {
        fields,
        language: "en".into(),
    }
}

fn id(text: &str) -> DocId {
    DocId::parse(text).expect("a short id")
}

fn put(name: &str, n: u64, ticket: u64) -> Write {
    let source = format!(r#"{{"n":{n},"title":"Running foxes number {n}"}}"#);
    let document = Document {
        id: id(name),
        language: "en".into(),
        readers: Readers::Public,
        source: source.into(),
    };
    Write::Put(document, Ticket(ticket))
}

fn open(directory: &Path) -> Embedded {
    Embedded::open(directory.join("indexes"), Options::default()).expect("the engine opens")
}

/// Writes until it is killed: round r puts `last` = r, and documents of its own into two indexes, in overlapping
/// calls; a round that is done is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of `killed_at_any_moment`: it runs until it is killed"]
async fn child() {
    if !Path::new(MARK).exists() {
        return;
    }
    let engine = open(Path::new("."));
    let indexes = [IndexName::from("one"), IndexName::from("two")];
    for index in &indexes {
        engine
            .ensure(index, &mapping(), &Settings::new())
            .await
            .expect("ensure");
    }
    let walked = engine.read(&indexes[0], &[id("last")]).await.expect("read");
    let start = walked[0].as_ref().map_or(0, |stored| stored.ticket.0);
    // The last round may be there in part: it is written once more.
    for round in start.max(1).. {
        let size = [1, 3, 200][round as usize % 3];
        let calls = (0..2).map(|part| {
            let own = |at: u64| put(&format!("{round}-{part}-{at}"), round, round);
            let mut writes: Vec<_> = (0..size)
                .map(|at| (indexes[(at + part) as usize % 2].clone(), own(at)))
                .collect();
            if part == 0 {
                writes.push((indexes[0].clone(), put("last", round, round)));
                writes.push((
                    indexes[1].clone(),
                    Write::Delete(id(&format!("{}-1-0", round - 1)), Ticket(round)),
                ));
            }
            engine.apply(writes)
        });
        let [first, second] = <[_; 2]>::try_from(calls.collect::<Vec<_>>())
            .ok()
            .expect("two calls");
        let (first, second) = tokio::join!(first, second);
        for outcome in first.expect("apply").iter().chain(&second.expect("apply")) {
            assert!(matches!(outcome, Applied::Done), "{outcome:?}");
        }
        let mut out = std::io::stdout();
        writeln!(out, "done {round}")
            .and_then(|()| out.flush())
            .expect("the parent listens");
    }
}

/// Kills the child at another moment each time; what it had reported is there, its locks are gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join(MARK), "").expect("the mark");
    let mut known = 0;
    for kill in 0_u64..10 {
        let mut process = Command::new(std::env::current_exe().expect("this test's binary"))
            .args(["durability::child", "--exact", "--ignored", "--nocapture"])
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(process.stdout.take().expect("its output"));
        // As many as a child can report in the time it has; a full channel would only hold the child up.
        let (sender, receiver) = sync_channel::<u64>(100_000);
        let listener = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let done = line
                    .rsplit("done ")
                    .next()
                    .and_then(|round| round.trim().parse().ok());
                done.into_iter()
                    .for_each(|round| sender.send(round).expect("the test listens"));
            }
        });
        let first = receiver
            .recv_timeout(Duration::from_secs(60))
            .expect("the child writes");
        known = known.max(first);
        let end = Instant::now() + Duration::from_millis(3 + kill * kill * 7);
        while let Ok(round) = receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            known = known.max(round);
        }
        process.kill().expect("the child is killed");
        process.wait().expect("the child ends");
        listener.join().expect("the listener ends");
        receiver.try_iter().for_each(|round| known = known.max(round));
        check(directory.path(), known).await;
    }
}

/// Everything up to a round is there, exactly once, and the engine takes writes.
async fn check(directory: &Path, known: u64) {
    let engine = open(directory);
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for index in ["one", "two"] {
        let mut cursor = None;
        loop {
            let walked = engine
                .walk(&index.into(), cursor.as_ref(), 1000)
                .await
                .expect("walk");
            for stored in walked.documents {
                let source: serde_json::Value = serde_json::from_str(&stored.source).expect("JSON");
                assert_eq!(source["n"].as_u64(), Some(stored.ticket.0), "{}", stored.id);
                let twice = found.insert(stored.id.to_string(), stored.ticket.0);
                assert_eq!(twice, None, "{} is there twice", stored.id);
            }
            cursor = walked.next;
            if cursor.is_none() {
                break;
            }
        }
    }
    assert!(
        found.get("last").is_some_and(|last| *last >= known),
        "round {known} was reported and is lost"
    );
    for round in 1..=known {
        let size = [1, 3, 200][round as usize % 3];
        for (part, at) in (0..2).flat_map(|part| (0..size).map(move |at| (part, at))) {
            let deleted = part == 1 && at == 0;
            let name = format!("{round}-{part}-{at}");
            // The deletion is in the index that the document of part 1 lies in.
            if deleted && round < known {
                assert!(!found.contains_key(&name), "{name} was deleted and is back");
            } else if !deleted {
                assert!(found.contains_key(&name), "{name} was reported and is lost");
            }
        }
    }
    for index in ["one", "two"] {
        let outcomes = engine
            .apply(vec![(index.into(), put("probe", 1, 1))])
            .await
            .expect("apply");
        assert!(matches!(outcomes[..], [Applied::Done]));
        engine
            .apply(vec![(index.into(), Write::Delete(id("probe"), Ticket(2)))])
            .await
            .expect("apply");
    }
}

#[tokio::test]
async fn one_process_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = open(directory.path());
    let error = Embedded::open(directory.path().join("indexes"), Options::default()).expect_err("it is open");
    assert_eq!(error.code(), "index_locked");
    drop(engine);
    open(directory.path());
}

/// An index with new fields takes the former one's place as a whole, whenever the process ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_replaced_whole_or_not_at_all() {
    let directory = tempfile::tempdir().expect("a directory");
    let index = IndexName::from("one");
    let engine = open(directory.path());
    engine
        .ensure(&index, &mapping(), &Settings::new())
        .await
        .expect("ensure");
    engine
        .apply(vec![(index.clone(), put("a", 1, 1))])
        .await
        .expect("apply");
    drop(engine);
    let path = |name: &str| directory.path().join("indexes").join(name);
    let holds = async |what: &str| {
        let engine = open(directory.path());
        assert_eq!(
            engine.indexes().await.expect("indexes"),
            std::slice::from_ref(&index),
            "{what}"
        );
        let walked = engine.walk(&index, None, 10).await.expect("walk");
        assert_eq!(walked.documents.len(), 1, "{what}");
    };
    // Not complete yet: it goes.
    std::fs::create_dir(path("one.next")).expect("a directory");
    std::fs::write(path("one.next").join("instep.json"), "{}").expect("a file");
    holds("an unfinished replacement").await;
    assert!(!path("one.next").exists());
    // Complete, and the former one is there, or half removed, or gone.
    for half in [false, true] {
        copy(&path("one"), &path("one.next"));
        std::fs::write(path("one.next").join("complete"), "").expect("a file");
        if half {
            std::fs::rename(path("one"), path("one.unfinished")).expect("a rename");
        }
        holds("a finished replacement").await;
        assert!(!path("one.next").exists() && !path("one.unfinished").exists());
    }
}

/// A process that dies after it wrote which documents are gone, and before the commit, leaves files that the next commit would
/// write again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_a_commit_that_never_was_are_in_nobodys_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let index = IndexName::from("one");
    let engine = open(directory.path());
    engine
        .ensure(&index, &mapping(), &Settings::new())
        .await
        .expect("ensure");
    let writes = (0..10).map(|at| (index.clone(), put(&format!("d{at}"), at, 1)));
    engine.apply(writes.collect()).await.expect("apply");
    drop(engine);
    let folder = directory.path().join("indexes/one");
    let names = std::fs::read_dir(&folder)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name());
    let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let segment = names
        .iter()
        .find_map(|name| name.strip_suffix(".store"))
        .expect("a segment");
    let known = folder.join(".managed.json");
    let text = std::fs::read_to_string(&known).expect("the list of files");
    let mut managed: Vec<String> = serde_json::from_str(&text).expect("a list");
    for operation in 0..100 {
        let name = format!("{segment}.{operation}.del");
        std::fs::write(folder.join(&name), "left over").expect("a file");
        managed.push(name);
    }
    std::fs::write(&known, serde_json::to_string(&managed).expect("a list")).expect("the list of files");
    let engine = open(directory.path());
    let delete = Write::Delete(id("d3"), Ticket(2));
    let applied = engine.apply(vec![(index.clone(), delete)]).await.expect("apply");
    assert!(matches!(applied[..], [Applied::Done]), "{applied:?}");
    let walked = engine.walk(&index, None, 20).await.expect("a walk");
    assert_eq!(walked.documents.len(), 9);
    let left = std::fs::read_dir(&folder).expect("a directory").count();
    assert!(left < 40, "{left} files");
}

/// While an index gets new fields it is searched as it was, and other indexes are opened.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_searched_while_it_gets_fields() {
    let directory = tempfile::tempdir().expect("a directory");
    let (index, other) = (IndexName::from("one"), IndexName::from("two"));
    let engine = open(directory.path());
    for name in [&index, &other] {
        engine
            .ensure(name, &mapping(), &Settings::new())
            .await
            .expect("ensure");
    }
    let writes = (0..20_000).map(|at| (index.clone(), put(&format!("d{at}"), at, 1)));
    engine.apply(writes.collect()).await.expect("apply");
    drop(engine);
    let engine = open(directory.path());
    let mut more = mapping();
    more.fields.insert("new".into(), FieldType::Long);
    let widening = {
        let (engine, index) = (engine.clone(), index.clone());
        tokio::spawn(async move { engine.ensure(&index, &more, &Settings::new()).await })
    };
    let mut meanwhile = 0;
    while !widening.is_finished() {
        for (name, documents) in [(&index, 1), (&other, 0)] {
            let walked = engine.walk(name, None, 1).await.expect("a walk");
            assert_eq!(walked.documents.len(), documents);
        }
        meanwhile += usize::from(!widening.is_finished());
    }
    let ensured = widening.await.expect("it ends").expect("ensure");
    assert_eq!(ensured, instep_core::Ensured::Extended);
    assert!(meanwhile > 3, "{meanwhile} looks");
    let mut found = 0;
    let mut after = None;
    loop {
        let walked = engine.walk(&index, after.as_ref(), 5_000).await.expect("a walk");
        found += walked.documents.len();
        after = walked.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, 20_000);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
    }
}

/// More indexes than writers: all of them make progress, and everything is there after a reopen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_indexes_share_few_writers() {
    let directory = tempfile::tempdir().expect("a directory");
    let names: Vec<IndexName> = (0..7).map(|at| IndexName::from(format!("index-{at}"))).collect();
    for memory in [1, 40_000_000] {
        let options = Options {
            writer_memory_bytes: memory,
            ..Options::default()
        };
        let engine = Embedded::open(directory.path(), options).expect("the engine opens");
        for name in &names {
            engine
                .ensure(name, &mapping(), &Settings::new())
                .await
                .expect("ensure");
        }
        let tasks: Vec<_> = (0..21_u64)
            .map(|task| {
                let (engine, name) = (engine.clone(), names[task as usize % 7].clone());
                tokio::spawn(async move {
                    for round in 0..4 {
                        let write = put(&format!("{task}-{round}"), round, 1);
                        let outcomes = engine.apply(vec![(name.clone(), write)]).await.expect("apply");
                        assert!(matches!(outcomes[..], [Applied::Done]));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a task ends well");
        }
        for name in &names {
            let walked = engine.walk(name, None, 100).await.expect("walk");
            assert_eq!(walked.documents.len(), 12, "{name}");
        }
    }
}

#[tokio::test]
async fn names_stay_inside_the_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = open(directory.path());
    for name in [
        "",
        "..",
        "../x",
        "a/b",
        "/tmp/x",
        "a.unfinished",
        "Ä",
        "-a",
        "_a",
        "a\0",
        &"x".repeat(201),
    ] {
        let ensured = engine.ensure(&name.into(), &mapping(), &Settings::new()).await;
        assert_eq!(ensured.expect_err(name).code(), "bad_index_name");
        assert_eq!(
            engine.drop_index(&name.into()).await.expect_err(name).code(),
            "bad_index_name"
        );
        let error = engine.walk(&name.into(), None, 1).await.expect_err(name);
        assert_eq!(error.code(), "index_not_found_exception");
    }
    assert_eq!(engine.indexes().await.expect("indexes"), Vec::<IndexName>::new());
}

#[tokio::test]
async fn damage_is_named_with_its_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let index = IndexName::from("damaged");
    let engine = open(directory.path());
    engine
        .ensure(&index, &mapping(), &Settings::new())
        .await
        .expect("ensure");
    engine
        .apply(vec![(index.clone(), put("1", 1, 1))])
        .await
        .expect("apply");
    drop(engine);
    let path = directory.path().join("indexes/damaged");
    for file in ["meta.json", "instep.json"] {
        let whole = std::fs::read(path.join(file)).expect("the file is there");
        std::fs::write(path.join(file), "{").expect("damage");
        let engine = open(directory.path());
        let error = engine.walk(&index, None, 1).await.expect_err(file);
        assert_eq!(error.fault(), instep_core::Fault::Fatal, "{file}: {error}");
        assert!(
            error.remedy().is_some_and(|remedy| remedy.contains("scan")),
            "{file}: {error}"
        );
        drop(engine);
        std::fs::write(path.join(file), whole).expect("repair");
    }
    let engine = open(directory.path());
    assert_eq!(
        engine.walk(&index, None, 10).await.expect("walk").documents.len(),
        1
    );
}

/// Verifying beside a running server looked twice at what it had read before a commit, and reported documents missing.
#[tokio::test]
async fn whoever_looks_beside_the_owner_sees_every_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let owner = open(directory.path());
    let beside = Embedded::open_beside(directory.path().join("indexes"), Options::default());
    let index = IndexName::from("one");
    owner
        .ensure(&index, &mapping(), &Settings::new())
        .await
        .expect("ensure");
    for round in 1..20 {
        let name = round.to_string();
        let wanted = [id(&name)];
        let before = beside.read(&index, &wanted).await.expect("read");
        assert!(before[0].is_none(), "{round} is not there yet");
        let done = owner.apply(vec![(index.clone(), put(&name, round, round))]).await;
        assert!(matches!(done.expect("apply")[..], [Applied::Done]));
        let after = beside.read(&index, &wanted).await.expect("read");
        assert!(after[0].is_some(), "{round} is durable");
        let walked = beside.walk(&index, None, 100).await.expect("walk");
        assert_eq!(walked.documents.len() as u64, round);
    }
}
