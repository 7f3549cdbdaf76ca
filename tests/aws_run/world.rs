//! A stand-in for AWS with rights enforced, a role for pods, and signed requests to set both up.

use crate::gate::{Door, Gate};
use crate::ministack::Ministack;
use crate::run_support::Folder;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use time::OffsetDateTime;

/// Whom the role's trust names.
pub const SUBJECT: &str = "system:serviceaccount:proxima:proxima";
const ISSUER: &str = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE";
const ACCOUNT: &str = "000000000000";
const CALLS: &str = "calls.jsonl";
/// Where the stand-in is in the world.
pub const REGION: &str = "eu-west-1";

/// AWS, as far as it is here.
pub struct World {
    pub stand_in: Ministack,
    judged: Folder,
}

/// A call that the stand-in judged.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct Call {
    /// Whose; `test` is the account's root.
    key: String,
    pub action: String,
    pub allowed: bool,
}

/// An answer: its status, and all of its text.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl World {
    /// `None`, said aloud, where there is no stand-in.
    pub async fn start() -> Option<Self> {
        let settings = [("AUTH", "true"), ("MINISTACK_IMDS_V2_REQUIRED", "1"), ("MINISTACK_REGION", REGION)];
        let judged = Folder::new();
        Some(Self { stand_in: Ministack::judging(&settings, &judged.path().join(CALLS)).await?, judged })
    }

    /// What others than the account's root have asked for so far.
    pub fn calls(&self) -> Vec<Call> {
        let lines = std::fs::read_to_string(self.judged.path().join(CALLS)).unwrap();
        let calls = lines.lines().map(|line| serde_json::from_str::<Call>(line).unwrap());
        calls.filter(|call| call.key != "test").collect()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.stand_in.address)
    }

    pub fn gate(&self, door: Door) -> Gate {
        Gate::before(self.stand_in.address, door)
    }

    /// A role that the service account's tokens may take, and that may do what this policy says.
    pub fn role(&self, name: &str, policy: &str) -> String {
        let provider = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}");
        let trust = serde_json::json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": { "Federated": provider }, "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": { "StringEquals": { format!("{ISSUER}:sub"): SUBJECT } },
        }] });
        self.iam(&[
            ("Action", "CreateRole"),
            ("RoleName", name),
            ("AssumeRolePolicyDocument", &trust.to_string()),
        ]);
        self.allow(name, policy);
        format!("arn:aws:iam::{ACCOUNT}:role/{name}")
    }

    /// What the role may do from now on.
    pub fn allow(&self, role: &str, policy: &str) {
        self.iam(&[
            ("Action", "PutRolePolicy"),
            ("RoleName", role),
            ("PolicyName", "p"),
            ("PolicyDocument", policy),
        ]);
    }

    fn iam(&self, parameters: &[(&str, &str)]) {
        let body = form(&[parameters, &[("Version", "2010-05-08")]].concat());
        let answer = self.signed("iam", ("POST", "/"), &[], body.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// A request of the account's root.
    pub fn signed(
        &self,
        service: &str,
        (method, path): (&str, &str),
        more: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let at = self.stand_in.address;
        let now = OffsetDateTime::now_utc();
        let (date, clock) = (now.date(), now.to_hms());
        let (month, hms) = (
            u8::from(date.month()),
            [clock.0, clock.1, clock.2].iter().fold(0, |all, part| all * 100 + u32::from(*part)),
        );
        let stamp = format!("{}{month:02}{:02}T{hms:06}Z", date.year(), date.day());
        let day = &stamp[..8];
        let hash = hex(&Sha256::digest(body));
        let names = "host;x-amz-content-sha256;x-amz-date";
        let (place, query) = path.split_once('?').unwrap_or((path, ""));
        let canonical = format!(
            "{method}\n{place}\n{query}\nhost:{at}\nx-amz-content-sha256:{hash}\nx-amz-date:{stamp}\n\n{names}\n{hash}"
        );
        let scope = format!("{day}/{REGION}/{service}/aws4_request");
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let key = [day, REGION, service, "aws4_request"]
            .iter()
            .fold(b"AWS4test".to_vec(), |key, part| hmac(&key, part.as_bytes()));
        let signature = hex(&hmac(&key, to_sign.as_bytes()));
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\ncontent-length: {}\r\nx-amz-date: {stamp}\r\n\
             x-amz-content-sha256: {hash}\r\ncontent-type: application/x-www-form-urlencoded\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/{scope}, SignedHeaders={names}, Signature={signature}\r\n",
            body.len()
        );
        for (name, value) in more {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        ask(at, &format!("{request}\r\n"), body)
    }
}

/// What STS gives for a token of the role's service account: a key, its secret and its session; else what it says.
pub fn assume(sts: SocketAddr, role: &str, token: &str) -> Result<[String; 3], String> {
    let parameters = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", role),
        ("RoleSessionName", "agent"),
        ("WebIdentityToken", token),
    ];
    let body = form(&parameters);
    let head = format!(
        "POST / HTTP/1.1\r\nhost: sts.{REGION}.amazonaws.com\r\nconnection: close\r\ncontent-length: {}\r\n\
         content-type: application/x-www-form-urlencoded\r\n\r\n",
        body.len()
    );
    let answer = ask(sts, &head, body.as_bytes());
    let part =
        |name: &str| Some(answer.text.split_once(&format!("<{name}>"))?.1.split('<').next()?.to_owned());
    let parts = ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(part);
    if let (200, [Some(key), Some(secret), Some(session)]) = (answer.status, parts) {
        return Ok([key, secret, session]);
    }
    Err(answer.text)
}

fn form(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        parameters.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
    pairs.join("&")
}

fn ask(at: SocketAddr, head: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, text }
}

/// Source: RFC 2104; keys here are shorter than a block.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad =
        |with: u8| -> Vec<u8> { (0..64).map(|index| key.get(index).copied().unwrap_or(0) ^ with).collect() };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().fold(String::new(), |mut out, byte| {
        if plain(byte) {
            out.push(char::from(byte))
        } else {
            write!(out, "%{byte:02X}").unwrap()
        }
        out
    })
}

/// A token of the cluster's for a service account. The stand-in looks at what it says, not at who signed it.
pub fn token(subject: &str) -> String {
    let part = |json: serde_json::Value| base64(json.to_string().as_bytes());
    let head = part(serde_json::json!({ "alg": "RS256", "typ": "JWT" }));
    let claims = serde_json::json!({
        "iss": format!("https://{ISSUER}"), "sub": subject, "aud": ["sts.amazonaws.com"], "exp": 4_000_000_000_u64,
    });
    format!("{head}.{}.{}", part(claims), base64(b"signature"))
}

/// For URLs, without padding. Source: RFC 4648, section 5.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let six = word >> (18 - 6 * place) & 63;
            out.push(char::from(LETTERS[usize::try_from(six).unwrap()]));
        }
    }
    out
}

/// Leaves a process nothing of AWS but what the test gives it.
pub fn bare(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env_remove("PROXIMA_AWS_CREDENTIALS")
        .env("AWS_CONFIG_FILE", "/nonexistent")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        .env("AWS_REGION", REGION)
}
