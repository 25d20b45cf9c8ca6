//! Gives each tool, prompt and resource the name under which the merged view offers it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use runtime_api::{Kind, TargetId};
use sha2::{Digest, Sha256};

use super::{Cause, Refused, offered::Offered};
use crate::config::Prefix;

/// Longest public name in bytes. The specification allows 128, but many clients refuse more than 64.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest name that a tool may have at its target (2025-11-25 and 2026-07-28, tools).
const OWN_NAME_BYTES_MAX: usize = 128;

/// Longest name given to a tool whose own is none: with the longest name of a target and separator before it, it fits.
const REPAIRED_BYTES_MAX: usize = 28;

/// Hexadecimal digits of the digest in a shortened name: 40 bits keep 100,000 long names apart.
const DIGEST_DIGITS: usize = 10;

/// Begins the URIs that name a target, because another one has the URI behind it.
const QUALIFIED: &str = "twinway://";

/// An item and its public name. The numbers are places in the list of targets and in the target's list of such items.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) public: Arc<str>,
    /// What it would be if clients took any name.
    pub(super) full: Option<Arc<str>>,
    pub(super) target: usize,
    pub(super) item: usize,
}

/// Names every item of a kind of every target. Targets that come first hold a name against those that come later.
pub(super) fn assign(
    offered: &[Offered],
    kind: Kind,
    prefix_of: impl Fn(&TargetId) -> Prefix,
    separator: &str,
) -> (Vec<Named>, Vec<Refused>) {
    let shared = names_of_several(offered, kind);
    let mut holders: HashMap<Arc<str>, usize> = HashMap::new();
    let (mut named, mut refused) = (Vec::new(), Vec::new());
    for (place, offer) in offered.iter().enumerate() {
        let Offered { target, items, .. } = offer;
        let prefix = prefix_of(&target.target);
        for (item_place, item) in items.of(kind).iter().enumerate() {
            let (public, full) = match kind {
                Kind::Tool | Kind::Prompt => {
                    let bare = match prefix {
                        Prefix::Always => false,
                        Prefix::Never => true,
                        Prefix::OnConflict => !shared.contains(&item.name),
                    };
                    let label = |name: &Arc<str>| match bare {
                        true => Arc::clone(name),
                        false => format!("{}{separator}{name}", target.target).into(),
                    };
                    let (public, full) = (short(&label(&item.name)), label(offer.own_name(kind, item_place)));
                    let is_other = public != full;
                    (public, is_other.then_some(full))
                }
                // A URI is no label: it stays what it is, unless it leads somewhere else already.
                Kind::Resource | Kind::Template if holders.contains_key(&item.name) => {
                    (qualified(&target.target, &item.name), None)
                }
                Kind::Resource | Kind::Template => (item.name.clone(), None),
            };
            match holders.get(&public) {
                Some(holder) => {
                    let holder = offered[*holder].target.target.clone();
                    refused.push(Refused { public, target: target.target.clone(), holder, cause: Cause::NameTaken });
                }
                None => {
                    holders.insert(public.clone(), place);
                    named.push(Named { public, full, target: place, item: item_place });
                }
            }
        }
    }
    (named, refused)
}

/// Names that more than one target uses.
fn names_of_several(offered: &[Offered], kind: Kind) -> HashSet<Arc<str>> {
    let mut seen = HashMap::new();
    let mut shared = HashSet::new();
    for (place, Offered { items, .. }) in offered.iter().enumerate() {
        for item in items.of(kind).iter() {
            if *seen.entry(item.name.clone()).or_insert(place) != place {
                shared.insert(item.name.clone());
            }
        }
    }
    shared
}

/// The URI of a resource of this target, whoever else has one that is the same.
pub(super) fn qualified(target: &TargetId, uri: &str) -> Arc<str> {
    format!("{QUALIFIED}{target}/{uri}").into()
}

/// The target and its own URI in a qualified one.
pub(super) fn unqualified(uri: &str) -> Option<(&str, &str)> {
    uri.strip_prefix(QUALIFIED)?.split_once('/')
}

/// The name itself, or a stable short form that begins alike and ends in a digest of the whole.
fn short(full: &str) -> Arc<str> {
    if full.len() <= NAME_BYTES_MAX {
        return full.into();
    }
    with_digest(full, full, NAME_BYTES_MAX)
}

/// Another name for a tool whose own is none by the specification (1 to 128 letters, digits and `_.-`); `None` for all others.
/// The same name always becomes the same, and no two become one.
pub(super) fn legal_name(own: &str) -> Option<Arc<str>> {
    let fits = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '.' | '-');
    if (1..=OWN_NAME_BYTES_MAX).contains(&own.len()) && own.chars().all(fits) {
        return None;
    }
    let head: String = own.chars().take(REPAIRED_BYTES_MAX).map(|char| if fits(char) { char } else { '_' }).collect();
    Some(with_digest(if head.is_empty() { "tool" } else { &head }, own, REPAIRED_BYTES_MAX))
}

/// At most so many bytes: the beginning of `head`, and a digest of the full name.
fn with_digest(head: &str, full: &str, bytes_max: usize) -> Arc<str> {
    let digest = Sha256::digest(full.as_bytes());
    let digest: String = digest.iter().take(DIGEST_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    let mut cut = head.len().min(bytes_max - DIGEST_DIGITS - 1);
    while !head.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}-{digest}", &head[..cut]).into()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use runtime_api::{CallError, Item, Items, Reply, TargetOffers, TargetState, erase};

    use super::*;

    fn offered(targets: &[(&str, &[&str])]) -> Vec<Offered> {
        let service = erase(tower::service_fn(|_| async { Ok::<_, CallError>(Reply::new(Bytes::new())) }));
        let item = |name: &&str| Item { name: (*name).into(), definition: Bytes::from(format!(r#"{{"name":"{name}"}}"#)) };
        let target = |(name, items): &(&str, &[&str])| {
            let list: Arc<[Item]> = items.iter().map(item).collect();
            let items = Items { resources: Arc::clone(&list), ..Items::of_tools(list) };
            let offers = TargetOffers { state: TargetState::Ready, items, ..TargetOffers::unheard_of((*name).into()) };
            Offered::whole(&service, offers)
        };
        targets.iter().map(target).collect()
    }

    fn names(named: &[Named]) -> Vec<&str> {
        named.iter().map(|named| &*named.public).collect()
    }

    #[test]
    fn each_prefix_mode_names_as_it_says() {
        let offered = offered(&[("a", &["x", "y"]), ("b", &["x", "z"])]);

        let (always, _) = assign(&offered, Kind::Tool, |_| Prefix::Always, ".");
        let (on_conflict, _) = assign(&offered, Kind::Tool, |_| Prefix::OnConflict, "__");

        assert_eq!(names(&always), ["a.x", "a.y", "b.x", "b.z"]);
        assert_eq!(names(&on_conflict), ["a__x", "y", "b__x", "z"]);
    }

    #[test]
    fn a_name_that_would_shadow_another_is_refused_and_reported() {
        let offered = offered(&[("a", &["x"]), ("b", &["x", "z"])]);

        let (named, refused) = assign(&offered, Kind::Tool, |_| Prefix::Never, ".");

        assert_eq!(names(&named), ["x", "z"]);
        assert_eq!(refused, [Refused { public: "x".into(), target: "b".into(), holder: "a".into(), cause: Cause::NameTaken }]);
    }

    #[test]
    fn a_uri_stays_what_it_is_unless_another_target_has_it() {
        let offered = offered(&[("a", &["file:///x"]), ("b", &["file:///x", "file:///y"])]);

        let (named, refused) = assign(&offered, Kind::Resource, |_| Prefix::Always, ".");

        assert_eq!(names(&named), ["file:///x", "twinway://b/file:///x", "file:///y"]);
        assert!(refused.is_empty());
        assert_eq!(unqualified("twinway://b/file:///x"), Some(("b", "file:///x")));
    }

    #[test]
    fn a_name_that_is_shortened_or_repaired_leads_to_the_full_one() {
        let long = "n".repeat(80);
        let offered = offered(&[("a", &["x", &long])]);

        let (named, _) = assign(&offered, Kind::Tool, |_| Prefix::Always, ".");

        assert_eq!((named[0].full.as_deref(), named[1].full.as_deref()), (None, Some(&*format!("a.{long}"))));
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
