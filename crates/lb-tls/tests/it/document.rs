//! What docs/security.md says of rights, against the tables that count.

use std::{fs, path::Path};

use lb_tls::{
    Role,
    rights::{AT_SERVER, AT_WORKER, Right},
};

/// The rows of all tables whose columns are an RPC and four roles: path, and who may.
fn documented() -> Vec<(String, [bool; 4])> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let text = fs::read_to_string(file).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, path, worker, scaler, client, admin, _] = cells[..] else { return None };
        let path = path.strip_prefix('`')?.split('`').next()?;
        let may = [worker, scaler, client, admin].map(|cell| cell != "no");
        path.starts_with('/').then(|| (path.to_owned(), may))
    };
    text.lines().filter_map(row).collect()
}

#[test]
fn the_page_says_what_the_tables_say() {
    let roles = [Role::Worker, Role::Scaler, Role::Client, Role::Admin];
    let row =
        |right: &Right| (right.path.to_owned(), roles.map(|role| right.roles.contains(&role)));
    let tables: Vec<_> = AT_SERVER.iter().chain(AT_WORKER).map(row).collect();
    assert_eq!(documented(), tables);
}
