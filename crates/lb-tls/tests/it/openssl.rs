//! Certificates of another maker: whoever uses Ansible has them from the Python package cryptography, which sits on OpenSSL as well.
//! And the other way round: OpenSSL's judgement of ours.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lb_tls::{Choice, Expected, Role};

use crate::support::{Lab, identity, load, meet, worker};

/// Runs openssl, in the folder.
fn openssl(folder: &Path, arguments: &str) -> String {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("the program openssl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

const CONFIGURATION: &str = "
[ca]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
[server]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = URI:lb://lab/server/b1, DNS:balancer.lan
[worker]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = URI:lb://lab/worker/w1, URI:lb://lab/service/x.Y
[client]
basicConstraints = CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectAltName = URI:lb://lab/client/c1
[req]
distinguished_name = dn
[dn]
";

/// As the role `lb_pki` makes them.
fn made_by_openssl(folder: &Path) {
    fs::write(folder.join("cnf"), CONFIGURATION).unwrap();
    let key = "ecparam -name prime256v1 -genkey -noout -out";
    openssl(folder, &format!("{key} ca.key"));
    openssl(
        folder,
        "req -x509 -new -key ca.key -sha256 -days 3650 -subj /CN=some-authority -config cnf -extensions ca -out ca.crt",
    );
    for role in ["server", "worker", "client"] {
        openssl(folder, &format!("{key} {role}.sec1"));
        openssl(folder, &format!("pkcs8 -topk8 -nocrypt -in {role}.sec1 -out {role}.key"));
        openssl(
            folder,
            &format!("req -new -key {role}.key -subj /CN={role} -config cnf -out {role}.csr"),
        );
        openssl(
            folder,
            &format!(
                "x509 -req -in {role}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -sha256 -extfile cnf \
                 -extensions {role} -out {role}.crt"
            ),
        );
    }
}

#[tokio::test]
async fn certificates_of_openssl_are_believed() {
    let folder = tempfile::tempdir().unwrap();
    made_by_openssl(folder.path());
    let at = |name: String| -> Option<PathBuf> { Some(folder.path().join(name)) };
    let tls = |role: Role, key: &str| {
        let (certificate, key) = (at(format!("{role}.crt")), at(format!("{role}.{key}")));
        let choice = Choice { mode: None, ca: at("ca.crt".into()), certificate, key };
        load(role, &choice).unwrap()
    };
    let (server, node) = (tls(Role::Server, "key"), tls(Role::Worker, "sec1"));
    let client = tls(Role::Client, "key");
    for (caller, dialled, expected) in [
        (&client, &server, Expected::Server),
        (&node, &server, Expected::Server),
        (&client, &node, worker("w1")),
    ] {
        let (result, seen) = meet(dialled, caller, expected).await;
        result.unwrap();
        assert_eq!(seen.unwrap().identity, caller.identity());
    }
}

#[test]
fn openssl_believes_ours() {
    let lab = Lab::new();
    for (role, purpose) in [
        (Role::Server, "sslserver"),
        (Role::Worker, "sslserver"),
        (Role::Worker, "sslclient"),
        (Role::Client, "sslclient"),
        (Role::Admin, "sslclient"),
    ] {
        let files = lab.issue(&identity(role, "x"));
        let (ca, certificate) = (files.ca.unwrap(), files.certificate.unwrap());
        let (folder, file) = (certificate.parent().unwrap(), certificate.display());
        let verify =
            format!("verify -x509_strict -purpose {purpose} -CAfile {} {file}", ca.display());
        assert!(openssl(folder, &verify).ends_with("OK\n"), "{role}");
        let names = openssl(folder, &format!("x509 -noout -ext subjectAltName -in {file}"));
        assert!(names.contains(&format!("URI:lb://lab/{role}/x")), "{names}");
    }
}
