//! Operators who are known by the certificates of their connections.

use super::world::{Said, World};
use crate::dns_support::region;
use crate::run_support::authority::Authority;
use crate::run_support::{eventually, tls};
use std::path::PathBuf;
use std::process::Command;

const OWN: &str = "eu-west-1";

/// An admin listener with TLS, at the second edge.
struct Closed {
    world: World,
}

impl Closed {
    /// The edges run already: a reload is enough.
    async fn start() -> Self {
        let world = World::start().await;
        let (operators, strangers) = (Authority::new(), Authority::new());
        Authority::new().sign(&world.folder, "admin", "127.0.0.1");
        for name in ["carol", "mallory"] {
            operators.sign(&world.folder, name, name);
        }
        strangers.sign(&world.folder, "stranger", "carol");
        let closed = Self { world };
        closed.copy("carol-ca.pem", "operators-ca.pem");
        let path = &closed.world.files[1];
        let more = "[[admin.operators]]\nname = \"carol of ops\"\ncertificate_name = \"carol\"\n\
                    [admin.tls]\ncertificate = \"admin.pem\"\nkey = \"admin.key\"\nclient_ca = \"operators-ca.pem\"\n";
        let text = std::fs::read_to_string(path).unwrap() + more;
        closed.world.folder.write(&format!("{OWN}.toml"), &text);
        eventually("it speaks TLS", || closed.page("/live").ok());
        closed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.folder.path().join(name)
    }

    fn copy(&self, from: &str, to: &str) {
        self.world.folder.write(to, &std::fs::read_to_string(self.path(from)).unwrap());
    }

    /// A page for who shows no certificate.
    fn page(&self, path: &str) -> std::io::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n");
        let admin = self.world.edges[1].address("admin");
        tls::exchange(admin, "127.0.0.1", &self.path("admin-ca.pem"), None, &request)
    }

    /// A command by who believes the roots of a file.
    fn by(&self, ca: &str, shown: Option<&str>, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
        command.args(arguments).arg("--ca").arg(self.path(ca));
        if !arguments.contains(&"--live") {
            command.arg("--admin").arg(format!("https://{}", self.world.edges[1].address("admin")));
        }
        if let Some(name) = shown {
            command.arg("--cert").arg(self.path(&format!("{name}.pem")));
            command.arg("--key").arg(self.path(&format!("{name}.key")));
        }
        Said::of(command)
    }

    fn refused(&self, (ca, shown): (&str, Option<&str>), words: &str) {
        let said = self.by(ca, shown, &["drain", OWN, "--reason", "x"]);
        assert_eq!(said.code, Some(1), "{words}: {}{}", said.out, said.error);
        assert!(said.error.contains(words), "{words} in {}", said.error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_acts_by_a_certificate_and_probes_and_scrapers_need_none() {
    let closed = Closed::start().await;
    let (ca, world) = ("admin-ca.pem", &closed.world);
    for page in ["/live", "/ready", "/metrics", "/health/edge", "/health/gate", "/snapshot", "/operator"] {
        let answer = closed.page(page).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{page}: {answer}");
    }

    // Who is no operator, is told why.
    closed.refused((ca, None), "an operator shows a token or a client certificate, and there is neither");
    closed.refused((ca, Some("mallory")), "the certificate of \"mallory\" is no operator's");
    closed
        .refused((ca, Some("stranger")), "it takes no certificate but of a root in its admin.tls.client_ca");
    closed.refused(("carol-ca.pem", Some("carol")), "its certificate must be signed by --ca");
    assert!(world.control().await.operator.drains.is_empty());
    let denied: Vec<_> = world.audit().into_iter().filter(|line| line["result"] == "denied").collect();
    assert_eq!(denied.len(), 2, "{denied:?}");
    assert!(denied[1]["why"].as_str().unwrap().contains("mallory"), "{denied:?}");
    let post = "POST /operator/freeze HTTP/1.1\r\nhost: admin\r\ncontent-type: application/json\r\n\
                content-length: 2\r\n\r\n{}";
    let (pem, key) = (closed.path("mallory.pem"), closed.path("mallory.key"));
    let admin = world.edges[1].address("admin");
    let told = tls::exchange(admin, "127.0.0.1", &closed.path(ca), Some((&pem, &key)), post).unwrap();
    assert!(told.starts_with("HTTP/1.1 403 "), "{told}");

    // The operator's name is that of the configuration, in the record and in the audit log.
    let drained = closed.by(ca, Some("carol"), &["drain", OWN, "--reason", "bad deploy"]);
    assert_eq!(drained.code, Some(0), "{}{}", drained.out, drained.error);
    assert!(drained.out.contains("by carol of ops") && drained.out.contains("INSYNC"), "{}", drained.out);
    assert_eq!(world.control().await.operator.drains[&region(OWN)].said.by, "carol of ops");
    for result in ["accepted", "written"] {
        assert_eq!(world.audited("drain", result).unwrap()["operator"], "carol of ops", "{result}");
    }
    let metrics = closed.page("/metrics").unwrap();
    for line in ["result=\"accepted\"} 1", "result=\"denied\"} 2", "result=\"written\"} 1"] {
        assert!(metrics.contains(&format!("proxima_operator_acts_total{{act=\"drain\",{line}\n")), "{line}");
    }
    // Tokens go on, and so does everything else that asks the admin listener.
    let token = closed.path("token");
    let back = closed.by(ca, None, &["undrain", OWN, "--token-file", token.to_str().unwrap()]);
    assert_eq!(back.code, Some(0), "{}{}", back.out, back.error);
    assert!(back.out.contains("by alice"), "{}", back.out);
    assert_eq!(closed.by(ca, None, &["operator", "status"]).code, Some(0));
    let live = format!("https://{}", world.edges[1].address("admin"));
    let told = closed.by(ca, None, &["explain", "--live", &live, "--host", "h", "--path", "/"]);
    assert!(told.code == Some(0) && told.out.contains("web"), "{}{}", told.out, told.error);
    closed.rotated();
}

impl Closed {
    /// Files that change are followed, and what they no longer say holds no longer.
    fn rotated(&self) {
        self.copy("stranger-ca.pem", "operators-ca.pem");
        let freeze = ["freeze", "--all", "--reason", "rotated", "--no-wait"];
        eventually("the new roots hold", || {
            let said = self.by("admin-ca.pem", Some("stranger"), &freeze);
            said.out.contains("in force at https://").then_some(())
        });
        self.refused(("admin-ca.pem", Some("carol")), "it takes no certificate but of a root in its");
        Authority::new().sign(&self.world.folder, "next", "127.0.0.1");
        self.copy("next.key", "admin.key");
        self.copy("next.pem", "admin.pem");
        eventually("the new certificate is shown", || {
            let said = self.by("next-ca.pem", None, &["operator", "status"]);
            (said.code == Some(0)).then_some(())
        });
        self.refused(("admin-ca.pem", Some("stranger")), "its certificate must be signed by --ca");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_the_wrong_protocol_or_lacks_a_file_is_told_which_one() {
    let closed = Closed::start().await;
    let url = |scheme: &str, edge: usize| format!("{scheme}://{}", closed.world.edges[edge].address("admin"));
    let (ca, cert, key) = (closed.path("admin-ca.pem"), closed.path("carol.pem"), closed.path("carol.key"));
    let [ca, cert, key] = [&ca, &cert, &key].map(|path| path.to_str().unwrap());
    for (code, admin, flags, words) in [
        (1, url("http", 1), vec![], "want https://"),
        (1, url("https", 0), vec!["--ca", ca], "want http://"),
        (1, url("https", 1), vec![], "needs --ca FILE"),
        (1, url("http", 0), vec!["--cert", cert, "--key", key], "--cert is shown over TLS only"),
        (1, url("https", 1), vec!["--ca", "/nowhere/ca.pem"], "cannot read /nowhere/ca.pem"),
        (1, url("https", 1), vec!["--ca", ca, "--cert", key, "--key", key], "holds no certificate"),
        (1, url("ftp", 1), vec![], "want http://HOST:PORT or https://HOST:PORT"),
        (2, url("https", 1), vec!["--ca", ca, "--cert", cert], "--key <FILE>"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
        command.args(["operator", "status", "--admin", &admin]).args(&flags);
        let said = Said::of(command);
        assert_eq!(said.code, Some(code), "{flags:?}: {}{}", said.out, said.error);
        assert!(said.error.contains(words), "{words} in {}", said.error);
    }
}
