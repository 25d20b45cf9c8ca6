//! Whether a URI can have come from a template (RFC 6570).

/// Whether the literal parts of the template stand in the URI in their order, with something plausible between them.
///
/// What `{name}` stands for has no `/`; what `{+name}` and the other operators stand for may have anything. That is coarser than
/// the RFC: the server decides in the end, this only finds out which server to ask. Takes at most the product of both lengths.
#[must_use]
pub(super) fn fits(template: &str, uri: &str) -> bool {
    let Some(parts) = parts(template) else { return false };
    // For each place in the URI, whether the parts so far can end there.
    let mut ends = vec![false; uri.len() + 1];
    ends[0] = true;
    for part in parts {
        ends = match part {
            Part::Literal(literal) => after_literal(&ends, uri, literal),
            Part::Expression { slashes } => after_expression(&ends, uri, slashes),
        };
    }
    ends[uri.len()]
}

enum Part<'t> {
    Literal(&'t str),
    Expression { slashes: bool },
}

/// `None` for a brace that is not closed.
fn parts(template: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        let close = open + rest[open..].find('}')?;
        let expression = &rest[open + 1..close];
        parts.push(Part::Literal(&rest[..open]));
        parts.push(Part::Expression { slashes: expression.starts_with(['+', '#', '.', '/', ';', '?', '&']) });
        rest = &rest[close + 1..];
    }
    parts.push(Part::Literal(rest));
    Some(parts)
}

fn after_literal(ends: &[bool], uri: &str, literal: &str) -> Vec<bool> {
    let mut after = vec![false; ends.len()];
    for (place, _) in ends.iter().enumerate().filter(|(_, ends)| **ends) {
        if uri.as_bytes()[place..].starts_with(literal.as_bytes()) {
            after[place + literal.len()] = true;
        }
    }
    after
}

fn after_expression(ends: &[bool], uri: &str, slashes: bool) -> Vec<bool> {
    let mut after = vec![false; ends.len()];
    let mut within = false;
    for place in 0..ends.len() {
        if place > 0 && uri.as_bytes()[place - 1] == b'/' && !slashes {
            within = false;
        }
        within |= ends[place];
        after[place] = within;
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_fits_the_templates_that_can_have_made_it() {
        let cases = [
            ("test://template/{id}/data", "test://template/123/data", true),
            ("test://template/{id}/data", "test://template/1/2/data", false),
            ("test://template/{id}/data", "test://template/123/other", false),
            ("file:///{+path}", "file:///a/b/c", true),
            ("x://search{?q,limit}", "x://search?q=a/b&limit=3", true),
            ("x://search{?q,limit}", "x://search", true),
            ("x://{a}-{b}", "x://1-2-3", true),
            ("x://{a}-{b}", "x://1", false),
            ("x://no-expression", "x://no-expression", true),
            ("x://{broken", "x://{broken", false),
            ("x://ü/{id}", "x://ü/é", true),
        ];
        for (template, uri, expected) in cases {
            assert_eq!(fits(template, uri), expected, "{template} {uri}");
        }
    }

    #[test]
    fn a_hostile_pair_takes_no_more_than_the_product_of_its_lengths() {
        let template = "{a}x".repeat(200);

        assert!(!fits(&template, &"x".repeat(199)));
        assert!(fits(&template, &"x".repeat(4_000)));
    }
}
