//! Good configurations are read, bad ones are refused with one message that says where.

use std::{error::Error, iter, net::SocketAddr, path::Path, time::Duration};

use super::*;

const ORIGIN: &str = "/etc/twinway/twinway.toml";
/// A token that is long enough.
const LONG: &str = "correct-horse-battery-staple";
const PEER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

fn parse(text: &str) -> Result<Config, ConfigError> {
    parse_with(text, [])
}

fn parse_with<const N: usize>(text: &str, environment: [(&str, &str); N]) -> Result<Config, ConfigError> {
    Config::parse_within(text, Path::new(ORIGIN), &environment.into())
}

/// The whole message as the program prints it.
fn message(error: &ConfigError) -> String {
    let chain = iter::successors(Some(error as &dyn Error), |error| (*error).source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn an_empty_file_is_a_gateway_on_loopback_with_everything_else_off() {
    let config = parse("").unwrap();

    assert_eq!(config.http.listen, SocketAddr::from(([127, 0, 0, 1], 8080)));
    assert!(config.p2p.is_none() && config.telemetry.is_none() && config.upstream.is_empty());
}

#[test]
fn the_example_is_good_and_complete() {
    let text = include_str!("../../deploy/twinway.toml");

    // What is commented out must be good as well: the line begins with `#` and no blank.
    let everything: String = text.lines().map(|line| format!("{}\n", uncomment(line))).collect();
    let certificate = crate::tls::tests::Files::good();
    for text in [text, &certificate.put_into(&everything)] {
        let key = "k".repeat(32);
        let keys = [("TWINWAY_SEAL_KEY", &*key), ("TWINWAY_SEAL_KEY_OLD", &*key)];
        let config = parse_with(text, [keys[0], keys[1], ("DESKTOP_TOKEN", LONG), ("EVERYTHING_TOKEN", "two")]);
        config.unwrap_or_else(|error| panic!("{}\n{text}", message(&error)));
    }
}

#[test]
fn mistakes_that_do_not_depend_on_each_other_are_reported_together() {
    let text = "[http]\njson_depth_max = 200\n[admission]\nqueue_max = -1\n\n[[upstream]]\nname = 7\n\n[[upstream]]\nname = \"b.c\"\nurl = \"http://b\"\n";
    let together = "[http]\njson_depth_max = 200\nseal_key = \"env:UNSET\"\n\n[[tool]]\nmatch = \"a\"\nruntime = \"http\"\nrequires_p2p = true\n\n[[http.client]]\nname = \"a\"\ntoken = \"file:unset\"\n";

    let syntax = message(&parse(text).unwrap_err());
    let values = message(&parse(together).unwrap_err());

    let places = |message: &str| -> Vec<String> {
        message.lines().map(|line| line.strip_prefix(ORIGIN).unwrap_or(line).chars().take(6).collect()).collect()
    };
    assert_eq!(places(&syntax), [":4:13:", ":7:8: ", ":10:8:"], "{syntax}");
    assert_eq!(places(&values), [":2:18:", ":3:12:", ":8:16:", ":12:9:"], "{values}");
    assert!(values.lines().nth(3).unwrap().contains("No such file"), "the cause is said: {values}");
}

fn uncomment(line: &str) -> &str {
    line.strip_prefix('#').filter(|rest| !rest.starts_with([' ', '#']) && !rest.is_empty()).unwrap_or(line)
}

#[test]
fn every_bad_configuration_has_one_message_with_its_place() {
    let cases = [
        // TOML itself
        ("[http\nlisten = 1", "1:6: unclosed table, expected `]`"),
        ("[http]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"", "3:1: duplicate key"),
        // Keys
        ("[http]\nlisen = \"127.0.0.1:1\"", "2:1: unknown key `lisen` in `http`; did you mean `listen`?"),
        (
            "[[upstream]]\nname = \"a\"\nurl = \"http://a\"\nprefx = \"never\"",
            "4:1: unknown key `prefx` in `upstream`; did you mean `prefix`?",
        ),
        ("[[http.client]]\nnam = \"a\"", "2:1: unknown key `nam` in `http.client`; did you mean `name`?"),
        (
            "[[upstream]]\nname = \"a\"\nurl = \"http://a\"\npin = \"all\"",
            "4:7: pinned tools need `definitions.pins_file`, where what was accepted is kept",
        ),
        (
            "[[http.client]]\nuser = \"a\"",
            "2:1: unknown key `user` in `http.client`; known are `name`, `token`, `exposure`, `categories`",
        ),
        (
            "[mqtt]\nlisten = \"127.0.0.1:50051\"",
            "1:2: unknown key `mqtt`; known are `http`, `grpc`, `admission`, `routing`, `cache`, `definitions`, `p2p`, `telemetry`, `upstream`, `peer`, `tool`",
        ),
        ("[[upstream]]\nname = \"a\"", "1:1: `upstream`: missing field `url`"),
        ("[[tool]]\nmatch = \"a\"\npriorty = 3", "3:1: unknown key `priorty` in `tool`; did you mean `priority`?"),
        // Types
        (
            "[http]\nlisten = 8080",
            "2:10: `http.listen`: invalid type: integer `8080`, expected socket address; write \"ADDRESS:PORT\" such as \"127.0.0.1:8080\"; host names are not taken",
        ),
        (
            "[http]\nlisten = \"localhost:8080\"",
            "2:10: `http.listen`: invalid socket address syntax; write \"ADDRESS:PORT\" such as \"127.0.0.1:8080\"; host names are not taken",
        ),
        ("[http]\npage_size = 0", "2:13: `http.page_size`: invalid value: integer `0`, expected a nonzero usize"),
        ("[http]\ndrain_timeout = 30", "2:17: `http.drain_timeout`: `30` has no unit; write \"30s\" for seconds"),
        (
            "[http]\ndrain_timeout = \"soon\"",
            "2:17: `http.drain_timeout`: `soon` is not a duration such as `30s` or `1m 30s`: expected number at 0",
        ),
        ("[http]\ndrain_timeout = \"0s\"", "2:17: `http.drain_timeout`: must be longer than 0 s"),
        ("upstream = 1", "1:12: `upstream`: write `[[upstream]]`"),
        (
            "[[upstream]]\nname = \"a.b\"\nurl = \"http://a\"",
            "2:8: `upstream.name`: `a.b` is not a name: 1 to 32 letters, digits, `-` and `_`",
        ),
        ("[[upstream]]\nname = \"a\"\nurl = \"ftp://a\"", "3:7: `upstream.url`: the scheme `ftp` is not `http` or `https`"),
        (
            "[[upstream]]\nname = \"a\"\nurl = \"http://me:secret@a\"",
            "3:7: `upstream.url`: credentials do not belong in an address; use `bearer` or `headers`",
        ),
        (
            "[[upstream]]\nname = \"a\"\nurl = \"http://a\"\n[upstream.headers]\nMCP-Name = \"b\"",
            "5:12: the gateway writes `MCP-Name` itself, as each request needs it",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"telepathy\"\nurl = \"http://a\"",
            "3:8: `upstream.kind` cannot be `telepathy`; known are `mcp`, `tool-server`, `openapi`, `stdio`",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"stdio\"\nurl = \"http://a\"",
            "1:1: `upstream`: missing field `command`, the program to start",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"stdio\"\ncommand = \"a\"\nurl = \"http://a\"",
            "5:7: `url` is for upstreams that are reached over HTTP, and this upstream is `kind = \"stdio\"`",
        ),
        (
            "[[upstream]]\nname = \"a\"\nurl = \"http://a\"\nargs = [\"b\"]",
            "4:8: `args` is for `kind = \"stdio\"`, and this upstream is `kind = \"mcp\"`",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"stdio\"\ncommand = \"a\"\nenv = { \"A=B\" = \"c\" }",
            "5:7: `A=B` is not the name of an environment variable",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"stdio\"\ncommand = \"a\"\nprocesses_max = 4",
            "5:17: `processes_max` is for `share = \"principal\"` or `\"session\"`: here everybody shares one process",
        ),
        (
            "[[upstream]]\nname = \"a\"\nurl = \"http://a\"\nprocess_idle = \"1m\"",
            "4:16: `process_idle` is for `kind = \"stdio\"`, and this upstream is `kind = \"mcp\"`",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"stdio\"\ncommand = \"a\"\nshare = \"session\"\nprocess_idle = \"0s\"",
            "6:16: `upstream.process_idle`: must be longer than 0 s",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"tool-server\"\nera = \"legacy\"\nurl = \"http://a\"",
            "4:7: `era` is for `kind = \"mcp\"`, and this upstream is `kind = \"tool-server\"`",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"openapi\"\ntransport = \"sse\"\nurl = \"http://a\"",
            "4:13: `transport` is for `kind = \"mcp\"`, and this upstream is `kind = \"openapi\"`",
        ),
        (
            "[[upstream]]\nname = \"a\"\nera = \"modern\"\ntransport = \"sse\"\nurl = \"http://a\"",
            "4:13: over HTTP+SSE nobody speaks the modern era",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"tool-server\"\nurl = \"http://a/x?y=1\"",
            "4:7: the url of a tool server has no query: paths are added to it",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"opnapi\"\nurl = \"http://a\"",
            "3:8: `upstream.kind` cannot be `opnapi`; did you mean `openapi`?",
        ),
        (
            "[[upstream]]\nname = \"a\"\nurl = \"http://a\"\n[upstream.openapi]\ninclude = [\"x\"]",
            "4:1: the table `openapi` is for upstreams with `kind = \"openapi\"`",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"openapi\"\nurl = \"http://a\"\n[upstream.openapi]\ndocument = \"http://b/x\"",
            "6:12: `document` leads to http://b/x, which is not of the upstream's origin",
        ),
        (
            "[[upstream]]\nname = \"a\"\nkind = \"openapi\"\nurl = \"http://a\"\n[upstream.openapi.security]\nkey = \"secret\"",
            "6:7: `upstream.openapi.security.key`: a secret is named as `env:NAME` or `file:PATH`, not written here",
        ),
        (
            "[[upstream]]\nname = \"a\"\nprefix = \"allways\"\nurl = \"http://a\"",
            "3:10: `upstream.prefix` cannot be `allways`; did you mean `always`?",
        ),
        (
            "[[tool]]\nmatch = \"a{\"",
            "2:9: `tool.match`: not a pattern: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
        ),
        (
            "[[tool]]\nmatch = \"a\"\nretry = 3",
            "3:9: `tool.retry`: invalid type: integer `3`, expected a policy such as \"exponential\", or a table such as { policy = \"fixed\", attempts = 3 }",
        ),
        ("[[tool]]\nmatch = \"a\"\nretry = \"fixd\"", "3:9: `tool.retry` cannot be `fixd`; did you mean `fixed`?"),
        (
            "[[tool]]\nmatch = \"a\"\nretry = { policy = \"fixed\", attempt = 3 }",
            "3:29: unknown key `attempt` in `tool.retry`; did you mean `attempts`?",
        ),
        (
            "[[tool]]\nmatch = \"a\"\nretry = { policy = \"fixed\", attempts = 11 }",
            "3:40: `retry.attempts`: 11 is not within 2 to 10; the first try counts",
        ),
        (
            "[[tool]]\nmatch = \"a\"\nretry = { policy = \"fixed\", jitter = 1.5 }",
            "3:38: `retry.jitter`: 1.5 is not within 0 to 1",
        ),
        (
            "[[tool]]\nmatch = \"a\"\nretry = { policy = \"fixed\", delay = \"9s\" }",
            "3:9: `retry.max_delay`: the longest wait, 5s, is shorter than the first, 9s",
        ),
        ("[[tool]]\npriority = 1", "1:1: a rule needs `match`, or `name` and `from`"),
        ("[[tool]]\nmatch = \"a\"\nname = \"b\"", "2:9: a rule has `match`, or `name` and `from`, not both"),
        ("[[tool]]\nmatch = \"a\"\nfrom = [\"b\", \"c\"]", "3:8: `from` makes one tool, so it needs `name` instead of `match`"),
        (
            "[[tool]]\nname = \"a\"\nfrom = [\"b\"]",
            "3:8: one tool is made out of two or more; name them as the merged list does: `near.echo`",
        ),
        (
            "[[tool]]\nname = \"a b\"\nfrom = [\"b\", \"c\"]",
            "2:8: `a b` is not the name of a tool: 1 to 64 letters, digits and `_.-/`",
        ),
        ("[[tool]]\nname = \"a\"\nfrom = [\"b\", \"b\"]", "3:14: `b` is part of a tool already"),
        (
            "[[tool]]\nname = \"a\"\nfrom = [\"b\", \"c\"]\n[[tool]]\nname = \"a\"\nfrom = [\"d\", \"e\"]",
            "5:8: another rule makes `a` already",
        ),
        (
            "[routing]\npeer_names = [\"a{\"]",
            "2:14: `routing.peer_names`: not a pattern: unclosed alternate group; missing '}' (maybe escape '{' with '[{]'?)",
        ),
        ("[[tool]]\nmatch = \"a\"\nread_only = true\nidempotent = false", "4:14: what is read-only can always run twice"),
        (
            "[[tool]]\nmatch = \"a\"\ncache_ttl = \"1m\"\nread_only = false",
            "3:13: only results of read-only tools are kept, and this rule says `read_only = false`",
        ),
        ("[[tool]]\nmatch = \"a\"\ndeprecation_message = \"old\"", "3:23: nobody is told this without `deprecated = true`"),
        ("[[upstream]]\nname = \"a\"\nurl = \"http://a\"\nretry_budget_percent = 101", "4:24: 101 is not within 0 to 100"),
        (
            "[[upstream]]\nname = \"a\"\nurl = \"http://a\"\nmemory_intensive = 0",
            "4:20: `upstream.memory_intensive`: invalid value: integer `0`, expected a nonzero usize",
        ),
        ("[[tool]]\nmatch = \"a\"\npriority = 11", "3:12: `tool.priority`: 11 is not within 0 to 10"),
        // Values that do not fit together
        (
            "[[upstream]]\nname = \"a\"\nurl = \"http://a\"\n\n[[upstream]]\nname = \"a\"\nurl = \"http://b\"",
            "6:8: another upstream or peer is already called `a`",
        ),
        (
            "[http]\nlisten = \"0.0.0.0:8080\"",
            "2:10: 0.0.0.0:8080 can be reached from other machines, so it needs a `[[http.client]]`, or `allow_anonymous = true`",
        ),
        (
            "[[upstream]]\nname = \"me\"\nurl = \"http://127.0.0.1:8080/mcp\"",
            "3:7: this is where the gateway itself listens (`http.listen` is 127.0.0.1:8080)",
        ),
        (
            "[http]\nlisten = \"[::]:80\"\nallow_anonymous = true\n[[upstream]]\nname = \"me\"\nurl = \"http://localhost/mcp/one\"",
            "6:7: this is where the gateway itself listens (`http.listen` is [::]:80)",
        ),
        ("[http]\njson_depth_max = 129", "2:18: `http.json_depth_max`: 129 is not within 1 to 128"),
        (
            "[http]\nseparator = \" \"",
            "2:13: `http.separator`: 1 to 4 characters that a tool's name may hold: letters, digits and `_.-/`",
        ),
        (
            "[http]\nsession_idle = \"2h\"\nsession_ttl = \"1h\"",
            "3:15: `http.session_ttl`: a session cannot end before it is idle: less than `session_idle`",
        ),
        (
            "[http]\nsession_idle = \"25h\"",
            "1:1: `http.session_ttl`: a session cannot end before it is idle: less than `session_idle`",
        ),
        (
            "[[tool]]\nmatch = \"a\"\nruntime = \"fastapi\"\nrequires_p2p = true",
            "4:16: a tool cannot require a peer and the HTTP runtime at once",
        ),
        ("[telemetry]\nsample_ratio = 1.5", "2:16: `telemetry.sample_ratio`: 1.5 is not within 0 to 1"),
        (
            "[http.tls]\ncert_file = \"no such file\"\nkey_file = \"none\"",
            "2:13: certificate file /etc/twinway/no such file cannot be read: No such file or directory (os error 2)",
        ),
        ("[telemetry]\nlog_filter = \"=\"", "2:14: `telemetry.log_filter`: `=` is not a log filter: invalid filter directive"),
        (
            "[[upstream]]\nname = \"a\"\nurl = \"http://a\"\n[upstream.headers]\n\"x y\" = \"1\"",
            "5:9: `x y` is not the name of a header",
        ),
        // Remedies
        (
            "[http]\nlisten = 127.0.0.1:8080",
            "2:15: invalid float, expected nothing; put it in quotes: listen = \"127.0.0.1:8080\"",
        ),
        (
            "[http]\nlisten = 127.0.0.1:8080 # here",
            "2:15: invalid float, expected nothing; put it in quotes: listen = \"127.0.0.1:8080\"",
        ),
        ("[upstream]\nname = \"a\"\nurl = \"http://a\"", "1:1: `upstream`: write `[[upstream]]`"),
        ("[http.client]\nname = \"a\"", "1:1: `http.client`: write `[[http.client]]`"),
        (
            "[p2p]\n[[p2p.allow]]\npeer = \"12D3\"\ntools = []",
            "3:8: `p2p.allow.peer`: `12D3` is not a PeerId (invalid multihash); `twinway id` prints one",
        ),
        ("[[tool]]\nmatch = \"a\"\ntimeout = 60", "3:11: `tool.timeout`: `60` has no unit; write \"60s\" for seconds"),
        ("[[tool]]\nmatch = \"a\"\ntimeout = \"25h\"", "3:11: a call may take 24h at most, and this is 1day 1h"),
        ("[admission]\ndefault_timeout = \"2days\"", "2:19: a call may take 24h at most, and this is 2days"),
        ("[http]\nworkers = 0", "2:11: `http.workers`: invalid value: integer `0`, expected a nonzero usize"),
        ("[http]\nworkers = \"two\"", "2:11: `http.workers`: invalid type: string \"two\", expected a nonzero usize"),
        ("[telemetry]\nsample_ratio = \"all\"", "2:16: `telemetry.sample_ratio`: invalid type: string \"all\", expected f64"),
        ("[http]\nseparator = 1", "2:13: `http.separator`: invalid type: integer `1`, expected a string"),
        (
            "[[upstream]]\nname = \"a\"\nurl = \"localhost:9100/mcp\"",
            "3:7: `upstream.url`: an address must begin with http:// or https://, such as http://127.0.0.1:9100/mcp",
        ),
        (
            "[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/1\", \"/ip4/0.0.0.0/tcp/1\"]\nauthority = \"open-loopback\"",
            "2:35: `/ip4/0.0.0.0/tcp/1` can be reached from other machines, which `authority = \"open-loopback\"` is not for; listen on /ip4/127.0.0.1, or use \"allowlist\"",
        ),
        // Secrets
        (
            "[[http.client]]\nname = \"a\"\ntoken = \"hunter2\"",
            "3:9: `http.client.token`: a secret is named as `env:NAME` or `file:PATH`, not written here",
        ),
        ("[[http.client]]\nname = \"a\"\ntoken = \"env:NOBODY\"", "3:9: the environment variable `NOBODY` is not set"),
        (
            "[[http.client]]\nname = \"a\"\ntoken = \"file:nothing\"",
            "3:9: the secret `/etc/twinway/nothing` cannot be read: No such file or directory (os error 2)",
        ),
        (
            "[[http.client]]\nname = \"a\"\ntoken = \"env:L\"\n[[http.client]]\nname = \"b\"\ntoken = \"env:L\"",
            "6:9: the token is the one of client `a`, so nobody could tell them apart",
        ),
        (
            "[[http.client]]\nname = \"anonymous\"\ntoken = \"env:L\"",
            "2:8: `anonymous` is the name of whoever comes to a gateway without clients",
        ),
        ("[[http.client]]\nname = \"a\"\ntoken = \"env:T\"", "3:9: a token shorter than 16 characters can be guessed"),
        ("[http]\nseal_key = \"env:T\"", "2:12: `http.seal_key`: a key shorter than 32 characters can be guessed"),
    ];
    for (text, expected) in cases {
        let error = parse_with(text, [("T", "short"), ("L", LONG)]).expect_err(text);

        assert_eq!(message(&error), format!("{ORIGIN}:{expected}"), "{text}");
    }
}

#[test]
fn every_bad_peer_has_one_message_with_its_place() {
    let good = format!("[[peer]]\nname = \"far\"\naddress = \"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}\"\n");
    let cases = [
        (good.clone(), "1:1: a peer needs the table `[p2p]`".to_owned()),
        (format!("[p2p]\n{good}{good}"), "6:8: another upstream or peer is already called `far`".to_owned()),
        ("[p2p]\n[[peer]]\nname = \"far\"\naddress = \"far\"".to_owned(), "4:11: `peer.address`: `far` is not a multiaddress such as `/ip4/127.0.0.1/tcp/4001`: invalid multiaddr".to_owned()),
        (
            "[p2p]\n[[peer]]\nname = \"far\"\naddress = \"/ip4/192.0.2.7/tcp/4001\"".to_owned(),
            "4:11: address `/ip4/192.0.2.7/tcp/4001` does not end in /p2p/ and the PeerId".to_owned(),
        ),
        (
            "[p2p]\nlisten = [\"/ip4/300.0.0.1/tcp/1\"]".to_owned(),
            "2:11: `p2p.listen`: `/ip4/300.0.0.1/tcp/1` is not a multiaddress such as `/ip4/127.0.0.1/tcp/4001`: failed to parse: invalid IPv4 address syntax".to_owned(),
        ),
        (
            "[p2p]\nlisten = []\nautority = \"deny\"".to_owned(),
            "3:1: unknown key `autority` in `p2p`; did you mean `authority`?".to_owned(),
        ),
        (
            "[p2p]\nkey_file = \"/dev/null\"".to_owned(),
            "2:12: key file /dev/null has mode 666: others can read it; make it 600, or replace the key if they may have"
                .to_owned(),
        ),
        (
            "[p2p]\nkey_file = \"/dev/null/key\"".to_owned(),
            "2:12: key file /dev/null/key cannot be read: Not a directory (os error 20)".to_owned(),
        ),
    ];
    for (text, expected) in cases {
        let error = parse(&text).expect_err(&text);

        assert_eq!(message(&error), format!("{ORIGIN}:{expected}"), "{text}");
    }
}

#[test]
fn the_environment_overrides_the_file_and_is_named_when_it_is_wrong() {
    let text = "[http]\nlisten = \"127.0.0.1:1\"\n[[upstream]]\nname = \"a\"\nurl = \"http://a\"";

    let good = [
        ("TWINWAY__HTTP__LISTEN", "127.0.0.1:2"),
        ("TWINWAY__HTTP__ALLOW_ANONYMOUS", "true"),
        ("TWINWAY__HTTP__ALLOWED_HOSTS", "[\"a.example\"]"),
        ("TWINWAY__UPSTREAM__0__URL", "http://b"),
        ("TWINWAY__TELEMETRY__LOG", "json"),
        ("TWINWAY_LOG", "not an override"),
    ];
    let config = parse_with(text, good).unwrap();
    assert_eq!(config.http.listen.port(), 2);
    assert!(config.http.allow_anonymous);
    assert_eq!(config.http.allowed_hosts, ["a.example"]);
    assert_eq!(config.upstream[0].url.as_ref().map(ToString::to_string).unwrap_or_default(), "http://b/");
    assert_eq!(config.telemetry.unwrap().log, telemetry::LogFormat::Json);

    let bad = [
        (
            "TWINWAY__HTTP__LISTEN",
            "x",
            "`http.listen`: invalid socket address syntax; write \"ADDRESS:PORT\" such as \"127.0.0.1:8080\"; host names are not taken",
        ),
        ("TWINWAY__HTTP__LISEN", "127.0.0.1:2", "unknown key `lisen` in `http`; did you mean `listen`?"),
        ("TWINWAY__UPSTREAM__1__URL", "http://b", "`upstream` has no entry `1`; entries count from 0"),
        ("TWINWAY__HTTP__LISTEN__PORT", "1", "`listen` is a value, not a table"),
        ("TWINWAY__HTTP__", "1", "the name of the variable has an empty part"),
    ];
    for (variable, value, expected) in bad {
        let error = parse_with(text, [(variable, value)]).expect_err(variable);

        assert_eq!(message(&error), format!("{variable}: {expected}"));
    }
}

#[test]
fn a_table_that_a_variable_makes_does_not_hide_the_key() {
    let error = parse_with("", [("TWINWAY__HTTP__LISTEN", "x")]).unwrap_err();

    assert!(message(&error).starts_with("TWINWAY__HTTP__LISTEN: `http.listen`: "), "{error}");
}

#[test]
fn a_node_that_nobody_can_call_is_warned_of() {
    let cases = [
        ("", vec![]),
        ("[p2p]", vec!["p2p"]),
        ("[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/1\"]\nauthority = \"open-loopback\"", vec![]),
        ("[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/1\"]\nauthority = \"allowlist\"", vec!["p2p.authority"]),
    ];
    for (text, expected) in cases {
        let warnings = parse(text).unwrap().warnings();

        assert_eq!(warnings.iter().map(|warning| &*warning.path).collect::<Vec<_>>(), expected, "{text}");
    }
}

#[test]
fn secrets_are_fetched_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "from-a-file-long-enough\n").unwrap();
    let text = "[[http.client]]\nname = \"a\"\ntoken = \"file:token\"\n[[upstream]]\nname = \"u\"\nurl = \"http://u\"\nbearer = \"env:T\"\n\
                headers = { x-key = \"env:K\", x-plain = \"plain\" }";
    let environment = [("T", "from-a-variable"), ("K", "from-another")].into();

    let config = Config::parse_within(text, &folder.path().join("twinway.toml"), &environment).unwrap();

    assert_eq!(config.http.client[0].token.expose(), "from-a-file-long-enough");
    assert_eq!(config.upstream[0].bearer.as_ref().unwrap().expose(), "from-a-variable");
    assert_eq!(config.upstream[0].headers["x-key"].expose(), "from-another");
    for printed in [format!("{config:?}"), config.to_toml().unwrap(), serde_json::to_string(&config).unwrap()] {
        assert!(!printed.contains("from-a"), "{printed}");
        assert!(printed.contains("***") && printed.contains("plain"), "{printed}");
    }
}

#[test]
fn what_is_shown_is_a_configuration_again() {
    let text = format!(
        "[p2p]\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\n[telemetry]\notlp = \"http://127.0.0.1:4317\"\n[[upstream]]\nname = \"a\"\nurl = \"http://a\"\n\
         [[peer]]\nname = \"far\"\naddress = \"/ip4/192.0.2.7/tcp/4001/p2p/{PEER}\"\n\
         [[tool]]\nmatch = \"p2p_*\"\nruntime = \"trio\"\ntimeout = \"90s\"\npriority = 7"
    );
    let shown = parse(&text).unwrap().to_toml().unwrap();

    let again = parse(&shown).unwrap_or_else(|error| panic!("{}\n{shown}", message(&error)));

    assert_eq!(again.to_toml().unwrap(), shown);
    assert_eq!(again.tool[0].timeout, Some(Duration::from_secs(90)));
    assert_eq!(again.tool[0].runtime, Some(RuntimeChoice::Mcpp));
    let pattern = again.tool[0].pattern.as_ref().unwrap();
    assert!(pattern.matches("p2p_render") && !pattern.matches("render"));
    assert_eq!(again.peer[0].trust, Trust::None);
    assert_eq!(again.p2p.unwrap().key_file, Path::new("/etc/twinway/twinway.key"));
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nowhere/twinway.toml")).unwrap_err();

    assert_eq!(
        message(&error),
        "the configuration `/nowhere/twinway.toml` cannot be read: No such file or directory (os error 2)"
    );
}

/// Regenerate it with `cargo run -- config schema > deploy/config.schema.json`.
#[test]
fn the_committed_schema_is_current() {
    let committed = include_str!("../../deploy/config.schema.json");

    let current = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());

    assert!(committed == current, "deploy/config.schema.json is out of date");
}
