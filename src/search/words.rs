//! Cuts texts, names of tools above all, into words, and writes them as an expression of the search.

/// Bytes of a query that are read.
const QUERY_BYTES_MAX: usize = 1024;

/// Words of a query that are looked for. Longer ones are prose, and their first words say what it is about.
const WORDS_MAX: usize = 16;

/// Letters of the shortest word that is taken for a plural without its last one.
const PLURAL_LETTERS_MIN: usize = 4;

/// The words of a query that count.
pub(super) fn of_query(text: &str) -> Vec<&str> {
    let mut words = words(beginning(text, QUERY_BYTES_MAX));
    words.truncate(WORDS_MAX);
    words
}

/// The words of at most the first `bytes_max` bytes of a text, with a blank between them.
pub(super) fn spaced(text: &str, bytes_max: usize) -> String {
    words(beginning(text, bytes_max)).join(" ")
}

fn beginning(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// The words of a text: letters and digits without a break, and cut before a capital that begins a word, as names of functions have
/// them.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut begin, mut previous) = (None, ' ');
    for (at, char) in text.char_indices() {
        let cuts = !char.is_alphanumeric() || begins_word(previous, char, &text[at + char.len_utf8()..]);
        if let (true, Some(from)) = (cuts, begin) {
            words.push(&text[from..at]);
            begin = None;
        }
        if char.is_alphanumeric() {
            begin.get_or_insert(at);
        }
        previous = char;
    }
    words.extend(begin.map(|from| &text[from..]));
    words
}

/// `getWeather` is cut before `W`, `HTTPServer` before `S`, and `PDFs` nowhere.
fn begins_word(previous: char, char: char, rest: &str) -> bool {
    if !char.is_uppercase() {
        return false;
    }
    let mut rest = rest.chars();
    let next = rest.next().filter(|next| next.is_lowercase());
    let is_plural = next == Some('s') && !rest.next().is_some_and(char::is_alphanumeric);
    !previous.is_uppercase() || (next.is_some() && !is_plural)
}

/// All of these words have to be there; the last one may be the beginning of one. In the syntax of FTS5.
pub(super) fn all_of(words: &[&str]) -> String {
    joined(words, " AND ")
}

/// The same for one of them at least.
pub(super) fn any_of(words: &[&str]) -> String {
    joined(words, " OR ")
}

fn joined(words: &[&str], by: &str) -> String {
    let last = words.len().saturating_sub(1);
    let words = words.iter().enumerate().map(|(place, word)| term(word, if place == last { "*" } else { "" }));
    words.collect::<Vec<_>>().join(by)
}

/// A word, or its singular, or its plural. Words hold letters and digits alone, and in quotes nothing of them is syntax.
fn term(word: &str, star: &str) -> String {
    let singular = word.strip_suffix('s').filter(|rest| rest.chars().count() + 1 >= PLURAL_LETTERS_MIN && !rest.ends_with('s'));
    let other = singular.map_or_else(|| format!("{word}s"), str::to_owned);
    format!("(\"{word}\"{star} OR \"{other}\"{star})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_as_their_authors_wrote_them() {
        let cases: [(&str, &[&str]); 10] = [
            ("getWeatherForecast", &["get", "Weather", "Forecast"]),
            ("weather.get_forecast", &["weather", "get", "forecast"]),
            ("list-all--items", &["list", "all", "items"]),
            ("HTTPServer2Go", &["HTTP", "Server2", "Go"]),
            ("s3Upload", &["s3", "Upload"]),
            ("merge PDFs, and IDs", &["merge", "PDFs", "and", "IDs"]),
            ("ÜberÄnderung", &["Über", "Änderung"]),
            ("天気を取得", &["天気を取得"]),
            ("\"; DROP -- *", &["DROP"]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text), expected, "{text}");
        }
    }

    #[test]
    fn long_texts_count_up_to_their_bound() {
        assert_eq!(of_query(&"a ".repeat(100)).len(), WORDS_MAX);
        assert_eq!(spaced("aä_b", 2), "a");
    }

    #[test]
    fn words_become_terms_and_nothing_of_them_is_syntax() {
        assert_eq!(all_of(&["issues", "NEAR"]), r#"("issues" OR "issue") AND ("NEAR"* OR "NEARs"*)"#);
        assert_eq!(any_of(&["gas", "pass"]), r#"("gas" OR "gass") OR ("pass"* OR "passs"*)"#);
    }
}
