//! Which credentials are taken: one source, said or found, and never the next one when it fails.
//!
//! Pure: what the process has (environment, files) is an argument. The node's role
//! is left out of what is looked for, because a pod on the host's network reaches it
//! without anybody having meant that: it has to be said.

use crate::config::CredentialSource;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Says the source from outside of the file, as `PROXIMA_REGION` says the region.
pub const STATED: &str = "PROXIMA_AWS_CREDENTIALS";

/// The variables that decide. Source: AWS SDKs and tools reference guide, "Environment variables support".
const FULL_URI: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const RELATIVE_URI: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ROLE: &str = "AWS_ROLE_ARN";
const ACCESS_KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const PROFILE: &str = "AWS_PROFILE";
const PROFILE_FILES: [(&str, &str); 2] =
    [("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config")];

/// What of credentials there is in this process's surroundings; no secret among it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    stated: Option<String>,
    /// Variables of the list above that are set and not empty.
    set: Vec<&'static str>,
    /// AWS's shared files that are there.
    files: Vec<PathBuf>,
}

impl Facts {
    /// Of the process.
    pub fn of_process() -> Self {
        Self::of(|name| std::env::var_os(name), Path::is_file)
    }

    /// Of an environment and a file system.
    fn of(variable: impl Fn(&str) -> Option<OsString>, is_file: impl Fn(&Path) -> bool) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let decisive = [FULL_URI, RELATIVE_URI, TOKEN_FILE, ROLE, ACCESS_KEY, SECRET_KEY, PROFILE];
        let home = variable("HOME").map(PathBuf::from);
        let files = PROFILE_FILES.iter().filter_map(|(name, file)| {
            let stated = variable(name).map(PathBuf::from);
            stated.or_else(|| Some(home.as_ref()?.join(".aws").join(file)))
        });
        Self {
            stated: variable(STATED).map(|value| value.to_string_lossy().into_owned()),
            set: decisive.into_iter().filter(|name| variable(name).is_some()).collect(),
            files: files.filter(|file| is_file(file)).collect(),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.set.contains(&name)
    }

    /// What a source lacks; `None`: it is there.
    fn lacks(&self, source: CredentialSource) -> Option<String> {
        let both = |one: &str, other: &str| match (self.has(one), self.has(other)) {
            (true, true) => None,
            (true, false) => Some(format!("{one} is set, {other} is not")),
            (false, true) => Some(format!("{other} is set, {one} is not")),
            (false, false) => Some(format!("{one} and {other} are not set")),
        };
        match source {
            CredentialSource::Environment => both(ACCESS_KEY, SECRET_KEY),
            CredentialSource::WebIdentity => both(TOKEN_FILE, ROLE),
            CredentialSource::PodIdentity if self.has(FULL_URI) || self.has(RELATIVE_URI) => None,
            CredentialSource::PodIdentity => Some(format!("{FULL_URI} is not set")),
            CredentialSource::Profile if self.has(PROFILE) || !self.files.is_empty() => None,
            CredentialSource::Profile => Some(format!("{PROFILE} is not set, and there is no ~/.aws")),
            // Whether it answers is found out by asking.
            CredentialSource::Node => None,
        }
    }
}

/// A source that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub source: CredentialSource,
    /// Where it was said; `None`: it was found.
    pub said: Option<&'static str>,
    /// What else is there, and is not used.
    pub unused: Vec<CredentialSource>,
}

/// Why no credentials are taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCredentials {
    /// None was said, and none is there.
    #[error(
        "there are no credentials for AWS: {}. The node's role is never taken by itself; {HOW}, or, if the node's role \
         is meant, write `credentials = \"node\"` in [aws]", Listed(.0)
    )]
    Nothing(Vec<(CredentialSource, String)>),
    /// One was said that is not there.
    #[error("{place} says \"{source_said}\", but {lacks}; {}", remedy(*.source_said))]
    Missing { place: &'static str, source_said: CredentialSource, lacks: String },
    #[error(
        "{STATED} is {0:?}; expected \"pod_identity\", \"web_identity\", \"environment\", \"profile\" or \"node\""
    )]
    Unknown(String),
}

const HOW: &str = "in a pod, give its service account a Pod Identity association or a role (IRSA)";

/// What would make a source be there.
fn remedy(source: CredentialSource) -> &'static str {
    match source {
        CredentialSource::PodIdentity => {
            "associate the pod's service account with a role (aws eks create-pod-identity-association), then start the \
             pod anew; the add-on eks-pod-identity-agent sets the variable"
        }
        CredentialSource::WebIdentity => {
            "annotate the pod's service account with eks.amazonaws.com/role-arn, then start the pod anew"
        }
        CredentialSource::Environment => "set both",
        CredentialSource::Profile => "name a profile in AWS_PROFILE, or write ~/.aws/credentials",
        CredentialSource::Node => "use another",
    }
}

struct Listed<'a>(&'a [(CredentialSource, String)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (source, lacks)) in self.0.iter().enumerate() {
            write!(f, "{}{source}: {lacks}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// Takes the source that is said (the environment before the file), else the first that is there.
///
/// # Errors
/// When the one that is said is not there, or none is.
pub fn choose(file: Option<CredentialSource>, facts: &Facts) -> Result<Choice, NoCredentials> {
    let stated = match &facts.stated {
        Some(text) => {
            let source = CredentialSource::parse(text).ok_or_else(|| NoCredentials::Unknown(text.clone()))?;
            Some((STATED, source))
        }
        None => file.map(|source| ("`aws.credentials`", source)),
    };
    let looked_for = CredentialSource::ALL.into_iter().filter(|source| *source != CredentialSource::Node);
    let (present, absent): (Vec<_>, Vec<_>) =
        looked_for.map(|source| (source, facts.lacks(source))).partition(|(_, lacks)| lacks.is_none());
    let mut present = present.into_iter().map(|(source, _)| source);
    let (source, said) = match stated {
        Some((place, source_said)) => match facts.lacks(source_said) {
            Some(lacks) => return Err(NoCredentials::Missing { place, source_said, lacks }),
            None => (source_said, Some(place)),
        },
        None => match present.next() {
            Some(source) => (source, None),
            None => {
                let absent = absent.into_iter().filter_map(|(source, lacks)| Some((source, lacks?)));
                return Err(NoCredentials::Nothing(absent.collect()));
            }
        },
    };
    Ok(Choice { source, said, unused: present.filter(|other| *other != source).collect() })
}

#[cfg(test)]
mod tests {
    use super::CredentialSource::*;
    use super::*;

    fn facts(variables: &[(&str, &str)], files: &[&str]) -> Facts {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Facts::of(variable, |path| files.iter().any(|file| Path::new(file) == path))
    }

    const KEYS: [(&str, &str); 2] = [(ACCESS_KEY, "a"), (SECRET_KEY, "b")];
    const IRSA: [(&str, &str); 2] = [(TOKEN_FILE, "t"), (ROLE, "r")];
    const POD: [(&str, &str); 1] = [(FULL_URI, "http://169.254.170.23/v1/credentials")];

    #[test]
    fn one_source_is_taken_by_what_is_said_or_there_and_never_the_nodes_unasked() {
        let home = [("HOME", "/h")];
        let all = [&KEYS[..], &IRSA, &POD, &home].concat();
        for (what, file, variables, files, source, unused) in [
            ("keys", None, &KEYS[..], &[][..], Environment, &[][..]),
            ("IRSA", None, &IRSA, &[], WebIdentity, &[]),
            ("Pod Identity", None, &POD, &[], PodIdentity, &[]),
            ("a profile by name", None, &[(PROFILE, "p")], &[], Profile, &[]),
            ("a profile by file", None, &home, &["/h/.aws/config"], Profile, &[]),
            ("all", None, &all, &["/h/.aws/config"], Environment, &[PodIdentity, WebIdentity, Profile]),
            ("all, one said", Some(WebIdentity), &all, &[], WebIdentity, &[Environment, PodIdentity]),
            ("the node's, said", Some(Node), &KEYS, &[], Node, &[Environment]),
            ("empty is not set", None, &[(ACCESS_KEY, ""), (PROFILE, "p")], &[], Profile, &[]),
            (
                "the environment wins",
                Some(Node),
                &[&KEYS[..], &[(STATED, "environment")]].concat(),
                &[],
                Environment,
                &[],
            ),
        ] {
            let choice = choose(file, &facts(variables, files)).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!((choice.source, choice.unused.as_slice()), (source, unused), "{what}");
        }
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do_and_nothing_else_is_taken_instead() {
        for (what, file, variables, words) in [
            ("nothing", None, &[][..], &["AWS_ROLE_ARN", "AWS_CONTAINER", "\"node\"", "service account"][..]),
            ("half of IRSA", None, &IRSA[..1], &["AWS_WEB_IDENTITY_TOKEN_FILE is set, AWS_ROLE_ARN is not"]),
            (
                "said, not there",
                Some(PodIdentity),
                &KEYS,
                &["`aws.credentials` says \"pod_identity\"", "associate"],
            ),
            ("said outside", None, &[(STATED, "web_identity"), KEYS[0], KEYS[1]], &[STATED, "annotate"]),
            ("misspelt", None, &[(STATED, "irsa")], &["\"irsa\"", "expected"]),
        ] {
            let refused = choose(file, &facts(variables, &[])).unwrap_err().to_string();
            for word in words {
                assert!(refused.contains(word), "{what}: {word} in {refused}");
            }
        }
    }
}
