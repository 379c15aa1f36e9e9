//! The same tokens from every engine: what analyzers make of text, asked for term by term.

use std::collections::{BTreeMap, BTreeSet};

use instep_core::{FieldType, Mapping, Settings};

use super::clauses::{phrase, term};
use super::fixture::{ask, done, ids, put, querying};
use super::{Failures, Subject};

/// Analyzer, text, its tokens in order; `_` where a stop word was. As OpenSearch 3 answers `_analyze`.
const ROWS: [(&str, &str, &str); 43] = [
    (
        "standard",
        "Hello, WORLD! state-of-the-art",
        "hello|world|state|of|the|art",
    ),
    (
        "standard",
        "e.g. this can't ’tis O’Brien's",
        "e.g|this|can't|tis|o’brien's",
    ),
    (
        "standard",
        "foo_bar k:a 3.14 1,000 v2 2nd U.S.A.",
        "foo_bar|k:a|3.14|1,000|v2|2nd|u.s.a",
    ),
    (
        "standard",
        "me@example.org Åsa Öberg-Äng",
        "me|example.org|åsa|öberg|äng",
    ),
    ("standard", "m² ½ ① Ⅷ ẞ İzmir ΟΔΟΣ", "m|ⅷ|ß|izmir|οδοσ"),
    (
        "standard",
        "漢字 々〇 ひらが カタカナ 한국어",
        "漢|字|々|〇|ひ|ら|が|カタカナ|한국어",
    ),
    ("standard", "สวัสดีครับ ٣٫١٤ سلام צה\"ל", "สวัสดีครับ|٣٫١٤|سلام|צה\"ל"),
    (
        "standard",
        "I ❤ it 😀! 👨\u{200d}👩\u{200d}👧 🇸🇪",
        "i|❤|it|😀|👨\u{200d}👩\u{200d}👧|🇸🇪",
    ),
    ("standard", "éclair éclair co\u{ad}op", "éclair|éclair|co\u{ad}op"),
    ("english", "running runs runner ran", "run|run|runner|ran"),
    (
        "english",
        "flies dying skies ponies caresses cats",
        "fli|dy|ski|poni|caress|cat",
    ),
    (
        "english",
        "agreed plastered motoring sing conflated troubled sized",
        "agre|plaster|motor|sing|conflat|troubl|size",
    ),
    (
        "english",
        "hopping falling hissing fizzed failing filing",
        "hop|fall|hiss|fizz|fail|file",
    ),
    (
        "english",
        "happy sky relational conditional rational digitizer",
        "happi|sky|relat|condit|ration|digit",
    ),
    (
        "english",
        "conformably radically differently vilely analogously",
        "conform|radic|differ|vile|analog",
    ),
    (
        "english",
        "vietnamization predication operator feudalism",
        "vietnam|predic|oper|feudal",
    ),
    (
        "english",
        "decisiveness hopefulness callousness formality sensitivity sensibility",
        "decis|hope|callous|formal|sensit|sensibl",
    ),
    (
        "english",
        "triplicate formative formalize electrical hopeful goodness",
        "triplic|form|formal|electr|hope|good",
    ),
    (
        "english",
        "revival allowance inference airliner adjustable defensible irritant",
        "reviv|allow|infer|airlin|adjust|defens|irrit",
    ),
    (
        "english",
        "replacement adjustment dependent adoption homologous communism",
        "replac|adjust|depend|adopt|homolog|commun",
    ),
    (
        "english",
        "activate angularity effective bowdlerize probate rate cease",
        "activ|angular|effect|bowdler|probat|rate|ceas",
    ),
    (
        "english",
        "controlling rolling news innings generously generic",
        "control|roll|new|in|gener|gener",
    ),
    (
        "english",
        "the dog's bone and a dogs' home with O'Brien's",
        "_|dog|bone|_|_|dog|home|_|o'brien",
    ),
    (
        "english",
        "I'm not there, they don't know if it is such",
        "i'm|_|_|_|don't|know",
    ),
    (
        "english",
        "naïve cafés 1,000.5 x2s Königs",
        "naïv|café|1,000.5|x2|könig",
    ),
    ("swedish", "bil bilen bilar bilarna bilens", "bil|bil|bil|bil|bil"),
    (
        "swedish",
        "flicka flickan flickor flickorna",
        "flick|flickan|flick|flick",
    ),
    ("swedish", "hus huset husen husets", "hus|huset|hus|huset"),
    ("swedish", "klokhet klokast friskt fröken", "klok|klok|frisk|frök"),
    ("swedish", "röda rött rödaste", "röd|rött|röd"),
    (
        "swedish",
        "arbete arbeten arbetar arbetade arbetande",
        "arbet|arbet|arbet|arbet|arbet",
    ),
    (
        "swedish",
        "jaktkarl jaktkarlar jaktkarlarna jaktkarlens",
        "jaktkarl|jaktkarl|jaktkarl|jaktkarl",
    ),
    ("swedish", "vacker vackra vackrast", "vack|vackr|vackr"),
    ("swedish", "verkligheten möjligheter möjlighetens", "verk|möj|möj"),
    (
        "swedish",
        "konstnärer konstnärerna landskapet porträtten",
        "konstnär|konstnär|landskapet|porträt",
    ),
    (
        "swedish",
        "kvinna kvinnor drömmarnas skogens sjöarna",
        "kvinn|kvinn|drömm|skog|sjöarn",
    ),
    (
        "swedish",
        "och att en ett med för den här bilen som inte är min",
        "_|_|_|_|_|_|_|_|bil",
    ),
    (
        "swedish",
        "SJ:s Åmål ägare löslig lösligt fullt",
        "sj:s|åmål|ägar|lös|lös|fullt",
    ),
    ("keyword", "The Quick Brown Fox", "The Quick Brown Fox"),
    ("keyword", "  spaces kept  ", "  spaces kept  "),
    ("keyword", "Ångström", "Ångström"),
    (
        "whitespace",
        "The Quick, brown\tfox's  tail",
        "The|Quick,|brown|fox's|tail",
    ),
    ("whitespace", "3.14 a-b 漢字 漢\u{3000}字", "3.14|a-b|漢字|漢|字"),
];

/// Each token finds exactly the texts that hold it, each word that is no token finds nothing, and each text is found as a
/// phrase of itself.
pub async fn analyzers(subject: Subject<'_>) {
    let names: BTreeSet<&str> = ROWS.iter().map(|(name, ..)| *name).collect();
    let mapping = Mapping {
        fields: names
            .iter()
            .map(|name| {
                let kind = FieldType::Text {
                    analyzer: (*name).to_owned(),
                    keyword: false,
                };
                (format!("by_{name}"), kind)
            })
            .collect(),
        language: "en".into(),
    };
    let index = subject.index("analyzers");
    subject.engine.drop_index(&index).await.expect("drop");
    subject
        .engine
        .ensure(&index, &mapping, &Settings::new())
        .await
        .expect("ensure");
    let writes = ROWS.iter().enumerate().map(|(at, (name, text, _))| {
        let source = serde_json::json!({ format!("by_{name}"): text });
        put(&format!("{at:02}"), &source.to_string(), 1)
    });
    done(subject.engine, &index, writes.collect()).await;
    subject.engine.refresh(&index).await.expect("refresh");
    // By field and token; words as they stand in the text are none unless they are also tokens.
    let mut holding: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for (at, (name, text, tokens)) in ROWS.iter().enumerate() {
        for word in text.split_whitespace() {
            holding.entry((name, word)).or_default();
        }
        for token in tokens
            .split('|')
            .filter(|token| !token.is_empty() && *token != "_")
        {
            holding
                .entry((name, token))
                .or_default()
                .insert(format!("{at:02}"));
        }
    }
    let index = [index];
    let mut failures = Failures::default();
    for ((name, token), expected) in holding {
        let found = ask(subject, &index, querying(term(&format!("by_{name}"), token))).await;
        failures.check(
            format!("{name}: `{token}`"),
            found
                .map(|found| ids(&found).into_iter().collect())
                .map_err(|error| error.to_string()),
            Ok(expected),
        );
    }
    for (at, (name, text, _)) in ROWS.iter().enumerate() {
        let found = ask(subject, &index, querying(phrase(&format!("by_{name}"), text))).await;
        failures.check(
            format!("{name}: the phrase `{text}`"),
            found
                .map(|found| ids(&found).contains(&format!("{at:02}")))
                .map_err(|error| error.to_string()),
            Ok(true),
        );
    }
    failures.none();
    subject.engine.drop_index(&index[0]).await.expect("drop");
}
