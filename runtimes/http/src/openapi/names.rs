//! Names that do not change while the document does not: of tools, of arguments, of definitions.

/// Longest name of a tool (MCP 2026-07-28, tool names). The merged view shortens further.
const TOOL_NAME_BYTES_MAX: usize = 128;

/// Longest name of an argument: what providers of models accept as a property of a tool's schema.
pub(crate) const ARGUMENT_NAME_BYTES_MAX: usize = 64;

/// The name of an operation's tool: its `operationId`, or `{method}_{path}` when it has none or another has it already.
pub(crate) fn tool(operation_id: Option<&str>, method: &str, path: &str, taken: impl Fn(&str) -> bool) -> Box<str> {
    let own = operation_id.map(|id| plain(id, TOOL_NAME_BYTES_MAX)).filter(|name| !taken(name));
    own.unwrap_or_else(|| unique(&derived(method, path), taken))
}

fn derived(method: &str, path: &str) -> Box<str> {
    let words = path.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let words: Vec<_> = std::iter::once(method).chain(words).collect();
    plain(&words.join("_"), TOOL_NAME_BYTES_MAX)
}

/// `text` with everything but letters, digits and `_.-` replaced by `_`, and cut; never empty.
pub(crate) fn plain(text: &str, bytes_max: usize) -> Box<str> {
    let fits = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-');
    let plain: String = text.chars().map(|character| if fits(character) { character } else { '_' }).take(bytes_max).collect();
    if plain.is_empty() { "_".into() } else { plain.into() }
}

/// `name`, or the first of `name_2`, `name_3` … that is free.
pub(crate) fn unique(name: &str, taken: impl Fn(&str) -> bool) -> Box<str> {
    if !taken(name) {
        return name.into();
    }
    let numbered = (2_u32..).map(|number| format!("{name}_{number}"));
    numbered.map(String::into_boxed_str).find(|name| !taken(name)).expect("some number is free")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn operations_without_an_id_are_named_after_method_and_path() {
        let cases = [
            (Some("read_item"), "get", "/x", "read_item"),
            (Some("repos/get content"), "get", "/x", "repos_get_content"),
            (None, "get", "/items/{item_id}/parts", "get_items_item_id_parts"),
            (None, "delete", "/", "delete"),
            (Some("taken"), "post", "/a-b", "post_a_b"),
        ];
        for (id, method, path, expected) in cases {
            assert_eq!(&*tool(id, method, path, |name| name == "taken"), expected);
        }
        assert_eq!(&*tool(None, "get", "/a", |name| name == "get_a" || name == "get_a_2"), "get_a_3");
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_clients_take(id in "\\PC{0,200}", path in "\\PC{0,200}") {
            for name in [tool(Some(&id), "get", &path, |_| false), tool(None, "get", &path, |_| false)] {
                prop_assert!((1..=128).contains(&name.len()));
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)));
            }
        }
    }
}
