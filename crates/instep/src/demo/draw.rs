//! Draws models, cars, sellers and prices that could be true: an electric car is not from 1999, a van is not a two-seater
//! sports car, and age and distance lower the price.

use super::catalogue::{AUSTRIA, BRITAIN, Country, FINLAND, GERMANY, IRELAND, MODELS, SWEDEN};
use super::dice::Dice;
use super::facts::{Audience, Body, Car, Cents, Colour, Fuel, Gearbox, Model, Offer, Seller, SellerKind};

/// The year in which the marketplace stands still; nothing here asks a clock.
pub(crate) const THIS_YEAR: u32 = 2026;

/// The models of one manufacturer, 4 to 9 of them, no name twice.
pub(crate) fn models(dice: &mut Dice) -> Vec<Model> {
    let mut names = MODELS;
    dice.shuffle(&mut names);
    let count = dice.between(4, 9) as usize;
    names[..count].iter().map(|name| model(dice, name)).collect()
}

fn model(dice: &mut Dice, name: &str) -> Model {
    let body = dice.weighted(&[
        (24, Body::Hatchback),
        (16, Body::Saloon),
        (22, Body::Estate),
        (18, Body::Suv),
        (7, Body::Van),
        (4, Body::Convertible),
        (5, Body::Coupe),
        (4, Body::Pickup),
    ]);
    let seats = match body {
        Body::Hatchback => dice.between(4, 5),
        Body::Saloon | Body::Estate => 5,
        Body::Suv => dice.weighted(&[(7, 5), (3, 7)]),
        Body::Van => dice.weighted(&[(2, 3), (3, 7), (1, 9)]),
        Body::Convertible | Body::Coupe => dice.weighted(&[(1, 2), (2, 4)]),
        Body::Pickup => dice.weighted(&[(1, 2), (2, 5)]),
    };
    Model {
        name: name.to_owned(),
        body,
        seats,
    }
}

pub(crate) fn car(dice: &mut Dice, model: &Model) -> Car {
    // The larger of two draws: recent years are more common.
    let year = dice.between(1998, 2020).max(dice.between(1998, 2020));
    let fuel = if year >= 2013 {
        dice.weighted(&[
            (30, Fuel::Petrol),
            (24, Fuel::Diesel),
            (16, Fuel::Hybrid),
            (10, Fuel::PlugInHybrid),
            (17, Fuel::Electric),
            (3, Fuel::Biogas),
        ])
    } else {
        dice.weighted(&[
            (58, Fuel::Petrol),
            (36, Fuel::Diesel),
            (2, Fuel::Hybrid),
            (4, Fuel::Biogas),
        ])
    };
    let automatic_percent = match fuel {
        Fuel::Electric | Fuel::Hybrid | Fuel::PlugInHybrid => 100,
        Fuel::Petrol | Fuel::Diesel | Fuel::Biogas => (year - 1990) * 2,
    };
    let gearbox = if dice.percent(automatic_percent) {
        Gearbox::Automatic
    } else {
        Gearbox::Manual
    };
    let colour = dice.weighted(&[
        (18, Colour::Black),
        (17, Colour::White),
        (13, Colour::Silver),
        (17, Colour::Grey),
        (13, Colour::Blue),
        (9, Colour::Red),
        (5, Colour::Green),
        (2, Colour::Yellow),
        (2, Colour::Orange),
        (2, Colour::Brown),
        (1, Colour::Beige),
        (1, Colour::Turquoise),
    ]);
    let power_kw = match model.body {
        Body::Hatchback => dice.between(45, 130),
        Body::Saloon | Body::Estate => dice.between(75, 220),
        Body::Suv | Body::Pickup => dice.between(90, 260),
        Body::Van => dice.between(70, 140),
        Body::Convertible | Body::Coupe => dice.between(85, 300),
    };
    let km = (THIS_YEAR - year) * dice.between(60, 190) * 100;
    Car {
        year,
        km,
        fuel,
        gearbox,
        colour,
        power_kw,
    }
}

pub(crate) fn seller(dice: &mut Dice) -> Seller {
    let kind = if dice.percent(18) {
        SellerKind::Dealer
    } else {
        SellerKind::Private
    };
    let country: &Country = dice.weighted(&[
        (29, &SWEDEN),
        (4, &FINLAND),
        (27, &GERMANY),
        (6, &AUSTRIA),
        (27, &BRITAIN),
        (7, &IRELAND),
    ]);
    let city = (*dice.pick(country.cities)).to_owned();
    let name = seller_name(dice, country, &city, kind);
    Seller {
        name,
        city,
        country: country.code.to_owned(),
        kind,
    }
}

fn seller_name(dice: &mut Dice, country: &Country, city: &str, kind: SellerKind) -> String {
    let family = dice.pick(country.last_names);
    match kind {
        SellerKind::Private => format!("{} {family}", dice.pick(country.first_names)),
        SellerKind::Dealer => dice
            .pick(country.dealers)
            .replace("{name}", family)
            .replace("{city}", city),
    }
}

/// Another name for `seller`, of its own country and kind.
pub(crate) fn other_name(dice: &mut Dice, seller: &Seller) -> String {
    let country = country(&seller.country);
    loop {
        let name = seller_name(dice, country, &seller.city, seller.kind);
        if name != seller.name {
            return name;
        }
    }
}

/// Another town of the seller's country.
pub(crate) fn other_city(dice: &mut Dice, seller: &Seller) -> String {
    let country = country(&seller.country);
    loop {
        let city = *dice.pick(country.cities);
        if city != seller.city {
            return city.to_owned();
        }
    }
}

fn country(code: &str) -> &'static Country {
    [&SWEDEN, &FINLAND, &GERMANY, &AUSTRIA, &IRELAND]
        .into_iter()
        .find(|country| country.code == code)
        .unwrap_or(&BRITAIN)
}

/// Who may read an ad of a seller of this kind. Only dealers sell within the trade.
pub(crate) fn audience(dice: &mut Dice, kind: SellerKind) -> Audience {
    match kind {
        SellerKind::Private => dice.weighted(&[(97, Audience::Everyone), (3, Audience::Staff)]),
        SellerKind::Dealer => dice.weighted(&[
            (83, Audience::Everyone),
            (14, Audience::Dealers),
            (3, Audience::Staff),
        ]),
    }
}

/// What the seller asks for. Between traders the price is net of tax, to the cent.
pub(crate) fn price(dice: &mut Dice, offer: &Offer<'_>) -> Cents {
    let surcharge = match offer.model.body {
        Body::Hatchback | Body::Van => 0,
        Body::Saloon | Body::Estate | Body::Pickup => 3_000,
        Body::Suv => 6_000,
        Body::Convertible | Body::Coupe => 9_000,
    };
    let car = offer.car;
    let mut euros = 9_000 + u64::from(car.power_kw) * 210 + surcharge;
    for _ in car.year..THIS_YEAR {
        euros = euros * 89 / 100;
    }
    euros = euros * u64::from(600_000 - car.km.min(400_000)) / 600_000;
    euros = euros * u64::from(dice.between(88, 112)) / 100;
    let asked = euros.max(600);
    match (offer.audience, offer.seller.kind) {
        (Audience::Dealers, _) => Cents(asked * 10_000 / 119),
        (Audience::Everyone | Audience::Staff, SellerKind::Dealer) => Cents((asked / 100 * 100 + 90) * 100),
        (Audience::Everyone | Audience::Staff, SellerKind::Private) => Cents(asked / 50 * 50 * 100),
    }
}
