//! Certificates of a throw-away control plane, and of the operator.

use anyhow::{Context as _, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::canary;

/// A certificate with its key, both in PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate alone.
    pub cert: String,
    /// Its private key (PKCS#8).
    pub key: String,
}

/// An authority for servers and clients. All its certificates are X.509 v3, since rustls refuses
/// older ones.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, known to nobody.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("clientgrant test bed", &[])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer =
            CertifiedIssuer::self_signed(params, new_key()?).context("cannot sign the authority's certificate")?;
        Ok(Self { issuer })
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server on this machine.
    pub fn server(&self) -> Result<Pair> {
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc", "10.0.0.1"];
        let mut params = CertificateParams::new(names.map(str::to_owned))?;
        params.distinguished_name = name("kube-apiserver", &[])?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// A certificate by which the API server knows a user and their groups.
    pub(crate) fn client(&self, user: &str, groups: &[&str]) -> Result<Pair> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(user, groups)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = new_key()?;
        let cert = params.signed_by(&key, &self.issuer).context("cannot sign a certificate")?;
        Ok(Pair { cert: cert.pem(), key: key.serialize_pem() })
    }
}

/// A private key (PKCS#8) and its public key, both in PEM.
pub(crate) fn signing_key() -> Result<(String, String)> {
    let key = new_key()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn new_key() -> Result<KeyPair> {
    let key = KeyPair::generate().context("cannot generate a key")?;
    canary::watch_pem(&key.serialize_pem());
    Ok(key)
}

fn name(common: &str, groups: &[&str]) -> Result<DistinguishedName> {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    // rcgen keeps one value for each attribute type and counts these two as different, though
    // both are encoded as the organization (2.5.4.10), which is where Kubernetes reads groups.
    let types = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
    if groups.len() > types.len() {
        bail!(
            "a client certificate of the test bed carries at most {} groups, asked for {groups:?}: \
             bind the others to the user by name",
            types.len()
        );
    }
    for (kind, group) in types.into_iter().zip(groups) {
        name.push(kind, *group);
    }
    Ok(name)
}
