//! Where a scenario's text comes from, and how to point at a place in it.

use std::{ops::Range, path::Path};

use super::scenario::ScenarioError;

/// The scenarios that are built in, by name.
pub(crate) const BUILT_IN: [(&str, &str); 11] = [
    ("homogeneous", include_str!("../../../../scenarios/homogeneous.toml")),
    ("unequal", include_str!("../../../../scenarios/unequal.toml")),
    ("bimodal", include_str!("../../../../scenarios/bimodal.toml")),
    ("burst", include_str!("../../../../scenarios/burst.toml")),
    ("worker-killed", include_str!("../../../../scenarios/worker-killed.toml")),
    ("worker-added", include_str!("../../../../scenarios/worker-added.toml")),
    ("overload", include_str!("../../../../scenarios/overload.toml")),
    ("sleep-10x10", include_str!("../../../../scenarios/sleep-10x10.toml")),
    ("sleep-15x10", include_str!("../../../../scenarios/sleep-15x10.toml")),
    ("burn-2", include_str!("../../../../scenarios/burn-2.toml")),
    ("burn-4", include_str!("../../../../scenarios/burn-4.toml")),
];

/// Longest scenario, in bytes: far more than anybody writes, and less than a mistaken log file.
const LENGTH_LIMIT: u64 = 1 << 20;

/// The text of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Short: of a file, without folder and ending.
    pub(super) name: String,
    /// What errors call it.
    shown: String,
    pub(super) text: String,
}

impl Source {
    /// Finds a built-in scenario, or reads a file.
    pub(super) fn find(given: &str) -> Result<Self, ScenarioError> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == given) {
            let shown = format!("built-in scenario {name}");
            return Ok(Self { name: (*name).to_owned(), shown, text: (*text).to_owned() });
        }
        let path = Path::new(given);
        let looks_like_a_file = path.extension().is_some() || given.contains('/');
        if !looks_like_a_file && !path.exists() {
            return Err(ScenarioError::Unknown { name: given.to_owned() });
        }
        let read = |source| ScenarioError::Read { path: given.to_owned(), source };
        let length = std::fs::metadata(path).map_err(read)?.len();
        if length > LENGTH_LIMIT {
            return Err(ScenarioError::Length { path: given.to_owned(), length });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self { name: stem.into_owned(), shown: given.to_owned(), text })
    }

    /// A text that is in no file.
    #[cfg(any(test, fuzzing))]
    pub(super) fn given(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), shown: name.to_owned(), text: text.to_owned() }
    }

    /// A scenario that says nothing, for when all is said by flags.
    pub(super) fn empty() -> Self {
        Self { name: "custom".to_owned(), shown: "no scenario".to_owned(), text: String::new() }
    }

    /// File and line of a place in the text.
    pub(super) fn place(&self, span: &Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(&self.text);
        format!("{}, line {}", self.shown, before.matches('\n').count() + 1)
    }

    /// What the parser of TOML has to say, with place and field.
    pub(super) fn explain(&self, error: &toml::de::Error) -> ScenarioError {
        let lines = error.message().lines().map(str::trim).filter(|line| !line.is_empty());
        let message = lines.collect::<Vec<_>>().join(", ");
        let Some(span) = error.span() else {
            return ScenarioError::Refused { place: self.shown.clone(), message };
        };
        let message = match self.field_at(span.start) {
            // The parser names unknown and missing fields itself, and no others.
            Some(field) if !message.contains("field `") => format!("{field}: {message}"),
            _ => message,
        };
        ScenarioError::Refused { place: self.place(&span), message }
    }

    /// The key whose value is at this place: the last one that begins before it.
    fn field_at(&self, offset: usize) -> Option<&str> {
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |line| offset + line);
        let is_key = |key: &&str| {
            !key.is_empty() && key.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
        };
        let keys = self.text[..end].lines().filter_map(|line| line.split_once('='));
        keys.map(|(key, _)| key.trim()).rfind(is_key)
    }
}
