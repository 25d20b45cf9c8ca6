//! Says what to write instead, where the message of a parser does not.

use runtime_mcpp::Multiaddr;
use toml::de::DeValue;

/// Tables that may stand several times, each with brackets of its own.
const REPEATED: [&str; 5] = ["upstream", "peer", "tool", "http.client", "p2p.allow"];

/// What is wrong with a value at `path`, in better words than `message` when there are any.
pub(super) fn reword(path: &str, message: &str, value: Option<&DeValue<'_>>) -> Option<String> {
    if message.contains("socket address") {
        let example = r#"write "ADDRESS:PORT" such as "127.0.0.1:8080"; host names are not taken"#;
        return Some(format!("{message}; {example}"));
    }
    match path {
        _ if REPEATED.contains(&path) && message.ends_with("expected a sequence") => Some(format!("write `[[{path}]]`")),
        "peer.address" | "peer.addresses" | "p2p.listen" => {
            let (text, error) = bad_address(value?)?;
            Some(format!("`{text}` is not a multiaddress such as `/ip4/127.0.0.1/tcp/4001`: {error}"))
        }
        "p2p.allow.peer" => {
            let text = value?.as_str()?;
            Some(format!("`{text}` is not a PeerId ({message}); `twinway id` prints one"))
        }
        _ => None,
    }
}

/// The first text in a value that is not a multiaddress, and why.
fn bad_address(value: &DeValue<'_>) -> Option<(String, String)> {
    match value {
        DeValue::String(text) => text.parse::<Multiaddr>().err().map(|error| (text.to_string(), error.to_string())),
        DeValue::Array(items) => items.iter().find_map(|item| bad_address(item.get_ref())),
        _ => None,
    }
}

/// What to write instead of a line that is not TOML: most often only the quotes are missing.
pub(super) fn quotes(line: &str) -> Option<String> {
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.split(" #").next()?.trim());
    let is_bare = !value.is_empty() && !value.starts_with(['"', '\'', '[', '{']) && !value.contains(['"', '=']);
    (is_bare && DeValue::parse(value).is_err()).then(|| format!("put it in quotes: {key} = \"{value}\""))
}
