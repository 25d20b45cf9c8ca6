//! Names of the fields of our spans, by the OpenTelemetry conventions for MCP and RPC, and a few of our own.

/// The method of MCP.
pub const METHOD: &str = "mcp.method.name";
/// The tool, by its public name at the entrance and by its target's name on a hop.
pub const TOOL: &str = "gen_ai.tool.name";
/// The session of a legacy client.
pub const SESSION: &str = "mcp.session.id";
/// The revision of MCP that is spoken.
pub const PROTOCOL_VERSION: &str = "mcp.protocol.version";
/// What carries it: `tcp`, `quic` or `pipe`. Absent on a hop that reached nobody.
pub const TRANSPORT: &str = "network.transport";
/// The id of the JSON-RPC request.
pub const REQUEST_ID: &str = "jsonrpc.request.id";
/// Why it failed: `tool_error`, or a name of the table of error codes. Absent on success.
pub const ERROR_TYPE: &str = "error.type";
/// `grpc`.
pub const RPC_SYSTEM: &str = "rpc.system";
/// The service of gRPC.
pub const RPC_SERVICE: &str = "rpc.service";
/// The method of that service.
pub const RPC_METHOD: &str = "rpc.method";
/// The status code of gRPC, as a number.
pub const RPC_STATUS: &str = "rpc.grpc.status_code";
/// Where the target is.
pub const SERVER_ADDRESS: &str = "server.address";
/// `http` or `mcpp`.
pub const RUNTIME: &str = "twinway.runtime";
/// The upstream or peer.
pub const TARGET: &str = "twinway.target";
/// Why this route was chosen.
pub const ROUTE_REASON: &str = "twinway.route.reason";
/// How the client speaks: MCP of the era `legacy` or `modern`, or `rest`.
pub const ERA: &str = "twinway.era";
