//! `proxima check`: exit codes, and clear and quick answers to what is no configuration at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A folder of its own for one test, gone when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("proxima-config-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        File::create(&path).unwrap().write_all(content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

fn check(arguments: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    command.arg("check").args(arguments).env_remove("PROXIMA_REGION").output().unwrap()
}

/// Standard error of a check that must fail, within a generous second or two.
fn refused(path: &Path) -> String {
    #[allow(clippy::disallowed_methods)] // A test of how long a process takes.
    let began = Instant::now();
    let output = check(&[path]);
    assert!(began.elapsed() < Duration::from_secs(3), "{} took {:?}", path.display(), began.elapsed());
    assert_eq!(output.status.code(), Some(1), "{}", path.display());
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn a_right_file_is_one_line_and_exit_code_0() {
    let path = project("config/proxima.toml");
    let output = check(&[&path]);
    assert_eq!(output.status.code(), Some(0));
    let line = format!("{}: ok (3 regions, 1 service, 1 route, 1 name)\n", path.display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), line);
    assert!(output.stderr.is_empty());
}

#[test]
fn a_wrong_file_is_all_its_problems_without_colour_and_exit_code_1() {
    let path = project("tests/config/wrong/19-one-typo.toml");
    let answer = refused(&path);
    let place = format!("{}:16:1", path.display());
    assert!(answer.contains(&place) && answer.contains("did you mean `service`?"), "{answer}");
    assert!(answer.ends_with("19-one-typo.toml: 1 problem\n"), "{answer}");
    assert!(!answer.contains('\u{1b}'), "{answer}");
}

#[test]
fn what_only_the_order_of_routes_decides_is_a_note_and_exit_code_0() {
    let folder = Folder::new("notes");
    let text = fs::read_to_string(project("config/minimal.toml")).unwrap();
    let routes = "
[[routes]]
name = \"first\"
path = \"/x\"
methods = [\"GET\"]
service = \"web\"

[[routes]]
name = \"second\"
path = \"/x\"
headers = [{ name = \"x-a\" }]
service = \"web\"

[[routes]]
name = \"digits\"
path_regex = \"/u/[0-9]+\"
service = \"web\"

[[routes]]
name = \"words\"
path_regex = \"/u/[a-z0-9]+\"
service = \"web\"
";
    let output = check(&[&folder.file("notes.toml", format!("{text}{routes}").as_bytes())]);
    let notes = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{notes}");
    assert!(String::from_utf8(output.stdout).unwrap().contains(": ok ("));
    let order = "note: routes `first` and `second` both match some requests at any host: `first` wins";
    assert!(notes.contains(order), "{notes}");
    let perhaps = "note: routes `digits` and `words` may both match a path at any host: `digits` wins then";
    assert!(notes.contains(perhaps), "{notes}");
    assert_eq!(notes.matches("note: ").count(), 2, "{notes}");
    let line = 1 + text.lines().count() + routes.lines().position(|line| line.contains("second")).unwrap();
    assert!(notes.contains(&format!("notes.toml:{}:1", line - 1)), "{line} {notes}");
}

#[test]
fn a_capacity_that_each_pod_would_compare_with_its_own_load_is_a_note_until_the_pods_know_one_another() {
    let folder = Folder::new("capacity");
    let region = |own: &str, edge: &str, more: &str| {
        format!(
            "[edge]\nregion = \"{own}\"\n{edge}\n[[listeners]]\nname = \"http\"\naddress = \"127.0.0.1:0\"\n\
             [peer]\naddress = \"127.0.0.1:0\"\ncertificate = \"a.pem\"\nkey = \"a.key\"\nca = \"ca.pem\"\n\
             [regions.a]\npeer = \"peer.a.test:8443\"\n[regions.b]\npeer = \"peer.b.test:8443\"\n{more}\n\
             [admin]\naddress = \"127.0.0.1:0\"\n\
             [services.web]\nendpoints.b = [\"127.0.0.1:1\"]\n[[routes]]\nname = \"web\"\nservice = \"web\"\n"
        )
    };
    let (capacity, siblings) = ("capacity = 100", "siblings = \"pods.test:8443\"");
    for (own, edge, more, notes) in [
        ("b", "", capacity, 1),
        ("b", siblings, capacity, 0),
        // Another region's is for its own pods to compare.
        ("a", "", capacity, 0),
        ("b", "", "", 0),
        ("b", "", "[services.web.capacity]\nb = 100", 1),
        ("b", siblings, "[services.web.capacity]\nb = 100", 0),
        ("a", "", "[services.web.capacity]\nb = 100", 0),
    ] {
        let output = check(&[&folder.file("capacity.toml", region(own, edge, more).as_bytes())]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{told}");
        let note = "note: a capacity without `edge.siblings`: each pod counts itself alone";
        assert_eq!(told.matches(note).count(), notes, "{own} {edge} {more}\n{told}");
    }
}

#[test]
fn a_rule_by_path_that_another_spelling_may_walk_around_is_a_note_until_the_edge_says_what_it_wants() {
    let folder = Folder::new("guarded");
    let text = fs::read_to_string(project("config/minimal.toml")).unwrap();
    let route =
        "[[routes]]\nname = \"admin\"\npath_prefix = \"/admin\"\nservice = \"web\"\ndeny = [\"::/0\"]\n";
    let text = format!("{text}\n{route}");
    for (stated, notes) in
        [("", 1), ("\nambiguous_paths = \"refuse\"", 0), ("\nambiguous_paths = \"pass\"", 0)]
    {
        let stated = text.replacen("[edge]", &format!("[edge]{stated}"), 1);
        let output = check(&[&folder.file("guarded.toml", stated.as_bytes())]);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert_eq!(told.matches("note: what route `admin` forbids").count(), notes, "{told}");
    }
}

#[test]
fn what_is_no_file_is_said_plainly() {
    let folder = Folder::new("no-file");
    assert!(refused(&folder.0.join("nowhere.toml")).contains("there is no such file"));
    assert!(refused(&folder.0).contains("is a directory"));
    assert!(refused(Path::new("/dev/zero")).contains("is not a regular file"));
    assert!(refused(&folder.file("empty.toml", b"")).contains("the file is empty"));
}

#[test]
fn binary_junk_is_told_by_its_first_wrong_byte() {
    let folder = Folder::new("junk");
    let path = folder.file("junk.toml", b"[edge]\nregion = \"\xff\xfe\"\n");
    assert!(refused(&path).contains("not UTF-8 text: byte 17, on line 2"), "{}", refused(&path));
    // UTF-8 by chance, all on one line: the place is shown, the line is not.
    let path = folder.file("text.toml", "\u{1}=\u{7f}[".repeat(250_000).as_bytes());
    let answer = refused(&path);
    assert!(answer.contains("text.toml:1:1: error: not TOML"), "{answer}");
    // An error in every line: enough of them are shown.
    let answer = refused(&folder.file("quotes.toml", "\"\n".repeat(1_000_000).as_bytes()));
    assert!(answer.contains("only the first 100 are shown"), "{answer}");
    assert!(answer.len() < 100_000, "{} bytes", answer.len());
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    let folder = Folder::new("huge");
    let path = folder.file("huge.toml", b"# sparse\n");
    File::options().write(true).open(&path).unwrap().set_len(50 * 1024 * 1024).unwrap();
    let answer = refused(&path);
    assert!(
        answer.contains("52428800 bytes are too many") && answer.contains("at most 4194304 bytes"),
        "{answer}"
    );
    // The largest that is read at all, every line of it wrong.
    let lines = "wrong = 1\n".repeat(200_000);
    assert!(refused(&folder.file("long.toml", lines.as_bytes())).contains("not TOML"));
    let keys: String = (0..100_000).map(|n| format!("key{n} = 1\n")).collect();
    assert!(refused(&folder.file("keys.toml", keys.as_bytes())).contains("unknown key `key0`"));
}

#[test]
fn a_file_that_may_not_be_read_says_so() {
    let folder = Folder::new("permission");
    let path = folder.file("secret.toml", b"[edge]\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_proxima"));
    command.arg("check").arg(&path).env_remove("PROXIMA_REGION");
    if File::open(&path).is_ok() {
        // Root may read everything: ask as nobody.
        command.uid(65_534).gid(65_534);
    }
    match command.output() {
        Ok(output) => {
            let answer = String::from_utf8(output.stderr).unwrap();
            assert!(answer.contains("this user may not read it"), "{answer}");
            assert_eq!(output.status.code(), Some(1));
        }
        Err(error) => eprintln!("SKIPPED: another user cannot run the binary where it lies: {error}"),
    }
}

#[test]
fn files_that_the_configuration_names_are_read_when_asked_for() {
    let folder = Folder::new("files");
    let text = fs::read_to_string(project("config/minimal.toml")).unwrap();
    let tls = "\n[tls]\ncertificate = \"server.pem\"\nkey = \"server.key\"\n";
    let path = folder.file("proxima.toml", format!("{text}{tls}").as_bytes());
    let files = |path: &Path| check(&[Path::new("--files"), path]);
    assert_eq!(check(&[&path]).status.code(), Some(0), "without --files they are not looked at");

    let missing = String::from_utf8(files(&path).stderr).unwrap();
    assert!(missing.contains("server.pem: there is no such file"), "{missing}");
    assert!(
        missing.contains("server.key: there is no such file") && missing.contains("2 problems"),
        "{missing}"
    );

    let certified = rcgen::generate_simple_self_signed(vec!["www.example.com".to_owned()]).unwrap();
    folder.file("server.key", certified.cert.pem().as_bytes());
    folder.file("server.pem", certified.signing_key.serialize_pem().as_bytes());
    let swapped = String::from_utf8(files(&path).stderr).unwrap();
    assert!(swapped.contains("server.pem: holds no certificate"), "{swapped}");
    assert!(swapped.contains("server.key: holds no private key"), "{swapped}");

    folder.file("server.pem", certified.cert.pem().as_bytes());
    let other = rcgen::generate_simple_self_signed(vec!["www.example.com".to_owned()]).unwrap();
    folder.file("server.key", other.signing_key.serialize_pem().as_bytes());
    let strangers = String::from_utf8(files(&path).stderr).unwrap();
    assert!(strangers.contains("server.key: is not the key of the certificate"), "{strangers}");
    assert!(strangers.contains("proxima.toml:") && strangers.ends_with(": 1 problem\n"), "{strangers}");

    folder.file("server.key", certified.signing_key.serialize_pem().as_bytes());
    assert_eq!(files(&path).status.code(), Some(0));
}

#[test]
fn files_of_services_behind_tls_are_read_when_asked_for() {
    let folder = Folder::new("upstream-tls");
    let text = fs::read_to_string(project("config/minimal.toml")).unwrap();
    let tls = "\n[services.web.tls]\nca = \"ca.pem\"\nserver_name = \"web.example.net\"\n\
               certificate = \"edge.pem\"\nkey = \"edge.key\"\n";
    let path = folder.file("proxima.toml", format!("{text}{tls}").as_bytes());
    assert_eq!(check(&[&path]).status.code(), Some(0), "without --files they are not looked at");
    let answer = String::from_utf8(check(&[Path::new("--files"), &path]).stderr).unwrap();
    for name in ["ca.pem", "edge.pem", "edge.key"] {
        assert!(answer.contains(&format!("{name}: there is no such file")), "{answer}");
    }
    assert!(answer.contains("3 problems"), "{answer}");
}
