//! Reads a documented default file as documentation: which keys there are, and what its comments say of them.

/// A documented configuration file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct File {
    /// Paragraphs at its top.
    pub(crate) introduction: Vec<String>,
    pub(crate) entries: Vec<Entry>,
}

/// A key, or the beginning of a table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Table { name: String, text: String },
    Key { name: String, value: String, is_default: bool, text: String },
}

/// Reads a file whose comments stand above the keys they belong to. A key in a comment has no default: its value is an
/// example.
pub(crate) fn read(text: &str) -> File {
    let mut file = File::default();
    let mut comment = String::new();
    for line in text.lines() {
        let commented = line.strip_prefix('#').map(str::trim);
        if let Some((name, value)) = key(commented.unwrap_or(line)) {
            let is_default = commented.is_none();
            let text = std::mem::take(&mut comment);
            file.entries.push(Entry::Key {
                name: name.to_owned(),
                value: value.to_owned(),
                is_default,
                text,
            });
        } else if let Some(words) = commented {
            comment.push_str(if comment.is_empty() { "" } else { " " });
            comment.push_str(words);
            // An empty comment line ends a paragraph.
            if words.is_empty() {
                introduce(&mut file, &mut comment);
            }
        } else {
            let table = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            if let Some(name) = table {
                let text = std::mem::take(&mut comment);
                file.entries.push(Entry::Table { name: name.to_owned(), text });
            }
            introduce(&mut file, &mut comment);
        }
    }
    file
}

/// A comment that belongs to no key, at the top of the file.
fn introduce(file: &mut File, comment: &mut String) {
    let paragraph = std::mem::take(comment);
    if file.entries.is_empty() && !paragraph.trim().is_empty() {
        file.introduction.push(paragraph.trim().to_owned());
    }
}

fn key(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(" = ")?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    (is_name && !name.is_empty()).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(entry: &Entry) -> &str {
        match entry {
            Entry::Table { name, .. } | Entry::Key { name, .. } => name,
        }
    }

    #[test]
    fn keys_tables_and_paragraphs_are_found() {
        let text = "# One\n# two.\n#\n# Three.\n\n# What.\na = 1\n\n# Why\n# not.\n# b = 2\n\n# All.\n[t]\nc_d = \":0\"\n";
        let file = read(text);
        assert_eq!(file.introduction, ["One two.", "Three."]);
        let a = Entry::Key {
            name: "a".into(),
            value: "1".into(),
            is_default: true,
            text: "What.".into(),
        };
        assert_eq!(file.entries[0], a);
        let b = Entry::Key {
            name: "b".into(),
            value: "2".into(),
            is_default: false,
            text: "Why not.".into(),
        };
        assert_eq!(file.entries[1], b);
        assert_eq!(file.entries[2], Entry::Table { name: "t".into(), text: "All.".into() });
        assert_eq!(named(&file.entries[3]), "c_d");
    }

    #[test]
    fn every_key_of_the_default_files_is_documented() {
        for text in [
            include_str!("../../../../packaging/lb-server.toml"),
            include_str!("../../../../packaging/lb-worker.toml"),
            include_str!("../../../../packaging/lb-scaler.toml"),
        ] {
            let file = read(text);
            assert!(!file.introduction.is_empty());
            for entry in &file.entries {
                if let Entry::Key { name, text, .. } = entry {
                    // The example of a label needs no words beside those of its table.
                    assert!(!text.is_empty() || name == "gpu", "{name} is not documented");
                }
            }
            let known = ["cluster", "local", "log"];
            assert!(known.iter().all(|key| file.entries.iter().any(|e| named(e) == *key)));
        }
    }
}
