//! How long a document takes, apart from the source. Prints; run it with `--ignored --nocapture`, and optimised.

use std::time::{Duration, Instant};

use instep_core::{Builder, Field, FieldType};

use super::definition::{Definition, assembler, column, database, id, object, objects, row, table, values};
use super::now;

/// Like an artwork of a gallery: twelve columns, artists with their movements, names of subjects, a group.
#[test]
#[ignore = "prints a measure"]
fn microseconds_per_document() {
    const ARTWORKS: i64 = 20_000;
    let texts = [
        "title",
        "medium",
        "credit",
        "inscription",
        "terms",
        "url",
        "acno",
        "dims",
    ];
    let mut columns: Vec<String> = ["id", "year", "width", "height", "grp"]
        .map(str::to_owned)
        .to_vec();
    columns.extend(texts.iter().map(|name| format!("{name}:text")));
    let columns: Vec<&str> = columns.iter().map(|name| &**name).collect();
    let tables = [
        table("artwork", 1, &columns),
        table("artist", 1, &["id", "name:text", "born", "movement"]),
        table("movement", 1, &["id", "name:text"]),
        table("artwork_artist", 2, &["artwork", "artist", "place"]),
        table("subject", 1, &["id", "name:text"]),
        table("artwork_subject", 2, &["artwork", "subject"]),
        table("grp", 1, &["id", "name:text"]),
    ];
    let mut rows = Vec::new();
    for at in 0..ARTWORKS {
        let mut artwork = row![at, 1900 + at % 100, at % 700, at % 900, at % 3_000];
        artwork.extend(
            texts
                .iter()
                .map(|name| instep_core::Value::text(&format!("{name} of the artwork number {at}"))),
        );
        rows.push(("artwork", artwork));
        rows.push(("artwork_artist", row![at, at % 3_500, 1]));
        rows.extend((0..5).map(|n| ("artwork_subject", row![at, (at * 7 + n * 131) % 9_000])));
    }
    rows.extend((0..3_500).map(|at| ("artist", row![at, &*format!("Artist {at}"), 1850, at % 120])));
    rows.extend((0..120).map(|at| ("movement", row![at, &*format!("Movement {at}")])));
    rows.extend((0..9_000).map(|at| ("subject", row![at, &*format!("subject {at}")])));
    rows.extend((0..3_000).map(|at| ("grp", row![at, &*format!("group {at}")])));
    let memory = database(&tables, &rows);

    let mut tree = Definition::new(&tables, "artwork");
    let link = tree.many(0, "artwork_artist", &[("id", "artwork")]);
    tree.order(link, &["place"]);
    let artist = tree.one(link, "artist", &[("artist", "id")]);
    let movement = tree.one(artist, "movement", &[("movement", "id")]);
    let link = tree.many(0, "artwork_subject", &[("id", "artwork")]);
    let subject = tree.one(link, "subject", &[("subject", "id")]);
    let group = tree.one(0, "grp", &[("grp", "id")]);
    let text = |name: &str| {
        column(
            name,
            FieldType::Text {
                analyzer: "english".to_owned(),
                keyword: false,
            },
        )
    };
    let mut fields: Vec<Field> = texts.iter().map(|name| text(name)).collect();
    fields.extend(["id", "year", "width", "height"].map(|name| column(name, FieldType::Long)));
    let below = object("movement", movement, vec![column("name", FieldType::Keyword)]);
    fields.push(objects(
        "artists",
        artist,
        vec![
            column("name", FieldType::Keyword),
            column("born", FieldType::Long),
            below,
        ],
    ));
    fields.push(values("subjects", subject, "name"));
    fields.push(object("group", group, vec![column("name", FieldType::Keyword)]));
    let assembler = assembler(&memory, vec![tree.fields(fields)]);

    let ids: Vec<_> = (0..ARTWORKS).map(|at| id(row![at])).collect();
    for batch in [50, 500, 2_000] {
        let best = (0..5).map(|_| {
            *memory.fetches.lock().unwrap() = Default::default();
            let start = Instant::now();
            let bytes: usize = ids
                .chunks(batch)
                .flat_map(|ids| now(assembler.build(&"doc".into(), ids)).unwrap())
                .map(|built| match built {
                    instep_core::Built::Document(document, _) => document.source.len(),
                    other => panic!("{other:?}"),
                })
                .sum();
            let all = start.elapsed();
            (all - memory.fetches.lock().unwrap().1, all, bytes)
        });
        let (own, all, bytes) = best.min().unwrap();
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / ARTWORKS as f64;
        println!(
            "batches of {batch}: {:.2} µs per document without the source, {:.2} µs with it, {} bytes",
            micros(own),
            micros(all),
            bytes / ARTWORKS as usize
        );
    }
}
