//! The table of events against what is made from it and what is written by it.

use std::{collections::BTreeSet, env, fs, path::Path};

use lb_runtime::events::{all, catalog};

/// With this variable the catalogs are written anew instead of compared.
const UPDATE: &str = "LB_UPDATE_CATALOGS";

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn catalogs_say_what_the_table_says() {
    for daemon in ["lb-server", "lb-worker", "lb-scaler"] {
        let file = root().join(format!("systemd/{daemon}.catalog"));
        let expected = catalog(daemon);
        if env::var_os(UPDATE).is_some() {
            fs::write(&file, &expected).unwrap();
        }
        let found = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == expected,
            "{} is out of date: run `{UPDATE}=1 cargo test -p lb-runtime --test events`",
            file.display()
        );
    }
}

#[test]
fn names_and_message_ids_are_sound_and_given_once() {
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for event in all() {
        assert!(names.insert(event.name), "{event:?}");
        for (_, id) in event.message_ids {
            let sound = |c: char| matches!(c, '0'..='9' | 'a'..='f');
            assert!(id.len() == 32 && id.chars().all(sound) && ids.insert(id), "{event:?}");
        }
        // A placeholder must be a field, or the journal shows it as it stands.
        for placeholder in event.text.split("@LB_").skip(1) {
            let field = placeholder.split('@').next().unwrap().to_lowercase();
            assert!(event.fields.contains(&field.as_str()), "{event:?} has no field {field}");
        }
    }
}

#[test]
fn the_table_has_every_event_that_is_written_and_no_other() {
    let mut written = BTreeSet::new();
    let packages =
        ["lb-runtime", "lb-discovery", "lb-tls", "lb-link", "lb-server", "lb-worker", "lb-scaler"];
    for package in packages {
        collect(&root().join("crates").join(package).join("src"), &mut written);
    }
    let listed: BTreeSet<String> = all().map(|event| event.name.to_owned()).collect();
    assert_eq!(written, listed);
}

/// Finds what stands in quotes after `event = `, comments left out.
fn collect(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for rest in code.flat_map(|line| line.split("event = \"").skip(1)) {
            found.extend(rest.split('"').next().map(str::to_owned));
        }
    }
}
