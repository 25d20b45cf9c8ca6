//! Route look-up and listing in a catalogue that an in-memory runtime fills.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion};
use futures_util::future::BoxFuture;
use hdrhistogram::Histogram;
use http::{HeaderMap, HeaderName, HeaderValue};
use runtime_api::{
    Call, CallError, CallService, ErrorCode, Item, Items, Offers, PartError, Principal, Reply, Runtime, RuntimeId, TargetId,
    TargetOffers, TargetState, erase,
};
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use twinway::catalog::{Builder, Catalog, Pins};
use twinway::config::Config;
use twinway::layers::{self, Cache};
use twinway::mcp::{Answer, Inbound, Scope, Server, Shown, Way};
use twinway::pipeline;
use twinway::telemetry::Metrics;
use twinway_proto::rope::Rope;

/// A larger catalogue has more tools per target, not more targets.
const TARGETS: usize = 20;

pub(crate) const LIST: &str = concat!(
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"#,
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"micro","version":"1.0.0"},"#,
    r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#
);

/// 1 s: longer than any listing, so that no latency is cut off.
const LATENCY_NS_MAX: u64 = 1_000_000_000;

/// Looks up tools that are spread over the whole catalogue, so that a cache holds no more of it than of a real one.
pub(crate) fn bench_lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route look-up");
    for tools in [100, 10_000, 100_000] {
        let catalog = catalog(&Config::default(), &Metrics::new(None), tools);
        let names = names(&catalog, tools);
        let mut next = names.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter(tools), |bencher| {
            bencher.iter(|| {
                let name = next.next().expect("a cycle has no end");
                let snapshot = catalog.load();
                let entry = snapshot.view("").and_then(|view| view.tools.get(black_box(name)));
                entry.expect("the tool is offered").chosen().target.clone()
            });
        });
    }
    group.finish();
}

/// Lists 1,000 tools of 20 targets, which is one page.
pub(crate) fn bench_listing(criterion: &mut Criterion) {
    let (config, metrics) = (Config::default(), Metrics::new(None));
    let catalog = catalog(&config, &metrics, 1_000);
    let pipeline = pipeline::build(&layers::door_of(&config.admission, &metrics), &Cache::new(&config.cache, &metrics));
    let server = Server::new(&config, catalog, pipeline, metrics).expect("the default configuration has no key to refuse");
    let headers = headers("tools/list", None);
    let listed = list(&server, &headers, Shown::full()).into_bytes();
    let tools = listed.windows(b"inputSchema".len()).filter(|part| part == b"inputSchema").count();
    assert_eq!(tools, 1_000, "the list is whole");
    let mut latencies = Histogram::<u64>::new_with_max(LATENCY_NS_MAX, 3).expect("the digits are within 0 to 5");
    criterion.bench_function("tools/list, 1000 tools of 20 targets", |bencher| {
        bencher.iter_custom(|count| {
            let mut total = Duration::ZERO;
            for _ in 0..count {
                let began = Instant::now();
                black_box(list(&server, &headers, Shown::full()));
                let taken = began.elapsed();
                latencies.saturating_record(taken.as_nanos() as u64);
                total += taken;
            }
            total
        });
    });
    say_p99(&latencies);
}

/// What a modern client is answered that lists the tools.
pub(crate) fn list(server: &Server, headers: &HeaderMap, shown: &Shown) -> Rope {
    let answer = server.handle(&Inbound {
        message: Bytes::from_static(LIST.as_bytes()),
        view: "",
        principal: &Principal::anonymous(),
        way: Way::Http { headers },
        scope: Scope::Everything,
        shown,
        answer_bytes_max: usize::MAX,
        time_max: std::time::Duration::MAX,
    });
    match answer {
        Answer::Message(outgoing) if outgoing.status == 200 => outgoing.message,
        other => panic!("not a list: {other:?}"),
    }
}

/// What a modern client sends beside its message.
pub(crate) fn headers(method: &'static str, name: Option<&'static str>) -> HeaderMap {
    let pairs = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)].into_iter();
    let pairs = pairs.chain(name.map(|name| ("mcp-name", name)));
    pairs.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn catalog(config: &Config, metrics: &Metrics, tools: usize) -> Catalog {
    let catalog = catalog_of(config, metrics, &Memory::new(tools));
    assert_eq!(catalog.load().merged.tools.len(), tools);
    catalog
}

/// The catalogue of one runtime.
pub(crate) fn catalog_of(config: &Config, metrics: &Metrics, runtime: &Memory) -> Catalog {
    let (mut builder, catalog) = Builder::new(config, metrics.clone(), Pins::default());
    builder.add(runtime);
    catalog
}

/// The names in an order without a pattern: 7,919 is a prime that divides none of the sizes.
fn names(catalog: &Catalog, tools: usize) -> Vec<Arc<str>> {
    let snapshot = catalog.load();
    let names: Vec<Arc<str>> = snapshot.merged.tools.iter().map(|entry| entry.public.clone()).collect();
    (0..tools).map(|place| names[place * 7_919 % tools].clone()).collect()
}

/// A runtime in memory.
pub(crate) struct Memory {
    offers: watch::Sender<Arc<Offers>>,
    service: CallService,
}

impl Memory {
    /// Offers so many tools and answers no call.
    fn new(tools: usize) -> Self {
        Self::offering(tools, tool)
    }

    /// The same with tools that are made so, by their number.
    pub(crate) fn offering(tools: usize, make: fn(usize) -> Item) -> Self {
        let only_offers = || CallError::gateway(ErrorCode::Unavailable, "this runtime only offers");
        Self::with(tools, make, erase(tower::service_fn(move |_: Call| async move { Err::<Reply, _>(only_offers()) })))
    }

    /// Offers so many tools, whose calls that service answers.
    pub(crate) fn answering(tools: usize, service: CallService) -> Self {
        Self::with(tools, tool, service)
    }

    fn with(tools: usize, make: fn(usize) -> Item, service: CallService) -> Self {
        let each = tools / TARGETS;
        let targets = (0..TARGETS).map(|target| {
            let items: Vec<_> = (target * each..(target + 1) * each).map(make).collect();
            Arc::new(offers(target, items))
        });
        Self { offers: watch::Sender::new(Arc::new(Offers { targets: targets.collect() })), service }
    }
}

fn offers(target: usize, tools: Vec<Item>) -> TargetOffers {
    TargetOffers {
        state: TargetState::Ready,
        items: Items::of_tools(tools),
        ..TargetOffers::unheard_of(TargetId::from(format!("target{target}").as_str()))
    }
}

/// About 500 bytes: a description and two arguments.
fn tool(number: usize) -> Item {
    let name = format!("tool_{number}");
    let definition = format!(
        r#"{{"name":"{name}","description":"{}","inputSchema":{{"type":"object","properties":{{"path":{{"type":"string","description":"Where to look"}},"depth":{{"type":"integer","minimum":0}}}},"required":["path"]}}}}"#,
        "Finds what lies there. ".repeat(13)
    );
    Item { name: name.into(), definition: definition.into() }
}

impl Runtime for Memory {
    fn id(&self) -> RuntimeId {
        RuntimeId("memory".into())
    }

    fn offers(&self) -> watch::Receiver<Arc<Offers>> {
        self.offers.subscribe()
    }

    fn service(&self) -> CallService {
        self.service.clone()
    }

    fn run(self: Box<Self>, stop: CancellationToken) -> BoxFuture<'static, Result<(), PartError>> {
        Box::pin(async move {
            stop.cancelled().await;
            Ok(())
        })
    }
}

#[expect(clippy::print_stdout, reason = "criterion prints no p99")]
fn say_p99(latencies: &Histogram<u64>) {
    println!("tools/list p99: {:.1} us over {} lists", latencies.value_at_quantile(0.99) as f64 / 1e3, latencies.len());
}
