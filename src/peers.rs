//! The table of peers: what is known of each, merged by key, for lists and look-ups.

use std::{collections::BTreeMap, sync::Arc};

use runtime_api::{ErrorCode, TargetState};
use runtime_mcpp::{Directory, KnownPeer, Multiaddr, PeerId, Sighting};
use thiserror::Error;

/// Records on one page unless the client asks for fewer: with some tens of tools each about 200 KiB.
const PAGE_SIZE: usize = 100;

/// Records on one page at most, whatever the client asks for.
const PAGE_SIZE_MAX: usize = 1_000;

/// A page ends with the record that passes 1 MiB of text: clients of gRPC take messages of 4 MiB by default, and the last record may be large.
const PAGE_BYTES: usize = 1 << 20;

/// The peers of one gateway. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    directory: Option<Directory>,
}

/// What is known of one peer.
#[derive(Debug, Clone)]
pub struct PeerRecord {
    /// Who it is.
    pub id: PeerId,
    /// What the configuration calls it.
    pub names: Vec<Arc<str>>,
    /// Where it is dialled, without its PeerId.
    pub addresses: Vec<Multiaddr>,
    /// Whether it answers.
    pub state: TargetState,
    /// What it says it offers: the names of its tools as it last listed them, sorted.
    pub capabilities: Vec<Arc<str>>,
    /// What was seen of it.
    pub sighting: Sighting,
}

/// Which records are wanted.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only peers that offer all of these.
    pub capabilities: Vec<String>,
    /// At most so many; 0 for the usual page.
    pub page_size: usize,
    /// The token of the page before; empty for the first page.
    pub page_token: String,
}

/// One page, in the order of the keys' text.
#[derive(Debug)]
pub struct Page {
    /// The records.
    pub records: Vec<PeerRecord>,
    /// Asks for the next page; `None` on the last.
    pub next: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeersError {
    /// A key or a name that nobody has.
    #[error("there is no peer `{0}`; its PeerId or a name of the configuration is wanted")]
    Unknown(String),
    /// The request names nobody.
    #[error("no peer is named: its PeerId or a name of the configuration is wanted")]
    Nobody,
    /// Fewer than none.
    #[error("a page of {0} records cannot be")]
    PageSize(i32),
    /// Not a token of ours.
    #[error("`{0}` is not the token of a page")]
    Token(String),
}

impl PeersError {
    /// Its row of the table of error codes.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::UnknownName,
            Self::Nobody | Self::PageSize(_) | Self::Token(_) => ErrorCode::InvalidParams,
        }
    }
}

impl Peers {
    /// The peers that this runtime knows; without one there are none.
    #[must_use]
    pub const fn new(directory: Option<Directory>) -> Self {
        Self { directory }
    }

    /// One page of records.
    ///
    /// # Errors
    /// [`PeersError::Token`]
    pub fn list(&self, query: &Query) -> Result<Page, PeersError> {
        page(self.all(), query)
    }

    /// The peer with that key or name.
    ///
    /// # Errors
    /// [`PeersError::Unknown`], [`PeersError::Nobody`]
    pub fn get(&self, peer: &str) -> Result<PeerRecord, PeersError> {
        if peer.is_empty() {
            return Err(PeersError::Nobody);
        }
        let id = peer.parse().ok();
        let mut records = self.all().into_iter();
        let found = records.find(|record| Some(record.id) == id || record.names.iter().any(|name| **name == *peer));
        found.ok_or_else(|| PeersError::Unknown(peer.to_owned()))
    }

    /// Every record, in the order of the keys' text.
    fn all(&self) -> Vec<PeerRecord> {
        merge(self.directory.as_ref().map(Directory::peers).unwrap_or_default())
    }
}

/// One record for each key: the configuration may name a peer twice, to reach it at two addresses.
fn merge(known: Vec<KnownPeer>) -> Vec<PeerRecord> {
    let mut by_id: BTreeMap<String, PeerRecord> = BTreeMap::new();
    for peer in known {
        let record = PeerRecord::from(peer);
        match by_id.get_mut(&record.id.to_string()) {
            Some(before) => before.absorb(record),
            None => drop(by_id.insert(record.id.to_string(), record)),
        }
    }
    by_id.into_values().collect()
}

fn page(records: Vec<PeerRecord>, query: &Query) -> Result<Page, PeersError> {
    let last = match &*query.page_token {
        "" => String::new(),
        token => token.parse::<PeerId>().map_err(|_| PeersError::Token(token.to_owned()))?.to_string(),
    };
    let wanted = if query.page_size == 0 { PAGE_SIZE } else { query.page_size.min(PAGE_SIZE_MAX) };
    let mut matching = records.into_iter().filter(|record| record.id.to_string() > last && record.offers(&query.capabilities));
    let (mut page, mut bytes) = (Vec::new(), 0);
    while page.len() < wanted && bytes < PAGE_BYTES {
        let Some(record) = matching.next() else { break };
        bytes += record.text_bytes();
        page.push(record);
    }
    // Whoever comes back with the key of the last record gets what lies behind it, whatever has changed meanwhile.
    let last = page.last().map(|record| record.id.to_string());
    let next = matching.next().and(last);
    Ok(Page { records: page, next })
}

impl From<KnownPeer> for PeerRecord {
    fn from(peer: KnownPeer) -> Self {
        let KnownPeer { id, addresses, offers, sighting } = peer;
        let mut capabilities: Vec<_> = offers.items.tools.iter().map(|tool| Arc::clone(&tool.name)).collect();
        capabilities.sort_unstable();
        capabilities.dedup();
        Self { id, names: vec![Arc::clone(&offers.target.0)], addresses, state: offers.state.clone(), capabilities, sighting }
    }
}

impl PeerRecord {
    fn offers(&self, capabilities: &[String]) -> bool {
        capabilities.iter().all(|wanted| self.capabilities.binary_search_by(|one| (**one).cmp(wanted)).is_ok())
    }

    /// Takes in what another table of the configuration says of the same peer; the better state counts.
    fn absorb(&mut self, other: Self) {
        let rank = |state: &TargetState| match state {
            TargetState::Ready => 0,
            TargetState::Stale(_) => 1,
            TargetState::Connecting => 2,
            TargetState::Failed(_) => 3,
        };
        if rank(&other.state) < rank(&self.state) {
            self.state = other.state;
        }
        self.names.extend(other.names);
        let new = other.addresses.into_iter().filter(|address| !self.addresses.contains(address)).collect::<Vec<_>>();
        self.addresses.extend(new);
        self.capabilities.extend(other.capabilities);
        self.capabilities.sort_unstable();
        self.capabilities.dedup();
    }

    /// Roughly what it takes on the wire.
    fn text_bytes(&self) -> usize {
        self.capabilities.iter().map(|capability| capability.len() + 2).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use runtime_api::{Item, Items, TargetId, TargetOffers};

    use super::*;

    fn peer(name: &str, id: PeerId, address: &str, state: TargetState, tools: &[&str]) -> KnownPeer {
        let tool = |name: &&str| Item { name: (*name).into(), definition: Bytes::new() };
        let items = Items::of_tools(tools.iter().map(tool).collect::<Vec<_>>());
        let offers = TargetOffers { state, items, ..TargetOffers::unheard_of(TargetId::from(name)) };
        KnownPeer { id, addresses: vec![address.parse().unwrap()], offers: Arc::new(offers), sighting: Sighting::default() }
    }

    fn many(count: usize, tools: &[&str]) -> Vec<PeerRecord> {
        let one = |n| peer(&format!("peer-{n}"), PeerId::random(), "/ip4/192.0.2.7/tcp/1", TargetState::Ready, tools);
        merge((0..count).map(one).collect())
    }

    #[test]
    fn pages_follow_each_other_in_the_order_of_the_keys_and_miss_nobody() {
        let records = many(7, &["add"]);
        let ids: Vec<_> = records.iter().map(|record| record.id).collect();
        let mut seen = Vec::new();
        let mut query = Query { page_size: 3, ..Query::default() };
        let mut sizes = Vec::new();
        loop {
            let page = page(records.clone(), &query).unwrap();
            sizes.push(page.records.len());
            seen.extend(page.records.into_iter().map(|record| record.id));
            let Some(next) = page.next else { break };
            query.page_token = next;
        }

        assert_eq!(sizes, [3, 3, 1]);
        assert_eq!(seen, ids);
        assert!(ids.is_sorted_by_key(ToString::to_string));
    }

    #[test]
    fn a_page_that_ends_with_the_last_record_has_no_next_one() {
        let page = page(many(3, &[]), &Query { page_size: 3, ..Query::default() }).unwrap();

        assert_eq!((page.records.len(), page.next), (3, None));
    }

    #[test]
    fn large_records_make_a_page_short() {
        let long = "t".repeat(PAGE_BYTES / 2);
        let page = page(many(5, &[&long]), &Query::default()).unwrap();

        assert_eq!(page.records.len(), 2);
        assert!(page.next.is_some());
    }

    #[test]
    fn only_peers_that_offer_all_wanted_capabilities_are_listed() {
        let [both, one] = [PeerId::random(), PeerId::random()];
        let address = "/ip4/192.0.2.7/tcp/1";
        let records = merge(vec![
            peer("both", both, address, TargetState::Ready, &["render", "add"]),
            peer("one", one, address, TargetState::Ready, &["add", "renderer"]),
        ]);
        let listed = |wanted: &[&str]| {
            let capabilities = wanted.iter().map(|one| (*one).to_owned()).collect();
            let page = page(records.clone(), &Query { capabilities, ..Query::default() }).unwrap();
            page.records.iter().map(|record| record.id).collect::<Vec<_>>()
        };

        assert_eq!(listed(&["add", "render"]), [both]);
        assert_eq!(listed(&["renderer"]), [one]);
        assert_eq!(listed(&["add"]).len(), 2);
        assert!(listed(&["rend"]).is_empty());
    }

    #[test]
    fn one_key_under_two_names_is_one_record_with_the_better_state() {
        let id = PeerId::random();
        let failed = TargetState::Failed("refused".into());
        let records = merge(vec![
            peer("near", id, "/ip4/192.0.2.7/tcp/1", failed, &["b"]),
            peer("far", id, "/ip4/192.0.2.8/tcp/1", TargetState::Ready, &["a", "b"]),
        ]);

        assert_eq!(records.len(), 1);
        assert_eq!(records[0].state, TargetState::Ready);
        assert_eq!(records[0].names, ["near".into(), "far".into()]);
        assert_eq!(records[0].addresses.len(), 2);
        assert_eq!(records[0].capabilities, ["a".into(), "b".into()]);
    }

    #[test]
    fn a_token_that_is_none_and_a_peer_that_is_nobody_are_refused() {
        let query = Query { page_token: "page-2".to_owned(), ..Query::default() };

        assert_eq!(Peers::default().list(&query).unwrap_err(), PeersError::Token("page-2".to_owned()));
        assert_eq!(Peers::default().get("far").unwrap_err(), PeersError::Unknown("far".to_owned()));
        assert_eq!(Peers::default().get("").unwrap_err(), PeersError::Nobody);
    }
}
