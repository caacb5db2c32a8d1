//! Puts figures into the templates.
//!
//! The templates are minijinja's. A value that is not defined is an error wherever it would be shown, and false where a
//! template asks for it: a misspelt name cannot pass for a missing result. Filters say how a figure is shown: `time`
//! (of µs), `round_time`, `percent`, `times`, `ratio`, `thousandths`, `rate`, `count`.

use minijinja::{Environment, UndefinedBehavior, syntax::SyntaxConfig, value::Serde};
use serde_json::Value;

use crate::report::units::{count, duration, percent, rate, ratio, round_duration, times};

/// The parts of the document; the first holds the others.
const TEMPLATES: [(&str, &str); 5] = [
    ("report.md", include_str!("template/report.md")),
    ("macros.md", include_str!("template/macros.md")),
    ("method.md", include_str!("template/method.md")),
    ("simulation.md", include_str!("template/simulation.md")),
    ("decision.md", include_str!("template/decision.md")),
];

/// The document.
///
/// # Errors
/// When a template has a mistake, or shows what is not known.
pub(super) fn fill(values: &Value) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    // A tag on a line of its own leaves no line behind.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.add_filter("time", duration);
    environment.add_filter("round_time", round_duration);
    environment.add_filter("percent", percent);
    environment.add_filter("times", times);
    environment.add_filter("ratio", ratio);
    environment.add_filter("thousandths", |ratio: f64| format!("{ratio:.3}"));
    environment.add_filter("rate", rate);
    environment.add_filter("count", count);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text)?;
    }
    let text = environment.get_template("report.md")?.render(Serde(values))?;
    Ok(without_gaps(&text))
}

/// One empty line between paragraphs, however many a condition left; one line end at the end.
fn without_gaps(text: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        if !line.is_empty() || lines.last().is_some_and(|last| !last.is_empty()) {
            lines.push(line);
        }
    }
    lines.join("\n").trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests;
