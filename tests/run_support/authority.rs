//! A certificate authority whose certificates are files.

use super::Folder;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Signs peer certificates for the regions of one test.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes `NAME.pem`, `NAME.key` and `NAME-ca.pem` for a DNS name.
    pub fn sign(&self, folder: &Folder, name: &str, dns: &str) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![dns.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, dns);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        folder.write(&format!("{name}.key"), &key.serialize_pem());
        folder.write(&format!("{name}.pem"), &certificate.pem());
        folder.write(&format!("{name}-ca.pem"), &self.0.pem());
    }
}
