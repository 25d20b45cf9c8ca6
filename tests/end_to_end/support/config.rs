//! Configurations for tests, as text, because that is what users write.

use std::fmt::{Display, Write};

/// The text of a configuration and the environment that goes with it.
#[derive(Default)]
pub(crate) struct Setup {
    http: String,
    tables: String,
    pub(crate) environment: Vec<(String, String)>,
}

impl Setup {
    /// On a free port of loopback.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An upstream with every default.
    pub(crate) fn upstream(self, name: &str, url: impl Display) -> Self {
        self.upstream_with(name, url, "")
    }

    /// An upstream with further lines in its table.
    pub(crate) fn upstream_with(mut self, name: &str, url: impl Display, lines: &str) -> Self {
        write!(self.tables, "\n[[upstream]]\nname = \"{name}\"\nurl = \"{url}\"\n{lines}\n").unwrap();
        self
    }

    /// Lines of the table `[http]`.
    pub(crate) fn http(mut self, lines: &str) -> Self {
        writeln!(self.http, "{lines}").unwrap();
        self
    }

    /// A client with a bearer token.
    pub(crate) fn client(mut self, name: &str, token: &str) -> Self {
        let variable = format!("TOKEN_OF_{}", name.to_uppercase());
        write!(self.tables, "\n[[http.client]]\nname = \"{name}\"\ntoken = \"env:{variable}\"\n").unwrap();
        self.environment.push((variable, token.to_owned()));
        self
    }

    /// Any other tables.
    pub(crate) fn tables(mut self, text: &str) -> Self {
        write!(self.tables, "\n{text}\n").unwrap();
        self
    }

    /// A variable of the gateway's environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the environment that another configuration needs, too.
    pub(crate) fn environment_of(mut self, other: &Self) -> Self {
        self.environment.extend(other.environment.iter().cloned());
        self
    }

    /// The whole document.
    pub(crate) fn text(&self) -> String {
        format!("[http]\nlisten = \"127.0.0.1:0\"\n{}{}", self.http, self.tables)
    }
}
