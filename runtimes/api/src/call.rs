//! One routed MCP request on its way to a target.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{Caller, ClientSession, Declared, TraceContext};

/// One routed MCP request: `tools/call` above all, and any other that names a target.
///
/// Cheap to move and to clone: every large part is shared.
#[derive(Debug, Clone)]
pub struct Call {
    /// What is asked.
    pub method: Method,
    /// The upstream or peer that shall answer.
    pub target: TargetId,
    /// The name as the target knows it: a tool's or prompt's name, a resource's URI, or a task's id.
    pub name: Arc<str>,
    /// The parameters as the client sent them.
    pub params: Params,
    /// Who asks. A PeerId or a token says who; what they may do was decided before the seam.
    pub principal: Principal,
    /// How the client speaks, and what it declared when that is not part of `params`.
    pub client: Client,
    /// The legacy session that it is made in. None for clients that have none.
    pub session: Option<ClientSession>,
    /// After this instant nobody waits for the reply any more.
    pub deadline: Instant,
    /// How urgent the call is among others.
    pub priority: Priority,
    /// The trace this call belongs to.
    pub trace: TraceContext,
    /// The way back to the client while the call runs. [`Caller::none`] when there is none.
    pub caller: Caller,
}

/// The methods of MCP that are routed to one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// `tools/call`
    ToolsCall,
    /// `prompts/get`
    PromptsGet,
    /// `resources/read`
    ResourcesRead,
    /// `resources/subscribe`, legacy revisions only.
    ResourcesSubscribe,
    /// `resources/unsubscribe`, legacy revisions only.
    ResourcesUnsubscribe,
    /// `completion/complete`
    CompletionComplete,
    /// `tasks/get`
    TasksGet,
    /// `tasks/result`, 2025-11-25 only.
    TasksResult,
    /// `tasks/list`, 2025-11-25 only.
    TasksList,
    /// `tasks/update`, the extension of 2026-07-28 only.
    TasksUpdate,
    /// `tasks/cancel`
    TasksCancel,
}

impl Method {
    /// The method as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ToolsCall => "tools/call",
            Self::PromptsGet => "prompts/get",
            Self::ResourcesRead => "resources/read",
            Self::ResourcesSubscribe => "resources/subscribe",
            Self::ResourcesUnsubscribe => "resources/unsubscribe",
            Self::CompletionComplete => "completion/complete",
            Self::TasksGet => "tasks/get",
            Self::TasksResult => "tasks/result",
            Self::TasksList => "tasks/list",
            Self::TasksUpdate => "tasks/update",
            Self::TasksCancel => "tasks/cancel",
        }
    }

    /// Whether a modern request has the name in the header `Mcp-Name` too (2026-07-28, Streamable HTTP; tasks, routing headers).
    #[must_use]
    pub const fn is_mirrored(self) -> bool {
        match self {
            Self::ToolsCall | Self::PromptsGet | Self::ResourcesRead => true,
            Self::TasksGet | Self::TasksUpdate | Self::TasksCancel => true,
            Self::ResourcesSubscribe | Self::ResourcesUnsubscribe | Self::CompletionComplete => false,
            Self::TasksResult | Self::TasksList => false,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The raw JSON object of a request's `params`, and where its parts lie.
///
/// The ranges are byte offsets into `raw` of whole JSON values (quotes included).
#[derive(Debug, Clone, Default)]
pub struct Params {
    /// The object, `{` to `}`, valid UTF-8 and valid JSON.
    pub raw: Bytes,
    /// Value of `name`, `uri` or `taskId`.
    pub name: Option<Range<usize>>,
    /// Value of `arguments`.
    pub arguments: Option<Range<usize>>,
    /// Value of `_meta`.
    pub meta: Option<Range<usize>>,
    /// No member of `_meta` belongs to one hop only: it may go on as it is. `false` where nobody looked.
    pub meta_passes: bool,
    /// There are members that belong to a round of input: `inputResponses` or `requestState`.
    pub of_a_round: bool,
    /// Whether the call may become a task.
    pub task: AsTask,
}

/// What becomes of a client's wish that its call may become a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AsTask {
    /// There is no such wish: neither a member `task` (2025-11-25) nor a declaration of the extension (2026-07-28).
    #[default]
    No,
    /// It goes on to a target of the client's own era. The eras have nothing in common here.
    May,
    /// It stays behind, because this client could not ask for the task later on.
    MustNot,
}

impl Params {
    /// The bytes of one part.
    #[must_use]
    pub fn part(&self, range: &Range<usize>) -> Bytes {
        self.raw.slice(range.clone())
    }
}

/// The name of an upstream or peer, unique within the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(pub Arc<str>);

impl TargetId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TargetId {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of whoever calls a gateway without configured clients. No client may be configured by it.
const ANONYMOUS: &str = "anonymous";

/// Who makes a call: a configured client's name, `peer:<PeerId>`, or `anonymous`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal(pub Arc<str>);

impl Principal {
    /// The caller of a gateway without configured clients.
    #[must_use]
    pub fn anonymous() -> Self {
        Self(ANONYMOUS.into())
    }

    /// Whether it is whoever comes: nobody is told apart from anybody else.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        &*self.0 == ANONYMOUS
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The two ways of speaking MCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Era {
    /// Revisions up to 2025-11-25: `initialize` and a session.
    Legacy,
    /// Revision 2026-07-28: every request stands alone.
    Modern,
}

impl Era {
    /// `legacy` or `modern`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// What is known of the client beside the parameters.
#[derive(Debug, Clone)]
pub enum Client {
    /// Revision 2026-07-28: capabilities and client information stand in `params._meta`.
    Modern,
    /// An initialized session.
    Legacy(Arc<LegacyClient>),
}

impl Client {
    /// The era of the client.
    #[must_use]
    pub const fn era(&self) -> Era {
        match self {
            Self::Modern => Era::Modern,
            Self::Legacy(_) => Era::Legacy,
        }
    }
}

/// What a legacy client said in `initialize`.
#[derive(Debug, Clone)]
pub struct LegacyClient {
    /// The negotiated revision, `2025-11-25` for example.
    pub revision: &'static str,
    /// The raw `capabilities` object.
    pub capabilities: Bytes,
    /// The raw `clientInfo` object.
    pub info: Bytes,
    /// What of its capabilities it can be asked for.
    pub declared: Declared,
}

/// Urgency of a call, 0..=10; 10 is the most urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// The most urgent.
    pub const MAX: Self = Self(10);

    /// Makes a priority; `None` above 10.
    #[must_use]
    pub const fn new(level: u8) -> Option<Self> {
        if level <= Self::MAX.0 { Some(Self(level)) } else { None }
    }

    /// 0..=10.
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    /// The middle, so that a rule can move a tool either way.
    fn default() -> Self {
        Self(5)
    }
}
