//! Micro benches of the hot path: envelope, splice, frame codec, route look-up, listing, layers; and of the search for tools.

mod catalog;
mod search;
mod stack;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use twinway_proto::envelope::{self, Message, ParamsIndex, ResultIndex};
use twinway_proto::frame::{self, Decoder, FRAME_BYTES_MAX};
use twinway_proto::rope::{Builder, Rope};

/// The gateway's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAYLOADS_BYTES: [usize; 3] = [256, 64 * 1024, 1024 * 1024];

fn call(payload_bytes: usize) -> Bytes {
    let text = "x".repeat(payload_bytes);
    format!(
        r#"{{"jsonrpc":"2.0","id":12,"method":"tools/call","params":{{"name":"bench.echo","arguments":{{"text":"{text}"}},"_meta":{{"progressToken":7}}}}}}"#
    )
    .into()
}

fn answer(payload_bytes: usize) -> Bytes {
    let text = "x".repeat(payload_bytes);
    format!(r#"{{"jsonrpc":"2.0","id":12,"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":false}}}}"#).into()
}

fn params_of(message: &[u8]) -> ParamsIndex {
    match envelope::parse(message) {
        Ok(Message::Request(request)) => request.params.expect("the call has parameters"),
        other => panic!("not a request: {other:?}"),
    }
}

fn result_of(message: &[u8]) -> ResultIndex {
    match envelope::parse(message) {
        Ok(Message::Response(response)) => response.result,
        other => panic!("not an answer: {other:?}"),
    }
}

/// What the gateway sends upstream: its own id, and the tool's name without the prefix.
fn forward_call(message: &Bytes, params: &ParamsIndex) -> Rope {
    let raw = message.slice(params.range.clone());
    let name = params.name.clone().expect("the call names its tool");
    let mut out = Builder::with_capacity(4096);
    envelope::splice(&raw, &[(name, b"\"echo\"")], &mut out);
    envelope::request(4711, "tools/call", Some(out.finish()))
}

fn bench_envelope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for payload_bytes in PAYLOADS_BYTES {
        let (call, answer) = (call(payload_bytes), answer(payload_bytes));
        group.throughput(Throughput::Bytes(call.len() as u64));
        group.bench_function(BenchmarkId::new("parse request", payload_bytes), |bencher| {
            bencher.iter(|| params_of(black_box(&call)));
        });
        group.throughput(Throughput::Bytes(answer.len() as u64));
        group.bench_function(BenchmarkId::new("parse response", payload_bytes), |bencher| {
            bencher.iter(|| result_of(black_box(&answer)));
        });
    }
    group.finish();
}

fn bench_splice(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("splice");
    for payload_bytes in PAYLOADS_BYTES {
        let (call, answer) = (call(payload_bytes), answer(payload_bytes));
        let (params, result) = (params_of(&call), result_of(&answer));
        group.bench_function(BenchmarkId::new("request, new id and name", payload_bytes), |bencher| {
            bencher.iter(|| forward_call(black_box(&call), black_box(&params)));
        });
        group.bench_function(BenchmarkId::new("response, new id", payload_bytes), |bencher| {
            bencher.iter(|| envelope::response("12", Rope::from(black_box(&answer).slice(result.range.clone()))));
        });
    }
    group.finish();
}

fn bench_frame(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for payload_bytes in PAYLOADS_BYTES {
        let payload = call(payload_bytes);
        let encoded =
            frame::encode(payload.clone().into(), FRAME_BYTES_MAX).expect("the payload is within the limit").into_bytes();
        let decoder = Decoder::new(FRAME_BYTES_MAX);
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group.bench_function(BenchmarkId::new("encode", payload_bytes), |bencher| {
            bencher.iter(|| frame::encode(black_box(&payload).clone().into(), FRAME_BYTES_MAX));
        });
        group.bench_function(BenchmarkId::new("decode", payload_bytes), |bencher| {
            let arrived = || BytesMut::from(&encoded[..]);
            bencher.iter_batched_ref(arrived, |buffer| decoder.decode(black_box(buffer)), BatchSize::LargeInput);
        });
        group.bench_function(BenchmarkId::new("check", payload_bytes), |bencher| {
            bencher.iter(|| frame::check_payload(black_box(&payload)));
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    bench_envelope,
    bench_splice,
    bench_frame,
    catalog::bench_lookup,
    catalog::bench_listing,
    search::bench_search,
    stack::bench_stack
);
criterion_main!(benches);
