//! Builds the world, and breaks it: processes, relays, zone server.

use super::certificates::{self, Authority, Identity};
use super::children::{self, Child, Folder, Nursery};
use super::edge_config::{EdgeConfig, Machine, peer_name};
use super::http::{self, fetch};
use super::relay::Hole;
use super::service::BEGUN_PATH;
use super::settings::{PAUSE, Setting, Wish};
use super::timeline::Timeline;
use super::world::{NAME, Region, World, ZONE};
use crate::zone_server::{self, Running, ZoneServer};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

mod relays;

use relays::Relays;

/// Ports that are nice to type; others are taken when these are not free.
const NICE_HTTP: u16 = 8080;
const NICE_HTTPS: u16 = 8443;
const NICE_API: u16 = 4580;
const NICE_DNS: u16 = 5300;
/// A process that is not ready by then will not be.
const READY_PATIENCE: Duration = Duration::from_secs(20);
/// How long a kill waits for an answer to begin.
const BEGUN_PATIENCE: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOK_PATIENCE: Duration = Duration::from_millis(500);

/// Why the world could not be built or broken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot listen on {address}")]
    Bind {
        address: IpAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("no port is free on all regions' addresses")]
    NoPort,
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Child(#[from] children::Error),
    #[error(transparent)]
    Certificates(#[from] certificates::Error),
    #[error("the zone server does not start")]
    ZoneServer(#[from] zone_server::Error),
    #[error("the zone server has no zone")]
    NoZone,
    #[error("{0} was not ready after {READY_PATIENCE:?}")]
    NotReady(String),
}

/// One region's part of the stage.
#[derive(Debug)]
struct Site {
    machine: Machine,
    config: PathBuf,
    hole: Hole,
    edge: Option<Child>,
    service: Option<Child>,
}

/// The running world.
#[derive(Debug)]
pub struct Stage {
    world: Arc<World>,
    nursery: Nursery,
    sites: Vec<Site>,
    zone: Running,
    public_http: u16,
    public_https: u16,
    ca: PathBuf,
    /// Relays; they end with the stage.
    _relays: JoinSet<()>,
}

impl Stage {
    /// Starts everything and waits until every edge is ready.
    ///
    /// # Errors
    /// Something does not start; a child's error shows the end of its log.
    pub async fn build(
        world: &Arc<World>,
        wish: &Wish,
        settings: &[Setting],
        folder: &Folder,
        timeline: &mut Timeline,
    ) -> Result<Self, Error> {
        timeline.say("zone server: Route 53's API, its health checks, and the zone's DNS");
        let zone = zone_server(world, wish).await?;
        timeline.say(&format!(
            "relays: the measured distance between {} places ({} ms at most)",
            world.len(),
            world.rtt_max().as_millis()
        ));
        let machines = world.regions().map(machine).collect::<Result<Vec<Machine>, Error>>()?;
        let holes: Vec<Hole> = world.regions().map(|_| Hole::default()).collect();
        let mut relays = Relays { world, machines: &machines, holes: &holes, tasks: JoinSet::new() };
        let public_http = relays.public(NICE_HTTP, |machine| machine.http).await?;
        let public_https = relays.public(NICE_HTTPS, |machine| machine.https).await?;
        let ways = relays.between().await?;
        let relays = relays.tasks;

        let authority = Authority::new(folder.path())?;
        let ca = authority.write()?;
        let server = server_identity(&authority, world)?;
        let mut sites = Vec::new();
        for ((own, hole), ways) in world.regions().zip(holes).zip(&ways) {
            let name = world.name(own);
            let peer = authority.identity(&format!("peer-{name}"), vec![peer_name(name)])?;
            let machine = relays_machine(&machines, own)?;
            let text = EdgeConfig {
                world,
                own,
                machine,
                public_port: public_http,
                ways,
                server: &server,
                peer: &peer,
                ca: &ca,
                zone_id: zone.zone_id().ok_or(Error::NoZone)?,
                dns_endpoint: zone.api_addr(),
                settings,
                pace: wish.pace,
            }
            .toml();
            let config = folder.path().join(format!("{name}.toml"));
            std::fs::write(&config, text).map_err(|source| Error::Write { path: config.clone(), source })?;
            sites.push(Site { machine, config, hole, edge: None, service: None });
        }
        let nursery = Nursery::new(folder.path())?;
        let world = Arc::clone(world);
        let mut stage = Self { world, nursery, sites, zone, public_http, public_https, ca, _relays: relays };
        stage.start_all(timeline).await?;
        Ok(stage)
    }

    async fn start_all(&mut self, timeline: &mut Timeline) -> Result<(), Error> {
        let world = Arc::clone(&self.world);
        timeline.say("services: one process a region");
        for region in world.regions() {
            self.start_service(region)?;
        }
        timeline.say("proxima dns bootstrap --yes: records and health checks");
        if let Some(first) = self.sites.first() {
            let config = first.config.as_os_str();
            let arguments =
                ["dns".as_ref(), "bootstrap".as_ref(), "--yes".as_ref(), "--config".as_ref(), config];
            self.nursery.start("bootstrap", &arguments)?.finished().await?;
        }
        timeline.say("proxima run: one edge a region");
        for region in world.regions() {
            self.start_edge(region)?;
        }
        for region in world.regions() {
            self.until_ready(region).await?;
        }
        Ok(())
    }

    fn start_service(&mut self, region: Region) -> Result<(), Error> {
        let name = self.world.name(region);
        let Some(site) = self.sites.get_mut(region.index()) else { return Ok(()) };
        let (address, pause) = (site.machine.service.to_string(), PAUSE.as_millis().to_string());
        let arguments =
            ["demo-child", "service", "--region", name, "--address", &address, "--pause-ms", &pause];
        site.service = Some(self.nursery.start(&format!("service-{name}"), &arguments)?);
        Ok(())
    }

    fn start_edge(&mut self, region: Region) -> Result<(), Error> {
        let name = self.world.name(region);
        let Some(site) = self.sites.get_mut(region.index()) else { return Ok(()) };
        let config = site.config.as_os_str();
        let arguments = ["demo-child".as_ref(), "edge".as_ref(), config];
        site.edge = Some(self.nursery.start(&format!("edge-{name}"), &arguments)?);
        Ok(())
    }

    async fn until_ready(&mut self, region: Region) -> Result<(), Error> {
        let name = format!("the edge of {}", self.world.name(region));
        let Some(site) = self.sites.get_mut(region.index()) else { return Ok(()) };
        let deadline = Instant::now() + READY_PATIENCE;
        loop {
            if let Some(edge) = &mut site.edge {
                edge.still_runs()?;
            }
            let looked = fetch(site.machine.admin, "/ready", LOOK_PATIENCE).await;
            if looked.is_ok_and(|answer| answer.status.is_success()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::NotReady(name));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Kills a region's service in the middle of answers; tells of how many.
    ///
    /// # Errors
    /// The process cannot be signalled.
    pub async fn kill_service(&mut self, region: Region) -> Result<u32, Error> {
        let Some(site) = self.sites.get_mut(region.index()) else { return Ok(0) };
        let deadline = Instant::now() + BEGUN_PATIENCE;
        let mut begun = 0;
        while begun == 0 && Instant::now() < deadline {
            begun = answers_begun(site.machine.service).await.unwrap_or(0);
        }
        if let Some(service) = site.service.take() {
            service.kill().await?;
        }
        Ok(begun)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// It does not start.
    pub fn revive_service(&mut self, region: Region) -> Result<(), Error> {
        self.start_service(region)
    }

    /// Silences a region: first every way in and out, so that nobody hears it die.
    ///
    /// # Errors
    /// A process cannot be signalled.
    pub async fn kill_region(&mut self, region: Region) -> Result<(), Error> {
        let Some(site) = self.sites.get_mut(region.index()) else { return Ok(()) };
        site.hole.open();
        for child in [site.edge.take(), site.service.take()].into_iter().flatten() {
            child.kill().await?;
        }
        Ok(())
    }

    /// Starts its processes again and, once the edge is ready, opens the ways.
    ///
    /// # Errors
    /// A process does not start or is not ready in time.
    pub async fn revive_region(&mut self, region: Region) -> Result<(), Error> {
        self.start_service(region)?;
        self.start_edge(region)?;
        self.until_ready(region).await?;
        if let Some(site) = self.sites.get(region.index()) {
            site.hole.close();
        }
        Ok(())
    }

    /// Whether every process that should run does.
    ///
    /// # Errors
    /// One has ended by itself; the error shows the end of its log.
    pub fn all_run(&mut self) -> Result<(), Error> {
        for site in &mut self.sites {
            for child in [&mut site.edge, &mut site.service].into_iter().flatten() {
                child.still_runs()?;
            }
        }
        Ok(())
    }

    /// Ends every child and the zone server.
    ///
    /// # Errors
    /// A process cannot be signalled.
    pub async fn strike(mut self) -> Result<(), Error> {
        for site in &mut self.sites {
            for child in [site.edge.take(), site.service.take()].into_iter().flatten() {
                child.kill().await?;
            }
        }
        self.zone.shutdown().await;
        Ok(())
    }

    pub fn machine(&self, region: Region) -> Option<Machine> {
        self.sites.get(region.index()).map(|site| site.machine)
    }

    pub fn dns(&self) -> SocketAddr {
        self.zone.dns_addr()
    }

    pub fn api(&self) -> SocketAddr {
        self.zone.api_addr()
    }

    /// Port of every region's public address.
    pub fn public_http(&self) -> u16 {
        self.public_http
    }

    /// Commands to look around with, ready to paste.
    pub fn commands(&self) -> Vec<String> {
        let mut all = Vec::new();
        let Some(region) = self.world.regions().nth(1) else { return all };
        let Some(site) = self.sites.get(region.index()) else { return all };
        let (dns, api, ca) = (self.dns(), self.api(), self.ca.display());
        let (name, user, public) = (self.world.name(region), region.user(100), region.public());
        let ask = format!("dig @{} -p {}", dns.ip(), dns.port());
        let resolve = format!("--resolve {NAME}:{}:{public} --cacert {ca}", self.public_https);
        all.push(format!(
            "# what a user in {name} gets; the shares of that entry's weights; the control record"
        ));
        all.push(format!("{ask} -b {user} +noall +answer {NAME}"));
        all.push(format!("for n in $(seq 100); do {ask} +short {name}.{NAME}; done | sort | uniq -c"));
        all.push(format!("{ask} +noall +answer _proxima.{NAME} TXT"));
        all.push("# all entries and weights".to_owned());
        let keys = "AWS_ACCESS_KEY_ID=demo AWS_SECRET_ACCESS_KEY=demo";
        let (program, config) = (self.nursery.program().display(), site.config.display());
        all.push(format!("{keys} {program} dns show --config {config}"));
        all.push(format!("# through the edge of {name}: HTTP/1.1, HTTP/2 by prior knowledge, TLS"));
        let (curl, http, https) =
            (format!("curl -si --interface {user}"), self.public_http, self.public_https);
        all.push(format!("{curl} http://{public}:{http}/"));
        all.push(format!("{curl} --http2-prior-knowledge http://{public}:{http}/"));
        all.push(format!("{curl} --http1.1 {resolve} https://{NAME}:{https}/"));
        all.push(format!("{curl} --http2 {resolve} https://{NAME}:{https}/"));
        all.push("# what that edge counts and sees".to_owned());
        all.push(format!("curl -s http://{}/metrics", site.machine.admin));
        all.push(format!("curl -s http://{}/snapshot", site.machine.admin));
        all.push("# the zone: changes of weights, health checks".to_owned());
        all.push(format!("curl -s http://{api}/zone-server/history"));
        all.push(format!("curl -s http://{api}/zone-server/health"));
        if let Some(id) = site.service.as_ref().and_then(Child::id) {
            all.push(format!("# kill the service of {name}"));
            all.push(format!("kill -9 {id}"));
        }
        if let Some(id) = site.edge.as_ref().and_then(Child::id) {
            all.push(format!("# kill the edge of {name}"));
            all.push(format!("kill -9 {id}"));
        }
        all
    }
}

async fn answers_begun(service: SocketAddr) -> Option<u32> {
    let answer: Result<http::Answer, http::Error> = fetch(service, BEGUN_PATH, LOOK_PATIENCE).await;
    std::str::from_utf8(&answer.ok()?.body).ok()?.trim().parse().ok()
}

async fn zone_server(world: &World, wish: &Wish) -> Result<Running, Error> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let settings = |api, dns| zone_server::Settings {
        load_balancers: Vec::new(),
        api: at(api),
        dns: at(dns),
        zone: Some(ZONE.to_owned()),
        places: world.places(),
        insync_delay: wish.pace.insync(),
        health_interval: wish.pace.health_interval(),
        seed: wish.seed,
        throttle: false,
    };
    match ZoneServer::start(settings(NICE_API, NICE_DNS)).await {
        Err(zone_server::Error::Bind { .. }) => Ok(ZoneServer::start(settings(0, 0)).await?),
        started => Ok(started?),
    }
}

/// Five ports that are free now; the processes bind them a moment later.
fn machine(region: Region) -> Result<Machine, Error> {
    let address = region.machine();
    let bind = || {
        let bound = std::net::TcpListener::bind((address, 0));
        bound.map_err(|source| Error::Bind { address: address.into(), source })
    };
    // All at once, so that they differ.
    let held = [bind()?, bind()?, bind()?, bind()?, bind()?];
    let port = |listener: &std::net::TcpListener| {
        listener.local_addr().map_err(|source| Error::Bind { address: address.into(), source })
    };
    let [http, https, peer, admin, service] = &held;
    Ok(Machine {
        http: port(http)?,
        https: port(https)?,
        peer: port(peer)?,
        admin: port(admin)?,
        service: port(service)?,
    })
}

fn relays_machine(machines: &[Machine], region: Region) -> Result<Machine, Error> {
    machines.get(region.index()).copied().ok_or(Error::NoPort)
}

/// One certificate for every edge: the name, and the addresses for those who use them.
fn server_identity(authority: &Authority, world: &World) -> Result<Identity, Error> {
    let mut names = vec![NAME.to_owned()];
    names.extend(world.regions().map(|region| region.public().to_string()));
    Ok(authority.identity("server", names)?)
}
