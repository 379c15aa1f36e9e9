//! One small change to the demo's database at a time, so that one can watch the index follow.
//!
//! The changes come from a seed: the same seed on the same database makes the same changes. Each is one transaction, and
//! leaves the database as valid as it was.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::catalogue::{COMPANY_SUFFIXES, MAKES};
use super::dice::Dice;
use super::draw;
use super::facts::{Audience, Cents, Model, Offer, Seller, SellerKind};
use super::market::{insert_ad, insert_ad_tags, insert_car};

/// A sequence of changes.
#[derive(Debug)]
pub(crate) struct Live {
    dice: Dice,
}

/// What can happen on the marketplace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    PriceChanged,
    AdPlaced,
    AdSold,
    CarDeleted,
    SellerRenamed,
    SellerMoved,
    TagAdded,
    TagRemoved,
    ReadersChanged,
    ManufacturerRenamed,
}

const EVENTS: [(u32, Event); 10] = [
    (36, Event::PriceChanged),
    (15, Event::AdPlaced),
    (10, Event::AdSold),
    (5, Event::CarDeleted),
    (6, Event::SellerRenamed),
    (4, Event::SellerMoved),
    (11, Event::TagAdded),
    (8, Event::TagRemoved),
    (4, Event::ReadersChanged),
    (1, Event::ManufacturerRenamed),
];

impl Live {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
        }
    }

    /// Makes the next change, commits it, and says in one line what it was.
    ///
    /// A change that finds nothing to work on, such as a sale where all is sold, places a new ad instead. After an error
    /// the database is unchanged, and the next call makes the next change.
    pub(crate) fn step(&mut self, connection: &mut Connection) -> rusqlite::Result<String> {
        // A deleted car takes its ads and their tags with it.
        connection.pragma_update(None, "foreign_keys", true)?;
        let event = self.dice.weighted(&EVENTS);
        // A transaction that writes from its start waits for other writers; one that reads first is refused.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = match self.make(event, &transaction)? {
            Some(done) => done,
            None => self.place_ad(&transaction)?,
        };
        transaction.commit()?;
        Ok(done)
    }

    fn make(&mut self, event: Event, transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
        match event {
            Event::PriceChanged => self.change_price(transaction),
            Event::AdPlaced => self.place_ad(transaction).map(Some),
            Event::AdSold => self.sell(transaction),
            Event::CarDeleted => self.delete_car(transaction),
            Event::SellerRenamed => self.rename_seller(transaction),
            Event::SellerMoved => self.move_seller(transaction),
            Event::TagAdded => self.add_tag(transaction),
            Event::TagRemoved => self.remove_tag(transaction),
            Event::ReadersChanged => self.change_readers(transaction),
            Event::ManufacturerRenamed => self.rename_manufacturer(transaction),
        }
    }

    fn change_price(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
        let Some(ad) = self.any_ad(transaction)? else {
            return Ok(None);
        };
        // Mostly down, and never by nothing.
        let percent = if self.dice.percent(80) {
            self.dice.between(88, 98)
        } else {
            self.dice.between(102, 106)
        };
        let price = Cents((ad.price.0 * u64::from(percent) / 100).max(100));
        if price == ad.price {
            return Ok(None);
        }
        transaction
            .prepare_cached("UPDATE ad SET price = ? WHERE id = ?")?
            .execute(params![price, ad.id])?;
        Ok(Some(format!(
            "ad {}: price {} → {price} ({})",
            ad.id, ad.price, ad.title
        )))
    }

    fn place_ad(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<String> {
        let (model_id, make, model) = self
            .any(
                transaction,
                "SELECT model.id, manufacturer.name, model.name, model.body, model.seats FROM model
                 JOIN manufacturer ON manufacturer.id = model.manufacturer_id
                 WHERE model.id >= ? ORDER BY model.id LIMIT 1",
                "model",
                |row| {
                    let model = Model {
                        name: row.get(2)?,
                        body: row.get(3)?,
                        seats: row.get(4)?,
                    };
                    Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, model))
                },
            )?
            .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let (seller_id, seller) = self
            .any_seller(transaction)?
            .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        let car = draw::car(&mut self.dice, &model);
        let audience = draw::audience(&mut self.dice, seller.kind);
        let offer = Offer {
            make: &make,
            model: &model,
            car: &car,
            seller: &seller,
            audience,
        };
        let minutes = self.dice.between(1, 20);
        let published: String = transaction
            .prepare_cached(
                "SELECT strftime('%Y-%m-%dT%H:%M:%SZ', ifnull(max(published), '2026-01-01T06:00:00Z'), ?)
                 FROM (SELECT published FROM ad ORDER BY id DESC LIMIT 1)",
            )?
            .query_row([format!("+{minutes} minutes")], |row| row.get(0))?;
        let car_id = insert_car(transaction, None, model_id, &car)?;
        let ad_id = insert_ad(
            transaction,
            &mut self.dice,
            None,
            car_id,
            seller_id,
            "open",
            &published,
            &offer,
        )?;
        insert_ad_tags(transaction, &mut self.dice, ad_id)?;
        Ok(format!(
            "ad {ad_id}: new, {make} {} from {}, {} in {}",
            model.name, car.year, seller.name, seller.city
        ))
    }

    fn sell(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
        let Some(ad) = self.any_ad(transaction)? else {
            return Ok(None);
        };
        transaction
            .prepare_cached("UPDATE ad SET state = 'sold' WHERE id = ?")?
            .execute([ad.id])?;
        Ok(Some(format!(
            "ad {}: sold for {} ({})",
            ad.id, ad.price, ad.title
        )))
    }

    fn delete_car(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
        let Some(ad) = self.any_ad(transaction)? else {
            return Ok(None);
        };
        transaction
            .prepare_cached("DELETE FROM car WHERE id = ?")?
            .execute([ad.car_id])?;
        Ok(Some(format!(
            "car {}: deleted, and its ad {} with it ({})",
            ad.car_id, ad.id, ad.title
        )))
    }

    fn rename_seller(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
        let Some((id, seller)) = self.any_seller(transaction)? else {
            return Ok(None);
        };
        let name = draw::other_name(&mut self.dice, &seller);
        transaction
            .prepare_cached("UPDATE seller SET name = ? WHERE id = ?")?
            .execute(params![name, id])?;
        let ads = ads_of_seller(transaction, id)?;
        Ok(Some(format!(
            "seller {id}: {} → {name} ({ads} open)",
            seller.name
        )))
    }

    fn move_seller(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
        let Some((id, seller)) = self.any_seller(transaction)? else {
            return Ok(None);
        };
        let city = draw::other_city(&mut self.dice, &seller);
        transaction
            .prepare_cached("UPDATE seller SET city = ? WHERE id = ?")?
            .execute(params![city, id])?;
        let ads = ads_of_seller(transaction, id)?;
        Ok(Some(format!(
            "seller {id}: {} moves from {} to {city} ({ads} open)",
            seller.name, seller.city
        )))
    }

    fn add_tag(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
        let Some(ad) = self.any_ad(transaction)? else {
            return Ok(None);
        };
        self.link_tag(
            transaction,
            &ad,
            "SELECT id, name FROM tag WHERE id NOT IN (SELECT tag_id FROM ad_tag WHERE ad_id = ?) ORDER BY id",
            "INSERT INTO ad_tag (ad_id, tag_id) VALUES (?, ?)",
            '+',
        )
    }

    fn remove_tag(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
        let Some(ad) = self.any_ad(transaction)? else {
            return Ok(None);
        };
        self.link_tag(
            transaction,
            &ad,
            "SELECT id, name FROM tag WHERE id IN (SELECT tag_id FROM ad_tag WHERE ad_id = ?) ORDER BY id",
            "DELETE FROM ad_tag WHERE ad_id = ? AND tag_id = ?",
            '−',
        )
    }

    /// Runs `change` on the ad and one of the tags that `candidates` lists.
    fn link_tag(
        &mut self,
        transaction: &Transaction<'_>,
        ad: &Ad,
        candidates: &str,
        change: &str,
        sign: char,
    ) -> rusqlite::Result<Option<String>> {
        let tags: Vec<(i64, String)> = transaction
            .prepare_cached(candidates)?
            .query_map([ad.id], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        if tags.is_empty() {
            return Ok(None);
        }
        let (tag_id, tag) = self.dice.pick(&tags);
        transaction
            .prepare_cached(change)?
            .execute(params![ad.id, tag_id])?;
        Ok(Some(format!("ad {}: {sign} tag {tag} ({})", ad.id, ad.title)))
    }

    fn change_readers(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
        let Some(ad) = self.any_ad(transaction)? else {
            return Ok(None);
        };
        let kind: SellerKind = transaction
            .prepare_cached("SELECT kind FROM seller WHERE id = ?")?
            .query_row([ad.seller_id], |row| row.get(0))?;
        let open = Audience::Everyone.readers(ad.seller_id);
        let readers = match (ad.readers == open, kind) {
            (false, _) => open,
            (true, SellerKind::Dealer) => Audience::Dealers.readers(ad.seller_id),
            (true, SellerKind::Private) => Audience::Staff.readers(ad.seller_id),
        };
        transaction
            .prepare_cached("UPDATE ad SET readers = ? WHERE id = ?")?
            .execute(params![readers, ad.id])?;
        Ok(Some(format!(
            "ad {}: readers {} → {readers} ({})",
            ad.id, ad.readers, ad.title
        )))
    }

    fn rename_manufacturer(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<String>> {
        let number = self.dice.between(1, MAKES.len() as u32);
        let first_name = MAKES[number as usize - 1].name;
        let name: Option<String> = transaction
            .prepare_cached("SELECT name FROM manufacturer WHERE id = ?")?
            .query_row([number], |row| row.get(0))
            .optional()?;
        let Some(name) = name else { return Ok(None) };
        let others: Vec<String> = COMPANY_SUFFIXES
            .iter()
            .map(|suffix| format!("{first_name}{suffix}"))
            .filter(|other| *other != name)
            .collect();
        let renamed = self.dice.pick(&others);
        transaction
            .prepare_cached("UPDATE manufacturer SET name = ? WHERE id = ?")?
            .execute(params![renamed, number])?;
        let ads: u32 = transaction
            .prepare_cached(
                "SELECT count(*) FROM ad JOIN car ON car.id = ad.car_id JOIN model ON model.id = car.model_id
                 WHERE model.manufacturer_id = ? AND ad.state = 'open'",
            )?
            .query_row([number], |row| row.get(0))?;
        Ok(Some(format!(
            "manufacturer {number}: {name} → {renamed} ({ads} open)"
        )))
    }

    /// An ad that is open, or `None` where none is.
    fn any_ad(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<Ad>> {
        self.any(
            transaction,
            "SELECT id, car_id, seller_id, title, price, readers FROM ad
             WHERE id >= ? AND state = 'open' ORDER BY id LIMIT 1",
            "ad",
            |row| {
                Ok(Ad {
                    id: row.get(0)?,
                    car_id: row.get(1)?,
                    seller_id: row.get(2)?,
                    title: row.get(3)?,
                    price: row.get(4)?,
                    readers: row.get(5)?,
                })
            },
        )
    }

    fn any_seller(&mut self, transaction: &Transaction<'_>) -> rusqlite::Result<Option<(i64, Seller)>> {
        self.any(
            transaction,
            "SELECT id, name, city, country, kind FROM seller WHERE id >= ? ORDER BY id LIMIT 1",
            "seller",
            |row| {
                let seller = Seller {
                    name: row.get(1)?,
                    city: row.get(2)?,
                    country: row.get(3)?,
                    kind: row.get(4)?,
                };
                Ok((row.get(0)?, seller))
            },
        )
    }

    /// The first row of `select` from a random id of `table` on, or from the first where none follows.
    fn any<T>(
        &mut self,
        transaction: &Transaction<'_>,
        select: &str,
        table: &str,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        let last: u32 = transaction
            .prepare_cached(&format!("SELECT ifnull(max(id), 0) FROM {table}"))?
            .query_row([], |row| row.get(0))?;
        let from = self.dice.between(1, last.max(1));
        let mut statement = transaction.prepare_cached(select)?;
        match statement.query_row([from], read).optional()? {
            Some(found) => Ok(Some(found)),
            None => statement.query_row([1], read).optional(),
        }
    }
}

struct Ad {
    id: i64,
    car_id: i64,
    seller_id: i64,
    title: String,
    price: Cents,
    readers: String,
}

/// How many open ads a seller has: the documents that follow a change of the seller.
fn ads_of_seller(transaction: &Transaction<'_>, seller: i64) -> rusqlite::Result<u32> {
    transaction
        .prepare_cached("SELECT count(*) FROM ad WHERE seller_id = ? AND state = 'open'")?
        .query_row([seller], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::market::write;
    use super::*;

    const TABLES: [&str; 7] = ["manufacturer", "model", "car", "seller", "ad", "tag", "ad_tag"];

    fn market(cars: u32) -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        write(&mut connection, cars, 1).unwrap();
        connection
    }

    /// Every value of every row, in the order of the primary keys.
    fn dump(connection: &Connection) -> Vec<Vec<rusqlite::types::Value>> {
        let mut rows = Vec::new();
        for table in TABLES {
            let mut statement = connection
                .prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2"))
                .unwrap();
            let columns = statement.column_count();
            let read = statement
                .query_map([], |row| {
                    (0..columns)
                        .map(|column| row.get(column))
                        .collect::<rusqlite::Result<Vec<_>>>()
                })
                .unwrap();
            rows.extend(read.map(Result::unwrap));
        }
        rows
    }

    #[test]
    fn every_step_changes_the_database_and_says_so_in_one_line() {
        let mut connection = market(60);
        let mut live = Live::new(3);
        let mut before = dump(&connection);
        for _ in 0..400 {
            let said = live.step(&mut connection).unwrap();
            assert!(!said.is_empty() && !said.contains('\n'), "{said}");
            let after = dump(&connection);
            assert!(before != after, "nothing changed, but: {said}");
            before = after;
        }
        let broken: u32 = connection
            .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(broken, 0);
    }

    #[test]
    fn the_same_seed_makes_the_same_changes() {
        let run = |seed| {
            let mut connection = market(100);
            let mut live = Live::new(seed);
            let said: Vec<String> = (0..200).map(|_| live.step(&mut connection).unwrap()).collect();
            (said, dump(&connection))
        };
        assert!(run(11) == run(11));
        assert!(run(11).0 != run(12).0);
    }

    #[test]
    fn every_event_happens_in_its_own_words() {
        let mut connection = market(300);
        let mut live = Live::new(8);
        for (_, event) in EVENTS {
            // Some find nothing to do at the first ad they meet.
            let said = (0..50)
                .find_map(|_| {
                    let transaction = connection.transaction().unwrap();
                    let said = live.make(event, &transaction).unwrap();
                    transaction.commit().unwrap();
                    said
                })
                .unwrap();
            let expected = match event {
                Event::PriceChanged => ": price ",
                Event::AdPlaced => ": new, ",
                Event::AdSold => ": sold for ",
                Event::CarDeleted => ": deleted, and its ad ",
                Event::SellerRenamed => " → ",
                Event::SellerMoved => " moves from ",
                Event::TagAdded => ": + tag ",
                Event::TagRemoved => ": − tag ",
                Event::ReadersChanged => ": readers ",
                Event::ManufacturerRenamed => "manufacturer ",
            };
            assert!(said.contains(expected), "{event:?}: {said}");
        }
    }

    #[test]
    fn an_empty_market_fills_and_a_long_run_does_not_empty_it() {
        let mut connection = market(0);
        let mut live = Live::new(5);
        let said = live.step(&mut connection).unwrap();
        for _ in 0..1_500 {
            live.step(&mut connection).unwrap();
        }
        let open: u32 = connection
            .query_row("SELECT count(*) FROM ad WHERE state = 'open'", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert!(open > 0, "first step: {said}");
    }

    #[test]
    fn a_failed_step_changes_nothing_and_the_next_one_goes_on() {
        let mut connection = market(50);
        connection
            .execute_batch("CREATE TRIGGER no_news BEFORE INSERT ON ad BEGIN SELECT raise(ABORT, 'no'); END")
            .unwrap();
        let mut live = Live::new(2);
        let (mut failed, mut done) = (0, 0);
        for _ in 0..100 {
            let before = dump(&connection);
            match live.step(&mut connection) {
                Ok(_) => done += 1,
                Err(_) => {
                    failed += 1;
                    assert!(before == dump(&connection));
                }
            }
        }
        assert!(failed > 0 && done > 0, "{failed} failed, {done} done");
    }
}
