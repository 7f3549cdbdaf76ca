//! What sslyze finds in TLS: versions, ciphers, curves, and the known attacks.

use crate::origin::Refusing;
use crate::peers::run;
use crate::run_support::{Folder, served};
use crate::support::{Authority, Files};
use crate::world::World;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use std::path::PathBuf;
use time::{Duration, OffsetDateTime};

/// A chain as public authorities make them, for Mozilla's rules are about certificates, too.
fn certificate(folder: &Folder) -> (Files, PathBuf) {
    let dated = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        params.not_after = params.not_before + Duration::days(89);
        params.use_authority_key_identifier_extension = true;
        params
    };
    let mut root = dated("authority.example.com");
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let mut leaf = dated("www.example.com");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = leaf.signed_by(&key, &root).unwrap();
    let files = Files {
        certificate: folder.write("server.pem", &leaf.pem()),
        key: folder.write("server.key", &key.serialize_pem()),
    };
    (files, folder.write("ca.pem", &root.pem()))
}

/// Mozilla's profile takes in no known attack (Heartbleed, ROBOT, CCS injection, CRIME), no insecure
/// renegotiation, and no version, cipher or curve that it does not name: there is no finding at all.
fn compliant(policy: &str, profile: &str) {
    let Some(python) = crate::peers::python() else { return };
    let folder = Folder::new();
    let (files, roots) = certificate(&folder);
    let nobody = Refusing::new();
    let services = served("web", "here", nobody.address, "/");
    let world = World::with_tls(&services, Authority::new(), &files, policy);
    let address = world.address("https").to_string();
    let (profile, roots) = (format!("--mozilla_config={profile}"), roots.to_str().unwrap());
    let arguments = ["--sni=www.example.com", "--certinfo", "--certinfo_ca_file", roots, &profile, &address];
    let output = run(&python.with_file_name("sslyze"), 90, &arguments).held(&profile);
    assert!(output.contains(&format!("{address}: OK - Compliant.")), "{output}");
}

#[test]
#[ignore = "make conformance"]
fn sslyze_finds_nothing_in_the_default_policy_that_mozilla_intermediate_does_not_allow() {
    compliant("", "intermediate");
}

#[test]
#[ignore = "make conformance"]
fn sslyze_finds_nothing_in_the_modern_policy_that_mozilla_modern_does_not_allow() {
    compliant("policy = \"modern\"", "modern");
}
