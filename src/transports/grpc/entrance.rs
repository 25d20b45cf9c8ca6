//! What every request passes before its service: whether that is served, who asks, in which trace, and for how long.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body::Body as HttpBody;
use runtime_api::{BoxError, ErrorCode, Origin};
use tonic::{Code, Status, body::Body, service::Routes};
use tower::ServiceExt;
use tracing::{Instrument, Span, field::display};

use super::{
    reflection::SERVED,
    status::{About, status},
};
use crate::{
    config,
    telemetry::{Decision, Metrics, Sampler, field, headers, span},
    transports::auth::Auth,
};

/// Asked by probes of orchestrators, which can show no token and leave no trace behind; `/health` of HTTP is the same.
const HEALTH: &str = "grpc.health.v1.Health";

/// How long the client waits.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The entrance of one gateway.
#[derive(Debug)]
pub(super) struct Entrance {
    auth: Auth,
    sampler: Sampler,
    metrics: Metrics,
    request_timeout: Duration,
    message_bytes_max: usize,
    routes: Routes,
}

impl Entrance {
    pub(super) fn new(config: &config::Config, grpc: &config::Grpc, auth: Auth, metrics: Metrics, routes: Routes) -> Self {
        let sampler = Sampler::new(config.telemetry.as_ref());
        let message_bytes_max = grpc.message_bytes_max.get();
        Self { auth, sampler, metrics, request_timeout: grpc.request_timeout, message_bytes_max, routes }
    }
}

/// Answers one request.
pub(super) async fn answer<B>(entrance: Arc<Entrance>, request: Request<B>) -> Result<Response<Body>, Infallible>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let path = request.uri().path().to_owned();
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((&path, ""));
    if !SERVED.contains(&service) {
        let message = format!("this gateway does not serve `{service}`; server reflection lists what it serves");
        return Ok(entrance.refuse(ErrorCode::UnknownMethod, "unknown_service", &message));
    }
    if service != HEALTH && entrance.auth.principal(request.headers()).is_none() {
        let message = "no client has this token: show one as metadata `authorization: Bearer TOKEN`";
        return Ok(entrance.refuse(ErrorCode::Unauthenticated, "unauthenticated", message));
    }
    let span = entrance.span(request.headers(), service, method);
    let limit = patience(request.headers()).map_or(entrance.request_timeout, |given| given.min(entrance.request_timeout));
    let serving = entrance.routes.clone().oneshot(request.map(Body::new)).instrument(span.clone());
    let answer = match tokio::time::timeout(limit, serving).await {
        Ok(Ok(answer)) => entrance.explain(answer, service, method),
        Err(_) => {
            let message = format!("there was no answer within {}", humantime::format_duration(limit));
            status(ErrorCode::DeadlineExceeded, Origin::Gateway, &message, About::Nothing).into_http()
        }
    };
    end(&span, answer.headers());
    Ok(answer)
}

impl Entrance {
    fn refuse(&self, code: ErrorCode, reason: &'static str, message: &str) -> Response<Body> {
        self.metrics.request_refused(reason);
        status(code, Origin::Caller, message, About::Nothing).into_http()
    }

    /// Says plainly what the generated code only hints at: these two errors are made before a service is asked.
    fn explain(&self, answer: Response<Body>, service: &str, method: &str) -> Response<Body> {
        let Some(fault) = Status::from_header_map(answer.headers()) else { return answer };
        match fault.code() {
            Code::Unimplemented if fault.message().is_empty() => {
                self.refuse(ErrorCode::UnknownMethod, "unknown_method", &format!("`{service}` has no method `{method}`"))
            }
            Code::OutOfRange if fault.details().is_empty() => {
                let message = format!("the message is larger than `grpc.message_bytes_max` = {} bytes", self.message_bytes_max);
                self.refuse(ErrorCode::TooLarge, "body_too_large", &message)
            }
            _ => answer,
        }
    }

    fn span(&self, headers: &HeaderMap, service: &str, method: &str) -> Span {
        let incoming = headers::trace_of(headers);
        if service == HEALTH || self.sampler.decide(incoming.as_ref()) != Decision::Record {
            return Span::none();
        }
        span::rpc(incoming.as_ref(), service, method)
    }
}

/// Notes how it ended. An error is in the headers; a stream that fails later is the client's to see.
fn end(span: &Span, headers: &HeaderMap) {
    let code = headers.get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or("0");
    span.record(field::RPC_STATUS, display(code));
    if code != "0" {
        span::fail(span, code);
    }
}

/// What the client gives: at most eight digits and a unit (PROTOCOL-HTTP2 of gRPC). What is no such value counts as none.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(&GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 60 * 60)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic::{body::Body, server::NamedService, service::RoutesBuilder};
    use tonic_types::StatusExt;

    use super::*;
    use crate::transports::grpc::peers::PeerServer;

    /// Answers nothing, under the name of a service that is served.
    #[derive(Clone)]
    struct Silent;

    impl NamedService for Silent {
        const NAME: &'static str = <PeerServer as NamedService>::NAME;
    }

    impl tower::Service<Request<Body>> for Silent {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = std::future::Pending<Result<Self::Response, Infallible>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_says_nothing_is_given_up_at_the_limit_or_at_the_clients_own() {
        let mut routes = RoutesBuilder::default();
        routes.add_service(Silent);
        let (config, grpc) = (config::Config::default(), config::Grpc::default());
        let entrance = Arc::new(Entrance::new(&config, &grpc, Auth::new(&config.http), Metrics::new(None), routes.routes()));
        for (given, expected) in [(None, 30_000), (Some("90S"), 30_000), (Some("250m"), 250)] {
            let mut request = Request::new(Body::empty());
            *request.uri_mut() = format!("/{}/List", Silent::NAME).parse().unwrap();
            given.map(|given| request.headers_mut().insert(GRPC_TIMEOUT, given.parse().unwrap()));
            let began = tokio::time::Instant::now();

            let answer = answer(Arc::clone(&entrance), request).await.unwrap();

            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), Code::DeadlineExceeded, "{given:?}");
            assert_eq!(status.get_error_details().error_info().unwrap().reason, "DEADLINE_EXCEEDED");
            assert_eq!(began.elapsed().as_millis(), expected, "{given:?}");
        }
    }

    #[test]
    fn the_patience_of_a_client_is_read_in_each_unit() {
        let cases = [
            ("2H", Some(Duration::from_secs(7200))),
            ("3M", Some(Duration::from_secs(180))),
            ("5S", Some(Duration::from_secs(5))),
            ("50m", Some(Duration::from_millis(50))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("1s", None),
            ("1é", None),
        ];
        for (text, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(GRPC_TIMEOUT, http::HeaderValue::from_bytes(text.as_bytes()).unwrap());

            assert_eq!(patience(&headers), expected, "{text}");
        }
        assert_eq!(patience(&HeaderMap::new()), None);
    }
}
