//! What a daemon calls its machine when nobody has said so.

use sysinfo::System;

/// The name of this machine as the start of an id, at most `limit` bytes; `otherwise` if it has none.
pub fn label(limit: usize, otherwise: &str) -> String {
    label_of(&System::host_name().unwrap_or_default(), limit, otherwise)
}

/// Lower case, everything unusual becomes '-', without the domain.
fn label_of(name: &str, limit: usize, otherwise: &str) -> String {
    let first = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let usual = |character: char| if character.is_ascii_alphanumeric() { character } else { '-' };
    let label: String = first.chars().map(usual).take(limit).collect();
    let label = label.trim_matches('-');
    if label.is_empty() { otherwise.to_owned() } else { label.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_become_labels() {
        let label = |name: &str| label_of(name, 54, "worker");
        assert_eq!(label("Node-7.example.org"), "node-7");
        assert_eq!(label("my_böx"), "my-b-x");
        assert_eq!(label("-"), "worker");
        assert_eq!(label(""), "worker");
        assert_eq!(label(&"x".repeat(80)).len(), 54);
    }
}
