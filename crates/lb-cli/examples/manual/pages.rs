//! Manual pages: of commands from their command lines, of configuration files from the documented default files.
//! What neither of them says (signals, files, exit codes …) stands in `packaging/man` and is put in between.

use std::{fs, io, path::Path};

use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, italic, roman},
};

use lb_runtime::events;

use crate::{programs, settings};

/// In a hand-written part: here come the options.
const OPTIONS_MARK: &str = ".\\\" OPTIONS\n";
/// In a hand-written part: here come the events of a daemon.
const EVENTS_MARK: &str = ".\\\" EVENTS\n";
const MANUAL: &str = "lb manual";

/// Writes all pages into `folder`.
pub(crate) fn write(folder: &Path, date: &str) -> io::Result<()> {
    for (command, section) in programs() {
        commands(folder, command, section, date)?;
    }
    for (name, text) in [
        ("lb-server.toml", include_str!("../../../../packaging/lb-server.toml")),
        ("lb-worker.toml", include_str!("../../../../packaging/lb-worker.toml")),
        ("lb-scaler.toml", include_str!("../../../../packaging/lb-scaler.toml")),
    ] {
        let page = file_page(name, &settings::read(text), date);
        fs::write(folder.join(format!("{name}.5")), page + &by_hand(&format!("{name}.5"))?.after)?;
    }
    Ok(())
}

/// The pages of a command and of everything below it.
fn commands(folder: &Path, command: clap::Command, section: &str, date: &str) -> io::Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    one_command(folder, command, section, date)
}

fn one_command(folder: &Path, command: clap::Command, section: &str, date: &str) -> io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        one_command(folder, below.clone(), section, date)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let file = format!("{name}.{section}");
    let written = by_hand(&file)?;
    let page = command_page(command, &name, section, date, &written)?;
    // Between the help of an option and its possible values, mandoc wants one request for the empty line, not three.
    let page = String::from_utf8_lossy(&page).replace("\n.br\n\n.br\n", "\n.sp\n");
    fs::write(folder.join(file), page)
}

fn command_page(
    command: clap::Command,
    name: &str,
    section: &str,
    date: &str,
    written: &ByHand,
) -> io::Result<Vec<u8>> {
    let subcommands = command.has_subcommands();
    let notes = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string);
    let man = Man::new(command)
        .title(name.to_uppercase())
        .section(section)
        .date(date)
        .source(source())
        .manual(MANUAL);
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    if written.before.is_empty() {
        man.render_description_section(&mut page)?;
    }
    page.extend_from_slice(written.before.as_bytes());
    man.render_options_section(&mut page)?;
    if subcommands {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = notes {
        page.extend_from_slice(paragraphs("NOTES", &notes).as_bytes());
    }
    if written.after.is_empty() && name.starts_with("lbctl-") {
        page.extend_from_slice(b".SH \"SEE ALSO\"\n\\fBlbctl\\fR(1)\n");
    }
    page.extend_from_slice(written.after.replace(EVENTS_MARK, &events(name)).as_bytes());
    Ok(page)
}

/// What a daemon writes into the journal, and how to find it there.
fn events(daemon: &str) -> String {
    let mut roff = Roff::new();
    roff.control("SH", ["JOURNAL"]).text(prose(
        "Each kind of event has a name in the field `LB_EVENT`, a `MESSAGE_ID` by which `journalctl -x` explains it, and its \
         values in fields of their own, so that `journalctl LB_WORKER=box-1` finds all that concerns one worker.",
    ));
    for event in events::of(daemon) {
        let message_id = event.message_id(daemon).unwrap_or_default();
        let level = event.level.to_string().to_lowercase();
        roff.control("TP", []).text([bold(event.name), roman(format!(" ({level})"))]);
        roff.text([roman(format!("{}.", event.subject))]);
        if !event.fields.is_empty() {
            let fields = event.fields.iter().map(|field| format!("LB_{}", field.to_uppercase()));
            let fields = fields.collect::<Vec<_>>().join(", ");
            roff.text([roman(format!("Fields: {fields}."))]);
        }
        roff.text([roman(format!("MESSAGE_ID={message_id}"))]);
    }
    roff.render()
}

fn source() -> String {
    format!("lb {}", env!("CARGO_PKG_VERSION"))
}

fn paragraphs(heading: &str, text: &str) -> String {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (number, line) in text.lines().enumerate() {
        paragraph(&mut roff, number, [roman(line)]);
    }
    roff.render()
}

/// The first paragraph of a section begins by itself.
fn paragraph(roff: &mut Roff, number: usize, text: impl Into<Vec<Inline>>) {
    if number > 0 {
        roff.control("PP", []);
    }
    roff.text(text);
}

/// The page of a configuration file.
fn file_page(name: &str, file: &settings::File, date: &str) -> String {
    let daemon = name.trim_end_matches(".toml");
    let mut roff = Roff::new();
    roff.control("TH", [&*name.to_uppercase(), "5", date, &source(), MANUAL]);
    roff.control("SH", ["NAME"]).text([roman(format!("{name} - configuration of {daemon}"))]);
    roff.control("SH", ["SYNOPSIS"]).text([italic(format!("/etc/lb/{name}"))]);
    roff.control("SH", ["DESCRIPTION"]);
    for (number, text) in file.introduction.iter().enumerate() {
        paragraph(&mut roff, number, prose(text));
    }
    roff.control("SH", ["KEYS"]);
    for entry in &file.entries {
        match entry {
            settings::Entry::Table { name, text } => {
                roff.control("SS", [&*format!("[{name}]")]).text(prose(text));
            }
            settings::Entry::Key { name, value, is_default, text } => {
                let relation = if *is_default { " = " } else { ", for example " };
                let head = [bold(name.as_str()), roman(relation), italic(value.as_str())];
                roff.control("TP", []).text(head).text(prose(text));
            }
        }
    }
    roff.render()
}

/// What stands in backquotes is bold.
fn prose(text: &str) -> Vec<Inline> {
    let pieces = text.split('`').enumerate();
    pieces.map(|(n, piece)| if n % 2 == 0 { roman(piece) } else { bold(piece) }).collect()
}

/// The parts of a page that no program knows.
#[derive(Default)]
struct ByHand {
    before: String,
    after: String,
}

fn by_hand(file: &str) -> io::Result<ByHand> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/man");
    match fs::read_to_string(folder.join(file)) {
        Ok(text) => Ok(match text.split_once(OPTIONS_MARK) {
            Some((before, after)) => ByHand { before: before.into(), after: after.into() },
            None => ByHand { after: text, ..ByHand::default() },
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ByHand::default()),
        Err(error) => Err(error),
    }
}
