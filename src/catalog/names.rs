//! Gives each tool the name under which the merged view offers it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use runtime_api::{CallService, RuntimeId, TargetOffers};
use sha2::{Digest, Sha256};

use super::{Cause, Refused};
use crate::config::Prefix;

/// Longest public name in bytes. The specification allows 128, but many clients refuse more than 64.
pub const NAME_BYTES_MAX: usize = 64;

/// Hexadecimal digits of the digest in a shortened name: 40 bits keep 100,000 long names apart.
const DIGEST_DIGITS: usize = 10;

/// A tool and its public name. The numbers are places in the list of targets and in the target's list of tools.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) public: Arc<str>,
    pub(super) target: usize,
    pub(super) tool: usize,
}

pub(super) type Offered = (RuntimeId, CallService, Arc<TargetOffers>);

/// Names every tool of every target. Targets that come first hold a name against those that come later.
pub(super) fn assign(
    offered: &[Offered],
    prefix_of: impl Fn(&runtime_api::TargetId) -> Prefix,
    separator: &str,
) -> (Vec<Named>, Vec<Refused>) {
    let shared = names_of_several(offered);
    let mut holders: HashMap<Arc<str>, usize> = HashMap::new();
    let (mut named, mut refused) = (Vec::new(), Vec::new());
    for (place, (_, _, target)) in offered.iter().enumerate() {
        let prefix = prefix_of(&target.target);
        for (tool_place, tool) in target.tools.iter().enumerate() {
            let bare = match prefix {
                Prefix::Always => false,
                Prefix::Never => true,
                Prefix::OnConflict => !shared.contains(&tool.name),
            };
            let full = if bare { tool.name.to_string() } else { format!("{}{separator}{}", target.target, tool.name) };
            let public = short(&full);
            match holders.get(&public) {
                Some(holder) => {
                    let holder = offered[*holder].2.target.clone();
                    refused.push(Refused { public, target: target.target.clone(), holder, cause: Cause::NameTaken });
                }
                None => {
                    holders.insert(public.clone(), place);
                    named.push(Named { public, target: place, tool: tool_place });
                }
            }
        }
    }
    (named, refused)
}

/// Names that more than one target uses.
fn names_of_several(offered: &[Offered]) -> HashSet<Arc<str>> {
    let mut seen = HashMap::new();
    let mut shared = HashSet::new();
    for (place, (_, _, target)) in offered.iter().enumerate() {
        for tool in target.tools.iter() {
            if *seen.entry(tool.name.clone()).or_insert(place) != place {
                shared.insert(tool.name.clone());
            }
        }
    }
    shared
}

/// The name itself, or a stable short form that begins alike and ends in a digest of the whole.
fn short(full: &str) -> Arc<str> {
    if full.len() <= NAME_BYTES_MAX {
        return full.into();
    }
    let digest = Sha256::digest(full.as_bytes());
    let digest: String = digest.iter().take(DIGEST_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    let mut cut = NAME_BYTES_MAX - DIGEST_DIGITS - 1;
    while !full.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}-{digest}", &full[..cut]).into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use runtime_api::{CallError, Eras, Reply, TargetState, Tool, erase};

    use super::*;

    fn offered(targets: &[(&str, &[&str])]) -> Vec<Offered> {
        let service = erase(tower::service_fn(|_| async { Ok::<_, CallError>(Reply::new(Bytes::new())) }));
        let tool = |name: &&str| Tool { name: (*name).into(), definition: Bytes::from(format!(r#"{{"name":"{name}"}}"#)) };
        let target = |(name, tools): &(&str, &[&str])| {
            let tools = tools.iter().map(tool).collect();
            let eras = Eras::default();
            let (state, transport) = (TargetState::Ready, None);
            let offers = TargetOffers { target: (*name).into(), state, transport, eras, server_info: None, tools };
            (RuntimeId("http".into()), service.clone(), Arc::new(offers))
        };
        targets.iter().map(target).collect()
    }

    fn names(named: &[Named]) -> Vec<&str> {
        named.iter().map(|named| &*named.public).collect()
    }

    #[test]
    fn each_prefix_mode_names_as_it_says() {
        let offered = offered(&[("a", &["x", "y"]), ("b", &["x", "z"])]);

        let (always, _) = assign(&offered, |_| Prefix::Always, ".");
        let (on_conflict, _) = assign(&offered, |_| Prefix::OnConflict, "__");

        assert_eq!(names(&always), ["a.x", "a.y", "b.x", "b.z"]);
        assert_eq!(names(&on_conflict), ["a__x", "y", "b__x", "z"]);
    }

    #[test]
    fn a_name_that_would_shadow_another_is_refused_and_reported() {
        let offered = offered(&[("a", &["x"]), ("b", &["x", "z"])]);

        let (named, refused) = assign(&offered, |_| Prefix::Never, ".");

        assert_eq!(names(&named), ["x", "z"]);
        assert_eq!(refused, [Refused { public: "x".into(), target: "b".into(), holder: "a".into(), cause: Cause::NameTaken }]);
    }

    #[test]
    fn long_names_become_short_stable_and_different() {
        let long = "n".repeat(100);
        let (a, b) = (short(&format!("{long}a")), short(&format!("{long}b")));

        assert_eq!(a.len(), NAME_BYTES_MAX);
        assert_ne!(a, b);
        assert_eq!(a, short(&format!("{long}a")));
        assert!(short(&"ü".repeat(60)).len() <= NAME_BYTES_MAX);
    }
}
