//! The changelog in Debian's format, from `CHANGELOG.md`.

/// Who signs the entries; the same as in the packages.
const MAINTAINER: &str = "The lb authors <maintainers@lb.invalid>";

/// Longest line that Debian's tools accept without a word.
const WIDTH: usize = 80;

/// Turns sections `## [VERSION]` and their items into entries. What is not released yet is in `version`, and has its
/// date; so has everything else, since each package is built of one commit.
pub(crate) fn debian(markdown: &str, version: &str, date: &str) -> String {
    markdown.split("\n## [").skip(1).filter_map(|section| entry(section, version, date)).collect()
}

/// One section; none when it has no items.
fn entry(section: &str, version: &str, date: &str) -> Option<String> {
    let (name, body) = section.split_once(']')?;
    let version = if name == "Unreleased" { version } else { name };
    // An item begins with a dash; its further lines are indented.
    let text = format!("\n{}", body.replace("\n  ", " "));
    let items: String = text.lines().filter_map(|line| line.strip_prefix("- ")).map(item).collect();
    let ending = format!(" -- {MAINTAINER}  {date}\n\n");
    let head = format!("lb ({version}) unstable; urgency=medium\n\n");
    (!items.is_empty()).then(|| format!("{head}{items}\n{ending}"))
}

/// An item in lines that are short enough.
fn item(text: &str) -> String {
    let mut lines = vec!["  *".to_owned()];
    for word in text.replace('`', "").split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("    {word}")),
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_become_entries_and_empty_ones_do_not() {
        let markdown = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- `one`,\n  and more\n\n### Fixed\n\n- two\n\n## [0.1.0] - 2026-01-02\n\n- old\n\n## [0.0.1]\n";
        let entry = |version, items| {
            format!(
                "lb ({version}) unstable; urgency=medium\n\n{items}\n -- {MAINTAINER}  today\n\n"
            )
        };
        let expected =
            entry("0.2.0-1", "  * one, and more\n  * two\n") + &entry("0.1.0", "  * old\n");
        assert_eq!(debian(markdown, "0.2.0-1", "today"), expected);
    }

    #[test]
    fn long_items_are_wrapped() {
        let wrapped = item(&"word ".repeat(40));
        assert!(wrapped.lines().all(|line| line.len() <= WIDTH), "{wrapped}");
        assert_eq!(wrapped.lines().count(), 3);
    }
}
