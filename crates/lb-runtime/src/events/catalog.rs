//! Events as a message catalog of systemd.

use std::fmt::Write as _;

use super::{Event, all};

/// The message catalog of one daemon, in the format of systemd.
pub fn catalog(daemon: &str) -> String {
    let mut text = format!(
        "# What `journalctl -x` says about the events of {daemon}. Made from crates/lb-runtime/src/events.rs.\n"
    );
    for event in all() {
        let Some(message_id) = event.message_id(daemon) else { continue };
        let Event { subject, text: body, .. } = event;
        write!(
            text,
            "\n-- {message_id}\nSubject: {subject}\nDefined-By: {daemon}\n\
             Documentation: man:{daemon}(8)\n\n{}\n",
            wrapped(body)
        )
        .expect("a string takes everything");
    }
    text
}

/// Longest line of a catalog, in characters.
const WIDTH: usize = 78;

fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        if length > 0 {
            let fits = length + 1 + word.len() <= WIDTH;
            lines.push(if fits { ' ' } else { '\n' });
            length = if fits { length + 1 } else { 0 };
        }
        lines.push_str(word);
        length += word.len();
    }
    lines
}
