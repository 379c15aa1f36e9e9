//! Writes the demo's database: a marketplace of used cars.
//!
//! The same seed and number of cars give the same file, byte for byte: one connection, one transaction, a fixed page size
//! and order, and no clock. What stands beside `write` are the statements that [`super::live`] uses as well.

use rusqlite::{Connection, params};

use super::catalogue::{MAKES, TAGS};
use super::dice::Dice;
use super::draw;
use super::facts::{Audience, Car, Model, Offer, Seller, SellerKind};
use super::prose;

/// How many rows the database has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) manufacturers: u32,
    pub(crate) models: u32,
    pub(crate) cars: u32,
    pub(crate) sellers: u32,
    pub(crate) ads: u32,
    /// Ads that are not sold, which are the ones that are indexed.
    pub(crate) open_ads: u32,
    pub(crate) tags: u32,
    pub(crate) ad_tags: u32,
}

/// Fills the empty database behind `connection` and leaves it in WAL mode.
///
/// After an error, and after the process was killed, the file has no tables, or all of them with all their rows. A
/// database that has tables of these names already is refused by SQLite.
pub(crate) fn write(connection: &mut Connection, cars: u32, seed: u64) -> rusqlite::Result<Counts> {
    // No fsync for each step of a file that can be written again: the switch to WAL, below, is the first one.
    connection.execute_batch(
        "PRAGMA page_size = 4096; PRAGMA auto_vacuum = NONE; PRAGMA encoding = 'UTF-8'; PRAGMA foreign_keys = ON;
         PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF; PRAGMA cache_size = -65536;",
    )?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(include_str!("schema.sql"))?;
    let counts = fill(&transaction, cars, seed)?;
    transaction.execute_batch(include_str!("indexes.sql"))?;
    transaction.commit()?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA journal_mode = WAL; PRAGMA cache_size = -2000; PRAGMA shrink_memory;",
    )?;
    Ok(counts)
}

fn fill(connection: &Connection, cars: u32, seed: u64) -> rusqlite::Result<Counts> {
    let mut dice = Dice::new(seed);
    let mut counts = Counts {
        cars,
        ads: cars,
        ..Counts::default()
    };
    let models = write_models(connection, &mut dice, &mut counts)?;
    let sellers = write_sellers(connection, &mut dice, cars / 8 + 2)?;
    counts.sellers = cars / 8 + 2;
    for (id, name) in (1_i64..).zip(TAGS) {
        connection
            .prepare_cached("INSERT INTO tag (id, name) VALUES (?, ?)")?
            .execute(params![id, name])?;
        counts.tags += 1;
    }

    connection.execute(
        "INSERT INTO block SELECT id, id, 'dealer' FROM seller WHERE id % 50 = 7",
        [],
    )?;

    let mut garage = Vec::with_capacity(cars as usize);
    for id in 1..=i64::from(cars) {
        let (model_id, make, model) = dice.pick(&models);
        let car = draw::car(&mut dice, model);
        insert_car(connection, Some(id), *model_id, &car)?;
        garage.push((id, *make, model, car));
    }
    // Cars come on the market in another order than they are numbered, so that no ad has the number of its car.
    dice.shuffle(&mut garage);
    for (id, (car_id, make, model, car)) in (1_i64..).zip(&garage) {
        let (seller_id, seller) = sellers.pick(&mut dice);
        let audience = draw::audience(&mut dice, seller.kind);
        let offer = Offer {
            make,
            model,
            car,
            seller,
            audience,
        };
        let sold = dice.percent(3);
        counts.open_ads += u32::from(!sold);
        let state = if sold { "sold" } else { "open" };
        let published = published(&mut dice, id, cars);
        insert_ad(
            connection,
            &mut dice,
            Some(id),
            *car_id,
            *seller_id,
            state,
            &published,
            &offer,
        )?;
        counts.ad_tags += insert_ad_tags(connection, &mut dice, id)?;
    }
    Ok(counts)
}

/// The models with their ids and the names of their manufacturers.
fn write_models(
    connection: &Connection,
    dice: &mut Dice,
    counts: &mut Counts,
) -> rusqlite::Result<Vec<(i64, &'static str, Model)>> {
    let mut insert_make =
        connection.prepare("INSERT INTO manufacturer (id, name, country, founded) VALUES (?, ?, ?, ?)")?;
    let mut insert_model = connection
        .prepare("INSERT INTO model (id, manufacturer_id, name, body, seats) VALUES (?, ?, ?, ?, ?)")?;
    let mut models = Vec::new();
    for (make_id, make) in (1_i64..).zip(&MAKES) {
        insert_make.execute(params![make_id, make.name, make.country, make.founded])?;
        counts.manufacturers += 1;
        for model in draw::models(dice) {
            counts.models += 1;
            let id = i64::from(counts.models);
            insert_model.execute(params![id, make_id, model.name, model.body, model.seats])?;
            models.push((id, make.name, model));
        }
    }
    Ok(models)
}

struct Sellers {
    private: Vec<(i64, Seller)>,
    dealers: Vec<(i64, Seller)>,
}

impl Sellers {
    /// Who sells the next car: a dealer as often as not, although private sellers are many more.
    fn pick(&self, dice: &mut Dice) -> &(i64, Seller) {
        let from_dealer = dice.percent(50);
        let (wanted, others) = if from_dealer {
            (&self.dealers, &self.private)
        } else {
            (&self.private, &self.dealers)
        };
        dice.pick(if wanted.is_empty() { others } else { wanted })
    }
}

fn write_sellers(connection: &Connection, dice: &mut Dice, count: u32) -> rusqlite::Result<Sellers> {
    let mut insert =
        connection.prepare("INSERT INTO seller (id, name, city, country, kind) VALUES (?, ?, ?, ?, ?)")?;
    let mut sellers = Sellers {
        private: Vec::new(),
        dealers: Vec::new(),
    };
    for id in 1..=i64::from(count) {
        let seller = draw::seller(dice);
        insert.execute(params![id, seller.name, seller.city, seller.country, seller.kind])?;
        match seller.kind {
            SellerKind::Private => sellers.private.push((id, seller)),
            SellerKind::Dealer => sellers.dealers.push((id, seller)),
        }
    }
    Ok(sellers)
}

/// Inserts a car, numbered by the database where `id` is `None`, and returns its id.
pub(crate) fn insert_car(
    connection: &Connection,
    id: Option<i64>,
    model_id: i64,
    car: &Car,
) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "INSERT INTO car (id, model_id, year, km, fuel, gearbox, colour, power_kw) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .insert(params![id, model_id, car.year, car.km, car.fuel, car.gearbox, car.colour, car.power_kw])
}

/// Writes the ad of `offer`, with its prose and price, and returns its id.
#[expect(
    clippy::too_many_arguments,
    reason = "one for each column that the offer does not bring"
)]
pub(crate) fn insert_ad(
    connection: &Connection,
    dice: &mut Dice,
    id: Option<i64>,
    car_id: i64,
    seller_id: i64,
    state: &str,
    published: &str,
    offer: &Offer<'_>,
) -> rusqlite::Result<i64> {
    let price = draw::price(dice, offer);
    let text = prose::advertise(dice, offer);
    let readers = Audience::readers(offer.audience, seller_id);
    connection
        .prepare_cached(
            "INSERT INTO ad (id, car_id, seller_id, state, lang, title, body, price, published, readers)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .insert(params![
            id,
            car_id,
            seller_id,
            state,
            offer.language(),
            text.title,
            text.body,
            price,
            published,
            readers
        ])
}

/// Gives the ad 0 to 6 different tags and returns how many.
pub(crate) fn insert_ad_tags(connection: &Connection, dice: &mut Dice, ad_id: i64) -> rusqlite::Result<u32> {
    let mut ids: [u8; TAGS.len()] = std::array::from_fn(|index| index as u8 + 1);
    dice.shuffle(&mut ids);
    let count = dice.between(0, 6);
    let mut insert = connection.prepare_cached("INSERT INTO ad_tag (ad_id, tag_id) VALUES (?, ?)")?;
    for tag_id in &ids[..count as usize] {
        insert.execute(params![ad_id, tag_id])?;
    }
    Ok(count)
}

/// When ad `id` of `ads` was published: the ads are spread over the first ten months of the year, in their order.
fn published(dice: &mut Dice, id: i64, ads: u32) -> String {
    const TEN_MONTHS: u32 = 304 * 86_400;
    let earlier = u64::try_from(id - 1).expect("ids count from 1");
    let start_of_slot = earlier * u64::from(TEN_MONTHS) / u64::from(ads);
    moment(start_of_slot + u64::from(dice.below(TEN_MONTHS / ads)))
}

/// `seconds` after the start of [`draw::THIS_YEAR`], which is no leap year.
fn moment(seconds: u64) -> String {
    let mut day = seconds / 86_400;
    let mut month = 1;
    for length in [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!(
        "{}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
        draw::THIS_YEAR,
        day + 1
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn generate(path: &Path, cars: u32, seed: u64) -> (Vec<u8>, Counts) {
        let mut connection = Connection::open(path).unwrap();
        let counts = write(&mut connection, cars, seed).unwrap();
        connection.close().unwrap();
        (std::fs::read(path).unwrap(), counts)
    }

    fn market(cars: u32) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        write(&mut connection, cars, 1).unwrap();
        connection
    }

    fn number(connection: &Connection, sql: &str) -> u32 {
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        let folder = tempfile::tempdir().unwrap();
        let (first, counts) = generate(&folder.path().join("a.sqlite"), 3_000, 42);
        let (second, again) = generate(&folder.path().join("b.sqlite"), 3_000, 42);
        let (other, _) = generate(&folder.path().join("c.sqlite"), 3_000, 43);
        assert!(first == second, "two files of one seed differ");
        assert_eq!(counts, again);
        assert!(first != other, "two seeds give one file");
        // Bytes 18 and 19 of the header say WAL, and nothing is left to be replayed.
        assert_eq!(first[18..20], [2, 2]);
        assert!(!folder.path().join("a.sqlite-wal").exists());
    }

    #[test]
    fn the_counts_are_those_of_the_tables() {
        let mut connection = Connection::open_in_memory().unwrap();
        let counts = write(&mut connection, 800, 5).unwrap();
        for (count, sql) in [
            (counts.manufacturers, "SELECT count(*) FROM manufacturer"),
            (counts.models, "SELECT count(*) FROM model"),
            (counts.cars, "SELECT count(*) FROM car"),
            (counts.sellers, "SELECT count(*) FROM seller"),
            (counts.ads, "SELECT count(*) FROM ad"),
            (counts.open_ads, "SELECT count(*) FROM ad WHERE state = 'open'"),
            (counts.tags, "SELECT count(*) FROM tag"),
            (counts.ad_tags, "SELECT count(*) FROM ad_tag"),
        ] {
            assert_eq!(count, number(&connection, sql), "{sql}");
            assert!(count > 0, "{sql}");
        }
        assert_eq!(counts.cars, 800);
        assert!(counts.open_ads < counts.ads);
    }

    #[test]
    fn a_market_without_cars_has_no_ads() {
        let mut connection = Connection::open_in_memory().unwrap();
        let counts = write(&mut connection, 0, 5).unwrap();
        assert_eq!((counts.cars, counts.ads, counts.ad_tags), (0, 0, 0));
        assert_eq!(counts.manufacturers, 40);
        for cars in 1..20 {
            let mut connection = Connection::open_in_memory().unwrap();
            assert_eq!(write(&mut connection, cars, u64::from(cars)).unwrap().ads, cars);
        }
    }

    #[test]
    fn a_second_market_in_one_file_is_refused_and_changes_nothing() {
        let mut connection = market(10);
        assert!(write(&mut connection, 20, 1).is_err());
        assert_eq!(number(&connection, "SELECT count(*) FROM car"), 10);
    }

    #[test]
    fn the_rows_hold_together() {
        let connection = market(4_000);
        for nothing in [
            "SELECT count(*) FROM pragma_foreign_key_check",
            "SELECT count(*) FROM ad JOIN car ON car.id = ad.car_id WHERE car.fuel = 'electric' AND car.year < 2013",
            "SELECT count(*) FROM car WHERE fuel = 'electric' AND gearbox = 'manual'",
            "SELECT count(*) FROM ad JOIN seller ON seller.id = ad.seller_id
             WHERE ad.lang <> CASE seller.country WHEN 'SE' THEN 'sv' WHEN 'FI' THEN 'sv' WHEN 'DE' THEN 'de'
                              WHEN 'AT' THEN 'de' ELSE 'en' END",
            "SELECT count(*) FROM ad JOIN seller ON seller.id = ad.seller_id
             WHERE seller.kind = 'private' AND ad.readers LIKE '%dealers%'",
            "SELECT count(*) FROM ad WHERE price NOT GLOB '[1-9]*.[0-9][0-9]' OR CAST(price AS REAL) < 500",
            "SELECT count(*) FROM ad WHERE published <> strftime('%Y-%m-%dT%H:%M:%SZ', published)",
            "SELECT count(*) FROM ad JOIN ad later ON later.id = ad.id + 1 WHERE later.published <= ad.published",
            "SELECT count(*) FROM ad WHERE published < '2026-01-01' OR published >= '2026-11-01'",
            "SELECT 9 - count(DISTINCT substr(published, 6, 2)) FROM ad WHERE substr(published, 6, 2) < '10'",
            "SELECT count(*) FROM manufacturer WHERE founded >= 1998",
        ] {
            assert_eq!(number(&connection, nothing), 0, "{nothing}");
        }
        let same_number = number(&connection, "SELECT count(*) FROM ad WHERE id = car_id");
        assert!(same_number < 40, "{same_number} ads have the number of their car");
    }

    #[test]
    fn each_language_and_audience_has_its_share() {
        let connection = market(4_000);
        for (sql, at_least, at_most) in [
            ("SELECT count(*) FROM ad WHERE lang = 'en'", 1_000, 1_700),
            ("SELECT count(*) FROM ad WHERE lang = 'sv'", 1_000, 1_700),
            ("SELECT count(*) FROM ad WHERE lang = 'de'", 1_000, 1_700),
            (
                r#"SELECT count(*) FROM ad WHERE readers = '["everyone"]'"#,
                3_400,
                3_760,
            ),
            (
                r#"SELECT count(*) FROM ad WHERE readers = '["dealers","staff"]'"#,
                180,
                400,
            ),
            (
                r#"SELECT count(*) FROM ad WHERE readers = json_array('staff', 'seller:' || seller_id)"#,
                60,
                200,
            ),
        ] {
            let count = number(&connection, sql);
            assert!((at_least..=at_most).contains(&count), "{count}: {sql}");
        }
        let all = number(
            &connection,
            r#"SELECT count(*) FROM ad WHERE readers IN ('["everyone"]', '["dealers","staff"]',
                                                    json_array('staff', 'seller:' || seller_id))"#,
        );
        assert_eq!(all, 4_000);
    }

    /// Columns of every foreign key that no index starts with.
    #[test]
    fn every_table_has_a_key_and_every_foreign_key_an_index() {
        let connection = market(1);
        let without_key = "SELECT count(*) FROM sqlite_schema t WHERE t.type = 'table' AND NOT EXISTS
                           (SELECT 1 FROM pragma_table_info(t.name) WHERE pk > 0)";
        assert_eq!(number(&connection, without_key), 0);
        let mut foreign_keys = connection
            .prepare(
                "SELECT t.name || '.' || f.\"from\" FROM sqlite_schema t, pragma_foreign_key_list(t.name) f
                 WHERE t.type = 'table'",
            )
            .unwrap();
        let foreign_keys: BTreeSet<String> = foreign_keys
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let mut indexed = connection
            .prepare(
                "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_index_list(t.name) i,
                        pragma_index_info(i.name) c WHERE t.type = 'table' AND c.seqno = 0",
            )
            .unwrap();
        let indexed: BTreeSet<String> = indexed
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(foreign_keys.len(), 7);
        assert!(
            foreign_keys.is_subset(&indexed),
            "without an index: {:?}",
            foreign_keys.difference(&indexed)
        );
    }

    #[test]
    fn moments_fall_on_their_days() {
        assert_eq!(moment(0), "2026-01-01T00:00:00Z");
        assert_eq!(moment(59 * 86_400 - 1), "2026-02-28T23:59:59Z");
        assert_eq!(moment(59 * 86_400), "2026-03-01T00:00:00Z");
        assert_eq!(moment(364 * 86_400 + 3_661), "2026-12-31T01:01:01Z");
    }
}
