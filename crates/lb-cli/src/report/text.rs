//! Text that came from elsewhere, made fit for a page and for a terminal.

/// The text with everything that means something to HTML taken out of its meaning, for use between
/// tags and in quoted attributes. Control characters become spaces.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            control if control.is_control() => escaped.push(' '),
            other => escaped.push(other),
        }
    }
    escaped
}

/// The text without control characters, which could rule a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

/// The beginning and the end of a name too long for so many columns: ids often differ in either.
pub(super) fn shortened(name: &str, columns: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= columns {
        return name.to_owned();
    }
    let tail = columns.saturating_sub(1) / 2;
    let head = columns.saturating_sub(1) - tail;
    let (start, end) = (&letters[..head], &letters[letters.len() - tail..]);
    start.iter().chain(&['…']).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(shortened("least_load", 10), "least_load");
        assert_eq!(shortened("rack-1-node-17", 9), "rack…e-17");
        assert_eq!(shortened("rack-1", 0), "…");
        assert_eq!(printable("w\u{1b}[31m1\n"), "w[31m1");
    }

    #[test]
    fn markup_loses_its_meaning() {
        let hostile = "<b a=\"x\" c='y'>&\u{7}";
        let expected = "&lt;b a=&quot;x&quot; c=&#39;y&#39;&gt;&amp; ";
        assert_eq!(escaped(hostile), expected);
    }
}
