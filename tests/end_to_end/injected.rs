//! A thousand faults, injected where connections and servers fail, over both runtimes: no side effect happens twice.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::support::{Act, Era, Faulty, Gateway, Plan, Script, Scripted, Serves, Setup};

/// What must be reached before it ends, and how many of them on the connection between the peers.
const FAULTS: usize = 1000;
const PEER_FAULTS: usize = 20;

/// Peers. A peer whose connection breaks is dialled once a second at most, so one would take too long.
const PEERS: usize = 3;

/// Callers at one time: enough that a reset hits calls at every stage.
const CALLERS: usize = 12;

/// Long enough for a busy machine; a run takes a fraction of it.
const LIMIT: Duration = Duration::from_secs(90);

const SEED: u64 = 20260728;

/// Both ways behind breaking connections.
struct Rig {
    gateway: Gateway,
    near_server: Scripted,
    near_link: Faulty,
    far_server: Scripted,
    far_links: Vec<Faulty>,
    _far: Vec<Gateway>,
}

fn server() -> Script {
    ["pay", "put", "both"].into_iter().fold(Script::new(Serves::Both), |script, name| script.tool(name, Act::Fated))
}

/// A peer that offers the tools of that server.
async fn far_gateway(server: &Scripted) -> Gateway {
    let tables = "[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nauthority = \"open-loopback\"\n[[tool]]\nmatch = \"*\"\ntimeout = \"150ms\"\n";
    let far = Gateway::start(Setup::new().upstream("up", server.url()).tables(tables)).await;
    far.target_is("up", "ready").await;
    far
}

impl Rig {
    async fn start() -> Self {
        let (near_server, far_server) = (Scripted::start(server()).await, Scripted::start(server()).await);
        // About one to four calls for each connection.
        let plan = Plan { age_min: Duration::ZERO, bytes: 0..3_000 };
        let near_link = Faulty::start(near_server.address(), plan, SEED).await;
        let limits = "retry_budget_percent = 100\nbreaker = { failures = 3, wait = \"20ms\" }";
        let retry = "timeout = \"200ms\"\nretry = { policy = \"fixed\", attempts = 4, delay = \"5ms\" }";
        let mut tables = format!(
            "[[tool]]\nname = \"both\"\nfrom = [\"near.both\", \"far0.up.both\"]\n{retry}\n\
             [[tool]]\nmatch = \"*.put\"\nidempotent = true\n{retry}\n[[tool]]\nmatch = \"*\"\n{retry}\n[p2p]\n"
        );
        let (mut far, mut far_links) = (Vec::new(), Vec::new());
        for number in 0..PEERS {
            let gateway = far_gateway(&far_server).await;
            let port: u16 = gateway.p2p().split('/').nth(4).unwrap().parse().unwrap();
            // Older than a handshake and a list of tools, so that it is calls that break; and than what counts as unsteady.
            let plan = Plan { age_min: Duration::from_millis(1_050), bytes: 0..6_000 };
            let link = Faulty::start(([127, 0, 0, 1], port).into(), plan, SEED + 1 + number as u64).await;
            let address = format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", link.address.port(), gateway.peer_id());
            tables += &format!("[[peer]]\nname = \"far{number}\"\naddress = \"{address}\"\n{limits}\n");
            far.push(gateway);
            far_links.push(link);
        }
        let url = format!("http://{}/mcp", near_link.address);
        let gateway = Gateway::start(Setup::new().upstream_with("near", url, limits).tables(&tables)).await;
        gateway.target_is("near", "ready").await;
        for number in 0..PEERS {
            gateway.target_is(&format!("far{number}"), "ready").await;
        }
        Self { gateway, near_server, near_link, far_server, far_links, _far: far }
    }

    fn links(&self) -> impl Iterator<Item = &Faulty> {
        std::iter::once(&self.near_link).chain(&self.far_links)
    }

    /// Connections to peers that broke, by kind.
    fn far_injected(&self) -> [usize; 4] {
        let counts = self.far_links.iter().map(Faulty::injected);
        counts.fold([0; 4], |all, one| std::array::from_fn(|kind| all[kind] + one[kind]))
    }

    /// Whether a call ran, wherever.
    fn ran(&self, id: &str) -> bool {
        self.near_server.ran(id) || self.far_server.ran(id)
    }

    /// How often each call ran, wherever.
    fn runs(&self) -> HashMap<String, usize> {
        let mut runs = self.near_server.runs();
        for (id, count) in self.far_server.runs() {
            *runs.entry(id).or_default() += count;
        }
        runs
    }
}

/// What became of one call.
#[derive(Debug)]
struct Ended {
    id: String,
    tool: &'static str,
    /// `ok`, or what the error says of delivery.
    outcome: String,
    /// Tries that failed before the reply: their errors and deliveries.
    attempts: Vec<Value>,
    /// Another candidate answered than the one that comes first.
    fell_back: bool,
}

/// Everything that is counted while it runs.
#[derive(Default)]
struct Log {
    ended: Mutex<Vec<Ended>>,
    fates: AtomicUsize,
}

impl Log {
    fn injected(&self, rig: &Rig) -> usize {
        let links: usize = rig.links().flat_map(Faulty::injected).sum();
        links + self.fates.load(Ordering::Relaxed)
    }
}

/// Calls one tool after the other until enough faults were injected.
async fn caller(number: usize, rig: &Rig, log: &Log) {
    let mut rng = StdRng::seed_from_u64(SEED + 100 + number as u64);
    let client = rig.gateway.client(if number.is_multiple_of(4) { Era::Legacy } else { Era::Modern }).await;
    for count in 0.. {
        if log.injected(rig) >= FAULTS && rig.far_injected().iter().sum::<usize>() >= PEER_FAULTS {
            return;
        }
        let tools = [
            "near.pay",
            "near.put",
            "both",
            "far0.up.pay",
            "far0.up.put",
            "far1.up.pay",
            "far1.up.put",
            "far2.up.pay",
            "far2.up.put",
        ];
        let tool = tools[rng.random_range(0..tools.len())];
        let fate = match rng.random_range(0..100) {
            0..4 => "500",
            4..8 => "die",
            8..9 => "hang",
            _ => "none",
        };
        let id = format!("{number}-{count}");
        let arguments = json!({"id": id, "fate": fate}).to_string();
        let answer = client.tool(tool, &arguments).meta(r#""twinway/explain":true"#).send().await.json();
        // Only a call that came to a server had its fate there.
        log.fates.fetch_add(usize::from(fate != "none" && rig.ran(&id)), Ordering::Relaxed);
        let explained = &answer["result"]["_meta"]["twinway/explain"];
        let attempts = explained["attempts"].as_array().cloned().unwrap_or_default();
        let outcome = match answer.get("result") {
            Some(_) => "ok".to_owned(),
            None => answer["error"]["data"]["delivery"].as_str().unwrap_or_else(|| panic!("{tool}: {answer}")).to_owned(),
        };
        let fell_back = explained["reason"] == "fallback";
        log.ended.lock().unwrap().push(Ended { id, tool, outcome, attempts, fell_back });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_faults_make_no_side_effect_happen_twice() {
    let rig = Rig::start().await;
    let log = Log::default();
    rig.links().for_each(Faulty::begin);
    let began = Instant::now();

    let calling = join_all((0..CALLERS).map(|number| caller(number, &rig, &log)));
    let in_time = timeout(LIMIT, calling).await.is_ok();
    rig.links().for_each(Faulty::end);

    let (runs, ended) = (rig.runs(), log.ended.into_inner().unwrap());
    let fates = log.fates.into_inner();
    let (near, far) = (rig.near_link.injected(), rig.far_injected());
    let said = format!("seed {SEED}: {} calls in {:?}; links {near:?} {far:?}, servers {fates}", ended.len(), began.elapsed());
    eprintln!("{said}");
    assert!(in_time, "{said}");
    assert!(near.iter().all(|count| *count > 0) && far[1..3].iter().all(|count| *count > 0), "{said}");
    let ran = |call: &Ended| runs.get(&call.id).copied().unwrap_or(0);
    for call in &ended {
        match (call.tool.ends_with("put"), call.outcome.as_str()) {
            (_, "not_sent") => assert_eq!(ran(call), 0, "it is said not to have been sent: {call:?}\n{said}"),
            (true, "ok") => assert!(ran(call) >= 1, "{call:?}\n{said}"),
            (true, _) => {}
            (false, "ok") => assert_eq!(ran(call), 1, "{call:?}\n{said}"),
            (false, _) => assert!(ran(call) <= 1, "a side effect happened twice: {call:?}\n{said}"),
        }
    }
    let hit = ended.iter().filter(|call| call.outcome != "ok" || !call.attempts.is_empty()).count();
    assert!(hit >= FAULTS / 2, "most faults hit a call and not what runs beside: {hit}\n{said}");
    let retried = |call: &&Ended| call.outcome == "ok" && call.attempts.iter().any(|attempt| attempt["delivery"] == "unknown");
    let retried: Vec<_> = ended.iter().filter(retried).collect();
    assert!(retried.len() >= 20, "idempotent calls are made again and succeed: {}\n{said}", retried.len());
    assert!(retried.iter().all(|call| call.tool.ends_with("put")), "and no others: {retried:?}");
    let elsewhere = ended.iter().filter(|call| call.tool == "both" && call.outcome == "ok" && call.fell_back).count();
    assert!(elsewhere >= 5, "another candidate answers: {elsewhere}\n{said}");
    let trips = rig.gateway.metric("twinway_breaker_opened_total", &[]).await;
    assert!(trips >= 1.0, "the breakers tripped: {trips}\n{said}");
}
