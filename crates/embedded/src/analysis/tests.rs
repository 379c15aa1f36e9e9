//! The rules as tables. Every row given to `check`, and every stem, was compared with Lucene 9.9.1.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tantivy::tokenizer::{TextAnalyzer, Tokenizer, TokenizerManager};

use super::*;

/// `term` per token; a stop word before it shows as `_`.
fn shown(analyzer: Analyzer, text: &str) -> String {
    let mut shown = Vec::new();
    for token in analyzer.analyze(text) {
        shown.resize(token.position, "_".to_owned());
        shown.push(token.text);
    }
    shown.join(" ")
}

#[track_caller]
fn check(analyzer: Analyzer, rows: &[(&str, &str, &str)]) {
    for (case, text, expected) in rows {
        assert_eq!(shown(analyzer, text), *expected, "{case}: {text:?}");
    }
}

#[test]
fn standard_words() {
    check(
        Analyzer::Standard,
        &[
            ("empty", "", ""),
            ("only punctuation", " .,;-!?\r\n\t", ""),
            ("case", "Hello WORLD", "hello world"),
            ("hyphen", "state-of-the-art", "state of the art"),
            ("domain", "see github.com.", "see github.com"),
            ("abbreviation", "e.g. this", "e.g this"),
            ("apostrophe", "can't ’tis O’Brien", "can't tis o’brien"),
            ("underscore", "foo_bar _x_ __", "foo_bar _x_"),
            ("colon", "k:a a: b", "k:a a b"),
            ("numbers", "3.14 1,000 1.a a.1 v2", "3.14 1,000 1 a a 1 v2"),
            ("mail", "me@example.org", "me example.org"),
            ("swedish", "Åsa Öberg-Äng", "åsa öberg äng"),
            ("superscript", "m² ½ ①", "m"),
            ("combining", "e\u{301}te\u{301}", "e\u{301}te\u{301}"),
            ("combining at the start", "\u{301}a", "a"),
            ("soft hyphen", "co\u{ad}op", "co\u{ad}op"),
            ("han", "漢字 々〇", "漢 字 々 〇"),
            ("hiragana", "ひらが", "ひ ら が"),
            ("katakana", "カタカナ ｶﾞ カa", "カタカナ ｶﾞ カ a"),
            ("hangul", "한국어 한a", "한국어 한a"),
            ("thai", "สวัสดีครับ ไทย", "สวัสดีครับ ไทย"),
            ("thai digits", "ก๑", "ก ๑"),
            ("thai beside latin", "กa,ข", "ก a ข"),
            ("khmer, lao, myanmar", "ភាសា ລາວ မြန်မာ", "ភាសា ລາວ မြန်မာ"),
            ("arabic", "٣٫١٤ سلام", "٣٫١٤ سلام"),
            ("hebrew", "צה\"ל ג' א'ב", "צה\"ל ג' א'ב"),
            ("roman numeral", "Ⅷ", "ⅷ"),
        ],
    );
}

#[test]
fn standard_symbols() {
    check(
        Analyzer::Standard,
        &[
            ("emoji", "I ❤ it 😀!", "i ❤ it 😀"),
            ("emoji in a row", "😀😀", "😀 😀"),
            ("emoji presentation", "❤\u{FE0F}", "❤\u{FE0F}"),
            ("text presentation", "☺\u{FE0E}", "☺"),
            ("skin", "👍🏽 🏽", "👍🏽 🏽"),
            ("family", "👨\u{200D}👩\u{200D}👧", "👨\u{200D}👩\u{200D}👧"),
            ("heart on fire", "❤\u{FE0F}\u{200D}🔥", "❤\u{FE0F}\u{200D}🔥"),
            ("flag, half a flag", "🇸🇪🇩", "🇸🇪"),
            (
                "region",
                "🏴\u{E0067}\u{E0062}\u{E007F}",
                "🏴\u{E0067}\u{E0062}\u{E007F}",
            ),
            (
                "key caps",
                "#\u{FE0F}\u{20E3} 1\u{20E3} *",
                "#\u{FE0F}\u{20E3} 1\u{20E3}",
            ),
            ("after a letter", "a😀b", "a 😀 b"),
            ("joined to a letter", "a\u{200D}😀", "a\u{200D} 😀"),
            ("signs", "© ™ € ★", "© ™ ★"),
        ],
    );
}

#[test]
fn lower_case_is_by_character() {
    check(
        Analyzer::Standard,
        &[
            ("dotted I", "İzmir", "izmir"),
            ("dotless i", "IĞDIR ı", "iğdir ı"),
            ("final sigma", "ΟΔΟΣ ς", "οδοσ ς"),
            ("sharp s", "ẞ", "ß"),
            ("beyond the first plane", "𐐀", "𐐨"),
        ],
    );
}

#[test]
fn long_words_are_cut_in_pieces() {
    let rows = [
        ("at the limit", "a".repeat(255), vec![255]),
        ("one more", "a".repeat(256), vec![255, 1]),
        ("three pieces", "a".repeat(600), vec![255, 255, 90]),
        ("two bytes", "å".repeat(256), vec![255, 1]),
        ("two units: none is halved", "𝒜".repeat(128), vec![127, 1]),
        ("thai", "ก".repeat(256), vec![255, 1]),
        (
            "connectors before a word",
            format!("{}a", "_".repeat(300)),
            vec![255],
        ),
    ];
    for (case, text, expected) in rows {
        let tokens = Analyzer::Standard.analyze(&text);
        let lengths: Vec<usize> = tokens.iter().map(|token| token.text.chars().count()).collect();
        assert_eq!(lengths, expected, "{case}");
        let positions: Vec<usize> = tokens.iter().map(|token| token.position).collect();
        assert_eq!(positions, (0..expected.len()).collect::<Vec<_>>(), "{case}");
    }
}

#[test]
fn english_leaves_holes_cuts_possessives_and_stems() {
    check(
        Analyzer::English,
        &[
            ("holes", "the quick and the dead", "_ quick _ _ dead"),
            ("trailing stop word", "turn it on", "turn"),
            ("only stop words", "to be or not to be", ""),
            ("possessives", "dog's DOGS' cat’S hen＇s", "dog dog cat hen"),
            ("possessive of a stop word", "it's a's", ""),
            ("not a possessive", "can't let's", "can't let"),
            ("not stop words here", "we have been", "we have been"),
        ],
    );
}

#[test]
fn porter_stems() {
    let rows = "caresses:caress ponies:poni ties:ti caress:caress cats:cat feed:feed agreed:agre plastered:plaster \
        bled:bled motoring:motor sing:sing conflated:conflat troubled:troubl sized:size hopping:hop tanned:tan \
        falling:fall hissing:hiss fizzed:fizz failing:fail filing:file happy:happi sky:sky relational:relat \
        conditional:condit rational:ration valenci:valenc hesitanci:hesit digitizer:digit radicalli:radic \
        differentli:differ vileli:vile analogousli:analog vietnamization:vietnam predication:predic \
        operator:oper feudalism:feudal decisiveness:decis hopefulness:hope callousness:callous formaliti:formal \
        sensitiviti:sensit sensibiliti:sensibl triplicate:triplic formative:form formalize:formal \
        electriciti:electr electrical:electr hopeful:hope goodness:good revival:reviv allowance:allow \
        inference:infer airliner:airlin gyroscopic:gyroscop adjustable:adjust defensible:defens irritant:irrit \
        replacement:replac adjustment:adjust dependent:depend adoption:adopt homologou:homolog \
        communism:commun activate:activ angulariti:angular homologous:homolog effective:effect \
        bowdlerize:bowdler probate:probat rate:rate cease:ceas controll:control roll:roll \
        as1:as1 us:us possibly:possibl ably:abli apology:apolog apologies:apolog psychology:psycholog \
        yyyying:yyyi café:café cafés:café naïvely:naïv 𐐨ing:𐐨ing";
    for row in rows.split_whitespace() {
        let (word, expected) = row.split_once(':').unwrap();
        let mut stemmed = word.to_owned();
        porter::stem(&mut stemmed);
        assert_eq!(stemmed, expected, "{word}");
    }
}

#[test]
fn swedish_leaves_holes_and_stems() {
    check(
        Analyzer::Swedish,
        &[
            ("holes", "Bilen och den röda hästen", "bil _ _ röd häst"),
            ("one stem", "jakt jakten jakter jakterna", "jakt jakt jakt jakt"),
            (
                "adjectives",
                "vänlig vänliga vänligt vänligheten",
                "vän vän vän vän",
            ),
            (
                "endings",
                "flickorna hjälplöst ansvarsfullt",
                "flick hjälplös ansvarsfull",
            ),
            ("consonant pairs", "bygd byggt friskt", "bygd bygg frisk"),
            ("short", "å ös öarna", "å ös öarn"),
            ("no possessive filter", "Anna's", "anna's"),
        ],
    );
}

#[test]
fn keyword_and_whitespace_change_nothing() {
    check(
        Analyzer::Keyword,
        &[
            ("whole", "The Cat's  Å\n", "The Cat's  Å\n"),
            ("stop word", "the", "the"),
        ],
    );
    assert_eq!(
        Analyzer::Keyword.analyze("").len(),
        1,
        "an empty value is a term, too"
    );
    check(
        Analyzer::Whitespace,
        &[
            ("kept", " The  Cat's,\tÅ-b ", "The Cat's, Å-b"),
            (
                "non-breaking",
                "a\u{A0}b\u{2007}c\u{202F}d",
                "a\u{A0}b\u{2007}c\u{202F}d",
            ),
            (
                "other spaces",
                "a\u{2003}b\u{3000}c\u{1F}d\u{B}e\u{2028}f",
                "a b c d e f",
            ),
        ],
    );
    let lengths: Vec<usize> = Analyzer::Whitespace
        .analyze(&"a".repeat(300))
        .iter()
        .map(|token| token.text.len())
        .collect();
    assert_eq!(lengths, [255, 45]);
}

#[test]
fn offsets_are_those_of_the_words() {
    let text = "«Åsas bil’s» 😀 ½ 漢字";
    let words: Vec<&str> = Analyzer::English
        .analyze(text)
        .iter()
        .map(|token| &text[token.start..token.end])
        .collect();
    assert_eq!(words, ["Åsas", "bil’s", "😀", "漢", "字"]);
}

#[test]
fn values_stand_a_gap_apart() {
    type Row = (
        &'static str,
        Analyzer,
        &'static [&'static str],
        &'static [(&'static str, usize)],
    );
    let rows: &[Row] = &[
        ("none", Analyzer::Standard, &[], &[]),
        ("one", Analyzer::Standard, &["a b"], &[("a", 0), ("b", 1)]),
        (
            "two",
            Analyzer::Standard,
            &["a b", "c"],
            &[("a", 0), ("b", 1), ("c", 102)],
        ),
        (
            "an empty one between",
            Analyzer::Standard,
            &["a", "", "b"],
            &[("a", 0), ("b", 201)],
        ),
        (
            "a hole at the end",
            Analyzer::English,
            &["cat the", "dog"],
            &[("cat", 0), ("dog", 102)],
        ),
        (
            "a hole at the start",
            Analyzer::English,
            &["cat", "the dog"],
            &[("cat", 0), ("dog", 102)],
        ),
        (
            "keywords",
            Analyzer::Keyword,
            &["a b", "c"],
            &[("a b", 0), ("c", 101)],
        ),
        (
            "our separator within",
            Analyzer::Standard,
            &["a\u{FFFF}b", "c"],
            &[("a", 0), ("b", 1), ("c", 102)],
        ),
    ];
    for (case, analyzer, values, expected) in rows {
        let found = analyzer.analyze_values(values.iter().copied());
        let found: Vec<(&str, usize)> = found
            .iter()
            .map(|(_, token)| (&*token.text, token.position))
            .collect();
        assert_eq!(found, *expected, "{case}");
        if !values.is_empty() {
            let joined = join_values(values.iter().copied());
            let (_, terms) = streamed(*analyzer, &joined);
            let terms: Vec<(&str, usize)> = terms
                .iter()
                .map(|(term, position)| (&**term, *position))
                .collect();
            assert_eq!(terms, *expected, "{case}, joined");
        }
    }
}

/// Offsets, and terms with positions, as the index sees them.
fn streamed(analyzer: Analyzer, text: &str) -> (Vec<Range<usize>>, Vec<(String, usize)>) {
    let mut offsets = Vec::new();
    let mut terms = Vec::new();
    let mut tokenizer = analyzer.tokenizer();
    let mut stream = tokenizer.token_stream(text);
    tantivy::tokenizer::TokenStream::process(&mut stream, &mut |token| {
        offsets.push(token.offset_from..token.offset_to);
        terms.push((token.text.clone(), token.position));
    });
    (offsets, terms)
}

#[test]
fn a_phrase_finds_words_beside_each_other_in_one_value_only() {
    use tantivy::schema::{IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
    use tantivy::{Index, IndexWriter, Term, collector::Count, doc, query::PhraseQuery};

    let analyzer = Analyzer::English;
    let indexing = TextFieldIndexing::default()
        .set_tokenizer(analyzer.tokenizer_name())
        .set_index_option(IndexRecordOption::WithFreqsAndPositions);
    let mut schema = Schema::builder();
    let body = schema.add_text_field("body", TextOptions::default().set_indexing_options(indexing));
    let index = Index::create_in_ram(schema.build());
    Analyzer::register_all(index.tokenizers());
    let mut writer: IndexWriter = index.writer_with_num_threads(1, 15_000_000).unwrap();
    writer
        .add_document(doc!(body => join_values(["the cats of Paris", "red houses"]).as_ref()))
        .unwrap();
    writer.commit().unwrap();
    let searcher = index.reader().unwrap().searcher();

    for (phrase, hits) in [
        ("cat of Paris", 1),
        ("cat in Paris", 1),
        ("cat Paris", 0),
        ("Paris red", 0),
        ("red house", 1),
    ] {
        let terms = analyzer.analyze(phrase);
        let terms = terms
            .iter()
            .map(|token| (token.position, Term::from_field_text(body, &token.text)));
        let query = PhraseQuery::new_with_offset(terms.collect());
        assert_eq!(searcher.search(&query, &Count).unwrap(), hits, "{phrase}");
    }
}

#[test]
fn names_and_languages() {
    for analyzer in Analyzer::ALL {
        assert_eq!(Analyzer::named(analyzer.as_str()).unwrap(), analyzer);
        let tokenizers = TokenizerManager::default();
        Analyzer::register_all(&tokenizers);
        let registered: Option<TextAnalyzer> = tokenizers.get(analyzer.tokenizer_name());
        assert!(registered.is_some(), "{analyzer:?}");
    }
    let error = Analyzer::named("klingon").unwrap_err();
    assert_eq!(error.message(), "there is no analyzer `klingon`");
    assert_eq!(
        error.remedy(),
        Some("use one of: standard, english, swedish, keyword, whitespace")
    );

    let english = LanguageAnalyzer::Own(Analyzer::English);
    let swedish = LanguageAnalyzer::Own(Analyzer::Swedish);
    for (language, expected) in [
        ("en", english),
        ("en-GB", english),
        ("EN", english),
        ("sv", swedish),
        ("sv_SE", swedish),
        ("de", LanguageAnalyzer::StandsIn),
        ("svx", LanguageAnalyzer::StandsIn),
        ("", LanguageAnalyzer::StandsIn),
        ("unspecified", LanguageAnalyzer::StandsIn),
    ] {
        assert_eq!(Analyzer::for_language(language), expected, "{language:?}");
    }
    assert_eq!(LanguageAnalyzer::StandsIn.analyzer(), Analyzer::Standard);
}

/// When this fails, a dependency or an edit has changed what existing indexes hold: raise `REVISION`, then put the
/// new number here.
#[test]
fn fingerprint_of_the_rules() {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    };
    add(version().as_bytes());
    let blocks = [
        0x20..0x530,
        0x590..0x6ff,
        0xe00..0xe80,
        0x1100..0x1200,
        0x2000..0x2c00,
        0x3040..0x3100,
        0x4e00..0x4f00,
        0x1_f300..0x1_f700,
    ];
    for character in blocks.into_iter().flatten().filter_map(char::from_u32) {
        for text in [
            format!("{character}"),
            format!("a{character}b"),
            format!("{character}\u{200D}1"),
        ] {
            add(shown(Analyzer::Standard, &text).as_bytes());
        }
    }
    let stems = "relat condit digit hop bil flick frihet vänlig bygg hjälplös skön möt";
    let endings = "s es ed eed ing ational bility logies ness ement ize y heterna orna ast löst fullt igt gd arnas ades";
    for (stem, ending) in stems
        .split(' ')
        .flat_map(|stem| endings.split(' ').map(move |ending| (stem, ending)))
    {
        for analyzer in Analyzer::ALL {
            add(shown(analyzer, &format!("{stem}{ending}")).as_bytes());
        }
    }
    assert_eq!(hash, 2_130_320_009_451_371_082);
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-zA-Z0-9_.,:;'’ #*åäöÅÄÖéİΣςאבกขั\u{301}\u{ad}\u{200d}\u{fe0e}\u{fe0f}\u{20e3}漢字ひアー한½²😀👍🏽🇸🇪❤ℹ©\u{ffff}]{0,40}",
        "([aå_ก\u{301}\u{200d}😀]{1,3}){200,600}",
    ]
}

proptest! {
    #[test]
    fn any_text_is_analyzed_in_order(text in any_text()) {
        for analyzer in Analyzer::ALL {
            let tokens = analyzer.analyze(&text);
            for token in &tokens {
                prop_assert!(text.get(token.start..token.end).is_some(), "{analyzer:?}: {token:?}");
                prop_assert!(analyzer == Analyzer::Keyword || !token.text.is_empty());
            }
            for pair in tokens.windows(2) {
                prop_assert!(pair[0].end <= pair[1].start, "{analyzer:?}: {pair:?}");
                prop_assert!(pair[0].position < pair[1].position, "{analyzer:?}: {pair:?}");
            }
        }
    }

    #[test]
    fn the_index_sees_what_values_are_analyzed_to(values in prop::collection::vec(any_text(), 1..4)) {
        let joined = join_values(values.iter().map(String::as_str));
        let plain: Vec<String> = values.iter().map(|value| value.replace('\u{FFFF}', "\u{FFFE}")).collect();
        for analyzer in Analyzer::ALL {
            let expected = analyzer.analyze_values(plain.iter().map(String::as_str));
            let (offsets, terms) = streamed(analyzer, &joined);
            prop_assert_eq!(terms.len(), expected.len());
            for ((offset, term), (value, token)) in offsets.iter().zip(&terms).zip(&expected) {
                prop_assert_eq!(term, &(token.text.clone(), token.position));
                prop_assert_eq!(&joined[offset.clone()], &plain[*value][token.start..token.end]);
            }
        }
    }
}
