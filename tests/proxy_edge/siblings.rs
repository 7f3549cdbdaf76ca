//! Pods of one region tell the holder of the lease what they do: over mutual TLS, by the own region's name.

use crate::client::{curl, identity};
use crate::support::{Authority, Files, Plan, Running, SOON, start};
use proxima::domain::time::Time;
use proxima::lease::claim::Ruling;
use proxima::lease::load::Load;
use proxima::lease::{SiblingWord, Standing};

/// Room for the whole test: no word becomes old meanwhile.
const FRESH: std::time::Duration = SOON.saturating_mul(100);

/// A pod of `home` that holds the lease of three, and does ten requests a second itself.
async fn holder(authority: &Authority) -> Running {
    let pod = start(&Plan::default(), authority).await;
    pod.board.known(1, FRESH);
    pod.board.stand(Standing::Holding, Ruling::Elect, Time::from_millis(1));
    pod.board.measured(Load { entered_rps: 10.0, ..Load::default() }, Time::from_millis(1));
    pod
}

/// What it answers to a question with this body; `None`: there is no curl here.
async fn tell(pod: &Running, authority: &Authority, who: &Files, more: &[&str]) -> Option<SiblingWord> {
    let (name, port) = ("peer.home.example.net", pod.peer().port());
    let (url, resolve) =
        (format!("https://{name}:{port}/.proxima/sibling"), format!("{name}:{port}:127.0.0.1"));
    let roots = authority.roots();
    let base = ["--resolve", &resolve, "--cacert", roots.to_str().unwrap(), &url];
    let answer = curl(&[&base[..], &identity(&who.certificate, &who.key)[..], more].concat()).await?;
    assert_eq!(answer.status, 200, "{more:?} {}", answer.error);
    Some(serde_json::from_str(&answer.body).unwrap())
}

fn counted(pod: &Running, result: &str) -> f64 {
    pod.metric(&format!("proxima_sibling_loads_total{{result=\"{result}\"}}"))
}

fn load(boot: u64, rps: f64) -> String {
    format!("{{\"boot\":{boot},\"load\":{{\"entered_rps\":{rps},\"served_rps\":0.0,\"services\":{{}}}}}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_own_region_is_added_up_and_one_that_only_asks_is_answered() {
    let authority = Authority::new();
    let (pod, sibling) = (holder(&authority).await, authority.sign("peer.home.example.net"));
    let Some(word) = tell(&pod, &authority, &sibling, &[]).await else { return };
    let total = word.load.unwrap();
    assert_eq!((total.pods, total.load.entered_rps), (1, 10.0));
    for (version, boot, pods, rps) in
        [("--http1.1", 2, 2, 15.0), ("--http2", 3, 3, 20.0), ("--http2", 3, 3, 20.0)]
    {
        let word =
            tell(&pod, &authority, &sibling, &[version, "--data-binary", &load(boot, 5.0)]).await.unwrap();
        let total = word.load.unwrap();
        assert_eq!((total.pods, total.load.entered_rps), (pods, rps), "{version}");
    }
    assert_eq!(counted(&pod, "taken"), 3.0);
    pod.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_nonsense_change_nothing_and_are_answered_all_the_same() {
    let authority = Authority::new();
    let (pod, sibling) = (holder(&authority).await, authority.sign("peer.home.example.net"));
    let stranger = authority.sign("peer.away.example.net");
    let long = authority.folder.join("long.json");
    std::fs::write(&long, format!("{}{}", " ".repeat(proxima::peer::LOAD_BYTES_MAX), load(2, 5.0))).unwrap();
    let long = format!("@{}", long.display());
    let right = load(2, 5.0);
    for (who, body, result) in [
        (&stranger, right.as_str(), "stranger"),
        (&sibling, "{", "malformed"),
        (&sibling, "[[[[", "malformed"),
        (&sibling, "", "malformed"),
        (&sibling, &long, "malformed"),
        (&sibling, &load(2, -5.0), "refused"),
        (&sibling, &load(2, 1e300), "refused"),
    ] {
        let before = counted(&pod, result);
        let Some(word) = tell(&pod, &authority, who, &["--http1.1", "--data-binary", body]).await else {
            return;
        };
        let total = word.load.unwrap();
        assert_eq!((total.pods, total.load.entered_rps), (1, 10.0), "{result}");
        assert_eq!(counted(&pod, result), before + 1.0, "{result}");
    }
    assert_eq!(counted(&pod, "taken"), 0.0);
    pod.close().await;
}
