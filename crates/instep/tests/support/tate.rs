//! The Tate Collection's metadata as a SQLite database, from the CSV files that `INSTEP_DATA` points to.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::Value;

/// Every table as its data's description defines it, and an index on each foreign key that leads a join.
pub const SCHEMA: &str = "
    create table movement        (id integer primary key, name text, era text);
    create table artist          (id integer primary key, name text not null, sort_name text, gender text, birth_year integer, death_year integer, birth_place text, url text);
    create table artist_movement (artist_id integer references artist, movement_id integer references movement, primary key (artist_id, movement_id));
    create table subject         (id integer primary key, parent_id integer references subject, name text not null);
    create table catalogue_group (id integer primary key, title text, type text);
    create table artwork         (id integer primary key, acno text unique, title text, foreign_title text, medium text, classification text, inscription text, credit_line text,
                                  group_title text, date_text text, start_year integer, end_year integer, acquisition_year integer, width integer, height integer,
                                  group_id integer references catalogue_group, url text, thumbnail_url text);
    create table artwork_artist  (artwork_id integer references artwork, artist_id integer references artist, role text, ord integer, primary key (artwork_id, artist_id, role));
    create table artwork_subject (artwork_id integer references artwork, subject_id integer references subject, primary key (artwork_id, subject_id));
    create index artist_movement_movement on artist_movement (movement_id);
    create index artwork_group            on artwork (group_id);
    create index artwork_artist_artist    on artwork_artist (artist_id);
    create index artwork_subject_subject  on artwork_subject (subject_id);
";

pub const TABLES: [&str; 8] = [
    "movement",
    "artist",
    "artist_movement",
    "subject",
    "catalogue_group",
    "artwork",
    "artwork_artist",
    "artwork_subject",
];

/// The configuration of its documents: artwork, its artists with their movements, its subjects, its catalogue group.
pub const COLLECTION: &str = r#"
[collection.artwork]
source   = "tate"
root     = "artwork"
language = "en"
public   = true

[collection.artwork.fields]
acno             = "keyword"
title            = "text"
foreign_title    = "text"
medium           = "text"
classification   = "keyword"
inscription      = "text"
credit_line      = "text"
date_text        = "keyword"
start_year       = "integer"
end_year         = "integer"
acquisition_year = "integer"
width            = "integer"
height           = "integer"
artists             = { table = "artist", through = "artwork_artist", many = true, order = "ord", fields = ["name", "birth_year", "death_year"] }
"artists.movements" = { table = "movement", through = "artist_movement", many = true, values = "name" }
subjects            = { table = "subject", through = "artwork_subject", many = true, values = "name" }
group               = { table = "catalogue_group", fields = ["title", "type"] }
"#;

/// How many artworks there are.
pub const ARTWORKS: u64 = 69_202;

/// The folder of the CSV files; `None`, and a loud line, where they are not.
pub fn folder(wanted_by: &str) -> Option<PathBuf> {
    #[allow(
        clippy::disallowed_methods,
        reason = "tests learn from the environment where real data lies"
    )]
    let data = std::env::var_os("INSTEP_DATA").map(PathBuf::from);
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = data.unwrap_or_else(beside).join("tate");
    if folder.is_dir() {
        return Some(folder);
    }
    use std::io::Write;
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED {wanted_by}: the Tate data is not at {}",
        folder.display()
    );
    None
}

/// Writes the database. WAL, as `check` recommends.
pub fn load(folder: &Path, database: &Path) -> Connection {
    let mut connection = Connection::open(database).expect("the database opens");
    connection
        .pragma_update(None, "journal_mode", "wal")
        .expect("WAL");
    // Rows of the tree of subjects come before their parents.
    connection
        .pragma_update(None, "foreign_keys", false)
        .expect("a pragma");
    connection.execute_batch(SCHEMA).expect("the schema is valid");
    let transaction = connection.transaction().expect("a transaction");
    for table in TABLES {
        let file = std::fs::File::open(folder.join(format!("{table}.csv.gz"))).expect("the table's file");
        let mut reader = csv::Reader::from_reader(flate2::read::GzDecoder::new(file));
        let columns: Vec<String> = reader
            .headers()
            .expect("a header")
            .iter()
            .map(str::to_owned)
            .collect();
        let places = vec!["?"; columns.len()].join(",");
        let mut insert = transaction
            .prepare(&format!(
                "insert into {table} ({}) values ({places})",
                columns.join(",")
            ))
            .expect("the columns exist");
        for record in reader.records() {
            let record = record.expect("a record");
            let values = record.iter().map(|field| {
                if field.is_empty() {
                    Value::Null
                } else {
                    Value::Text(field.to_owned())
                }
            });
            insert
                .execute(rusqlite::params_from_iter(values))
                .expect("the row fits");
        }
    }
    transaction.commit().expect("the commit");
    connection
}
