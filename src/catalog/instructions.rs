//! How to use a server, as it says in `initialize` and `server/discover`: of one target its own words, of several what each says under
//! its name.

use bytes::Bytes;
use runtime_api::TargetOffers;
use twinway_proto::json;

/// Longest instructions of one target that are passed on. Clients put them before every conversation of a model.
const BYTES_MAX: usize = 64 * 1024;

/// Of one target among several. Whoever wants to read more asks at its own endpoint.
const OF_ONE_BYTES_MAX: usize = 4 * 1024;

/// Of all together. Targets that come later say nothing then.
const OF_ALL_BYTES_MAX: usize = 32 * 1024;

/// What stands where a text was cut.
const CUT: &str = " [...]";

/// Of a single target: the raw JSON string as it came.
pub(super) fn of_one(target: &TargetOffers) -> Option<Bytes> {
    target.about.instructions.clone().filter(|raw| raw.starts_with(b"\"") && raw.len() <= BYTES_MAX)
}

/// Of several targets: one raw JSON string.
pub(super) fn of_several<'a>(targets: impl Iterator<Item = &'a TargetOffers>) -> Option<Bytes> {
    let mut all = String::new();
    for target in targets {
        let Some(raw) = &target.about.instructions else { continue };
        let Some(said) = std::str::from_utf8(raw).ok().and_then(json::string).filter(|said| !said.trim().is_empty()) else {
            continue;
        };
        let said = said.trim();
        let kept = &said[..said.floor_char_boundary(OF_ONE_BYTES_MAX)];
        let cut = if kept.len() < said.len() { CUT } else { "" };
        let part = format!("# {}\n\n{kept}{cut}", target.target);
        if all.len() + part.len() + 2 > OF_ALL_BYTES_MAX {
            break;
        }
        if !all.is_empty() {
            all.push_str("\n\n");
        }
        all.push_str(&part);
    }
    let mut quoted = Vec::with_capacity(all.len() + 16);
    json::write_string(&mut quoted, &all);
    (!all.is_empty()).then(|| quoted.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, instructions: Option<&str>) -> TargetOffers {
        let mut target = TargetOffers::unheard_of(name.into());
        target.about.instructions = instructions.map(|said| Bytes::copy_from_slice(said.as_bytes()));
        target
    }

    #[test]
    fn one_target_says_it_in_its_own_bytes() {
        let said = r#""Be\u0020kind""#;

        assert_eq!(of_one(&target("a", Some(said))).as_deref(), Some(said.as_bytes()));
        for nothing in [None, Some("null")] {
            assert_eq!(of_one(&target("a", nothing)), None);
        }
    }

    #[test]
    fn several_say_it_under_their_names_within_bounds() {
        let long = format!("\"{}\"", "\u{e9}".repeat(OF_ONE_BYTES_MAX));
        let targets = [target("a", Some(r#"" One. ""#)), target("b", None), target("c", Some(r#""""#)), target("d", Some(&long))];

        let said = of_several(targets.iter()).expect("somebody says something");

        let said = json::string(std::str::from_utf8(&said).expect("UTF-8")).expect("a string").into_owned();
        assert!(said.starts_with("# a\n\nOne.\n\n# d\n\n\u{e9}\u{e9}"), "{}", &said[..40]);
        assert!(said.ends_with("\u{e9} [...]") && said.len() < OF_ONE_BYTES_MAX + 64);
        let many: Vec<_> = (0..20).map(|number| target(&number.to_string(), Some(&long))).collect();
        assert!(of_several(many.iter()).expect("the first ones").len() <= OF_ALL_BYTES_MAX + 1024);
        assert_eq!(of_several([target("a", None)].iter()), None);
    }
}
