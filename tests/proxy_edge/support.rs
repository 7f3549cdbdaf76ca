//! Edges in this process, each with a snapshot, a view and outcomes of its own.

use arc_swap::ArcSwap;
use proxima::clock::{Clock, Heartbeat};
use proxima::config::{Config, Environment};
use proxima::domain::endpoint::Endpoint;
use proxima::domain::fleet::{Fleet, Input, OutcomeResult, OutcomeRun, Output};
use proxima::domain::health::State;
use proxima::domain::name::{RegionId, ServiceId};
use proxima::domain::snapshot::{Candidate, Place, ServiceSnapshot, Snapshot};
use proxima::domain::time::Time;
use proxima::metrics::request::RequestMetrics;
use proxima::peer::Board;
use proxima::proxy::{Edge, Error, Phase, Wiring};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// Longest time for anything that should happen soon.
pub const SOON: Duration = Duration::from_secs(10);

pub fn region(name: &str) -> RegionId {
    RegionId::parse(name).unwrap()
}

pub fn service(name: &str) -> ServiceId {
    ServiceId::parse(name).unwrap()
}

/// Waits for a condition; fails with its name.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// An authority that signs certificates into files of a folder of its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub folder: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("proxy-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // OpenSSL takes a leaf with the subject of its issuer for self-signed.
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    pub fn roots(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Signs a certificate for a name; the same name again overwrites the files.
    pub fn sign(&self, name: &str) -> Files {
        self.sign_as(name, CertificateParams::new(vec![name.to_owned()]).unwrap())
    }

    /// The same, of a certificate that is over.
    pub fn sign_expired(&self, name: &str) -> Files {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        self.sign_as(name, params)
    }

    fn sign_as(&self, name: &str, mut params: CertificateParams) -> Files {
        let key = KeyPair::generate().unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str| self.folder.join(format!("{name}.{end}"));
        let files = Files { certificate: file("pem"), key: file("key") };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // What is left over lies in cargo's folder for such things.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// What an edge is made of.
pub struct Plan {
    pub own: &'static str,
    pub protocol: &'static str,
    pub attempts: u32,
    pub read_timeout: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Self { own: "home", protocol: "http1", attempts: 3, read_timeout: "5s" }
    }
}

impl Plan {
    /// Listeners `http` and `https`, a peer listener, the service `web` for every
    /// host, and `other.example.com` for the service `other`.
    pub fn toml(&self, authority: &Authority) -> String {
        let server = authority.sign("www.example.com");
        let peer = authority.sign(&format!("peer.{}.example.net", self.own));
        let ca = authority.roots();
        // Never asked: the snapshot says where peers are.
        let regions: String = [("home", 1), ("away", 2), ("far", 3)]
            .map(|(name, port)| {
                format!(
                    "[regions.{name}]\npeer = \"127.0.0.1:{port}\"\nserver_name = \"peer.{name}.example.net\"\n"
                )
            })
            .concat();
        let service = |name: &str| {
            format!(
                "[services.{name}]\nprotocol = {:?}\nattempts = {}\nread_timeout = {:?}\nconnect_timeout = \"2s\"\nendpoints.{} = [\"127.0.0.1:1\"]\n",
                self.protocol, self.attempts, self.read_timeout, self.own
            )
        };
        format!(
            "[edge]\nregion = {:?}\n\
             [[listeners]]\nname = \"http\"\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n\
             [[listeners]]\nname = \"https\"\naddress = \"127.0.0.1:0\"\nprotocol = \"https\"\n\
             [tls]\ncertificate = {:?}\nkey = {:?}\n\
             [peer]\naddress = \"127.0.0.1:0\"\ncertificate = {:?}\nkey = {:?}\nca = {ca:?}\n\
             {regions}{}{}\
             [[routes]]\nname = \"web\"\nservice = \"web\"\nhosts = [\"*.example.com\", \"127.0.0.1\", \"localhost\"]\n\
             [[routes]]\nname = \"other\"\nservice = \"other\"\nhosts = [\"other.example.com\"]\n",
            self.own,
            server.certificate,
            server.key,
            peer.certificate,
            peer.key,
            service("web"),
            service("other"),
        )
    }

    pub fn config(&self, authority: &Authority) -> Arc<Config> {
        let text = self.toml(authority);
        let config = Config::from_text("proxima.toml", &text, &Environment::default());
        Arc::new(config.unwrap_or_else(|problems| panic!("{problems}\n{text}")))
    }
}

/// An edge that serves, and the other ends of its channels.
pub struct Running {
    pub edge: Arc<Edge>,
    pub config: Arc<Config>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub view: Arc<ArcSwap<proxima::domain::view::View>>,
    /// What it tells the other pods of its region, and they tell it.
    pub board: Arc<Board>,
    pub metrics: Arc<RequestMetrics>,
    pub registry: prometheus::Registry,
    pub phase: watch::Sender<Phase>,
    pub served: JoinHandle<()>,
    outcomes: mpsc::Receiver<OutcomeRun>,
    /// Round trips of forwarded traffic.
    pub samples: mpsc::Receiver<Input>,
    own: RegionId,
}

/// Starts an edge whose service has nowhere to go yet.
pub async fn start(plan: &Plan, authority: &Authority) -> Running {
    start_with(plan.config(authority)).await.unwrap()
}

pub async fn start_with(config: Arc<Config>) -> Result<Running, Error> {
    let own = config.policy.own.clone();
    let registry = prometheus::Registry::new();
    let metrics = Arc::new(RequestMetrics::register(&registry).unwrap());
    let (snapshot, view) = first_words(&config);
    let (outcomes, received) = mpsc::channel(64);
    let (inputs, samples) = mpsc::channel(64);
    let board = Arc::new(Board::default());
    // Snapshots of tests stand for as long as they are there.
    let heartbeat = Arc::new(Heartbeat::default());
    heartbeat.beat(Time::from_nanos(u64::MAX));
    let wiring = Wiring {
        snapshot: Arc::clone(&snapshot),
        view: Arc::clone(&view),
        board: Arc::clone(&board),
        outcomes,
        inputs,
        clock: Clock::start(),
        heartbeat: Arc::clone(&heartbeat),
        metrics: Arc::clone(&metrics),
        access_log: None,
        spans: None,
    };
    let edge = Arc::new(Edge::bind(Arc::clone(&config), wiring).await?);
    let (phase, phases) = watch::channel(Phase::Serving);
    let serving = Arc::clone(&edge);
    let served = tokio::spawn(async move { serving.serve(phases).await });
    Ok(Running {
        edge,
        config,
        snapshot,
        view,
        board,
        metrics,
        registry,
        phase,
        served,
        outcomes: received,
        samples,
        own,
    })
}

/// The snapshot and the view of a fleet that has heard nothing.
fn first_words(config: &Config) -> (Arc<ArcSwap<Snapshot>>, Arc<ArcSwap<proxima::domain::view::View>>) {
    let mut fleet = Fleet::new(Arc::clone(&config.policy), 7);
    let (mut snapshot, mut view) = (None, None);
    for output in fleet.handle(Input::Tick, Time::from_millis(1)) {
        match output {
            Output::Publish(s) => snapshot = Some(s),
            Output::View(v) => view = Some(v),
            Output::Propose(_) | Output::Operated { .. } | Output::Moved(_) => {}
        }
    }
    (Arc::new(ArcSwap::new(snapshot.unwrap())), Arc::new(ArcSwap::new(view.unwrap())))
}

impl Running {
    pub fn http(&self) -> SocketAddr {
        self.edge.addresses().listeners["http"]
    }

    pub fn https(&self) -> SocketAddr {
        self.edge.addresses().listeners["https"]
    }

    pub fn peer(&self) -> SocketAddr {
        self.edge.addresses().peer.unwrap()
    }

    /// Publishes a snapshot in which `web` has these candidates, in this order.
    pub fn route(&self, candidates: &[(&str, &[SocketAddr])]) {
        self.change(|of, own| {
            of.accepts_forwarded = candidates.iter().any(|(name, _)| region(name) == *own);
            of.states = [(own.clone(), State::Healthy)].into();
            of.candidates = candidates
                .iter()
                .map(|(name, addresses)| Candidate {
                    place: if region(name) == *own { Place::Own } else { Place::Peer },
                    region: region(name),
                    share: 1.0,
                    zones: Arc::new([]),
                    endpoints: addresses.iter().map(|a| Arc::new(Endpoint::new(*a))).collect(),
                })
                .collect();
        });
    }

    /// Publishes a snapshot with a changed service `web`.
    pub fn change(&self, change: impl FnOnce(&mut ServiceSnapshot, &RegionId)) {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        let web = snapshot.services.get_mut(&service("web")).unwrap();
        change(Arc::make_mut(web), &self.own);
        self.snapshot.store(Arc::new(snapshot));
    }

    /// The next outcome: region and result.
    pub async fn outcome(&mut self) -> (String, OutcomeResult) {
        let OutcomeRun { outcome, .. } =
            timeout(SOON, self.outcomes.recv()).await.expect("an outcome").unwrap();
        (outcome.region.to_string(), outcome.result)
    }

    /// No outcome is waiting.
    pub fn no_outcome(&mut self) -> bool {
        self.outcomes.try_recv().is_err()
    }

    /// The value of a metric's line, as the text format spells name and labels.
    pub fn metric(&self, line: &str) -> f64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no {line} in\n{text}"))
    }

    /// Closes and waits until nothing is left.
    pub async fn close(self) {
        self.phase.send_replace(Phase::Closing);
        timeout(SOON, self.served).await.expect("the edge ends").unwrap();
    }
}
