//! Scripts that do not part words by spaces.

/// Chinese and Japanese: a character is a syllable or a word.
pub(crate) fn is_ideographic(c: char) -> bool {
    // Neither is the dot between names, nor the double hyphen.
    !matches!(c, '\u{30a0}' | '\u{30fb}')
        && matches!(c, '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{3ffff}')
}

/// Thai, Lao, Burmese, Khmer: a character is a letter or a mark of one.
pub(crate) fn is_run_together(c: char) -> bool {
    let is_mark = matches!(c, '\u{e2f}' | '\u{e3f}' | '\u{e4f}' | '\u{e5a}' | '\u{e5b}' | '\u{104a}'..='\u{104f}' | '\u{17d4}'..='\u{17db}');
    !is_mark && matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}')
}

/// A mark that belongs to the letter before it and is none itself: signs that join or alter letters of Indian scripts.
pub(crate) fn is_joining_mark(c: char) -> bool {
    matches!(
        c,
        '\u{93c}'
            | '\u{94d}'
            | '\u{9bc}'
            | '\u{9cd}'
            | '\u{a3c}'
            | '\u{a4d}'
            | '\u{abc}'
            | '\u{acd}'
            | '\u{b3c}'
            | '\u{b4d}'
            | '\u{bcd}'
            | '\u{c4d}'
            | '\u{cbc}'
            | '\u{ccd}'
            | '\u{d4d}'
            | '\u{dca}'
    )
}
