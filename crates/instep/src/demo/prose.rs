//! The words of the demo's ads: titles and bodies of 4 to 10 sentences in English, Swedish and German.
//!
//! Each language brings sentences by subject. In a sentence, `[a|b]` stands for one of its alternatives and `{name}` for
//! a fact of the offer. An ad never speaks of the same subject twice, and what it says of its fuel, seller and readers
//! is true of the row. The same draws give the same text.

mod english;
mod german;
mod swedish;

use super::dice::Dice;
use super::facts::{Audience, Fuel, Language, Offer, SellerKind};

/// A sentence with its alternatives and slots.
type Template = &'static str;

struct Phrases {
    words: Vocabulary,
    titles: &'static [Template],
    opening: &'static [Template],
    history: &'static [Template],
    looks: &'static [Template],
    condition: &'static [Template],
    drive: &'static [Template],
    electric: &'static [Template],
    hybrid: &'static [Template],
    combustion: &'static [Template],
    interior: &'static [Template],
    equipment: &'static [Template],
    journeys: &'static [Template],
    service: &'static [Template],
    flaw: &'static [Template],
    closing_private: &'static [Template],
    closing_dealer: &'static [Template],
    trade_only: &'static [Template],
    held_back: &'static [Template],
}

/// How a language says the facts, in the order of the enums in [`super::facts`].
struct Vocabulary {
    bodies: [&'static str; 8],
    colours: [&'static str; 12],
    fuels: [&'static str; 6],
    gearboxes: [&'static str; 2],
    distance: fn(u32) -> String,
}

/// What an ad says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) title: String,
    pub(crate) body: String,
}

/// Writes the ad of `offer` in the language of its seller.
pub(crate) fn advertise(dice: &mut Dice, offer: &Offer<'_>) -> Text {
    let phrases = phrases(offer.language());
    let title_template = dice.pick(phrases.titles);
    let mut title = String::with_capacity(64);
    render(dice, title_template, offer, &phrases.words, &mut title);

    let mut body = String::with_capacity(1024);
    for topic in topics(dice, offer, phrases) {
        if !body.is_empty() {
            body.push(' ');
        }
        let sentence = dice.pick(topic);
        render(dice, sentence, offer, &phrases.words, &mut body);
    }
    Text { title, body }
}

fn phrases(language: Language) -> &'static Phrases {
    match language {
        Language::English => &english::ENGLISH,
        Language::Swedish => &swedish::SWEDISH,
        Language::German => &german::GERMAN,
    }
}

/// What the ad speaks of, one sentence each: an opening, a mark when not everybody may read it, some subjects, a closing.
fn topics(dice: &mut Dice, offer: &Offer<'_>, phrases: &'static Phrases) -> Vec<&'static [Template]> {
    let energy = match offer.car.fuel {
        Fuel::Electric => phrases.electric,
        Fuel::Hybrid | Fuel::PlugInHybrid => phrases.hybrid,
        Fuel::Petrol | Fuel::Diesel | Fuel::Biogas => phrases.combustion,
    };
    let mut subjects = vec![
        phrases.history,
        phrases.looks,
        phrases.condition,
        phrases.drive,
        energy,
        phrases.interior,
        phrases.equipment,
        phrases.service,
    ];
    match offer.seller.kind {
        SellerKind::Private => subjects.extend([phrases.journeys, phrases.flaw]),
        // A trader has made no journeys in it.
        SellerKind::Dealer => {}
    }
    dice.shuffle(&mut subjects);

    // Opening, closing and all eight subjects that every seller speaks of make ten.
    let sentences = dice.between(4, 10) as usize;
    let mut topics = vec![phrases.opening];
    match offer.audience {
        Audience::Everyone => {}
        Audience::Dealers => topics.push(phrases.trade_only),
        Audience::Staff => topics.push(phrases.held_back),
    }
    let subjects_wanted = sentences - topics.len() - 1;
    topics.extend(&subjects[..subjects_wanted]);
    topics.push(match offer.seller.kind {
        SellerKind::Private => phrases.closing_private,
        SellerKind::Dealer => phrases.closing_dealer,
    });
    topics
}

/// Appends `template` with its alternatives chosen and its slots filled.
fn render(dice: &mut Dice, template: Template, offer: &Offer<'_>, words: &Vocabulary, out: &mut String) {
    let mut rest = template;
    while let Some(open) = rest.find('[') {
        fill(&rest[..open], offer, words, out);
        let close = open
            + rest[open..]
                .find(']')
                .expect("every bracket of a template is closed; a test checks it");
        let alternatives = &rest[open + 1..close];
        let last = u32::try_from(alternatives.matches('|').count()).expect("a template is short");
        let chosen = dice.between(0, last) as usize;
        fill(
            alternatives
                .split('|')
                .nth(chosen)
                .expect("one more part than separators"),
            offer,
            words,
            out,
        );
        rest = &rest[close + 1..];
    }
    fill(rest, offer, words, out);
}

/// Appends `text` with its slots filled.
fn fill(text: &str, offer: &Offer<'_>, words: &Vocabulary, out: &mut String) {
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let close = open
            + rest[open..]
                .find('}')
                .expect("every brace of a template is closed; a test checks it");
        fill_slot(&rest[open + 1..close], offer, words, out);
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
}

fn fill_slot(slot: &str, offer: &Offer<'_>, words: &Vocabulary, out: &mut String) {
    let body = words.bodies[offer.model.body as usize];
    match slot {
        "make" => out.push_str(offer.make),
        "model" => out.push_str(&offer.model.name),
        "seats" => out.push_str(&offer.model.seats.to_string()),
        "year" => out.push_str(&offer.car.year.to_string()),
        "distance" => out.push_str(&(words.distance)(offer.car.km)),
        "power" => out.push_str(&offer.car.power_kw.to_string()),
        "fuel" => out.push_str(words.fuels[offer.car.fuel as usize]),
        "gearbox" => out.push_str(words.gearboxes[offer.car.gearbox as usize]),
        "colour" => out.push_str(words.colours[offer.car.colour as usize]),
        "city" => out.push_str(&offer.seller.city),
        "body" => out.push_str(body),
        "Body" => {
            let mut letters = body.chars();
            out.extend(letters.next().into_iter().flat_map(char::to_uppercase));
            out.push_str(letters.as_str());
        }
        unknown => unreachable!("no slot is called {unknown}; a test checks every template"),
    }
}

/// Writes `number` with `separator` between its groups of three digits.
fn grouped(number: u32, separator: char) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + 4);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::facts::{Body, Car, Colour, Gearbox, Model, Seller};
    use super::*;

    const SLOTS: [&str; 12] = [
        "make", "model", "seats", "year", "distance", "power", "fuel", "gearbox", "colour", "city", "body",
        "Body",
    ];

    fn model() -> Model {
        Model {
            name: "Vinda".into(),
            body: Body::Estate,
            seats: 5,
        }
    }

    fn car(fuel: Fuel) -> Car {
        Car {
            year: 2017,
            km: 84_300,
            fuel,
            gearbox: Gearbox::Manual,
            colour: Colour::Blue,
            power_kw: 110,
        }
    }

    fn seller(country: &str, kind: SellerKind) -> Seller {
        Seller {
            name: "Astrid Lind".into(),
            city: "Kalmar".into(),
            country: country.into(),
            kind,
        }
    }

    fn lists(phrases: &Phrases) -> [&'static [Template]; 18] {
        [
            phrases.titles,
            phrases.opening,
            phrases.history,
            phrases.looks,
            phrases.condition,
            phrases.drive,
            phrases.electric,
            phrases.hybrid,
            phrases.combustion,
            phrases.interior,
            phrases.equipment,
            phrases.journeys,
            phrases.service,
            phrases.flaw,
            phrases.closing_private,
            phrases.closing_dealer,
            phrases.trade_only,
            phrases.held_back,
        ]
    }

    #[test]
    fn every_template_is_well_formed() {
        for &language in Language::ALL {
            let lists = lists(phrases(language));
            for (index, template) in lists
                .iter()
                .enumerate()
                .flat_map(|(i, list)| list.iter().map(move |t| (i, t)))
            {
                let mut depth = 0;
                for letter in template.chars() {
                    match letter {
                        '[' => depth += 1,
                        ']' => depth -= 1,
                        '|' => assert_eq!(depth, 1, "alternatives outside brackets: {template}"),
                        _ => {}
                    }
                    assert!((0..=1).contains(&depth), "brackets of {template}");
                }
                assert_eq!(depth, 0, "brackets of {template}");
                for slot in template.split('{').skip(1) {
                    let name = slot
                        .split_once('}')
                        .unwrap_or_else(|| panic!("open brace in {template}"))
                        .0;
                    assert!(SLOTS.contains(&name), "unknown slot {name} in {template}");
                }
                assert_eq!(
                    template.matches('{').count(),
                    template.matches('}').count(),
                    "braces of {template}"
                );
                let is_title = index == 0;
                assert_eq!(template.ends_with('.'), !is_title, "the end of {template}");
                assert!(!template.contains("  "), "two spaces in {template}");
            }
        }
    }

    #[test]
    fn an_ad_has_four_to_ten_different_sentences() {
        let model = model();
        let mut lengths = [0_u32; 11];
        for seed in 0..600_u64 {
            let car = car([Fuel::Petrol, Fuel::Electric, Fuel::Hybrid][(seed % 3) as usize]);
            let seller = seller(["SE", "DE", "GB"][(seed / 3 % 3) as usize], SellerKind::Dealer);
            let audience = [Audience::Everyone, Audience::Dealers, Audience::Staff][(seed / 9 % 3) as usize];
            let offer = Offer {
                make: "Norrvik",
                model: &model,
                car: &car,
                seller: &seller,
                audience,
            };
            let text = advertise(&mut Dice::new(seed), &offer);
            // A full stop inside a German number is not followed by a space.
            let sentences: Vec<&str> = text.body.split_inclusive(". ").collect();
            assert!(
                (4..=10).contains(&sentences.len()),
                "{} sentences: {}",
                sentences.len(),
                text.body
            );
            lengths[sentences.len()] += 1;
            for (index, sentence) in sentences.iter().enumerate() {
                assert!(!sentences[..index].contains(sentence), "twice: {sentence}");
            }
            assert!(!text.body.contains(['{', '}', '[', ']', '|']), "{}", text.body);
            assert!(!text.title.contains(['{', '}', '[', ']', '|']), "{}", text.title);
        }
        assert!(
            lengths[4..=10].iter().all(|count| *count > 0),
            "lengths that occur: {lengths:?}"
        );
    }

    #[test]
    fn an_ad_says_what_is_true_of_its_readers_and_its_drive() {
        let model = model();
        let electric = car(Fuel::Electric);
        let seller = seller("GB", SellerKind::Dealer);
        for seed in 0..200 {
            let mut offer = Offer {
                make: "Norrvik",
                model: &model,
                car: &electric,
                seller: &seller,
                audience: Audience::Everyone,
            };
            let open = advertise(&mut Dice::new(seed), &offer).body;
            assert!(
                !open.contains("rade only") && !open.contains("to the trade") && !open.contains("Held back")
            );
            assert!(
                !open.contains("oil") && !open.contains("exhaust") && !open.contains("timing belt"),
                "{open}"
            );
            offer.audience = Audience::Staff;
            assert!(
                advertise(&mut Dice::new(seed), &offer)
                    .body
                    .contains("Held back:")
            );
        }
    }

    #[test]
    fn numbers_follow_the_language() {
        let kilometres = 84_300;
        assert_eq!((english::ENGLISH.words.distance)(kilometres), "84,300 km");
        assert_eq!((german::GERMAN.words.distance)(kilometres), "84.300 km");
        assert_eq!((swedish::SWEDISH.words.distance)(kilometres), "8\u{a0}430 mil");
        assert_eq!(grouped(1_234_567, ','), "1,234,567");
        assert_eq!(grouped(999, ','), "999");
        assert_eq!(grouped(0, ','), "0");
    }

    #[test]
    fn a_sentence_chooses_and_fills() {
        let (model, car, seller) = (model(), car(Fuel::Diesel), seller("SE", SellerKind::Private));
        let offer = Offer {
            make: "Norrvik",
            model: &model,
            car: &car,
            seller: &seller,
            audience: Audience::Everyone,
        };
        let mut seen = Vec::new();
        for seed in 0..50 {
            let mut out = String::new();
            let words = &swedish::SWEDISH.words;
            render(
                &mut Dice::new(seed),
                "{Body} [är {colour}|går på {fuel}] i {city}.",
                &offer,
                words,
                &mut out,
            );
            if !seen.contains(&out) {
                seen.push(out);
            }
        }
        seen.sort();
        assert_eq!(
            seen,
            ["Kombin går på diesel i Kalmar.", "Kombin är blå i Kalmar."]
        );
    }
}
