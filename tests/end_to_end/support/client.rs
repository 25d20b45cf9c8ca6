//! A client that writes every byte itself, in either era.

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue, Method, Request};
use serde_json::Value;

use super::{
    Answer,
    http::{Open, open, send, send_h2},
};

pub(crate) const MODERN: &str = "2026-07-28";
pub(crate) const LATEST_LEGACY: &str = "2025-11-25";

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    Modern,
    Legacy,
}

/// A client of one endpoint. Everything about it may be changed to make it a bad one.
#[derive(Debug, Clone)]
pub(crate) struct Mcp {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) era: Era,
    pub(crate) revision: String,
    pub(crate) bearer: Option<String>,
    pub(crate) session: Option<String>,
    /// The raw capabilities that it declares: with each request, or when it initializes.
    pub(crate) capabilities: String,
}

impl Mcp {
    /// Of revision 2026-07-28.
    pub(crate) fn modern(address: SocketAddr) -> Self {
        let (path, revision) = ("/mcp".to_owned(), MODERN.to_owned());
        Self { address, path, era: Era::Modern, revision, bearer: None, session: None, capabilities: "{}".to_owned() }
    }

    /// Of an earlier revision, without a session yet: [`Mcp::open`] gets one.
    pub(crate) fn legacy(address: SocketAddr) -> Self {
        Self { era: Era::Legacy, revision: LATEST_LEGACY.to_owned(), ..Self::modern(address) }
    }

    /// At the view of one upstream.
    pub(crate) fn at(self, upstream: &str) -> Self {
        Self { path: format!("/mcp/{upstream}"), ..self }
    }

    /// With that query in its address.
    pub(crate) fn asking(self, query: &str) -> Self {
        Self { path: format!("{}?{query}", self.path), ..self }
    }

    /// With a bearer token.
    pub(crate) fn bearer(self, token: &str) -> Self {
        Self { bearer: Some(token.to_owned()), ..self }
    }

    /// Declaring these raw capabilities.
    pub(crate) fn declares(self, capabilities: &str) -> Self {
        Self { capabilities: capabilities.to_owned(), ..self }
    }

    /// Initializes a session of that revision.
    pub(crate) async fn open(mut self, revision: &str) -> Self {
        let answer = self.initialize(revision).await;
        self.revision = answer.result()["protocolVersion"].as_str().unwrap().to_owned();
        self.session = Some(answer.header("mcp-session-id").to_owned());
        let accepted = self.notify("notifications/initialized", "").await;
        assert_eq!(accepted.status, 202);
        self
    }

    /// Only asks for a session.
    pub(crate) async fn initialize(&self, revision: &str) -> Answer {
        send(self.address, self.initialization(revision)).await
    }

    /// The request that asks for a session.
    pub(crate) fn initialization(&self, revision: &str) -> Request<String> {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{revision}","capabilities":{},"clientInfo":{{"name":"raw","version":"1"}}}}}}"#,
            self.capabilities
        );
        let mut request = Request::post(&self.path).header("content-type", "application/json");
        if let Some(token) = &self.bearer {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.header("accept", "application/json, text/event-stream").body(body).unwrap()
    }

    /// Ends the session.
    pub(crate) async fn end(&self) -> Answer {
        let mut request = self.head(Method::DELETE, String::new());
        request.headers_mut().remove("content-type");
        send(self.address, request).await
    }

    /// A notification with those members of `params`.
    pub(crate) async fn notify(&self, method: &str, members: &str) -> Answer {
        let body = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{{members}}}}}"#);
        send(self.address, self.head(Method::POST, body)).await
    }

    /// A request of that method.
    pub(crate) fn ask<'a>(&'a self, method: &'a str) -> Ask<'a> {
        Ask {
            client: self,
            method,
            id: "1".to_owned(),
            members: String::new(),
            meta: String::new(),
            capabilities: self.capabilities.clone(),
            name: None,
            headers: Vec::new(),
        }
    }

    /// A call of a tool. `arguments` is the raw JSON object.
    pub(crate) fn tool<'a>(&'a self, name: &str, arguments: &str) -> Ask<'a> {
        let ask = self.ask("tools/call").params(&format!(r#""name":"{name}","arguments":{arguments}"#));
        Ask { name: Some(name.to_owned()), ..ask }
    }

    /// Calls a tool and waits for the answer.
    pub(crate) async fn call(&self, name: &str, arguments: &str) -> Answer {
        self.tool(name, arguments).send().await
    }

    /// Every page of `tools/list`.
    pub(crate) async fn pages(&self) -> Vec<Value> {
        let mut pages: Vec<Value> = Vec::new();
        let mut members = String::new();
        loop {
            let page = self.ask("tools/list").params(&members).send().await.result();
            let cursor = page.get("nextCursor").cloned();
            pages.push(page);
            match cursor {
                Some(cursor) => members = format!(r#""cursor":{cursor}"#),
                None => return pages,
            }
        }
    }

    /// The names of all tools, in order.
    pub(crate) async fn tool_names(&self) -> Vec<String> {
        let pages = self.pages().await;
        let tools = pages.iter().flat_map(|page| page["tools"].as_array().unwrap());
        tools.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    /// A request with the headers that this client sends always.
    pub(crate) fn head(&self, method: Method, body: String) -> Request<String> {
        let mut request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", &self.revision);
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session);
        }
        if let Some(token) = &self.bearer {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        request.body(body).unwrap()
    }
}

/// One request in the making.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    client: &'a Mcp,
    method: &'a str,
    id: String,
    members: String,
    meta: String,
    /// The raw capabilities of a modern client.
    capabilities: String,
    name: Option<String>,
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
}

impl Ask<'_> {
    /// Its id as raw JSON.
    pub(crate) fn id(self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self }
    }

    /// The raw members of `params` beside `_meta`.
    pub(crate) fn params(self, members: &str) -> Self {
        Self { members: members.to_owned(), ..self }
    }

    /// Raw members of `_meta` beside those that the era wants.
    pub(crate) fn meta(self, members: &str) -> Self {
        Self { meta: members.to_owned(), ..self }
    }

    /// The raw capabilities that a modern client declares with it.
    pub(crate) fn declares(self, capabilities: &str) -> Self {
        Self { capabilities: capabilities.to_owned(), ..self }
    }

    /// Another header, in place of the client's own of that name.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((HeaderName::from_static(name), Some(HeaderValue::from_str(value).unwrap())));
        self
    }

    /// Leaves a header out.
    pub(crate) fn without(mut self, name: &'static str) -> Self {
        self.headers.push((HeaderName::from_static(name), None));
        self
    }

    /// Sends it and reads the whole answer.
    pub(crate) async fn send(self) -> Answer {
        send(self.client.address, self.request()).await
    }

    /// Sends it over HTTP/2.
    pub(crate) async fn send_h2(self) -> Answer {
        send_h2(self.client.address, self.request()).await
    }

    /// Sends it and waits for the head of the answer. Dropping the future or what it gives closes the connection.
    pub(crate) async fn open(self) -> Open {
        open(self.client.address, self.request()).await
    }

    /// The body.
    pub(crate) fn body(&self) -> String {
        let own = match self.client.era {
            Era::Modern => format!(
                r#""io.modelcontextprotocol/protocolVersion":"{}","io.modelcontextprotocol/clientInfo":{{"name":"raw","version":"1"}},"io.modelcontextprotocol/clientCapabilities":{}"#,
                self.client.revision, self.capabilities
            ),
            Era::Legacy => String::new(),
        };
        let join = |a: &str, b: &str| if a.is_empty() || b.is_empty() { format!("{a}{b}") } else { format!("{a},{b}") };
        let meta = join(&own, &self.meta);
        let meta = if meta.is_empty() { meta } else { format!(r#""_meta":{{{meta}}}"#) };
        let (id, method, params) = (&self.id, self.method, join(&self.members, &meta));
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
    }

    /// The whole request.
    pub(crate) fn request(&self) -> Request<String> {
        let mut request = self.client.head(Method::POST, self.body());
        let headers = request.headers_mut();
        if self.client.era == Era::Modern {
            headers.insert("mcp-method", self.method.parse().unwrap());
            if let Some(name) = &self.name {
                headers.insert("mcp-name", name.parse().unwrap());
            }
        }
        for (name, value) in &self.headers {
            match value {
                Some(value) => headers.insert(name, value.clone()),
                None => headers.remove(name),
            };
        }
        request
    }
}
