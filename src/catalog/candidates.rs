//! Makes one public tool out of several where a rule says so.
//!
//! The parts lose their own names in the merged view, so that nobody meets the same tool twice or goes round the rule; each
//! stays where it is in the view of its target alone. A part that is not there (yet) is left out. A part whose input schema
//! differs from that of the first one that is there keeps its own name, and that is reported.

use bytes::Bytes;
use runtime_mcp::handshake::part;
use twinway_proto::jcs::canonical;

use super::{Cause, Refused, names::Named};
use crate::config::ToolRule;

/// Tools under one public name: one, or several candidates.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The name in the merged view.
    pub(super) public: std::sync::Arc<str>,
    /// Who offers it, in the order of the rule; never empty.
    pub(super) parts: Vec<Named>,
    /// A rule made it.
    pub(super) made: bool,
}

/// What a part's schema is compared by, and whose it is.
pub(super) trait Parts {
    /// The definition of a tool.
    fn definition(&self, named: &Named) -> &Bytes;
    /// Its target.
    fn target(&self, named: &Named) -> runtime_api::TargetId;
}

/// Groups named tools by the rules with `from`.
pub(super) fn group<'r>(
    mut named: Vec<Named>,
    rules: impl Iterator<Item = &'r ToolRule>,
    tools: &impl Parts,
    refused: &mut Vec<Refused>,
) -> Vec<Group> {
    let mut made = Vec::new();
    for rule in rules {
        let mut parts = Vec::new();
        for name in &rule.from {
            if let Some(place) = named.iter().position(|one| &*one.public == name.as_str()) {
                parts.push(named.swap_remove(place));
            }
        }
        if !rule.compatible {
            named.extend(misfits(&mut parts, tools, refused));
        }
        let Some(name) = rule.name.as_deref().filter(|_| !parts.is_empty()) else { continue };
        drop_namesakes(&mut named, name, &parts[0], tools, refused);
        made.push(Group { public: name.into(), parts, made: true });
    }
    let alone = |one: Named| Group { public: one.public.clone(), parts: vec![one], made: false };
    named.into_iter().map(alone).chain(made).collect()
}

/// Takes out the parts whose input schema is not that of the first.
fn misfits(parts: &mut Vec<Named>, tools: &impl Parts, refused: &mut Vec<Refused>) -> Vec<Named> {
    if parts.len() < 2 {
        return Vec::new();
    }
    let first = schema(tools.definition(&parts[0]));
    let holder = tools.target(&parts[0]);
    let misfits: Vec<_> = parts.extract_if(1.., |part| schema(tools.definition(part)) != first).collect();
    refused.extend(misfits.iter().map(|misfit| Refused {
        public: misfit.public.clone(),
        target: tools.target(misfit),
        holder: holder.clone(),
        cause: Cause::OtherSchema,
    }));
    misfits
}

/// The rule is written for its name, so another tool that has it is not offered.
fn drop_namesakes(named: &mut Vec<Named>, name: &str, first: &Named, tools: &impl Parts, refused: &mut Vec<Refused>) {
    if let Some(place) = named.iter().position(|one| &*one.public == name) {
        let namesake = named.swap_remove(place);
        let (target, holder) = (tools.target(&namesake), tools.target(first));
        refused.push(Refused { public: namesake.public, target, holder, cause: Cause::NameTaken });
    }
}

/// Equal for schemas that mean the same, however they are written. What has no canonical form is compared byte by byte.
fn schema(definition: &Bytes) -> Option<Vec<u8>> {
    let raw = part(definition, "inputSchema")?;
    let text = std::str::from_utf8(&raw).unwrap_or_default();
    Some(canonical(text).unwrap_or_else(|_| raw.to_vec()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// Tools by place, each of a target of its own.
    struct Tools(Vec<(&'static str, Bytes)>);

    impl Parts for Tools {
        fn definition(&self, named: &Named) -> &Bytes {
            &self.0[named.target].1
        }

        fn target(&self, named: &Named) -> runtime_api::TargetId {
            self.0[named.target].0.into()
        }
    }

    fn grouped(rules: &str, tools: &[(&'static str, &'static str, &str)]) -> (Vec<(String, Vec<usize>)>, Vec<Refused>) {
        let config = Config::parse(rules, Path::new("test.toml")).expect("a good configuration");
        let named =
            (0..tools.len()).map(|place| Named { public: tools[place].1.into(), full: None, target: place, item: 0 }).collect();
        let definitions =
            tools.iter().map(|(target, _, schema)| (*target, Bytes::from(format!(r#"{{"inputSchema":{schema}}}"#))));
        let mut refused = Vec::new();
        let groups =
            group(named, config.tool.iter().filter(|rule| rule.name.is_some()), &Tools(definitions.collect()), &mut refused);
        let mut groups: Vec<_> = groups
            .into_iter()
            .map(|group| (group.public.to_string(), group.parts.iter().map(|part| part.target).collect::<Vec<_>>()))
            .collect();
        groups.sort();
        (groups, refused)
    }

    const RULE: &str = "[[tool]]\nname = \"echo\"\nfrom = [\"near.echo\", \"far.echo\"]\n";
    const SCHEMA: &str = r#"{"type":"object","properties":{"n":{"minimum":1}}}"#;

    #[test]
    fn parts_become_one_tool_in_the_order_of_the_rule_however_their_schema_is_written() {
        let same = r#"{ "properties": {"n": {"minimum": 1.0}}, "type": "object" }"#;

        let (groups, refused) =
            grouped(RULE, &[("far", "far.echo", same), ("near", "near.echo", SCHEMA), ("near", "near.x", "{}")]);

        assert_eq!(groups, [("echo".to_owned(), vec![1, 0]), ("near.x".to_owned(), vec![2])]);
        assert!(refused.is_empty());
    }

    #[test]
    fn a_part_with_another_schema_keeps_its_name_and_is_reported_unless_the_rule_says_that_it_fits() {
        let tools = [("near", "near.echo", SCHEMA), ("far", "far.echo", r#"{"type":"object"}"#)];

        let (groups, refused) = grouped(RULE, &tools);
        let (compatible, nothing) = grouped(&format!("{RULE}compatible = true\n"), &tools);

        assert_eq!(groups, [("echo".to_owned(), vec![0]), ("far.echo".to_owned(), vec![1])]);
        let expected =
            Refused { public: "far.echo".into(), target: "far".into(), holder: "near".into(), cause: Cause::OtherSchema };
        assert_eq!(refused, [expected]);
        assert_eq!((compatible, nothing), (vec![("echo".to_owned(), vec![0, 1])], vec![]));
    }

    #[test]
    fn the_name_of_a_rule_is_not_shared_and_a_part_that_is_missing_is_left_out() {
        let (groups, refused) = grouped(RULE, &[("far", "far.echo", SCHEMA), ("other", "echo", SCHEMA)]);

        assert_eq!(groups, [("echo".to_owned(), vec![0])]);
        assert_eq!((refused[0].cause, refused[0].target.as_str()), (Cause::NameTaken, "other"));
        assert_eq!(grouped(RULE, &[]).0, []);
    }
}
