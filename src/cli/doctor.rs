//! `proxima doctor`: what this process would use, and whether that is enough, without changing anything.

use super::configuration::{Folder, Found, Refused, find};
use crate::aws::choice::{Choice, Facts};
use crate::aws::identity::{Unknown, whoami};
use crate::aws::object::Bucket;
use crate::aws::{Session, imds, place};
use crate::config::{Aws, Config, Environment, Place};
use crate::dns::api::Api;
use crate::dns::error::{ApiError, ErrorKind};
use crate::dns::rights::{Outcome, Right, rights};
use crate::error_chain::chain;
use crate::kube;
use crate::metrics::aws::AwsMetrics;
use crate::metrics::dns::DnsMetrics;
use serde::Serialize;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::time::Instant;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The configuration: a file, or s3://BUCKET/KEY.
    #[arg(long, value_name = "FILE", default_value = "proxima.toml")]
    config: Place,
    #[command(flatten)]
    folder: Folder,
    /// The region that this edge is in; wins over `edge.region`.
    #[arg(long, env = "PROXIMA_REGION")]
    region: Option<String>,
    /// The zone that this edge is in; wins over `edge.zone`.
    #[arg(long, env = "PROXIMA_ZONE")]
    zone: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What was looked at, and how it stands.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    state: State,
    /// Whether an edge is of less use without it.
    needed: bool,
    found: String,
    /// What to do about it.
    todo: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    Failed,
    NotTested,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "FAILED",
            Self::NotTested => "not tested",
        }
    }
}

impl Finding {
    fn new(what: impl Into<String>, state: State, found: impl Into<String>) -> Self {
        Self { what: what.into(), state, needed: true, found: found.into(), todo: None }
    }

    fn todo(mut self, todo: impl Into<String>) -> Self {
        self.todo = Some(todo.into());
        self
    }

    fn optional(mut self) -> Self {
        self.needed = false;
        self
    }
}

/// Prints what was found; exit 1 when something is missing that is needed.
pub fn run(arguments: &Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("proxima doctor: {error}");
            return ExitCode::FAILURE;
        }
    };
    let findings = runtime.block_on(examine(arguments));
    let well = !findings.iter().any(|finding| finding.needed && finding.state == State::Failed);
    if arguments.json {
        outln!("{}", serde_json::json!({ "ok": well, "findings": findings }));
    } else {
        out!("{}", table(&findings));
    }
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn examine(arguments: &Arguments) -> Vec<Finding> {
    let environment = Environment { region: arguments.region.clone(), zone: arguments.zone.clone() };
    let mut findings = Vec::new();
    let found = find(&arguments.config, &arguments.folder.config_dir, &environment).await;
    let read = found.and_then(|found| Ok((found.load()?, found)));
    let config = match read {
        Ok((config, found)) => {
            findings.push(configuration(&arguments.config, &config, &found));
            findings.extend(instance(&found, &environment).await);
            Some(config)
        }
        Err(refused) => {
            findings.push(unread(&arguments.config, &refused));
            None
        }
    };
    let own_place = config.as_ref().map_or_else(|| crate::app::place_of(&environment), place);
    let default = Aws::default();
    let aws = config.as_ref().map_or(&default, |config| &config.aws);
    let needed = config.as_ref().is_none_or(|config| config.dns.is_some());
    let registry = prometheus::Registry::new();
    let (Ok(metrics), Ok(dns_metrics)) = (AwsMetrics::register(&registry), DnsMetrics::register(&registry))
    else {
        return findings; // Two fresh names in a fresh registry.
    };
    let session = Session::open(aws, own_place, &Facts::of_process(), metrics).await;
    let of_aws = credentials(&session).await;
    findings.extend(of_aws.into_iter().map(|finding| if needed { finding } else { finding.optional() }));
    if let Some(config) = &config {
        findings.extend(kubernetes(config).await);
        findings.extend(archive(&session, config).await);
    }
    match config {
        Some(config) => findings.extend(route53(&session, &config, dns_metrics).await),
        None => findings.push(
            Finding::new("Route 53", State::NotTested, "which zone, the configuration does not say")
                .optional(),
        ),
    }
    findings
}

fn configuration(place: &Place, config: &Config, found: &Found) -> Finding {
    let version = found.version.as_ref().map(|version| format!(", {version}")).unwrap_or_default();
    let told = format!(
        "{place}{version}: own region {}, {} regions, {} names",
        config.policy.own,
        config.regions.len(),
        config.names.len()
    );
    Finding::new("configuration", State::Ok, told)
}

fn unread(place: &Place, refused: &Refused) -> Finding {
    match refused {
        Refused::Wrong(problems) => Finding::new(
            "configuration",
            State::Failed,
            format!("{place}: problems: {}", problems.count()),
        )
        .todo(format!("`proxima check {place}` tells each with its place")),
        Refused::Away(why) => Finding::new("configuration", State::Failed, why.clone()).todo(
            "it needs s3:GetObject of the object (deploy/iam/config.json), credentials, and a bucket that answers",
        ),
    }
}

/// Only where the configuration leaves something to it.
async fn instance(found: &Found, environment: &Environment) -> Option<Finding> {
    let wanted = found.written.from_instance(environment);
    if !wanted.region && !wanted.zone {
        return None;
    }
    Some(match imds::ask().await {
        Ok(imds::Instance { region, zone, id }) => {
            Finding::new("instance", State::Ok, format!("{id} in {region}, {zone}"))
        }
        Err(silence) => Finding::new("instance", State::Failed, silence.to_string()).todo(
            "set PROXIMA_ZONE or `edge.zone`, or raise the hop limit of the node's metadata service to 2",
        ),
    })
}

async fn credentials(session: &Session) -> Vec<Finding> {
    let Choice { source, said, unused } = match session.choice() {
        Ok(choice) => choice,
        Err(refusal) => {
            let finding = Finding::new("credentials", State::Failed, "none");
            return vec![finding.todo(refusal.to_string())];
        }
    };
    let said = said.map_or_else(|| "found".to_owned(), |place| format!("said by {place}"));
    let others: Vec<&str> = unused.iter().map(|other| other.as_str()).collect();
    let others = if others.is_empty() { String::new() } else { format!("; not used: {}", others.join(", ")) };
    let source = Finding::new("credentials", State::Ok, format!("{source}, {said}{others}"));
    let region = session.sdk().region().map_or("no region", |region| region.as_ref());
    let asked = Instant::now();
    let identity = match whoami(session).await {
        Ok(identity) => {
            let took = asked.elapsed().as_millis();
            Finding::new("identity", State::Ok, format!("{} (STS of {region}, {took} ms)", identity.arn))
        }
        Err(error) => {
            let todo = match &error {
                Unknown::Credentials(_) => {
                    "the source is there and gives nothing: for IRSA the role's trust must name this service account \
                     (sub) and the cluster's provider; for Pod Identity the association and the agent must be there"
                }
                Unknown::Refused(_) => "these credentials are not taken any more: renew them",
                Unknown::Unreachable(_) => {
                    "let this network reach the regional endpoint of STS, or make a VPC endpoint for it"
                }
            };
            Finding::new("identity", State::Failed, format!("STS of {region}: {error}")).todo(todo)
        }
    };
    vec![source, identity]
}

/// Only where the configuration asks the cluster.
async fn kubernetes(config: &Config) -> Vec<Finding> {
    let Some(settings) = &config.kubernetes else { return Vec::new() };
    let access = match kube::connect(settings).await {
        Ok(access) => access,
        Err(error) => {
            return vec![
                Finding::new("Kubernetes", State::Failed, chain(&error))
                    .todo("run it in a pod with a service account, or set `kubernetes.kubeconfig`"),
            ];
        }
    };
    let told = |kube::rights::Right { verb, resource, namespace, allowed }| {
        let what = format!("{verb} {resource} in {namespace}");
        match allowed {
            Ok(true) => Finding::new(what, State::Ok, "allowed"),
            Ok(false) => Finding::new(what, State::Failed, "denied")
                .todo("the service account needs a Role with it; the chart makes one with `rbac.create`"),
            Err(error) => Finding::new(what, State::Failed, chain(&error)).todo(
                "let this pod reach the API server; while it is away, the endpoints that were known stay",
            ),
        }
    };
    kube::rights::rights(&access, config).await.into_iter().map(told).collect()
}

/// Only where there is one.
async fn archive(session: &Session, config: &Config) -> Option<Finding> {
    let archive = config.archive.as_ref()?;
    let what = format!("PutObject {}", archive.to);
    if session.choice().is_err() {
        return Some(Finding::new(what, State::NotTested, "there are no credentials"));
    }
    let key = format!("{}/{}/doctor", archive.to.key.trim_end_matches('/'), config.policy.own);
    Some(match Bucket::of(session.clone(), &archive.to).may_put(&key).await {
        Ok(()) => Finding::new(what, State::Ok, "allowed"),
        Err(error) => Finding::new(what, State::Failed, error.to_string())
            .todo("the role needs s3:PutObject below that prefix, and kms:GenerateDataKey (deploy/iam/archive.json)"),
    })
}

async fn route53(session: &Session, config: &Config, metrics: DnsMetrics) -> Vec<Finding> {
    let Some(dns) = &config.dns else {
        let finding =
            Finding::new("Route 53", State::NotTested, "there is no [dns]: no record is read or written");
        return vec![finding.optional()];
    };
    if session.choice().is_err() {
        return vec![Finding::new("Route 53", State::NotTested, "there are no credentials")];
    }
    let api = Api::connect(dns, session, Arc::new(metrics));
    rights(&api, config).await.into_iter().map(right).collect()
}

fn right(right: Right) -> Finding {
    let Right { action, on, needed, outcome } = right;
    let what = if on.is_empty() { action.to_owned() } else { format!("{action} {on}") };
    let finding = match outcome {
        Outcome::Allowed => Finding::new(what, State::Ok, "allowed"),
        Outcome::AllowedBut(how) => Finding::new(what, State::Ok, format!("allowed: {how}")),
        Outcome::NotTested(why) => Finding::new(what, State::NotTested, why),
        Outcome::Failed(error) => {
            Finding::new(what, State::Failed, format!("{}: {}", error.kind, error.detail))
                .todo(remedy(action, &error))
        }
    };
    if needed { finding } else { finding.optional() }
}

fn remedy(action: &str, error: &ApiError) -> String {
    match error.kind {
        ErrorKind::Denied if action == "ChangeResourceRecordSets" => {
            "the role needs deploy/iam/edge.json with this zone and these names in it, or `dns.mode = \"observe\"`".to_owned()
        }
        ErrorKind::Denied => format!("the role needs route53:{action} (deploy/iam/read.json)"),
        ErrorKind::Credentials => "see `identity` above".to_owned(),
        ErrorKind::Missing => "`zone_id` of [dns] or of the name is none of this account's zones".to_owned(),
        ErrorKind::Unanswered => "let this network reach Route 53 (or `dns.endpoint`)".to_owned(),
        ErrorKind::Throttled => "others use the account's five requests a second up; try again".to_owned(),
        _ => "see the message".to_owned(),
    }
}

fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { what, state, needed, found, todo } in findings {
        let optional = if !needed && *state == State::Failed { " (not needed)" } else { "" };
        text.push_str(&format!("{what:<width$}  {:<10}  {found}{optional}\n", state.as_str()));
        if let Some(todo) = todo {
            text.push_str(&format!("{:<width$}  {:<10}  -> {todo}\n", "", ""));
        }
    }
    text
}
