//! `twinway demo`: everything at once, on loopback, in one process.
//!
//! ```text
//! this program --HTTP--> near gateway --HTTP-----> near tool server
//!                            |
//!                            +--libp2p--> far gateway --HTTP--> far tool server
//! ```

mod folder;
mod tool_server;

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use runtime_http::tls::Trust;
use serde_json::{Map, json};
use tokio::{sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Client, Failure, Output, listen_address,
    serve::{built_in, node_addresses, runtime},
    signal::Stop,
    tools::{ToolResult, call},
};
use crate::{
    app::{Addresses, App},
    catalog::Catalog,
    telemetry,
};
use folder::Folder;
use tool_server::ToolServer;

/// Time for each step on loopback; one that takes longer will not come at all.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// See it work.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// End after the calls instead of serving until Ctrl-C.
    #[arg(long)]
    once: bool,
    /// Where the near gateway listens; by default on a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0", value_parser = listen_address)]
    listen: SocketAddr,
}

/// Everything that runs, and how to end it.
struct Cast {
    parts: JoinSet<Result<(), Failure>>,
    stop: CancellationToken,
}

impl Demo {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        runtime()?.block_on(self.play(output))
    }

    async fn play(self, output: Output) -> Result<(), Failure> {
        // Only what goes wrong: the story is told on standard output.
        let quiet = telemetry::Config { log_filter: "warn".to_owned(), ..telemetry::Config::default() };
        let _logs = telemetry::init(&quiet).map_err(Failure::usage)?;
        let mut signals = Stop::listen()?;
        let folder = Folder::create()?;
        let mut cast = Cast { parts: JoinSet::new(), stop: CancellationToken::new() };

        let played = tokio::select! {
            biased;
            () = signals.next() => Ok(()),
            played = self.story(&mut cast, &folder, output) => played,
        };
        if played.is_ok() && !self.once {
            output.say("\nServing until Ctrl-C.")?;
            signals.next().await;
        }
        cast.stop.cancel();
        while let Some(ended) = cast.parts.join_next().await {
            ended.map_err(Failure::failed)??;
        }
        played
    }

    /// Brings everything up and calls a tool over each runtime.
    async fn story(&self, cast: &mut Cast, folder: &Folder, output: Output) -> Result<(), Failure> {
        let near_tools = cast.tool_server("near").await?;
        let far_tools = cast.tool_server("far").await?;
        let (far, _) = cast.gateway(&far_config(folder, far_tools)).await?;
        let peer = far.node.as_ref().map(node_addresses).and_then(|addresses| addresses.into_iter().next());
        let peer = peer.ok_or_else(|| Failure::failed("the far gateway has no libp2p address"))?;
        let (near, catalog) = cast.gateway(&near_config(folder, self.listen, near_tools, &peer)).await?;
        catalog.settled(STEP_TIMEOUT).await;
        let near = near.http.ok_or_else(|| Failure::failed("the near gateway has no HTTP address"))?;

        output.say(&format!(
            "Running on loopback, in this process:\n  tool server   http://{near_tools}/mcp\n  far gateway   {peer}\n                \
             with its own tool server http://{far_tools}/mcp\n  near gateway  http://{near}/mcp"
        ))?;
        let endpoint = format!("http://{near}").parse().map_err(|error: String| Failure::failed(error))?;
        let client = Client::new(&endpoint, None, STEP_TIMEOUT, Trust::Machine)?;
        let hello = json!({ "text": "hello" });
        let sum = json!({ "a": 2, "b": 40 });
        for (tool, arguments) in [("near.echo", &hello), ("far.echo", &hello), ("near.add", &sum), ("far.add", &sum)] {
            tell(&client, tool, arguments.as_object().cloned().unwrap_or_default(), output).await?;
        }
        // With `--once` there is nothing left to connect to.
        if self.once {
            return Ok(());
        }
        output.say(&format!(
            "\nConnect an MCP client to http://{near}/mcp, for example:\n  claude mcp add --transport http twinway http://{near}/mcp\n  \
             twinway call --endpoint http://{near}/mcp --explain far.echo '{{\"text\":\"hello\"}}'"
        ))?;
        Ok(())
    }
}

/// Calls a tool and says what happened.
async fn tell(client: &Client, tool: &str, arguments: Map<String, serde_json::Value>, output: Output) -> Result<(), Failure> {
    let asked = serde_json::Value::from(arguments.clone());
    let raw = call(client, tool, arguments, true).await?;
    let result: ToolResult = serde_json::from_str(raw.get()).map_err(Failure::failed)?;
    let explanation = result.explanation().unwrap_or_default();
    output.either(
        &json!({ "tool": tool, "arguments": asked, "result": raw }),
        &format!("\n{tool} {asked}\n  answered: {}\n  {explanation}", result.text()),
    )?;
    if result.is_error { Err(Failure::ToolError) } else { Ok(()) }
}

impl Cast {
    async fn tool_server(&mut self, name: &'static str) -> Result<SocketAddr, Failure> {
        let server = ToolServer::bind(name).await?;
        let address = server.address()?;
        let stop = self.stop.clone();
        self.parts.spawn(async move {
            server.serve(stop).await;
            Ok(())
        });
        Ok(address)
    }

    /// Starts a gateway and waits until it is ready.
    async fn gateway(&mut self, config: &str) -> Result<(Addresses, Catalog), Failure> {
        let app = App::builder(built_in(config)?).build().await.map_err(Failure::usage)?;
        let (addresses, catalog) = (app.addresses().clone(), app.catalog().clone());
        let (ready, is_ready) = oneshot::channel();
        let stop = self.stop.clone();
        self.parts.spawn(async move {
            // Nobody waits any more when the program is being ended; then being ready does not matter.
            app.run(stop, move || ready.send(()).unwrap_or(())).await.map_err(Failure::failed)
        });
        match tokio::time::timeout(STEP_TIMEOUT, is_ready).await {
            Ok(Ok(())) => Ok((addresses, catalog)),
            Ok(Err(_)) | Err(_) => Err(Failure::failed("a gateway did not become ready")),
        }
    }
}

fn far_config(folder: &Folder, tools: SocketAddr) -> String {
    format!(
        r#"
        [http]
        listen = "127.0.0.1:0"
        workers = 1
        drain_timeout = "1s"
        [p2p]
        listen = ["/ip4/127.0.0.1/tcp/0"]
        key_file = '{key}'
        authority = "open-loopback"
        [[upstream]]
        name = "tools"
        url = "http://{tools}/mcp"
        prefix = "never"
        "#,
        key = folder.path().join("far.key").display(),
    )
}

fn near_config(folder: &Folder, listen: SocketAddr, tools: SocketAddr, peer: &str) -> String {
    format!(
        r#"
        [http]
        listen = "{listen}"
        drain_timeout = "1s"
        [p2p]
        key_file = '{key}'
        [[upstream]]
        name = "near"
        url = "http://{tools}/mcp"
        [[peer]]
        name = "far"
        address = "{peer}"
        "#,
        key = folder.path().join("near.key").display(),
    )
}
