//! The document as a page: from its Markdown.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};

use crate::report::document;

/// The page. HTML in the text stays as it is; links to other files, which need not be there, become text.
pub(super) fn from_markdown(text: &str) -> String {
    let mut body = String::with_capacity(text.len() * 2);
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).filter(|event| {
        !matches!(event, Event::Start(Tag::Link { .. }) | Event::End(TagEnd::Link))
    });
    html::push_html(&mut body, events);
    // Wide tables scroll by themselves and not with the page.
    let body = body
        .replace("<table>", "<div class=\"scroll\"><table>")
        .replace("</table>", "</table></div>");
    document(&title(text), &body)
}

/// The first heading.
fn title(text: &str) -> String {
    let mut events = Parser::new(text);
    let top = |event: &Event<'_>| {
        matches!(event, Event::Start(Tag::Heading { level: HeadingLevel::H1, .. }))
    };
    if events.by_ref().find(top).is_none() {
        return String::new();
    }
    let words = events.take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_))));
    let texts = words.filter_map(|event| match event {
        Event::Text(text) | Event::Code(text) => Some(text.into_string()),
        _ => None,
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_becomes_a_page() {
        let page = from_markdown(
            "# Which `a` wins\n\n[there](x.md)\n\n| a | b |\n|---|---:|\n| 1 | 2 |\n\n<div>\n<svg></svg>\n</div>\n",
        );
        for part in [
            "<title>Which a wins</title>",
            "<p>there</p>",
            "<div class=\"scroll\"><table>",
            "text-align: right",
            "<div>\n<svg></svg>\n</div>",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }
}
