//! The classes of characters that the standard tokenizer asks for.
//!
//! Where the segmentation library decides a class, it is asked, by a text of two characters of which a rule of
//! UAX #29 says whether they are joined; so our answer and its word boundaries never differ. The other classes are
//! tables of Unicode properties the library does not have.

use unicode_segmentation::UnicodeSegmentation;

pub(super) const ZERO_WIDTH_JOINER: char = '\u{200D}';
pub(super) const TEXT_PRESENTATION: char = '\u{FE0E}';
pub(super) const EMOJI_PRESENTATION: char = '\u{FE0F}';
pub(super) const KEY_CAP: char = '\u{20E3}';

/// Letters, digits and Katakana as word boundaries see them (WB13a joins them to a following `_`), and the
/// connectors themselves.
pub(super) fn is_word_or_connector(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_alphanumeric() || character == '_';
    }
    is_latin_letter(character) || are_joined(character, '_')
}

/// `_` and its kin: part of a word, but no word by themselves.
pub(super) fn is_connector(character: char) -> bool {
    matches!(
        character,
        '_' | '\u{202F}' | '\u{203F}' | '\u{2040}' | '\u{2054}' | '\u{FE33}' | '\u{FE34}' | '\u{FE4D}'
            ..='\u{FE4F}' | '\u{FF3F}'
    )
}

/// The letters with diacritics of western and central Europe, a short cut for the most frequent ones.
pub(super) fn is_latin_letter(character: char) -> bool {
    matches!(character, '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{24F}')
}

/// Combining marks, format characters and joiners: they belong to the character before them (WB4).
pub(super) fn is_extending(character: char) -> bool {
    !character.is_ascii() && !is_latin_letter(character) && are_joined(',', character)
}

/// Emoji and pictographs: Extended_Pictographic as of Unicode 12.1, the version of Lucene's tokenizer. Later versions
/// took many of them out (`★`, `♫`), for which Lucene still answers.
#[rustfmt::skip]
pub(super) fn is_pictograph(character: char) -> bool {
    matches!(
        character,
        '\u{A9}' | '\u{AE}' | '\u{203C}' | '\u{2049}' | '\u{2122}' | '\u{2139}' | '\u{2194}'..='\u{2199}'
            | '\u{21A9}'..='\u{21AA}' | '\u{231A}'..='\u{231B}' | '\u{2328}' | '\u{2388}' | '\u{23CF}'
            | '\u{23E9}'..='\u{23F3}' | '\u{23F8}'..='\u{23FA}' | '\u{24C2}' | '\u{25AA}'..='\u{25AB}'
            | '\u{25B6}' | '\u{25C0}' | '\u{25FB}'..='\u{25FE}' | '\u{2600}'..='\u{2605}'
            | '\u{2607}'..='\u{2612}' | '\u{2614}'..='\u{2685}' | '\u{2690}'..='\u{2705}'
            | '\u{2708}'..='\u{2712}' | '\u{2714}' | '\u{2716}' | '\u{271D}' | '\u{2721}' | '\u{2728}'
            | '\u{2733}'..='\u{2734}' | '\u{2744}' | '\u{2747}' | '\u{274C}' | '\u{274E}'
            | '\u{2753}'..='\u{2755}' | '\u{2757}' | '\u{2763}'..='\u{2767}' | '\u{2795}'..='\u{2797}'
            | '\u{27A1}' | '\u{27B0}' | '\u{27BF}' | '\u{2934}'..='\u{2935}' | '\u{2B05}'..='\u{2B07}'
            | '\u{2B1B}'..='\u{2B1C}' | '\u{2B50}' | '\u{2B55}' | '\u{3030}' | '\u{303D}' | '\u{3297}'
            | '\u{3299}' | '\u{1F000}'..='\u{1F0FF}' | '\u{1F10D}'..='\u{1F10F}' | '\u{1F12F}'
            | '\u{1F16C}'..='\u{1F171}' | '\u{1F17E}'..='\u{1F17F}' | '\u{1F18E}'
            | '\u{1F191}'..='\u{1F19A}' | '\u{1F1AD}'..='\u{1F1E5}' | '\u{1F201}'..='\u{1F20F}'
            | '\u{1F21A}' | '\u{1F22F}' | '\u{1F232}'..='\u{1F23A}' | '\u{1F23C}'..='\u{1F23F}'
            | '\u{1F249}'..='\u{1F3FA}' | '\u{1F400}'..='\u{1F53D}' | '\u{1F546}'..='\u{1F64F}'
            | '\u{1F680}'..='\u{1F6FF}' | '\u{1F774}'..='\u{1F77F}' | '\u{1F7D5}'..='\u{1F7FF}'
            | '\u{1F80C}'..='\u{1F80F}' | '\u{1F848}'..='\u{1F84F}' | '\u{1F85A}'..='\u{1F85F}'
            | '\u{1F888}'..='\u{1F88F}' | '\u{1F8AE}'..='\u{1F8FF}' | '\u{1F90C}'..='\u{1F93A}'
            | '\u{1F93C}'..='\u{1F945}' | '\u{1F947}'..='\u{1FFFD}'
    )
}

/// The five skin tones.
pub(super) fn is_emoji_modifier(character: char) -> bool {
    matches!(character, '\u{1F3FB}'..='\u{1F3FF}')
}

/// The letters of which two make a flag.
pub(super) fn is_regional_indicator(character: char) -> bool {
    matches!(character, '\u{1F1E6}'..='\u{1F1FF}')
}

/// The spellings inside a flag of a region: between the black flag and [`is_tag_end`].
pub(super) fn is_tag(character: char) -> bool {
    matches!(character, '\u{E0020}'..='\u{E007E}')
}

/// The end of such a spelling.
pub(super) fn is_tag_end(character: char) -> bool {
    character == '\u{E007F}'
}

/// Ideographs and Hiragana: each is a word. (Scripts Han and Hiragana.)
pub(super) fn is_word_by_itself(character: char) -> bool {
    matches!(
        character,
        '\u{2E80}'..='\u{2E99}' | '\u{2E9B}'..='\u{2EF3}' | '\u{2F00}'..='\u{2FD5}'
            | '\u{3007}' | '\u{3021}'..='\u{3029}' | '\u{3038}'..='\u{303A}'
            | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}'
            | '\u{F900}'..='\u{FA6D}' | '\u{FA70}'..='\u{FAD9}'
            | '\u{20000}'..='\u{2FA1D}' | '\u{30000}'..='\u{3FFFD}'
            | '\u{3041}'..='\u{3096}' | '\u{309D}'..='\u{309F}'
            | '\u{1B001}'..='\u{1B11F}' | '\u{1B132}' | '\u{1B150}'..='\u{1B152}' | '\u{1F200}'
    )
}

/// Thai, Lao, Khmer, Myanmar and their relatives, which put no space between words: a run is one word.
/// (Line break class Complex Context.)
pub(super) fn is_unspaced(character: char) -> bool {
    matches!(
        character,
        '\u{E01}'..='\u{E3A}' | '\u{E40}'..='\u{E4E}'
            | '\u{E81}'..='\u{E82}' | '\u{E84}' | '\u{E86}'..='\u{E8A}' | '\u{E8C}'..='\u{EA3}' | '\u{EA5}'
            | '\u{EA7}'..='\u{EBD}' | '\u{EC0}'..='\u{EC4}' | '\u{EC6}' | '\u{EC8}'..='\u{ECE}'
            | '\u{EDC}'..='\u{EDF}'
            | '\u{1000}'..='\u{103F}' | '\u{1050}'..='\u{108F}' | '\u{109A}'..='\u{109F}'
            | '\u{1780}'..='\u{17D3}' | '\u{17D7}' | '\u{17DC}'..='\u{17DD}'
            | '\u{1950}'..='\u{196D}' | '\u{1970}'..='\u{1974}'
            | '\u{1980}'..='\u{19AB}' | '\u{19B0}'..='\u{19C9}' | '\u{19DA}' | '\u{19DE}'..='\u{19DF}'
            | '\u{1A20}'..='\u{1A5E}' | '\u{1A60}'..='\u{1A7C}' | '\u{1AA0}'..='\u{1AAD}'
            | '\u{A9E0}'..='\u{A9EF}' | '\u{A9FA}'..='\u{A9FE}'
            | '\u{AA60}'..='\u{AAC2}' | '\u{AADB}'..='\u{AADF}'
            | '\u{11700}'..='\u{1171A}' | '\u{1171D}'..='\u{1172B}' | '\u{1173A}'..='\u{1173B}'
            | '\u{1173F}'..='\u{11746}'
    )
}

fn are_joined(first: char, second: char) -> bool {
    let mut buffer = [0; 8];
    let split = first.encode_utf8(&mut buffer).len();
    let length = split + second.encode_utf8(&mut buffer[split..]).len();
    let pair = std::str::from_utf8(&buffer[..length]).expect("two encoded characters are valid UTF-8");
    pair.split_word_bounds()
        .next()
        .is_some_and(|joined| joined.len() == length)
}
